//! Single actions: in order, once, answered; chat and positions.

use super::*;

#[test]
fn an_action_sent_again_is_answered_and_not_applied() {
    let mut table = Table::set();
    let buy = || action::Kind::Item(SpendItem { sell: false });
    let first = table.does(0, 1, buy());
    let again = table.sends(0, Action { sequence: 1, again: true, kind: Some(buy()) });
    assert_eq!((again[0].gold, again[0].items, again[0].again), (first[0].gold, first[0].items, true));
    assert_eq!((first[0].gold, first[0].items), (90, 1));
    // One that was not applied yet is applied.
    let next = table.sends(0, Action { sequence: 2, again: true, kind: Some(buy()) });
    assert_eq!((next[0].gold, next[0].items), (80, 2));
    assert_eq!(table.game.counters().repeated, 1);
}

#[test]
fn a_frame_that_went_astray_shows() {
    let mut table = Table::set();
    assert_eq!(only(table.does(0, 1, ping(""))), ok());
    assert_eq!(only(table.does(0, 1, ping(""))), refused("out_of_order"));
    assert_eq!(only(table.does(0, 3, ping(""))), refused("out_of_order"));
    assert_eq!(
        only(table.sends(0, Action { sequence: 9, again: true, kind: Some(ping("")) })),
        refused("out_of_order")
    );
    assert_eq!(only(table.does(0, 2, ping(""))), ok());
    assert_eq!(table.game.counters().out_of_order, 3);
}

#[test]
fn what_a_crash_overtook_is_not_an_error() {
    let mut table = Table::set();
    table.arrives(5, CharacterState { applied: 10, ..state("dan") }, Cause::Crash);
    // Sent before the player knew.
    assert_eq!(table.does(5, 14, ping("")), []);
    // Sent again, in order.
    assert_eq!(only(table.sends(5, Action { sequence: 11, again: true, kind: Some(ping("")) })), ok());
    // From here on the count is strict again.
    assert_eq!(only(table.does(5, 14, ping(""))), refused("out_of_order"));
    assert_eq!(table.game.counters().overtaken_by_crash, 1);
}

#[test]
fn an_answer_too_old_to_be_known_says_so() {
    let mut table = Table::set();
    for sequence in 1..=70 {
        table.does(0, sequence, ping(""));
    }
    let again = |sequence| Action { sequence, again: true, kind: Some(ping("")) };
    assert_eq!(only(table.sends(0, again(1))), refused("forgotten"));
    assert_eq!(only(table.sends(0, again(70))), ok());
}

#[test]
fn chat_reaches_a_bounded_crowd_in_the_same_place() {
    let mut table = Table::set();
    for seat in 10..60 {
        table.arrives(seat, state(&format!("c{seat}")), Cause::Login);
    }
    table.arrives(60, CharacterState { zone: "forest".to_owned(), ..state("far") }, Cause::Login);
    let chat = action::Kind::Chat(Chat { text: "ahoy".to_owned() });
    let before = table.said.len();
    table.does(0, 1, chat);
    let heard: Vec<u32> = table.said[before..]
        .iter()
        .filter_map(|out| match out {
            Out::Event { seat, event } if matches!(event.kind, Some(event::Kind::Chat(_))) => Some(*seat),
            _ => None,
        })
        .collect();
    assert_eq!(heard.len(), 20);
    assert!(!heard.contains(&0) && !heard.contains(&60));
    let long = action::Kind::Chat(Chat { text: "x".repeat(300) });
    assert_eq!(only(table.does(0, 2, long)), refused("too_long"));
}

#[test]
fn positions_are_echoed_once_a_tick_with_neighbours() {
    let mut table = Table::set();
    for sequence in 1..=3 {
        let position = Position { x: 5, y: 6, sequence, sent_us: 70 + sequence };
        table.game.position(0, &position, table.now);
    }
    let said = table.tick();
    let snapshots: Vec<_> = said
        .iter()
        .filter_map(|o| if let Out::Snapshot { seat, snapshot } = o { Some((seat, snapshot)) } else { None })
        .collect();
    assert_eq!(snapshots.len(), 1);
    let (seat, snapshot) = snapshots[0];
    assert_eq!((*seat, snapshot.x, snapshot.y, snapshot.echo_sequence, snapshot.echo_sent_us), (0, 5, 6, 3, 73));
    assert_eq!(snapshot.neighbours.len(), 4, "two neighbours");
    assert!(!table.tick().iter().any(|out| matches!(out, Out::Snapshot { .. })));
}

#[test]
fn more_actions_than_anyone_should_send_end_the_session() {
    let mut table = Table::set();
    table.game.stand_still();
    for sequence in 1..=513 {
        table.does(0, sequence, ping(""));
    }
    assert!(table.said.contains(&Out::Eject { seat: 0, reason: "too_many_actions" }));
}
