//! Simulated players on a runtime of their own, so that a test can be written as a plain sequence of steps.

use simulated_players::{Config, Control, Live, Report, Simulation};
use tidegate_types::RealmId;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::wait;

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
            gateway: vec![cluster.gateway_address()],
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let guard = runtime.enter();
        let simulation = Simulation::new(config).expect("the simulation begins");
        let control = simulation.control();
        let report = runtime.spawn(simulation.run(CancellationToken::new()));
        drop(guard);
        let crowd = Self { runtime, control, report, players };
        crowd.wait("the players to be in", |live| live.population >= players - players / 20);
        crowd
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
