//! Making an environment from a snapshot. In the snapshot's own realm it shares the live database; in another realm it gets
//! a restored copy, so that realm must have nothing live.

use tidegate_types::{EnvironmentId, RolloutId, Timestamp};

use crate::environment::{Environment, Label, Phase, Source};
use crate::input::CloneCommand;
use crate::outcome::{Outcome, Reply};
use crate::realm::{Realm, clone_effect};
use crate::refused::{Reason, Refused};

impl Realm {
    /// Creates the clone. Repeating it with the same id and snapshot changes nothing.
    pub(crate) fn clone_environment(
        &mut self,
        now: Timestamp,
        clone: CloneCommand,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let CloneCommand { id, snapshot, source, facts, build, fleets } = clone;
        out.reply = Reply::Environment(id.clone());
        if self.rows.environments.get(&id).is_some_and(|e| e.source.snapshot() == Some(&snapshot)) {
            return Ok(());
        }
        let restore_database = source != self.rows.id;
        if restore_database {
            self.expect_nothing_live()?;
        } else {
            let Some(row) = self.rows.snapshots.get(&snapshot) else {
                return Err(Refused::not_found("snapshot", &snapshot));
            };
            if self.rows.environments.get(&row.environment).is_some_and(|e| e.phase == Phase::Draining) {
                return Err(Refused::new(
                    Reason::Draining,
                    format!("environment {}, which snapshot {snapshot} was taken of, drains", row.environment),
                    "take a snapshot of the active environment and clone that",
                ));
            }
        }
        if !facts.verified {
            return Err(Refused::new(
                Reason::SnapshotNotVerified,
                format!("snapshot {snapshot} was not read back whole: {}", facts.problem),
                "verify it, or take another one",
            ));
        }
        let fleets = self.check_new(&id, fleets)?;
        let source = Source::Cloning { snapshot, realm: source, restore_database, attempt: 1 };
        let environment = Environment::new(id.clone(), build, fleets, source, now);
        out.effects.extend(clone_effect(&environment));
        self.insert_environment(environment, who, out);
        // The next green, unless one is under way.
        if !restore_database && self.labelled(Label::Green).is_none() {
            self.give_label(&id, Label::Green, who, out);
        }
        Ok(())
    }

    fn expect_nothing_live(&self) -> Result<(), Refused> {
        let live = self.rows.environments.values().find(|e| !matches!(e.phase, Phase::Retired { .. }));
        live.map_or(Ok(()), |live| {
            Err(Refused::new(
                Reason::RealmNotEmpty,
                format!("environment {} of realm {} uses its database", live.id, self.rows.id),
                "clone into a realm without environments, or retire them",
            ))
        })
    }

    pub(crate) fn clone_done(&mut self, id: &EnvironmentId, attempt: u32, out: &mut Outcome) {
        let Some(snapshot) = self.cloning(id, attempt) else { return };
        self.edit_environment(id, out, |e| e.source = Source::Cloned { snapshot });
        out.audit(None, "environment.cloned", id, "", "", "");
    }

    pub(crate) fn clone_failed(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        attempt: u32,
        reason: String,
        out: &mut Outcome,
    ) {
        if self.cloning(id, attempt).is_some() {
            self.set_phase(now, id, Phase::Failed, &format!("clone: {reason}"), None, out);
        }
    }

    /// Tries a clone that failed once more.
    pub(crate) fn clone_again(&mut self, now: Timestamp, id: &EnvironmentId, who: &RolloutId, out: &mut Outcome) {
        self.set_phase(now, id, Phase::Provisioning, "", Some(who), out);
        self.edit_environment(id, out, |e| {
            if let Source::Cloning { attempt, .. } = &mut e.source {
                *attempt += 1;
            }
        });
        out.effects.extend(self.rows.environments.get(id).and_then(clone_effect));
    }

    fn cloning(&self, id: &EnvironmentId, asked: u32) -> Option<tidegate_types::SnapshotId> {
        let environment = self.rows.environments.get(id)?;
        match &environment.source {
            Source::Cloning { snapshot, attempt, .. }
                if *attempt == asked && environment.phase == Phase::Provisioning =>
            {
                Some(snapshot.clone())
            }
            Source::Cloning { .. } | Source::Empty | Source::Cloned { .. } => None,
        }
    }
}
