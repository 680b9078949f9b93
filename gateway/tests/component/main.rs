//! The gateway as a whole, in one process: real QUIC and gRPC over loopback, against world servers and a manager that are
//! played by the tests.

mod abuse;
mod floods;
mod handover;
mod holds;
mod manager;
mod relay;
mod start;
mod support;
mod tickets;
