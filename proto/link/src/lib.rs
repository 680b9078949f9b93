//! The link between gateways and world servers: QUIC with mutual TLS, both ends.
