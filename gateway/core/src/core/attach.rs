//! The way into a world server: claim the home in the directory, attach, try again elsewhere if refused.

use tidegate_types::{Cause, Epoch, PartyId};

use super::servers::Role;
use super::{Core, Cx, UnknownHome};
use crate::action::{Action, Close};
use crate::decide::{RoutePermit, still_good};
use crate::directory::{DirectoryOp, DirectoryOutcome, Entry, Home};
use crate::handover::{Event, Seat};
use crate::key::SessionKey;
use crate::message::{Channel, Pin, Place, Refusal, RefusedReason, ToWorld};
use crate::session::{Search, Standing, State, Then};

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
        let expected = session.claimed;
        let home = self.home(key, permit.server_id().clone(), instance, permit.environment().clone());
        let request = self.ask(key, DirectoryOp::CompareAndSet { expected, to, home }, cx);
        // Room that was found must still be there when the directory answers.
        let seat = self.servers.seat(permit.server(), key, Role::Home);
        self.sessions[key.index()].state = State::Claiming { request, seat, to, permit, instance, search };
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_claim_answer(&mut self, key: SessionKey, outcome: DirectoryOutcome, cx: &mut Cx<'_>) {
        let another = matches!(&outcome, DirectoryOutcome::Conflict(entry) if self.is_another_gateways(key, entry));
        let session = &mut self.sessions[key.index()];
        let State::Claiming { seat, to, permit, instance, search, .. } = &session.state else { return };
        let (seat, to, permit, instance, mut search) = (*seat, *to, permit.clone(), *instance, search.clone());
        // Out of reach: of a session that this gateway holds its own word counts, and the realm database's.
        let waits = session.standing != Standing::Held && self.config.shared == Some(UnknownHome::Wait);
        match outcome {
            DirectoryOutcome::Unavailable if waits => {
                self.servers.give_back(seat, key);
                self.wait_for_directory(key, cx);
            }
            DirectoryOutcome::Found(_) => self.counters.strays += 1,
            DirectoryOutcome::Done(_) | DirectoryOutcome::Unavailable => {
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
            DirectoryOutcome::Conflict(entry) if another => {
                self.servers.give_back(seat, key);
                self.on_found(key, DirectoryOutcome::Conflict(entry), cx);
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

    /// The entry is of somebody who came after this gateway, or before a player who is new here.
    fn is_another_gateways(&self, key: SessionKey, entry: &Entry) -> bool {
        let session = &self.sessions[key.index()];
        let higher = entry.epoch > session.epoch || session.standing != Standing::Held;
        let mine = |home: &Home| home.gateway == self.config.gateway && home.session == session.id;
        self.is_shared() && higher && !entry.home.as_ref().is_some_and(mine)
    }

    fn attach(&mut self, key: SessionKey, seat: Seat, permit: RoutePermit, search: Search, cx: &mut Cx<'_>) {
        let trusts = self.trusts_directory();
        let session = &mut self.sessions[key.index()];
        // What was on its way to a home that is gone is gone with it.
        session.window.settle_up();
        session.restarting = false;
        let take_over = session.held_at == Some(seat.server);
        if !take_over && let Some((up, down)) = session.restart.take() {
            session.window.adopt(up, down);
            session.uncounted = false;
        }
        let pin = session.pin_by(&permit, cx.now.wall);
        let attach = ToWorld::Attach {
            identity: session.identity(pin),
            epoch: session.epoch,
            from: self.config.shared.filter(|_| !trusts).map(|_| session.granted.unwrap_or_default()),
            place: permit.place().cloned(),
            cause: permit.cause(),
            take_over,
            refuse_connected: false,
            channel: if take_over { Channel::default() } else { session.window.channel() },
        };
        session.asked.push(session.epoch);
        session.state = State::Attaching { seat, permit: Some(permit), search };
        cx.tell_world(seat, attach);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    /// The channel to a home that plays is to begin anew, for another client: it is taken up again, and what comes before its
    /// answer is not for that client.
    pub(super) fn begin_restart(&mut self, key: SessionKey, seat: Seat, cx: &mut Cx<'_>) {
        let pin = self.sessions[key.index()].pin.clone().unwrap_or_else(|| self.pin_on(seat.server, cx));
        let session = &mut self.sessions[key.index()];
        let Some((up, down)) = session.restart.take() else { return };
        session.window.adopt(up, down);
        (session.uncounted, session.restarting) = (false, true);
        let attach = ToWorld::Attach {
            identity: session.identity(pin),
            epoch: session.epoch,
            from: self.config.shared.map(|_| session.epoch),
            place: session.place.clone(),
            cause: Cause::Resume,
            take_over: false,
            refuse_connected: false,
            channel: Channel { up, down, restart: true, ..Channel::default() },
        };
        session.state = State::Attaching { seat, permit: None, search: Search::default() };
        cx.tell_world(seat, attach);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_attached(
        &mut self,
        seat: Seat,
        epoch: Epoch,
        place: Place,
        (channel, pin, party): (&Channel, Option<Pin>, Option<PartyId>),
        cx: &mut Cx<'_>,
    ) {
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
        let held = session.held_at.take() == Some(seat.server) && permit.is_some();
        let mut lost_frames = false;
        if session.foreign {
            lost_frames = self.took_over(key, seat, (channel, pin, party), cx);
        } else if std::mem::take(&mut session.restarting) {
            // Both counts are what they were made.
        } else if let Some(permit) = permit.clone() {
            (session.standing, session.known) = (Standing::Held, true);
            if held {
                session.window.adopt(channel.up, channel.down);
                session.uncounted = false;
                if let Some((received, _)) = session.counts {
                    // The player is back already, and the channel goes on where it stands.
                    session.restart = None;
                    session.gap = session.window.resume(received);
                }
            }
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
            lost_frames = session.window.rejoin(channel);
        }
        let session = &mut self.sessions[key.index()];
        session.granted = Some(epoch);
        session.stayed = Some(epoch);
        session.asked.clear();
        session.learnt = None;
        session.parked = false;
        session.state = State::Playing { seat, thawing: false };
        self.set_step(key, None);
        self.disown_leftover(key, seat.server, cx);
        let cause = was_in_play.then_some(cause);
        if lost_frames {
            self.counters.link_gaps += 1;
            self.drop_connection(key, cx);
        }
        self.arrived(key, seat, place, cause, cx);
    }

    /// The player's count of frames cannot be right any more: it resumes, and is told the right one.
    fn drop_connection(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        if let Some(conn) = self.sessions[key.index()].conn.filter(|_| self.sessions[key.index()].greeted) {
            cx.out.push(Action::ClosePlayer { conn, code: Close::Resume });
            self.on_connection_lost(conn, cx);
        }
    }

    pub(super) fn on_attach_refused(
        &mut self,
        seat: Seat,
        (reason, message): (Refusal, String),
        (highest, saved): (Epoch, Epoch),
        place: Option<Place>,
        cx: &mut Cx<'_>,
    ) {
        let Some(key) = self.session_at(seat) else { return };
        let contradicted = reason == Refusal::StaleEpoch && self.is_shared() && !self.trusts_directory();
        let session = &mut self.sessions[key.index()];
        if matches!(&session.state, State::Moving(h) if h.target == seat) {
            session.asked.retain(|asked| *asked != session.epoch);
            if contradicted {
                session.learnt = asked(highest, saved);
            }
            session.epoch = session.epoch.max(highest);
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
        session.restarting = false;
        session.asked.retain(|asked| *asked != session.epoch);
        session.epoch = session.epoch.max(highest);
        if session.foreign {
            self.take_over_refused(key, reason, cx);
            return;
        }
        search.tries += 1;
        if session.held_at.take() == Some(seat.server) && reason != Refusal::NotReady {
            // It does not hold what its roster said, or not as it should: the save is loaded.
            session.uncounted = true;
            self.seek(key, search, None, cx);
            return;
        }
        match (reason, place) {
            (Refusal::StaleEpoch, _) if contradicted => {
                // Somebody has had the player since; only the world servers know whether they have it still.
                session.learnt = asked(highest, saved);
                self.search(key, cx);
                return;
            }
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
                | Refusal::Game
                | Refusal::PlayerOnline,
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

    #[cfg(feature = "model")]
    pub(super) fn trusts_directory(&self) -> bool {
        self.config.sabotage.trust_directory || tidegate_types::sabotage::on("trust_directory")
    }

    #[cfg(not(feature = "model"))]
    #[expect(clippy::unused_self, reason = "the twin with the feature reads the configuration")]
    pub(super) fn trusts_directory(&self) -> bool {
        tidegate_types::sabotage::on("trust_directory")
    }

    /// The world server has not said whether it took the player: it must say that the player is not there.
    pub(super) fn on_attach_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.doubt(key);
        let State::Attaching { seat, search, .. } = &self.sessions[key.index()].state else { return };
        let (seat, mut search) = (*seat, search.clone());
        search.avoid.push(seat.server);
        search.tries += 1;
        self.leave(key, seat, Then::Replace { search }, cx);
    }
}

/// The realm database's epoch, if it was asked: a refusal that knows of no epoch at all is its word that there is none.
fn asked(highest: Epoch, saved: Epoch) -> Option<Epoch> {
    (saved > Epoch(0) || highest == Epoch(0)).then_some(saved)
}
