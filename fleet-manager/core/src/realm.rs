//! One realm: the aggregate that every decision goes through.
//!
//! [`Realm::handle`] is the only way in. A command is checked first and changes nothing when it is refused; then it, or an
//! event, changes rows; then everything that follows by itself is done (`settle`): drains and rollouts go on,
//! spare environments retire, and if the routing table has become another one it gets the next generation.

use std::collections::BTreeMap;

use tidegate_types::{EnvironmentId, RealmId, RolloutId, SnapshotId, Timestamp};

use crate::drain::Drain;
use crate::effect::{Effect, ServersWanted};
use crate::environment::{Environment, Label, Phase, Source};
use crate::input::{Command, Event, Input};
use crate::observe::{Observed, OccupancyReport};
use crate::outcome::{Change, Outcome, Reply};
use crate::refused::Refused;
use crate::rollout::Rollout;
use crate::routing::{FlipState, Routing};
use crate::snapshot::{Snapshot, SnapshotState};
use crate::spec::RealmSpec;

/// What is stored of a realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Its id.
    pub id: RealmId,
    /// What an operator said about it.
    pub spec: RealmSpec,
    /// Who gets the new players.
    pub routing: Routing,
    /// Its environments, retired ones too.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    /// The last drain of each environment that had one.
    pub drains: BTreeMap<EnvironmentId, Drain>,
    /// Its rollouts, ended ones too.
    pub rollouts: BTreeMap<RolloutId, Rollout>,
    /// Its snapshots.
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
}

impl Rows {
    /// A realm without environments.
    #[must_use]
    pub fn new(id: RealmId, spec: RealmSpec) -> Self {
        Self {
            id,
            spec,
            routing: Routing::default(),
            environments: BTreeMap::new(),
            drains: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        }
    }
}

/// One realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// What is stored.
    pub rows: Rows,
    /// What is observed; empty after a restart.
    pub observed: Observed,
    /// What is deliberately broken, to show that the tests see it.
    #[cfg(any(test, feature = "model"))]
    pub sabotage: crate::model::Sabotage,
}

impl Realm {
    /// A realm as it was stored. Call [`Self::resume`] next.
    #[must_use]
    pub fn load(rows: Rows) -> Self {
        Self {
            rows,
            observed: Observed::default(),
            #[cfg(any(test, feature = "model"))]
            sabotage: crate::model::Sabotage::default(),
        }
    }

