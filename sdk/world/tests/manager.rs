//! What a manager asks of a host, and what it can rely on when either of them has slept, died or lied.

mod common;

use bytes::Bytes;
use common::{Bench, Manager, player, soon, town};
use tidegate_proto::v1::{
    self, RefusalReason, gateway_to_world as to_world, world_directive, world_report, world_to_gateway as to_gateway,
};
use tidegate_world::Zone;
use tidegate_world::assets::digest_folder;

const LEASE: u32 = 3000;

fn bundle() -> (tempfile::TempDir, [u8; 32]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("map.txt"), "a forest").unwrap();
    let digest = digest_folder(dir.path()).unwrap();
    (dir, digest)
}

fn barrier(id: &str, timeout_ms: u32) -> world_directive::Message {
    world_directive::Message::Barrier(v1::Barrier { snapshot_id: id.into(), timeout_ms })
}

fn release(id: &str) -> world_directive::Message {
    world_directive::Message::BarrierRelease(v1::BarrierRelease { snapshot_id: id.into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_are_checked_by_their_digest() {
    let mut bench = Bench::new().await;
    let _host = bench.start(bench.config("s-1"));
    let mut manager = bench.manager.registration().await;
    assert_eq!((manager.register.build.as_str(), manager.register.serving), ("1.0.0", false));
    assert!(manager.register.assets_digest.is_empty());
    let (dir, digest) = bundle();
    let loaded = manager.load_assets(dir.path(), [7; 32]).await;
    assert_eq!(loaded.digest, digest, "what was read, not what was wanted");
    assert!(loaded.error.contains("not the expected"), "{}", loaded.error);
    let loaded = manager.load_assets(&dir.path().join("missing"), digest).await;
    assert!(loaded.error.contains("missing"), "{}", loaded.error);
    for _ in 0..2 {
        let loaded = manager.load_assets(dir.path(), digest).await;
        assert_eq!((&loaded.digest[..], loaded.error.as_str()), (&digest[..], ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_host_lies_as_configured() {
    let mut bench = Bench::new().await;
    let mut config = bench.config("s-1");
    config.faults.wrong_digest = true;
    config.faults.wrong_build = Some("0.9.0".parse().unwrap());
    config.faults.population_lie = Some(5);
    let _host = bench.start(config);
    let mut manager = bench.manager.registration().await;
    assert_eq!(manager.register.build, "0.9.0");
    let (dir, digest) = bundle();
    let loaded = manager.load_assets(dir.path(), digest).await;
    assert!(loaded.error.is_empty() && loaded.digest != digest);
    manager.status("a lie", |status| status.players == 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_loaded_once() {
    let mut bench = Bench::new().await;
    let host = bench.start(bench.config("s-1"));
    let mut manager = bench.manager.registration().await;
    for _ in 0..2 {
        let zones = vec![v1::ZoneBlob { zone: "town".into(), state: b"trees".to_vec(), format: 1 }];
        manager.direct(world_directive::Message::LoadZones(v1::LoadZones { zones })).await;
        let loaded = manager
            .report("zones", |message| match message {
                world_report::Message::ZonesLoaded(loaded) => Some(loaded),
                _ => None,
            })
            .await;
        assert_eq!((loaded.count, loaded.error.as_str()), (1, ""));
    }
    assert_eq!(host.log(), ["zones 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_manager_hears_all_it_needs_and_players_notice_nothing() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let (dir, digest) = bundle();
    manager.load_assets(dir.path(), digest).await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 1).await;
    let instance = manager.register.instance.clone();
    let addr = std::mem::replace(&mut bench.manager, Manager::start().await).kill();
    drop(manager);
    gateway.game(1, "no manager");
    gateway.hears("no manager").await;
    bench.manager = soon("the port", async {
        loop {
            // The old listener may need a moment to be gone.
            match tokio::net::TcpListener::bind(addr).await {
                Ok(free) => {
                    drop(free);
                    break Manager::start_at(addr).await;
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let mut manager = bench.manager.registration().await;
    assert_eq!(manager.register.instance, instance, "the same run");
    assert!(manager.register.serving);
    assert_eq!(manager.register.assets_digest, digest);
    manager.status("the player", |status| status.players == 1 && status.serving).await;
    assert_eq!(host.log(), ["attach p1 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_barrier_the_world_stands_still_and_nothing_is_lost() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 1).await;
    manager.direct(barrier("snap-1", 60_000)).await;
    let reached = |message| match message {
        world_report::Message::BarrierReached(reached) => Some(reached),
        _ => None,
    };
    let zones = manager.report("the barrier", reached).await.zones;
    assert_eq!((zones.len(), &zones[0].state[..]), (1, &b"trees"[..]));
    // Asked again (a broken stream): answered again, without asking the world.
    manager.direct(barrier("snap-1", 60_000)).await;
    manager.report("the barrier again", reached).await;
    gateway.game(1, "wait");
    gateway.attach(2, &player(2), 1);
    match gateway.control().await {
        to_gateway::Message::AttachRefused(refused) => assert_eq!(refused.reason(), RefusalReason::NotReady),
        other => panic!("{other:?}"),
    }
    gateway.say(1, to_world::Message::Freeze(v1::Freeze { handle: 1, epoch: 1 }));
    assert!(matches!(gateway.control().await, to_gateway::Message::FreezeRefused(_)));
    // Another barrier cannot stand at the same time; releasing one that does not stand changes nothing.
    manager.direct(release("snap-2")).await;
    manager.direct(barrier("snap-2", 60_000)).await;
    let failed = manager
        .report("the refusal", |message| match message {
            world_report::Message::BarrierFailed(failed) => Some(failed),
            _ => None,
        })
        .await;
    assert_eq!(failed.snapshot_id, "snap-2");
    manager.direct(release("snap-1")).await;
    gateway.hears("wait").await;
    assert_eq!(host.log(), ["attach p1 1", "barrier", "barrier_release"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_that_nobody_releases_ends_by_itself() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    host.told.lock().unwrap().keep_barrier = true;
    manager.direct(barrier("snap-1", 50)).await;
    let failed = |message| match message {
        world_report::Message::BarrierFailed(failed) => Some(failed),
        _ => None,
    };
    assert_eq!(manager.report("the time-out", failed).await.error, "timed out");
    host.logged("barrier_release").await;
    // The world's late answer is for nobody; the next barrier is its own.
    let late = host.told.lock().unwrap().barrier.take().unwrap();
    manager.direct(barrier("snap-2", 60_000)).await;
    late.send(Ok(vec![]));
    soon("the second barrier", async {
        while host.told.lock().unwrap().barrier.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let reply = host.told.lock().unwrap().barrier.take().unwrap();
    reply.send(Ok(vec![Zone { zone: town().zone, state: Bytes::from(vec![0; 2 << 20]), format: 1 }]));
    let failed = manager.report("a zone that is too large", failed).await;
    assert!(failed.snapshot_id == "snap-2" && failed.error.contains("bytes long"), "{}", failed.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_saves_and_ends() {
    let mut bench = Bench::new().await;
    let (host, manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 1).await;
    host.outbox().send(tidegate_world::Seat(0), &Bytes::from_static(b"last words"));
    manager.direct(world_directive::Message::Stop(v1::Stop { within_ms: 5_000 })).await;
    gateway.hears("last words").await;
    soon("the end", host.ended).await.unwrap();
    assert_eq!(host.told.lock().unwrap().log.last().unwrap(), "stopping");
    let closed = soon("the link's end", gateway.sender.closed()).await;
    assert_eq!(closed.code, Some(tidegate_proto::CloseCode::Shutdown as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_host_saves_too() {
    let mut bench = Bench::new().await;
    let (host, _manager) = bench.serving("s-1").await;
    host.shutdown.cancel();
    soon("the end", host.ended).await.unwrap();
    assert_eq!(host.told.lock().unwrap().log, ["stopping"]);
}
