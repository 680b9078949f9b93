//! The gateway: where players connect.
//!
//! ```text
//!   players ──QUIC── edge ┐                        ┌ links ──QUIC── world servers
//!                         ├─ shard (one thread) ───┤
//!                         │   one gateway_core::Core per realm
//!   manager ──gRPC── control (another runtime) ────┘  bounded channels; the shard never waits for it
//! ```
//!
//! This crate is the shell: it owns sockets, clocks, files and keys. What is decided about players is decided in
//! `gateway-core`, which has none of these.

pub mod config;
mod convert;
mod edge;
mod service;
mod session_stream;

pub use config::{Config, ConfigError, Limits};
pub use service::{Service, StartError};
