//! The quiet end: everything is healed, what was begun comes to its end, everybody logs out, and the books are read.

use std::time::{Duration, Instant};

use simulated_players::Report;
use tidegate_events::event;
use tidegate_proto::v1;

use super::operators::{Operator, channel};
use super::realm::{REALM, Realm, lock};
use crate::crowd::Crowd;

/// How long the realm may take to come to rest; what is not at rest by then is for the judge.
const REST: Duration = Duration::from_secs(60);

/// A drain whose deadline passed so long ago has been forgotten.
const OVERDUE_MS: i64 = 20_000;

/// Waits until nobody waits for anything, or until it has waited long enough.
pub(super) fn calm(crowd: &Crowd) {
    let live = crowd.control.live();
    let begin = Instant::now();
    let is_calm = || {
        let live = live.borrow();
        live.holding == 0 && live.reconnecting == 0 && live.connecting == 0
    };
    while !is_calm() && begin.elapsed() < REST {
        std::thread::sleep(crate::wait::LOOK);
    }
    event!("calm", reached = is_calm(), took_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
}

/// Rollouts and drains come to their end; paused rollouts are given up, as their operator would.
pub(super) async fn finish_changes(realm: &Realm, operator: &mut Operator<'_>) {
    let begin = Instant::now();
    loop {
        let open = open_rollouts(realm).await;
        for rollout in open.iter().flatten().filter(|r| r.state() == v1::RolloutState::Paused) {
            operator.abort(&rollout.id).await;
        }
        let drains_open = drains(realm)
            .await
            .is_none_or(|drains| drains.iter().any(|drain| drain.ended_ms == 0 && drain.deadline_at_ms > 0));
        if (open.is_some_and(|open| open.is_empty()) && !drains_open) || begin.elapsed() > REST {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn open_rollouts(realm: &Realm) -> Option<Vec<v1::Rollout>> {
    use v1::RolloutState::{Completed, Failed, RolledBack};
    let all = rollouts(realm).await?.into_iter();
    Some(all.filter(|rollout| !matches!(rollout.state(), Completed | Failed | RolledBack)).collect())
}

async fn rollouts(realm: &Realm) -> Option<Vec<v1::Rollout>> {
    let mut client = v1::rollout_service_client::RolloutServiceClient::new(channel(&realm.manager_address));
    let request = v1::ListRolloutsRequest { realm: REALM.to_owned() };
    client.list_rollouts(request).await.ok().map(|list| list.into_inner().rollouts)
}

async fn drains(realm: &Realm) -> Option<Vec<v1::Drain>> {
    let mut client = v1::drain_service_client::DrainServiceClient::new(channel(&realm.manager_address));
    let request = v1::ListDrainsRequest { realm: REALM.to_owned() };
    client.list_drains(request).await.ok().map(|list| list.into_inner().drains)
}

async fn environments(realm: &Realm) -> Option<Vec<v1::Environment>> {
    let mut client = v1::environment_service_client::EnvironmentServiceClient::new(channel(&realm.manager_address));
    let request = v1::ListEnvironmentsRequest { realm: REALM.to_owned(), ..v1::ListEnvironmentsRequest::default() };
    client.list_environments(request).await.ok().map(|list| list.into_inner().environments)
}

/// Writes down how rollouts and drains ended: one that an environment should have and that is not there is forgotten.
pub(super) async fn tell_changes(realm: &Realm) {
    for rollout in rollouts(realm).await.unwrap_or_default() {
        let state = rollout.state().as_str_name().trim_start_matches("ROLLOUT_STATE_");
        event!("rollout", id = rollout.id, state = state, reason = rollout.reason);
    }
    let now_ms = crate::crowd::now().0;
    let Some(drains) = drains(realm).await else { return };
    for environment in environments(realm).await.unwrap_or_default() {
        let known = drains.iter().any(|drain| drain.environment_id == environment.id && drain.ended_ms == 0);
        if environment.phase() == v1::Phase::Draining && !known {
            event!(
                "drain",
                environment = environment.id,
                state = "NONE",
                overdue = true,
                remaining = environment.sessions
            );
        }
    }
    for drain in drains {
        let overdue = drain.ended_ms == 0 && drain.deadline_at_ms > 0 && now_ms - drain.deadline_at_ms > OVERDUE_MS;
        let state = drain.state().as_str_name().trim_start_matches("DRAIN_STATE_");
        event!(
            "drain",
            environment = drain.environment_id,
            state = state,
            overdue = overdue,
            remaining = drain.remaining
        );
    }
}

/// Writes down what the players say.
pub(super) fn tell_report(report: &Report) {
    let moves: u64 = report.moved_by.values().sum();
    event!(
        "report",
        sessions = report.sessions_started,
        moves = moves,
        frames_sent = report.frames_sent,
        frames_answered = report.frames_answered,
        lost = report.lost,
        double_homed = report.double_homed,
        unannounced_home = report.unannounced_home,
        moved_without_cause = report.moved_without_cause,
        gold_vanished = report.gold_vanished,
        frames_lost = report.frames_lost,
        frames_duplicated = report.frames_duplicated,
        frames_reordered = report.frames_reordered,
        frames_repeated = report.frames_repeated,
        resumed = report.resumed,
        gaps = report.gaps,
        login_gave_up = report.login_gave_up,
        moved_by = report.moved_by,
        ended_by = report.ended_by
    );
}

/// Writes down every ERROR line and panic of every log.
pub(super) fn tell_errors(realm: &Realm) {
    let mut logs = lock(&realm.cluster).logs();
    logs.extend(realm.gateways.iter().map(|gateway| lock(gateway).log()));
    for log in logs {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        event!("log_read", log = name, lines = text.lines().count());
        for line in text.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at")).take(20) {
            event!("error_line", log = name, line = line);
        }
    }
}
