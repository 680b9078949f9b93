//! The flip: new sessions go to another environment. One compare-and-set of the route generation.
//!
//! Every way to flip (an operator, a rollout, a rollback) asks [`Realm::may_flip`] for a [`FlipPermit`], and only a permit
//! can be applied: nothing becomes accepting unchecked.

use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, GatewayId, Generation, RolloutId, Timestamp};

use crate::drain::{Drain, DrainState};
use crate::effect::Effect;
use crate::environment::{Environment, Label, Phase};
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};
use crate::routing::{FlipRecord, FlipState};
use crate::staging::{Verdict, judge};

/// Which way a flip goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To what has not had the players yet (or is kept warm).
    Forward,
    /// Back: freeze windows do not hold it up, and an environment that still drains may take players again.
    Back,
}

/// The right to make one environment the accepting one. Only [`Realm::may_flip`] makes it.
#[derive(Debug)]
pub(crate) struct FlipPermit {
    to: EnvironmentId,
}

impl Realm {
    pub(crate) fn flip(
        &mut self,
        now: Timestamp,
        to: &EnvironmentId,
        if_generation: Option<Generation>,
        confirm: Option<Duration>,
        reason: String,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        self.expect_route_generation(if_generation)?;
        let permit = self.may_flip(now, to, Direction::Forward)?;
        if let Some(rollout) = self.rollout_before_flip() {
            return Err(Refused::new(
                Reason::RolloutRunning,
                format!("rollout {} has not flipped yet", rollout.id),
                "let it flip, or abort it first",
            ));
        }
        let generation = self.apply_flip(now, permit, confirm, reason, None, out);
        out.reply = Reply::Flip(generation);
        Ok(())
    }

