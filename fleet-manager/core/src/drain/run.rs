//! How a drain goes on: its policy, its notices, its deadline, the last ones, its end.

use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, RolloutId, SessionId, Timestamp};

use crate::drain::gate::{Empty, Occupancy};
use crate::drain::{AtDeadline, DEFAULT_NOTICE, Departure, Drain, DrainState, Policy};
use crate::effect::{Effect, SESSIONS_PER_COMMAND};
use crate::environment::Phase;
use crate::observe::{Departed, SessionObservation};
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};

/// Batches of moves go out this far apart; each holds as many sessions as the pace allows in that time.
const BATCH: Duration = Duration::from_secs(1);

/// Most notices, and most extensions, of a policy: more than anyone reads or has kinds of zones.
const MOST_OF_EACH: usize = 64;

impl Realm {
    pub(crate) fn start_drain(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        policy: Policy,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let drain = self.live_drain(id)?;
        policy.check()?;
        if drain.policy_given && drain.policy != policy {
            return Err(Refused::new(
                Reason::DrainRunning,
                format!("environment {id} drains by another policy"),
                "force that drain if it shall end sooner",
            ));
        }
        if !drain.policy_given {
            self.give_policy(now, id, policy, Cause::Drain, None, out);
        }
        out.reply = Reply::Drain(id.clone());
        Ok(())
    }

    pub(crate) fn force_drain(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        deadline: Duration,
        ignore_extensions: bool,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let before = self.live_drain(id)?.deadline;
        let forced = now + deadline;
        if let Some(drain) = self.rows.drains.get_mut(id) {
            drain.deadline = Some(drain.deadline.map_or(forced, |d| d.min(forced)));
            drain.ignore_extensions |= ignore_extensions;
            drain.policy_given = true;
            drain.cause = Cause::Operator;
            if drain.policy.at_deadline == AtDeadline::Stay {
                drain.policy.at_deadline = AtDeadline::Move;
            }
        }
        out.changes.insert(Change::Drain(id.clone()));
        let before = before.map_or_else(|| "no deadline".to_owned(), |d| d.to_string());
        out.audit(None, "drain.force", id, "", before, forced.to_string());
        out.reply = Reply::Drain(id.clone());
        Ok(())
    }

    fn live_drain(&self, id: &EnvironmentId) -> Result<&Drain, Refused> {
        let environment = self.environment(id)?;
        if self.is_accepting(id) {
            return Err(Refused::new(
                Reason::AlreadyAccepting,
                format!("environment {id} takes the new sessions: it would never be empty"),
                "flip to another environment first",
            ));
        }
        self.rows.drains.get(id).filter(|d| d.state.is_live()).ok_or_else(|| {
            Refused::new(
                Reason::NotDraining,
                format!("environment {id} is {}", environment.phase.kind()),
                "only an environment that was flipped away from drains",
            )
        })
    }

    pub(crate) fn give_policy(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        policy: Policy,
        cause: Cause,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) {
        let Some(drain) = self.rows.drains.get_mut(id) else { return };
        drain.deadline = policy.deadline.map(|d| now + d);
        drain.policy = policy;
        drain.policy_given = true;
        drain.cause = cause;
        drain.started = now;
        let deadline = drain.deadline.map_or_else(|| "no deadline".to_owned(), |d| d.to_string());
        out.changes.insert(Change::Drain(id.clone()));
        out.audit(who, "drain.start", id, "", "", deadline);
    }

    pub(crate) fn count_departures(&mut self, now: Timestamp, departures: &[Departed], out: &mut Outcome) {
        for departed in departures {
            let Some(drain) = self.rows.drains.get_mut(&departed.environment).filter(|d| d.state.is_live()) else {
                continue;
            };
            *drain.departed.entry(departed.how).or_default() += 1;
            out.changes.insert(Change::Drain(departed.environment.clone()));
            self.observed.note_departure(&departed.environment, departed.at.min(now));
        }
    }

    pub(crate) fn advance_drains(&mut self, now: Timestamp, out: &mut Outcome) {
        let live: Vec<EnvironmentId> =
            self.rows.drains.values().filter(|d| d.state.is_live()).map(|d| d.environment.clone()).collect();
        for id in live {
            if let Occupancy::Empty(empty) = self.occupancy_of(&id) {
                self.complete_drain(now, &empty, out);
                continue;
            }
            self.send_notices(now, &id, out);
            self.pass_deadline(now, &id, out);
        }
    }

