//! The two cores, their worlds, and what lies between them; one clock for all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fleet_core::model::{Run, new_rows};
use fleet_core::observe::{EnvironmentObservation, OccupancyReport};
use fleet_core::{Event, PhaseKind};
use gateway_core::model::{Numbers, Setup, Step, World};
use gateway_core::{Action, SessionReport};
use tidegate_types::{EnvironmentId, Generation, InstanceId, ServerId, Timestamp};

use super::registry::Registry;
use super::rules::Rules;
use super::stream::{Report, Stream, Way};
use super::{Seen, Weather};

/// Things that happen in one history before the faults stop.
const STEPS: usize = 350;

/// The longest time in which the manager looks at nothing, in milliseconds.
const SLICE_MS: u16 = 150;

/// Everything.
#[derive(Debug)]
pub(super) struct Joint {
    /// The gateway's core, with players and world servers.
    pub(super) edge: World,
    /// The manager's core, with machines and what is stored.
    pub(super) run: Run,
    pub(super) registry: Registry,
    pub(super) stream: Stream,
    pub(super) rules: Rules,
    pub(super) dice: Numbers,
    pub(super) weather: Weather,
    /// Flips whose acknowledgements are waited for.
    pub(super) waits: BTreeMap<Generation, Timestamp>,
    /// What machines say, on its way to the manager.
    pub(super) heard: Way<Event>,
    /// What was said of the servers of each environment, and when.
    pub(super) observed: BTreeMap<EnvironmentId, (Timestamp, EnvironmentObservation)>,
    pub(super) looked: Timestamp,
    /// What was said last of who is where, and when.
    pub(super) counted: (Timestamp, OccupancyReport),
    /// Deaths that a gateway is told of when it connects.
    pub(super) deaths: VecDeque<(ServerId, InstanceId)>,
    /// The generation that the gateway has acknowledged, as it knows.
    pub(super) acknowledged: Generation,
    pub(super) seen: Seen,
    pub(super) servers_capacity: u32,
}

impl Joint {
    pub(super) fn new(seed: u64, setup: &Setup, weather: Weather, dice: Numbers) -> Self {
        let mut rows = new_rows();
        rows.id = "model".parse().expect("an id");
        rows.spec.entry_zone = "entry".parse().expect("an id");
        rows.spec.grace = Duration::from_secs(8);
        // Short, so that what fails is seen to fail within a history.
        rows.spec.limits.stage = Duration::from_secs(30);
        rows.spec.limits.verify = Duration::from_secs(20);
        rows.spec.limits.flip_wait = Duration::from_secs(30);
        rows.spec.limits.confirm = Duration::from_secs(3);
        let edge = World::apart(setup);
        let mut run = Run::new(rows, seed);
        run.now = edge.now().wall;
        run.realm.sabotage = weather.manager;
        run.world.for_gateways = Some(Vec::new());
        Self {
            edge,
            run,
            registry: Registry::new(),
            stream: Stream::new(),
            rules: Rules::default(),
            dice,
            weather,
            waits: BTreeMap::new(),
            heard: Way::new(),
            observed: BTreeMap::new(),
            looked: Timestamp(0),
            counted: (Timestamp(0), OccupancyReport::default()),
            deaths: VecDeque::new(),
            acknowledged: Generation(0),
            seen: Seen::default(),
            servers_capacity: setup.capacity,
        }
    }

    /// The whole history: a first environment, random deeds, then a fair end. Stops at the first broken rule.
    pub(super) fn play(&mut self) {
        self.open_the_realm();
        if self.weather.faults {
            self.run.world.faults.silent = 50;
        }
        for _ in 0..STEPS {
            self.step();
            if self.first_violation().is_some() {
                return;
            }
        }
        self.come_to_rest();
    }

    pub(super) fn first_violation(&self) -> Option<String> {
        self.rules.broken().map(str::to_owned).or_else(|| self.edge.violations().first().cloned())
    }

    pub(super) fn events(&self) -> &[String] {
        self.edge.trace()
    }