    /// Applies an input.
    ///
    /// # Errors
    /// [`Refused`]: nothing was changed. Only commands are refused, never events.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Result<Outcome, Refused> {
        let mut out = Outcome::default();
        let before = self.table();
        match input {
            Input::Command(command) => self.command(now, command, &mut out)?,
            Input::Event(event) => self.event(now, event, &mut out),
        }
        // What follows by itself is nobody's answer.
        let reply = std::mem::take(&mut out.reply);
        self.settle(now, &before, &mut out);
        out.reply = reply;
        Ok(out)
    }

    /// When [`Self::handle_timeout`] wants to be called; `None`: no need.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let environments = self.rows.environments.values().filter_map(|e| self.environment_timeout(e));
        let drains = self.rows.drains.values().filter_map(|d| self.drain_timeout(d));
        let rollouts = self.rows.rollouts.values().filter_map(|r| self.rollout_timeout(r));
        environments.chain(drains).chain(rollouts).min()
    }

    /// Does what is due by the clock alone.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Outcome {
        let mut out = Outcome::default();
        let before = self.table();
        self.observed.awake.get_or_insert(now);
        self.time_out_environments(now, &mut out);
        self.settle(now, &before, &mut out);
        out.reply = Reply::Done;
        out
    }

    /// The effects in flight: to be performed (again) after a restart.
    #[must_use]
    pub fn resume(&self) -> Vec<Effect> {
        let rows = &self.rows;
        let mut effects = Vec::new();
        if rows.routing.generation.0 > 0 {
            effects.push(Effect::PublishTable(self.table()));
        }
        for environment in rows.environments.values() {
            if environment.wants_servers() {
                effects.push(Effect::EnsureServers(self.servers_wanted(environment)));
            }
            match &environment.phase {
                Phase::Retired { stopped: false } | Phase::Failed => {
                    effects.push(Effect::StopServers { environment: environment.id.clone() });
                }
                Phase::Verifying { attempt } => {
                    effects.push(Effect::RunSmoke { environment: environment.id.clone(), attempt: *attempt });
                }
                Phase::Provisioning => effects.extend(clone_effect(environment)),
                Phase::Staging
                | Phase::Staged
                | Phase::Ready
                | Phase::Active
                | Phase::Draining
                | Phase::Drained
                | Phase::Retired { stopped: true } => {}
            }
        }
        for snapshot in rows.snapshots.values() {
            if let SnapshotState::Taking { attempt } = snapshot.state {
                effects.push(Effect::TakeSnapshot {
                    environment: snapshot.environment.clone(),
                    snapshot: snapshot.id.clone(),
                    attempt,
                });
            }
        }
        if let Some(flip) = &rows.routing.flip {
            match flip.state {
                FlipState::Awaiting { deadline } | FlipState::Unconfirmed { deadline, .. } => {
                    effects.push(Effect::AwaitAcks { generation: flip.generation, deadline });
                }
                FlipState::Confirmed { .. } => {}
            }
        }
        effects
    }

    fn command(&mut self, now: Timestamp, command: Command, out: &mut Outcome) -> Result<(), Refused> {
        self.observed.awake.get_or_insert(now);
        match command {
            Command::CreateEnvironment { id, build, fleets, label } => {
                self.create_environment(now, id, build, fleets, label, out)
            }
            Command::Stage { environment, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.stage(now, &environment, None, out)
            }
            Command::Verify { environment, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.verify(now, &environment, None, out)
            }
            Command::Flip { to, if_generation, confirm, reason } => {
                self.flip(now, &to, if_generation, confirm, reason, out)
            }
            Command::Rollback { to, choice, if_generation, reason } => {
                self.rollback(now, to, choice, if_generation, &reason, out)
            }
            Command::Freeze { frozen, reason } => {
                self.freeze(now, frozen, reason, out);
                Ok(())
            }
            Command::StartDrain { environment, policy } => self.start_drain(now, &environment, policy, out),
            Command::ForceDrain { environment, deadline, ignore_extensions } => {
                self.force_drain(now, &environment, deadline, ignore_extensions, out)
            }
            Command::StartRollout(start) => self.start_rollout(now, *start, out),
            Command::PauseRollout { rollout, reason } => self.pause_rollout(&rollout, &reason, out),
            Command::ResumeRollout { rollout } => self.resume_rollout(&rollout, out),
            Command::AbortRollout { rollout, reason, choice } => {
                self.abort_rollout(now, &rollout, &reason, choice, out)
            }
            Command::Relabel { environment, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.relabel(&environment, None, out)
            }
            Command::Snapshot { environment, snapshot, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.take_snapshot(now, &environment, snapshot, None, out)
            }
            Command::Clone(clone) => self.clone_environment(now, *clone, None, out),
            Command::SnapshotChecked { snapshot, facts, force } => self.snapshot_checked(&snapshot, facts, force, out),
            Command::Retire { environment, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.retire(now, &environment, "an operator retired it", out)
            }
            Command::Scale { environment, fleet, replicas, if_generation } => {
                self.environment(&environment)?.expect_generation(if_generation)?;
                self.scale(&environment, &fleet, replicas, out)
            }
        }
    }

    fn event(&mut self, now: Timestamp, event: Event, out: &mut Outcome) {
        self.observed.awake.get_or_insert(now);
        match event {
            Event::ServersObserved(seen) => self.servers_observed(now, seen, out),
            Event::Occupancy(report) => self.occupancy(now, report, out),
            Event::TableAcked { generation, missing, confirm_us } => {
                self.table_acked(now, generation, missing, confirm_us, out);
            }
            Event::SmokeDone { environment, attempt, checks } => {
                self.smoke_done(now, &environment, attempt, &checks, out);
            }
            Event::SnapshotDone { snapshot, attempt, facts } => self.snapshot_done(&snapshot, attempt, facts, out),
            Event::SnapshotFailed { snapshot, attempt, reason } => {
                self.snapshot_failed(&snapshot, attempt, reason, out);
            }
            Event::CloneDone { environment, attempt } => self.clone_done(&environment, attempt, out),
            Event::CloneFailed { environment, attempt, reason } => {
                self.clone_failed(now, &environment, attempt, reason, out);
            }
            Event::ServersStopped { environment } => self.servers_stopped(&environment, out),
        }
    }

    /// Does what follows by itself from what has just changed.
    fn settle(&mut self, now: Timestamp, before: &crate::RouteTable, out: &mut Outcome) {
        self.advance_drains(now, out);
        self.advance_rollouts(now, out);
        self.send_all_away(now, out);
        self.retire_spare(now, out);
        let after = self.table();
        if after != *before {
            self.rows.routing.generation = self.rows.routing.generation.next();
            out.changes.insert(Change::Routing);
            // First, so that the gateways have it before anyone waits for their word on it.
            out.effects.insert(0, Effect::PublishTable(self.table()));
        }
    }

    fn occupancy(&mut self, now: Timestamp, report: OccupancyReport, out: &mut Outcome) {
        self.count_departures(now, &report.departures, out);
        self.observed.occupancy = Some(OccupancyReport { departures: Vec::new(), ..report });
    }

    /// The environment of this id.
    ///
    /// # Errors
    /// [`crate::Reason::NotFound`].
    pub fn environment(&self, id: &EnvironmentId) -> Result<&Environment, Refused> {
        self.rows.environments.get(id).ok_or_else(|| Refused::not_found("environment", id))
    }

    /// The environment that takes new sessions (also while the realm is frozen).
    #[must_use]
    pub fn accepting(&self) -> Option<&Environment> {
        self.rows.routing.accepting.as_ref().and_then(|id| self.rows.environments.get(id))
    }

    /// The environment with this label.
    #[must_use]
    pub fn labelled(&self, label: Label) -> Option<&Environment> {
        self.rows.environments.values().find(|e| e.label == Some(label))
    }

    pub(crate) fn is_accepting(&self, id: &EnvironmentId) -> bool {
        self.rows.routing.accepting.as_ref() == Some(id)
    }

    /// Changes one environment's row; every change takes its next generation.
    pub(crate) fn edit_environment(
        &mut self,
        id: &EnvironmentId,
        out: &mut Outcome,
        edit: impl FnOnce(&mut Environment),
    ) {
        if let Some(environment) = self.rows.environments.get_mut(id) {
            edit(environment);
            environment.generation = environment.generation.next();
            out.changes.insert(Change::Environment(id.clone()));
        }
    }

    /// Moves an environment to another phase, and writes that down.
    pub(crate) fn set_phase(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        phase: Phase,
        reason: &str,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) {
        let Some(before) = self.rows.environments.get(id).map(|e| e.phase.kind()) else { return };
        let after = phase.kind();
        self.edit_environment(id, out, |e| {
            e.phase = phase;
            e.since = now;
            reason.clone_into(&mut e.reason);
        });
        if before != after {
            out.audit(who, "environment.phase", id, reason, before.as_str(), after.as_str());
        }
    }

    /// Gives `label` to one environment, and takes it from whoever had it.
    pub(crate) fn give_label(&mut self, id: &EnvironmentId, label: Label, who: Option<&RolloutId>, out: &mut Outcome) {
        if self.rows.environments.get(id).is_none_or(|e| e.label == Some(label)) {
            return;
        }
        let before = self.labelled(label).map(|e| e.id.clone());
        if let Some(before) = &before {
            self.edit_environment(before, out, |e| e.label = None);
        }
        self.edit_environment(id, out, |e| e.label = Some(label));
        let before = before.map_or_else(String::new, |id| id.to_string());
        out.audit(who, "environment.label", id, label.as_str(), before, id.as_str());
    }

    /// The servers that an environment shall have now.
    #[must_use]
    pub fn servers_wanted(&self, environment: &Environment) -> ServersWanted {
        ServersWanted {
            environment: environment.id.clone(),
            build: environment.build.clone(),
            fleets: environment.fleets.clone(),
            zones_from: environment.source.snapshot().cloned(),
            serve: environment.serves(),
            database: self.rows.spec.database.clone(),
        }
    }

    pub(crate) fn ensure_servers(&self, id: &EnvironmentId, out: &mut Outcome) {
        if let Some(environment) = self.rows.environments.get(id) {
            out.effects.push(Effect::EnsureServers(self.servers_wanted(environment)));
        }
    }
}

/// The effect that makes a clone, while it is being made.
pub(crate) fn clone_effect(environment: &Environment) -> Option<Effect> {
    match &environment.source {
        Source::Cloning { snapshot, realm, restore_database, attempt } => Some(Effect::CloneFrom {
            environment: environment.id.clone(),
            snapshot: snapshot.clone(),
            source: realm.clone(),
            restore_database: *restore_database,
            attempt: *attempt,
        }),
        Source::Empty | Source::Cloned { .. } => None,
    }
}
