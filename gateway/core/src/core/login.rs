//! Players coming: hello, takeover, resume, and the way into a world server (claim, attach).

use tidegate_types::{Cause, Epoch};

use super::servers::Role;
use super::{ConnUse, Core, Cx, Warm};
use crate::action::{Action, Close};
use crate::decide::{RoutePermit, still_good};
use crate::directory::{DirectoryOp, DirectoryOutcome, Home};
use crate::handover::Seat;
use crate::input::VerifiedHello;
use crate::key::{ConnKey, SessionKey};
use crate::message::{HoldReason, Place, PlayerMessage, Refusal, RefusedReason, ToWorld, Whereabouts};
use crate::session::{Doing, Search, Session, State, Then};
use crate::window::{Limits, Window};

/// Tries of one search before a login is refused, or a restoration takes a breath. A login normally takes three at the
/// most: a stale epoch, the wrong zone, a server that just filled up.
pub(super) const MAX_TRIES: u32 = 8;
/// When a refused player may try again, in milliseconds.
const RETRY_AFTER_MS: u32 = 2_000;

impl Core {
    pub(super) fn on_hello(&mut self, conn: ConnKey, hello: VerifiedHello, cx: &mut Cx<'_>) {
        if let Warm::Not { hellos, .. } = &mut self.warm {
            if hellos.len() >= self.config.max_line {
                self.counters.refused += 1;
                refuse(conn, RefusedReason::Unavailable, "too many players are waiting", RETRY_AFTER_MS, cx);
                return;
            }
            hellos.push_back((conn, hello));
            let place = u32::try_from(hellos.len()).unwrap_or(u32::MAX);
            self.counters.holds_warming += 1;
            self.set_conn(conn, ConnUse::Warming);
            let message = PlayerMessage::Hold { place, reason: HoldReason::Warming };
            cx.out.push(Action::ToPlayer { conn, message });
            return;
        }
        match (self.by_who.get(hello.who()).copied(), hello) {
            (Some(key), hello) => self.take_over(key, conn, hello, cx),
            (None, VerifiedHello::Resume { .. }) => {
                self.counters.refused += 1;
                refuse(conn, RefusedReason::ResumeUnknown, "the session is over", 0, cx);
            }
            (None, hello @ VerifiedHello::Login { .. }) => {
                if self.line.len() >= self.config.max_line {
                    self.counters.refused += 1;
                    refuse(conn, RefusedReason::Unavailable, "too many players are waiting", RETRY_AFTER_MS, cx);
                    return;
                }
                let key = self.begin(conn, hello, cx);
                self.seek(key, Search::default(), None, cx);
            }
        }
    }

    /// A new session, looking for its first home.
    fn begin(&mut self, conn: ConnKey, hello: VerifiedHello, cx: &mut Cx<'_>) -> SessionKey {
        let (VerifiedHello::Login { session: id, who, .. } | VerifiedHello::Resume { session: id, who, .. }) = &hello;
        let (id, who) = (*id, who.clone());
        let (party, client_version) = match hello {
            VerifiedHello::Login { party, client_version, .. } => (party, client_version),
            VerifiedHello::Resume { client_version, .. } => (None, client_version),
        };
        let mut session = self.blank(id, who, party, cx);
        session.client_version = client_version;
        session.conn = Some(conn);
        let key = self.insert(session);
        self.set_conn(conn, ConnUse::Session(key));
        cx.out.push(Action::Bind { conn, session: key });
        key
    }

    /// A session of which nothing is known but whose it is.
    pub(super) fn blank(
        &self,
        id: tidegate_types::SessionId,
        who: crate::message::Who,
        party: Option<tidegate_types::PartyId>,
        cx: &Cx<'_>,
    ) -> Session {
        Session {
            id,
            who,
            party,
            client_version: String::new(),
            since: cx.now.wall,
            conn: None,
            greeted: false,
            paused: false,
            parked: false,
            in_play: false,
            adopted: false,
            leftover: None,
            resuming: false,
            gap: false,
            homeless: Some(cx.now.mono),
            window: Window::new(Limits {
                queued_frames: self.config.max_queued_frames,
                queued_bytes: self.config.max_queued_bytes,
                window_frames: self.config.max_window_frames,
                window_bytes: self.config.max_window_bytes,
            }),
            place: None,
            doing: Doing { active: cx.now.wall, ..Doing::default() },
            epoch: Epoch(0),
            claimed: Epoch(0),
            pin: None,
            told: None,
            generation: self.generation().unwrap_or_default(),
            state: State::Waiting { reason: HoldReason::Admission, told: 0, search: Search::default(), lost: None },
            instances: Vec::new(),
            reported: None,
            ending: None,
            next: None,
            grace_at: None,
            step_at: None,
        }
    }

