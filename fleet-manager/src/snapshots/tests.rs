//! Snapshots of a real SQLite file under writers, with world servers whose part is played, and everything that can be torn.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use rusqlite::Connection;
use tidegate_proto::v1::world_directive;

use super::*;
use crate::servers::testing::{Bench, FakeWorld, environment};
use crate::servers::{EnvironmentServers, Report};

const GOLD: i64 = 1_000;

/// A world of one environment with two servers, that stands still when it is told to.
struct World {
    dir: tempfile::TempDir,
    bench: Bench,
    wanted: EnvironmentServers,
    snapshots: Snapshots,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path());
        let wanted = environment(dir.path(), 2, "exec sleep 1000");
        bench.servers.ensure(wanted.clone()).await.unwrap();
        for world in bench.all_ready(&wanted).await {
            tokio::spawn(stand_still_when_told(world));
        }
        bank(&wanted.database);
        let snapshots = Snapshots::open(dir.path(), None).unwrap();
        Self { dir, bench, wanted, snapshots }
    }

    fn take(&self, id: &str) -> Take {
        Take {
            id: id.parse().unwrap(),
            realm: self.wanted.realm.clone(),
            environment: self.wanted.environment.clone(),
            build: self.wanted.build.clone(),
            spec: serde_json::json!({"fleets": ["town"]}),
            assets_digest: Some([7; 32]),
            database: self.wanted.database.clone(),
            taken: Timestamp(1_000),
            barrier_timeout: Duration::from_secs(30),
        }
    }

    async fn taken(&self, id: &str) -> Facts {
        self.snapshots.take(self.take(id), &self.bench.servers).await.unwrap()
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("snapshots")
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let mut blobs: Vec<_> = fs::read_dir(self.store().join("blobs")).unwrap().map(|e| e.unwrap().path()).collect();
        blobs.sort_by_key(|path| fs::metadata(path).unwrap().len());
        blobs
    }

    async fn end(self) {
        let scratch = fs::read_dir(self.dir.path().join("scratch")).unwrap().count();
        assert_eq!(scratch, 0, "nothing is left lying about");
        self.bench.end(&self.wanted.environment).await;
    }
}

/// Each server has its own state of the zone.
async fn stand_still_when_told(mut world: FakeWorld) {
    while let Some(directive) = world.directives.recv().await {
        if let Some(world_directive::Message::Barrier(barrier)) = directive.message {
            let state = Bytes::from(format!("the market as {} has it", world.id));
            let zones = vec![("market".parse().unwrap(), state, 2)];
            let snapshot = barrier.snapshot_id.parse().unwrap();
            world.report(Report::BarrierReached { snapshot, zones }).await;
        }
    }
}

/// Two purses that together always hold the same.
fn bank(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bank = Connection::open(path).unwrap();
    bank.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE purse (id INTEGER PRIMARY KEY, gold INTEGER)").unwrap();
    bank.execute("INSERT INTO purse VALUES (1, ?1), (2, 0)", [GOLD]).unwrap();
}

fn move_gold(bank: &mut Connection) {
    let both = bank.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    both.execute("UPDATE purse SET gold = gold - 1 WHERE id = 1", []).unwrap();
    both.execute("UPDATE purse SET gold = gold + 1 WHERE id = 2", []).unwrap();
    both.commit().unwrap();
}

fn gold(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT sum(gold) FROM purse", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_under_writers_is_whole_and_can_be_restored() {
    let world = World::new().await;
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut bank = Connection::open(&world.wanted.database).unwrap();
                bank.busy_timeout(Duration::from_secs(10)).unwrap();
                while writing.load(Ordering::Relaxed) {
                    move_gold(&mut bank);
                }
            });
        }
        let taken = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let facts = world.taken("s1").await;
                assert_eq!(world.taken("s1").await, facts, "the same id is the same snapshot");
                facts
            })
        });
        writing.store(false, Ordering::Relaxed);
        assert_eq!(taken.blobs, 3, "the database and two states of the market");
    });

    let id = "s1".parse().unwrap();
    let zones = world.snapshots.zones(&id).await.unwrap();
    let states: Vec<_> = zones.iter().map(|zone| String::from_utf8_lossy(&zone.state).into_owned()).collect();
    assert_eq!(states, ["the market as e1-town-1 has it", "the market as e1-town-2 has it"]);
    let manifest = world.snapshots.manifest(&id).await.unwrap();
    assert_eq!(manifest.spec, serde_json::json!({"fleets": ["town"]}));

    let target = world.dir.path().join("realms/eu-2/world.db");
    world.snapshots.restore_database(&id, &target).await.unwrap();
    assert_eq!(gold(&target), GOLD, "no transaction is half in it");
    world.snapshots.restore_database(&id, &target).await.unwrap();
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "a second time changes nothing");

    let mut in_use = Connection::open(&target).unwrap();
    in_use.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    move_gold(&mut in_use);
    let refused = world.snapshots.restore_database(&id, &target).await;
    assert!(matches!(refused, Err(SnapshotError::InUse { .. })), "{refused:?}");
    drop(in_use);
    world.snapshots.restore_database(&id, &target).await.unwrap();
    assert_eq!(gold(&world.dir.path().join("realms/eu-2/world.db.before-s1")), GOLD, "what was there is put aside");
    world.end().await;
}

