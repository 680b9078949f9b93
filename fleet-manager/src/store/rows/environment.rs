//! Rows of environments, fleets, drains and snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_core::drain::{AtDeadline, Departure, Drain, DrainState, Policy};
use fleet_core::environment::{Environment, Fleet, Label, Phase, RouteServer, Source};
use fleet_core::snapshot::{Snapshot, SnapshotFacts, SnapshotState};
use fleet_core::spec::BuildInfo;
use serde::{Deserialize, Serialize};
use tidegate_types::{
    BuildVersion, Cause, EnvironmentId, FleetName, Generation, InstanceId, RealmId, ServerId, SnapshotId, Timestamp,
    ZoneId,
};

use super::stored::{RowError, Stored, row, words};

words!("label" for Label { Blue = "blue", Green = "green" });

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum PhaseRow {
    Provisioning,
    Staging,
    Staged,
    Verifying { attempt: u32 },
    Ready,
    Active,
    Draining,
    Drained,
    Retired { stopped: bool },
    Failed,
}

impl Stored for Phase {
    type Row = PhaseRow;
    fn to_row(&self) -> PhaseRow {
        match *self {
            Self::Provisioning => PhaseRow::Provisioning,
            Self::Staging => PhaseRow::Staging,
            Self::Staged => PhaseRow::Staged,
            Self::Verifying { attempt } => PhaseRow::Verifying { attempt },
            Self::Ready => PhaseRow::Ready,
            Self::Active => PhaseRow::Active,
            Self::Draining => PhaseRow::Draining,
            Self::Drained => PhaseRow::Drained,
            Self::Retired { stopped } => PhaseRow::Retired { stopped },
            Self::Failed => PhaseRow::Failed,
        }
    }
    fn from_row(row: PhaseRow) -> Result<Self, RowError> {
        Ok(match row {
            PhaseRow::Provisioning => Self::Provisioning,
            PhaseRow::Staging => Self::Staging,
            PhaseRow::Staged => Self::Staged,
            PhaseRow::Verifying { attempt } => Self::Verifying { attempt },
            PhaseRow::Ready => Self::Ready,
            PhaseRow::Active => Self::Active,
            PhaseRow::Draining => Self::Draining,
            PhaseRow::Drained => Self::Drained,
            PhaseRow::Retired { stopped } => Self::Retired { stopped },
            PhaseRow::Failed => Self::Failed,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum SourceRow {
    Empty,
    Cloning { snapshot: SnapshotId, realm: RealmId, restore_database: bool, attempt: u32 },
    Cloned { snapshot: SnapshotId },
}

impl Stored for Source {
    type Row = SourceRow;
    fn to_row(&self) -> SourceRow {
        match self.clone() {
            Self::Empty => SourceRow::Empty,
            Self::Cloning { snapshot, realm, restore_database, attempt } => {
                SourceRow::Cloning { snapshot, realm, restore_database, attempt }
            }
            Self::Cloned { snapshot } => SourceRow::Cloned { snapshot },
        }
    }
    fn from_row(row: SourceRow) -> Result<Self, RowError> {
        Ok(match row {
            SourceRow::Empty => Self::Empty,
            SourceRow::Cloning { snapshot, realm, restore_database, attempt } => {
                Self::Cloning { snapshot, realm, restore_database, attempt }
            }
            SourceRow::Cloned { snapshot } => Self::Cloned { snapshot },
        })
    }
}

row!(FleetRow for Fleet {
    name: FleetName,
    replicas: u32,
    zones: Vec<ZoneId>,
    instance_kinds: Vec<ZoneId>,
    capacity: u32,
    environment: BTreeMap<String, String>,
});

row!(RouteServerRow for RouteServer {
    id: ServerId,
    instance: InstanceId,
    address: String,
    tls_name: String,
    zones: Vec<ZoneId>,
    instance_kinds: Vec<ZoneId>,
    capacity: u32,
    ready: bool,
});

row!(EnvironmentRow for Environment {
    id: EnvironmentId,
    build: BuildInfo,
    label: Option<Label>,
    phase: Phase,
    since: Timestamp,
    reason: String,
    fleets: Vec<Fleet>,
    source: Source,
    was_active: bool,
    servers: BTreeMap<ServerId, RouteServer>,
    verify_attempts: u32,
    created: Timestamp,
    generation: Generation,
});

words!("end of a drain" for AtDeadline { Move = "move", Kick = "kick", Stay = "stay" });
words!("drain state" for DrainState {
    Running = "running",
    Forcing = "forcing",
    Completed = "completed",
    Cancelled = "cancelled",
});
words!("cause" for Cause {
    Login = "login",
    Zone = "zone",
    Instance = "instance",
    Respawn = "respawn",
    Drain = "drain",
    Operator = "operator",
    Crash = "crash",
    Resume = "resume",
});

/// One word, because it is the key of a JSON object.
impl Stored for Departure {
    type Row = String;
    fn to_row(&self) -> String {
        self.as_str().to_owned()
    }
    fn from_row(row: String) -> Result<Self, RowError> {
        match row.as_str() {
            "logout" => Ok(Self::Logout),
            "grace_over" => Ok(Self::GraceOver),
            "kicked" => Ok(Self::Kicked),
            "other" => Ok(Self::Other),
            _ => Cause::from_row(row).map(Self::Moved),
        }
    }
}

row!(PolicyRow for Policy {
    deadline: Option<Duration>,
    at_deadline: AtDeadline,
    notices: Vec<Duration>,
    notice_text: String,
    extensions: BTreeMap<String, Duration>,
    moves_per_second: u32,
});

row!(DrainRow for Drain {
    environment: EnvironmentId,
    state: DrainState,
    policy: Policy,
    policy_given: bool,
    cause: Cause,
    started: Timestamp,
    deadline: Option<Timestamp>,
    ignore_extensions: bool,
    ended: Option<Timestamp>,
    initial: u32,
    generation: Generation,
    departed: BTreeMap<Departure, u32>,
    notices_sent: BTreeSet<u64>,
    commands: u64,
});

row!(SnapshotFactsRow for SnapshotFacts {
    taken: Timestamp,
    digest: String,
    verified: bool,
    verified_at: Timestamp,
    bytes: u64,
    blobs: u32,
    paused_ms: u32,
    problem: String,
});

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum SnapshotStateRow {
    Taking { attempt: u32 },
    Stored(SnapshotFactsRow),
    Failed { attempt: u32, reason: String },
    Deleted,
}

impl Stored for SnapshotState {
    type Row = SnapshotStateRow;
    fn to_row(&self) -> SnapshotStateRow {
        match self {
            Self::Taking { attempt } => SnapshotStateRow::Taking { attempt: *attempt },
            Self::Stored(facts) => SnapshotStateRow::Stored(facts.to_row()),
            Self::Failed { attempt, reason } => SnapshotStateRow::Failed { attempt: *attempt, reason: reason.clone() },
            Self::Deleted => SnapshotStateRow::Deleted,
        }
    }
    fn from_row(row: SnapshotStateRow) -> Result<Self, RowError> {
        Ok(match row {
            SnapshotStateRow::Taking { attempt } => Self::Taking { attempt },
            SnapshotStateRow::Stored(facts) => Self::Stored(SnapshotFacts::from_row(facts)?),
            SnapshotStateRow::Failed { attempt, reason } => Self::Failed { attempt, reason },
            SnapshotStateRow::Deleted => Self::Deleted,
        })
    }
}

row!(SnapshotRow for Snapshot {
    id: SnapshotId,
    environment: EnvironmentId,
    build: BuildVersion,
    state: SnapshotState,
    created: Timestamp,
});
