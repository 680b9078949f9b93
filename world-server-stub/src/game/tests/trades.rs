//! Gold from one to another: locked until committed, refused where it cannot be.

use super::*;

#[test]
fn gold_changes_hands_after_the_commit_and_others_wait() {
    let mut table = Table::set();
    table.database = false;
    // Neither side does anything until it is committed, and a third cannot trade with them.
    assert_eq!(table.does(0, 1, give("bob", 30)), []);
    assert_eq!(table.does(0, 2, ping("later")), []);
    assert_eq!(table.does(1, 1, ping("later")), []);
    assert_eq!(table.does(2, 1, give("bob", 1)), []);
    let before = table.said.len();
    table.database_answers();
    table.tick();
    let said = table.said[before..].to_vec();
    let of = |seat| answers(&said, seat).iter().map(|a| (a.sequence, a.gold)).collect::<Vec<_>>();
    assert_eq!(of(0), [(1, 70), (2, 70)]);
    assert_eq!(of(1), [(1, 130)]);
    assert_eq!(of(2), [(1, 99)]);
    assert_eq!(table.game.counters().trades, 2);
    assert_eq!(only(table.does(1, 2, ping(""))), ok());
    assert_eq!(answers(&table.said, 1).last().unwrap().gold, 131);
}

#[test]
fn a_trade_that_cannot_be_is_refused() {
    let mut table = Table::set();
    assert_eq!(only(table.does(0, 1, give("bob", 101))), refused("too_poor"));
    assert_eq!(only(table.does(0, 2, give("nobody", 1))), refused("not_here"));
    assert_eq!(only(table.does(0, 3, give("ann", 1))), refused("not_here"));
    table.call(|game, _, out| game.park(1, out));
    assert_eq!(only(table.does(0, 4, give("bob", 1))), refused("not_here"));
    let probe = CharacterState { player: "probe:1".to_owned(), ..state("probe") };
    let life = table.game.next_life();
    let who = Who { player: "probe:1".to_owned(), character: "probe".to_owned(), party: None };
    let harbor = Place::shared("harbor");
    table.call(|game, now, out| game.arrive(6, life, who, 1, probe, harbor, Cause::Login, now, out));
    assert_eq!(only(table.does(0, 5, give("probe", 1))), refused("not_here"));
    table.arrives(7, CharacterState { zone: "forest".to_owned(), ..state("eve") }, Cause::Login);
    assert_eq!(only(table.does(0, 6, give("eve", 1))), refused("not_here"));
}

#[test]
fn a_fenced_off_side_of_a_trade_is_ejected_and_the_other_keeps_its_gold() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    let Some(Out::Trade { id, .. }) = table.waiting.pop() else { panic!("a trade waits") };
    let stale = Ok(Traded::Stale { giver: false, receiver: true });
    let said = table.call(|game, now, out| game.traded(id, &stale, now, out));
    assert_eq!(only(answers(&said, 0)), refused("not_here"));
    assert_eq!(answers(&said, 0)[0].gold, 100);
    assert!(said.contains(&Out::Eject { seat: 1, reason: "stale_epoch" }));
    assert_eq!(table.does(1, 1, ping("")), []);
}

#[test]
fn a_broken_database_refuses_a_trade_and_nothing_changes() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    let Some(Out::Trade { id, .. }) = table.waiting.pop() else { panic!("a trade waits") };
    let said = table.call(|game, now, out| game.traded(id, &Err(Failure::Behind), now, out));
    assert_eq!(only(answers(&said, 0)), refused("unavailable"));
    table.database = true;
    assert_eq!(only(table.does(0, 2, give("bob", 100))), ok());
}
