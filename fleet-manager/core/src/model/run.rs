//! A realm and the truth beside it: applies inputs as the shell does, compares after each, and lets the manager die.

use std::time::Duration;

use tidegate_types::{EnvironmentId, RolloutId, Timestamp};

use crate::effect::Effect;
use crate::environment::{Label, Phase, PhaseKind};
use crate::input::{Command, Event, Input};
use crate::model::dice::Dice;
use crate::model::world::World;
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::{Realm, Rows};
use crate::refused::Refused;
use crate::rollout::RolloutState;

/// Time between two looks at the world.
const TICK: Duration = Duration::from_millis(250);

/// Most times the clock alone may want something at one moment; more is a loop.
const MOST_TIMEOUTS: usize = 50;

/// Where the manager dies while it handles one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before the rows are written: it never happened.
    BeforeWrite,
    /// After the rows are written, before any effect.
    BeforeEffects,
    /// After this many effects (all, if there are fewer).
    AfterEffects(usize),
}

/// A realm, what is stored of it, and the truth.
#[derive(Debug, Clone)]
pub struct Run {
    /// The realm.
    pub realm: Realm,
    /// The truth.
    pub world: World,
    /// What is stored: only what outcomes said has changed.
    pub stored: Rows,
    /// The clock.
    pub now: Timestamp,
    /// Dies at the outcome of this number that changes something, there.
    pub crash_at: Option<(u64, Crash)>,
    /// Outcomes so far that changed something.
    pub outcomes: u64,
    /// How often it died.
    pub crashes: u64,
    dice: Dice,
}