    /// Tells those to leave whose time is over. After everything that may flip: nobody is sent to where nobody may come.
    pub(crate) fn send_all_away(&mut self, now: Timestamp, out: &mut Outcome) {
        let forcing = self.rows.drains.values().filter(|d| d.state == DrainState::Forcing);
        let forcing: Vec<EnvironmentId> = forcing.map(|d| d.environment.clone()).collect();
        for id in forcing {
            self.send_away(now, &id, out);
        }
    }

    fn complete_drain(&mut self, now: Timestamp, empty: &Empty, out: &mut Outcome) {
        let id = empty.environment();
        if let Some(drain) = self.rows.drains.get_mut(id) {
            drain.state = DrainState::Completed;
            drain.ended = Some(now);
        }
        out.changes.insert(Change::Drain(id.clone()));
        self.set_phase(now, id, Phase::Drained, "empty", None, out);
        self.observed.told.remove(id);
        self.observed.departures.remove(id);
        let routing = &mut self.rows.routing;
        routing.leave_at_boundary.remove(id);
        // The pins were held for those who might finish here, and they are gone.
        let others = self.rows.environments.values().any(|e| e.phase == Phase::Draining);
        if routing.hold_pins && routing.frozen.is_none() && !others {
            routing.hold_pins = false;
        }
        out.changes.insert(Change::Routing);
    }

    /// One notice at a time: of several that are due (after a pause of the manager), only the most urgent is sent.
    fn send_notices(&mut self, now: Timestamp, id: &EnvironmentId, out: &mut Outcome) {
        let sessions: Vec<SessionId> = self.observed.sessions(id).iter().map(|s| s.session).collect();
        let told = &mut self.observed.told.entry(id.clone()).or_default().notices;
        let Some(drain) = self.rows.drains.get_mut(id) else { return };
        let Some(deadline) = drain.deadline.filter(|d| now < *d && drain.policy.at_deadline != AtDeadline::Stay) else {
            return;
        };
        let remaining = deadline.since(now);
        let due: Vec<u64> = drain
            .policy
            .notices
            .iter()
            .filter(|n| remaining <= **n)
            .map(|n| millis(*n))
            .filter(|n| !told.contains(n))
            .collect();
        let Some(most_urgent) = due.iter().min().copied() else { return };
        // Without a list of sessions yet there is nobody to tell.
        if sessions.is_empty() {
            return;
        }
        told.extend(&due);
        drain.notices_sent.extend(due);
        let text = if drain.policy.notice_text.is_empty() { DEFAULT_NOTICE } else { &drain.policy.notice_text };
        let text = text.replace("{remaining}", &human(remaining));
        for (part, sessions) in sessions.chunks(SESSIONS_PER_COMMAND).enumerate() {
            out.effects.push(Effect::Notify {
                command: format!("{id}/{}/notice/{most_urgent}/{part}", drain.generation),
                environment: id.clone(),
                sessions: sessions.to_vec(),
                text: text.clone(),
                remaining,
            });
        }
        out.changes.insert(Change::Drain(id.clone()));
    }

    fn pass_deadline(&mut self, now: Timestamp, id: &EnvironmentId, out: &mut Outcome) {
        let Some(drain) = self.rows.drains.get_mut(id) else { return };
        let passed = drain.deadline.is_some_and(|d| d <= now);
        if passed && drain.state == DrainState::Running && drain.policy.at_deadline != AtDeadline::Stay {
            drain.state = DrainState::Forcing;
            out.changes.insert(Change::Drain(id.clone()));
            out.audit(None, "drain.deadline", id, "the deadline passed", "running", "forcing");
        }
    }

