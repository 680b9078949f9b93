//! The run itself: arrivals, departures, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tidegate_player::{ClientConfig, PlayerEndpoint, Roots};
use tidegate_ticket::LoginKey;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::books::Books;
use crate::config::Config;
use crate::control::{Leaving, Live, Wish};
use crate::error::SimulationError;
use crate::profile::{self, Profile};
use crate::report::Report;
use crate::roster::{Person, Roster};
use crate::session::{self, Leash, World};

/// Connections that share a UDP socket: quinn drives one socket by one task, so a few sockets use a few cores.
const SESSIONS_PER_ENDPOINT: u32 = 500;
/// How often arrivals and departures are looked at: fine enough that a rate of hundreds a second is not a burst.
const BEAT: Duration = Duration::from_millis(10);
/// How often the live figures are renewed, in beats.
const LIVE_EVERY: u32 = 25;
/// After `settle_ms`, how much longer the last logouts may take.
const LOGOUTS: Duration = Duration::from_secs(8);

/// Everything that can fail before the first arrival has been done.
pub(crate) struct Prepared {
    config: Config,
    profiles: Vec<Arc<Profile>>,
    login_key: LoginKey,
    endpoints: Vec<PlayerEndpoint>,
    wishes: watch::Receiver<Wish>,
    live: Arc<watch::Sender<Live>>,
}

impl Prepared {
    pub(crate) fn new(
        config: Config,
        wishes: watch::Receiver<Wish>,
        live: Arc<watch::Sender<Live>>,
    ) -> Result<Self, SimulationError> {
        let profiles = profile::load(config.profiles.as_deref())?;
        let login_key = LoginKey::load(&config.login_key)
            .map_err(|e| SimulationError::LoginKey { path: config.login_key.clone(), why: e.to_string() })?;
        let roots = Roots::PemFile(config.ca.clone());
        let endpoints = (0..config.players.div_ceil(SESSIONS_PER_ENDPOINT))
            .map(|_| PlayerEndpoint::new(&roots))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, profiles, login_key, endpoints, wishes, live })
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) -> Report {
        Run::new(self).run(shutdown).await
    }
}

/// How a player connects that begins with this gateway.
fn client(config: &Config, first: usize) -> ClientConfig {
    let mut gateways = config.gateway.clone();
    gateways.rotate_left(first);
    let mut client = ClientConfig::new(gateways, &config.server_name, config.realm.clone(), &config.client_version);
    client.learn_gateways = config.learn_gateways;
    client
}

/// A session that is played by a task.
struct Active {
    index: usize,
    stubborn: bool,
    leash: Leash,
}

struct Run {
    world: Arc<World>,
    endpoints: Vec<PlayerEndpoint>,
    roster: Roster,
    wishes: watch::Receiver<Wish>,
    live: Arc<watch::Sender<Live>>,
    sessions: JoinSet<Person>,
    active: Vec<Active>,
    rng: Pcg64Mcg,
    /// Arrivals and departures that are due, with the fraction that is not whole yet.
    arrivals_due: f64,
    leaving_due: f64,
}

impl Run {
    fn new(prepared: Prepared) -> Self {
        let Prepared { config, profiles, login_key, endpoints, wishes, live } = prepared;
        let clients = (0..config.gateway.len()).map(|first| Arc::new(client(&config, first))).collect();
        let roster = Roster::new(&config.name_prefix, profiles, config.seed);
        // Traders know everybody of the first crowd by name; who is not near refuses.
        let partners = (0..config.players.min(1_000)).map(|n| format!("{}-{n}", config.name_prefix)).collect();
        let rng = Pcg64Mcg::seed_from_u64(config.seed ^ 0x5eed);
        let world = World {
            config,
            clients,
            login_key,
            books: Books::default(),
            begin: Instant::now(),
            partners,
            finish: CancellationToken::new(),
            resting: AtomicUsize::new(0),
            last_words: CancellationToken::new(),
        };
        Self {
            world: Arc::new(world),
            endpoints,
            roster,
            wishes,
            live,
            sessions: JoinSet::new(),
            active: Vec::new(),
            rng,
            arrivals_due: 0.0,
            leaving_due: 0.0,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Report {
        let mut beat = tokio::time::interval(BEAT);
        // A late beat is made up for: the rate is open-loop.
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut beats = 0u32;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                due = beat.tick() => {
                    let wish = self.wishes.borrow().clone();
                    if wish.finish {
                        break;
                    }
                    self.beat(&wish, due);
                    beats += 1;
                    if beats.is_multiple_of(LIVE_EVERY) {
                        self.show();
                    }
                }
                Some(done) = self.sessions.join_next() => self.ended(done),
            }
        }
        self.finish().await
    }

