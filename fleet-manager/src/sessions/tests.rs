//! What is counted, what is unknown, and who may end a session.

use super::*;

fn gateway(id: &str) -> GatewayId {
    id.parse().unwrap()
}

fn environment(id: &str) -> EnvironmentId {
    id.parse().unwrap()
}

fn row(n: u128, environment: &str, cause: v1::Cause) -> v1::SessionRow {
    v1::SessionRow {
        session_id: SessionId(Uuid::from_u128(n)).to_vec(),
        realm: "eu-1".into(),
        player: format!("p{n}"),
        environment_id: environment.into(),
        zone: "harbour".into(),
        zone_kind: "shared".into(),
        pin: Some(v1::Pin { cause: cause.into(), ..v1::Pin::default() }),
        ..v1::SessionRow::default()
    }
}

fn gone(n: u128, reason: &str) -> v1::SessionGone {
    v1::SessionGone {
        session_id: SessionId(Uuid::from_u128(n)).to_vec(),
        reason: reason.into(),
        ..v1::SessionGone::default()
    }
}

fn departures(sessions: &Sessions) -> Vec<(String, String)> {
    let taken = sessions.take_departures(&"eu-1".parse().unwrap());
    taken.into_iter().map(|d| (d.environment.to_string(), d.how)).collect()
}

#[test]
fn departures_are_counted_by_where_they_went() {
    let sessions = Sessions::default();
    let gw = gateway("gw-1");
    for n in 0..3 {
        sessions.put(&gw, row(n, "blue", v1::Cause::Login)).unwrap();
    }
    sessions.put(&gw, row(0, "green", v1::Cause::Zone)).unwrap();
    sessions.put(&gw, row(0, "green", v1::Cause::Zone)).unwrap();
    sessions.gone(&gw, &gone(1, "logout")).unwrap();
    sessions.gone(&gw, &gone(1, "logout")).unwrap();
    assert_eq!(departures(&sessions), [("blue".into(), "zone".into()), ("blue".into(), "logout".into())]);
    assert_eq!(departures(&sessions), []);
    assert_eq!(sessions.population(&environment("blue")).sessions, 1);
    assert_eq!(sessions.population(&environment("green")).sessions, 1);
    assert!(sessions.of_player(&"p1".parse().unwrap()).is_empty());
}

#[test]
fn a_full_list_replaces_what_was_known_and_is_unknown_until_it_ends() {
    let sessions = Sessions::default();
    let gw = gateway("gw-1");
    sessions.connected(&gw, false);
    sessions.begin(&gw);
    sessions.put(&gw, row(1, "blue", v1::Cause::Login)).unwrap();
    sessions.put(&gw, row(2, "blue", v1::Cause::Login)).unwrap();
    assert_eq!(sessions.unknown(), std::slice::from_ref(&gw));
    sessions.end(&gw);
    assert!(sessions.unknown().is_empty());

    sessions.disconnected(&gw);
    assert_eq!(sessions.unknown(), std::slice::from_ref(&gw));
    assert_eq!(sessions.population(&environment("blue")).sessions, 2, "the last that was heard stays");
    sessions.begin(&gw);
    sessions.put(&gw, row(2, "blue", v1::Cause::Login)).unwrap();
    sessions.end(&gw);
    assert_eq!(sessions.list(&v1::SessionFilter::default(), None, 10).1, 1);
    assert_eq!(departures(&sessions), [("blue".into(), "unreported".into())]);
}

#[test]
fn only_the_holder_ends_a_session() {
    let sessions = Sessions::default();
    sessions.put(&gateway("gw-1"), row(1, "blue", v1::Cause::Login)).unwrap();
    sessions.put(&gateway("gw-2"), row(1, "blue", v1::Cause::Resume)).unwrap();
    sessions.gone(&gateway("gw-1"), &gone(1, "replaced")).unwrap();
    assert_eq!(sessions.population(&environment("blue")).sessions, 1);
    sessions.forget(&gateway("gw-1"));
    assert_eq!(sessions.population(&environment("blue")).sessions, 1);
    sessions.forget(&gateway("gw-2"));
    assert_eq!(sessions.population(&environment("blue")).sessions, 0);
}

