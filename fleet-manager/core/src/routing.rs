//! Who gets the new players: a realm's routing row, and the table made of it for the gateways.
//!
//! The table's generation grows whenever anything in the table changes, also a server's address or readiness. That happens
//! in one place ([`crate::Realm::handle`] compares the table before and after), so nothing can change unnoticed.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, GatewayId, Generation, RealmId, Timestamp, ZoneId};

use crate::environment::{Label, PhaseKind, RouteServer};
use crate::spec::BoundaryPolicy;

/// What became of the last flip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlipState {
    /// The gateways have been told.
    Awaiting {
        /// When to stop waiting.
        deadline: Timestamp,
    },
    /// Every live gateway acknowledged.
    Confirmed {
        /// When that was known.
        at: Timestamp,
        /// From the change being durable to the last acknowledgement, in microseconds.
        confirm_us: u64,
    },
    /// The flip stands, but these gateways had not acknowledged at the deadline. They are asked on.
    Unconfirmed {
        /// Which.
        missing: Vec<GatewayId>,
        /// When they are asked again.
        deadline: Timestamp,
    },
}

/// The last flip, forwards or backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlipRecord {
    /// The generation that carries it.
    pub generation: Generation,
    /// What was accepting; `None`: nothing.
    pub from: Option<EnvironmentId>,
    /// What is accepting.
    pub to: EnvironmentId,
    /// When it was decided.
    pub at: Timestamp,
    /// How long it waits for the gateways.
    pub confirm: Duration,
    /// What became of it.
    pub state: FlipState,
    /// Why.
    pub reason: String,
}

/// Nobody new is taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
}

/// A realm's routing row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// The table's generation; zero: there has not been one.
    pub generation: Generation,
    /// What takes new sessions; `None` only before the first flip.
    pub accepting: Option<EnvironmentId>,
    /// What took them before.
    pub previous: Option<EnvironmentId>,
    /// Set: nobody new is taken in, although `accepting` stands.
    pub frozen: Option<Freeze>,
    /// Pinned sessions stay where they are, whatever the boundary.
    pub hold_pins: bool,
    /// Sessions pinned to these go at their next boundary although they do not drain.
    pub leave_at_boundary: BTreeSet<EnvironmentId>,
    /// The last flip.
    pub flip: Option<FlipRecord>,
}

impl Routing {
    /// True while a flip waits for its acknowledgements.
    #[must_use]
    pub fn flip_awaits(&self) -> bool {
        self.flip.as_ref().is_some_and(|f| matches!(f.state, FlipState::Awaiting { .. }))
    }
}

/// The routing table, as gateways get it (without its encoding).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Whose.
    pub realm: RealmId,
    /// Older is refused.
    pub generation: Generation,
    /// What takes new sessions; `None`: nobody is taken in (they are held).
    pub accepting: Option<EnvironmentId>,
    /// Every environment that has, had or may soon have sessions.
    pub environments: Vec<RouteEnvironment>,
    /// Which boundaries let a pinned session change environment.
    pub boundaries: BoundaryPolicy,
    /// Where a new character begins.
    pub entry_zone: ZoneId,
    /// A member who logs in joins the party's environment.
    pub party_follow: bool,
    /// How long a detached session keeps its place.
    pub grace: Duration,
    /// Pinned sessions stay where they are.
    pub hold_pins: bool,
}

/// One environment of a routing table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEnvironment {
    /// Its id.
    pub id: EnvironmentId,
    /// What it runs.
    pub build: BuildVersion,
    /// What it is to the realm.
    pub label: Option<Label>,
    /// Where it is in its life.
    pub phase: PhaseKind,
    /// Its servers.
    pub servers: Vec<RouteServer>,
    /// Formats of player state it reads.
    pub state_formats_read: Vec<u32>,
    /// The format it writes.
    pub state_format_write: u32,
    /// Client versions it admits; empty: all.
    pub client_versions: String,
    /// Its sessions go at their next boundary although it does not drain.
    pub leave_at_boundary: bool,
}
