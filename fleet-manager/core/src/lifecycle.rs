//! How an environment moves through its life up to `Ready`: create, stage, verify, and what its servers' state makes of
//! it. Drawn in [`crate::environment`].

use tidegate_types::{EnvironmentId, FleetName, RolloutId, Timestamp};

use crate::effect::Effect;
use crate::environment::{Environment, Fleet, Label, Phase, RouteServer, Source};
use crate::input::Check;
use crate::observe::{EnvironmentObservation, ServerObservation, ServerState};
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};
use crate::rollout::StepName;
use crate::spec::BuildInfo;
use crate::staging::{Verdict, is_wrong, judge};

/// Most environments of a realm that are not retired: each is a set of processes, and the table names them all.
pub const MAX_LIVE_ENVIRONMENTS: usize = 32;

/// Most servers of a fleet.
pub const MAX_REPLICAS: u32 = 1000;

impl Realm {
    pub(crate) fn create_environment(
        &mut self,
        now: Timestamp,
        id: EnvironmentId,
        build: BuildInfo,
        fleets: Vec<Fleet>,
        label: Option<Label>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        if label == Some(Label::Blue)
            && let Some(blue) = self.labelled(Label::Blue)
        {
            return Err(Refused::new(
                Reason::AlreadyExists,
                format!("environment {} is blue", blue.id),
                "create it as green and roll it out, or relabel later",
            ));
        }
        let fleets = self.check_new(&id, fleets)?;
        self.insert_environment(Environment::new(id.clone(), build, fleets, Source::Empty, now), None, out);
        if let Some(label) = label {
            self.give_label(&id, label, None, out);
        }
        out.reply = Reply::Environment(id);
        Ok(())
    }

    /// Checks what a new environment is made of; no fleets means those of blue, else of the accepting one.
    pub(crate) fn check_new(&self, id: &EnvironmentId, fleets: Vec<Fleet>) -> Result<Vec<Fleet>, Refused> {
        if self.rows.environments.contains_key(id) {
            return Err(Refused::new(
                Reason::AlreadyExists,
                format!("environment {id} exists"),
                "choose another id, or use the one that exists",
            ));
        }
        let live = self.rows.environments.values().filter(|e| !matches!(e.phase, Phase::Retired { .. })).count();
        if live >= MAX_LIVE_ENVIRONMENTS {
            return Err(Refused::new(
                Reason::TooMany,
                format!("the realm has {live} environments that are not retired"),
                "retire those that nobody needs",
            ));
        }
        let fleets = if fleets.is_empty() {
            let model = self.labelled(Label::Blue).or_else(|| self.accepting());
            model.map(|e| e.fleets.clone()).unwrap_or_default()
        } else {
            fleets
        };
        check_fleets(&fleets)?;
        Ok(fleets)
    }

    pub(crate) fn insert_environment(&mut self, environment: Environment, who: Option<&RolloutId>, out: &mut Outcome) {
        let id = environment.id.clone();
        let build = environment.build.version.to_string();
        self.rows.environments.insert(id.clone(), environment);
        out.changes.insert(Change::Environment(id.clone()));
        out.audit(who, "environment.create", &id, build, "", Phase::Provisioning.kind().as_str());
    }

    /// Starts the servers and loads everything. Repeating it changes nothing.
    pub(crate) fn stage(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        match environment.phase {
            Phase::Staging | Phase::Staged => {}
            Phase::Provisioning | Phase::Failed => {
                if matches!(environment.source, Source::Cloning { .. }) {
                    return Err(Refused::new(
                        Reason::NotReady,
                        format!("environment {id} is still being made from its snapshot"),
                        "stage it once that is done",
                    ));
                }
                // What was seen of servers of an attempt that failed says nothing about this one.
                self.observed.servers.remove(id);
                self.set_phase(now, id, Phase::Staging, "", who, out);
                self.ensure_servers(id, out);
            }
            Phase::Verifying { .. }
            | Phase::Ready
            | Phase::Active
            | Phase::Draining
            | Phase::Drained
            | Phase::Retired { .. } => return Err(environment.wrong_phase("stage")),
        }
        out.reply = Reply::Environment(id.clone());
        Ok(())
    }