#[test]
fn pages_follow_each_other_and_filters_must_all_match() {
    let sessions = Sessions::default();
    for n in 0..10 {
        let environment = if n % 2 == 0 { "blue" } else { "green" };
        sessions.put(&gateway("gw-1"), row(n, environment, v1::Cause::Login)).unwrap();
    }
    let filter = v1::SessionFilter { environment_id: "blue".into(), ..Default::default() };
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let (page, total) = sessions.list(&filter, after, 2);
        assert_eq!(total, 5);
        let Some(last) = page.last() else { break };
        after = SessionId::from_slice(&last.session_id);
        seen.extend(page.iter().map(|row| row.player.clone()));
    }
    assert_eq!(seen, ["p0", "p2", "p4", "p6", "p8"]);
    let none = v1::SessionFilter { player: "p1".into(), ..filter };
    assert_eq!(sessions.list(&none, None, 10).1, 0);
}

#[test]
fn a_bad_row_is_refused_by_field() {
    let sessions = Sessions::default();
    let bad = v1::SessionRow { session_id: vec![1; 3], ..row(1, "blue", v1::Cause::Login) };
    let error = sessions.put(&gateway("gw-1"), bad).unwrap_err().to_string();
    assert_eq!(error, "field session.session_id: has 3 bytes, not 16");
}

fn at_epoch(n: u128, epoch: u64, cause: v1::Cause) -> v1::SessionRow {
    v1::SessionRow { epoch, server_id: "s-1".into(), state: v1::SessionState::Playing.into(), ..row(n, "blue", cause) }
}

#[test]
fn of_two_gateways_the_one_with_the_later_epoch_holds_the_session() {
    let sessions = Sessions::default();
    let (old, new) = (gateway("gw-1"), gateway("gw-2"));
    assert_eq!(sessions.put(&old, at_epoch(1, 5, v1::Cause::Login)).unwrap(), Put::Held);
    assert_eq!(sessions.put(&old, at_epoch(1, 5, v1::Cause::Login)).unwrap(), Put::Held);
    assert_eq!(sessions.put(&new, at_epoch(1, 6, v1::Cause::Resume)).unwrap(), Put::Taken);
    // The old one has not heard of it yet, and lists what it believes it has.
    sessions.begin(&old);
    assert_eq!(sessions.put(&old, at_epoch(1, 5, v1::Cause::Login)).unwrap(), Put::Old);
    sessions.end(&old);
    let id = SessionId(Uuid::from_u128(1));
    assert_eq!(sessions.get(id).unwrap().gateway_id, "gw-2");
    sessions.gone(&old, &gone(1, "replaced")).unwrap();
    sessions.disconnected(&old);
    sessions.forget(&old);
    assert_eq!(sessions.get(id).map(|row| (row.epoch, row.gateway_id.clone())), Some((6, "gw-2".to_owned())));
    assert_eq!(departures(&sessions), []);
    sessions.gone(&new, &gone(1, "logout")).unwrap();
    assert_eq!(sessions.get(id), None);
}

#[test]
fn sessions_of_a_gateway_that_is_gone_stay_until_somebody_has_them() {
    let sessions = Sessions::default();
    let (dead, other) = (gateway("gw-1"), gateway("gw-2"));
    for n in 1..=3 {
        sessions.put(&dead, at_epoch(n, 1, v1::Cause::Login)).unwrap();
    }
    sessions.disconnected(&dead);
    assert_eq!((sessions.orphans().len(), sessions.of_gateway(&dead)), (3, (3, 3)));
    assert!(sessions.held_by_server().is_empty());
    sessions.put(&other, at_epoch(1, 2, v1::Cause::Resume)).unwrap();
    assert_eq!(sessions.orphans().len(), 2);
    assert_eq!(sessions.held_by_server(), BTreeMap::from([("s-1".to_owned(), 1)]));

    // The next process under its id has nobody; that says nothing of those that the one before it had.
    sessions.connected(&dead, true);
    sessions.begin(&dead);
    sessions.end(&dead);
    assert_eq!(sessions.population(&environment("blue")).sessions, 3);
    sessions.connected(&dead, false);
    sessions.begin(&dead);
    sessions.put(&dead, at_epoch(2, 2, v1::Cause::Resume)).unwrap();
    sessions.end(&dead);
    assert_eq!((sessions.orphans().len(), sessions.of_gateway(&dead)), (1, (2, 1)));

    let all: Vec<SessionId> = (1..=3).map(|n| SessionId(Uuid::from_u128(n))).collect();
    sessions.drop_orphans(&all);
    assert_eq!(sessions.population(&environment("blue")).sessions, 2, "only what nobody has");
    assert_eq!(departures(&sessions), [("blue".into(), "lost".into())]);
}
