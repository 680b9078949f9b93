//! Sessions on a host: attach and frames, hand-overs between two hosts and their failures, leases, links that break.

mod common;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::{Bench, player, soon};
use tidegate_link::Event;
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{self, RefusalReason, gateway_to_world as to_world, world_to_gateway as to_gateway};
use tidegate_world::Seat;

const LEASE: u32 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_comes_plays_and_leaves() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    assert!(gateway.roster().await.is_empty());
    gateway.attached(7, &player(1), 1).await;
    for word in ["one", "two", "three"] {
        gateway.game(7, word);
    }
    for word in ["one", "two", "three"] {
        gateway.hears(word).await;
    }
    gateway.sender.datagram(7, &Bytes::from_static(b"here")).unwrap();
    assert!(matches!(gateway.next().await, Event::Datagram { handle: 7, payload } if payload == "here"));
    let status = manager.status("one player", |status| status.players == 1).await;
    assert_eq!((status.parked, status.in_handover), (0, 0));
    assert_eq!(status.zones, [v1::ZonePopulation { zone: "town".into(), players: 1 }]);
    let leave = v1::Leave { handle: 7, epoch: 1, reason: "logout".into() };
    gateway.say(7, to_world::Message::Leave(leave.clone()));
    assert_eq!(gateway.control().await, to_gateway::Message::Left(v1::Left { handle: 7 }));
    assert_eq!(host.log(), ["attach p1 1", "leave 0 logout"]);
    // Asked again, about a handle that is free: answered again.
    gateway.say(7, to_world::Message::Leave(leave));
    assert_eq!(gateway.control().await, to_gateway::Message::Left(v1::Left { handle: 7 }));
    manager.status("nobody", |status| status.players == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smoke_test_that_dies_leaves_nobody_behind() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut smoke = bench.gateway_named("manager", &host, LEASE).await;
    smoke.roster().await;
    smoke.attached(1, &player(1), 1).await;
    smoke.attached(2, &player(2), 1).await;
    smoke.frozen(2, 1).await;
    smoke.prepare(3, &player(3), 1, &nothing());
    assert_eq!(smoke.control().await, to_gateway::Message::Prepared(v1::Prepared { handle: 3 }));
    manager.status("three probes", |status| status.players == 3).await;
    smoke.sender.close(CloseCode::Internal, "test");
    manager.status("nobody", |status| status.players == 0).await;
}