#[tokio::test]
async fn every_kind_of_damage_is_noticed_and_named() {
    let world = World::new().await;
    world.taken("s1").await;
    let id = "s1".parse().unwrap();
    let blobs = world.blobs();
    let (zone, database) = (&blobs[0], &blobs[2]);

    for path in [zone, database] {
        let whole = fs::read(path).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(path, &damaged).unwrap();
        let found = world.snapshots.verify(&id).await;
        assert!(matches!(found, Err(SnapshotError::DamagedBlob { .. })), "{found:?}");
        fs::write(path, &whole[..whole.len() - 1]).unwrap();
        let found = world.snapshots.verify(&id).await;
        assert!(matches!(found, Err(SnapshotError::DamagedBlob { .. })), "{found:?}");
        fs::remove_file(path).unwrap();
        let found = world.snapshots.verify(&id).await;
        assert!(matches!(found, Err(SnapshotError::MissingBlob(_))), "{found:?}");
        fs::write(path, &whole).unwrap();
        world.snapshots.verify(&id).await.unwrap();
    }

    let folder = world.store().join("manifests/s1");
    let manifest = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&manifest).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&manifest, &whole[..length]).unwrap();
        let found = world.snapshots.verify(&id).await;
        assert!(matches!(found, Err(SnapshotError::Manifest { .. })), "cut at {length}: {found:?}");
        let listed = world.snapshots.list().await.unwrap();
        assert!(matches!(&listed[..], [(name, Err(SnapshotError::Manifest { .. }))] if *name == id));
    }
    fs::write(&manifest, &whole).unwrap();
    world.snapshots.verify(&id).await.unwrap();
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(world.snapshots.verify(&id).await, Err(SnapshotError::NotFound(_))), "no manifest, no snapshot");
    assert!(world.snapshots.list().await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_blob_that_was_torn_earlier_is_written_again() {
    let world = World::new().await;
    world.taken("s1").await;
    for blob in world.blobs() {
        fs::write(&blob, b"torn").unwrap();
    }
    assert!(world.snapshots.verify(&"s1".parse().unwrap()).await.is_err());
    world.taken("s2").await;
    world.snapshots.verify(&"s1".parse().unwrap()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn deleting_one_leaves_what_the_other_needs() {
    let world = World::new().await;
    world.taken("s1").await;
    move_gold(&mut Connection::open(&world.wanted.database).unwrap());
    world.taken("s2").await;
    assert_eq!(world.blobs().len(), 4, "the markets are shared, the databases differ");
    world.snapshots.delete(&"s1".parse().unwrap()).await.unwrap();
    world.snapshots.delete(&"s1".parse().unwrap()).await.unwrap();
    assert_eq!(world.blobs().len(), 3);
    world.snapshots.verify(&"s2".parse().unwrap()).await.unwrap();
    let ids: Vec<_> = world.snapshots.list().await.unwrap().into_iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids, ["s2"]);
    world.snapshots.delete(&"s2".parse().unwrap()).await.unwrap();
    assert_eq!(world.blobs().len(), 0);
    world.end().await;
}

#[tokio::test]
async fn without_the_whole_world_standing_still_there_is_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 2, "exec sleep 1000");
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut worlds = bench.all_ready(&wanted).await;
    bank(&wanted.database);
    let mut deaf = worlds.pop().unwrap();
    let good = worlds.pop().unwrap();
    tokio::spawn(stand_still_when_told(good));
    let world = World { snapshots: Snapshots::open(dir.path(), None).unwrap(), dir, bench, wanted };

    let take = Take { barrier_timeout: Duration::from_millis(200), ..world.take("s1") };
    let failed = world.snapshots.take(take, &world.bench.servers).await.unwrap_err().to_string();
    assert!(failed.ends_with("not reached in time by e1-town-2"), "{failed}");
    deaf.expect("go on", |d| matches!(d, world_directive::Message::BarrierRelease(_))).await;
    assert!(matches!(world.snapshots.verify(&"s1".parse().unwrap()).await, Err(SnapshotError::NotFound(_))));
    world.end().await;
}

#[test]
fn a_store_that_cannot_be_used_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let open = |url: &str| Snapshots::open(dir.path(), Some(url)).map(|_| ()).map_err(|e| e.to_string());
    let s3 = open("s3://bucket/tidegate").unwrap_err();
    assert_eq!(s3, "snapshot_store: \"s3\" stores are not compiled in; use file:///a/folder");
    assert!(open("nonsense").unwrap_err().contains("is not a URL"));
    assert!(open("file:///dev/null/x").unwrap_err().starts_with("snapshot_store: /dev/null/x"));
    open(&format!("file://{}", dir.path().join("elsewhere").display())).unwrap();
    assert!(dir.path().join("elsewhere").is_dir());
}
