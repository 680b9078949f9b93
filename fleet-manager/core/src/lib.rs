//! Pure: environment lifecycle, routing, drain and rollout of a realm.
//!
//! One [`Realm`] aggregate per realm. Inputs go in with the time, an [`Outcome`] comes out: rows to write, effects to
//! perform, audit entries. No I/O, no clock, no randomness, no ids made here.

mod cloning;
pub mod drain;
pub mod effect;
pub mod environment;
mod flip;
pub mod input;
pub mod lifecycle;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod observe;
pub mod outcome;
pub mod plan;
mod preflight;
pub mod realm;
pub mod refused;
mod retire;
pub mod rollback;
pub mod rollout;
pub mod routing;
pub mod snapshot;
pub mod spec;
pub mod staging;
#[cfg(test)]
mod tests;

pub use effect::{Effect, ServersWanted};
pub use environment::{Environment, Fleet, Label, Phase, PhaseKind};
pub use input::{Check, Command, Event, Input};
pub use outcome::{AuditEntry, Change, Outcome, Reply};
pub use realm::{Realm, Rows};
pub use refused::{Reason, Refused};
pub use routing::{RouteTable, Routing};
pub use spec::{BuildInfo, RealmSpec};
