//! Step 1, the checklist. One line that stops the rollout fails it before anything was made.

use tidegate_types::{RolloutId, Timestamp};

use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::{Progress, StepName};

impl Realm {
    pub(super) fn step_preflight(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let checks = self.preflight(now, &self.rows.rollouts[id].spec, Some(id));
        self.edit_step(id, StepName::Preflight, out, |step| step.checks.clone_from(&checks));
        if let Some(failed) = checks.iter().find(|c| c.stops()) {
            return Progress::Fail(format!("{}: {}", failed.name, failed.why));
        }
        let warnings = checks.iter().filter(|c| !c.ok).count();
        Progress::Done(format!("{} checks, {warnings} warnings", checks.len()))
    }
}
