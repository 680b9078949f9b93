//! Several gateways at one host: players taken over, counted frames that survive it, characters looked for, orphans.

mod common;

use bytes::Bytes;
use common::{Bench, Gateway, player};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{self, Channel, RefusalReason, gateway_to_world as to_world, world_to_gateway as to_gateway};
use tidegate_types::Epoch;
use tidegate_world::{Refusal, Seat};

const LEASE: u32 = 3000;

fn take_over(channel: Channel) -> v1::Attach {
    v1::Attach { take_over: true, channel: Some(channel), ..v1::Attach::default() }
}

fn down(down: u64) -> Channel {
    Channel { down, ..Channel::default() }
}

async fn attached(gateway: &mut Gateway) -> v1::Attached {
    match gateway.control().await {
        to_gateway::Message::Attached(attached) => attached,
        other => panic!("expected Attached, not {other:?}"),
    }
}

async fn refused(gateway: &mut Gateway) -> v1::AttachRefused {
    match gateway.control().await {
        to_gateway::Message::AttachRefused(refused) => refused,
        other => panic!("expected AttachRefused, not {other:?}"),
    }
}

async fn found(gateway: &mut Gateway, id: u64, who: &v1::SessionIdentity) -> Option<v1::Resident> {
    let (player, character) = (who.player.clone(), who.character.clone());
    gateway.say(0, to_world::Message::Find(v1::Find { id, player, character }));
    match gateway.control().await {
        to_gateway::Message::Found(found) => {
            assert_eq!(found.id, id);
            found.resident
        }
        other => panic!("expected Found, not {other:?}"),
    }
}

