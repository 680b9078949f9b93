//! Component tests: a whole fleet-manager in this process, over loopback gRPC, with a gateway that only pretends.

mod catalogue;
mod drains;
mod gateways;
mod harness;
mod idempotency;
mod routing;
mod startup;
mod surface;
