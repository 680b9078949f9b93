//! World servers in processes of their own that are killed, die and are paused: what the realm database and its ledger say
//! afterwards.

use std::time::Duration;

use rusqlite::Connection;
use tidegate_proto::stub::v1::{Give, SpendItem, action};
use tidegate_proto::v1::gateway_to_world::Message as ToWorld;
use tidegate_proto::v1::world_to_gateway::Message as FromWorld;
use tidegate_proto::v1::{Activate, Cause, Release};

use crate::harness::{Fleet, LEASE_MS, be_a_server, place, until};
use crate::{ALL_THE_GOLD, ping};

#[test]
#[ignore = "is a world server, for the other tests to start"]
fn world_server_process() {
    be_a_server();
}

fn buy() -> action::Kind {
    action::Kind::Item(SpendItem { sell: false })
}

fn one(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_was_traded_and_replays_the_rest() {
    let mut fleet = Fleet::new().await;
    // Never saves by itself in the time of this test: only trades are in the database when it is killed.
    let mut a = fleet.start_process("s-a", "--save-every-ms 60000").await;
    for (handle, name) in [(1, "ann"), (2, "bob")] {
        a.attach(handle, name, 1, None).await.unwrap();
        a.entered(handle).await;
    }
    a.act(1, 1, action::Kind::Give(Give { to: "bob".to_owned(), gold: 40 }));
    a.act(1, 2, buy());
    assert_eq!([a.answer(1).await.gold, a.answer(1).await.gold], [60, 50]);
    fleet.kill();

    let mut b = fleet.start("s-b", &[]).await;
    for (handle, name, gold, applied) in [(1, "ann", 60, 1), (2, "bob", 140, 0)] {
        b.attach_for(Cause::Crash, handle, name, 3, Some(place("harbor"))).await.unwrap();
        let entered = b.entered(handle).await;
        assert_eq!((entered.gold, entered.applied), (gold, applied), "{name}");
    }
    // Already on its way when the home died: not answered, for it comes again.
    b.act(1, 4, ping("overtaken"));
    // Known already: answered as it was. Not known: done now. Then on as ever.
    b.act_again(1, 1, action::Kind::Give(Give { to: "bob".to_owned(), gold: 40 }));
    b.act_again(1, 2, buy());
    b.act_again(1, 3, ping("three"));
    b.act_again(1, 4, ping("four"));
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = b.answer(1).await;
        answers.push((answer.sequence, answer.ok, answer.gold, answer.items));
    }
    assert_eq!(answers, [(1, true, 60, 0), (2, true, 50, 1), (3, true, 50, 1), (4, true, 50, 1)]);
    fleet.stop().await;
    let audit = fleet.audit();
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, ALL_THE_GOLD), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_wakes_up_and_says_nothing() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start_process("s-a", "--save-every-ms 100").await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.act(1, 1, ping("saved"));
    a.answer(1).await;
    let db = Connection::open(fleet.database()).unwrap();
    until("the save", || (one(&db, "SELECT applied FROM characters") == 1).then_some(())).await;
    a.act(1, 2, buy());
    a.answer(1).await;
    fleet.pause(true).await;
    // The gateway's part of the rule: the whole lease, and some, before it gives the player a new home.
    tokio::time::sleep(Duration::from_millis(u64::from(LEASE_MS) * 11 / 10)).await;

    let mut b = fleet.start("s-b", &[]).await;
    b.attach_for(Cause::Crash, 1, "ann", 2, None).await.unwrap();
    let entered = b.entered(1).await;
    b.act(1, entered.applied + 1, ping("at the new home"));
    assert!(b.answer(1).await.ok);

    let seen = "SELECT seen_us FROM processes WHERE server = 's-a'";
    let before = one(&db, seen);
    fleet.pause(false).await;
    until("it ticks again", || (one(&db, seen) > before).then_some(())).await;
    // What it does from now on, it does with an epoch that is over.
    let awake = one(&db, seen);
    until("it ticks on", || (one(&db, seen) > awake + 500_000).then_some(())).await;
    let audit = fleet.audit();
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, ALL_THE_GOLD), "{audit:?}");
    assert_eq!(one(&db, "SELECT epoch FROM characters"), 2);
    assert_eq!(one(&db, "SELECT gold FROM characters"), i64::try_from(entered.gold).unwrap());
    fleet.kill();
    fleet.stop().await;
}

/// What came while it was stopped lies in its socket, and a save may lie in its queue: neither is acted on, and nothing is
/// said, before a heartbeat that was sent after waking is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_whose_gateway_has_given_it_up_does_nothing() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start_process("s-a", "--save-every-ms 100").await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.entered(1).await;
    a.act(1, 1, ping("saved"));
    a.answer(1).await;
    let db = Connection::open(fleet.database()).unwrap();
    until("the save", || (one(&db, "SELECT applied FROM characters") == 1).then_some(())).await;
    a.unasked();
    fleet.pause(true).await;
    // Written to its socket while it sleeps.
    a.act(1, 2, buy());
    a.answering.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(u64::from(LEASE_MS) * 11 / 10)).await;
    let mut b = fleet.start("s-b", &[]).await;
    b.attach_for(Cause::Crash, 1, "ann", 2, None).await.unwrap();
    b.entered(1).await;

    let seen = "SELECT seen_us FROM processes WHERE server = 's-a'";
    let before = one(&db, seen);
    fleet.pause(false).await;
    until("it ticks on", || (one(&db, seen) > before + 1_000_000).then_some(())).await;
    assert_eq!(a.unasked(), [], "something was said without a lease");
    assert_eq!(one(&db, "SELECT applied FROM characters"), 1);
    // Answered again, it may speak, but the character is another home's.
    a.answering.store(true, std::sync::atomic::Ordering::SeqCst);
    a.hear("the end", |message| if let FromWorld::Eject(it) = message { Some(it.clone()) } else { None }).await;
    let row = "SELECT epoch * 1000 + applied FROM characters";
    assert_eq!(one(&db, row), 2001);
    assert!(
        one(&db, "SELECT value FROM counters WHERE name = 'stale_writes_refused'") > 0,
        "the guard was never asked"
    );
    fleet.kill();
    fleet.stop().await;
    let audit = fleet.audit();
    assert_eq!((audit.duplicate_epochs, audit.gold_total), (0, ALL_THE_GOLD), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_in_activate_costs_nothing() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &[]).await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.act(1, 1, buy());
    a.answer(1).await;
    let frozen = a.freeze(1, 1).await;
    let mut b = fleet.start_process("s-b", "--fault die-in=activate").await;
    b.prepare(1, "ann", frozen, place("forest")).await.unwrap();
    b.say(1, ToWorld::Activate(Activate { handle: 1, epoch: 2 }));
    a.say(1, ToWorld::Release(Release { handle: 1, epoch: 1 }));
    fleet.dies().await;

    a.attach_for(Cause::Crash, 2, "ann", 3, Some(place("forest"))).await.unwrap();
    let entered = a.entered(2).await;
    assert_eq!((entered.gold, entered.items, entered.applied, entered.zone.as_str()), (90, 1, 1, "forest"));
    fleet.stop().await;
    let audit = fleet.audit();
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, ALL_THE_GOLD), "{audit:?}");
}