    pub(super) fn insert(&mut self, session: Session) -> SessionKey {
        let (id, who, party) = (session.id, session.who.clone(), session.party.clone());
        let key = SessionKey(super::servers::key_of(self.sessions.insert(session)).0);
        self.by_id.insert(id, key);
        self.by_who.insert(who, key);
        if let Some(party) = party {
            self.parties.entry(party).or_default().insert(key);
        }
        self.dirty.insert(key);
        key
    }

    /// The character is in the world already: the newest connection wins; the home does not change.
    fn take_over(&mut self, key: SessionKey, conn: ConnKey, hello: VerifiedHello, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        if let VerifiedHello::Resume { session: id, .. } = &hello
            && *id != session.id
        {
            self.counters.refused += 1;
            refuse(conn, RefusedReason::ResumeUnknown, "the session is over", 0, cx);
            return;
        }
        let is_ending = session.ending.is_some() || matches!(session.state, State::Leaving { then: Then::End(_), .. });
        if is_ending {
            if let Some((old, _)) = session.next.replace((conn, hello)) {
                self.set_conn(old, ConnUse::Free);
                say_replaced(old, cx);
            }
            self.set_conn(conn, ConnUse::Behind(key));
            let message = PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost };
            cx.out.push(Action::ToPlayer { conn, message });
            return;
        }
        let was_there = session.conn.is_some();
        match hello {
            VerifiedHello::Resume { received_frames, sent_frames, .. } => {
                self.counters.resumes += 1;
                session.resuming = true;
                if session.adopted {
                    session.window.adopt(received_frames, sent_frames);
                    session.gap = true;
                } else {
                    session.gap = session.window.resume(received_frames);
                }
                self.counters.resume_gaps += u64::from(session.gap);
            }
            VerifiedHello::Login { client_version, .. } => {
                self.counters.takeovers += 1;
                session.resuming = false;
                session.window.restart();
                session.gap = false;
                session.client_version = client_version;
            }
        }
        session.adopted = false;
        let old = session.conn.replace(conn);
        session.greeted = false;
        session.paused = false;
        if let Some(old) = old {
            self.set_conn(old, ConnUse::Free);
            say_replaced(old, cx);
        }
        self.set_conn(conn, ConnUse::Session(key));
        cx.out.push(Action::Bind { conn, session: key });
        self.set_grace(key, None);
        self.dirty.insert(key);
        let session = &mut self.sessions[key.index()];
        match &session.state {
            State::Playing { seat, .. } => {
                let seat = *seat;
                // The game must know that another client needs to be told everything.
                if was_there {
                    cx.tell_world(seat, ToWorld::Park);
                    session.parked = true;
                }
                self.welcome(key, cx);
                self.sync_parking(key, cx);
            }
            State::Moving(_) => self.welcome(key, cx),
            State::Waiting { told, reason, .. } => {
                let message = PlayerMessage::Hold { place: *told, reason: *reason };
                cx.out.push(Action::ToPlayer { conn, message });
            }
            State::Claiming { .. } | State::Attaching { .. } | State::Lost { .. } | State::Leaving { .. } => {
                let message = PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost };
                cx.out.push(Action::ToPlayer { conn, message });
            }
        }
    }

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
        self.leave(key, seat, Then::Replace { rerouted: false, search }, cx);
    }

    /// The session has a home that plays it: the player is told, what waited goes on its way.
    pub(super) fn arrived(&mut self, key: SessionKey, seat: Seat, place: Place, cause: Option<Cause>, cx: &mut Cx<'_>) {
        self.note_place(key, seat, place);
        let session = &mut self.sessions[key.index()];
        session.in_play = true;
        let gap = session.homeless.take().map_or(0, |since| micros(cx.now.mono.since(since)));
        if session.greeted
            && let (Some(conn), Some(cause)) = (session.conn, cause)
        {
            // If the home was lost right after it had changed, the player hears of both at once: what counts is why it is
            // in another environment.
            let moved = session.pin.as_ref().filter(|pin| session.told.as_ref() != Some(&pin.environment));
            let cause = moved.map_or(cause, |pin| pin.cause);
            session.told = session.pin.as_ref().map(|pin| pin.environment.clone());
            if let Some(at) = self.whereabouts(key, cause) {
                let message = PlayerMessage::Moved { at, gap_us: gap };
                cx.out.push(Action::ToPlayer { conn, message });
            }
            self.send_unsent(key, cx);
        } else {
            self.welcome(key, cx);
        }
        self.forward_queued(key, seat, cx);
        self.sync_parking(key, cx);
        self.dirty.insert(key);
        if let Some(ending) = self.sessions[key.index()].ending.take() {
            self.end(key, ending, cx);
        }
    }

    /// Says `Welcome` to the present connection, if there is one that has not had it, and then what it lacks.
    pub(super) fn welcome(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let Some(conn) = session.conn.filter(|_| !session.greeted) else { return };
        let cause = if session.resuming { Cause::Resume } else { Cause::Login };
        let Some(at) = self.whereabouts(key, cause) else { return };
        let grace_ms = self.table.as_ref().map_or(0, |t| millis(t.rules().grace));
        let session = &mut self.sessions[key.index()];
        session.greeted = true;
        session.told = session.pin.as_ref().map(|pin| pin.environment.clone());
        let (received_frames, gap) = (session.window.received(), session.gap);
        let message = PlayerMessage::Welcome { at, received_frames, gap, grace_ms };
        cx.out.push(Action::ToPlayer { conn, message });
        self.send_unsent(key, cx);
    }

    fn send_unsent(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        if let Some(conn) = session.conn
            && session.window.has_unsent()
        {
            cx.out.push(Action::ResendToPlayer { conn, frames: session.window.take_unsent() });
        }
    }

    pub(super) fn forward_queued(&mut self, key: SessionKey, seat: Seat, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let frames = session.window.take_queued();
        if !frames.is_empty() {
            cx.out.push(Action::ForwardQueued { server: seat.server, handle: seat.handle, frames });
        }
        if std::mem::take(&mut session.paused)
            && let Some(conn) = session.conn
        {
            cx.out.push(Action::ResumeReading { conn });
        }
    }

    /// Parks or unparks the player at home as the connection is there or not.
    pub(super) fn sync_parking(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Playing { seat, .. } = session.state else { return };
        let park = session.conn.is_none();
        if park != session.parked {
            session.parked = park;
            cx.tell_world(seat, if park { ToWorld::Park } else { ToWorld::Unpark });
        }
    }

    fn whereabouts(&self, key: SessionKey, cause: Cause) -> Option<Whereabouts> {
        let session = &self.sessions[key.index()];
        let pin = session.pin.as_ref()?;
        let server = self.servers.get(session.server()?)?;
        let build = self.table.as_ref().and_then(|t| t.environment(&pin.environment)).map(|e| e.build.clone());
        let unknown = || tidegate_types::BuildVersion::new("0.0.0").expect("a constant that is an id");
        Some(Whereabouts {
            session: session.id,
            who: session.who.clone(),
            epoch: session.epoch,
            environment: pin.environment.clone(),
            // An environment that left the table while this session is still in it has no build to show.
            build: build.unwrap_or_else(unknown),
            server: server.id.clone(),
            zone: session.place.as_ref()?.zone.clone(),
            generation: session.generation,
            cause,
        })
    }

    /// Refuses a session that has never been in play.
    pub(super) fn turn_away(&mut self, key: SessionKey, reason: RefusedReason, message: String, cx: &mut Cx<'_>) {
        self.counters.refused += 1;
        let retry_after_ms = match reason {
            RefusedReason::ClientTooOld | RefusedReason::ResumeUnknown => 0,
            RefusedReason::Unavailable => RETRY_AFTER_MS,
        };
        if let Some(conn) = self.sessions[key.index()].conn.take() {
            self.set_conn(conn, ConnUse::Free);
            refuse(conn, reason, &message, retry_after_ms, cx);
        }
        self.finish(key, "refused", cx);
    }

    pub(super) fn set_conn(&mut self, conn: ConnKey, to: ConnUse) {
        if self.conns.len() <= conn.index() {
            self.conns.resize(conn.index() + 1, ConnUse::Free);
        }
        self.conns[conn.index()] = to;
    }

    /// Whose seat that is; counted if it is nobody's.
    pub(super) fn session_at(&mut self, seat: Seat) -> Option<SessionKey> {
        let key = self.servers.usage(seat.server, seat.handle).and_then(|usage| usage.session);
        if key.is_none() {
            self.counters.strays += 1;
        }
        key
    }
}

fn refuse(conn: ConnKey, reason: RefusedReason, message: &str, retry_after_ms: u32, cx: &mut Cx<'_>) {
    let message = PlayerMessage::Refused { reason, message: message.to_owned(), retry_after_ms };
    cx.out.push(Action::ToPlayer { conn, message });
    cx.out.push(Action::ClosePlayer { conn, code: Close::Refused });
}

fn say_replaced(conn: ConnKey, cx: &mut Cx<'_>) {
    let message = PlayerMessage::Goodbye { reason: "replaced", message: "logged in elsewhere".to_owned() };
    cx.out.push(Action::ToPlayer { conn, message });
    cx.out.push(Action::ClosePlayer { conn, code: Close::Replaced });
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
