//! What a game's world server links to be managed by Tidegate: implement [`World`], give it to a [`Host`], and run it.
//!
//! ```text
//!   manager --directives--> control client --\                                   /--> World callbacks (one task)
//!   gateways --link-------> link acceptor ----> the host loop: seats, leases ----
//!   the world's threads --Outbox, Reply------/                                   \--> frames, answers, status
//! ```
//!
//! The host keeps the promises that a fleet needs: a player is simulated only under a valid lease and epoch, every request
//! of a gateway gets exactly one answer, hand-overs can fail at any point, a snapshot barrier ends by itself. What the
//! bytes of the game mean, and how characters are saved, is the world's own affair; the host never looks inside.

pub mod assets;
mod config;
mod convert;
mod cx;
mod host;
mod lease;
mod seats;
mod world;

pub use config::{Config, ConfigError, Faults};
pub use cx::{Answerable, Cx, Outbox, Reply};
pub use host::{Host, HostError};
pub use world::{Arrival, Formats, Frozen, LeaveReason, Pin, Place, PlayerStatus, Refusal, Seat, World, Zone};
