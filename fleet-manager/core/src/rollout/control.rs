//! An operator's hand on a rollout: start, pause, resume, abort; and what other changes make of it.

use tidegate_types::{EnvironmentId, Generation, RolloutId, Timestamp};

use crate::environment::{Label, Phase};
use crate::flip::compatible;
use crate::input::StartRollout;
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};
use crate::rollback::Choice;
use crate::rollout::{Rollout, RolloutState, Step, StepName, StepState};

impl Realm {
    /// The rollout that is on its way to a flip; there is at most one.
    #[must_use]
    pub fn rollout_before_flip(&self) -> Option<&Rollout> {
        self.rows.rollouts.values().find(|r| !r.state.is_terminal() && r.flip.is_none())
    }

    /// The rollout that still needs this environment.
    pub(crate) fn rollout_needing(&self, id: &EnvironmentId) -> Option<&Rollout> {
        self.rows.rollouts.values().find(|r| {
            let superseded = r.superseded_by.is_some();
            let blue = r.blue.as_ref() == Some(id) && !superseded;
            let green = r.green == *id && !superseded;
            !r.state.is_terminal() && (blue || green || r.next_green == *id)
        })
    }

    pub(crate) fn start_rollout(
        &mut self,
        now: Timestamp,
        start: StartRollout,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let StartRollout { id, spec, green, snapshot, next_green } = start;
        out.reply = Reply::Rollout(id.clone());
        if let Some(rollout) = self.rows.rollouts.get(&id) {
            if rollout.spec == spec {
                return Ok(());
            }
            return Err(Refused::new(
                Reason::AlreadyExists,
                format!("rollout {id} does something else"),
                "choose another id",
            ));
        }
        spec.drain.check()?;
        if let Some(rollout) = self.rollout_before_flip() {
            return Err(Refused::new(
                Reason::RolloutRunning,
                format!("rollout {} has not flipped yet", rollout.id),
                "let it flip, or abort it first",
            ));
        }
        let Some(blue) = self.rows.routing.accepting.clone() else {
            return Err(Refused::new(
                Reason::NothingAccepting,
                "the realm has no accepting environment to roll from",
                "create one, stage it, verify it and flip to it first",
            ));
        };
        let rollout = Rollout {
            id: id.clone(),
            state: RolloutState::Running,
            steps: StepName::ALL.into_iter().map(Step::pending).collect(),
            blue: Some(blue.clone()),
            green,
            next_green,
            snapshot,
            flip: None,
            flip_confirm_us: None,
            flip_confirmed: None,
            superseded_by: None,
            reason: String::new(),
            started: now,
            ended: None,
            generation: Generation(1),
            spec,
        };
        let build = rollout.spec.build.version.to_string();
        let reason = rollout.spec.reason.clone();
        self.rows.rollouts.insert(id.clone(), rollout);
        out.changes.insert(Change::Rollout(id.clone()));
        out.audit(None, "rollout.start", &id, reason, blue.as_str(), build);
        Ok(())
    }

    fn live_rollout(&self, id: &RolloutId) -> Result<&Rollout, Refused> {
        let rollout = self.rows.rollouts.get(id).ok_or_else(|| Refused::not_found("rollout", id))?;
        if rollout.state.is_terminal() {
            return Err(Refused::new(
                Reason::RolloutEnded,
                format!("rollout {id} is {}", rollout.state.as_str()),
                "start another one",
            ));
        }
        Ok(rollout)
    }

    pub(crate) fn pause_rollout(&mut self, id: &RolloutId, reason: &str, out: &mut Outcome) -> Result<(), Refused> {
        out.reply = Reply::Rollout(id.clone());
        match self.live_rollout(id)?.state {
            RolloutState::Running => {
                let reason = format!("paused: {reason}");
                self.edit_rollout(id, out, |r| {
                    r.state = RolloutState::Paused;
                    r.reason.clone_from(&reason);
                });
                out.audit(None, "rollout.pause", id, reason, "running", "paused");
                Ok(())
            }
            RolloutState::Paused => Ok(()),
            RolloutState::Aborting { .. }
            | RolloutState::Completed
            | RolloutState::Failed
            | RolloutState::RolledBack => Err(being_aborted(id)),
        }
    }

