//! Step 5: the old environment empties. The drain runs by itself; this step gives it the rollout's policy and watches.

use tidegate_types::{Cause, RolloutId, Timestamp};

use crate::environment::Phase;
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::Progress;

impl Realm {
    pub(super) fn step_drain(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        let Some(blue) = rollout.blue.clone() else { return Progress::Skip("there was no one to move".to_owned()) };
        let policy = rollout.spec.drain.clone();
        let Some(environment) = self.rows.environments.get(&blue) else {
            return Progress::Done(format!("environment {blue} does not exist any more"));
        };
        match environment.phase {
            Phase::Draining => {
                let natural = self.rows.drains.get(&blue).is_some_and(|d| d.state.is_live() && !d.policy_given);
                if natural {
                    self.give_policy(now, &blue, policy, Cause::Drain, Some(id), out);
                }
                Progress::wait(format!("environment {blue} empties"))
            }
            Phase::Drained | Phase::Retired { .. } => Progress::Done(format!("environment {blue} is empty")),
            // It has the players again: its own drain will be another rollout's business.
            Phase::Active => Progress::Skip(format!("environment {blue} takes new sessions again")),
            Phase::Provisioning
            | Phase::Staging
            | Phase::Staged
            | Phase::Verifying { .. }
            | Phase::Ready
            | Phase::Failed => Progress::Fail(format!("environment {blue} is {}", environment.phase.kind())),
        }
    }
}