    pub(crate) fn expect_route_generation(&self, expected: Option<Generation>) -> Result<(), Refused> {
        let generation = self.rows.routing.generation;
        match expected {
            Some(expected) if expected != generation => Err(Refused::new(
                Reason::GenerationMismatch,
                format!("the realm's route generation is {generation}, not {expected}"),
                "look at the routes again and repeat the call with their generation",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether new sessions may go to `to` now.
    pub(crate) fn may_flip(
        &self,
        now: Timestamp,
        to: &EnvironmentId,
        direction: Direction,
    ) -> Result<FlipPermit, Refused> {
        let target = self.environment(to)?;
        self.may_flip_at_all(now, to, direction)?;
        match (&target.phase, direction) {
            (Phase::Ready | Phase::Drained, _) | (Phase::Draining, Direction::Back) => {}
            (Phase::Draining, Direction::Forward) => {
                return Err(Refused::new(
                    Reason::Draining,
                    format!("environment {to} drains"),
                    "roll back to it, which says what happens to those on the other one",
                ));
            }
            (Phase::Retired { .. } | Phase::Failed, _) => return Err(target.wrong_phase("flip to")),
            (Phase::Provisioning | Phase::Staging | Phase::Staged | Phase::Verifying { .. } | Phase::Active, _) => {
                return Err(Refused::new(
                    Reason::NotReady,
                    format!("environment {to} is {}", target.phase.kind()),
                    "stage and verify it first",
                ));
            }
        }
        if let Some(from) = self.accepting() {
            compatible(from, target)?;
        }
        self.servers_ready(target)?;
        self.has_room(target)?;
        Ok(FlipPermit { to: to.clone() })
    }

    fn may_flip_at_all(&self, now: Timestamp, to: &EnvironmentId, direction: Direction) -> Result<(), Refused> {
        if let Some(flip) = self.rows.routing.flip.as_ref().filter(|_| self.rows.routing.flip_awaits()) {
            return Err(Refused::new(
                Reason::FlipInProgress,
                format!("the flip to {} (generation {}) waits for the gateways", flip.to, flip.generation),
                "wait for its answer; it takes a few seconds at most",
            ));
        }
        if self.is_accepting(to) {
            return Err(Refused::new(
                Reason::AlreadyAccepting,
                format!("environment {to} takes the new sessions already"),
                "nothing to do",
            ));
        }
        if direction == Direction::Back {
            return Ok(());
        }
        if let Some(frozen) = &self.rows.routing.frozen {
            return Err(Refused::new(
                Reason::Frozen,
                format!("the realm is frozen: {}", frozen.reason),
                "end the freeze first",
            ));
        }
        if let Some(window) = self.rows.spec.freeze_window(now) {
            return Err(Refused::new(
                Reason::FreezeWindow,
                format!("nothing may flip now: {}", window.reason),
                format!("wait {} s, until the freeze window is over", window.to.since(now).as_secs() + 1),
            ));
        }
        Ok(())
    }

    /// Every server that was never routed to must be right; of one that was, every place must have a ready server.
    fn servers_ready(&self, target: &Environment) -> Result<(), Refused> {
        let not_ready = |why: String| {
            let message = format!("environment {} is not complete: {why}", target.id);
            Refused::new(Reason::NotReady, message, "wait for its servers, or look at their logs")
        };
        if target.phase == Phase::Ready {
            match judge(target, self.observed.servers.get(&target.id)) {
                Verdict::Complete => {}
                Verdict::Waiting(why) | Verdict::Wrong(why) => return Err(not_ready(why)),
            }
            if let Some(server) = target.servers.values().find(|s| !s.ready) {
                return Err(not_ready(format!("server {} does not serve yet", server.id)));
            }
        }
        for place in target.places() {
            let served = target
                .servers
                .values()
                .any(|s| s.ready && (s.zones.contains(place) || s.instance_kinds.contains(place)));
            if !served {
                return Err(not_ready(format!("no ready server has {place}")));
            }
        }
        Ok(())
    }

    /// Those who are on the accepting environment will come, at the latest with their next login.
    fn has_room(&self, target: &Environment) -> Result<(), Refused> {
        let there = u64::from(self.observed.session_count(&target.id));
        let coming = self.accepting().map_or(0, |e| u64::from(self.observed.session_count(&e.id)));
        let room = target.ready_room();
        if room >= there + coming {
            return Ok(());
        }
        Err(Refused::new(
            Reason::NoCapacity,
            format!("environment {} has room for {room} players, and {} would come", target.id, there + coming),
            "scale its fleets up first",
        ))
    }

    /// Makes it so. Returns the generation that carries it.
    pub(crate) fn apply_flip(
        &mut self,
        now: Timestamp,
        permit: FlipPermit,
        confirm: Option<Duration>,
        reason: String,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Generation {
        let to = permit.to;
        let from = self.rows.routing.accepting.clone();
        let generation = self.rows.routing.generation.next();
        let confirm = confirm.unwrap_or(self.rows.spec.limits.confirm);
        let deadline = now + confirm;

        if let Some(from) = &from {
            self.set_phase(now, from, Phase::Draining, &format!("new sessions go to {to}"), who, out);
            let initial = self.observed.session_count(from);
            self.observed.departures.remove(from);
            self.observed.told.remove(from);
            self.rows.drains.insert(from.clone(), Drain::natural(from.clone(), now, initial, generation));
            out.changes.insert(Change::Drain(from.clone()));
            self.supersede_rollouts(from, &to, who, out);
        }
        if let Some(drain) = self.rows.drains.get_mut(&to).filter(|d| d.state.is_live()) {
            drain.state = DrainState::Cancelled;
            drain.ended = Some(now);
            out.changes.insert(Change::Drain(to.clone()));
        }
        self.set_phase(now, &to, Phase::Active, "", who, out);
        self.edit_environment(&to, out, |e| e.was_active = true);
        if self.labelled(Label::Blue).is_none() {
            self.give_label(&to, Label::Blue, who, out);
        }

        let before = from.as_ref().map_or_else(String::new, ToString::to_string);
        out.audit(who, "flip", &self.rows.id, reason.clone(), before, to.as_str());
        let routing = &mut self.rows.routing;
        routing.previous.clone_from(&from);
        routing.accepting = Some(to.clone());
        routing.frozen = None;
        routing.hold_pins = false;
        routing.leave_at_boundary.remove(&to);
        routing.flip = Some(FlipRecord {
            generation,
            from,
            to,
            at: now,
            confirm,
            state: FlipState::Awaiting { deadline },
            reason,
        });
        out.changes.insert(Change::Routing);
        out.effects.push(Effect::AwaitAcks { generation, deadline });
        generation
    }

    pub(crate) fn table_acked(
        &mut self,
        now: Timestamp,
        generation: Generation,
        missing: Vec<GatewayId>,
        confirm_us: u64,
        out: &mut Outcome,
    ) {
        // Late or doubled: about an older flip, or about one that is confirmed.
        let Some(flip) = self.rows.routing.flip.as_mut().filter(|f| f.generation == generation) else { return };
        if matches!(flip.state, FlipState::Confirmed { .. }) {
            return;
        }
        flip.state = if missing.is_empty() {
            FlipState::Confirmed { at: now, confirm_us }
        } else {
            // The flip stands. They are asked on, because a drain cannot end without their word.
            let deadline = now + flip.confirm;
            out.effects.push(Effect::AwaitAcks { generation, deadline });
            FlipState::Unconfirmed { missing, deadline }
        };
        out.changes.insert(Change::Routing);
        if matches!(flip.state, FlipState::Confirmed { .. }) {
            self.note_confirmed(now, generation, confirm_us, out);
        }
    }
}

impl Drain {
    /// The drain that every flip begins with: natural attrition for ever.
    pub(crate) fn natural(environment: EnvironmentId, now: Timestamp, initial: u32, generation: Generation) -> Self {
        Self {
            environment,
            state: DrainState::Running,
            policy: crate::drain::Policy::natural(),
            policy_given: false,
            cause: Cause::Drain,
            started: now,
            deadline: None,
            ignore_extensions: false,
            ended: None,
            initial,
            generation,
            departed: std::collections::BTreeMap::new(),
            notices_sent: std::collections::BTreeSet::new(),
            commands: 0,
        }
    }
}

/// Players who come from one must be able to live on the other.
pub(crate) fn compatible(from: &Environment, to: &Environment) -> Result<(), Refused> {
    if !to.build.reads_state_of(&from.build) {
        return Err(Refused::new(
            Reason::StateFormatUnreadable,
            format!(
                "build {} of environment {} cannot read player state of format {}, which {} writes",
                to.build.version, to.id, from.build.state_format_write, from.build.version
            ),
            "roll back with the choice `freeze`: nobody new comes in and nobody is moved, until a build that reads it is out",
        ));
    }
    if !to.build.shares_schema_with(&from.build) {
        return Err(Refused::new(
            Reason::SchemaIncompatible,
            format!("builds {} and {} have no database schema version in common", from.build.version, to.build.version),
            "register a build that works with both schema versions, and go by way of it",
        ));
    }
    Ok(())
}
