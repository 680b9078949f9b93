//! Asking the steps: which is next, what its answer means, how a rollout ends.

use tidegate_types::{EnvironmentId, RolloutId, Timestamp};

use crate::environment::Phase;
use crate::input::Check;
use crate::outcome::{Change, Outcome};
use crate::realm::Realm;
use crate::rollout::{Progress, Rollout, RolloutState, StepName, StepState};

/// Most steps that can end within one input: all of them, and the end itself.
const MOST_AT_ONCE: usize = 12;

impl Realm {
    pub(crate) fn advance_rollouts(&mut self, now: Timestamp, out: &mut Outcome) {
        let live: Vec<RolloutId> =
            self.rows.rollouts.values().filter(|r| !r.state.is_terminal()).map(|r| r.id.clone()).collect();
        for id in live {
            for _ in 0..MOST_AT_ONCE {
                if !self.advance_rollout(now, &id, out) {
                    break;
                }
            }
        }
    }

    /// Asks the current step once. True: it ended, ask the next one.
    fn advance_rollout(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> bool {
        let rollout = &self.rows.rollouts[id];
        match rollout.state {
            RolloutState::Completed | RolloutState::Failed | RolloutState::RolledBack => return false,
            RolloutState::Aborting { .. } => {
                self.advance_abort(now, id, out);
                return false;
            }
            RolloutState::Running | RolloutState::Paused => {}
        }
        let Some(step) = rollout.current() else {
            self.end_rollout(now, id, RolloutState::Completed, "", out);
            return false;
        };
        let name = step.name;
        if name > StepName::Drain
            && let Some(by) = rollout.superseded_by.clone()
        {
            self.end_superseded(now, id, &by, out);
            return false;
        }
        match step.state {
            StepState::Pending if rollout.state == RolloutState::Paused => return false,
            StepState::Pending => self.begin_step(now, id, name, out),
            StepState::Running => {}
            // Paused on it: an operator resumes or aborts.
            StepState::Failed | StepState::Done | StepState::Skipped | StepState::Undone => return false,
        }
        let progress = self.ask_step(now, id, name, out);
        self.note_progress(now, id, name, progress, out)
    }

    fn begin_step(&mut self, now: Timestamp, id: &RolloutId, name: StepName, out: &mut Outcome) {
        self.edit_rollout(id, out, |r| {
            if let Some(step) = r.step_mut(name) {
                step.state = StepState::Running;
                step.started.get_or_insert(now);
                step.ended = None;
                step.until = None;
                step.outcome.clear();
                step.attempts += 1;
            }
        });
        out.audit(Some(id), "rollout.step", id, name.as_str(), "pending", "running");
    }

    fn ask_step(&mut self, now: Timestamp, id: &RolloutId, name: StepName, out: &mut Outcome) -> Progress {
        match name {
            StepName::Preflight => self.step_preflight(now, id, out),
            StepName::Stage => self.step_stage(now, id, out),
            StepName::Verify => self.step_verify(now, id, out),
            StepName::Flip => self.step_flip(now, id, out),
            StepName::Drain => self.step_drain(now, id, out),
            StepName::VerifyStable => self.step_verify_stable(now, id),
            StepName::Relabel => self.step_relabel(id, out),
            StepName::Snapshot => self.step_snapshot(now, id, out),
            StepName::Clone => self.step_clone(now, id, out),
            StepName::StageNext => self.step_stage_next(now, id, out),
        }
    }

    fn note_progress(
        &mut self,
        now: Timestamp,
        id: &RolloutId,
        name: StepName,
        progress: Progress,
        out: &mut Outcome,
    ) -> bool {
        let (state, outcome) = match progress {
            Progress::Wait { outcome, until } => {
                let step = self.rows.rollouts[id].step(name);
                if step.is_some_and(|s| s.outcome != outcome || s.until != until) {
                    self.edit_step(id, name, out, |step| {
                        step.outcome = outcome;
                        step.until = until;
                    });
                }
                return false;
            }
            Progress::Done(outcome) => (StepState::Done, outcome),
            Progress::Skip(outcome) => (StepState::Skipped, outcome),
            Progress::Fail(outcome) => (StepState::Failed, outcome),
        };
        out.audit(Some(id), "rollout.step", id, format!("{}: {outcome}", name.as_str()), "running", word(state));
        self.edit_step(id, name, out, |step| {
            step.state = state;
            step.ended = Some(now);
            step.until = None;
            step.outcome.clone_from(&outcome);
        });
        if state != StepState::Failed {
            return true;
        }
        let reason = format!("{}: {outcome}", name.as_str());
        if self.rows.rollouts[id].flip.is_none() {
            self.fail_before_flip(now, id, &reason, out);
        } else {
            let reason = format!("{reason} (resume to try again, or abort to send the players back)");
            self.edit_rollout(id, out, |r| {
                r.state = RolloutState::Paused;
                r.reason = reason;
            });
        }
        false
    }

    /// Blue was never touched: green goes, the rollout has failed.
    pub(crate) fn fail_before_flip(&mut self, now: Timestamp, id: &RolloutId, reason: &str, out: &mut Outcome) {
        let green = self.rows.rollouts[id].green.clone();
        let retire = self.rows.environments.get(&green).is_some_and(|e| {
            !e.was_active && !matches!(e.phase, Phase::Retired { .. } | Phase::Active | Phase::Draining)
        });
        self.skip_rest(now, id, "the rollout failed", out);
        let mut reason = reason.to_owned();
        if retire {
            self.retire_now(now, &green, &reason, Some(id), out);
            reason.push_str(&format!("; environment {green} was retired"));
        }
        reason.push_str("; the players were never touched: remove the cause and start another rollout");
        self.end_rollout(now, id, RolloutState::Failed, &reason, out);
    }

    fn end_superseded(&mut self, now: Timestamp, id: &RolloutId, by: &EnvironmentId, out: &mut Outcome) {
        let reason = format!("superseded: new sessions go to {by} now");
        self.skip_rest(now, id, &reason, out);
        self.end_rollout(now, id, RolloutState::Completed, &reason, out);
    }

    /// Steps that are under way fail, those that have not begun are skipped.
    pub(crate) fn skip_rest(&mut self, now: Timestamp, id: &RolloutId, why: &str, out: &mut Outcome) {
        self.edit_rollout(id, out, |r| {
            for step in &mut r.steps {
                match step.state {
                    StepState::Pending => step.state = StepState::Skipped,
                    StepState::Running => step.state = StepState::Failed,
                    StepState::Done | StepState::Failed | StepState::Skipped | StepState::Undone => continue,
                }
                step.ended = step.started.map(|_| now);
                step.until = None;
                why.clone_into(&mut step.outcome);
            }
        });
    }

    pub(crate) fn end_rollout(
        &mut self,
        now: Timestamp,
        id: &RolloutId,
        state: RolloutState,
        reason: &str,
        out: &mut Outcome,
    ) {
        self.observed.stable.remove(id);
        self.edit_rollout(id, out, |r| {
            r.state = state;
            r.ended = Some(now);
            reason.clone_into(&mut r.reason);
        });
        out.audit(Some(id), "rollout.end", id, reason, "running", state.as_str());
    }

    /// Changes one rollout's row; every change takes its next generation.
    pub(crate) fn edit_rollout(&mut self, id: &RolloutId, out: &mut Outcome, edit: impl FnOnce(&mut Rollout)) {
        if let Some(rollout) = self.rows.rollouts.get_mut(id) {
            edit(rollout);
            rollout.generation = rollout.generation.next();
            out.changes.insert(Change::Rollout(id.clone()));
        }
    }

    pub(crate) fn edit_step(
        &mut self,
        id: &RolloutId,
        name: StepName,
        out: &mut Outcome,
        edit: impl FnOnce(&mut crate::rollout::Step),
    ) {
        self.edit_rollout(id, out, |r| {
            if let Some(step) = r.step_mut(name) {
                edit(step);
            }
        });
    }

    /// Keeps the results of the smoke tests with the rollout whose green was tested.
    pub(crate) fn note_checks(&mut self, green: &EnvironmentId, name: StepName, checks: &[Check], out: &mut Outcome) {
        let of = |r: &&Rollout| r.green == *green && !r.state.is_terminal();
        if let Some(id) = self.rows.rollouts.values().find(of).map(|r| r.id.clone()) {
            self.edit_step(&id, name, out, |step| step.checks = checks.to_vec());
        }
    }

    pub(crate) fn rollout_timeout(&self, rollout: &Rollout) -> Option<Timestamp> {
        if rollout.state != RolloutState::Running {
            return None;
        }
        rollout.current().filter(|s| s.state == StepState::Running)?.until
    }
}

const fn word(state: StepState) -> &'static str {
    match state {
        StepState::Pending => "pending",
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "failed",
        StepState::Skipped => "skipped",
        StepState::Undone => "undone",
    }
}

impl RolloutState {
    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Aborting { .. } => "aborting",
        }
    }
}
