//! Why is this environment not empty yet? One line a session, and the reasons that are not sessions.

use std::time::Duration;

use tidegate_types::{EnvironmentId, PlayerId, ServerId, SessionId, Timestamp, ZoneId};

use crate::drain::gate::Occupancy;
use crate::drain::run::human;
use crate::drain::{AtDeadline, Drain};
use crate::observe::SessionObservation;
use crate::realm::Realm;

/// Why an environment is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The sessions that keep it occupied.
    pub holders: Vec<Holder>,
    /// Reasons that are not sessions.
    pub waiting_for: Vec<String>,
}

/// One session that keeps an environment occupied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub session: SessionId,
    /// Who plays.
    pub player: PlayerId,
    /// Its home.
    pub server: ServerId,
    /// Where it is.
    pub zone: ZoneId,
    /// "shared", or the instance's kind.
    pub zone_kind: String,
    /// In something that should not be interrupted.
    pub busy: bool,
    /// How long the player has done nothing.
    pub idle: Duration,
    /// How it will leave.
    pub will_leave: String,
}

impl Realm {
    /// Why `id` is not empty; `None`: it never drained.
    #[must_use]
    pub fn explain_drain(&self, id: &EnvironmentId, now: Timestamp) -> Option<Explanation> {
        let drain = self.rows.drains.get(id)?;
        if !drain.state.is_live() {
            return Some(Explanation { holders: Vec::new(), waiting_for: Vec::new() });
        }
        let waiting_for = match self.occupancy_of(id) {
            Occupancy::Empty(_) => Vec::new(),
            Occupancy::Occupied { waiting_for, .. } => waiting_for,
        };
        let holders = self.observed.sessions(id).iter().map(|s| Holder {
            session: s.session,
            player: s.player.clone(),
            server: s.server.clone(),
            zone: s.zone.clone(),
            zone_kind: s.zone_kind.clone(),
            busy: s.busy,
            idle: now.since(s.active),
            will_leave: self.will_leave(drain, s, now),
        });
        Some(Explanation { holders: holders.collect(), waiting_for })
    }

    fn will_leave(&self, drain: &Drain, session: &SessionObservation, now: Timestamp) -> String {
        if session.moving {
            return "is being handed over now".to_owned();
        }
        let boundaries = self.rows.spec.boundaries;
        let by_itself =
            if self.rows.routing.hold_pins || !(boundaries.zone || boundaries.instance || boundaries.respawn) {
                "when the player logs out"
            } else {
                "at its next boundary"
            };
        let verb = match drain.policy.at_deadline {
            AtDeadline::Stay => return format!("{by_itself}; stays as long as it likes"),
            AtDeadline::Move => "moved",
            AtDeadline::Kick => "ended",
        };
        match drain.leaves_at(session) {
            None => by_itself.to_owned(),
            Some(at) if at <= now => format!("is being {verb} now"),
            Some(at) => {
                let extended =
                    if drain.deadline.is_some_and(|d| d < at) { " (it is busy, so it has longer)" } else { "" };
                format!("{by_itself}, or {verb} in {}{extended}", human(at.since(now)))
            }
        }
    }
}
