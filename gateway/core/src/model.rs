//! A model world around a [`Core`]: world servers with leases, a realm database guarded by epoch, players who number their
//! frames, links and connections that deliver in order but late and break, and a manager who flips, drains and restarts.
//!
//! Everything is driven by [`World::step`] with small numbers, so that one list of numbers is one history. The rules of the
//! design are checked while it runs; [`World::violations`] tells what was broken. No I/O, clock or randomness.

mod apart;
mod database;
mod directory;
mod execute;
mod gateways;
mod manager;
mod players;
mod protocol;
mod servers;
mod strike;
mod wires;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{EnvironmentId, Mono, Now, ServerId, SessionId, Timestamp, ZoneId};

use self::apart::Apart;
pub use self::apart::{Landed, NewProcess, Presence};
use self::database::Database;
use self::directory::Weather;
use self::gateways::Gateway;
use self::manager::Manager;
use self::players::Player;
use self::servers::Process;
pub use self::strike::{Happening, Strike};
use self::wires::{Conn, Link};
use crate::action::Action;
use crate::core::{Core, CoreConfig};
use crate::counters::Counters;
use crate::directory::EmbeddedDirectory;
use crate::input::Input;
use crate::message::Who;

/// The lease of the model, the core's default.
const LEASE: Duration = Duration::from_secs(3);
/// How often a world server sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(750);

/// How long a player on no link is kept by a world server, with several gateways.
const ORPHANS: Duration = Duration::from_secs(20);

/// How big the world is, and what is broken on purpose.
#[derive(Debug, Clone)]
pub struct Setup {
    /// World servers of each environment: two environments.
    pub servers: usize,
    /// Players. Half of them come in parties of two.
    pub players: usize,
    /// Most players a server takes.
    pub capacity: u32,
    /// The core's configuration.
    pub core: CoreConfig,
    /// Write down what happens, to read it after a violation.
    pub trace: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { servers: 2, players: 4, capacity: 3, core: CoreConfig::default(), trace: false }
    }
}

/// One thing that happens. The argument chooses among what is possible; every argument means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One message arrives.
    Deliver(u16),
    /// So many messages arrive, each from another place.
    DeliverMany(u16),
    /// Time passes, up to 1.6 s.
    Pass(u16),
    /// A player does something: log in, send, log out, lose the connection, come back.
    Player(u16),
    /// A world server asks for a transfer, or its owner.
    Server(u16),
    /// A link breaks, or one end notices that.
    Link(u16),
    /// A world server dies, is reported dead, or is started again.
    Process(u16),
    /// The manager flips, freezes, moves or kicks.
    Manager(u16),
    /// A world server will refuse the next thing it is asked.
    Refuse(u16),
    /// The gateway dies and is started again.
    Gateway(u16),
}

/// The world.
#[derive(Debug)]
pub struct World {
    gateways: Vec<Gateway>,
    /// What gateways counted that have died since.
    buried: Vec<Counters>,
    now: Now,
    directory: EmbeddedDirectory,
    weather: Weather,
    database: Database,
    processes: BTreeMap<ServerId, Process>,
    players: Vec<Player>,
    /// Links that exist at one end at least.
    links: BTreeMap<u32, Link>,
    next_link: u32,
    conns: BTreeMap<u32, Conn>,
    next_conn: u32,
    next_id: u128,
    manager: Manager,
    /// What the core told the manager, oldest first; a simulation with a real manager takes it.
    told: Vec<Action>,
    violations: Vec<String>,
    /// Set: the manager is outside.
    apart: Option<Apart>,
    trace: Option<Vec<String>>,
}

