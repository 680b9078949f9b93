//! Players that keep a ledger of what they were promised.
//!
//! A simulation logs in players over real QUIC at a rate of its own (open loop), lets each behave by a seeded profile, and
//! checks every answer, every move and every end against what the player itself did. What it reports comes from the
//! players alone; it never asks the manager.
//!
//! ```text
//!  Simulation::run ── arrivals ──> session task ─ Behaviour (pure: what next?)
//!        ^                             │      └── Ledger (pure: was that promised?)
//!     Control                          v
//!        └── watch: Live         Books ──> Report
//! ```

pub mod behaviour;
mod books;
mod config;
mod control;
mod error;
pub mod ledger;
pub mod profile;
pub mod report;
mod roster;
mod run;
mod session;

pub use config::Config;
pub use control::{Control, Leaving, Live, Simulation};
pub use error::SimulationError;
pub use report::{FlipFacts, Report};
