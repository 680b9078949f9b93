//! The dry run of a rollout: its steps, who is affected, what can be undone and until when.

use tidegate_types::{EnvironmentId, Timestamp};

use crate::drain::AtDeadline;
use crate::drain::run::human;
use crate::input::Check;
use crate::realm::Realm;
use crate::rollout::{RolloutSpec, StepName};

/// What a rollout would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its steps, in order.
    pub steps: Vec<PlannedStep>,
    /// The checklist as of now.
    pub checks: Vec<Check>,
    /// Sessions on the environment that would be drained, as far as known.
    pub sessions_affected: u32,
    /// That environment; `None`: the realm has none, and the rollout would be refused.
    pub blue: Option<EnvironmentId>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Which.
    pub name: StepName,
    /// What it does here.
    pub what: String,
    /// "yes", "no: …", and so on.
    pub undo: String,
}

impl Realm {
    /// What rolling `spec` out would do now. Changes nothing.
    #[must_use]
    pub fn plan(&self, now: Timestamp, spec: &RolloutSpec) -> Plan {
        let blue = self.accepting();
        let sessions = blue.map_or(0, |b| self.observed.session_count(&b.id));
        let back = blue.is_none_or(|b| b.build.reads_state_of(&spec.build));
        let steps = StepName::ALL.into_iter().map(|name| PlannedStep {
            name,
            what: self.what(name, spec, sessions),
            undo: undo(name, back).to_owned(),
        });
        Plan {
            steps: steps.collect(),
            checks: self.preflight(now, spec, None),
            sessions_affected: sessions,
            blue: blue.map(|b| b.id.clone()),
        }
    }

    fn what(&self, name: StepName, spec: &RolloutSpec, sessions: u32) -> String {
        let blue = self.accepting().map_or_else(|| "nothing".to_owned(), |b| b.id.to_string());
        let servers: u32 = self.accepting().map_or(0, |b| b.fleets.iter().map(|f| f.replicas).sum());
        let version = &spec.build.version;
        match name {
            StepName::Preflight => "go through the checklist".to_owned(),
            StepName::Stage => format!("start {servers} servers of build {version} and check every one"),
            StepName::Verify => "run the smoke tests against them".to_owned(),
            StepName::Flip => format!("send new sessions to green instead of {blue}"),
            StepName::Drain => format!("wait until {blue} is empty ({sessions} sessions now); {}", at_deadline(spec)),
            StepName::VerifyStable => format!("watch green for {} without a crash", human(spec.stable)),
            StepName::Relabel => format!("green becomes blue; {blue} is kept warm"),
            StepName::Snapshot => "take a consistent cut of the new blue and read it back".to_owned(),
            StepName::Clone if spec.skip_clone => "skipped".to_owned(),
            StepName::StageNext if spec.skip_clone => "skipped".to_owned(),
            StepName::Clone => "make the next green from that snapshot".to_owned(),
            StepName::StageNext => {
                format!("start its servers with build {}", spec.next_build.as_ref().unwrap_or(&spec.build).version)
            }
        }
    }
}

fn at_deadline(spec: &RolloutSpec) -> String {
    match (spec.drain.deadline, spec.drain.at_deadline) {
        (Some(deadline), AtDeadline::Move) => format!("the last ones are moved after {}", human(deadline)),
        (Some(deadline), AtDeadline::Kick) => format!("the last ones are ended after {}", human(deadline)),
        (None, _) | (Some(_), AtDeadline::Stay) => "nobody is moved against their will".to_owned(),
    }
}

const fn undo(name: StepName, back: bool) -> &'static str {
    match name {
        StepName::Preflight => "nothing to undo",
        StepName::Stage | StepName::Verify => "yes: green is retired, the players notice nothing",
        StepName::Flip | StepName::Drain | StepName::VerifyStable if back => "yes: abort sends the players back",
        StepName::Relabel if back => "yes, while the old environment is kept warm",
        StepName::Flip | StepName::Drain | StepName::VerifyStable | StepName::Relabel => {
            "no: the old build cannot read what the new one writes; only freeze"
        }
        StepName::Snapshot => "nothing to undo",
        StepName::Clone | StepName::StageNext => "yes: retire it",
    }
}