    /// Starts the smoke tests. Repeating it changes nothing.
    pub(crate) fn verify(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        match environment.phase {
            Phase::Verifying { .. } | Phase::Ready => {}
            Phase::Staged => {
                let attempt = environment.verify_attempts + 1;
                self.set_phase(now, id, Phase::Verifying { attempt }, "", who, out);
                self.edit_environment(id, out, |e| e.verify_attempts = attempt);
                out.effects.push(Effect::RunSmoke { environment: id.clone(), attempt });
            }
            Phase::Provisioning
            | Phase::Staging
            | Phase::Active
            | Phase::Draining
            | Phase::Drained
            | Phase::Retired { .. }
            | Phase::Failed => return Err(environment.wrong_phase("verify")),
        }
        out.reply = Reply::Environment(id.clone());
        Ok(())
    }

    pub(crate) fn smoke_done(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        attempt: u32,
        checks: &[Check],
        out: &mut Outcome,
    ) {
        // An answer to a question that nobody asks any more: late, or doubled.
        if self.rows.environments.get(id).is_none_or(|e| e.phase != (Phase::Verifying { attempt })) {
            return;
        }
        self.note_checks(id, StepName::Verify, checks, out);
        match checks.iter().find(|c| c.stops()) {
            Some(failed) => {
                let reason = format!("smoke test {} failed: {}", failed.name, failed.why);
                self.fail_environment(now, id, &reason, out);
            }
            None if checks.is_empty() => self.fail_environment(now, id, "no smoke test was run", out),
            None => self.set_phase(now, id, Phase::Ready, "", None, out),
        }
    }

    pub(crate) fn fail_environment(&mut self, now: Timestamp, id: &EnvironmentId, reason: &str, out: &mut Outcome) {
        self.set_phase(now, id, Phase::Failed, reason, None, out);
        out.effects.push(Effect::StopServers { environment: id.clone() });
    }

    pub(crate) fn servers_observed(&mut self, now: Timestamp, seen: EnvironmentObservation, out: &mut Outcome) {
        let id = seen.environment.clone();
        let Some(environment) = self.rows.environments.get_mut(&id) else { return };
        if environment.wants_servers() {
            let servers = seen.servers.iter().filter_map(|s| Some((s.id.clone(), routed(environment, s)?))).collect();
            if environment.servers != servers {
                environment.servers = servers;
                out.changes.insert(Change::Environment(id.clone()));
            }
        }
        let verdict = judge(environment, Some(&seen));
        let phase = environment.phase.clone();
        self.observed.servers.insert(id.clone(), seen);
        match (phase, verdict) {
            (Phase::Staging, Verdict::Complete) => {
                self.set_phase(now, &id, Phase::Staged, "", None, out);
                self.ensure_servers(&id, out);
            }
            (Phase::Staging | Phase::Staged | Phase::Verifying { .. } | Phase::Ready, Verdict::Wrong(why)) => {
                self.fail_environment(now, &id, &why, out);
            }
            // An active environment keeps its players; a wrong server of it is not routed to (see `routed`).
            (_, Verdict::Complete | Verdict::Waiting(_) | Verdict::Wrong(_)) => {}
        }
    }

    pub(crate) fn servers_stopped(&mut self, id: &EnvironmentId, out: &mut Outcome) {
        if self.rows.environments.get(id).is_some_and(|e| e.phase == (Phase::Retired { stopped: false })) {
            self.edit_environment(id, out, |e| {
                e.phase = Phase::Retired { stopped: true };
                e.servers.clear();
            });
            self.observed.servers.remove(id);
        }
    }

    pub(crate) fn scale(
        &mut self,
        id: &EnvironmentId,
        name: &FleetName,
        replicas: u32,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        if matches!(environment.phase, Phase::Retired { .. }) {
            return Err(environment.wrong_phase("scale"));
        }
        let Some(fleet) = environment.fleets.iter().find(|f| f.name == *name) else {
            return Err(Refused::not_found(&format!("fleet of environment {id}:"), name));
        };
        check_replicas(name, replicas)?;
        let before = fleet.replicas;
        if before != replicas {
            self.edit_environment(id, out, |e| {
                e.fleets.iter_mut().filter(|f| f.name == *name).for_each(|f| f.replicas = replicas);
            });
            out.audit(None, "fleet.scale", format!("{id}/{name}"), "", before.to_string(), replicas.to_string());
            if self.rows.environments.get(id).is_some_and(Environment::wants_servers) {
                self.ensure_servers(id, out);
            }
        }
        out.reply = Reply::Environment(id.clone());
        Ok(())
    }

