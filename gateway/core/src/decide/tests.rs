//! The decisions, bare.

use std::collections::BTreeMap;

use super::*;
use crate::fixture::{dungeon, environment, environment_id, rules, server, shared, table};
use crate::table::Rules;

/// Servers by id: how many are on them; those not named have no link.
#[derive(Default)]
struct Sitting {
    players: BTreeMap<ServerId, (ServerKey, u32)>,
    hosts: Vec<(EnvironmentId, Place, ServerKey)>,
}

impl Seats for Sitting {
    fn occupancy(&self, server: &ServerId) -> Option<Occupancy> {
        self.players.get(server).map(|(key, players)| Occupancy { key: *key, players: *players })
    }
    fn instance_host(&self, environment: &EnvironmentId, place: &Place) -> Option<ServerKey> {
        self.hosts.iter().find(|(e, p, _)| e == environment && p == place).map(|(_, _, key)| *key)
    }
}

/// blue-0 (key 0), blue-1 (1), green-0 (2), green-1 (3) with so many players.
fn sitting(players: [u32; 4]) -> Sitting {
    let names = ["blue-0", "blue-1", "green-0", "green-1"];
    let on = names.iter().zip(0..).zip(players);
    let players = on.map(|((name, key), n)| (ServerId::new(name).unwrap(), (ServerKey(key), n))).collect();
    Sitting { players, hosts: Vec::new() }
}

fn two(accepting: Option<&str>, rules: Rules) -> RealmTable {
    let blue = environment("blue", vec![server("blue-0", &["forest"]), server("blue-1", &["forest", "swamp"])]);
    let green = environment("green", vec![server("green-0", &["forest"]), server("green-1", &["forest"])]);
    table(7, accepting, vec![blue, green], rules)
}

fn place_of(decision: &Decision) -> Result<&str, String> {
    match decision {
        Decision::Route(permit) => Ok(permit.server_id().as_str()),
        Decision::Hold(_) | Decision::Refuse(_) => Err(format!("{decision:?}")),
    }
}

fn check_login(given: (&RealmTable, &Sitting), when: &LoginAsk<'_>, expect: Result<&str, Decision>) {
    let decision = decide_login(given.0, given.1, when);
    match expect {
        Ok(server) => assert_eq!(place_of(&decision), Ok(server)),
        Err(other) => assert_eq!(decision, other),
    }
}

fn login<'a>() -> LoginAsk<'a> {
    LoginAsk { place: None, client_version: "1.2.3", party_environment: None, avoid: &[] }
}

#[test]
fn a_login_goes_to_the_least_loaded_server_of_the_accepting_environment() {
    let blue = two(Some("blue"), rules());
    check_login((&blue, &sitting([5, 4, 0, 0])), &login(), Ok("blue-1"));
    check_login((&blue, &sitting([4, 4, 0, 0])), &login(), Ok("blue-0"));
    check_login((&two(Some("green"), rules()), &sitting([0, 0, 3, 2])), &login(), Ok("green-1"));
}

#[test]
fn a_login_waits_where_there_is_no_room_or_nobody_accepts() {
    let full = Decision::Hold(HoldReason::Full);
    check_login((&two(Some("blue"), rules()), &sitting([10, 10, 0, 0])), &login(), Err(full.clone()));
    check_login((&two(None, rules()), &sitting([0; 4])), &login(), Err(Decision::Hold(HoldReason::Admission)));
    let nobody = Sitting::default();
    check_login((&two(Some("blue"), rules()), &nobody), &login(), Err(full.clone()));
    let avoid = [ServerKey(0), ServerKey(1)];
    check_login((&two(Some("blue"), rules()), &sitting([0; 4])), &LoginAsk { avoid: &avoid, ..login() }, Err(full));
}

#[test]
fn a_login_goes_to_a_server_that_serves_the_characters_place() {
    let (blue, swamp) = (two(Some("blue"), rules()), shared("swamp"));
    check_login((&blue, &sitting([0, 9, 0, 0])), &LoginAsk { place: Some(&swamp), ..login() }, Ok("blue-1"));
}

