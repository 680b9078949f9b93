//! The way into a world server: claim the home in the directory, attach, try again elsewhere if refused.

use tidegate_types::{Cause, Epoch};

use super::servers::Role;
use super::{Core, Cx};
use crate::decide::{RoutePermit, still_good};
use crate::directory::{DirectoryOp, DirectoryOutcome, Home};
use crate::handover::{Event, Seat};
use crate::key::SessionKey;
use crate::message::{Place, Refusal, RefusedReason, ToWorld};
use crate::session::{Search, State, Then};

impl Core {
    /// Asks the directory for a home by this permit.
    pub(super) fn claim(&mut self, key: SessionKey, permit: RoutePermit, search: Search, cx: &mut Cx<'_>) {
        let Some(instance) = self.servers.ready_instance(permit.server()) else {
            // Permits are given for servers whose link is up; a permit outlives none.
            self.counters.strays += 1;
            return;
        };
        let session = &self.sessions[key.index()];
        let to = session.epoch.max(session.claimed).next();
        let home = Home { session: session.id, server: permit.server_id().clone(), instance };
        let request = self.ask(key, DirectoryOp::CompareAndSet { expected: session.claimed, to, home }, cx);
        // Room that was found must still be there when the directory answers.
        let seat = self.servers.seat(permit.server(), key, Role::Home);
        self.sessions[key.index()].state = State::Claiming { request, seat, to, permit, instance, search };
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_claim_answer(&mut self, key: SessionKey, outcome: DirectoryOutcome, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Claiming { seat, to, permit, instance, search, .. } = &session.state else { return };
        let (seat, to, permit, instance, mut search) = (*seat, *to, permit.clone(), *instance, search.clone());
        match outcome {
            DirectoryOutcome::Done(_) => {
                session.claimed = to;
                session.epoch = to;
                let reachable = self.servers.ready_instance(permit.server()) == Some(instance);
                let good = self.table.as_ref().is_some_and(|table| still_good(table, &permit));
                if reachable
                    && good
                    && self.servers.usage(seat.server, seat.handle).is_some_and(|u| u.session == Some(key))
                {
                    self.attach(key, seat, permit, search, cx);
                } else {
                    self.servers.give_back(seat, key);
                    self.seek(key, search, None, cx);
                }
            }
            DirectoryOutcome::Conflict(entry) => {
                session.claimed = entry.epoch;
                session.epoch = session.epoch.max(entry.epoch);
                search.tries += 1;
                self.servers.give_back(seat, key);
                self.seek(key, search, None, cx);
            }
        }
    }

    fn attach(&mut self, key: SessionKey, seat: Seat, permit: RoutePermit, search: Search, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let pin = session.pin_by(&permit, cx.now.wall);
        let attach = ToWorld::Attach {
            identity: session.identity(pin),
            epoch: session.epoch,
            place: permit.place().cloned(),
            cause: permit.cause(),
        };
        session.state = State::Attaching { seat, permit: Some(permit), search };
        cx.tell_world(seat, attach);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_attached(&mut self, seat: Seat, epoch: Epoch, place: Place, cx: &mut Cx<'_>) {
        let Some(key) = self.session_at(seat) else { return };
        let session = &mut self.sessions[key.index()];
        let State::Attaching { seat: here, permit, .. } = &session.state else {
            self.counters.strays += 1;
            return;
        };
        if *here != seat || epoch != session.epoch {
            self.counters.strays += 1;
            return;
        }
        let was_in_play = session.in_play;
        let mut cause = Cause::Resume;
        if let Some(permit) = permit.clone() {
            cause = permit.cause();
            let pin = session.pin_by(&permit, cx.now.wall);
            session.generation = permit.generation();
            if session.in_play {
                self.counters.homes_replaced += 1;
                let changed = session.pin.as_ref().is_some_and(|old| old.environment != pin.environment);
                if changed && permit.cause() != Cause::Crash {
                    self.counters.moved_without_cause += 1;
                }
            } else {
                self.counters.logins += 1;
                if permit.follows_party() {
                    self.counters.party_follows += 1;
                } else if self.table.as_ref().is_some_and(|t| !t.accepts(permit.environment())) {
                    self.counters.misroutes += 1;
                }
            }
            session.pin = Some(pin);
        } else {
            self.counters.homes_regained += 1;
        }
        session.parked = false;
        session.state = State::Playing { seat, thawing: false };
        self.set_step(key, None);
        self.disown_leftover(key, seat.server, cx);
        let cause = was_in_play.then_some(cause);
        self.arrived(key, seat, place, cause, cx);
    }

    pub(super) fn on_attach_refused(
        &mut self,
        seat: Seat,
        (reason, message): (Refusal, String),
        highest: Epoch,
        place: Option<Place>,
        cx: &mut Cx<'_>,
    ) {
        let Some(key) = self.session_at(seat) else { return };
        let session = &mut self.sessions[key.index()];
        if matches!(&session.state, State::Moving(h) if h.target == seat) {
            self.handover_event(key, Event::ActivateRefused, cx);
            return;
        }
        // A `Leave` may be on its way already: then its `Left` ends this.
        let State::Attaching { seat: here, permit, search } = &session.state else { return };
        if *here != seat {
            self.counters.strays += 1;
            return;
        }
        let (rebind, mut search) = (permit.is_none(), search.clone());
        self.servers.free(seat);
        self.serve = true;
        session.epoch = session.epoch.max(highest);
        search.tries += 1;
        match (reason, place) {
            (Refusal::StaleEpoch, _) => self.counters.stale_epoch_retries += 1,
            (Refusal::WrongZone, Some(place)) => {
                session.place = Some(place);
                self.counters.wrong_zone_retries += 1;
            }
            (Refusal::Game, _) if !session.in_play => {
                self.turn_away(key, RefusedReason::Unavailable, message, cx);
                return;
            }
            (
                Refusal::WrongZone
                | Refusal::Full
                | Refusal::Format
                | Refusal::Digest
                | Refusal::NotReady
                | Refusal::Unknown
                | Refusal::Game,
                _,
            ) => {
                self.counters.attach_refused += 1;
                if !rebind {
                    search.avoid.push(seat.server);
                }
            }
        }
        self.seek(key, search, None, cx);
    }

    /// The world server has not said whether it took the player: it must say that the player is not there.
    pub(super) fn on_attach_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let State::Attaching { seat, search, .. } = &self.sessions[key.index()].state else { return };
        let (seat, mut search) = (*seat, search.clone());
        search.avoid.push(seat.server);
        search.tries += 1;
        self.leave(key, seat, Then::Replace { search }, cx);
    }
}
