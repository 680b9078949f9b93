//! Take-overs one by one: who may have a player, what the old link hears, what the world is asked, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use tidegate_types::{Cause, Epoch, Mono, SessionId};

use super::*;
use crate::cx::Answer;
use crate::seats::{Channel, LinkKey, Run, Taken, Who};
use crate::world::{Formats, Frozen, LeaveReason, Pin};

const OLD: At = (LinkKey(1), 7);
const NEW: At = (LinkKey(2), 3);
const SEAT: Seat = Seat(0);

fn place() -> Place {
    Place { zone: "town".parse().unwrap(), instance: None }
}

fn pin() -> Pin {
    let since = tidegate_types::Timestamp(1);
    Pin { environment: "eu-1-a".parse().unwrap(), since, cause: Cause::Login, until: None }
}

fn who(session: u128) -> Who {
    Who {
        session: SessionId(uuid::Uuid::from_u128(session)),
        player: "p".parse().unwrap(),
        character: "c".parse().unwrap(),
        party: Some("friends".parse().unwrap()),
        client_version: String::new(),
        pin: Some(pin()),
    }
}

fn request(epoch: u64) -> AttachRequest {
    AttachRequest {
        who: who(1),
        epoch: Epoch(epoch),
        place: None,
        cause: Cause::Resume,
        channel: Channel::default(),
        take_over: true,
        refuse_connected: false,
        from: None,
    }
}

struct Table {
    seats: Seats,
    steps: Vec<Step>,
}

impl Table {
    /// A player in play at epoch 5 on the old link; the new link is up. Players are kept for 60 s.
    fn set() -> Self {
        let mut table = Self { seats: Seats::new(9, Formats { read: vec![1], write: 1 }), steps: Vec::new() };
        for (link, _) in [OLD, NEW] {
            table.seats.link_up(link, Run(u128::from(link.0)), Some(Duration::from_secs(60)));
            table.lease(link, false);
        }
        let login = AttachRequest { take_over: false, ..request(5) };
        table.seats.attach(OLD, login, true, &mut table.steps);
        table.answer(Answer::Placed(Ok(place())));
        table.steps.clear();
        table
    }

    fn lease(&mut self, link: LinkKey, lapsed: bool) {
        self.seats.lease(link, lapsed, &mut self.steps);
    }

    /// Answers the last question.
    fn answer(&mut self, answer: Answer) -> Vec<Step> {
        let turn = self.seats.slot(SEAT).unwrap().turn;
        self.steps.clear();
        self.seats.answered(SEAT, turn, answer, &mut self.steps);
        std::mem::take(&mut self.steps)
    }

    fn freeze(&mut self) {
        self.seats.freeze(OLD, Epoch(5), true, &mut self.steps);
        self.answer(Answer::State(Ok(Frozen { state: Bytes::new(), format: 1 })));
    }

    fn take(&mut self, request: AttachRequest) -> Vec<Step> {
        self.steps.clear();
        self.seats.attach(NEW, request, true, &mut self.steps);
        std::mem::take(&mut self.steps)
    }

    fn check_refused(&mut self, request: AttachRequest, expect: Refusal) {
        let before = self.seats.slot(SEAT).cloned().map(|slot| (slot.epoch, slot.at, slot.phase));
        assert_eq!(self.take(request), [say(NEW, Said::AttachRefused(expect))]);
        let after = self.seats.slot(SEAT).cloned().map(|slot| (slot.epoch, slot.at, slot.phase));
        assert_eq!(before, after, "a refusal changes nothing");
    }

    /// Taken over at epoch 6, with whatever is told and asked.
    fn taken(&mut self) {
        let steps = self.take(request(6));
        let asked = steps.iter().any(|step| matches!(step, Step::Ask { request: Request::Reclaim(Epoch(6)), .. }));
        assert!(asked, "{steps:?}");
    }
}

fn say(at: At, what: Said) -> Step {
    Step::Say { at, what }
}

fn tell(what: Tell) -> Step {
    Step::Tell { seat: SEAT, what }
}

fn attached() -> Step {
    let taken = Some(Taken { pin: Some(pin()), party: Some("friends".parse().unwrap()) });
    say(NEW, Said::Attached { epoch: Epoch(6), place: Some(place()), taken })
}

