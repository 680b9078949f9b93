//! One environment: a complete deployment of a realm at one build, and where it is in its life.
//!
//! ```text
//! Provisioning -> Staging -> Staged -> Verifying -> Ready -> Active -> Draining -> Drained -> Retired
//!                    |          |          |                    ^        |   |        |
//!                    +----------+----------+--> Failed          +--------+---+--------+ flip back
//! ```
//!
//! Everything that never took players may be retired directly, and a failed one may be staged again. `Staging` ends when
//! **every** server of every fleet is loaded and is what it should be ([`crate::staging`]).

use std::collections::BTreeMap;
use std::fmt;

use tidegate_types::{
    EnvironmentId, FleetName, Generation, InstanceId, RealmId, ServerId, SnapshotId, Timestamp, ZoneId,
};

use crate::refused::{Reason, Refused};
use crate::spec::BuildInfo;

/// What an environment is to its realm. At most one environment of a realm has each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// The current stable one.
    Blue,
    /// The next one.
    Green,
}

impl Label {
    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

/// A phase's name without its data: for tables and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PhaseKind {
    /// A row, nothing runs.
    Provisioning,
    /// Servers start and load.
    Staging,
    /// Every server is loaded and is what it should be.
    Staged,
    /// Smoke tests run.
    Verifying,
    /// May take players.
    Ready,
    /// The one that takes new sessions.
    Active,
    /// Has players, gets no new ones.
    Draining,
    /// Empty, kept warm as a rollback.
    Drained,
    /// Its servers are stopped for good.
    Retired,
    /// Did not become ready.
    Failed,
}

impl PhaseKind {
    /// Every phase.
    pub const ALL: [Self; 10] = [
        Self::Provisioning,
        Self::Staging,
        Self::Staged,
        Self::Verifying,
        Self::Ready,
        Self::Active,
        Self::Draining,
        Self::Drained,
        Self::Retired,
        Self::Failed,
    ];

    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Verifying => "verifying",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for PhaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether what an environment is made from has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Made from nothing.
    Empty,
    /// Being made from a snapshot.
    Cloning {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// The realm it was taken of.
        realm: RealmId,
        /// The database is restored as a copy.
        restore_database: bool,
        /// Counts from 1.
        attempt: u32,
    },
    /// Made from a snapshot.
    Cloned {
        /// Which snapshot.
        snapshot: SnapshotId,
    },
}

impl Source {
    /// The snapshot, if any.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&SnapshotId> {
        match self {
            Self::Empty => None,
            Self::Cloning { snapshot, .. } | Self::Cloned { snapshot } => Some(snapshot),
        }
    }
}

/// Where an environment is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// A row, nothing runs.
    Provisioning,
    /// Servers start and load.
    Staging,
    /// Every server is loaded and is what it should be.
    Staged,
    /// Smoke tests run.
    Verifying {
        /// Counts from 1; an answer to an older one is ignored.
        attempt: u32,
    },
    /// May take players.
    Ready,
    /// The one that takes new sessions.
    Active,
    /// Has players, gets no new ones; the realm's drain of the same id says more.
    Draining,
    /// Empty, kept warm as a rollback.
    Drained,
    /// Its servers are stopped for good.
    Retired {
        /// True once the supervisor said so.
        stopped: bool,
    },
    /// Did not become ready; `reason` of the environment says why.
    Failed,
}

impl Phase {
    /// The name without the data.
    #[must_use]
    pub const fn kind(&self) -> PhaseKind {
        match self {
            Self::Provisioning => PhaseKind::Provisioning,
            Self::Staging => PhaseKind::Staging,
            Self::Staged => PhaseKind::Staged,
            Self::Verifying { .. } => PhaseKind::Verifying,
            Self::Ready => PhaseKind::Ready,
            Self::Active => PhaseKind::Active,
            Self::Draining => PhaseKind::Draining,
            Self::Drained => PhaseKind::Drained,
            Self::Retired { .. } => PhaseKind::Retired,
            Self::Failed => PhaseKind::Failed,
        }
    }
}

/// A group of like servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Its name, unique in the environment.
    pub name: FleetName,
    /// Desired number of servers, 1 to 1000.
    pub replicas: u32,
    /// Shared zones that each of its servers serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance that its servers host.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players a server takes.
    pub capacity: u32,
    /// Extra environment variables of its servers.
    pub environment: BTreeMap<String, String>,
}

