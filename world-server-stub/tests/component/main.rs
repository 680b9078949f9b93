//! Whole world servers over loopback, with a manager and a gateway in miniature: what the SDK and the game do together.

mod crashes;
mod harness;

use harness::{Fleet, LONG, place};
use prost::Message;
use tidegate_proto::stub::v1::{Give, GoTo, Ping, Position, Snapshot, SpendItem, ZoneState, action};
use tidegate_proto::v1::gateway_to_world::Message as ToWorld;
use tidegate_proto::v1::world_directive::Message as Directive;
use tidegate_proto::v1::world_report::Message as Report;
use tidegate_proto::v1::world_to_gateway::Message as FromWorld;
use tidegate_proto::v1::{
    Activate, Attach, Barrier, BarrierRelease, Cause, Channel, Leave, RefusalReason, Release, Thaw, TransferRefused,
};

pub(crate) const ALL_THE_GOLD: u64 = 1_000_000_000;

pub(crate) fn ping(text: &str) -> action::Kind {
    action::Kind::Ping(Ping { payload: text.into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_live_and_move_between_two_servers() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &[]).await;
    let mut b = fleet.start("s-b", &["--build", "2.0.0"]).await;

    // Two players come in; the first frame is where they are.
    assert_eq!(a.attach(1, "ann", 1, Some(place("harbor"))).await.unwrap().zone, "harbor");
    let entered = a.entered(1).await;
    assert_eq!((entered.zone.as_str(), entered.gold, entered.applied, entered.epoch), ("harbor", 100, 0, 1));
    a.attach(2, "bob", 1, Some(place("harbor"))).await.unwrap();
    a.entered(2).await;

    // They act, in order.
    a.act(1, 1, ping("hello"));
    a.act(1, 2, action::Kind::Give(Give { to: "bob".to_owned(), gold: 30 }));
    a.act(1, 3, action::Kind::Item(SpendItem { sell: false }));
    let answers = [a.answer(1).await, a.answer(1).await, a.answer(1).await];
    assert_eq!(
        answers.clone().map(|x| (x.sequence, x.ok, x.gold, x.items)),
        [(1, true, 100, 0), (2, true, 70, 0), (3, true, 60, 1)]
    );
    assert_eq!((answers[0].payload.as_slice(), answers[0].server_id.as_str()), (&b"hello"[..], "s-a"));
    a.datagram(1, &Position { x: 3, y: 4, sequence: 9, sent_us: 77 });
    let snapshot = Snapshot::decode(a.heard_datagram(1).await).unwrap();
    assert_eq!((snapshot.x, snapshot.echo_sequence, snapshot.echo_sent_us), (3, 9, 77));

    // Ann walks into the forest: asked, handed over to the new build, and back is impossible (it writes format 2).
    a.act(1, 4, action::Kind::GoTo(GoTo { zone: "forest".to_owned() }));
    assert!(a.answer(1).await.ok);
    let asked = a.hear("Transfer", |m| if let FromWorld::Transfer(t) = m { Some(t.clone()) } else { None }).await;
    assert_eq!((asked.handles, asked.to.unwrap().zone), (vec![1], "forest".to_owned()));
    let frozen = a.freeze(1, 1).await;
    assert_eq!(frozen.format, 1);
    b.prepare(7, "ann", frozen, place("forest")).await.unwrap();
    b.say(7, ToWorld::Activate(Activate { handle: 7, epoch: 2 }));
    a.say(1, ToWorld::Release(Release { handle: 1, epoch: 1 }));
    let activated = b.hear("Activated", |m| if let FromWorld::Activated(x) = m { Some(x.clone()) } else { None }).await;
    assert_eq!((activated.epoch, activated.place.unwrap().zone), (2, "forest".to_owned()));
    let entered = b.entered(7).await;
    assert_eq!((entered.gold, entered.items, entered.applied, entered.zone.as_str()), (60, 1, 4, "forest"));
    b.act(7, 5, ping("from the other side"));
    let answer = b.answer(7).await;
    assert_eq!((answer.sequence, answer.ok, answer.epoch, answer.server_id.as_str()), (5, true, 2, "s-b"));
    let frozen = b.freeze(7, 2).await;
    assert_eq!(frozen.format, 2);
    let refused = a.prepare(3, "ann", frozen, place("harbor")).await.unwrap_err();
    assert_eq!(refused.reason(), RefusalReason::Format);
    b.say(7, ToWorld::Thaw(Thaw { handle: 7, epoch: 2 }));
    b.act(7, 6, ping("played on"));
    assert!(b.answer(7).await.ok);

    fleet.stop().await;
    let audit = fleet.audit();
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.stale_writes_refused), (0, 0, 0), "{audit:?}");
    assert_eq!((audit.gold_total, audit.characters), (ALL_THE_GOLD, 2));
    assert!(audit.intervals >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_goes_on_elsewhere() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &[]).await;
    let mut far = fleet.start("far-a", &[]).await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.act(1, 1, action::Kind::Item(SpendItem { sell: false }));
    a.answer(1).await;
    a.say(1, ToWorld::Leave(Leave { handle: 1, epoch: 1, reason: "logout".to_owned() }));
    a.hear("Left", |m| if let FromWorld::Left(_) = m { Some(()) } else { None }).await;

    let stale = a.attach(2, "ann", 1, None).await.unwrap_err();
    assert_eq!((stale.reason(), stale.highest_epoch), (RefusalReason::StaleEpoch, 1));
    let elsewhere = far.attach(3, "ann", 2, None).await.unwrap_err();
    assert_eq!(elsewhere.reason(), RefusalReason::WrongZone);
    assert_eq!(elsewhere.place.unwrap().zone, "harbor");
    assert_eq!(far.attach(3, "ann", 2, Some(place("desert"))).await.unwrap().zone, "desert");
    let entered = far.entered(3).await;
    assert_eq!((entered.gold, entered.items, entered.applied), (90, 1, 1));
    let not_here = far.attach(4, "bob", 1, Some(place("harbor"))).await.unwrap_err();
    assert_eq!(not_here.reason(), RefusalReason::WrongZone);

    // A probe owns nothing and leaves nothing.
    a.attach(5, "probe-1", 1, None).await.unwrap();
    assert_eq!(a.entered(5).await.gold, 0);
    a.say(5, ToWorld::Leave(Leave { handle: 5, epoch: 1, reason: "logout".to_owned() }));
    a.hear("Left", |m| if let FromWorld::Left(_) = m { Some(()) } else { None }).await;
    assert_eq!(fleet.audit().characters, 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_world_stands_still_for_a_snapshot_and_goes_on() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &["--save-every-ms", "60000"]).await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.attach(2, "bob", 1, None).await.unwrap();
    a.act(1, 1, action::Kind::Item(SpendItem { sell: false }));
    a.answer(1).await;
    a.act(1, 2, action::Kind::Give(Give { to: "bob".to_owned(), gold: 5 }));

    let barrier = Barrier { snapshot_id: "snap-1".to_owned(), timeout_ms: 30_000 };
    fleet.direct("s-a", Directive::Barrier(barrier));
    let zones =
        fleet.report("s-a", |r| if let Report::BarrierReached(x) = r { Some(x.zones.clone()) } else { None }).await;
    let harbor = zones.iter().find(|zone| zone.zone == "harbor").unwrap();
    assert_eq!(ZoneState::decode(&*harbor.state).unwrap().visits, 2);
    // What was answered is in the cut.
    let db = rusqlite::Connection::open(fleet.database()).unwrap();
    let items: i64 = db.query_row("SELECT items FROM characters WHERE character = 'ann'", [], |r| r.get(0)).unwrap();
    assert_eq!(items, 1);
    assert_eq!(fleet.audit().gold_total, ALL_THE_GOLD);

    a.act(1, 3, ping("during the snapshot"));
    fleet.direct("s-a", Directive::BarrierRelease(BarrierRelease { snapshot_id: "snap-1".to_owned() }));
    let answers = [a.answer(1).await, a.answer(1).await];
    assert_eq!(answers.map(|x| (x.sequence, x.ok)), [(2, true), (3, true)]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_of_this_very_server_is_entered_when_the_gateway_says_here() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &[]).await;
    a.attach(1, "ann", 1, None).await.unwrap();
    a.entered(1).await;
    a.act(1, 1, action::Kind::GoTo(GoTo { zone: "forest".to_owned() }));
    a.hear("Transfer", |m| if let FromWorld::Transfer(_) = m { Some(()) } else { None }).await;
    a.say(1, ToWorld::TransferRefused(TransferRefused { handle: 1, reason: "here".to_owned() }));
    assert_eq!(a.entered(1).await.zone, "forest");
    let status = a
        .hear("its status", |m| match m {
            FromWorld::Status(s) if s.zone == "forest" => Some(s.zone_kind.clone()),
            _ => None,
        })
        .await;
    assert_eq!(status, "shared");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_show_on_demand() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &["--fault", "lie-population=7"]).await;
    let mut b = fleet.start("s-b", &["--fault", "refuse-prepare=1,wrong-build=1.8.0"]).await;
    a.attach(1, "ann", 1, None).await.unwrap();
    let frozen = a.freeze(1, 1).await;
    let refused = b.prepare(4, "ann", frozen.clone(), place("harbor")).await.unwrap_err();
    assert_eq!((refused.reason(), refused.message.as_str()), (RefusalReason::Game, "refused as asked"));
    b.prepare(5, "ann", frozen, place("harbor")).await.unwrap();
    fleet.report("s-a", |r| matches!(r, Report::Status(s) if s.players == 8).then_some(())).await;
    let build = fleet.report("s-b", |r| if let Report::Register(x) = r { Some(x.build.clone()) } else { None }).await;
    assert_eq!(build, "1.8.0");
    fleet.stop().await;
}

