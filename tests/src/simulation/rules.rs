//! The rules of the design, stated by someone who knows only what the operator said, what was published, and what players
//! and processes saw: never what a core thinks of itself.
//!
//! One home at every instant and frames once and in order are stated where players and processes are, in the gateway core's
//! model; that nobody is where the manager counts nobody, in the manager core's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_core::drain::AtDeadline;
use fleet_core::rollback::Choice;
use fleet_core::{Command, RouteTable};
use tidegate_types::{Cause, EnvironmentId, Generation, SessionId, Timestamp};

/// The rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    broken: Option<String>,
    tables: BTreeMap<Generation, RouteTable>,
    accepting: Option<EnvironmentId>,
    /// Where new sessions may come: what accepts, and what accepted before until its flip is confirmed.
    open: BTreeSet<EnvironmentId>,
    confirmed: Option<Generation>,
    /// When each environment was flipped away from, last.
    left: BTreeMap<EnvironmentId, Timestamp>,
    /// The shortest deadline that any rollout was given.
    shortest: Option<Duration>,
    /// Deadlines that were given to one environment.
    deadlines: BTreeMap<EnvironmentId, Timestamp>,
    /// Environments whose last players the operator has had put out.
    kicking: BTreeSet<EnvironmentId>,
    kicked: BTreeSet<SessionId>,
    ended: BTreeSet<SessionId>,
    /// A gateway died: what only it knew is gone.
    forgotten: bool,
}

impl Rules {
    /// The first rule that was broken.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(super) fn break_rule(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Rule 4: one table a generation, and one environment that accepts in it. A later one is really later.
    pub(super) fn published(&mut self, now: Timestamp, table: &RouteTable) {
        let newest = self.tables.last_key_value().map(|(generation, _)| *generation);
        match self.tables.get(&table.generation) {
            Some(known) if known != table => self.break_rule(format!("two tables of generation {}", table.generation)),
            Some(_) => return,
            None if newest > Some(table.generation) => {
                self.break_rule(format!("generation {} after {newest:?}", table.generation));
            }
            None => {}
        }
        self.tables.insert(table.generation, table.clone());
        // No environment accepts: the realm is frozen, and what accepted will again.
        let Some(accepting) = &table.accepting else { return };
        self.open.insert(accepting.clone());
        if let Some(before) = self.accepting.replace(accepting.clone())
            && before != *accepting
        {
            self.left.insert(before, now);
        }
    }

    /// A flip is confirmed. True: that is news.
    pub(super) fn confirmed(&mut self, generation: Generation, to: &EnvironmentId) -> bool {
        if self.confirmed >= Some(generation) {
            return false;
        }
        self.confirmed = Some(generation);
        self.open = BTreeSet::from([to.clone()]);
        true
    }

    /// Rule 3: after a confirmed flip no new session lands on the old environment.
    pub(super) fn landed(&mut self, environment: &EnvironmentId, who: &str) {
        if !self.open.contains(environment) {
            self.break_rule(format!("{who} lands on {environment} after the flip to {:?} was confirmed", self.open));
        }
    }

    /// The operator said something that was not refused.
    pub(super) fn said(&mut self, now: Timestamp, command: &Command) {
        match command {
            Command::StartRollout(start) => {
                self.shortest = self.shortest.into_iter().chain(start.spec.drain.deadline).min();
            }
            Command::StartDrain { environment, policy } => {
                if let Some(deadline) = policy.deadline {
                    self.deadline(environment.clone(), now + deadline);
                }
                if policy.at_deadline == AtDeadline::Kick {
                    self.kicking.insert(environment.clone());
                }
            }
            Command::ForceDrain { environment, deadline, .. } => self.deadline(environment.clone(), now + *deadline),
            Command::Rollback { choice: Choice::Force { deadline }, .. }
            | Command::AbortRollout { choice: Choice::Force { deadline }, .. } => {
                if let Some(environment) = self.accepting.clone() {
                    self.deadline(environment, now + *deadline);
                }
            }
            _ => {}
        }
    }

    fn deadline(&mut self, environment: EnvironmentId, at: Timestamp) {
        let known = self.deadlines.entry(environment).or_insert(at);
        *known = at.min(*known);
    }

    /// Whether the deadline of a drain that was ordered may have passed.
    fn due(&self, now: Timestamp, environment: &EnvironmentId) -> bool {
        let ordered = self.deadlines.get(environment).copied();
        let rollout = self.left.get(environment).zip(self.shortest).map(|(left, deadline)| *left + deadline);
        ordered.into_iter().chain(rollout).any(|at| at <= now)
    }

    /// Rule 2: nobody is told to move before a deadline that somebody set, nor to anywhere but what accepts.
    pub(super) fn moves(&mut self, now: Timestamp, from: &EnvironmentId, to: &EnvironmentId, cause: Cause) {
        if !self.due(now, from) {
            self.break_rule(format!("players are moved out of {from} by {cause} before any deadline"));
        }
        if self.accepting.as_ref() != Some(to) {
            self.break_rule(format!("players are moved from {from} to {to}, which does not accept"));
        }
    }

    /// Rule 5: drain ends no session unless it was told to, and never before its deadline.
    pub(super) fn kicks(&mut self, now: Timestamp, from: &EnvironmentId, sessions: &[SessionId]) {
        if !self.kicking.contains(from) || !self.due(now, from) {
            self.break_rule(format!("players are put out of {from} without an order, or before its deadline"));
        }
        self.kicked.extend(sessions);
    }

    /// Rule 5: a live session ends by logout, kick, or grace.
    pub(super) fn ended(&mut self, session: SessionId, reason: &str) {
        self.ended.insert(session);
        let fair = match reason {
            "logout" | "grace_over" => true,
            "kicked" => self.kicked.contains(&session),
            // It was never in play: its player went away while waiting.
            "lost" | "refused" => true,
            _ => false,
        };
        if !fair {
            self.break_rule(format!("session {session} is ended: {reason}"));
        }
    }

    pub(super) const fn gateway_died(&mut self) {
        self.forgotten = true;
    }

    /// Rule 5: who believes to be in a session is refused only when it has ended.
    pub(super) fn refused(&mut self, session: SessionId) {
        if !self.forgotten && !self.ended.contains(&session) {
            self.break_rule(format!("session {session} is refused and was not over"));
        }
    }
}
