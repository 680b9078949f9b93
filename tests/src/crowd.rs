//! Simulated players on a runtime of their own, so that a test can be written as a plain sequence of steps.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use simulated_players::{Config, Control, Live, Report, Simulation};
use tidegate_types::{Clock as _, RealmId, SystemClock, Timestamp};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::wait;

/// Players who stay for ever and never come to a boundary: only a drain, an operator or a crash moves them.
pub const SETTLERS: &str = r#"
[[profile]]
name = "settler"
share = 1
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 4
positions = 1.0
stubborn = true
weights = { ping = 4, chat = 1, trade_item = 1 }
"#;

/// Players who stay for ever and change zone all the time.
pub const TRAVELLERS: &str = r#"
[[profile]]
name = "traveller"
share = 1
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 2
positions = 1.0
stubborn = true
weights = { ping = 4, go_to = 2 }
"#;

/// Pairs that go in and out of a dungeon all the time: every door is a hand-over.
pub const DELVERS: &str = r#"
[[profile]]
name = "delver"
share = 1
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 2
positions = 1.0
stubborn = true
weights = { ping = 4, enter = 2 }
party = { size = 2, instance = "dungeon", stay_s = 1.0 }
"#;

/// Parties that enter a raid, stay in it, and fight now and then.
pub const RAIDERS: &str = r#"
[[profile]]
name = "raider"
share = 1
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 2
positions = 1.0
stubborn = true
weights = { ping = 20, enter = 4, fight = 0.4 }
party = { size = 5, instance = "raid", stay_s = 3600.0 }
"#;

/// Players in a cluster's world.
pub struct Crowd {
    runtime: Runtime,
    /// Steers them.
    pub control: Control,
    report: JoinHandle<Report>,
    players: u32,
}

impl Crowd {
    /// Lets `players` come into `realm` and waits until nearly all are there.
    ///
    /// # Panics
    /// When they do not get in.
    #[must_use]
    pub fn enter(cluster: &Cluster, realm: &str, players: u32, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            gateway: cluster.gateway_addresses(),
            ca: cluster.data_dir().join("pki/ca.pem"),
            login_key: cluster.data_dir().join("tickets/login.key"),
            realm: RealmId::new(realm).expect("a realm id"),
            players,
            hz: 2.0,
            arrival_per_s: 100.0,
            pace: 6.0,
            name_prefix: realm.to_owned(),
            client_version: "2.0.0".to_owned(),
            ..Config::default()
        };
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let guard = runtime.enter();
        let simulation = Simulation::new(config).expect("the simulation begins");
        let control = simulation.control();
        let report = runtime.spawn(simulation.run(CancellationToken::new()));
        drop(guard);
        let crowd = Self { runtime, control, report, players };
        crowd.wait("the players to be in", |live| live.population >= players - players / 20);
        crowd
    }

    /// As [`Crowd::enter`], all of them of these profiles (TOML).
    ///
    /// # Panics
    /// When they do not get in.
    #[must_use]
    pub fn of(cluster: &Cluster, realm: &str, players: u32, profiles: &str) -> Self {
        let file = cluster.folder().join(format!("profiles-{realm}.toml"));
        std::fs::write(&file, profiles).expect("a file");
        let crowd = Self::enter(cluster, realm, players, |config| {
            config.profiles = Some(file);
            config.pace = 1.0;
        });
        crowd.wait("all to be in", |live| live.population == players);
        crowd
    }

    /// So many players of these profiles (TOML), with this seed, at these gateways; waits until they are in.
    ///
    /// # Panics
    /// When they do not get in.
    #[must_use]
    pub fn at(
        cluster: &Cluster,
        realm: &str,
        players: u32,
        gateways: Vec<SocketAddr>,
        profiles: &str,
        seed: u64,
    ) -> Self {
        let file = cluster.folder().join("profiles.toml");
        std::fs::write(&file, profiles).expect("a file");
        Self::enter(cluster, realm, players, |config| {
            config.gateway = gateways;
            config.profiles = Some(file);
            config.pace = 1.0;
            config.seed = seed;
            // After faults, answers may take a while.
            config.settle_ms = 30_000;
        })
    }

    /// Lets more players come, up to this many in all, and waits until they are in.
    pub fn grow(&self, players: u32) {
        self.control.set_population(players);
        self.wait("more players", |live| live.population == players);
    }

    /// Waits until exactly so many play in an environment, and nobody waits for anything.
    pub fn settles(&self, environment: &str, players: u32) {
        self.wait(&format!("{players} players in {environment}"), |live| {
            let there = live.playing.get(environment).copied().unwrap_or(0);
            there == players && live.holding == 0 && live.reconnecting == 0
        });
    }

    /// Waits until the players have had this many more answers: they play, whatever is done to the world.
    pub fn plays(&self, answers: u64) {
        let before = self.control.live().borrow().actions_answered;
        self.wait("players to play", |live| live.actions_answered >= before + answers);
    }

    /// Waits until the live figures say so.
    pub fn wait(&self, what: &str, condition: impl Fn(&Live) -> bool) {
        let live = self.control.live();
        wait::until(what, || condition(&live.borrow()).then_some(()));
    }

    /// Everybody logs out.
    ///
    /// # Panics
    /// When the simulation broke.
    #[must_use]
    pub fn leave(self) -> Report {
        self.control.finish();
        self.runtime.block_on(self.report).expect("a report")
    }

    /// How many players it wants to have in.
    #[must_use]
    pub fn players(&self) -> u32 {
        self.players
    }
}

/// Nothing that was promised to the players was broken.
///
/// # Panics
/// When something was.
pub fn assert_kept(report: &Report) {
    let broken = report.broken();
    assert!(broken.is_empty(), "promises broken: {broken:?}");
    assert!(report.sessions_started > 0 && report.frames_sent > 0, "nobody played: {report:?}");
}

/// The time that players' records are written in.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock.now().wall
}

/// Where each player was when it logged out at the end.
#[must_use]
pub fn ended_in(report: &Report) -> BTreeMap<String, u32> {
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    for record in &report.records {
        *ended.entry(record.last_environment().to_string()).or_default() += 1;
    }
    ended
}

/// How many changed environment after a time, by cause and by where they went.
#[must_use]
pub fn moved_after(report: &Report, since: Timestamp) -> BTreeMap<(&'static str, String), u32> {
    let mut moves: BTreeMap<(&'static str, String), u32> = BTreeMap::new();
    for there in report.records.iter().flat_map(|r| &r.moves).filter(|m| m.at >= since) {
        *moves.entry((there.cause.as_str(), there.to.to_string())).or_default() += 1;
    }
    moves
}

/// How many changed environment because of this.
#[must_use]
pub fn moved_by(report: &Report, cause: &str) -> u64 {
    report.moved_by.get(cause).copied().unwrap_or(0)
}
