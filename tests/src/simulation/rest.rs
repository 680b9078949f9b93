//! The fair end of a history: faults stop, somebody resumes what is paused and empties what drains without a deadline.
//! Then everything that was begun must come to its end.

use std::time::Duration;

use fleet_core::Command;
use fleet_core::rollout::RolloutState;
use tidegate_types::{EnvironmentId, RolloutId};

use super::joint::Joint;

/// Rounds in which an operator looks after what is paused.
const ROUNDS: usize = 12;

/// Slices of a round, of 250 ms each: longer than any limit of a step.
const SLICES: usize = 240;

/// Longer than the grace time and than any step of a hand-over.
const CALM: usize = 60;

impl Joint {
    pub(super) fn come_to_rest(&mut self) {
        self.edge.note(|| "* the faults stop".to_owned());
        self.weather.faults = false;
        self.run.crash_at = None;
        self.run.world.calm();
        self.edge.relent();
        for _ in 0..ROUNDS {
            self.order(Command::Freeze { frozen: false, reason: String::new() });
            for rollout in self.rollouts(|state| state == RolloutState::Paused) {
                self.order(Command::ResumeRollout { rollout });
            }
            for environment in self.draining() {
                let deadline = Duration::from_secs(1);
                self.order(Command::ForceDrain { environment, deadline, ignore_extensions: true });
            }
            for _ in 0..SLICES {
                let moving = self.rollouts(|state| !state.is_terminal() && state != RolloutState::Paused);
                if self.first_violation().is_some() || (moving.is_empty() && self.draining().is_empty()) {
                    break;
                }
                self.calm_slice();
            }
            if self.first_violation().is_some() {
                return;
            }
            if self.rollouts(|state| !state.is_terminal()).is_empty() && self.draining().is_empty() {
                break;
            }
        }
        for _ in 0..CALM {
            self.calm_slice();
        }
        self.check_rest();
    }

    fn calm_slice(&mut self) {
        self.edge.mend();
        self.pass(250);
    }

    fn rollouts(&self, which: impl Fn(RolloutState) -> bool) -> Vec<RolloutId> {
        self.run.realm.rows.rollouts.values().filter(|r| which(r.state)).map(|r| r.id.clone()).collect()
    }

    /// Rule 7 and the rest of rule 5: nothing is stuck, nobody is left behind, and the manager knows the truth.
    fn check_rest(&mut self) {
        for environment in self.draining() {
            let why = self.run.realm.occupancy_of(&environment);
            self.rules.break_rule(format!("{environment} does not become empty: {why:?}"));
        }
        for rollout in self.rollouts(|state| !state.is_terminal()) {
            let rollout = &self.run.realm.rows.rollouts[&rollout];
            self.rules.break_rule(format!("rollout {} does not end: {:?}", rollout.id, rollout.current()));
        }
        self.edge.check_rest();
        let accepting = self.run.realm.rows.routing.accepting.clone();
        let elsewhere: Vec<EnvironmentId> =
            self.edge.inside().into_keys().filter(|id| Some(id) != accepting.as_ref()).collect();
        if !elsewhere.is_empty() {
            self.rules.break_rule(format!("players are left behind in {elsewhere:?}"));
        }
        let known = self.registry.sessions();
        let truth = self.edge.sessions().into_iter().collect();
        if known != truth {
            self.rules.break_rule(format!("the manager knows of {known:?}, there are {truth:?}"));
        }
        if self.registry.acknowledged() != self.run.realm.rows.routing.generation {
            self.rules.break_rule("the gateway does not reach the last generation".to_owned());
        }
        self.seen.rollouts_completed += self.rollouts(|state| state == RolloutState::Completed).len() as u64;
        self.seen.rollouts_undone += self.rollouts(|state| state != RolloutState::Completed).len() as u64;
        let drains = self.run.realm.rows.drains.values();
        let ended = drains.filter(|d| d.state == fleet_core::drain::DrainState::Completed);
        self.seen.drained += ended.count() as u64;
    }
}