    pub(crate) fn resume_rollout(&mut self, id: &RolloutId, out: &mut Outcome) -> Result<(), Refused> {
        out.reply = Reply::Rollout(id.clone());
        match self.live_rollout(id)?.state {
            RolloutState::Running => Ok(()),
            RolloutState::Paused => {
                self.edit_rollout(id, out, |r| {
                    r.state = RolloutState::Running;
                    r.reason.clear();
                    r.steps
                        .iter_mut()
                        .filter(|s| s.state == StepState::Failed)
                        .for_each(|s| s.state = StepState::Pending);
                });
                self.observed.stable.remove(id);
                out.audit(None, "rollout.resume", id, "", "paused", "running");
                Ok(())
            }
            RolloutState::Aborting { .. }
            | RolloutState::Completed
            | RolloutState::Failed
            | RolloutState::RolledBack => Err(being_aborted(id)),
        }
    }

    pub(crate) fn abort_rollout(
        &mut self,
        now: Timestamp,
        id: &RolloutId,
        reason: &str,
        choice: Choice,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        out.reply = Reply::Rollout(id.clone());
        let rollout = self.live_rollout(id)?;
        if matches!(rollout.state, RolloutState::Aborting { .. }) {
            return Ok(());
        }
        let reason = format!("aborted: {reason}");
        if rollout.flip.is_none() {
            self.fail_before_flip(now, id, &reason, out);
            return Ok(());
        }
        if rollout.superseded_by.is_some() {
            self.skip_rest(now, id, &reason, out);
            self.end_rollout(now, id, RolloutState::Completed, &reason, out);
            return Ok(());
        }
        if choice == Choice::Freeze {
            return Err(Refused::new(
                Reason::Invalid,
                "freezing is not taking back",
                "pause the rollout and roll back with the choice `freeze`, or abort with another choice",
            ));
        }
        let (green, blue) = (rollout.green.clone(), rollout.blue.clone());
        // Its own flip waits for the gateways: it is taken back as soon as they have spoken.
        let flipped_back = !self.rows.routing.flip_awaits();
        if let Some(blue) = &blue {
            compatible(self.environment(&green)?, self.environment(blue)?)?;
        }
        if flipped_back {
            self.roll_back(now, blue, choice, &reason, Some(id), out)?;
        }
        self.begin_abort(id, &green, choice, flipped_back, &reason, out);
        Ok(())
    }

    fn begin_abort(
        &mut self,
        id: &RolloutId,
        green: &EnvironmentId,
        choice: Choice,
        flipped_back: bool,
        reason: &str,
        out: &mut Outcome,
    ) {
        self.edit_rollout(id, out, |r| {
            r.state = RolloutState::Aborting { choice, flipped_back };
            r.superseded_by = None;
            reason.clone_into(&mut r.reason);
        });
        out.audit(Some(id), "rollout.abort", id, reason, green.as_str(), choice.as_str());
    }

    /// Ends an abort: traffic goes back once the forward flip has been answered, and it is over once that has.
    pub(crate) fn advance_abort(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) {
        let rollout = &self.rows.rollouts[id];
        let RolloutState::Aborting { choice, flipped_back } = rollout.state else { return };
        if self.rows.routing.flip_awaits() {
            return;
        }
        let (reason, blue, green) = (rollout.reason.clone(), rollout.blue.clone(), rollout.green.clone());
        if !flipped_back {
            match self.roll_back(now, blue, choice, &reason, Some(id), out) {
                Ok(_) => self.edit_rollout(id, out, |r| {
                    r.state = RolloutState::Aborting { choice, flipped_back: true };
                }),
                Err(refused) => {
                    let reason = format!("{reason}, but {}: {}", refused.message, refused.what_to_do);
                    self.edit_rollout(id, out, |r| {
                        r.state = RolloutState::Paused;
                        r.reason = reason;
                    });
                }
            }
            return;
        }
        self.undo_steps(now, id, out);
        // A next green that was made for this rollout is nobody's any more.
        let next = self.rows.rollouts[id].next_green.clone();
        if self.rows.environments.get(&next).is_some_and(|e| !e.was_active && !matches!(e.phase, Phase::Retired { .. }))
        {
            self.retire_now(now, &next, "its rollout was rolled back", Some(id), out);
        }
        if self.rows.environments.get(&green).is_some_and(|e| e.label == Some(Label::Green)) {
            self.edit_environment(&green, out, |e| e.label = None);
        }
        self.end_rollout(now, id, RolloutState::RolledBack, &reason, out);
    }

