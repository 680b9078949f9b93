//! The plan against a model of processes that start, register, fill, hang and die at random.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    restart_min: Duration::from_millis(200),
    restart_max: Duration::from_secs(10),
    start_timeout: Duration::from_secs(30),
    settle: Duration::from_secs(6),
    stop_within: Duration::from_secs(10),
};

fn environment() -> EnvironmentId {
    "e1".parse().unwrap()
}

fn fleet(name: &str) -> FleetName {
    name.parse().unwrap()
}

fn slot(fleet_name: &str, ordinal: u32) -> Slot {
    Slot { environment: environment(), fleet: fleet(fleet_name), ordinal }
}

/// The processes, as the shell and the system would keep them.
#[derive(Debug, Default)]
struct Model {
    now: Mono,
    wanted: Wanted,
    slots: BTreeMap<Slot, Observed>,
    last_exit: BTreeMap<Slot, Mono>,
}

impl Model {
    fn want(&mut self, fleet_name: &str, replicas: u32) {
        self.wanted.stopped.clear();
        self.wanted.fleets.insert((environment(), fleet(fleet_name)), replicas);
    }

    fn stop(&mut self) {
        self.wanted.fleets.clear();
        self.wanted.stopped.insert(environment(), Duration::from_secs(5));
    }

    fn running(&self) -> Vec<Slot> {
        let lives = |what: &Observed| matches!(what.process, Process::Running(_));
        self.slots.iter().filter(|(_, what)| lives(what)).map(|(slot, _)| slot.clone()).collect()
    }

    fn live(&mut self, slot: &Slot) -> &mut Running {
        match &mut self.slots.get_mut(slot).expect("known").process {
            Process::Running(running) => running,
            Process::Absent => panic!("{slot:?} does not run"),
        }
    }

    fn register(&mut self, slot: &Slot) {
        let now = self.now;
        let live = self.live(slot);
        if !live.registered {
            (live.registered, live.connected) = (true, true);
            (live.occupancy, live.empty_since) = (Occupancy::Empty, Some(now));
        }
    }

    fn players(&mut self, slot: &Slot, players: Option<u32>) {
        let now = self.now;
        let live = self.live(slot);
        if !live.registered {
            return;
        }
        live.occupancy = match players {
            None => Occupancy::Unknown,
            Some(0) => Occupancy::Empty,
            Some(n) => Occupancy::Occupied(n),
        };
        live.empty_since = (players == Some(0)).then(|| live.empty_since.unwrap_or(now));
    }

    fn exit(&mut self, slot: &Slot) {
        let now = self.now;
        let what = self.slots.get_mut(slot).expect("known");
        let Process::Running(running) = &what.process else { return };
        let (lived, told) = (now.since(running.since), running.told_to_end);
        what.process = Process::Absent;
        if !told {
            what.exits.record(now, lived, &LIMITS);
            self.last_exit.insert(slot.clone(), now);
        }
    }

