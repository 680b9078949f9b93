//! Players coming: hello, takeover, resume, and the way into a world server (claim, attach).

use tidegate_types::Epoch;

use super::{ConnUse, Core, Cx, SecondLogin, Warm};
use crate::action::{Action, Close};
use crate::handover::Seat;
use crate::input::VerifiedHello;
use crate::key::{ConnKey, SessionKey};
use crate::message::{HoldReason, PlayerMessage, RefusedReason};
use crate::session::{Doing, Search, Session, Standing, State, Then};
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
            (None, hello @ VerifiedHello::Resume { .. }) if self.is_shared() => {
                let key = self.begin(conn, hello, cx);
                self.inquire(key, cx);
            }
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
        let mut session = self.blank(id, who, None, cx);
        match hello {
            VerifiedHello::Login { party, client_version, .. } => {
                session.party = party;
                session.client_version = client_version;
                session.standing = Standing::Login;
                session.known = !self.is_shared();
            }
            VerifiedHello::Resume { client_version, epoch, received_frames, sent_frames, .. } => {
                session.client_version = client_version;
                session.epoch = epoch;
                session.counts = Some((received_frames, sent_frames));
                session.standing = Standing::Resume;
                session.known = false;
                session.resuming = true;
            }
        }
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
            standing: Standing::Held,
            known: true,
            foreign: false,
            uncounted: false,
            held_at: None,
            counts: None,
            restart: None,
            restarting: false,
            again: 0,
            ack_due: false,
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
            granted: None,
            learnt: None,
            stayed: None,
            asked: Vec::new(),
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
        let outlived = self.is_outlived(key, &hello);
        let session = &mut self.sessions[key.index()];
        if let VerifiedHello::Resume { session: id, .. } = &hello
            && *id != session.id
            && !outlived
        {
            self.counters.refused += 1;
            refuse(conn, RefusedReason::ResumeUnknown, "the session is over", 0, cx);
            return;
        }
        if let VerifiedHello::Login { .. } = &hello
            && self.config.second_login == SecondLogin::Refuse
            && session.conn.is_some()
        {
            self.counters.refused += 1;
            refuse(conn, RefusedReason::AlreadyOnline, "the character is connected already", 0, cx);
            return;
        }
        let is_ending = session.ending.is_some() || matches!(session.state, State::Leaving { then: Then::End(_), .. });
        if is_ending || outlived {
            if let Some((old, _)) = session.next.replace((conn, hello)) {
                self.set_conn(old, ConnUse::Free);
                say_replaced(old, cx);
            }
            self.set_conn(conn, ConnUse::Behind(key));
            let message = PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost };
            cx.out.push(Action::ToPlayer { conn, message });
            return;
        }
        match hello {
            VerifiedHello::Resume { received_frames, sent_frames, .. } => {
                session.resuming = true;
                session.counts = Some((received_frames, sent_frames));
                if session.standing == Standing::Held {
                    self.counters.resumes += 1;
                    if session.uncounted {
                        session.restart = Some((sent_frames, received_frames));
                        session.gap = true;
                    } else {
                        session.gap = session.window.resume(received_frames);
                    }
                    self.counters.resume_gaps += u64::from(session.gap);
                } else if session.standing == Standing::Login && matches!(session.state, State::Attaching { .. }) {
                    // What is on its way begins the channel anew: it is to begin where this client stands.
                    session.counts = None;
                    session.restart = Some((sent_frames, received_frames));
                    session.gap = true;
                } else {
                    session.standing = Standing::Resume;
                }
            }
            VerifiedHello::Login { client_version, .. } => {
                session.resuming = false;
                session.counts = None;
                session.gap = false;
                session.client_version = client_version;
                if session.standing == Standing::Held {
                    self.counters.takeovers += 1;
                    session.restart = Some((0, 0));
                } else {
                    session.standing = Standing::Login;
                }
            }
        }
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
                if session.restart.is_some() {
                    self.begin_restart(key, seat, cx);
                } else {
                    self.welcome(key, cx);
                    self.sync_parking(key, cx);
                }
            }
            State::Moving(_) if session.restart.is_none() => self.welcome(key, cx),
            State::Waiting { told, reason, .. } => {
                let message = PlayerMessage::Hold { place: *told, reason: *reason };
                cx.out.push(Action::ToPlayer { conn, message });
            }
            State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => {
                let message = PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost };
                cx.out.push(Action::ToPlayer { conn, message });
            }
        }
    }

    /// The player comes from another gateway, which has had the session since: what is held here is about to be told so.
    fn is_outlived(&self, key: SessionKey, hello: &VerifiedHello) -> bool {
        let session = &self.sessions[key.index()];
        let newer = matches!(hello, VerifiedHello::Resume { epoch, .. } if *epoch > session.epoch);
        newer && self.is_shared() && session.standing == Standing::Held
    }

    /// The session has come to the epoch of the player who waits for it.
    pub(super) fn admit_next(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let waits = self.sessions.get(key.index()).and_then(|session| session.next.as_ref());
        if waits.is_some_and(|(_, hello)| !self.is_outlived(key, hello))
            && let Some((conn, hello)) = self.sessions[key.index()].next.take()
        {
            self.take_over(key, conn, hello, cx);
        }
    }

    /// Refuses a session that has never been in play.
    pub(super) fn turn_away(&mut self, key: SessionKey, reason: RefusedReason, message: String, cx: &mut Cx<'_>) {
        self.counters.refused += 1;
        let retry_after_ms = match reason {
            RefusedReason::ClientTooOld | RefusedReason::ResumeUnknown | RefusedReason::AlreadyOnline => 0,
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
        let key = key.filter(|key| self.sessions.contains(key.index()));
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