    fn undo_steps(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) {
        self.skip_rest(now, id, "the rollout was rolled back", out);
        self.edit_rollout(id, out, |r| {
            for step in &mut r.steps {
                let undoable = matches!(step.name, StepName::Flip | StepName::Relabel | StepName::StageNext);
                if undoable && step.state == StepState::Done {
                    step.state = StepState::Undone;
                }
            }
        });
    }

    /// An operator rolled `from` back: a rollout that brought it is rolled back with it.
    pub(crate) fn rollouts_rolled_back(
        &mut self,
        from: &EnvironmentId,
        choice: Choice,
        reason: &str,
        out: &mut Outcome,
    ) {
        let ids: Vec<RolloutId> = self
            .rows
            .rollouts
            .values()
            .filter(|r| r.green == *from && r.flip.is_some() && !r.state.is_terminal())
            .map(|r| r.id.clone())
            .collect();
        for id in ids {
            self.begin_abort(&id, from, choice, true, &format!("rolled back: {reason}"), out);
        }
    }

    /// Nobody is moved and nobody comes in: a rollout whose green it is goes no further until someone has decided.
    pub(crate) fn rollouts_frozen(&mut self, reason: &str, out: &mut Outcome) {
        let accepting = self.rows.routing.accepting.clone();
        let ids: Vec<RolloutId> = self
            .rows
            .rollouts
            .values()
            .filter(|r| r.state == RolloutState::Running && Some(&r.green) == accepting.as_ref())
            .map(|r| r.id.clone())
            .collect();
        for id in ids {
            self.edit_rollout(&id, out, |r| {
                r.state = RolloutState::Paused;
                r.reason = format!("frozen: {reason} (end the freeze and resume, or abort)");
            });
            out.audit(None, "rollout.pause", &id, reason, "running", "paused");
        }
    }

    /// `from` stops being the accepting one: a rollout whose green it is will not make it blue.
    pub(crate) fn supersede_rollouts(
        &mut self,
        from: &EnvironmentId,
        to: &EnvironmentId,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) {
        let ids: Vec<RolloutId> = self
            .rows
            .rollouts
            .values()
            .filter(|r| r.green == *from && r.flip.is_some() && !r.state.is_terminal() && Some(&r.id) != who)
            .map(|r| r.id.clone())
            .collect();
        for id in ids {
            self.edit_rollout(&id, out, |r| {
                r.superseded_by = Some(to.clone());
                // Nothing but watching its drain is left to do, and nobody has to say that it may.
                if r.state == RolloutState::Paused {
                    r.state = RolloutState::Running;
                }
            });
        }
    }

    /// The gateways confirmed a flip: the rollout that made it keeps the figures.
    pub(crate) fn note_confirmed(
        &mut self,
        now: Timestamp,
        generation: Generation,
        confirm_us: u64,
        out: &mut Outcome,
    ) {
        let id = self.rows.rollouts.values().find(|r| r.flip == Some(generation)).map(|r| r.id.clone());
        if let Some(id) = id {
            self.edit_rollout(&id, out, |r| {
                r.flip_confirmed = Some(now);
                r.flip_confirm_us = Some(confirm_us);
            });
        }
    }
}

fn being_aborted(id: &RolloutId) -> Refused {
    Refused::new(Reason::WrongPhase, format!("rollout {id} is being taken back"), "wait for its end")
}