impl Run {
    /// From rows and a seed.
    #[must_use]
    pub fn new(rows: Rows, seed: u64) -> Self {
        Self {
            realm: Realm::load(rows.clone()),
            world: World::new(seed),
            stored: rows,
            now: Timestamp(1_000_000),
            crash_at: None,
            outcomes: 0,
            crashes: 0,
            dice: Dice::new(seed ^ 0x5EED),
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// What the realm refuses. That a refusal changes nothing is checked here.
    ///
    /// # Panics
    /// When a rule is broken.
    pub fn command(&mut self, command: Command) -> Result<Reply, Refused> {
        let before = self.realm.rows.clone();
        match self.realm.handle(self.now, Input::Command(command)) {
            Ok(outcome) => {
                let reply = outcome.reply.clone();
                self.take(&before, outcome);
                Ok(reply)
            }
            Err(refused) => {
                assert_eq!(before, self.realm.rows, "a refusal changed something: {refused}");
                Err(refused)
            }
        }
    }

    /// Tells the realm what happened.
    ///
    /// # Panics
    /// When a rule is broken.
    pub fn event(&mut self, event: Event) {
        let before = self.realm.rows.clone();
        let outcome = self.realm.handle(self.now, Input::Event(event)).expect("events are never refused");
        self.take(&before, outcome);
    }

    /// Lets a quarter of a second pass.
    ///
    /// # Panics
    /// When a rule is broken, or the realm's clock does not move on.
    pub fn tick(&mut self) {
        self.pass(self.now + TICK);
        let table = self.realm.table();
        self.world.greet(self.now, &table);
        for event in self.world.tick(self.now) {
            self.event(event);
        }
        self.check_empty();
    }

    /// It is `now`: what is due by the clock alone is done.
    ///
    /// # Panics
    /// When a rule is broken, or the realm's clock does not move on.
    pub fn pass(&mut self, now: Timestamp) {
        self.now = now;
        for n in 0.. {
            assert!(
                n < MOST_TIMEOUTS,
                "the realm wants the same moment again and again: {:?}",
                self.realm.poll_timeout()
            );
            if self.realm.poll_timeout().is_none_or(|at| self.now < at) {
                break;
            }
            let before = self.realm.rows.clone();
            let outcome = self.realm.handle_timeout(self.now);
            self.take(&before, outcome);
        }
    }

    /// Nobody may be where the realm counts nobody.
    ///
    /// # Panics
    /// When somebody is.
    pub fn check_empty(&self) {
        for environment in self.realm.rows.environments.values() {
            if matches!(environment.phase, Phase::Drained | Phase::Retired { .. }) {
                let inside = self.world.population(&environment.id);
                assert_eq!(inside, 0, "{} got players although it is {}", environment.id, environment.phase.kind());
            }
        }
        assert!(self.world.violations.is_empty(), "{:?}", self.world.violations);
    }

    /// Ticks until `until` holds, for ten minutes at most. True: it holds.
    pub fn wait(&mut self, until: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..2400 {
            if until(self) {
                return true;
            }
            self.tick();
        }
        until(self)
    }

    /// Waits until an environment is in this phase.
    pub fn wait_phase(&mut self, environment: &EnvironmentId, phase: PhaseKind) -> bool {
        self.wait(|run| run.phase(environment) == Some(phase))
    }

    /// Waits until a rollout ends or pauses, and says where it is.
    pub fn wait_rollout(&mut self, rollout: &RolloutId) -> Option<RolloutState> {
        let over = |run: &Self| {
            run.realm
                .rows
                .rollouts
                .get(rollout)
                .is_none_or(|r| r.state.is_terminal() || r.state == RolloutState::Paused)
        };
        self.wait(over);
        self.realm.rows.rollouts.get(rollout).map(|r| r.state)
    }

    /// An environment's phase.
    #[must_use]
    pub fn phase(&self, environment: &EnvironmentId) -> Option<PhaseKind> {
        self.realm.rows.environments.get(environment).map(|e| e.phase.kind())
    }

    /// The manager dies and comes back with what is stored.
    pub fn crash(&mut self) {
        self.crashes += 1;
        let sabotage = self.realm.sabotage;
        self.realm = Realm::load(self.stored.clone());
        self.realm.sabotage = sabotage;
        self.world.manager_died();
        for effect in self.realm.resume() {
            self.world.perform(self.now, effect);
        }
    }

    /// What the shell does with an outcome, and the place where it may die.
    fn take(&mut self, before: &Rows, outcome: Outcome) {
        self.check(before, &outcome);
        let Outcome { changes, effects, .. } = outcome;
        let mut crash = None;
        if !changes.is_empty() || !effects.is_empty() {
            self.outcomes += 1;
            crash = self.crash_at.take_if(|(at, _)| *at == self.outcomes).map(|(_, crash)| crash);
        }
        if crash == Some(Crash::BeforeWrite) {
            return self.crash();
        }
        for change in &changes {
            self.store(change);
        }
        assert_eq!(self.stored, self.realm.rows, "a change was not named in {changes:?}");
        let performed = match crash {
            None => usize::MAX,
            Some(Crash::BeforeWrite | Crash::BeforeEffects) => 0,
            Some(Crash::AfterEffects(n)) => n,
        };
        for effect in effects.into_iter().take(performed) {
            // Repeating an effect must do no harm.
            if self.dice.per_mille(50) && !matches!(effect, Effect::Notify { .. }) {
                self.world.perform(self.now, effect.clone());
            }
            self.world.perform(self.now, effect);
        }
        if crash.is_some() {
            self.crash();
        }
    }

    fn store(&mut self, change: &Change) {
        let rows = &self.realm.rows;
        match change {
            Change::Realm => self.stored.spec = rows.spec.clone(),
            Change::Routing => self.stored.routing = rows.routing.clone(),
            Change::Environment(id) => {
                self.stored.environments.insert(id.clone(), rows.environments[id].clone());
            }
            Change::Drain(id) => {
                self.stored.drains.insert(id.clone(), rows.drains[id].clone());
            }
            Change::Rollout(id) => {
                self.stored.rollouts.insert(id.clone(), rows.rollouts[id].clone());
            }
            Change::Snapshot(id) => {
                self.stored.snapshots.insert(id.clone(), rows.snapshots[id].clone());
            }
        }
    }

    /// The rules of this crate, after every input.
    fn check(&self, before: &Rows, outcome: &Outcome) {
        let rows = &self.realm.rows;
        if before == rows && outcome.effects.is_empty() {
            // As it was found right the last time.
            return;
        }
        self.check_accepting();
        for label in [Label::Blue, Label::Green] {
            let count = rows.environments.values().filter(|e| e.label == Some(label)).count();
            assert!(count <= 1, "{count} environments are {}", label.as_str());
        }

        let table = |rows: &Rows| Realm::load(rows.clone()).table();
        let (old, new) = (table(before), table(rows));
        assert!(new.generation >= old.generation, "the generation went back");
        assert!(new == old || new.generation > old.generation, "the table changed within a generation");
        let published = outcome.effects.iter().any(|e| matches!(e, Effect::PublishTable(t) if *t == new));
        assert!(new == old || published, "a new table was not published");

        for effect in &outcome.effects {
            if let Effect::MoveSessions { to, .. } = effect {
                assert_eq!(Some(to), rows.routing.accepting.as_ref(), "players are sent to where nobody new may come");
            }
        }
        for environment in rows.environments.values() {
            let was = before.environments.get(&environment.id).map(|e| e.phase.kind());
            self.check_move(was, &environment.id, &environment.phase);
        }
    }

    fn check_accepting(&self) {
        let rows = &self.realm.rows;
        let active: Vec<&EnvironmentId> =
            rows.environments.values().filter(|e| e.phase == Phase::Active).map(|e| &e.id).collect();
        let accepting: Vec<&EnvironmentId> = rows.routing.accepting.iter().collect();
        assert_eq!(active, accepting, "the active environment is the accepting one, and there is one");
        assert!(rows.routing.flip.is_none() || accepting.len() == 1, "after the first flip something accepts");
    }

    fn check_move(&self, was: Option<PhaseKind>, id: &EnvironmentId, phase: &Phase) {
        let is = phase.kind();
        if was == Some(is) {
            return;
        }
        let inside = self.world.population(id);
        match is {
            PhaseKind::Active => assert!(
                matches!(was, Some(PhaseKind::Ready | PhaseKind::Drained | PhaseKind::Draining)),
                "{id} was flipped to while {was:?}"
            ),
            PhaseKind::Drained => assert_eq!(inside, 0, "{id} counts as drained with players inside"),
            PhaseKind::Retired => assert_eq!(inside, 0, "{id} was retired with players inside"),
            PhaseKind::Failed => assert_eq!(inside, 0, "{id} failed with players inside"),
            PhaseKind::Ready => assert_eq!(was, Some(PhaseKind::Verifying), "{id} became ready unverified"),
            PhaseKind::Provisioning
            | PhaseKind::Staging
            | PhaseKind::Staged
            | PhaseKind::Verifying
            | PhaseKind::Draining => {}
        }
    }
}