    /// Past the deadline: tells as many as the pace allows to leave, those of a party together.
    fn send_away(&mut self, now: Timestamp, id: &EnvironmentId, out: &mut Outcome) {
        let Some(drain) = self.rows.drains.get(id).filter(|d| d.state == DrainState::Forcing) else { return };
        let Some(destination) = self.destination(drain) else { return };
        let told = self.observed.told.entry(id.clone()).or_default();
        if told.last.is_some_and(|last| now < last + BATCH) {
            return;
        }
        let sessions = self.observed.occupancy.as_ref().and_then(|o| o.sessions.get(id)).map_or(&[][..], Vec::as_slice);
        told.sessions.retain(|session, _| sessions.iter().any(|s| s.session == *session));
        let retry = self.rows.spec.limits.move_retry;
        let mut leaving: Vec<&SessionObservation> = sessions
            .iter()
            .filter(|s| !s.moving)
            .filter(|s| drain.leaves_at(s).is_some_and(|at| at <= now))
            .filter(|s| told.sessions.get(&s.session).is_none_or(|at| *at + retry <= now))
            .collect();
        leaving.sort_by(|a, b| a.party.cmp(&b.party).then(a.session.cmp(&b.session)));
        let leaving: Vec<SessionId> = leaving.iter().take(drain.policy.pace() as usize).map(|s| s.session).collect();
        if leaving.is_empty() {
            return;
        }
        told.last = Some(now);
        told.sessions.extend(leaving.iter().map(|s| (*s, now)));
        let Some(drain) = self.rows.drains.get_mut(id) else { return };
        for sessions in leaving.chunks(SESSIONS_PER_COMMAND) {
            drain.commands += 1;
            out.effects.push(away(drain, &destination, sessions.to_vec()));
        }
        out.changes.insert(Change::Drain(id.clone()));
    }

    /// `None`: they stay, or there is nowhere to go while the realm is frozen (they are tried again later).
    fn destination(&self, drain: &Drain) -> Option<Destination> {
        match drain.policy.at_deadline {
            AtDeadline::Stay => None,
            AtDeadline::Kick => Some(Destination::Nowhere),
            AtDeadline::Move => {
                let routing = &self.rows.routing;
                let open = routing.frozen.is_none();
                let to = routing.accepting.as_ref().filter(|to| open && **to != drain.environment)?;
                Some(Destination::Environment(to.clone()))
            }
        }
    }

    pub(crate) fn drain_timeout(&self, drain: &Drain) -> Option<Timestamp> {
        match drain.state {
            DrainState::Completed | DrainState::Cancelled => None,
            DrainState::Running => {
                let deadline = drain.deadline.filter(|_| drain.policy.at_deadline != AtDeadline::Stay)?;
                let somebody = !self.observed.sessions(&drain.environment).is_empty();
                let notices = drain.policy.notices.iter().filter(|_| somebody);
                let told = self.observed.told.get(&drain.environment).map(|t| &t.notices);
                let next = notices.filter(|n| told.is_none_or(|told| !told.contains(&millis(**n)))).max();
                Some(next.map_or(deadline, |n| deadline - *n))
            }
            DrainState::Forcing => {
                self.destination(drain)?;
                let told = self.observed.told.get(&drain.environment);
                let retry = self.rows.spec.limits.move_retry;
                let sessions = self.observed.sessions(&drain.environment).iter().filter(|s| !s.moving);
                let next = sessions.filter_map(|s| {
                    let again = told.and_then(|t| t.sessions.get(&s.session)).map(|at| *at + retry);
                    drain.leaves_at(s).map(|at| again.map_or(at, |again| at.max(again)))
                });
                let pause = told.and_then(|t| t.last).map(|last| last + BATCH);
                next.min().map(|next| pause.map_or(next, |pause| next.max(pause)))
            }
        }
    }
}

/// Where the last ones go.
enum Destination {
    Environment(EnvironmentId),
    Nowhere,
}

fn away(drain: &Drain, to: &Destination, sessions: Vec<SessionId>) -> Effect {
    let environment = drain.environment.clone();
    let command = format!("{environment}/{}/away/{}", drain.generation, drain.commands);
    match to {
        Destination::Environment(to) => {
            Effect::MoveSessions { command, environment, to: to.clone(), sessions, cause: drain.cause }
        }
        Destination::Nowhere => Effect::KickSessions {
            command,
            environment,
            sessions,
            message: "This part of the world closes for an update. Please log in again.".to_owned(),
        },
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration as people say it, to the second.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s} s"),
        (m, 0) => format!("{m} min"),
        (m, s) => format!("{m} min {s} s"),
    }
}

impl Policy {
    /// Refuses what nobody can mean.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let most = self.notices.len().max(self.extensions.len());
        if most <= MOST_OF_EACH {
            return Ok(());
        }
        Err(Refused::new(
            Reason::Invalid,
            format!("{most} notices or extensions are too many"),
            format!("choose at most {MOST_OF_EACH} of each"),
        ))
    }
}

impl Departure {
    /// Every departure, for rows.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Cause::ALL
            .into_iter()
            .map(Self::Moved)
            .chain([Self::Logout, Self::GraceOver, Self::Kicked, Self::Other])
            .collect()
    }
}