#[test]
fn a_player_in_play_is_parked_claimed_and_goes_on_under_the_other_link() {
    let mut table = Table::set();
    let steps = table.take(request(6));
    let turn = table.seats.turn;
    let expect = [
        say(OLD, Said::TakenOver { epoch: Epoch(6) }),
        Step::Resume { seat: SEAT, channel: Channel::default() },
        tell(Tell::Park),
        Step::Ask { seat: SEAT, turn, request: Request::Reclaim(Epoch(6)) },
    ];
    assert_eq!(steps, expect);
    // What the old gateway said before it knew is neither done nor answered.
    table.seats.leave(OLD, LeaveReason::Logout, &mut table.steps);
    table.seats.freeze(OLD, Epoch(5), true, &mut table.steps);
    table.seats.release(OLD, &mut table.steps);
    table.seats.park(OLD, true, &mut table.steps);
    assert_eq!(table.steps, []);
    let flush = Step::Flush(SEAT);
    assert_eq!(table.answer(Answer::Placed(Ok(place()))), [attached(), tell(Tell::Unpark), flush.clone(), flush]);
    assert_eq!(table.seats.roster().map(|held| (held.epoch, held.link)).collect::<Vec<_>>(), [(Epoch(6), Some(NEW.0))]);
    // The handle is the gateway's to use again, from its next use on.
    let other = AttachRequest { who: Who { player: "q".parse().unwrap(), ..who(2) }, take_over: false, ..request(1) };
    table.seats.attach(OLD, other, false, &mut table.steps);
    table.seats.leave(OLD, LeaveReason::Logout, &mut table.steps);
    assert_eq!(table.steps, [say(OLD, Said::AttachRefused(Refusal::NotReady)), say(OLD, Said::Left)]);
}

#[test]
fn who_is_not_held_is_unknown_and_an_old_epoch_is_stale() {
    let stale = Refusal::StaleEpoch { highest: Epoch(5), saved: None };
    let mut table = Table::set();
    table.check_refused(AttachRequest { who: who(2), ..request(6) }, Refusal::Unknown);
    table.check_refused(
        AttachRequest { who: Who { player: "q".parse().unwrap(), ..who(1) }, ..request(6) },
        Refusal::Unknown,
    );
    for epoch in [4, 5] {
        table.check_refused(request(epoch), stale.clone());
    }
    table.seats.leave(OLD, LeaveReason::Logout, &mut table.steps);
    table.check_refused(request(6), Refusal::NotReady);
    table.answer(Answer::Done);
    table.check_refused(request(6), Refusal::Unknown);
}

#[test]
fn a_connected_player_may_be_refused() {
    let refuse = || AttachRequest { refuse_connected: true, ..request(6) };
    Table::set().check_refused(refuse(), Refusal::PlayerOnline);
    type Undo = fn(&mut Table);
    let undo: [Undo; 3] = [
        |table| table.seats.park(OLD, true, &mut table.steps),
        |table| table.lease(OLD.0, true),
        |table| table.seats.link_down(OLD.0, &mut table.steps),
    ];
    for undo in undo {
        let mut table = Table::set();
        undo(&mut table);
        let steps = table.take(refuse());
        assert!(matches!(steps.last(), Some(Step::Ask { request: Request::Reclaim(_), .. })), "{steps:?}");
        assert!(!steps.contains(&tell(Tell::Park)), "parked already");
    }
}

#[test]
fn a_hand_over_is_left_alone_as_long_as_its_link_lives() {
    let mut table = Table::set();
    table.seats.freeze(OLD, Epoch(5), true, &mut table.steps);
    table.check_refused(request(6), Refusal::NotReady);
    table.answer(Answer::State(Ok(Frozen { state: Bytes::new(), format: 1 })));
    table.check_refused(request(6), Refusal::NotReady);
    table.lease(OLD.0, true);
    table.taken();
    let steps = table.answer(Answer::Placed(Ok(place())));
    assert_eq!(steps[..2], [tell(Tell::Thaw), attached()]);
    let mut table = Table::set();
    table.freeze();
    table.seats.link_down(OLD.0, &mut table.steps);
    table.taken();
    assert_eq!(table.answer(Answer::Placed(Ok(place())))[..2], [tell(Tell::Thaw), attached()]);
}

#[test]
fn who_lives_elsewhere_is_forgotten_unsaved() {
    let mut table = Table::set();
    table.taken();
    let refusal = Refusal::StaleEpoch { highest: Epoch(9), saved: Some(Epoch(9)) };
    let expect = [tell(Tell::Release), say(NEW, Said::AttachRefused(refusal.clone())), Step::Vacated(SEAT)];
    assert_eq!(table.answer(Answer::Placed(Err(refusal))), expect);
    table.check_refused(request(10), Refusal::Unknown);
    let again = AttachRequest { take_over: false, ..request(9) };
    table.check_refused(again, Refusal::StaleEpoch { highest: Epoch(9), saved: None });
}

#[test]
fn a_claim_that_failed_leaves_the_player_as_they_were_for_the_next() {
    for frozen in [false, true] {
        let mut table = Table::set();
        if frozen {
            table.freeze();
            table.lease(OLD.0, true);
        }
        table.taken();
        let said = table.answer(Answer::Placed(Err(Refusal::NotReady)));
        assert_eq!(said, [say(NEW, Said::AttachRefused(Refusal::NotReady))]);
        let held = table.seats.roster().map(|held| (held.epoch, held.link, held.frozen)).collect::<Vec<_>>();
        assert_eq!(held, [(Epoch(5), None, frozen)]);
        // The epoch may have been claimed all the same, so the next is above it.
        table.check_refused(request(6), Refusal::StaleEpoch { highest: Epoch(6), saved: None });
        let steps = table.take(request(7));
        assert!(matches!(steps.last(), Some(Step::Ask { request: Request::Reclaim(Epoch(7)), .. })), "{steps:?}");
    }
}