impl Fleet {
    /// Most players that all its servers take.
    #[must_use]
    pub const fn room(&self) -> u64 {
        self.replicas as u64 * self.capacity as u64
    }
}

/// A server as the routing table names it. Kept with the environment, so that the table survives a restart of the
/// manager although nothing is observed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteServer {
    /// Its id.
    pub id: ServerId,
    /// This run of its process.
    pub instance: InstanceId,
    /// Where its link listens, "host:port".
    pub address: String,
    /// The certificate name to expect on the link.
    pub tls_name: String,
    /// Shared zones it serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance it hosts.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players it takes.
    pub capacity: u32,
    /// False: keep what is there, bring nobody new.
    pub ready: bool,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// What it runs.
    pub build: BuildInfo,
    /// What it is to its realm.
    pub label: Option<Label>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Why it failed, drains or was retired; empty: nothing to say.
    pub reason: String,
    /// Its fleets.
    pub fleets: Vec<Fleet>,
    /// What it was made from.
    pub source: Source,
    /// It once took new sessions.
    pub was_active: bool,
    /// Its servers as last seen well enough to be routed to.
    pub servers: BTreeMap<ServerId, RouteServer>,
    /// How often it was verified.
    pub verify_attempts: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Grows with every change of this row.
    pub generation: Generation,
}

impl Environment {
    /// A new one: nothing runs.
    #[must_use]
    pub const fn new(id: EnvironmentId, build: BuildInfo, fleets: Vec<Fleet>, source: Source, now: Timestamp) -> Self {
        Self {
            id,
            build,
            label: None,
            phase: Phase::Provisioning,
            since: now,
            reason: String::new(),
            fleets,
            source,
            was_active: false,
            servers: BTreeMap::new(),
            verify_attempts: 0,
            created: now,
            generation: Generation(1),
        }
    }

    /// True when sessions may be pinned to it or soon will: it is in the routing table.
    #[must_use]
    pub const fn is_routed(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Active | Phase::Draining | Phase::Drained)
    }

    /// True when its servers shall run.
    #[must_use]
    pub const fn wants_servers(&self) -> bool {
        !matches!(self.phase, Phase::Provisioning | Phase::Retired { .. } | Phase::Failed)
    }

    /// True when its servers shall take players (smoke tests are players too).
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.wants_servers() && !matches!(self.phase, Phase::Staging)
    }

    /// Most players that all its servers take, as specified.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.fleets.iter().map(Fleet::room).sum()
    }

    /// Most players that the servers which are ready now take.
    #[must_use]
    pub fn ready_room(&self) -> u64 {
        self.servers.values().filter(|s| s.ready).map(|s| u64::from(s.capacity)).sum()
    }

    /// Zones and instance kinds that some fleet serves.
    pub fn places(&self) -> impl Iterator<Item = &ZoneId> {
        self.fleets.iter().flat_map(|f| f.zones.iter().chain(&f.instance_kinds))
    }

    /// Refuses unless the row has the generation that the caller expects.
    ///
    /// # Errors
    /// [`Reason::GenerationMismatch`].
    pub fn expect_generation(&self, expected: Option<Generation>) -> Result<(), Refused> {
        match expected {
            Some(expected) if expected != self.generation => Err(Refused::new(
                Reason::GenerationMismatch,
                format!("environment {} has generation {}, not {expected}", self.id, self.generation),
                "look at it again and repeat the call with its generation",
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn wrong_phase(&self, verb: &str) -> Refused {
        match self.phase {
            Phase::Retired { .. } => Refused::new(
                Reason::Retired,
                format!("cannot {verb} environment {}: it is retired", self.id),
                "create a new environment of its build",
            ),
            Phase::Failed => Refused::new(
                Reason::Failed,
                format!("cannot {verb} environment {}: it failed: {}", self.id, self.reason),
                "remove the cause and stage it again, or retire it",
            ),
            _ => Refused::new(
                Reason::WrongPhase,
                format!("cannot {verb} environment {}: it is {}", self.id, self.phase.kind()),
                "look at its phase; environments are staged, then verified, then flipped to",
            ),
        }
    }
}
