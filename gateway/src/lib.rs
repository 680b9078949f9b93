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
mod control;
mod convert;
mod edge;
mod links;
mod metrics;
mod players;
mod reports;
mod service;
pub mod session_stream;
mod shard;
mod tables;
mod used_tickets;

pub use config::{Config, Limits, SecondLogin, UnknownHome};
pub use service::{RunError, Service, StartError};