#[test]
fn a_client_that_the_build_does_not_admit_is_refused() {
    let mut blue = environment("blue", vec![server("blue-0", &[])]);
    blue.clients = Some(">=2".parse().unwrap());
    let blue = table(1, Some("blue"), vec![blue], rules());
    let too_old = Decision::Refuse(Refuse::ClientTooOld);
    check_login((&blue, &sitting([0; 4])), &login(), Err(too_old.clone()));
    check_login((&blue, &sitting([0; 4])), &LoginAsk { client_version: "?", ..login() }, Err(too_old));
    check_login((&blue, &sitting([0; 4])), &LoginAsk { client_version: "2.1.0", ..login() }, Ok("blue-0"));
}

#[test]
fn a_member_follows_the_party_only_where_the_realm_says_so_and_there_is_room() {
    let blue = environment_id("blue");
    let ask = LoginAsk { party_environment: Some(&blue), ..login() };
    let follow = two(Some("green"), Rules { party_follow: true, ..rules() });
    check_login((&follow, &sitting([1, 2, 0, 0])), &ask, Ok("blue-0"));
    assert!(matches!(decide_login(&follow, &sitting([0; 4]), &ask), Decision::Route(p) if p.follows_party()));
    check_login((&follow, &sitting([10, 10, 0, 0])), &ask, Ok("green-0"));
    check_login((&two(Some("green"), rules()), &sitting([0; 4])), &ask, Ok("green-0"));
}

fn check_boundary(given: (&RealmTable, &Sitting), place: &Place, cause: Cause, expect: (Result<&str, Refuse>, bool)) {
    let blue = environment_id("blue");
    let ask = BoundaryAsk { environment: &blue, server: ServerKey(0), members: 2, place, cause };
    let BoundaryDecision { decision, fell_back } = decide_boundary(given.0, given.1, &ask);
    match expect.0 {
        Ok(server) => assert_eq!(place_of(&decision), Ok(server)),
        Err(refuse) => assert_eq!(decision, Decision::Refuse(refuse)),
    }
    assert_eq!(fell_back, expect.1);
}

#[test]
fn at_a_boundary_a_session_stays_in_an_environment_that_accepts() {
    let blue = two(Some("blue"), rules());
    check_boundary((&blue, &sitting([0; 4])), &shared("forest"), Cause::Zone, (Err(Refuse::Here), false));
    check_boundary((&blue, &sitting([0; 4])), &shared("swamp"), Cause::Zone, (Ok("blue-1"), false));
    check_boundary((&blue, &sitting([0; 4])), &shared("moon"), Cause::Zone, (Err(Refuse::NoServer), false));
    check_boundary((&blue, &sitting([0, 9, 0, 0])), &shared("swamp"), Cause::Zone, (Err(Refuse::NoRoom), false));
}

#[test]
fn at_a_boundary_a_session_leaves_an_environment_that_does_not_accept_if_the_policy_allows() {
    let green = two(Some("green"), rules());
    check_boundary((&green, &sitting([0; 4])), &shared("forest"), Cause::Respawn, (Ok("green-0"), false));
    let no_zone = Rules { boundaries: crate::table::Boundaries { zone: false, ..rules().boundaries }, ..rules() };
    let green = two(Some("green"), no_zone);
    check_boundary((&green, &sitting([0; 4])), &shared("forest"), Cause::Zone, (Err(Refuse::Here), false));
    check_boundary((&green, &sitting([0; 4])), &shared("forest"), Cause::Respawn, (Ok("green-0"), false));
    let held = two(Some("green"), Rules { hold_pins: true, ..rules() });
    check_boundary((&held, &sitting([0; 4])), &shared("swamp"), Cause::Zone, (Ok("blue-1"), false));
}

#[test]
fn a_group_that_the_other_environment_cannot_take_whole_stays_and_is_counted() {
    let green = two(Some("green"), rules());
    let nearly_full = sitting([0, 0, 9, 9]);
    check_boundary((&green, &nearly_full), &shared("forest"), Cause::Zone, (Err(Refuse::Here), true));
    check_boundary((&green, &sitting([0; 4])), &shared("swamp"), Cause::Zone, (Ok("blue-1"), true));
}