    /// Plans and acts until there is nothing more to do, checking every deed.
    fn settle(&mut self) -> Option<Mono> {
        for _ in 0..6 {
            let plan = plan(&self.wanted, &self.slots, self.now, &LIMITS);
            if plan.actions.is_empty() {
                return plan.wake;
            }
            for action in plan.actions {
                self.act(action);
            }
        }
        panic!("the plan does not come to rest: {:?}", plan(&self.wanted, &self.slots, self.now, &LIMITS));
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Start(slot) => {
                let before = self.slots.get(&slot);
                assert!(before.is_none_or(|what| what.process == Process::Absent), "two processes for {slot:?}");
                assert!(before.is_none_or(|what| now >= what.exits.not_before()), "back-off of {slot:?} is skipped");
                if let Some(exit) = self.last_exit.get(&slot).filter(|_| before.is_some()) {
                    assert!(now.since(*exit) >= LIMITS.restart_min, "{slot:?} restarts at once");
                }
                let exits = before.map(|what| what.exits.clone()).unwrap_or_default();
                let running = Running {
                    since: now,
                    registered: false,
                    connected: false,
                    hung: false,
                    occupancy: Occupancy::Empty,
                    empty_since: Some(now),
                    retiring: None,
                    ending: None,
                    told_to_end: false,
                };
                self.slots.insert(slot, Observed { process: Process::Running(running), exits });
            }
            Action::Retire(slot) => self.live(&slot).retiring = Some(now),
            Action::Keep(slot) => self.live(&slot).retiring = None,
            Action::Ask { slot, within } => {
                self.may_end(&slot);
                assert!(self.live(&slot).connected, "{slot:?} cannot hear");
                let live = self.live(&slot);
                (live.ending, live.told_to_end) = (Some(Ending::Asked { until: now + within }), true);
            }
            Action::Terminate(slot) => {
                if let Some(ending) = self.live(&slot).ending {
                    assert!(matches!(ending, Ending::Asked { until } if now >= until), "{slot:?} was hurried");
                } else {
                    self.may_end(&slot);
                }
                let live = self.live(&slot);
                (live.ending, live.told_to_end) = (Some(Ending::Terminated { at: now }), true);
            }
            Action::Kill { slot, why } => {
                let live = self.live(&slot).clone();
                match why {
                    KillReason::DidNotEnd => assert!(matches!(live.ending, Some(Ending::Terminated { .. }))),
                    KillReason::NeverRegistered => assert!(!live.registered && live.ending.is_none()),
                    KillReason::Silent => assert!(live.hung && live.ending.is_none()),
                }
                self.live(&slot).ending = Some(Ending::Killed);
            }
            Action::Forget(slot) => {
                let gone = self.slots.remove(&slot).expect("known");
                assert_eq!(gone.process, Process::Absent, "a process is forgotten");
            }
        }
    }

    /// A first step towards the end of a process is only ever taken in a stopped environment, or when it is empty.
    fn may_end(&mut self, slot: &Slot) {
        if self.wanted.stopped.is_empty() {
            let now = self.now;
            let live = self.live(slot).clone();
            assert_eq!(live.occupancy, Occupancy::Empty, "{slot:?} is stopped with players inside");
            let closed = live.retiring.expect("closed to newcomers first");
            assert!(now.since(closed) >= LIMITS.settle, "someone may be on the way to {slot:?}");
        }
    }

    /// From here on everybody behaves.
    fn calm(&mut self) {
        let start = self.now;
        while self.now.since(start) < Duration::from_secs(120) {
            for slot in self.running() {
                if self.live(&slot).ending.is_some() {
                    self.exit(&slot);
                    continue;
                }
                self.register(&slot);
                self.players(&slot, Some(0));
                let live = self.live(&slot);
                (live.connected, live.hung) = (true, false);
            }
            let wake = self.settle();
            let next =
                wake.map_or(self.now + Duration::from_secs(1), |wake| wake.max(self.now + Duration::from_millis(1)));
            self.now = next.min(self.now + Duration::from_secs(1));
        }
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Pass(u64),
    Want(bool, u32),
    Stop,
    Exit(usize),
    Register(usize),
    Players(usize, Option<u32>),
    LoseStream(usize),
    Silent(usize, bool),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0u64..20_000).prop_map(Happening::Pass),
        2 => (any::<bool>(), 0u32..5).prop_map(|(town, n)| Happening::Want(town, n)),
        1 => Just(Happening::Stop),
        3 => (0usize..8).prop_map(Happening::Exit),
        4 => (0usize..8).prop_map(Happening::Register),
        4 => ((0usize..8), prop::option::of(0u32..3)).prop_map(|(i, n)| Happening::Players(i, n)),
        1 => (0usize..8).prop_map(Happening::LoseStream),
        1 => ((0usize..8), any::<bool>()).prop_map(|(i, hung)| Happening::Silent(i, hung)),
    ];
    prop::collection::vec(one, 1..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold_and_calm_brings_what_is_wanted(happenings in happenings()) {
        let mut model = Model { now: Mono(1_000_000), ..Model::default() };
        model.want("town", 2);
        for happening in happenings {
            let running = model.running();
            let pick = |i: usize| (!running.is_empty()).then(|| running[i % running.len()].clone());
            match happening {
                Happening::Pass(ms) => model.now = model.now + Duration::from_millis(ms),
                Happening::Want(town, replicas) => model.want(if town { "town" } else { "moor" }, replicas),
                Happening::Stop => model.stop(),
                Happening::Exit(i) => if let Some(slot) = pick(i) { model.exit(&slot) },
                Happening::Register(i) => if let Some(slot) = pick(i) { model.register(&slot) },
                Happening::Players(i, n) => if let Some(slot) = pick(i) { model.players(&slot, n) },
                Happening::LoseStream(i) => if let Some(slot) = pick(i) {
                    model.live(&slot).connected = false;
                    model.players(&slot, None);
                },
                Happening::Silent(i, hung) => if let Some(slot) = pick(i) {
                    let live = model.live(&slot);
                    if live.registered { live.hung = hung; }
                },
            }
            model.settle();
        }
        model.calm();
        if model.wanted.stopped.is_empty() {
            for ((_, fleet), replicas) in model.wanted.fleets.clone() {
                let count = model.running().iter().filter(|slot| slot.fleet == fleet).count();
                prop_assert_eq!(count, replicas as usize, "fleet {}", fleet);
            }
        } else {
            prop_assert!(model.slots.is_empty(), "{:?}", model.slots);
        }
    }

    #[test]
    fn a_pause_is_never_longer_than_the_limit(deaths in prop::collection::vec(0u64..120, 1..200)) {
        let (mut exits, mut now) = (Exits::default(), Mono(1_000_000));
        for lived in deaths {
            now = now + Duration::from_secs(lived);
            exits.record(now, Duration::from_secs(lived), &LIMITS);
            let pause = exits.not_before().since(now);
            prop_assert!(pause >= LIMITS.restart_min && pause <= LIMITS.restart_max);
        }
    }
}