/// Returns when the world has read what was said before on the streams of handles 1 and 5.
async fn all_is_read(gateway: &mut Gateway) {
    gateway.say(9, to_world::Message::Leave(v1::Leave { handle: 9, epoch: 1, reason: "logout".into() }));
    assert_eq!(gateway.control().await, to_gateway::Message::Left(v1::Left { handle: 9 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_goes_on_under_another_gateway_and_no_frame_is_lost_or_doubled() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut a = bench.gateway_named("gw-a", &host, LEASE).await;
    a.roster().await;
    let who = v1::SessionIdentity { party: "friends".into(), ..player(1) };
    a.attached(1, &who, 1).await;
    for word in ["one", "two"] {
        a.game(1, word);
        a.hears(word).await;
    }
    a.counted(1, 2).await;
    a.say(1, to_world::Message::FramesReceived(v1::FramesReceived { handles: vec![1], counts: vec![1] }));

    let mut b = bench.gateway_named("gw-b", &host, LEASE).await;
    assert_eq!(b.roster().await[0].gateway_id, "gw-a");
    // The player has one of the two.
    b.attach_as(5, &who, 2, take_over(down(1)));
    let taken = attached(&mut b).await;
    assert_eq!((taken.epoch, taken.party.as_str()), (2, "friends"));
    assert_eq!(taken.channel, Some(Channel { up: 2, down: 1, ..Channel::default() }));
    b.hears("two").await;
    assert_eq!(a.control().await, to_gateway::Message::TakenOver(v1::TakenOver { handle: 1, epoch: 2 }));
    // What the old gateway still says under its handle is neither heard nor answered nor counted.
    a.game(1, "late");
    a.say(1, to_world::Message::Leave(v1::Leave { handle: 1, epoch: 1, reason: "logout".into() }));
    all_is_read(&mut a).await;
    b.game(5, "three");
    b.hears("three").await;
    b.counted(5, 3).await;
    assert_eq!(b.frozen(5, 2).await.state, "onetwothree");
    assert_eq!(host.log(), ["attach p1 1", "park 0", "reclaim 0 2", "unpark 0", "freeze 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_is_refused_with_the_reason() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let (mut a, mut b) = (bench.gateway(&host, LEASE).await, bench.gateway(&host, LEASE).await);
    a.roster().await;
    b.roster().await;
    b.attach_as(1, &player(1), 2, take_over(down(0)));
    assert_eq!(refused(&mut b).await.reason(), RefusalReason::Unknown);
    a.attached(1, &player(1), 1).await;
    b.attach_as(1, &player(1), 2, v1::Attach { refuse_connected: true, ..take_over(down(0)) });
    assert_eq!(refused(&mut b).await.reason(), RefusalReason::PlayerOnline);
    a.game(1, "still here");
    a.hears("still here").await;
    // The database says that the player lives elsewhere: what is here is forgotten.
    let (highest, saved) = (Epoch(7), Some(Epoch(6)));
    host.told.lock().unwrap().refuse_reclaim = Some(Refusal::StaleEpoch { highest, saved });
    b.attach_as(1, &player(1), 2, take_over(down(0)));
    let stale = refused(&mut b).await;
    assert_eq!((stale.reason(), stale.highest_epoch, stale.saved_epoch), (RefusalReason::StaleEpoch, 7, 6));
    manager.status("nobody", |status| status.players == 0).await;
    assert_eq!(host.log()[1..], ["park 0", "reclaim 0 2", "release 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_back_is_sent_what_the_broken_one_lost() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 3).await;
    for word in ["0", "1", "2"] {
        gateway.game(1, word);
        gateway.hears(word).await;
    }
    gateway.sender.close(CloseCode::Internal, "test");
    host.logged("park 0").await;
    host.outbox().send(Seat(0), &Bytes::from_static(b"meanwhile"));
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    let again = |channel| v1::Attach { channel: Some(channel), ..v1::Attach::default() };
    gateway.attach_as(5, &player(1), 3, again(down(2)));
    let channel = attached(&mut gateway).await.channel;
    assert_eq!(channel, Some(Channel { up: 3, down: 2, ..Channel::default() }));
    for word in ["2", "meanwhile"] {
        gateway.hears(word).await;
    }
    // Another client at the same gateway, under the same handle: counts begin anew, and the world is told.
    gateway.attach_as(5, &player(1), 3, again(Channel { restart: true, ..Channel::default() }));
    assert_eq!(attached(&mut gateway).await.channel, Some(Channel::default()));
    gateway.game(5, "new");
    gateway.hears("new").await;
    gateway.counted(5, 1).await;
    assert_eq!(host.log(), ["attach p1 3", "park 0", "unpark 0", "park 0", "unpark 0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_was_too_small_is_a_gap_that_is_told() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(1), 3).await;
    gateway.sender.close(CloseCode::Internal, "test");
    host.logged("park 0").await;
    for n in 0..300_u32 {
        host.outbox().send(Seat(0), &Bytes::from(n.to_string()));
    }
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    gateway.attached(1, &player(2), 1).await;
    gateway.attach_as(5, &player(1), 3, v1::Attach { channel: Some(down(0)), ..v1::Attach::default() });
    let channel = attached(&mut gateway).await.channel;
    assert_eq!(channel, Some(Channel { down: 44, gap: true, ..Channel::default() }));
    for n in 44..300_u32 {
        gateway.hears(&n.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_home_counts_on_from_the_old_one() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut gateway = bench.gateway(&host, LEASE).await;
    gateway.roster().await;
    let identity = Some(player(1));
    let channel = Some(Channel { up: 4, down: 2, frames: vec![b"two".to_vec()], ..Channel::default() });
    let digest = blake3::hash(b"").as_bytes().to_vec();
    let cause = v1::Cause::Zone.into();
    let prepare =
        v1::Prepare { handle: 1, identity, epoch: 8, digest, format: 1, cause, channel, ..v1::Prepare::default() };
    gateway.say(1, to_world::Message::Prepare(prepare));
    assert!(matches!(gateway.control().await, to_gateway::Message::Prepared(_)));
    gateway.say(1, to_world::Message::Activate(v1::Activate { handle: 1, epoch: 8 }));
    gateway.game(1, "here");
    assert!(matches!(gateway.control().await, to_gateway::Message::Activated(_)));
    // The world's own first frame; what the old home sent is with the gateway.
    gateway.hears("").await;
    gateway.hears("here").await;
    gateway.counted(1, 5).await;
    gateway.attach_as(5, &player(1), 8, v1::Attach { channel: Some(down(2)), ..v1::Attach::default() });
    assert!(matches!(gateway.control().await, to_gateway::Message::Eject(eject) if eject.handle == 1));
    let channel = attached(&mut gateway).await.channel;
    assert_eq!(channel, Some(Channel { up: 5, down: 2, ..Channel::default() }));
    for word in ["two", "", "here"] {
        gateway.hears(word).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_looked_for_is_found_with_their_gateway() {
    let mut bench = Bench::new().await;
    let (host, _keep) = bench.serving("s-1").await;
    let mut a = bench.gateway_named("gw-a", &host, LEASE).await;
    let mut b = bench.gateway_named("gw-b", &host, LEASE).await;
    a.roster().await;
    b.roster().await;
    a.attached(1, &player(1), 4).await;
    let resident = found(&mut b, 1, &player(1)).await.expect("held");
    assert_eq!((resident.epoch, resident.gateway_id.as_str()), (4, "gw-a"));
    assert_eq!(found(&mut b, 2, &player(2)).await, None);
    let other = v1::SessionIdentity { character: "another".into(), ..player(1) };
    assert_eq!(found(&mut b, 3, &other).await, None);
    a.sender.close(CloseCode::Internal, "test");
    host.logged("park 0").await;
    assert_eq!(found(&mut b, 4, &player(1)).await.expect("held").gateway_id, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_for_whom_nobody_comes_leaves() {
    let mut bench = Bench::new().await;
    let (host, mut manager) = bench.serving("s-1").await;
    let mut gateway = bench.gateway_keeping("gw-a", &host, LEASE, 200).await;
    let mut single = bench.gateway_keeping("gw-b", &host, LEASE, 0).await;
    gateway.roster().await;
    single.roster().await;
    gateway.attached(1, &player(1), 1).await;
    gateway.attached(2, &player(2), 1).await;
    single.attached(3, &player(3), 1).await;
    gateway.frozen(2, 1).await;
    for gone in [&gateway, &single] {
        gone.sender.close(CloseCode::Internal, "test");
    }
    host.logged("leave 0 grace_over").await;
    host.logged("release 1").await;
    manager.status("only the one who is kept for ever", |status| status.players == 1).await;
}
