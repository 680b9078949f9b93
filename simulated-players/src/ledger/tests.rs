//! What a faithful world looks like to the ledger, and that every kind of broken promise is caught.

use proptest::prelude::*;
use tidegate_proto::stub::v1::{Die, GoTo, Ping};

use super::*;

fn ping() -> Kind {
    Kind::Ping(Ping::default())
}

fn ledger() -> Ledger {
    Ledger::new(Character::default(), Epoch(1))
}

fn ok(sequence: u64, epoch: u64) -> Answer {
    Answer { sequence, ok: true, epoch, gold: 100, ..Answer::default() }
}

/// Sends `count` pings and gives their answers.
fn sent(ledger: &mut Ledger, count: u64) -> Vec<Answer> {
    (0..count).map(|_| ledger.send(ping(), Duration::ZERO)).for_each(drop);
    (1..=count).map(|n| ok(n, 1)).collect()
}

proptest! {
    #[test]
    fn a_faithful_world_breaks_nothing(count in 1u64..100) {
        let mut ledger = ledger();
        for answer in sent(&mut ledger, count) {
            prop_assert!(ledger.answer(&answer).is_some());
        }
        let (findings, _) = ledger.close(true);
        prop_assert_eq!(findings.broken(), 0);
        prop_assert_eq!((findings.sent, findings.answered), (count, count));
    }

    #[test]
    fn one_dropped_doubled_or_overtaken_answer_is_caught(count in 2u64..100, at in 0usize..98, what in 0u8..3) {
        let mut ledger = ledger();
        let mut answers = sent(&mut ledger, count);
        let at = at % (answers.len() - 1);
        match what {
            0 => { answers.remove(at); }
            1 => answers.insert(at, answers[at].clone()),
            _ => answers.swap(at, at + 1),
        }
        for answer in &answers {
            ledger.answer(answer);
        }
        let (findings, _) = ledger.close(true);
        let caught = match what {
            0 => findings.lost,
            1 => findings.duplicated,
            _ => findings.reordered,
        };
        prop_assert!(caught >= 1, "{findings:?}");
    }

    #[test]
    fn after_a_crash_everything_the_world_forgot_is_sent_again(count in 1u64..100, answered in 0u64..100, saved in 0u64..100) {
        let (answered, mut ledger) = (answered.min(count), ledger());
        let saved = saved.min(count);
        let answers = sent(&mut ledger, count);
        for answer in answers.iter().take(answered as usize) {
            ledger.answer(answer);
        }
        ledger.moved(Cause::Crash, Epoch(2), false);
        let frames = ledger.entered(&Entered { applied: saved, epoch: 2, ..Entered::default() });
        let again: Vec<u64> = frames.iter().map(|f| {
            let action = Action::decode(&f[..]).unwrap();
            assert!(action.again);
            action.sequence
        }).collect();
        let due: Vec<u64> = (1..=count).filter(|n| *n > saved || *n > answered).collect();
        prop_assert_eq!(&again, &due);
        for sequence in again {
            ledger.answer(&Answer { again: true, ..ok(sequence, 2) });
        }
        let (findings, _) = ledger.close(true);
        prop_assert_eq!(findings.broken(), 0, "{:?}", findings);
        prop_assert_eq!(findings.answered, count);
    }
}

#[test]
fn a_move_needs_a_reason_of_the_players_own() {
    let go = || Kind::GoTo(GoTo { zone: "forest".into() });
    for (kind, cause, party, explained) in [
        (Some(go()), Cause::Zone, false, true),
        (None, Cause::Zone, false, false),
        (Some(Kind::Die(Die {})), Cause::Respawn, false, true),
        (Some(go()), Cause::Respawn, false, false),
        (None, Cause::Instance, true, true),
        (None, Cause::Instance, false, false),
        (None, Cause::Drain, false, true),
        (None, Cause::Login, false, false),
    ] {
        let mut ledger = ledger();
        if let Some(kind) = kind {
            ledger.send(kind, Duration::ZERO);
        }
        ledger.moved(cause, Epoch(2), party);
        assert_eq!(ledger.findings.moved_without_cause == 0, explained, "{cause}");
    }
}

#[test]
fn a_mended_link_is_no_move_but_a_new_home_without_a_cause_is() {
    let mut ledger = ledger();
    ledger.moved(Cause::Resume, Epoch(1), false);
    assert_eq!(ledger.findings.moved_without_cause, 0);
    ledger.moved(Cause::Resume, Epoch(2), false);
    assert_eq!(ledger.findings.moved_without_cause, 1);
}

#[test]
fn a_gift_that_was_refused_may_be_given_after_a_crash_and_counts_once() {
    let mut ledger = ledger();
    ledger.send(Kind::Give(Give { to: "b".into(), gold: 5 }), Duration::ZERO);
    let refused = Answer { ok: false, refused: "not_here".into(), ..ok(1, 1) };
    assert_eq!(ledger.answer(&refused).unwrap().gave, None);
    ledger.moved(Cause::Crash, Epoch(2), false);
    assert_eq!(ledger.entered(&Entered { applied: 0, epoch: 2, ..Entered::default() }).len(), 1);
    let given = Answer { again: true, gold: 95, ..ok(1, 2) };
    let answered = ledger.answer(&given).unwrap();
    assert_eq!((answered.intended, answered.gave.map(|g| g.gold)), (None, Some(5)));
    assert_eq!(ledger.answer(&given), None);
    assert_eq!((ledger.findings.broken(), ledger.findings.answered), (0, 1));
}

