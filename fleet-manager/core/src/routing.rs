//! Who gets the new players: a realm's routing row, and the table made of it for the gateways.
//!
//! The table's generation grows whenever anything in the table changes, also a server's address or readiness. That happens
//! in one place ([`crate::Realm::handle`] compares the table before and after), so nothing can change unnoticed.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, GatewayId, Generation, RealmId, Timestamp, ZoneId};

use crate::environment::{Environment, Label, PhaseKind, RouteServer};
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};
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

impl Realm {
    /// The routing table as it stands.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        let Self { rows, .. } = self;
        let routing = &rows.routing;
        RouteTable {
            realm: rows.id.clone(),
            generation: routing.generation,
            accepting: if routing.frozen.is_some() { None } else { routing.accepting.clone() },
            environments: rows.environments.values().filter(|e| e.is_routed()).map(|e| route(routing, e)).collect(),
            boundaries: rows.spec.boundaries,
            entry_zone: rows.spec.entry_zone.clone(),
            party_follow: rows.spec.party_follow,
            grace: rows.spec.grace,
            hold_pins: routing.hold_pins,
        }
    }

    /// Whether an operator may move a session to this environment: it must take players and be the one that does, or
    /// still have some.
    ///
    /// # Errors
    /// [`Reason::NotFound`], [`Reason::NotActive`].
    pub fn may_move_to(&self, id: &EnvironmentId) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        if self.is_accepting(id) {
            return Ok(());
        }
        Err(Refused::new(
            Reason::NotActive,
            format!("environment {id} is {}: nobody new may come to it", environment.phase.kind()),
            "move the session to the accepting environment",
        ))
    }

    /// Stops taking new sessions in, or takes them again. Repeating it changes nothing.
    pub(crate) fn freeze(&mut self, now: Timestamp, frozen: bool, reason: String, out: &mut Outcome) {
        let routing = &mut self.rows.routing;
        let before = routing.frozen.is_some();
        if before != frozen {
            routing.frozen = frozen.then(|| Freeze { since: now, reason: reason.clone() });
            if !frozen {
                // A rollback with the choice `freeze` held the pins as well.
                routing.hold_pins = false;
            }
            out.changes.insert(Change::Routing);
            let word = |frozen: bool| if frozen { "frozen" } else { "open" };
            out.audit(None, "freeze", &self.rows.id, reason, word(before), word(frozen));
        }
        out.reply = Reply::Flip(if before == frozen {
            self.rows.routing.generation
        } else {
            self.rows.routing.generation.next()
        });
    }
}

fn route(routing: &Routing, environment: &Environment) -> RouteEnvironment {
    RouteEnvironment {
        id: environment.id.clone(),
        build: environment.build.version.clone(),
        label: environment.label,
        phase: environment.phase.kind(),
        servers: environment.servers.values().cloned().collect(),
        state_formats_read: environment.build.state_formats_read.clone(),
        state_format_write: environment.build.state_format_write,
        client_versions: environment.build.client_versions.clone(),
        leave_at_boundary: routing.leave_at_boundary.contains(&environment.id),
    }
}