    fn beat(&mut self, wish: &Wish, due: Instant) {
        let seconds = BEAT.as_secs_f64();
        let wanted = wish.population.unwrap_or(self.world.config.players) as usize;
        self.arrivals_due = (self.arrivals_due + self.world.config.arrival_per_s * seconds).min(1_000.0);
        while self.arrivals_due >= 1.0 {
            self.arrivals_due -= 1.0;
            if wish.arrivals && self.active.len() < wanted {
                self.arrive(due);
            }
        }
        if let Some(leaving) = &wish.leaving {
            self.leaving_due += leaving.per_second * seconds;
            while self.leaving_due >= 1.0 {
                self.leaving_due -= 1.0;
                self.send_one_home(leaving);
            }
        }
    }

    fn arrive(&mut self, intended: Instant) {
        let person = self.roster.next(self.world.now());
        let endpoint = self.endpoints[person.index % self.endpoints.len()].clone();
        let leash = Leash::default();
        self.active.push(Active { index: person.index, stubborn: person.profile.stubborn, leash: leash.clone() });
        self.sessions.spawn(session::play(self.world.clone(), endpoint, person, intended, leash));
    }

    fn send_one_home(&mut self, leaving: &Leaving) {
        let willing = |active: &&Active| {
            !active.stubborn
                && !active.leash.leave.is_cancelled()
                && active
                    .leash
                    .environment()
                    .is_some_and(|at| leaving.environment.as_ref().is_none_or(|e| at.as_str() == e))
        };
        let willing: Vec<&Active> = self.active.iter().filter(willing).collect();
        if !willing.is_empty() {
            willing[self.rng.random_range(0..willing.len())].leash.leave.cancel();
        }
    }

    fn ended(&mut self, done: Result<Person, tokio::task::JoinError>) {
        match done {
            Ok(person) => {
                self.active.retain(|a| a.index != person.index);
                let pace = self.world.config.pace;
                self.roster.leaves(person, self.world.now(), pace);
            }
            // A panic in a session is a fault of this program, and must not look like a quiet evening.
            Err(error) => tracing::error!(%error, "a simulated player broke"),
        }
    }

    fn show(&self) {
        self.live.send_replace(self.world.books.open().take_live());
    }

    /// Goes on taking ended sessions in, until the condition holds or the time is over.
    async fn until(&mut self, limit: Instant, holds: impl Fn(&Self) -> bool) {
        let mut look = tokio::time::interval(BEAT);
        while !holds(self) && Instant::now() < limit {
            tokio::select! {
                Some(done) = self.sessions.join_next() => self.ended(done),
                _ = look.tick() => {}
            }
        }
    }

    /// What all characters must own together, and what they do: by the world's last word to those who asked for it when
    /// all trade had ended, by the trades themselves for the others.
    fn gold(&self) -> (u64, u64) {
        let books = self.world.books.open();
        let mut sums = (0, 0);
        for person in self.roster.absent() {
            // Who never heard from the world what it owns may still have been given something.
            let began_with = person.memory.began_with.unwrap_or(0);
            let by_trades = books.wealth(person.character.as_str(), began_with);
            sums.0 += began_with;
            sums.1 += person.memory.wealth.filter(|_| person.memory.settled).unwrap_or(by_trades);
        }
        sums
    }

    async fn finish(mut self) -> Report {
        self.world.finish.cancel();
        let settle = Duration::from_millis(self.world.config.settle_ms);
        let limit = Instant::now() + settle + LOGOUTS;
        // Half of the time to come to rest; the other half is for the last words of all.
        self.until(Instant::now() + settle / 2, |run| run.world.resting.load(Ordering::Relaxed) >= run.sessions.len())
            .await;
        self.world.last_words.cancel();
        while !self.sessions.is_empty() {
            tokio::select! {
                Some(done) = self.sessions.join_next() => self.ended(done),
                () = tokio::time::sleep_until(limit) => break,
            }
        }
        // Whoever is still here did not get its last word in time: it is counted as lost below.
        let stuck = self.sessions.len() as u64;
        if stuck > 0 {
            let who: Vec<usize> = self.active.iter().take(10).map(|a| a.index).collect();
            tracing::warn!(stuck, ?who, "players did not get out");
        }
        self.sessions.abort_all();
        self.show();
        let ran_ms = u64::try_from(self.world.now().as_millis()).unwrap_or(u64::MAX);
        let (gold_expected, gold_seen) = self.gold();
        let report = self.world.books.open().report();
        for endpoint in &self.endpoints {
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
        Report {
            seed: self.world.config.seed,
            players: self.world.config.players,
            ran_ms,
            gold_expected,
            gold_seen,
            lost: report.lost + stuck,
            ..report
        }
    }
}
