//! The control plane: gRPC services, the store, process supervision, and the executors of what `fleet-core` decides.
//!
//! Deciding lives in `fleet-core`; this crate persists the decision, then does what it says, and reports back what came
//! of it. It is never on the path between a player and their world: players play on while it is gone.
//!
//! ```text
//!   operators --gRPC--> services --Command--> realm_actor --rows--> store (one transaction)
//!                                                  |
//!                                               effects --> gateways (tables, commands)
//!                                                  |    \-> servers, smoke, snapshots (processes, cuts)
//!                                               Event <-- what came of it, and what is observed
//! ```

pub mod assets;
pub mod builds;
pub mod config;
pub mod convert;
pub mod effects;
pub mod errors;
pub mod gateways;
pub mod housekeeping;
pub mod manager;
pub mod metrics;
pub mod observe;
pub mod pki;
pub mod realm_actor;
pub mod requests;
pub mod servers;
pub mod service;
pub mod services;
pub mod sessions;
pub mod smoke;
pub mod snapshots;
pub mod store;
pub mod world_control;

pub use config::Config;
pub use service::{Service, ServiceError};
