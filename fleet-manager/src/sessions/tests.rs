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
    sessions.connected(&gw);
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