#[test]
fn who_leaves_while_being_claimed_leaves_under_what_was_claimed() {
    for (answer, epoch) in [(Ok(place()), 6), (Err(Refusal::NotReady), 5)] {
        let mut table = Table::set();
        table.taken();
        table.seats.leave(NEW, LeaveReason::Logout, &mut table.steps);
        let steps = table.answer(Answer::Placed(answer));
        assert!(matches!(&steps[..], [Step::Ask { request: Request::Leave(_), .. }]), "{steps:?}");
        assert_eq!(table.seats.slot(SEAT).unwrap().epoch, Epoch(epoch));
        assert_eq!(table.answer(Answer::Done)[0], say(NEW, Said::Left));
    }
}

#[test]
fn another_client_is_told_everything() {
    let restart = || Channel { restart: true, ..Channel::default() };
    // Taken up again on the very same handle: a new client came to the same gateway.
    let mut table = Table::set();
    let again = AttachRequest { take_over: false, channel: restart(), ..request(5) };
    table.seats.attach(OLD, again, true, &mut table.steps);
    let told: Vec<_> = table.steps.iter().filter(|step| matches!(step, Step::Tell { .. })).cloned().collect();
    assert_eq!(told, [tell(Tell::Park), tell(Tell::Unpark)]);
    // Taken over while frozen: only a thawed player can be told anything.
    let mut table = Table::set();
    table.freeze();
    table.lease(OLD.0, true);
    table.take(AttachRequest { channel: restart(), ..request(6) });
    let steps = table.answer(Answer::Placed(Ok(place())));
    let told: Vec<_> = steps.into_iter().filter(|step| matches!(step, Step::Tell { .. })).collect();
    assert_eq!(told, [tell(Tell::Thaw), tell(Tell::Park), tell(Tell::Unpark)]);
}

#[test]
fn nobody_is_dropped_for_a_claim_that_the_database_will_refuse() {
    let mut table = Table::set();
    for from in [4, 6] {
        let attach = AttachRequest { take_over: false, from: Some(Epoch(from)), ..request(8) };
        table.check_refused(attach, Refusal::StaleEpoch { highest: Epoch(5), saved: None });
    }
    let steps = table.take(AttachRequest { take_over: false, from: Some(Epoch(5)), ..request(8) });
    assert!(steps.contains(&tell(Tell::Release)), "{steps:?}");
}

#[test]
fn an_orphan_leaves_when_its_time_is_over() {
    let at = |ms: u64| Mono(1_000_000 + ms * 1000);
    // In play: saved. Frozen: was saved, is dropped.
    for frozen in [false, true] {
        let mut table = Table::set();
        if frozen {
            table.freeze();
        }
        table.seats.drop_orphans(at(0), &mut table.steps);
        table.seats.link_down(OLD.0, &mut table.steps);
        table.steps.clear();
        for ms in [1_000, 60_999] {
            table.seats.drop_orphans(at(ms), &mut table.steps);
            assert_eq!(table.steps, []);
        }
        table.seats.drop_orphans(at(61_000), &mut table.steps);
        match &table.steps[..] {
            [Step::Ask { request: Request::Leave(LeaveReason::GraceOver), .. }] if !frozen => {}
            [Step::Tell { what: Tell::Release, .. }, Step::Vacated(SEAT)] if frozen => {}
            other => panic!("{other:?}"),
        }
    }
    // Taken up again in time, it begins anew.
    let mut table = Table::set();
    table.seats.link_down(OLD.0, &mut table.steps);
    table.seats.drop_orphans(at(0), &mut table.steps);
    table.taken();
    table.answer(Answer::Placed(Ok(place())));
    table.seats.drop_orphans(at(100_000), &mut table.steps);
    table.seats.link_down(NEW.0, &mut table.steps);
    table.steps.clear();
    table.seats.drop_orphans(at(100_000), &mut table.steps);
    table.seats.drop_orphans(at(159_999), &mut table.steps);
    assert_eq!(table.steps, []);
}

#[test]
fn an_epoch_is_taken_up_again_only_by_the_gateway_that_has_it() {
    let mut table = Table::set();
    let again = AttachRequest { take_over: false, ..request(5) };
    table.seats.attach(NEW, again.clone(), true, &mut table.steps);
    let refusal = Refusal::StaleEpoch { highest: Epoch(5), saved: Some(Epoch(5)) };
    assert_eq!(table.steps, [Step::Say { at: NEW, what: Said::AttachRefused(refusal) }]);
    table.steps.clear();
    table.seats.attach(OLD, again, true, &mut table.steps);
    assert!(table.steps.iter().any(|step| matches!(step, Step::Say { at: OLD, what: Said::Attached { .. } })));
}
