//! Step 9: the next green is made from the snapshot.

use tidegate_types::{RolloutId, Timestamp};

use crate::environment::{Phase, Source};
use crate::input::CloneCommand;
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::{Progress, StepName};
use crate::snapshot::SnapshotState;

impl Realm {
    pub(super) fn step_clone(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        if rollout.spec.skip_clone {
            return Progress::Skip("not wanted".to_owned());
        }
        let next = rollout.next_green.clone();
        let Some(environment) = self.rows.environments.get(&next) else { return self.try_clone(now, id, out) };
        match (&environment.source, &environment.phase) {
            (_, Phase::Retired { .. }) => Progress::Skip(format!("environment {next}: {}", environment.reason)),
            (Source::Cloning { attempt, .. }, Phase::Failed) => {
                let (attempt, reason) = (*attempt, environment.reason.clone());
                match rollout.retry(StepName::Clone, now, attempt, &self.rows.spec.limits, &reason) {
                    Some(progress) => progress,
                    None => {
                        self.clone_again(now, &next, id, out);
                        Progress::wait(format!("making environment {next}"))
                    }
                }
            }
            (Source::Cloning { .. }, _) => Progress::wait(format!("making environment {next}")),
            (Source::Cloned { .. } | Source::Empty, _) => Progress::Done(format!("environment {next} is made")),
        }
    }

    fn try_clone(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        if let Some(other) = self.rollout_before_flip() {
            return Progress::Skip(format!("rollout {} brings the next green", other.id));
        }
        let rollout = &self.rows.rollouts[id];
        let spec = &rollout.spec;
        let Some(SnapshotState::Stored(facts)) = self.rows.snapshots.get(&rollout.snapshot).map(|s| &s.state) else {
            return Progress::Fail(format!("snapshot {} is not there", rollout.snapshot));
        };
        let clone = CloneCommand {
            id: rollout.next_green.clone(),
            snapshot: rollout.snapshot.clone(),
            source: self.rows.id.clone(),
            facts: facts.clone(),
            build: spec.next_build.as_ref().unwrap_or(&spec.build).clone(),
            fleets: Vec::new(),
        };
        let next = clone.id.clone();
        match self.clone_environment(now, clone, Some(id), out) {
            Ok(()) => Progress::wait(format!("making environment {next}")),
            Err(refused) => Progress::Fail(refused.message),
        }
    }
}
