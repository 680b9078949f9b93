//! The machine alone: each step's ways out, and that no sequence of events gives the player two homes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::decide::{Decision, LoginAsk, Occupancy, Seats, decide_login};
use crate::fixture::{environment, rules, run, server, table};
use crate::message::Place;
use tidegate_types::{EnvironmentId, ServerId};

struct Empty;

impl Seats for Empty {
    fn occupancy(&self, _: &ServerId) -> Option<Occupancy> {
        Some(Occupancy { key: ServerKey(1), players: 0 })
    }
    fn instance_host(&self, _: &EnvironmentId, _: &Place) -> Option<ServerKey> {
        None
    }
}

fn begun() -> Handover {
    let table = table(1, Some("blue"), vec![environment("blue", vec![server("b", &[])])], rules());
    let ask = LoginAsk { place: None, client_version: "1.0.0", party_environment: None, avoid: &[] };
    let Decision::Route(permit) = decide_login(&table, &Empty, &ask) else { panic!("there is room") };
    let seat = |n| Seat { server: ServerKey(n), handle: 0 };
    let reason = Reason::Command { id: "c".to_owned() };
    Handover::new((seat(0), run(1)), (seat(1), run(2)), (Epoch(1), Epoch(2)), permit, reason, Mono(0))
}

fn blob() -> StateBlob {
    StateBlob { state: Bytes::from_static(b"s"), format: 1, digest: Bytes::new() }
}

fn frozen() -> Event {
    Event::Frozen { blob: blob(), readable: true }
}

/// The events that lead to a step.
fn way_to(step: Step) -> Vec<Event> {
    let all = vec![frozen(), Event::Prepared, Event::GroupReady, Event::Committed, Event::Timeout];
    let length = match step {
        Step::Freezing => 0,
        Step::Preparing => 1,
        Step::Ready => 2,
        Step::Committing => 3,
        Step::Activating { again } => 4 + usize::from(again),
    };
    all.into_iter().take(length).collect()
}

fn check(given: Step, when: Event, orders: &[Order], end: Option<End>) {
    let mut handover = begun();
    for event in way_to(given) {
        let outcome = handover.on(event);
        assert!(!outcome.stray && outcome.end.is_none());
    }
    assert_eq!(handover.step(), given);
    let what = format!("{given:?} + {when:?}");
    let outcome = handover.on(when);
    assert_eq!(outcome.orders, orders, "{what}");
    assert_eq!(outcome.end, end, "{what}");
}

const fn kept(why: Kept) -> Option<End> {
    Some(End::Kept { why, thawing: true })
}

const ACTIVATING: Step = Step::Activating { again: false };

#[test]
fn the_way_through() {
    check(Step::Freezing, frozen(), &[Order::Prepare(blob())], None);
    check(Step::Preparing, Event::Prepared, &[Order::AnnounceReady], None);
    check(Step::Ready, Event::GroupReady, &[Order::Commit], None);
    check(Step::Committing, Event::Committed, &[Order::Activate, Order::ReleaseSource], None);
    check(ACTIVATING, Event::Activated, &[], Some(End::Arrived));
}

#[test]
fn before_the_commit_every_failure_thaws_the_source() {
    let abort = [Order::AbortTarget, Order::ThawSource];
    let free = [Order::FreeTarget, Order::ThawSource];
    let unfrozen = Some(End::Kept { why: Kept::FreezeRefused, thawing: false });
    check(Step::Freezing, Event::FreezeRefused, &[Order::FreeTarget], unfrozen);
    check(Step::Freezing, Event::Frozen { blob: blob(), readable: false }, &free, kept(Kept::Format));
    check(Step::Preparing, Event::PrepareRefused(Refusal::Full), &free, kept(Kept::PrepareRefused));
    check(Step::Freezing, Event::Timeout, &free, kept(Kept::TimedOut));
    check(Step::Freezing, Event::TargetLost, &[Order::ThawSource], kept(Kept::TargetLost));
    for step in [Step::Preparing, Step::Ready] {
        check(step, Event::Timeout, &abort, kept(Kept::TimedOut));
        check(step, Event::Cancel, &abort, kept(Kept::Ended));
        check(step, Event::GroupFailed, &abort, kept(Kept::Group));
        check(step, Event::TargetLost, &[Order::ThawSource], kept(Kept::TargetLost));
        check(step, Event::SourceLost, &[], None);
    }
    check(Step::Freezing, Event::SourceLost, &[Order::FreeTarget], Some(End::SourceGone(Kept::SourceLost)));
}

#[test]
fn while_the_commit_is_out_nothing_is_given_up() {
    check(Step::Committing, Event::Timeout, &[Order::Commit], None);
    check(Step::Committing, Event::Cancel, &[], None);
    check(Step::Committing, Event::TargetLost, &[], None);
    check(Step::Committing, Event::SourceLost, &[], None);
    let kept = End::Kept { why: Kept::Conflict, thawing: true };
    check(Step::Committing, Event::Conflict, &[Order::AbortTarget, Order::ThawSource], Some(kept));
}

#[test]
fn after_the_commit_the_target_is_the_home_whatever_happens() {
    check(ACTIVATING, Event::Cancel, &[], None);
    check(ACTIVATING, Event::GroupFailed, &[], None);
    check(ACTIVATING, Event::Timeout, &[Order::Activate], None);
    check(Step::Activating { again: true }, Event::Timeout, &[Order::HangUpTarget], None);
    check(ACTIVATING, Event::TargetLost, &[], Some(End::TargetGone));
    check(ACTIVATING, Event::ActivateRefused, &[Order::FreeTarget], Some(End::TargetRefused));
    check(ACTIVATING, Event::SourceLost, &[], None);
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(frozen()),
        Just(Event::Frozen { blob: blob(), readable: false }),
        Just(Event::FreezeRefused),
        Just(Event::Prepared),
        Just(Event::PrepareRefused(Refusal::Full)),
        Just(Event::GroupReady),
        Just(Event::GroupFailed),
        Just(Event::Committed),
        Just(Event::Conflict),
        Just(Event::Activated),
        Just(Event::SourceLost),
        Just(Event::TargetLost),
        Just(Event::ActivateRefused),
        Just(Event::Timeout),
        Just(Event::Cancel),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_events_makes_two_homes(events in prop::collection::vec(event(), 0..30)) {
        let mut handover = begun();
        let (mut thawed, mut activated, mut released, mut ended) = (false, false, false, false);
        let (mut source_up, mut target_up) = (true, true);
        for event in events {
            source_up &= event != Event::SourceLost;
            target_up &= event != Event::TargetLost;
            let Outcome { orders, end, stray } = handover.on(event);
            prop_assert!(!stray || (orders.is_empty() && end.is_none()), "a stray event has no effect");
            for order in orders {
                prop_assert!(source_up || !matches!(order, Order::ThawSource | Order::ReleaseSource));
                prop_assert!(target_up || !matches!(order, Order::Activate | Order::AbortTarget | Order::Prepare(_)));
                thawed |= order == Order::ThawSource;
                activated |= order == Order::Activate;
                released |= order == Order::ReleaseSource;
            }
            prop_assert!(!(thawed && (activated || released)), "the source plays on, or the target plays: not both");
            if end.is_some() {
                ended = true;
                break;
            }
        }
        // Whatever happened: the timeouts, the directory's answer and the loss of the target end it.
        if !ended {
            let mut rest = vec![Event::Timeout, Event::Committed, Event::TargetLost].into_iter();
            prop_assert!(rest.any(|event| handover.on(event).end.is_some()));
        }
    }
}