#[test]
fn what_fell_into_a_gap_is_asked_again_even_if_the_home_is_another() {
    let mut ledger = ledger();
    let _ = sent(&mut ledger, 3);
    ledger.resumed(Epoch(2), false);
    assert_eq!(ledger.repeat_unanswered().len(), 3);
    for sequence in 1..=3 {
        ledger.answer(&Answer { again: true, ..ok(sequence, 2) });
    }
    assert_eq!((ledger.findings.broken(), ledger.unanswered()), (0, 0));
}

#[test]
fn another_gateways_take_over_excuses_nothing() {
    let mut ledger = ledger();
    let answers = sent(&mut ledger, 3);
    ledger.answer(&answers[0]);
    ledger.resumed(Epoch(2), true);
    // Answers that the old gateway did not deliver come from the epoch they were given in.
    ledger.answer(&answers[1]);
    ledger.answer(&ok(3, 2));
    assert_eq!((ledger.findings.broken(), ledger.unanswered()), (0, 0));
    ledger.answer(&ok(3, 2));
    assert_eq!(ledger.findings.duplicated, 1);
    let _ = sent(&mut ledger, 1);
    assert_eq!(ledger.close(true).0.lost, 1);
}

#[test]
fn a_server_that_died_while_the_player_was_away_is_told_again_what_it_lost() {
    let mut ledger = ledger();
    ledger.entered(&Entered { epoch: 1, ..Entered::default() });
    for answer in sent(&mut ledger, 3) {
        ledger.answer(&answer);
    }
    ledger.resumed(Epoch(2), true);
    let frames = ledger.entered(&Entered { applied: 1, epoch: 2, ..Entered::default() });
    assert_eq!(frames.len(), 2);
    assert_eq!(ledger.findings.broken(), 0);
    // An arrival at a later epoch is that of a move.
    ledger.resumed(Epoch(3), true);
    assert!(ledger.entered(&Entered { applied: 1, epoch: 4, ..Entered::default() }).is_empty());
}

#[test]
fn numbers_go_on_from_where_the_world_says_the_character_stands() {
    let mut ledger = ledger();
    assert!(!ledger.has_arrived());
    ledger.entered(&Entered { applied: 41, epoch: 1, ..Entered::default() });
    assert!(ledger.has_arrived());
    assert_eq!(Action::decode(&ledger.send(ping(), Duration::ZERO)[..]).unwrap().sequence, 42);
    // A later arrival changes nothing.
    ledger.entered(&Entered { applied: 41, epoch: 1, ..Entered::default() });
    assert_eq!(Action::decode(&ledger.send(ping(), Duration::ZERO)[..]).unwrap().sequence, 43);
}

#[test]
fn a_reason_is_used_up_by_the_arrival() {
    let mut ledger = ledger();
    ledger.send(Kind::GoTo(GoTo { zone: "forest".into() }), Duration::ZERO);
    ledger.answer(&ok(1, 1));
    ledger.moved(Cause::Zone, Epoch(2), false);
    assert!(ledger.at_boundary());
    ledger.entered(&Entered { epoch: 2, ..Entered::default() });
    assert!(!ledger.at_boundary());
    ledger.moved(Cause::Zone, Epoch(3), false);
    assert_eq!(ledger.findings.moved_without_cause, 1);
}

#[test]
fn a_boundary_asked_for_before_the_last_one_ended_is_still_a_reason() {
    let mut ledger = ledger();
    let go = || Kind::GoTo(GoTo { zone: "forest".into() });
    ledger.send(go(), Duration::ZERO);
    ledger.send(go(), Duration::ZERO);
    ledger.answer(&ok(1, 1));
    ledger.moved(Cause::Zone, Epoch(2), false);
    ledger.entered(&Entered { epoch: 2, ..Entered::default() });
    ledger.answer(&ok(2, 2));
    ledger.moved(Cause::Zone, Epoch(3), false);
    assert_eq!(ledger.findings.moved_without_cause, 0);
}

#[test]
fn an_older_home_that_answers_is_a_second_home() {
    let mut ledger = ledger();
    let _ = sent(&mut ledger, 3);
    ledger.moved(Cause::Drain, Epoch(2), false);
    ledger.answer(&ok(1, 2));
    ledger.answer(&ok(2, 1));
    assert_eq!(ledger.findings.double_homed, 1);
    ledger.answer(&ok(3, 9));
    assert_eq!(ledger.findings.unannounced_home, 1);
}

#[test]
fn gold_only_goes_where_the_player_gave_it() {
    let mut ledger = ledger();
    ledger.send(ping(), Duration::ZERO);
    ledger.answer(&ok(1, 1));
    ledger.send(Kind::Give(Give { to: "b".into(), gold: 5 }), Duration::ZERO);
    ledger.answer(&Answer { gold: 95, ..ok(2, 1) });
    assert_eq!(ledger.findings.gold_vanished, 0);
    ledger.send(ping(), Duration::ZERO);
    ledger.answer(&Answer { gold: 120, ..ok(3, 1) });
    ledger.send(ping(), Duration::ZERO);
    ledger.answer(&Answer { gold: 119, ..ok(4, 1) });
    assert_eq!(ledger.findings.gold_vanished, 1);
}

#[test]
fn what_was_open_when_somebody_else_ended_the_session_is_not_lost() {
    let mut ledger = ledger();
    let _ = sent(&mut ledger, 3);
    assert_eq!(ledger.close(false).0.lost, 0);
    assert_eq!(ledger.close(true).0.lost, 3);
}
