//! Step 2: green exists, and all its servers are loaded. A green that is there already and has the right build is used; an
//! idle one of another build is retired for it.

use tidegate_types::{EnvironmentId, RolloutId, Timestamp};

use crate::environment::{Environment, Label, Phase, Source};
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::rollout::{Progress, StepName};

impl Realm {
    pub(super) fn step_stage(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let green = match self.green_for(now, id, out) {
            Ok(green) => green,
            Err(why) => return Progress::Fail(why),
        };
        let environment = &self.rows.environments[&green];
        match environment.phase {
            Phase::Provisioning if matches!(environment.source, Source::Cloning { .. }) => {
                Progress::wait(format!("environment {green} is being made from its snapshot"))
            }
            Phase::Provisioning => match self.stage(now, &green, Some(id), out) {
                Ok(()) => Progress::wait(format!("environment {green} loads")),
                Err(refused) => Progress::Fail(refused.message),
            },
            Phase::Staging => Progress::wait(format!("environment {green} loads")),
            Phase::Staged | Phase::Verifying { .. } | Phase::Ready => {
                Progress::Done(format!("environment {green} is loaded"))
            }
            Phase::Failed => Progress::Fail(environment.reason.clone()),
            Phase::Active | Phase::Draining | Phase::Drained | Phase::Retired { .. } => {
                Progress::Fail(format!("environment {green} is {}", environment.phase.kind()))
            }
        }
    }

    /// Green's id: chosen when the step begins, fixed from then on.
    fn green_for(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Result<EnvironmentId, String> {
        let rollout = &self.rows.rollouts[id];
        let planned = rollout.green.clone();
        let build = rollout.spec.build.clone();
        if self.rows.environments.contains_key(&planned) {
            return Ok(planned);
        }
        let idle = |e: &&Environment| !e.was_active;
        if let Some(green) = self.labelled(Label::Green).filter(idle) {
            let green_id = green.id.clone();
            let usable = green.build == build && green.phase != Phase::Failed;
            if usable {
                self.edit_rollout(id, out, |r| r.green = green_id.clone());
                return Ok(green_id);
            }
            self.retire_now(now, &green_id, &format!("replaced by {planned}"), Some(id), out);
        }
        // As the environment that has the players: blue may be on its way out.
        let fleets = self.accepting().map(|e| e.fleets.clone()).unwrap_or_default();
        let fleets = self.check_new(&planned, fleets).map_err(|refused| refused.message)?;
        self.insert_environment(Environment::new(planned.clone(), build, fleets, Source::Empty, now), Some(id), out);
        self.give_label(&planned, Label::Green, Some(id), out);
        self.edit_step(id, StepName::Stage, out, |step| step.outcome = format!("environment {planned} created"));
        Ok(planned)
    }
}