#[test]
fn members_of_an_instance_go_to_the_server_that_hosts_it() {
    let green = two(Some("green"), rules());
    let mut sitting = sitting([0, 0, 0, 5]);
    sitting.hosts.push((environment_id("green"), dungeon("a"), ServerKey(3)));
    check_boundary((&green, &sitting), &dungeon("a"), Cause::Instance, (Ok("green-1"), false));
    check_boundary((&green, &sitting), &dungeon("b"), Cause::Instance, (Ok("green-0"), false));
    let blue = two(Some("blue"), rules());
    sitting.hosts.push((environment_id("blue"), dungeon("a"), ServerKey(1)));
    check_boundary((&blue, &sitting), &dungeon("a"), Cause::Instance, (Ok("blue-1"), false));
    check_boundary((&blue, &sitting), &dungeon("c"), Cause::Instance, (Err(Refuse::Here), false));
}

fn check_move(given: (&RealmTable, &Sitting), to: (&str, Option<&str>), place: &Place, expect: Result<&str, Refuse>) {
    let (blue, target) = (environment_id("blue"), environment_id(to.0));
    let target_server = to.1.map(|id| ServerId::new(id).unwrap());
    let ask = MoveAsk {
        environment: &blue,
        server: ServerKey(0),
        target: &target,
        target_server: target_server.as_ref(),
        place: Some(place),
        cause: Cause::Drain,
    };
    match (decide_move(given.0, given.1, &ask), expect) {
        (decision, Ok(server)) => assert_eq!(place_of(&decision), Ok(server)),
        (decision, Err(refuse)) => assert_eq!(decision, Decision::Refuse(refuse)),
    }
}

#[test]
fn a_move_goes_where_it_is_told_if_that_serves_the_place() {
    let green = two(Some("green"), rules());
    let free = sitting([0, 0, 1, 0]);
    check_move((&green, &free), ("green", None), &shared("forest"), Ok("green-1"));
    check_move((&green, &free), ("green", Some("green-0")), &shared("forest"), Ok("green-0"));
    check_move((&green, &free), ("green", None), &shared("swamp"), Err(Refuse::NoServer));
    check_move((&green, &free), ("green", Some("blue-0")), &shared("forest"), Err(Refuse::NoServer));
    check_move((&green, &sitting([0, 0, 10, 10])), ("green", None), &shared("forest"), Err(Refuse::NoRoom));
    check_move((&green, &free), ("blue", None), &shared("forest"), Err(Refuse::AlreadyThere));
    check_move((&green, &free), ("blue", Some("blue-0")), &shared("forest"), Err(Refuse::AlreadyThere));
    check_move((&green, &free), ("blue", Some("blue-1")), &shared("forest"), Ok("blue-1"));
    check_move((&green, &free), ("gone", None), &shared("forest"), Err(Refuse::NoServer));
}

#[test]
fn a_home_that_died_is_replaced_in_its_own_environment_even_if_that_does_not_accept() {
    let green = two(Some("green"), rules());
    let (blue, gone, swamp) = (environment_id("blue"), environment_id("gone"), shared("swamp"));
    let ask = CrashAsk { environment: &blue, place: Some(&swamp), prefer: None, avoid: &[] };
    assert_eq!(place_of(&decide_crash(&green, &sitting([0; 4]), &ask)), Ok("blue-1"));
    let full = decide_crash(&green, &sitting([0, 10, 0, 0]), &ask);
    assert_eq!(full, Decision::Hold(HoldReason::HomeLost));
    let ask = CrashAsk { environment: &gone, place: None, ..ask };
    assert_eq!(place_of(&decide_crash(&green, &sitting([0; 4]), &ask)), Ok("green-0"));
    let ask = CrashAsk { environment: &blue, prefer: Some(ServerKey(1)), ..ask };
    assert_eq!(place_of(&decide_crash(&green, &sitting([0, 5, 0, 0]), &ask)), Ok("blue-1"));
}

#[test]
fn a_permit_of_an_older_table_is_good_only_where_new_sessions_still_go() {
    let Decision::Route(login) = decide_login(&two(Some("blue"), rules()), &sitting([0; 4]), &login()) else {
        panic!("there is room");
    };
    let flipped =
        |accepting| table(8, accepting, vec![environment("blue", vec![]), environment("green", vec![])], rules());
    assert!(still_good(&two(Some("blue"), rules()), &login));
    assert!(still_good(&flipped(Some("blue")), &login));
    assert!(!still_good(&flipped(Some("green")), &login));
    assert!(!still_good(&flipped(None), &login));
}
