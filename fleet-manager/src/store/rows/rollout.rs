//! Rows of rollouts.

use std::time::Duration;

use fleet_core::drain::Policy;
use fleet_core::input::Check;
use fleet_core::rollback::Choice;
use fleet_core::rollout::{Rollout, RolloutSpec, RolloutState, Step, StepName, StepState};
use fleet_core::spec::BuildInfo;
use serde::{Deserialize, Serialize};
use tidegate_types::{EnvironmentId, Generation, RolloutId, SnapshotId, Timestamp};

use super::stored::{RowError, Stored, row, words};

words!("step" for StepName {
    Preflight = "preflight",
    Stage = "stage",
    Verify = "verify",
    Flip = "flip",
    Drain = "drain",
    VerifyStable = "verify_stable",
    Relabel = "relabel",
    Snapshot = "snapshot",
    Clone = "clone",
    StageNext = "stage_next",
});
words!("step state" for StepState {
    Pending = "pending",
    Running = "running",
    Done = "done",
    Failed = "failed",
    Skipped = "skipped",
    Undone = "undone",
});

row!(CheckRow for Check { name: String, ok: bool, warning: bool, why: String });

row!(StepRow for Step {
    name: StepName,
    state: StepState,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    outcome: String,
    checks: Vec<Check>,
    attempts: u32,
    until: Option<Timestamp>,
});

row!(RolloutSpecRow for RolloutSpec {
    build: BuildInfo,
    drain: Policy,
    stable: Duration,
    stage_timeout: Option<Duration>,
    next_build: Option<BuildInfo>,
    skip_clone: bool,
    reason: String,
});

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum ChoiceRow {
    Finish,
    NextBoundary,
    Force { deadline_ms: u64 },
    Freeze,
}

impl Stored for Choice {
    type Row = ChoiceRow;
    fn to_row(&self) -> ChoiceRow {
        match self {
            Self::Finish => ChoiceRow::Finish,
            Self::NextBoundary => ChoiceRow::NextBoundary,
            Self::Force { deadline } => ChoiceRow::Force { deadline_ms: deadline.to_row() },
            Self::Freeze => ChoiceRow::Freeze,
        }
    }
    fn from_row(row: ChoiceRow) -> Result<Self, RowError> {
        Ok(match row {
            ChoiceRow::Finish => Self::Finish,
            ChoiceRow::NextBoundary => Self::NextBoundary,
            ChoiceRow::Force { deadline_ms } => Self::Force { deadline: Duration::from_row(deadline_ms)? },
            ChoiceRow::Freeze => Self::Freeze,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum RolloutStateRow {
    Running,
    Paused,
    Completed,
    Failed,
    RolledBack,
    Aborting { choice: ChoiceRow, flipped_back: bool },
}

impl Stored for RolloutState {
    type Row = RolloutStateRow;
    fn to_row(&self) -> RolloutStateRow {
        match self {
            Self::Running => RolloutStateRow::Running,
            Self::Paused => RolloutStateRow::Paused,
            Self::Completed => RolloutStateRow::Completed,
            Self::Failed => RolloutStateRow::Failed,
            Self::RolledBack => RolloutStateRow::RolledBack,
            Self::Aborting { choice, flipped_back } => {
                RolloutStateRow::Aborting { choice: choice.to_row(), flipped_back: *flipped_back }
            }
        }
    }
    fn from_row(row: RolloutStateRow) -> Result<Self, RowError> {
        Ok(match row {
            RolloutStateRow::Running => Self::Running,
            RolloutStateRow::Paused => Self::Paused,
            RolloutStateRow::Completed => Self::Completed,
            RolloutStateRow::Failed => Self::Failed,
            RolloutStateRow::RolledBack => Self::RolledBack,
            RolloutStateRow::Aborting { choice, flipped_back } => {
                Self::Aborting { choice: Choice::from_row(choice)?, flipped_back }
            }
        })
    }
}

row!(RolloutRow for Rollout {
    id: RolloutId,
    spec: RolloutSpec,
    state: RolloutState,
    steps: Vec<Step>,
    blue: Option<EnvironmentId>,
    green: EnvironmentId,
    next_green: EnvironmentId,
    snapshot: SnapshotId,
    flip: Option<Generation>,
    flip_confirm_us: Option<u64>,
    flip_confirmed: Option<Timestamp>,
    superseded_by: Option<EnvironmentId>,
    reason: String,
    started: Timestamp,
    ended: Option<Timestamp>,
    generation: Generation,
});