    pub(super) fn seen(&self) -> Seen {
        let counters = self.edge.core().counters();
        Seen {
            logins: self.seen.logins + counters.logins,
            handovers: self.seen.handovers + counters.handovers_completed,
            kept: self.seen.kept + counters.handovers_kept_in_place,
            restored: self.seen.restored + counters.handovers_restored + counters.homes_replaced,
            resumes: self.seen.resumes + counters.resumes,
            rerouted: self.seen.rerouted + counters.rerouted,
            manager_deaths: self.run.crashes,
            ..self.seen
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.edge.now().wall
    }

    pub(super) fn chance(&mut self, per_cent: u64) -> bool {
        self.dice.next() % 100 < per_cent
    }

    fn step(&mut self) {
        let faults = self.weather.faults;
        match self.dice.step() {
            Step::Pass(n) => {
                if !faults {
                    // Nothing is ever late by more than a step's time.
                    self.edge.step(Step::DeliverMany(63));
                }
                self.pass(n % if faults { 1_200 } else { 400 });
            }
            Step::Process(n) | Step::Manager(n) if faults && n.is_multiple_of(3) => self.fault(n / 3),
            Step::Process(_) | Step::Manager(_) => self.deed(),
            Step::Gateway(n) if faults && n.is_multiple_of(8) => self.gateway_dies(),
            Step::Gateway(_) => self.deed(),
            step @ (Step::Link(_) | Step::Refuse(_)) => {
                if faults {
                    self.edge.step(step);
                }
            }
            step @ (Step::Deliver(_) | Step::DeliverMany(_) | Step::Player(_) | Step::Server(_)) => {
                self.edge.step(step);
            }
        }
        self.gather();
    }

    /// Time passes, for everybody.
    pub(super) fn pass(&mut self, ms: u16) {
        let mut left = ms;
        while left > 0 {
            let slice = left.min(SLICE_MS);
            left -= slice;
            self.edge.step(Step::Pass(slice));
            if !self.weather.faults || self.chance(50) {
                // Who is being dialled answers.
                self.edge.step(Step::Link(3));
            }
            self.gather();
            self.manage();
        }
    }

    /// What the gateway, players and processes have said or done since the last time goes where it belongs.
    pub(super) fn gather(&mut self) {
        let now = self.now();
        for landed in self.edge.take_landed() {
            self.rules.landed(&landed.environment, landed.who.player.as_str());
        }
        for action in self.edge.take_told() {
            let report = match action {
                Action::Report(report) => {
                    if let SessionReport::Gone { session, reason, .. } = &report {
                        self.rules.ended(*session, reason);
                    }
                    Report::Changed(report)
                }
                Action::AckTable { generation } => {
                    self.acknowledged = generation;
                    Report::Acked(generation)
                }
                // The manager looks at what becomes of the sessions, not at what is answered.
                _ => continue,
            };
            self.stream.report(now, &mut self.dice, report);
        }
        for session in self.edge.take_refused() {
            self.rules.refused(session);
        }
        for (server, instance) in self.edge.take_deaths() {
            self.run.world.crash_server(now, &server);
            self.report_death(server, instance);
        }
    }

    /// The gateway dies and is started again with the table on its disk.
    fn gateway_dies(&mut self) {
        self.edge.note(|| "* the gateway dies".to_owned());
        let counters = self.edge.core().counters();
        self.seen.logins += counters.logins;
        self.seen.handovers += counters.handovers_completed;
        self.seen.kept += counters.handovers_kept_in_place;
        self.seen.restored += counters.handovers_restored + counters.homes_replaced;
        self.seen.resumes += counters.resumes;
        self.seen.rerouted += counters.rerouted;
        self.seen.gateway_deaths += 1;
        self.cut_stream();
        self.acknowledged = Generation(0);
        self.rules.gateway_died();
        self.edge.restart_gateway();
    }

    pub(super) fn cut_stream(&mut self) {
        if self.stream.cut() {
            self.seen.stream_cuts += 1;
            self.edge.note(|| "* the stream between gateway and manager is cut".to_owned());
        }
        self.registry.disconnected();
    }

    /// True when some environments drain.
    pub(super) fn draining(&self) -> Vec<EnvironmentId> {
        let environments = self.run.realm.rows.environments.values();
        environments.filter(|e| e.phase.kind() == PhaseKind::Draining).map(|e| e.id.clone()).collect()
    }
}