impl World {
    /// Two environments, the first accepting; everything is up, nobody is in.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self::with_gateways(setup, 1)
    }

    fn with_gateways(setup: &Setup, gateways: usize) -> Self {
        let mut processes = BTreeMap::new();
        for (e, environment) in ["blue", "green"].iter().enumerate() {
            for n in 0..setup.servers {
                let id = ServerId::new(&format!("{environment}-{n}")).expect("an id");
                let environment = EnvironmentId::new(environment).expect("an id");
                let run = (e * 100 + n) as u128 + 1;
                // The first server has the entry zone; each has one of its own; all have the common one and dungeons.
                let mut zones = vec![zone("common"), zone(&format!("zone-{n}"))];
                if n == 0 {
                    zones.push(zone("entry"));
                }
                processes.insert(id.clone(), Process::new(id, environment, run, zones, setup.capacity));
            }
        }
        let mut world = Self::empty(setup, gateways, processes);
        world.publish();
        world.hear_all_news();
        world.connect_all();
        world
    }

    fn empty(setup: &Setup, gateways: usize, processes: BTreeMap<ServerId, Process>) -> Self {
        Self {
            gateways: (0..gateways).map(|index| Gateway::new(index, &setup.core)).collect(),
            buried: Vec::new(),
            now: Now { mono: Mono(1_000_000), wall: Timestamp(1_000_000) },
            directory: EmbeddedDirectory::default(),
            weather: Weather::default(),
            database: Database::default(),
            processes,
            players: (0..setup.players).map(Player::new).collect(),
            links: BTreeMap::new(),
            next_link: 1,
            conns: BTreeMap::new(),
            next_conn: 0,
            next_id: 1_000,
            manager: Manager::new(),
            told: Vec::new(),
            violations: Vec::new(),
            apart: None,
            trace: setup.trace.then(Vec::new),
        }
    }

    /// One thing happens. What rules it breaks is added to [`World::violations`].
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Deliver(n) => {
                self.deliver(usize::from(n));
            }
            Step::DeliverMany(n) => {
                for i in 0..usize::from(n % 64) {
                    self.deliver(usize::from(n / 64) + i * 7);
                }
            }
            Step::Pass(n) => self.pass(Duration::from_millis(u64::from(n % 1_600))),
            Step::Player(n) => self.player_acts(usize::from(n)),
            Step::Server(n) => self.server_acts(usize::from(n)),
            Step::Link(n) => self.link_acts(usize::from(n)),
            Step::Process(n) => self.process_acts(usize::from(n)),
            Step::Manager(n) => self.manager_acts(usize::from(n)),
            Step::Refuse(n) => self.refuse_next(usize::from(n)),
            Step::Gateway(n) => {
                // Rarer than the rest: it takes everything back to the beginning.
                if n.is_multiple_of(8) {
                    self.restart(0);
                }
            }
        }
        self.check_one_home();
    }

    /// Lets time pass without further faults until nothing is on its way, then checks that everything has come to an end:
    /// no hand-over is open, and every player who is connected and was not turned away is in play.
    pub fn come_to_rest(&mut self) {
        for process in self.processes.values_mut() {
            process.refuse = None;
        }
        for _ in 0..160 {
            self.heal();
            self.drain_wires();
            self.pass(Duration::from_millis(500));
            self.check_one_home();
        }
        self.drain_wires();
        if self.is_shared() {
            self.let_everybody_in();
        }
        self.check_at_rest();
    }

    /// What was broken, in order.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The first gateway's core, to look at.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.gateways[0].core
    }

    /// What each run of each gateway has counted.
    pub fn counted(&self) -> impl Iterator<Item = &Counters> {
        self.buried.iter().chain(self.gateways.iter().map(|gateway| gateway.core.counters()))
    }

    /// True with more than one gateway.
    const fn is_shared(&self) -> bool {
        self.gateways.len() > 1
    }

    /// What the core told the manager since the last call: acknowledgements, reports, results of commands.
    pub fn take_told(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.told)
    }

    /// The time in the world.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.now
    }

    /// Sessions that the gateway has told the manager of and that are not over.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.core().rows().iter().map(|row| row.session).collect()
    }

    /// Gives the first gateway's core an input and does what it wants done.
    pub fn input(&mut self, input: Input) {
        self.input_to(0, input);
    }

    fn input_to(&mut self, gateway: usize, input: Input) {
        let mut out = Vec::new();
        if !self.gateways[gateway].alive {
            return;
        }
        if !matches!(input, Input::HeartbeatAnswered { .. }) {
            self.note(|| format!("{gateway}> {input:?}"));
        }
        self.gateways[gateway].core.handle(self.now, input, &mut out);
        self.execute(gateway, out);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now.mono < until.mono {
            let beats = self.processes.values().filter(|p| p.beats()).map(|p| p.beat_at);
            let timeouts = self.gateways.iter().filter(|g| g.alive).filter_map(|g| g.core.poll_timeout());
            let next = timeouts.chain(beats).min().unwrap_or(until.mono);
            let next = next.clamp(self.now.mono, until.mono);
            let passed = next.since(self.now.mono);
            self.now = Now { mono: next, wall: self.now.wall + passed };
            self.beat();
            for index in 0..self.gateways.len() {
                let gateway = &mut self.gateways[index];
                if gateway.alive && gateway.core.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                    let mut out = Vec::new();
                    gateway.core.handle_timeout(self.now, &mut out);
                    self.execute(index, out);
                }
            }
            if next == until.mono {
                break;
            }
            self.check_one_home();
        }
        self.now = until;
    }

    /// What happened, if it was to be written down.
    #[must_use]
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Writes down what happens, if it is to be written down.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now.mono.0;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now} {}", what()));
        }
    }

    /// A rule is broken.
    pub fn violation(&mut self, what: String) {
        self.violations.push(format!("at {} us: {what}", self.now.mono.0));
    }

    /// Rule 1: a player is simulated by one world server at most.
    fn check_one_home(&mut self) {
        let mut live: BTreeMap<&Who, Vec<&ServerId>> = BTreeMap::new();
        for process in self.processes.values() {
            for who in process.simulated(self.now.mono) {
                live.entry(who).or_default().push(&process.id);
            }
        }
        let doubles: Vec<String> = live
            .into_iter()
            .filter(|(_, homes)| homes.len() > 1)
            .map(|(who, homes)| format!("{} is live on {homes:?}", who.player))
            .collect();
        for what in doubles.into_iter().chain(self.database.take_stale()) {
            self.violation(what);
        }
    }
}

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("an id")
}

/// A small generator of numbers (splitmix64), for histories by seed. Not for anything that must not be guessed.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next step of a history: mostly messages, time and players; now and then a fault.
    pub fn step(&mut self) -> Step {
        let n = u16::try_from(self.next() & 0xffff).unwrap_or(0);
        match self.next() % 100 {
            0..30 => Step::Deliver(n),
            30..50 => Step::DeliverMany(n),
            50..62 => Step::Pass(n),
            62..82 => Step::Player(n),
            82..88 => Step::Server(n),
            88..91 => Step::Link(n),
            91..93 => Step::Process(n),
            93..97 => Step::Manager(n),
            97..99 => Step::Refuse(n),
            _ => Step::Gateway(n),
        }
    }
}
