//! What the shell must do. A closed enum with exactly one `match` on it, in the shell's executor.
//!
//! Every effect may be repeated: [`crate::Realm::resume`] issues those in flight again after a restart. The answer comes
//! back as an [`crate::Event`] that carries what the effect carried, so that a late or doubled answer is recognised.

use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, Generation, RealmId, SessionId, SnapshotId, Timestamp};

use crate::environment::Fleet;
use crate::routing::RouteTable;
use crate::spec::BuildInfo;

/// Most sessions in one command to the gateways (the protocol's limit).
pub const SESSIONS_PER_COMMAND: usize = 1024;

/// The servers an environment shall have: desired state, not a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServersWanted {
    /// The environment.
    pub environment: EnvironmentId,
    /// What they run.
    pub build: BuildInfo,
    /// How many, with which zones.
    pub fleets: Vec<Fleet>,
    /// Zone state to load before serving; `None`: they begin empty (or with what the realm database holds).
    pub zones_from: Option<SnapshotId>,
    /// True: servers that have loaded everything are told to serve, also those that are started again later.
    pub serve: bool,
    /// The world database.
    pub database: String,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Push this table to every gateway. No answer.
    PublishTable(RouteTable),
    /// Answer [`crate::Event::TableAcked`] when every live gateway has acknowledged this generation or a later one, or at
    /// the deadline, naming those that did not.
    AwaitAcks {
        /// The generation to be acknowledged.
        generation: Generation,
        /// When to stop waiting.
        deadline: Timestamp,
    },
    /// Bring an environment's servers to what is wanted. What becomes of it is seen in
    /// [`crate::Event::ServersObserved`].
    EnsureServers(ServersWanted),
    /// Stop all servers of an environment for good. Answer: [`crate::Event::ServersStopped`].
    StopServers {
        /// Whose servers.
        environment: EnvironmentId,
    },
    /// Run the smoke tests against the environment's own addresses. Answer: [`crate::Event::SmokeDone`].
    RunSmoke {
        /// The environment to test.
        environment: EnvironmentId,
        /// To be repeated in the answer.
        attempt: u32,
    },
    /// Take a consistent cut, store it, read it back. A cut that is already stored under this id is the answer.
    /// Answer: [`crate::Event::SnapshotDone`] or [`crate::Event::SnapshotFailed`].
    TakeSnapshot {
        /// Of which environment.
        environment: EnvironmentId,
        /// The id to store it under.
        snapshot: SnapshotId,
        /// To be repeated in the answer.
        attempt: u32,
    },
    /// Prepare a new environment from a snapshot: its zones, and with `restore_database` a copy of its database as this
    /// realm's. Answer: [`crate::Event::CloneDone`] or [`crate::Event::CloneFailed`].
    CloneFrom {
        /// The new environment (already created here).
        environment: EnvironmentId,
        /// From which snapshot.
        snapshot: SnapshotId,
        /// The realm the snapshot was taken of.
        source: RealmId,
        /// True: another realm's; its database is restored as a copy. False: the live one is shared.
        restore_database: bool,
        /// To be repeated in the answer.
        attempt: u32,
    },
    /// Tell players that they will be moved.
    Notify {
        /// Repeating a command with the same id has one effect.
        command: String,
        /// Where they are.
        environment: EnvironmentId,
        /// Who; at most [`SESSIONS_PER_COMMAND`].
        sessions: Vec<SessionId>,
        /// What to say.
        text: String,
        /// How much time they have.
        remaining: Duration,
    },
    /// Hand sessions over to another environment. Whether they went is seen in the next occupancy reports.
    MoveSessions {
        /// Repeating a command with the same id has one effect.
        command: String,
        /// Where they are.
        environment: EnvironmentId,
        /// Where they go.
        to: EnvironmentId,
        /// Who; at most [`SESSIONS_PER_COMMAND`].
        sessions: Vec<SessionId>,
        /// [`Cause::Drain`] or [`Cause::Operator`].
        cause: Cause,
    },
    /// End sessions with a message.
    KickSessions {
        /// Repeating a command with the same id has one effect.
        command: String,
        /// Where they are.
        environment: EnvironmentId,
        /// Who; at most [`SESSIONS_PER_COMMAND`].
        sessions: Vec<SessionId>,
        /// What they are told.
        message: String,
    },
}
