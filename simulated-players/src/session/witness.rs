//! What players write into the event log, for whoever judges a run afterwards: one function for each kind of line.

use std::net::SocketAddr;

use tidegate_events::event;
use tidegate_player::{Closed, ConnectError, Moved, Welcome};
use tidegate_types::SessionId;

use crate::ledger::Findings;
use crate::roster::Person;

/// Where a session is: what nearly every line says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    session: SessionId,
    pub(super) gateway: SocketAddr,
}

impl Place {
    pub(super) const fn of(welcome: &Welcome) -> Self {
        Self { session: welcome.session, gateway: welcome.gateway }
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A login is about to be sent.
pub(super) fn asks(who: &Person, gateway: SocketAddr) {
    event!("player_asks", player = %who.player, character = %who.character, gateway = %gateway);
}

/// The login failed; hands the reason on.
pub(super) fn not_admitted<'e>(who: &Person, gateway: SocketAddr, error: &'e ConnectError) -> &'e ConnectError {
    match error {
        ConnectError::Refused(refusal) => {
            event!("player_refused", player = %who.player, code = refusal.reason, gateway = %gateway);
        }
        other => event!("player_refused", player = %who.player, code = "", why = %other, gateway = %gateway),
    }
    error
}

pub(super) fn hold(who: &Person, reason: &str, gateway: SocketAddr) {
    event!("player_hold", player = %who.player, reason = reason, gateway = %gateway);
}

pub(super) fn welcome(who: &Person, welcome: &Welcome) {
    event!(
        "player_welcome", player = %who.player, character = %who.character, session = %welcome.session,
        environment = %welcome.home.environment, server = %welcome.home.server, epoch = welcome.home.epoch.0,
        gateway = %welcome.gateway, resumed = false, took_us = micros(welcome.took)
    );
}

pub(super) fn lost(who: &Person, place: &Place, why: &str) {
    event!(
        "player_lost", player = %who.player, session = %place.session, gateway = %place.gateway, why = why
    );
}

pub(super) fn resumed(who: &Person, welcome: &Welcome, same_home: bool) {
    event!(
        "player_resumed", player = %who.player, session = %welcome.session, environment = %welcome.home.environment,
        server = %welcome.home.server, epoch = welcome.home.epoch.0, gateway = %welcome.gateway, same_home = same_home,
        took_us = micros(welcome.took)
    );
}

pub(super) fn relocate(who: &Person, place: &Place) {
    event!("player_relocate", player = %who.player, session = %place.session, gateway = %place.gateway);
}

pub(super) fn relocated(who: &Person, welcome: &Welcome) {
    event!(
        "player_relocated", player = %who.player, session = %welcome.session, server = %welcome.home.server,
        epoch = welcome.home.epoch.0, gateway = %welcome.gateway, took_us = micros(welcome.took)
    );
}

pub(super) fn moved(who: &Person, place: &Place, moved: &Moved) {
    event!(
        "player_moved", player = %who.player, session = %place.session, environment = %moved.home.environment,
        server = %moved.home.server, epoch = moved.home.epoch.0, cause = %moved.cause, took_us = micros(moved.between)
    );
}

pub(super) fn gap(who: &Person, place: &Place) {
    event!("player_gap", player = %who.player, session = %place.session, gateway = %place.gateway);
}

/// Says what is broken in this session up to now, a line for each kind.
pub(super) fn broken(who: &Person, place: &Place, findings: &Findings) {
    for (what, count) in findings.promises() {
        if count > 0 {
            event!(
                "player_broken", player = %who.player, session = %place.session, what = what, count = count,
                gateway = %place.gateway
            );
        }
    }
}

pub(super) fn closed(who: &Person, place: &Place, why: &str, closed: Option<&Closed>) {
    let reason = closed.map(|closed| closed.reason.to_string()).unwrap_or_default();
    event!(
        "player_closed", player = %who.player, session = %place.session, why = why, reason = reason,
        by_own_wish = (why == "logout")
    );
}
