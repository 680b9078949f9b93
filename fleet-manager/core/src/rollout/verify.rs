//! Step 3: smoke tests on green's own addresses.

use tidegate_types::{RolloutId, Timestamp};

use crate::environment::Phase;
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::Progress;

impl Realm {
    pub(super) fn step_verify(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let green = self.rows.rollouts[id].green.clone();
        let Some(environment) = self.rows.environments.get(&green) else {
            return Progress::Fail(format!("environment {green} does not exist"));
        };
        match environment.phase {
            Phase::Staged => match self.verify(now, &green, Some(id), out) {
                Ok(()) => Progress::wait("smoke tests run"),
                Err(refused) => Progress::Fail(refused.message),
            },
            Phase::Verifying { .. } => Progress::wait("smoke tests run"),
            Phase::Ready => Progress::Done("smoke tests passed".to_owned()),
            Phase::Failed => Progress::Fail(environment.reason.clone()),
            Phase::Provisioning
            | Phase::Staging
            | Phase::Active
            | Phase::Draining
            | Phase::Drained
            | Phase::Retired { .. } => Progress::Fail(format!("environment {green} is {}", environment.phase.kind())),
        }
    }
}
