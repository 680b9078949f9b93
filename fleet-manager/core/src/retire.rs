//! The end of environments: stopping their servers for good, and the label that says which one is stable.
//!
//! Never with players inside. Drained environments are the rollback, so `retain_drained` of them are kept warm; the oldest
//! go first, and one that has a label does not go at all.

use tidegate_types::{EnvironmentId, RolloutId, Timestamp};

use crate::drain::gate::Occupancy;
use crate::effect::Effect;
use crate::environment::{Label, Phase};
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};

impl Realm {
    pub(crate) fn retire(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        reason: &str,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        out.reply = Reply::Environment(id.clone());
        if matches!(environment.phase, Phase::Retired { .. }) {
            return Ok(());
        }
        if self.is_accepting(id) {
            return Err(Refused::new(
                Reason::AlreadyAccepting,
                format!("environment {id} takes the new sessions"),
                "flip to another environment and drain this one first",
            ));
        }
        if let Some(rollout) = self.rollout_needing(id) {
            return Err(Refused::new(
                Reason::RolloutRunning,
                format!("rollout {} needs environment {id}", rollout.id),
                "abort the rollout, or let it end",
            ));
        }
        if let Occupancy::Occupied { sessions, waiting_for } = self.occupancy_of(id) {
            let why = if sessions > 0 {
                format!("{sessions} players are in environment {id}")
            } else {
                format!("it is not known that environment {id} is empty: {}", waiting_for.join("; "))
            };
            return Err(Refused::new(Reason::Occupied, why, "drain it, and retire it when it is drained"));
        }
        if environment.phase == Phase::Draining {
            return Err(Refused::new(
                Reason::Draining,
                format!("environment {id} drains"),
                "retire it when it is drained",
            ));
        }
        self.retire_now(now, id, reason, None, out);
        Ok(())
    }

    pub(crate) fn retire_now(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        reason: &str,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) {
        self.set_phase(now, id, Phase::Retired { stopped: false }, reason, who, out);
        self.edit_environment(id, out, |e| e.label = None);
        self.rows.routing.leave_at_boundary.remove(id);
        out.effects.push(Effect::StopServers { environment: id.clone() });
    }

    /// Retires drained environments beyond those that are kept as rollbacks.
    pub(crate) fn retire_spare(&mut self, now: Timestamp, out: &mut Outcome) {
        let mut drained: Vec<(Timestamp, EnvironmentId)> = self
            .rows
            .environments
            .values()
            .filter(|e| e.phase == Phase::Drained && e.label.is_none() && self.rollout_needing(&e.id).is_none())
            .map(|e| (e.since, e.id.clone()))
            .collect();
        let spare = drained.len().saturating_sub(self.rows.spec.retain_drained as usize);
        drained.sort();
        for (_, id) in drained.into_iter().take(spare) {
            if matches!(self.occupancy_of(&id), Occupancy::Empty(_)) {
                self.retire_now(now, &id, "drained, and not needed as a rollback", None, out);
            }
        }
    }

    /// Moves the label blue to the accepting environment. Repeating it changes nothing.
    pub(crate) fn relabel(
        &mut self,
        id: &EnvironmentId,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        out.reply = Reply::Environment(id.clone());
        if environment.label == Some(Label::Blue) {
            return Ok(());
        }
        if !self.is_accepting(id) {
            return Err(Refused::new(
                Reason::NotActive,
                format!(
                    "environment {id} is {}, and blue is the one that takes new sessions",
                    environment.phase.kind()
                ),
                "flip to it first",
            ));
        }
        if let Some(draining) = self.rows.environments.values().find(|e| e.phase == Phase::Draining) {
            return Err(Refused::new(
                Reason::Draining,
                format!("environment {} still drains", draining.id),
                "wait for the drain to end, or force it",
            ));
        }
        self.give_label(id, Label::Blue, who, out);
        out.changes.insert(Change::Environment(id.clone()));
        Ok(())
    }
}
