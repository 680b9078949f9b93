//! Freezes, thaws, parks, saves that fail, leases that end, snapshots.

use super::*;

#[test]
fn a_ping_is_answered_with_the_home_that_did() {
    let mut table = Table::set();
    let answers = table.does(0, 1, ping("hello"));
    let answer = &answers[0];
    assert_eq!((answer.sequence, answer.ok, &*answer.payload), (1, true, &b"hello"[..]));
    assert_eq!((answer.server_id.as_str(), answer.environment_id.as_str(), answer.epoch), ("s-1", "eu-1-a", 1));
    assert_eq!((answer.gold, answer.items), (100, 0));
}

#[test]
fn a_freeze_answers_what_was_asked_and_a_thaw_plays_on() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    table.does(0, 2, ping("before the freeze"));
    let said = table.call(|game, now, out| {
        assert!(game.freeze(0, now, out));
    });
    assert_eq!(frozen(&said), None, "the trade is not committed");
    let before = table.said.len();
    table.database_answers();
    let said = table.said[before..].to_vec();
    assert_eq!(answers(&said, 0).len(), 2);
    let saved = frozen(&said).expect("frozen after the last answer");
    assert_eq!((saved.gold, saved.applied), (70, 2));

    // Nothing changes while frozen.
    assert_eq!(table.does(0, 3, ping("too early")), []);
    assert_eq!(only(table.does(1, 1, give("ann", 1))), refused("not_here"));
    let said = table.call(|game, now, out| game.thaw(0, now, out));
    assert_eq!(only(answers(&said, 0)), ok());
    assert!(said.iter().any(|out| matches!(out, Out::HomeBegins(_))));
}

#[test]
fn a_hand_over_carries_the_whole_state() {
    let mut table = Table::set();
    table.does(0, 1, ping("one"));
    let said = table.call(|game, now, out| assert!(game.freeze(0, now, out)));
    let saved = frozen(&said).unwrap();
    let mut there = Table::set();
    let state = rules().formats.decode(saved.format, &saved.state).unwrap();
    let forest = Place::shared("forest");
    there.game.prepare(9, who("ann"), Some(1), 2, state, forest.clone(), there.now);
    // Inert until the commit.
    assert_eq!(there.does(9, 2, ping("early")), []);
    assert_eq!(there.game.activating(9, 3), None, "another epoch than it was prepared for");
    let (life, _, from, place, carried) = there.game.activating(9, 2).unwrap();
    assert_eq!(from, Some(1));
    assert_eq!((place, carried.zone.as_str(), carried.applied), (forest, "forest", 1));
    assert_eq!(there.game.activating(9, 2), None, "only once");
    let state = rules().formats.decode(carried.format, &carried.state).unwrap();
    let said = there.call(|game, now, out| game.activated(9, life, state, now, out));
    // What came early waited; an action that the source applied is answered again.
    assert_eq!(only(answers(&said, 9)), ok());
    assert_eq!(only(there.sends(9, Action { sequence: 1, again: true, kind: Some(ping("one")) })), ok());
}

#[test]
fn a_home_that_lost_its_player_says_nothing_more() {
    let mut table = Table::set();
    let now = table.now;
    let life = 1;
    table.game.saved(0, life, SaveFor::Upkeep, &Ok(Written::Stale), now, &mut table.out);
    table.settle();
    assert!(table.said.contains(&Out::Eject { seat: 0, reason: "stale_epoch" }));
    assert_eq!(table.does(0, 1, ping("")), []);
    let said = table.call(|game, now, out| game.leave(0, now, out));
    assert_eq!(said, [Out::Left { seat: 0 }], "without a save");
    assert_eq!(table.game.counters().stale, 1);
}

#[test]
fn a_save_that_failed_is_tried_again() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    table.database = false;
    let saves = |said: &[Out]| said.iter().filter(|out| matches!(out, Out::Save { seat: 0, .. })).count();
    let mut seen = 0;
    for _ in 0..50 {
        let said = table.tick();
        seen += saves(&said);
    }
    assert_eq!(seen, 1, "one change, one save");
    let Some(Out::Save { seat, life, why, .. }) = table.waiting.pop() else { panic!("a save waits") };
    let failed = Err(Failure::Sql("disk full".to_owned()));
    table.call(|game, now, out| game.saved(seat, life, why, &failed, now, out));
    let again: usize = (0..50).map(|_| saves(&table.tick())).sum();
    assert_eq!(again, 1);
}

#[test]
fn a_failed_freeze_plays_on() {
    let mut table = Table::set();
    table.database = false;
    let said = table.call(|game, now, out| assert!(game.freeze(0, now, out)));
    assert!(frozen(&said).is_some());
    let Some(Out::Save { seat, life, why, .. }) = table.waiting.pop() else { panic!("a save waits") };
    table.call(|game, now, out| game.saved(seat, life, why, &Err(Failure::Behind), now, out));
    assert_eq!(only(table.does(0, 1, ping(""))), ok());
}

#[test]
fn a_parked_player_does_not_change_and_a_leaving_one_is_answered_first() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    let said = table.call(|game, _, out| game.park(0, out));
    assert!(matches!(&said[..], [Out::Save { why: SaveFor::Upkeep, ends: Some(_), .. }]), "{said:?}");
    assert_eq!(table.does(0, 2, ping("parked")), []);
    let said = table.call(|game, now, out| game.leave(0, now, out));
    assert_eq!(answers(&said, 0).len(), 1);
    assert!(matches!(said.last(), Some(Out::Save { why: SaveFor::Leave, forget: false, .. })), "{said:?}");
    assert_eq!(table.game.seat_of("ann"), None);
}

