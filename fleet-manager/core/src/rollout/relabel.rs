//! Step 7: green becomes blue, once nothing of the realm drains any more.

use tidegate_types::RolloutId;

use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::refused::Reason;
use crate::rollout::Progress;

impl Realm {
    pub(super) fn step_relabel(&mut self, id: &RolloutId, out: &mut Outcome) -> Progress {
        let green = self.rows.rollouts[id].green.clone();
        match self.relabel(&green, Some(id), out) {
            Ok(()) => Progress::Done(format!("environment {green} is blue")),
            Err(refused) if refused.reason == Reason::Draining => Progress::wait(refused.message),
            Err(refused) => Progress::Fail(refused.message),
        }
    }
}