/// An empty state with its true digest.
fn nothing() -> v1::Frozen {
    v1::Frozen { handle: 0, epoch: 0, state: Bytes::new(), format: 1, digest: blake3::hash(b"").as_bytes().to_vec() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_carries_state_and_frames_to_the_other_host() {
    let mut bench = Bench::new().await;
    let (source, _keep_a) = bench.serving("s-a").await;
    let (target, _keep_b) = bench.serving("s-b").await;
    target.told.lock().unwrap().keep_activate = true;
    let (mut a, mut b) = (bench.gateway(&source, LEASE).await, bench.gateway(&target, LEASE).await);
    a.roster().await;
    b.roster().await;
    a.attached(1, &player(1), 5).await;
    a.game(1, "before ");
    let frozen = {
        a.hears("before ").await;
        a.frozen(1, 5).await
    };
    assert_eq!(frozen.state, "before ");
    b.prepare(4, &player(1), 6, &frozen);
    assert_eq!(b.control().await, to_gateway::Message::Prepared(v1::Prepared { handle: 4 }));
    // The commit happens here; then the waiting frames follow `Activate` at once, before it is answered.
    b.say(4, to_world::Message::Activate(v1::Activate { handle: 4, epoch: 6 }));
    b.game(4, "after");
    a.say(1, to_world::Message::Release(v1::Release { handle: 1, epoch: 5 }));
    assert_eq!(a.control().await, to_gateway::Message::Released(v1::Released { handle: 1 }));
    target.logged("activate 0 6").await;
    let reply = target.told.lock().unwrap().activate.take().unwrap();
    reply.send(Ok(common::town()));
    assert!(matches!(b.control().await, to_gateway::Message::Activated(activated) if activated.epoch == 6));
    b.hears("before ").await;
    b.hears("after").await;
    assert_eq!(b.frozen(4, 6).await.state, "before after");
    assert_eq!(source.log(), ["attach p1 5", "freeze 0", "release 0"]);
    // The old epoch is over for ever, and so is the new one for a stranger.
    let mut stranger = player(1);
    stranger.session_id = player(99).session_id;
    for (gateway, epoch) in [(&mut a, 5), (&mut b, 6)] {
        gateway.attach(9, &stranger, epoch);
        match gateway.control().await {
            to_gateway::Message::AttachRefused(refused) => {
                assert_eq!((refused.reason(), refused.highest_epoch), (RefusalReason::StaleEpoch, epoch));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_hand_over_leaves_the_player_where_they_were() {
    let mut bench = Bench::new().await;
    let (source, _keep_a) = bench.serving("s-a").await;
    let (target, _keep_b) = bench.serving("s-b").await;
    let (mut a, mut b) = (bench.gateway(&source, LEASE).await, bench.gateway(&target, LEASE).await);
    a.roster().await;
    b.roster().await;
    a.attached(1, &player(1), 5).await;
    a.game(1, "x");
    a.hears("x").await;
    let frozen = a.frozen(1, 5).await;
    let refused = |message| match message {
        to_gateway::Message::PrepareRefused(refused) => refused.reason(),
        other => panic!("{other:?}"),
    };
    b.prepare(1, &player(1), 6, &v1::Frozen { state: Bytes::from_static(b"y"), ..frozen.clone() });
    assert_eq!(refused(b.control().await), RefusalReason::Digest);
    b.prepare(1, &player(1), 6, &v1::Frozen { format: 2, ..frozen.clone() });
    assert_eq!(refused(b.control().await), RefusalReason::Format);
    target.told.lock().unwrap().refuse_prepare = true;
    b.prepare(1, &player(1), 6, &frozen);
    assert_eq!(refused(b.control().await), RefusalReason::Game);
    target.told.lock().unwrap().refuse_prepare = false;
    // Prepared, then given up; the same epoch may be prepared again.
    for _ in 0..2 {
        b.prepare(1, &player(1), 6, &frozen);
        assert_eq!(b.control().await, to_gateway::Message::Prepared(v1::Prepared { handle: 1 }));
        b.say(1, to_world::Message::Abort(v1::Abort { handle: 1 }));
        assert_eq!(b.control().await, to_gateway::Message::Aborted(v1::Aborted { handle: 1 }));
    }
    b.say(1, to_world::Message::Activate(v1::Activate { handle: 1, epoch: 6 }));
    assert!(matches!(b.control().await, to_gateway::Message::AttachRefused(_)), "aborted is aborted");
    a.say(1, to_world::Message::Thaw(v1::Thaw { handle: 1, epoch: 5 }));
    assert_eq!(a.control().await, to_gateway::Message::Thawed(v1::Thawed { handle: 1 }));
    a.game(1, "plays on");
    a.hears("plays on").await;
    // A thaw that overtakes the freeze's answer is the only thing that is answered.
    source.told.lock().unwrap().keep_freeze = true;
    a.say(1, to_world::Message::Freeze(v1::Freeze { handle: 1, epoch: 5 }));
    a.say(1, to_world::Message::Thaw(v1::Thaw { handle: 1, epoch: 5 }));
    // On the same stream of the link (5 % 4 = 1), because order holds only within one.
    a.say(5, to_world::Message::Leave(v1::Leave { handle: 5, epoch: 1, reason: "logout".into() }));
    assert_eq!(a.control().await, to_gateway::Message::Left(v1::Left { handle: 5 }), "all before it is read");
    let reply = soon("the freeze", async {
        loop {
            if let Some(reply) = source.told.lock().unwrap().freeze.take() {
                break reply;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    reply.send(Ok(tidegate_world::Frozen { state: Bytes::new(), format: 1 }));
    assert_eq!(a.control().await, to_gateway::Message::Thawed(v1::Thawed { handle: 1 }));
    a.game(1, "still");
    a.hears("still").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_or_done_while_the_lease_is_over_and_nothing_is_lost() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, 400).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 1).await;
    gateway.answering.store(false, Ordering::SeqCst);
    host.logged("park 0").await;
    // From both sides: held.
    host.outbox().send(Seat(0), &Bytes::from_static(b"from the world"));
    gateway.game(1, "from the player");
    gateway.say(1, to_world::Message::Freeze(v1::Freeze { handle: 1, epoch: 1 }));
    manager.status("a parked player", |status| status.parked == 1).await;
    assert!(gateway.events.try_recv().is_err(), "something was said without a lease");
    assert!(!host.log().iter().any(|line| line == "freeze 0"));
    gateway.answering.store(true, Ordering::SeqCst);
    gateway.hears("from the world").await;
    gateway.hears("from the player").await;
    assert!(
        matches!(gateway.control().await, to_gateway::Message::Frozen(frozen) if frozen.state == "from the player")
    );
    assert_eq!(host.log(), ["attach p1 1", "park 0", "unpark 0", "freeze 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_link_parks_and_the_same_session_is_bound_again() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 3).await;
    gateway.sender.close(CloseCode::Internal, "test");
    host.logged("park 0").await;
    host.outbox().send(Seat(0), &Bytes::from_static(b"meanwhile"));
    let mut gateway = bench.gateway(&host, LEASE).await;
    let roster = gateway.roster().await;
    assert_eq!((roster.len(), roster[0].epoch, roster[0].zone.as_str()), (1, 3, "town"));
    // Another session at the same epoch: no.
    gateway.attach(5, &v1::SessionIdentity { session_id: player(2).session_id, ..player(1) }, 3);
    assert!(matches!(gateway.control().await, to_gateway::Message::AttachRefused(_)));
    gateway.attached(5, &player(1), 3).await;
    gateway.hears("meanwhile").await;
    gateway.game(5, "hello again");
    gateway.hears("hello again").await;
    assert_eq!(host.log(), ["attach p1 3", "park 0", "unpark 0"]);
    // A higher epoch takes the player over without saving what is here. (Both handles are on one stream: order is kept.)
    gateway.attach(9, &player(1), 5);
    assert!(matches!(gateway.control().await, to_gateway::Message::Eject(eject) if eject.handle == 5));
    assert!(matches!(gateway.control().await, to_gateway::Message::Attached(attached) if attached.epoch == 5));
    assert_eq!(host.log()[3..], ["release 0", "attach p1 5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_taken_up_again_is_in_play_whatever_it_was() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 3).await;
    // On the same stream of the link, so that its answer shows that all before it was read.
    gateway.attached(5, &player(2), 3).await;
    gateway.say(1, to_world::Message::Park(v1::Park { handle: 1 }));
    host.logged("park 0").await;
    gateway.game(1, "not while parked");
    gateway.frozen(5, 3).await;
    let blob = v1::Frozen { digest: blake3::hash(b"").as_bytes().to_vec(), format: 1, ..v1::Frozen::default() };
    gateway.prepare(3, &player(3), 8, &blob);
    assert!(matches!(gateway.control().await, to_gateway::Message::Prepared(_)));
    gateway.sender.close(CloseCode::Internal, "test");
    let mut gateway = bench.gateway(&host, LEASE).await;
    assert_eq!(gateway.roster().await.len(), 3);
    for _ in 0..2 {
        assert!(matches!(gateway.control().await, to_gateway::Message::WhoOwns(_)));
    }
    gateway.attached(11, &player(1), 3).await;
    gateway.hears("not while parked").await;
    gateway.attached(12, &player(2), 3).await;
    gateway.game(12, "thawed");
    gateway.hears("thawed").await;
    gateway.attached(13, &player(3), 8).await;
    gateway.hears("").await;
    gateway.game(13, "activated");
    gateway.hears("activated").await;
    let log = host.log();
    for line in ["unpark 0", "thaw 1", "activate 2 8"] {
        assert!(log.iter().any(|have| have == line), "{line} is not in {log:?}");
    }
    assert_eq!(log.iter().filter(|line| line.starts_with("attach")).count(), 2, "nothing was loaded again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_lives_elsewhere_is_forgotten() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 3).await;
    gateway.sender.close(CloseCode::Internal, "test");
    host.logged("park 0").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    let owner = |epoch, server_id: &str| {
        let (session_id, server_id) = (player(1).session_id, server_id.to_owned());
        to_world::Message::Owner(v1::Owner { session_id, epoch, server_id, handle: 0 })
    };
    // Not known, here, or an older truth: nothing happens.
    for message in [owner(0, ""), owner(3, "s-1"), owner(2, "s-2")] {
        gateway.say(0, message);
    }
    gateway.say(0, owner(5, "s-2"));
    host.logged("release 0").await;
    manager.status("nobody", |status| status.players == 0).await;
    assert_eq!(host.log(), ["attach p1 3", "park 0", "release 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_left_frozen_or_prepared_asks_and_does_as_it_is_told() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    for n in 1..=2 {
        gateway.attached(n, &player(u128::from(n)), 3).await;
        gateway.frozen(n, 3).await;
    }
    let blob = v1::Frozen { digest: blake3::hash(b"").as_bytes().to_vec(), format: 1, ..v1::Frozen::default() };
    for n in 3..=4 {
        gateway.prepare(n, &player(u128::from(n)), 8, &blob);
        assert!(matches!(gateway.control().await, to_gateway::Message::Prepared(_)));
    }
    gateway.sender.close(CloseCode::Internal, "test");
    let mut gateway = bench.gateway(&host, LEASE).await;
    let roster = gateway.roster().await;
    assert_eq!(roster.iter().filter(|r| r.frozen).count(), 2);
    assert_eq!(roster.iter().filter(|r| r.prepared).count(), 2);
    let mut asked = Vec::new();
    for _ in 0..4 {
        match gateway.control().await {
            to_gateway::Message::WhoOwns(question) => asked.push((question.player, question.epoch)),
            other => panic!("{other:?}"),
        }
    }
    asked.sort();
    assert_eq!(asked, [("p1".into(), 3), ("p2".into(), 3), ("p3".into(), 8), ("p4".into(), 8)]);
    assert!(!host.log().iter().any(|line| line.starts_with("thaw")), "it thawed by itself");
    let owner = |n: u128, epoch, server_id: &str, handle| {
        let server_id = server_id.to_owned();
        to_world::Message::Owner(v1::Owner { session_id: player(n).session_id, epoch, server_id, handle })
    };
    // The first is at home here; the second has moved on; the third was committed; the fourth was not.
    gateway.say(0, owner(1, 3, "s-1", 11));
    assert_eq!(gateway.control().await, to_gateway::Message::Thawed(v1::Thawed { handle: 11 }));
    gateway.game(11, "home");
    gateway.hears("home").await;
    gateway.say(0, owner(2, 4, "s-2", 0));
    host.logged("release 1").await;
    gateway.say(0, owner(3, 8, "s-1", 13));
    gateway.say(13, to_world::Message::Activate(v1::Activate { handle: 13, epoch: 8 }));
    // Owner travels on stream 0 and Activate on the session's: a gateway waits for nothing here, so it may say it again.
    loop {
        match gateway.control().await {
            to_gateway::Message::Activated(activated) => break assert_eq!(activated.handle, 13),
            to_gateway::Message::AttachRefused(_) => {
                gateway.say(13, to_world::Message::Activate(v1::Activate { handle: 13, epoch: 8 }));
            }
            other => panic!("{other:?}"),
        }
    }
    gateway.say(0, owner(4, 7, "s-2", 0));
    host.logged("abort 3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_another_realm_or_a_bad_request_harms_nobody() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attach(1, &v1::SessionIdentity { player: "two words".into(), ..player(1) }, 1);
    match gateway.control().await {
        to_gateway::Message::AttachRefused(refused) => assert!(refused.message.contains("identity.player")),
        other => panic!("{other:?}"),
    }
    gateway.attached(1, &player(1), 1).await;
    let bad = bench.gateway(&host, LEASE).await;
    bad.attach(1_000_000, &player(2), 1);
    assert_eq!(soon("its end", bad.sender.closed()).await.code, Some(CloseCode::BadMessage as u64));
    gateway.game(1, "untouched");
    gateway.hears("untouched").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_is_kept_and_seats_are_used_again() {
    let mut bench = Bench::new().await;
    let mut config = bench.config("s-1");
    config.capacity = 2;
    let host = bench.start(config);
    let mut manager = bench.manager.registration().await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    let refusal = |message| match message {
        to_gateway::Message::AttachRefused(refused) => refused.reason(),
        other => panic!("{other:?}"),
    };
    gateway.attach(1, &player(1), 1);
    assert_eq!(refusal(gateway.control().await), RefusalReason::NotReady, "before it serves");
    manager.serve().await;
    gateway.attached(1, &player(1), 1).await;
    gateway.attached(2, &player(2), 1).await;
    gateway.attach(3, &player(3), 1);
    assert_eq!(refusal(gateway.control().await), RefusalReason::Full);
    gateway.say(1, to_world::Message::Leave(v1::Leave { handle: 1, epoch: 1, reason: "logout".into() }));
    assert!(matches!(gateway.control().await, to_gateway::Message::Left(_)));
    gateway.attached(3, &player(3), 1).await;
    assert_eq!(host.log().last().unwrap(), "attach p3 1");
}