#[test]
fn a_lease_that_is_over_ends_the_interval_where_it_was_last_good() {
    let mut table = Table::set();
    table.tick();
    let good = table.now;
    table.now = table.now + Duration::from_secs(9);
    let said = table.call(|game, now, out| game.step(now, |_| false, out));
    let ends: Vec<Mono> =
        said.iter().filter_map(|out| if let Out::HomeEnds(mark) = out { Some(mark.at) } else { None }).collect();
    assert_eq!(ends, [good; 3]);
    let said = table.tick();
    assert_eq!(said.iter().filter(|out| matches!(out, Out::HomeBegins(_))).count(), 3);
}

/// The marks of this seat's player: when each interval of life began or ended, and under which epoch.
fn marks(said: &[Out]) -> Vec<(bool, u64)> {
    let mark = |out: &Out| match out {
        Out::HomeBegins(mark) => Some((true, mark.epoch)),
        Out::HomeEnds(mark) | Out::Save { ends: Some(mark), .. } => Some((false, mark.epoch)),
        _ => None,
    };
    said.iter().filter_map(mark).collect()
}

fn saves(said: &[Out]) -> Vec<u64> {
    let save = |out: &Out| if let Out::Save { saved, .. } = out { Some(saved.epoch) } else { None };
    said.iter().filter_map(save).collect()
}

#[test]
fn a_player_claimed_anew_writes_nothing_until_it_is_theirs_and_then_under_the_new_epoch() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    let said = table.call(|game, _, out| game.park(0, out));
    assert_eq!((saves(&said), marks(&said)), (vec![1], vec![(false, 1)]));
    let mut claim = None;
    let said = table.call(|game, _, out| claim = game.reclaiming(0, 2, out));
    let claim = claim.unwrap();
    assert_eq!((claim.held, said), (1, vec![]));
    // Whatever wants to be saved meanwhile would be refused behind the claim.
    table.call(|game, _, out| {
        game.player_mut(0).unwrap().dirty = true;
        game.save_all(false, out);
        assert!(saves(out).is_empty());
    });
    for _ in 0..100 {
        assert!(saves(&table.tick()).is_empty());
    }
    table.game.reclaimed(0, claim.life, Ok(()));
    let said = table.call(|game, now, out| game.unpark(0, now, out));
    assert_eq!(marks(&said), [(true, 2)]);
    let answers = table.does(0, 2, ping(""));
    assert_eq!((answers[0].ok, answers[0].epoch), (true, 2));
    let said: Vec<Out> = (0..100).flat_map(|_| table.tick()).collect();
    assert!(!saves(&said).is_empty() && saves(&said).iter().all(|epoch| *epoch == 2));
}

#[test]
fn a_claim_that_is_refused_fences_the_player_off_and_one_that_fails_changes_nothing() {
    for (outcome, saved) in [(Err(true), vec![]), (Err(false), vec![1])] {
        let mut table = Table::set();
        table.call(|game, _, out| game.park(0, out));
        let claim = table.game.reclaiming(0, 2, &mut Vec::new()).unwrap();
        table.game.player_mut(0).unwrap().dirty = true;
        table.game.reclaimed(0, claim.life, outcome);
        let said = table.call(|game, _, out| game.release(0, out));
        assert_eq!(saves(&said), saved, "a save is for one who still lives here");
    }
    let mut table = Table::set();
    assert_eq!(table.game.reclaiming(9, 2, &mut Vec::new()), None, "nobody is there");
    assert!(
        table
            .call(|game, now, out| assert!(game.freeze(0, now, out)))
            .iter()
            .any(|out| matches!(out, Out::Save { .. }))
    );
    let claim = table.game.reclaiming(0, 2, &mut Vec::new()).unwrap();
    table.game.reclaimed(0, claim.life, Ok(()));
    let said = table.call(|game, now, out| game.thaw(0, now, out));
    assert_eq!(marks(&said), [(true, 2)]);
}

#[test]
fn the_world_stands_still_for_a_snapshot() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    table.game.stand_still();
    let said = table.call(|game, _, out| game.save_all(false, out));
    assert!(matches!(&said[..], [Out::Save { seat: 0, .. }]));
    assert_eq!(table.does(0, 2, ping("waits")), []);
    let said = table.call(|game, now, out| assert!(game.freeze(1, now, out)));
    assert_eq!(said, []);
    let said = table.call(|game, now, out| game.go_on(now, out));
    assert_eq!(only(answers(&said, 0)), ok());
    assert!(frozen(&said).is_some(), "the hand-over that waited goes on");
}

#[test]
fn a_player_released_in_play_is_saved_and_may_come_back_on_another_seat() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    let said = table.call(|game, _, out| game.release(0, out));
    assert!(matches!(&said[..], [Out::Save { .. }, Out::HomeEnds(_)]), "{said:?}");
    assert_eq!(table.does(0, 2, ping("too late")), []);
    table.arrives(8, CharacterState { applied: 1, ..state("ann") }, Cause::Login);
    assert_eq!(only(table.does(8, 2, ping(""))), ok());
    assert_eq!(table.game.seat_of("ann"), Some(8));
}
