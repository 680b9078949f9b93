//! One drain, looked at closely: notices, deadline, extensions, pace, measured progress, `explain`, and the gate.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, Generation, InstanceId, SessionId, Timestamp};

use crate::drain::{AtDeadline, Departure, Drain, DrainState, Policy};
use crate::effect::Effect;
use crate::environment::{Environment, Phase, PhaseKind, Source};
use crate::input::{Event, Input};
use crate::model::{build, environment_id, fleet, new_rows};
use crate::observe::{
    Assets, Departed, EnvironmentObservation, GatewayObservation, OccupancyReport, ServerObservation, ServerReport,
    ServerState, SessionObservation,
};
use crate::outcome::Outcome;
use crate::realm::Realm;

const START: Timestamp = Timestamp(1_000_000);

fn blue() -> EnvironmentId {
    environment_id("blue")
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn session_id(n: u8) -> SessionId {
    SessionId::from_slice(&[n; 16]).unwrap()
}

/// A session in the dungeon that is idle for `10 * n` seconds as of the start.
fn session(n: u8) -> SessionObservation {
    SessionObservation {
        session: session_id(n),
        player: format!("p{n}").parse().unwrap(),
        party: None,
        server: "blue-s0".parse().unwrap(),
        zone: if n.is_multiple_of(2) { "town" } else { "crypt" }.parse().unwrap(),
        zone_kind: if n.is_multiple_of(2) { "shared" } else { "dungeon" }.to_owned(),
        busy: false,
        active: START - seconds(10 * u64::from(n)),
        moving: false,
    }
}

fn report(sessions: Vec<SessionObservation>) -> OccupancyReport {
    let gateway =
        GatewayObservation { id: "gw-1".parse().unwrap(), connected: true, complete: true, generation: Generation(5) };
    OccupancyReport {
        gateways: vec![gateway],
        counts: BTreeMap::from([(blue(), u32::try_from(sessions.len()).unwrap())]),
        sessions: BTreeMap::from([(blue(), sessions)]),
        departures: Vec::new(),
    }
}

fn servers(report: Option<ServerReport>) -> EnvironmentObservation {
    let server = ServerObservation {
        id: "blue-s0".parse().unwrap(),
        fleet: "main".parse().unwrap(),
        state: ServerState::Serving,
        instance: InstanceId::from_slice(&[1; 16]),
        address: Some("127.0.0.1:1".to_owned()),
        tls_name: "blue-s0.world.tidegate".to_owned(),
        build: Some("1.9.0".parse().unwrap()),
        assets: Assets::Loaded(build("1.9.0", &[1]).assets_digest.unwrap()),
        zones: vec!["town".parse().unwrap()],
        instance_kinds: Vec::new(),
        capacity: 100,
        restarts: 0,
        report,
        reason: String::new(),
    };
    EnvironmentObservation { environment: blue(), servers: vec![server] }
}

const NOBODY: ServerReport = ServerReport { players: 0, parked: 0, in_handover: 0 };

/// A realm whose environment blue drains by `policy`, and whose green is active.
fn draining(policy: Policy) -> Realm {
    let mut rows = new_rows();
    for (name, phase) in [("blue", Phase::Draining), ("green", Phase::Active)] {
        let id = environment_id(name);
        let mut environment =
            Environment::new(id.clone(), build("1.9.0", &[1]), vec![fleet(100)], Source::Empty, START);
        environment.phase = phase;
        environment.was_active = true;
        rows.environments.insert(id, environment);
    }
    rows.routing.accepting = Some(environment_id("green"));
    rows.routing.generation = Generation(5);
    let mut drain = Drain::natural(blue(), START, 4, Generation(5));
    drain.deadline = policy.deadline.map(|d| START + d);
    drain.policy = policy;
    drain.policy_given = true;
    rows.drains.insert(blue(), drain);
    Realm::load(rows)
}

fn policy(deadline: u64, at_deadline: AtDeadline) -> Policy {
    Policy { deadline: Some(seconds(deadline)), at_deadline, ..Policy::natural() }
}

fn event(realm: &mut Realm, at: Timestamp, event: Event) -> Outcome {
    realm.handle(at, Input::Event(event)).unwrap()
}

fn moved(outcome: &Outcome) -> Vec<SessionId> {
    outcome
        .effects
        .iter()
        .filter_map(|e| match e {
            Effect::MoveSessions { sessions, .. } => Some(sessions.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Given what is seen of blue, it counts as empty, or not because of `expect`.
fn check(servers: Option<EnvironmentObservation>, report: Option<OccupancyReport>, expect: Option<&str>) {
    let mut realm = draining(Policy::natural());
    if let Some(servers) = servers {
        drop(event(&mut realm, START, Event::ServersObserved(servers)));
    }
    if let Some(report) = report {
        drop(event(&mut realm, START, Event::Occupancy(report)));
    }
    let phase = realm.rows.environments[&blue()].phase.kind();
    let view = realm.drain_view(&blue(), START).unwrap();
    match expect {
        None => assert_eq!((phase, view.drain.state), (PhaseKind::Drained, DrainState::Completed)),
        Some(why) => {
            assert_eq!(phase, PhaseKind::Draining, "counts as empty although: {why}");
            assert!(view.waiting_for.iter().any(|w| w.contains(why)), "{why:?} is not in {:?}", view.waiting_for);
        }
    }
}

#[test]
fn unknown_means_occupied() {
    let nobody = || Some(servers(Some(NOBODY)));
    let none = || Some(report(Vec::new()));
    check(nobody(), none(), None);
    check(nobody(), None, Some("no gateway has reported"));
    check(None, none(), Some("its servers have not been seen"));
    check(Some(servers(None)), none(), Some("server blue-s0 has not said how many players it holds"));
    let one = ServerReport { players: 1, ..NOBODY };
    check(Some(servers(Some(one))), none(), Some("server blue-s0 says it holds 1 players"));
    let frozen = ServerReport { in_handover: 1, ..NOBODY };
    check(Some(servers(Some(frozen))), none(), Some("1 in a hand-over"));
    let gateway = |edit: fn(&mut GatewayObservation)| {
        let mut report = report(Vec::new());
        edit(&mut report.gateways[0]);
        Some(report)
    };
    check(nobody(), gateway(|g| g.connected = false), Some("gateway gw-1 is not connected"));
    check(nobody(), gateway(|g| g.complete = false), Some("gateway gw-1 has not reported all its sessions"));
    check(nobody(), gateway(|g| g.generation = Generation(4)), Some("gateway gw-1 is at generation 4, not yet at 5"));
}

#[test]
fn a_session_alone_keeps_it_occupied_whatever_the_servers_say() {
    let mut realm = draining(Policy::natural());
    drop(event(&mut realm, START, Event::ServersObserved(servers(Some(NOBODY)))));
    drop(event(&mut realm, START, Event::Occupancy(report(vec![session(1)]))));
    let view = realm.drain_view(&blue(), START).unwrap();
    assert_eq!((view.remaining, view.known, view.waiting_for), (1, true, Vec::new()));
}

#[test]
fn notices_go_out_once_each_and_only_the_most_urgent_after_a_gap() {
    let mut realm = draining(Policy {
        notices: vec![seconds(60), seconds(30), seconds(10)],
        notice_text: "{remaining} left".to_owned(),
        ..policy(100, AtDeadline::Move)
    });
    let notices = |outcome: &Outcome| -> Vec<String> {
        let texts = outcome.effects.iter().filter_map(|e| match e {
            Effect::Notify { text, .. } => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    };
    let look = |realm: &mut Realm, at: u64| {
        let outcome = event(realm, START + seconds(at), Event::Occupancy(report(vec![session(1)])));
        notices(&outcome)
    };
    assert!(look(&mut realm, 1).is_empty());
    assert_eq!(realm.poll_timeout(), Some(START + seconds(40)));
    assert_eq!(notices(&realm.handle_timeout(START + seconds(40))), ["1 min left"]);
    assert!(look(&mut realm, 41).is_empty());
    assert_eq!(look(&mut realm, 92), ["8 s left"]);
    assert_eq!(realm.rows.drains[&blue()].notices_sent.len(), 3);
    // After a death the last one is sent once more: it may have been lost, and gateways know it by its command.
    let mut again = Realm::load(realm.rows.clone());
    assert_eq!(look(&mut again, 93), ["7 s left"]);
    assert!(look(&mut again, 94).is_empty());
}

#[test]
fn at_the_deadline_the_last_ones_are_moved_at_a_pace_and_parties_together() {
    let mut realm = draining(Policy { moves_per_second: 2, ..policy(60, AtDeadline::Move) });
    let mut sessions: Vec<SessionObservation> = (1..=5).map(session).collect();
    sessions[1].party = Some("z".parse().unwrap());
    sessions[4].party = Some("z".parse().unwrap());
    let now = START + seconds(60);
    let outcome = event(&mut realm, now, Event::Occupancy(report(sessions.clone())));
    assert_eq!(realm.rows.drains[&blue()].state, DrainState::Forcing);
    assert_eq!(moved(&outcome), [session_id(1), session_id(3)]);
    assert_eq!(realm.poll_timeout(), Some(now + seconds(1)));
    assert!(moved(&realm.handle_timeout(now)).is_empty(), "the pace is two a second");
    assert_eq!(moved(&realm.handle_timeout(now + seconds(1))), [session_id(4), session_id(2)]);
    assert_eq!(moved(&realm.handle_timeout(now + seconds(2))), [session_id(5)]);
    // Told again only after a while, and not while in a hand-over.
    sessions[0].moving = true;
    let outcome = event(&mut realm, now + seconds(3), Event::Occupancy(report(sessions)));
    assert_eq!(moved(&outcome), [session_id(3)]);
}

#[test]
fn a_busy_session_has_longer_by_its_zones_kind() {
    let extensions = BTreeMap::from([("dungeon".to_owned(), seconds(30))]);
    let mut realm = draining(Policy { extensions, ..policy(60, AtDeadline::Move) });
    let mut busy = session(1);
    busy.busy = true;
    let idle = session(2);
    let outcome = event(&mut realm, START + seconds(60), Event::Occupancy(report(vec![busy.clone(), idle])));
    assert_eq!(moved(&outcome), [session_id(2)]);
    let explained = realm.explain_drain(&blue(), START + seconds(60)).unwrap();
    assert_eq!(
        explained.holders[0].will_leave,
        "at its next boundary, or moved in 30 s (it is busy, so it has longer)"
    );
    assert_eq!(explained.holders[1].will_leave, "is being moved now");
    drop(event(&mut realm, START + seconds(61), Event::Occupancy(report(vec![busy]))));
    assert_eq!(realm.poll_timeout(), Some(START + seconds(90)));
    assert_eq!(moved(&realm.handle_timeout(START + seconds(90))), [session_id(1)]);
}

#[test]
fn kick_ends_sessions_and_stay_leaves_them() {
    let mut realm = draining(policy(60, AtDeadline::Kick));
    let outcome = event(&mut realm, START + seconds(60), Event::Occupancy(report(vec![session(1)])));
    assert!(outcome.effects.iter().any(|e| matches!(e, Effect::KickSessions { sessions, .. } if sessions.len() == 1)));
    let mut realm = draining(policy(60, AtDeadline::Stay));
    let outcome = event(&mut realm, START + seconds(90), Event::Occupancy(report(vec![session(1)])));
    assert!(outcome.effects.is_empty());
    assert_eq!((realm.rows.drains[&blue()].state, realm.poll_timeout()), (DrainState::Running, None));
    let explained = realm.explain_drain(&blue(), START).unwrap();
    assert_eq!(explained.holders[0].will_leave, "at its next boundary; stays as long as it likes");
}

#[test]
fn nobody_is_moved_while_the_realm_is_frozen() {
    let mut realm = draining(policy(60, AtDeadline::Move));
    realm.rows.routing.frozen = Some(crate::routing::Freeze { since: START, reason: "incident".to_owned() });
    let outcome = event(&mut realm, START + seconds(70), Event::Occupancy(report(vec![session(1)])));
    assert!(moved(&outcome).is_empty());
    assert_eq!(realm.poll_timeout(), None);
}

#[test]
fn progress_is_measured() {
    let mut realm = draining(Policy::natural());
    let sessions = vec![session(1), session(2), session(7), session(100)];
    let mut first = report(sessions.clone());
    let departed = |at: u64, how| Departed { environment: blue(), at: START + seconds(at), how };
    first.departures = vec![departed(10, Departure::Logout), departed(20, Departure::Moved(Cause::Zone))];
    drop(event(&mut realm, START + seconds(20), Event::Occupancy(first)));
    let view = realm.drain_view(&blue(), START + seconds(20)).unwrap();
    assert_eq!(view.estimated_end, None, "two departures say nothing");

    let mut second = report(sessions);
    second.departures = vec![departed(30, Departure::Logout), departed(40, Departure::Logout)];
    drop(event(&mut realm, START + seconds(40), Event::Occupancy(second)));
    let now = START + seconds(50);
    let view = realm.drain_view(&blue(), now).unwrap();
    assert_eq!(view.remaining, 4);
    assert_eq!(view.by_kind, BTreeMap::from([("shared".to_owned(), 2), ("dungeon".to_owned(), 2)]));
    assert_eq!((view.idle_under_1m, view.idle_under_10m, view.idle_longer), (0, 3, 1));
    // Four in 40 s: six a minute, so the four that are left take 40 s more.
    assert!((view.departures_per_minute - 6.0).abs() < 1e-9);
    assert_eq!(view.estimated_end, Some(now + seconds(40)));
    let departed = &view.drain.departed;
    assert_eq!((departed[&Departure::Logout], departed[&Departure::Moved(Cause::Zone)]), (3, 1));
}