/// Two gateways, one server: the second takes the player over, in memory, with a claim from exactly the epoch that is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_taken_over_keeps_everything_and_is_saved_under_the_new_epoch() {
    let mut fleet = Fleet::new().await;
    let mut first = fleet.start("s-a", &["--save-every-ms", "60000"]).await;
    let mut second = fleet.link("s-a").await;
    first.attach(1, "ann", 1, Some(place("harbor"))).await.unwrap();
    first.entered(1).await;
    first.act(1, 1, action::Kind::Item(SpendItem { sell: false }));
    assert_eq!(first.answer(1).await.gold, 90);
    let take = || Attach {
        take_over: true,
        cause: Cause::Resume.into(),
        channel: Some(Channel { down: 2, ..Channel::default() }),
        ..Attach::default()
    };
    let taken = second.attach_as(take(), 3, "ann", 2).await.unwrap();
    assert_eq!(taken.channel, Some(Channel { up: 1, down: 2, ..Channel::default() }));
    first.hear("TakenOver", |m| if let FromWorld::TakenOver(it) = m { Some(*it) } else { None }).await;
    second.act(3, 2, action::Kind::Item(SpendItem { sell: false }));
    let answer = second.answer(3).await;
    assert_eq!((answer.gold, answer.items, answer.epoch), (80, 2, 2));
    // Back to the first, while frozen in a hand-over that the second will not end: not as long as its link lives.
    second.freeze(3, 2).await;
    let refused = first.attach_as(take(), 1, "ann", 3).await.unwrap_err();
    assert_eq!(refused.reason(), RefusalReason::NotReady);
    second.close();
    // Until the server knows that the link is gone.
    let taken = tokio::time::timeout(LONG, async {
        loop {
            match first.attach_as(take(), 1, "ann", 3).await {
                Ok(taken) => break taken,
                Err(refused) => assert_eq!(refused.reason(), RefusalReason::NotReady),
            }
        }
    });
    let taken = taken.await.expect("it notices");
    assert_eq!(taken.epoch, 3);
    first.act(1, 3, ping("home again"));
    // First what the player did not acknowledge to the second gateway.
    assert_eq!((first.answer(1).await.epoch, first.answer(1).await.epoch), (2, 3));
    first.say(1, ToWorld::Leave(Leave { handle: 1, epoch: 3, reason: "logout".into() }));
    first.hear("Left", |m| if let FromWorld::Left(it) = m { Some(*it) } else { None }).await;
    fleet.stop().await;
    let audit = fleet.audit();
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, ALL_THE_GOLD), "{audit:?}");
    assert_eq!((audit.intervals, audit.stale_writes_refused), (3, 0), "one interval an epoch: {audit:?}");
    let db = rusqlite::Connection::open(fleet.database()).unwrap();
    let row: (i64, i64, i64) = db
        .query_row("SELECT epoch, gold, applied FROM characters", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    assert_eq!(row, (3, 80, 3));
}

