//! Zones, instances, parties, deaths: what is asked of the gateway, and what its answers do.

use super::*;

#[test]
fn a_boundary_is_asked_of_the_gateway_and_answered_before() {
    let mut table = Table::set();
    let before = table.said.len();
    assert_eq!(only(table.does(0, 1, go_to("forest"))), ok());
    let said = &table.said[before..];
    let transfer = Out::Transfer { seats: vec![0], to: Place::shared("forest"), cause: Cause::Zone };
    let at = said.iter().position(|out| *out == transfer).expect("asked");
    assert!(answers(&said[at..], 0).len() + answers(&said[..at], 0).len() == 1);
    assert_eq!(only(table.does(0, 2, go_to("desert"))), refused("busy"));

    // "here": the world's own affair.
    let said = table.call(|game, now, out| game.transfer_refused(0, "here", now, out));
    assert_eq!(entereds(&said, 0)[0].zone, "forest");
    // Anything else: still there, and told so.
    table.does(0, 3, go_to("desert"));
    let said = table.call(|game, now, out| game.transfer_refused(0, "no_server", now, out));
    assert_eq!(entereds(&said, 0)[0].zone, "forest");
    assert_eq!(only(table.does(0, 4, go_to("no zone"))), refused("unknown_zone"));
    assert_eq!(only(table.does(0, 5, go_to("forest"))), ok());
}

#[test]
fn a_gateway_that_says_nothing_is_not_waited_for_for_ever() {
    let mut table = Table::set();
    table.does(0, 1, go_to("desert"));
    table.now = table.now + Duration::from_secs(15);
    let said = table.tick();
    assert_eq!(entereds(&said, 0).len(), 1);
    assert_eq!(only(table.does(0, 2, go_to("desert"))), ok());
}

#[test]
fn a_party_goes_together() {
    let mut table = Table::set();
    for seat in [0, 2] {
        let join = action::Kind::Party(JoinParty { party: "reds".to_owned() });
        assert_eq!(only(table.does(seat, 1, join)), ok());
    }
    table.does(0, 2, enter("dungeon"));
    let to = Place::instance("dungeon", "party-reds");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0, 2], to: to.clone(), cause: Cause::Instance }));
    for seat in [0, 2] {
        let said = table.call(|game, now, out| game.transfer_refused(seat, "here", now, out));
        assert_eq!((&*entereds(&said, seat)[0].zone, &*entereds(&said, seat)[0].instance), ("dungeon", "party-reds"));
        assert!(said.iter().any(|out| matches!(out, Out::Status { kind, .. } if kind == "dungeon")));
    }
    // A solitary player has an instance of their own.
    table.does(1, 1, enter("dungeon"));
    let solo = Place::instance("dungeon", "solo-bob");
    assert!(table.said.contains(&Out::Transfer { seats: vec![1], to: solo, cause: Cause::Instance }));
    // The way out is where they came in.
    assert_eq!(only(table.does(0, 3, action::Kind::Leave(LeaveInstance {}))), ok());
    let exit = Place::shared("harbor");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0], to: exit, cause: Cause::Instance }));
}

#[test]
fn a_fight_makes_busy_until_it_ends_or_kills() {
    let mut table = Table::set();
    let fight = |on| action::Kind::Fight(Fight { on });
    assert_eq!(only(table.does(0, 1, fight(true))), refused("not_in_instance"));
    table.does(0, 2, enter("dungeon"));
    table.call(|game, now, out| game.transfer_refused(0, "here", now, out));
    assert_eq!(only(table.does(0, 3, fight(true))), ok());
    assert!(matches!(table.said.last(), Some(Out::Event { .. })));
    assert!(table.said.iter().any(|out| matches!(out, Out::Status { seat: 0, busy: true, .. })));
    assert_eq!(only(table.does(0, 4, action::Kind::Leave(LeaveInstance {}))), refused("busy"));
    assert_eq!(only(table.does(0, 5, action::Kind::Die(Die {}))), ok());
    let graveyard = Place::shared("harbor");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0], to: graveyard, cause: Cause::Respawn }));
}