    /// When staging or verifying has taken too long. Time in which nobody watched does not count.
    pub(crate) fn environment_timeout(&self, environment: &Environment) -> Option<Timestamp> {
        let limits = &self.rows.spec.limits;
        let since = self.observed.awake.map_or(environment.since, |awake| environment.since.max(awake));
        match environment.phase {
            Phase::Staging => {
                let rollout = self.rollout_needing(&environment.id).and_then(|r| r.spec.stage_timeout);
                Some(since + rollout.unwrap_or(limits.stage))
            }
            Phase::Verifying { .. } => Some(since + limits.verify),
            Phase::Provisioning
            | Phase::Staged
            | Phase::Ready
            | Phase::Active
            | Phase::Draining
            | Phase::Drained
            | Phase::Retired { .. }
            | Phase::Failed => None,
        }
    }

    pub(crate) fn time_out_environments(&mut self, now: Timestamp, out: &mut Outcome) {
        let late: Vec<EnvironmentId> = self
            .rows
            .environments
            .values()
            .filter(|e| self.environment_timeout(e).is_some_and(|at| at <= now))
            .map(|e| e.id.clone())
            .collect();
        for id in late {
            let why = match judge(&self.rows.environments[&id], self.observed.servers.get(&id)) {
                Verdict::Waiting(why) | Verdict::Wrong(why) => why,
                Verdict::Complete => "the smoke tests did not answer".to_owned(),
            };
            let reason = format!("not ready in time: {why}");
            self.fail_environment(now, &id, &reason, out);
        }
    }
}

fn check_replicas(name: &FleetName, replicas: u32) -> Result<(), Refused> {
    if (1..=MAX_REPLICAS).contains(&replicas) {
        return Ok(());
    }
    Err(Refused::new(
        Reason::Invalid,
        format!("fleet {name} cannot have {replicas} servers"),
        format!("choose 1 to {MAX_REPLICAS}"),
    ))
}

fn check_fleets(fleets: &[Fleet]) -> Result<(), Refused> {
    if fleets.is_empty() {
        return Err(Refused::new(Reason::Invalid, "an environment needs at least one fleet", "name its fleets"));
    }
    for (index, fleet) in fleets.iter().enumerate() {
        check_replicas(&fleet.name, fleet.replicas)?;
        if fleet.capacity == 0 {
            let message = format!("fleet {} has servers without room for a player", fleet.name);
            return Err(Refused::new(Reason::Invalid, message, "give its servers a capacity"));
        }
        if fleets[..index].iter().any(|f| f.name == fleet.name) {
            let message = format!("there are two fleets {}", fleet.name);
            return Err(Refused::new(Reason::Invalid, message, "give each fleet its own name"));
        }
    }
    Ok(())
}

/// How a server stands in the routing table; `None`: not at all.
fn routed(environment: &Environment, server: &ServerObservation) -> Option<RouteServer> {
    let known = environment.servers.get(&server.id);
    let now = |ready: bool| {
        Some(RouteServer {
            id: server.id.clone(),
            instance: server.instance?,
            address: server.address.clone()?,
            tls_name: server.tls_name.clone(),
            zones: server.zones.clone(),
            instance_kinds: server.instance_kinds.clone(),
            capacity: server.capacity,
            ready: ready && !is_wrong(environment, server),
        })
    };
    match server.state {
        ServerState::Serving => now(true),
        ServerState::Loaded => now(false),
        // The manager does not hear it, but the gateways may: the control plane is off the player path.
        ServerState::Unreachable => known.cloned(),
        // Its players wait for it to come back; the next run of it will be another instance.
        ServerState::Starting | ServerState::Loading | ServerState::Exited | ServerState::Stopping => {
            known.cloned().map(|s| RouteServer { ready: false, ..s })
        }
    }
}
