//! The players: they come in by their gateway's table, walk about, leave, and are moved.

use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, SessionId, Timestamp};

use crate::drain::Departure;
use crate::environment::PhaseKind;
use crate::model::world::{Session, World, zone};
use crate::observe::{Departed, SessionObservation};
use crate::routing::RouteTable;

impl World {
    /// Puts this many players into the world at once, as if they had come in by the first gateway.
    pub fn fill(&mut self, now: Timestamp, players: u32) {
        for _ in 0..players {
            self.arrive(now);
        }
    }

    /// Everybody goes home at once.
    pub fn empty(&mut self) {
        self.sessions.clear();
    }

    pub(super) fn run_players(&mut self, now: Timestamp) {
        for _ in 0..self.arrivals {
            if self.dice.per_mille(300) {
                self.arrive(now);
            }
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.finish_handover(now, id);
            match self.dice.below(100) {
                0 => self.log_out(now, id),
                1..4 => self.cross_boundary(now, id),
                4 => {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.row.busy = !session.row.busy && session.row.zone_kind == "dungeon";
                        session.row.active = now;
                    }
                }
                _ => {}
            }
        }
    }

    fn arrive(&mut self, now: Timestamp) {
        let gateway = usize::try_from(self.dice.below(self.gateways.len() as u64)).unwrap_or(0);
        let Some(table) = &self.gateways[gateway].table else { return };
        let Some(environment) = table.accepting.clone() else { return };
        let Some(server) = room(table, &environment) else { return };
        self.count += 1;
        let session = SessionId::from_slice(&self.count.to_be_bytes()).expect("16 bytes");
        let row = SessionObservation {
            session,
            player: format!("p{}", self.count).parse().expect("a player's id"),
            party: None,
            server,
            zone: zone("town"),
            zone_kind: "shared".to_owned(),
            busy: false,
            active: now,
            moving: false,
        };
        self.sessions.insert(session, Session { environment, gateway, row, leaving: None });
    }

    fn log_out(&mut self, now: Timestamp, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|s| s.leaving.is_none())
            && let Some(session) = self.sessions.remove(&id)
        {
            self.departures.push(Departed { environment: session.environment, at: now, how: Departure::Logout });
        }
    }

    /// What gateway-core's `decide_boundary` does, in three lines.
    fn cross_boundary(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.leaving.is_none()) else { return };
        session.row.active = now;
        (session.row.zone, session.row.zone_kind) = if session.row.zone_kind == "shared" {
            (zone("dungeon"), "dungeon".to_owned())
        } else {
            (zone("field"), "shared".to_owned())
        };
        session.row.busy = false;
        let Some(table) = &self.gateways[session.gateway].table else { return };
        let pinned = table.environments.iter().find(|e| e.id == session.environment);
        let leaves = pinned.is_some_and(|e| e.phase == PhaseKind::Draining || e.leave_at_boundary);
        if let Some(to) = table.accepting.clone().filter(|to| leaves && !table.hold_pins && *to != session.environment)
        {
            session.row.moving = true;
            session.leaving = Some((now, to, Cause::Zone));
        }
    }

    pub(super) fn send_away(
        &mut self,
        now: Timestamp,
        from: &EnvironmentId,
        to: &EnvironmentId,
        sessions: &[SessionId],
        cause: Cause,
    ) {
        for id in sessions {
            let fails = self.dice.per_mille(self.faults.moves_fail);
            let later = now + Duration::from_millis(self.dice.below(1000));
            let Some(session) = self.sessions.get_mut(id).filter(|s| s.environment == *from && s.leaving.is_none())
            else {
                continue;
            };
            if !fails && self.gateways[session.gateway].connected {
                session.row.moving = true;
                session.leaving = Some((later, to.clone(), cause));
            }
        }
    }

    fn finish_handover(&mut self, now: Timestamp, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((_, to, cause)) = session.leaving.take_if(|(at, _, _)| *at <= now) else { return };
        session.row.moving = false;
        let Some(table) = &self.gateways[session.gateway].table else { return };
        // The target cannot serve: it stays where it was.
        let Some(server) = room(table, &to) else { return };
        let from = std::mem::replace(&mut session.environment, to);
        session.row.server = server;
        self.departures.push(Departed { environment: from, at: now, how: Departure::Moved(cause) });
    }

    pub(super) fn kick(&mut self, now: Timestamp, from: &EnvironmentId, sessions: &[SessionId]) {
        for id in sessions {
            if self.sessions.get(id).is_some_and(|s| s.environment == *from && self.gateways[s.gateway].connected) {
                self.sessions.remove(id);
                self.kicked += 1;
                self.departures.push(Departed { environment: from.clone(), at: now, how: Departure::Kicked });
            }
        }
    }
}

fn room(table: &RouteTable, environment: &EnvironmentId) -> Option<tidegate_types::ServerId> {
    let target = table.environments.iter().find(|e| e.id == *environment)?;
    target.servers.iter().find(|s| s.ready).map(|s| s.id.clone())
}
