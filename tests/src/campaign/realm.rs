//! The realm of a campaign, taken apart so that faults of different parts can be shown at the same time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_directory::testing::{Options as RedisOptions, RedisServer};
use tidegate_events::event;

use crate::cluster::{Cluster, Gateway, Lines};
use crate::process::Process;

/// The one realm.
pub(super) const REALM: &str = "eu-1";

/// A realm whose parts are hurt one by one.
pub(super) struct Realm {
    /// Everything that is nowhere else; starts the manager again.
    pub(super) cluster: Mutex<Cluster>,
    /// The gateways.
    pub(super) gateways: Vec<Mutex<Gateway>>,
    /// The manager's process.
    pub(super) manager: Mutex<Option<Process>>,
    /// The directory, if the gateways share one.
    pub(super) redis: Mutex<Option<RedisServer>>,
    /// The relays.
    pub(super) lines: Lines,
    /// World servers that were there when somebody last looked.
    pub(super) worlds: Mutex<Vec<World>>,
    /// Where the manager listens.
    pub(super) manager_address: String,
    /// The realm's database.
    pub(super) database: PathBuf,
    /// The folder of everything.
    pub(super) folder: PathBuf,
}

/// A world server's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    /// Its id.
    pub(super) server: String,
    /// Its process id.
    pub(super) pid: u32,
    /// Players it says it holds.
    pub(super) players: u64,
}

impl Realm {
    /// Takes a populated cluster with lines apart.
    ///
    /// # Panics
    /// When it has no lines.
    #[must_use]
    pub(super) fn new(mut cluster: Cluster) -> Self {
        let gateways: Vec<Gateway> = std::mem::take(&mut cluster.gateways);
        for gateway in &gateways {
            event!("gateway", id = gateway.id, address = %gateway.address);
        }
        Self {
            gateways: gateways.into_iter().map(Mutex::new).collect(),
            manager: Mutex::new(cluster.manager.take()),
            redis: Mutex::new(cluster.redis.take()),
            lines: cluster.lines.take().expect("a campaign's cluster has lines"),
            worlds: Mutex::default(),
            manager_address: cluster.manager_address().to_owned(),
            database: cluster.database(REALM),
            folder: cluster.folder().to_owned(),
            cluster: Mutex::new(cluster),
        }
    }

    /// Starts the manager again, at the same address.
    pub(super) fn restart_manager(&self) {
        let mut cluster = lock(&self.cluster);
        cluster.restart_manager();
        *lock(&self.manager) = cluster.manager.take();
    }

    /// Another Redis, with what a lagging replica had, takes the place of the first.
    ///
    /// # Panics
    /// When no Redis can be started.
    pub(super) fn fail_over(&self, lag: std::time::Duration) {
        let mut redis = lock(&self.redis);
        let Some(master) = redis.as_mut() else { return };
        let address = SocketAddr::from(([127, 0, 0, 1], master.port()));
        // Between the two, so that the replica can be kept from hearing the latest.
        let relay = self.lines.relay_to(address);
        let replica_of = Some(relay.address().port());
        let replica = RedisServer::start(RedisOptions { replica_of, ..RedisOptions::default() });
        replica.wait_for_replication();
        relay.set_both(tidegate_judge::relay::Stream::CUT);
        std::thread::sleep(lag);
        master.kill();
        let promoted = replica.command(&["REPLICAOF", "NO", "ONE"]);
        assert!(promoted.is_ok(), "{promoted:?}");
        let address = SocketAddr::from(([127, 0, 0, 1], replica.port()));
        *redis = Some(replica);
        drop(redis);
        if let Some(relay) = &self.lines.redis {
            relay.retarget(address);
            relay.reset();
        }
    }

    /// The events of all processes.
    #[must_use]
    pub(super) fn events(folder: &Path) -> PathBuf {
        folder.join("events")
    }
}

/// A lock that outlives a panic of another fault: each leaves its part usable or is found by the judge.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
