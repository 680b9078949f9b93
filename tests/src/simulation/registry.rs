//! What the manager knows of the gateway and its sessions, by the gateway's word: rows that change, a full list after every
//! reconnect, and who left which environment how.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::Realm;
use fleet_core::drain::Departure;
use fleet_core::environment::PhaseKind;
use fleet_core::observe::{Departed, GatewayObservation, OccupancyReport, SessionObservation};
use gateway_core::{RowState, SessionReport, SessionRow};
use tidegate_types::{EnvironmentId, GatewayId, Generation, ServerId, SessionId, Timestamp, ZoneId};

use super::stream::Report;

/// The manager's registry of one gateway.
#[derive(Debug)]
pub(super) struct Registry {
    gateway: GatewayId,
    connected: bool,
    complete: bool,
    acknowledged: Generation,
    rows: BTreeMap<SessionId, SessionRow>,
    /// Named in the full list that is coming in.
    listed: BTreeSet<SessionId>,
    departures: Vec<Departed>,
}

impl Registry {
    /// After a (re)start of the manager: the gateway is remembered, and nothing is known of it.
    pub(super) fn new() -> Self {
        Self {
            gateway: GatewayId::new("gw-1").expect("an id"),
            connected: false,
            complete: false,
            acknowledged: Generation(0),
            rows: BTreeMap::new(),
            listed: BTreeSet::new(),
            departures: Vec::new(),
        }
    }

    /// The stream is cut: the sessions are unknown.
    pub(super) const fn disconnected(&mut self) {
        self.connected = false;
        self.complete = false;
    }

    /// The generations up to this one are acknowledged by every gateway that counts as live: the one that there is.
    pub(super) const fn acknowledged(&self) -> Generation {
        self.acknowledged
    }

    pub(super) fn gateway(&self) -> GatewayId {
        self.gateway.clone()
    }

    pub(super) fn sessions(&self) -> BTreeSet<SessionId> {
        self.rows.keys().copied().collect()
    }

    /// Takes a report.
    pub(super) fn hear(&mut self, now: Timestamp, report: Report) {
        match report {
            Report::Hello(acknowledged) => {
                self.connected = true;
                self.complete = false;
                self.acknowledged = acknowledged;
                self.listed.clear();
            }
            Report::Row(row) => {
                self.listed.insert(row.session);
                self.row(now, *row);
            }
            Report::RowsEnd => {
                self.complete = true;
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<SessionId> = self.rows.keys().filter(|id| !listed.contains(id)).copied().collect();
                for session in gone {
                    self.gone(now, session, Departure::Other);
                }
            }
            Report::Changed(SessionReport::Row(row)) => {
                self.listed.insert(row.session);
                self.row(now, *row);
            }
            Report::Changed(SessionReport::Gone { session, reason, .. }) => {
                let how = match reason {
                    "logout" => Departure::Logout,
                    "grace_over" => Departure::GraceOver,
                    "kicked" => Departure::Kicked,
                    _ => Departure::Other,
                };
                self.gone(now, session, how);
            }
            Report::Acked(generation) => self.acknowledged = self.acknowledged.max(generation),
        }
    }

    fn row(&mut self, now: Timestamp, row: SessionRow) {
        let there = row.pin.as_ref().map(|pin| (pin.environment.clone(), pin.cause));
        let before = self.rows.insert(row.session, row);
        let before = before.and_then(|row| row.pin).map(|pin| pin.environment);
        if let (Some(before), Some((environment, cause))) = (before, there)
            && before != environment
        {
            self.departures.push(Departed { environment: before, at: now, how: Departure::Moved(cause) });
        }
    }

    fn gone(&mut self, now: Timestamp, session: SessionId, how: Departure) {
        if let Some(pin) = self.rows.remove(&session).and_then(|row| row.pin) {
            self.departures.push(Departed { environment: pin.environment, at: now, how });
        }
    }

    /// Who is where. Takes the departures.
    pub(super) fn occupancy(&mut self, realm: &Realm) -> OccupancyReport {
        let mut report = OccupancyReport {
            gateways: vec![GatewayObservation {
                id: self.gateway.clone(),
                connected: self.connected,
                complete: self.complete,
                generation: self.acknowledged,
            }],
            departures: std::mem::take(&mut self.departures),
            ..OccupancyReport::default()
        };
        for row in self.rows.values() {
            let Some(pin) = &row.pin else { continue };
            *report.counts.entry(pin.environment.clone()).or_default() += 1;
            if drains(realm, &pin.environment) {
                report.sessions.entry(pin.environment.clone()).or_default().push(observation(row));
            }
        }
        report
    }
}

fn drains(realm: &Realm, environment: &EnvironmentId) -> bool {
    let phase = realm.rows.environments.get(environment).map(|e| e.phase.kind());
    matches!(phase, Some(PhaseKind::Draining | PhaseKind::Drained))
}

/// A session that has no server or zone yet is still counted.
fn observation(row: &SessionRow) -> SessionObservation {
    SessionObservation {
        session: row.session,
        player: row.who.player.clone(),
        party: row.party.clone(),
        server: row.server.clone().unwrap_or_else(|| ServerId::new("-").expect("an id")),
        zone: ZoneId::new(if row.zone.is_empty() { "-" } else { &row.zone }).expect("an id"),
        zone_kind: row.zone_kind.clone(),
        busy: row.busy,
        active: row.active,
        moving: row.state == RowState::Moving,
    }
}
