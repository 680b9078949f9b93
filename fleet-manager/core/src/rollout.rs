//! One rollout: a durable, resumable run of the steps that bring a build to the players.
//!
//! ```text
//! Preflight -> Stage -> Verify -> Flip -> Drain -> VerifyStable -> Relabel -> Snapshot -> Clone -> StageNext
//! '------- failed or aborted: -------'   '------- failed: Paused; aborted: RolledBack --------------------'
//!           green retired, Failed
//! ```
//!
//! Each step is a reconciler, one file each under `rollout/`: it looks at the rows, brings about what is missing, and says
//! whether it is done, waits or failed (`Progress`). What it brings about is written before it is performed, so a step can
//! be asked again at any time, after a crash too: the same rows give the same answer.
//!
//! **A second rollout** may start once the first has flipped. When it flips too, the first is *superseded*: its green now
//! drains itself and will never be blue. The first keeps watching the drain of its own blue, skips what is left, and ends
//! completed; the second relabels when nothing drains any more. So both drains end, and the last flip wins.

mod clone;
pub(crate) mod control;
mod drain;
mod flip;
mod preflight;
mod relabel;
mod snapshot;
mod stage;
mod stage_next;
mod steps;
mod verify;
mod verify_stable;

use std::time::Duration;

use tidegate_types::{EnvironmentId, Generation, RolloutId, SnapshotId, Timestamp};

use crate::drain::Policy;
use crate::input::Check;
use crate::rollback::Choice;
use crate::spec::BuildInfo;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutSpec {
    /// The build to bring to the players.
    pub build: BuildInfo,
    /// How to drain the old environment.
    pub drain: Policy,
    /// How long green must be without a crash after the drain before it becomes blue.
    pub stable: Duration,
    /// How long green, and the next green, may take until all servers are loaded; `None`: the realm's limit.
    pub stage_timeout: Option<Duration>,
    /// What the next green runs; `None`: the same build again.
    pub next_build: Option<BuildInfo>,
    /// Do not clone and stage the next green.
    pub skip_clone: bool,
    /// For the audit record.
    pub reason: String,
}

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepName {
    /// The checklist.
    Preflight,
    /// Green's servers start and load.
    Stage,
    /// Smoke tests on green.
    Verify,
    /// New sessions go to green.
    Flip,
    /// The old environment empties.
    Drain,
    /// Green runs for a while without a crash.
    VerifyStable,
    /// Green becomes blue.
    Relabel,
    /// A consistent cut of the new blue.
    Snapshot,
    /// The next green is made from it.
    Clone,
    /// The next green's servers start and load.
    StageNext,
}

impl StepName {
    /// Every step, in order.
    pub const ALL: [Self; 10] = [
        Self::Preflight,
        Self::Stage,
        Self::Verify,
        Self::Flip,
        Self::Drain,
        Self::VerifyStable,
        Self::Relabel,
        Self::Snapshot,
        Self::Clone,
        Self::StageNext,
    ];

    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Stage => "stage",
            Self::Verify => "verify",
            Self::Flip => "flip",
            Self::Drain => "drain",
            Self::VerifyStable => "verify_stable",
            Self::Relabel => "relabel",
            Self::Snapshot => "snapshot",
            Self::Clone => "clone",
            Self::StageNext => "stage_next",
        }
    }
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun.
    Running,
    /// Done.
    Done,
    /// It failed.
    Failed,
    /// Not needed.
    Skipped,
    /// It was done and taken back.
    Undone,
}

/// One step of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// Where it is.
    pub state: StepState,
    /// When it first began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What is going on, or what came of it.
    pub outcome: String,
    /// Preflight's checklist and the smoke tests' results.
    pub checks: Vec<Check>,
    /// How often it was begun.
    pub attempts: u32,
    /// When to try again, or until when it waits; `None`: it waits for an event alone.
    pub until: Option<Timestamp>,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutState {
    /// Under way.
    Running,
    /// No step begins.
    Paused,
    /// The build is with the players.
    Completed,
    /// Stopped before the flip; blue was never touched.
    Failed,
    /// Traffic went back.
    RolledBack,
    /// Taking back what was done.
    Aborting {
        /// What happens to those on green.
        choice: Choice,
        /// Traffic has been sent back; what is missing is the gateways' word.
        flipped_back: bool,
    },
}

impl RolloutState {
    /// True when nothing more happens.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::RolledBack)
    }
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What to do.
    pub spec: RolloutSpec,
    /// Where it is.
    pub state: RolloutState,
    /// Its ten steps, in order.
    pub steps: Vec<Step>,
    /// What was accepting when it began.
    pub blue: Option<EnvironmentId>,
    /// Green: the id to create it with until `Stage` began, then the environment.
    pub green: EnvironmentId,
    /// The next green's id.
    pub next_green: EnvironmentId,
    /// The snapshot's id.
    pub snapshot: SnapshotId,
    /// The generation of its flip; `None`: it has not flipped.
    pub flip: Option<Generation>,
    /// From the flip being durable to the last acknowledgement, in microseconds; `None`: not (yet) confirmed.
    pub flip_confirm_us: Option<u64>,
    /// When the flip was confirmed.
    pub flip_confirmed: Option<Timestamp>,
    /// Another rollout flipped away from this one's green: it ends with its drain.
    pub superseded_by: Option<EnvironmentId>,
    /// Why it failed, is paused or was aborted, and what to do.
    pub reason: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Grows with every change of this row.
    pub generation: Generation,
}

/// What a step says when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not done; what it waits for, and when to ask again (else with the next event).
    Wait {
        /// For people.
        outcome: String,
        /// When to ask again at the latest.
        until: Option<Timestamp>,
    },
    /// Done, and what came of it.
    Done(String),
    /// Not needed, and why.
    Skip(String),
    /// Failed: why and what to do.
    Fail(String),
}

impl Progress {
    fn wait(outcome: impl Into<String>) -> Self {
        Self::Wait { outcome: outcome.into(), until: None }
    }
}

impl Rollout {
    /// The step of this name.
    #[must_use]
    pub fn step(&self, name: StepName) -> Option<&Step> {
        self.steps.iter().find(|s| s.name == name)
    }

    /// The step that is next or under way; `None`: all are over.
    #[must_use]
    pub fn current(&self) -> Option<&Step> {
        self.steps.iter().find(|s| !matches!(s.state, StepState::Done | StepState::Skipped | StepState::Undone))
    }

    fn step_mut(&mut self, name: StepName) -> Option<&mut Step> {
        self.steps.iter_mut().find(|s| s.name == name)
    }
}

impl Step {
    /// A step that has not begun.
    #[must_use]
    pub const fn pending(name: StepName) -> Self {
        Self {
            name,
            state: StepState::Pending,
            started: None,
            ended: None,
            outcome: String::new(),
            checks: Vec::new(),
            attempts: 0,
            until: None,
        }
    }
}
