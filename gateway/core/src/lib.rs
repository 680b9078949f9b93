//! Pure: player session machine, route decision, hand-over.
//!
//! One [`Core`] is one realm on one gateway. [`Input`]s go in with the time, [`Action`]s come out; there is no I/O, clock or
//! randomness here, and nothing depends on the iteration order of a hash.

mod action;
mod core;
mod counters;
pub mod decide;
pub mod directory;
#[cfg(test)]
mod fixture;
pub mod handover;
mod input;
mod key;
mod lease;
mod line;
mod message;
#[cfg(feature = "model")]
pub mod model;
mod session;
pub mod table;
mod window;

pub use action::{Action, Close, CommandOutcome, DialTarget, RowState, SessionReport, SessionRow};
#[cfg(feature = "model")]
pub use core::Sabotage;
pub use core::{Confirmed, Core, CoreConfig, Downstream, SecondLogin, UnknownHome, Upstream};
pub use counters::Counters;
pub use directory::{DirectoryAnswer, DirectoryRequest, EmbeddedDirectory};
pub use input::{CommandAction, Input, SessionCommand, VerifiedHello};
pub use key::{ConnKey, ServerKey, SessionKey};
pub use message::{
    Channel, FromWorld, HoldReason, Identity, Pin, Place, PlayerMessage, Refusal, RefusedReason, Resident, StateBlob,
    ToWorld, Whereabouts, Who,
};
