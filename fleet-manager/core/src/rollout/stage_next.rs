//! Step 10: the next green's servers start and load, so that the next rollout begins with a green that stands ready.

use tidegate_types::{RolloutId, Timestamp};

use crate::environment::Phase;
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::{Progress, StepName};

impl Realm {
    pub(super) fn step_stage_next(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        let next = rollout.next_green.clone();
        let Some(environment) = self.rows.environments.get(&next) else {
            return Progress::Skip("there is no next green".to_owned());
        };
        let begun = rollout.step(StepName::StageNext).is_some_and(|s| !s.outcome.is_empty());
        match environment.phase {
            Phase::Provisioning => self.stage_it(now, id, out),
            // A failure of this attempt is the step's; an older one is tried again.
            Phase::Failed if begun => Progress::Fail(environment.reason.clone()),
            Phase::Failed => self.stage_it(now, id, out),
            Phase::Staging => Progress::wait(format!("environment {next} loads")),
            Phase::Staged
            | Phase::Verifying { .. }
            | Phase::Ready
            | Phase::Active
            | Phase::Draining
            | Phase::Drained => Progress::Done(format!("environment {next} is loaded")),
            Phase::Retired { .. } => Progress::Skip(format!("environment {next}: {}", environment.reason)),
        }
    }

    fn stage_it(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let next = self.rows.rollouts[id].next_green.clone();
        match self.stage(now, &next, Some(id), out) {
            Ok(()) => Progress::wait(format!("environment {next} loads")),
            Err(refused) => Progress::Fail(refused.message),
        }
    }
}