/// A server that slept through a change of home is asked for the player by a gateway that does not know of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_of_a_player_who_lives_elsewhere_is_refused_by_the_database() {
    let mut fleet = Fleet::new().await;
    let mut a = fleet.start("s-a", &[]).await;
    let mut b = fleet.start("s-b", &[]).await;
    a.attach(1, "ann", 1, Some(place("harbor"))).await.unwrap();
    a.entered(1).await;
    let from = |from| Attach { from_epoch: Some(from), cause: Cause::Crash.into(), ..Attach::default() };
    // A claim must be from what is saved, were it only higher than it.
    for wrong in [0, 2] {
        let refused = b.attach_as(from(wrong), 1, "ann", 3).await.unwrap_err();
        let told = (refused.reason(), refused.highest_epoch, refused.saved_epoch);
        assert_eq!(told, (RefusalReason::StaleEpoch, 1, 1));
    }
    assert_eq!(b.attach_as(from(5), 1, "new", 6).await.unwrap_err().reason(), RefusalReason::StaleEpoch);
    b.attach_as(from(0), 2, "new", 6).await.unwrap();
    b.attach_as(from(1), 1, "ann", 3).await.unwrap();
    let take = Attach { take_over: true, cause: Cause::Resume.into(), ..Attach::default() };
    let refused = a.attach_as(take.clone(), 2, "ann", 4).await.unwrap_err();
    let told = (refused.reason(), refused.highest_epoch, refused.saved_epoch);
    assert_eq!(told, (RefusalReason::StaleEpoch, 3, 3));
    let refused = a.attach_as(take, 2, "ann", 5).await.unwrap_err();
    assert_eq!(refused.reason(), RefusalReason::Unknown, "forgotten");
    b.act(1, 1, ping("here"));
    assert_eq!(b.answer(1).await.epoch, 3);
    fleet.stop().await;
}