#[test]
fn five_exits_within_a_minute_are_failing_and_a_quiet_minute_is_not() {
    let mut exits = Exits::default();
    for second in 1..=5 {
        assert!(!exits.failing(Mono(second * 1_000_000)));
        exits.record(Mono(second * 1_000_000), Duration::from_secs(1), &LIMITS);
    }
    assert!(exits.failing(Mono(5_000_000)) && exits.failing(Mono(60_000_000)));
    assert!(!exits.failing(Mono(62_000_000)));
}

#[test]
fn the_pause_doubles_and_a_steady_life_starts_it_anew() {
    let mut exits = Exits::default();
    let pauses: Vec<u128> = (0..8)
        .map(|_| {
            exits.record(Mono(0), Duration::from_secs(1), &LIMITS);
            exits.not_before().since(Mono(0)).as_millis()
        })
        .collect();
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    exits.record(Mono(0), Duration::from_secs(60), &LIMITS);
    assert_eq!(exits.not_before().since(Mono(0)).as_millis(), 200);
}

#[test]
fn a_shrinking_fleet_loses_its_empty_server_and_keeps_the_occupied_one() {
    let mut model = Model { now: Mono(1_000_000), ..Model::default() };
    model.want("town", 2);
    model.settle();
    let (one, two) = (slot("town", 1), slot("town", 2));
    for slot in [&one, &two] {
        model.register(slot);
    }
    model.players(&two, Some(40));
    model.want("town", 1);
    model.settle();
    assert!(model.live(&one).retiring.is_some() && model.live(&two).retiring.is_none());
    assert!(model.live(&one).ending.is_none(), "it must settle first");
    model.now = model.now + LIMITS.settle;
    model.settle();
    assert!(matches!(model.live(&one).ending, Some(Ending::Asked { .. })));

    model.exit(&one);
    model.want("town", 0);
    model.settle();
    model.now = model.now + Duration::from_secs(3600);
    model.settle();
    assert_eq!(model.live(&two).ending, None, "an occupied server waits for ever");
    model.players(&two, None);
    model.settle();
    assert_eq!(model.live(&two).ending, None, "and so does one of which nothing is known");
}

#[test]
fn a_fleet_that_grows_again_keeps_whom_it_was_about_to_lose() {
    let mut model = Model { now: Mono(1_000_000), ..Model::default() };
    model.want("town", 2);
    model.settle();
    model.register(&slot("town", 1));
    model.register(&slot("town", 2));
    model.want("town", 1);
    model.settle();
    model.want("town", 2);
    model.settle();
    assert!(
        model
            .running()
            .iter()
            .all(|slot| matches!(&model.slots[slot].process, Process::Running(r) if r.retiring.is_none()))
    );
}

#[test]
fn one_that_hangs_is_started_again_in_its_own_place_and_not_beside_itself() {
    let mut model = Model { now: Mono(1_000_000), ..Model::default() };
    model.want("town", 1);
    model.settle();
    let one = slot("town", 1);
    model.register(&one);
    model.live(&one).hung = true;
    model.settle();
    assert_eq!(model.live(&one).ending, Some(Ending::Killed));
    assert_eq!(model.running(), std::slice::from_ref(&one), "nothing is started while it may still live");
    model.exit(&one);
    let wake = model.settle().expect("its pause ends");
    assert!(model.running().is_empty());
    model.now = wake;
    model.settle();
    assert_eq!(model.running(), [one]);
}

#[test]
fn an_environment_that_nobody_speaks_of_is_left_alone() {
    let mut model = Model { now: Mono(1_000_000), ..Model::default() };
    model.want("town", 1);
    model.settle();
    model.register(&slot("town", 1));
    model.wanted = Wanted::default();
    model.now = model.now + Duration::from_secs(3600);
    assert_eq!(model.settle(), None);
    assert_eq!(model.running(), [slot("town", 1)]);
}
