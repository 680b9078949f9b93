//! Players going: logout, lost connection, grace time, eject, and the way out of a world server.

use super::{ConnUse, Core, Cx, Warm};
use crate::action::{Action, Close, SessionReport};
use crate::directory::DirectoryOp;
use crate::handover::{Event, Seat};
use crate::key::{ConnKey, SessionKey};
use crate::message::{PlayerMessage, ToWorld};
use crate::session::{Ending, Finding, Search, Standing, State, Then};

impl Core {
    pub(super) fn on_logout(&mut self, conn: ConnKey, cx: &mut Cx<'_>) {
        match self.conns.get(conn.index()).copied().unwrap_or(ConnUse::Free) {
            ConnUse::Free => {}
            ConnUse::Session(key) => {
                self.counters.logouts += 1;
                self.end(key, Ending { reason: "logout", message: String::new() }, cx);
            }
            ConnUse::Behind(_) | ConnUse::Warming => {
                self.on_connection_lost(conn, cx);
                say_goodbye(conn, &Ending { reason: "logout", message: String::new() }, cx);
            }
        }
    }

    pub(super) fn on_connection_lost(&mut self, conn: ConnKey, cx: &mut Cx<'_>) {
        let was = self.conns.get(conn.index()).copied().unwrap_or(ConnUse::Free);
        if was == ConnUse::Free {
            return;
        }
        self.set_conn(conn, ConnUse::Free);
        match was {
            ConnUse::Free => {}
            ConnUse::Session(key) => self.detach(key, cx),
            ConnUse::Behind(key) => self.sessions[key.index()].next = None,
            ConnUse::Warming => {
                if let Warm::Not { hellos, .. } = &mut self.warm {
                    hellos.retain(|(other, _)| *other != conn);
                }
            }
        }
    }

    fn detach(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        session.conn = None;
        session.greeted = false;
        session.paused = false;
        self.dirty.insert(key);
        if session.ending.is_some() || matches!(session.state, State::Leaving { then: Then::End(_), .. }) {
            return;
        }
        if self.is_on_its_way(key) {
            self.forget(key, cx);
            return;
        }
        let session = &mut self.sessions[key.index()];
        if !session.in_play && matches!(session.state, State::Waiting { .. } | State::Claiming { .. }) {
            self.end(key, Ending { reason: "lost", message: String::new() }, cx);
            return;
        }
        self.counters.detached += 1;
        self.start_grace(key, cx);
        self.sync_parking(key, cx);
    }

    /// It lives with another gateway, as far as it lives, and this one has told no world server of it yet.
    fn is_on_its_way(&self, key: SessionKey) -> bool {
        let session = &self.sessions[key.index()];
        let untold = matches!(session.state, State::Finding(_) | State::Waiting { .. });
        session.standing != Standing::Held
            && ((untold && !session.known) || (session.foreign && matches!(session.state, State::Lost { .. })))
    }

    pub(super) fn start_grace(&mut self, key: SessionKey, cx: &Cx<'_>) {
        let grace = self.table.as_ref().map_or(std::time::Duration::from_secs(60), |t| t.rules().grace);
        self.set_grace(key, Some(cx.now.mono + grace));
    }

    pub(super) fn on_grace_over(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let Some(session) = self.sessions.get_mut(key.index()) else { return };
        session.grace_at = None;
        if session.conn.is_none() {
            self.counters.grace_expired += 1;
            self.end(key, Ending { reason: "grace_over", message: String::new() }, cx);
        }
    }

    pub(super) fn on_eject(&mut self, seat: Seat, cx: &mut Cx<'_>) {
        let Some(key) = self.session_at(seat) else { return };
        self.counters.kicked += 1;
        self.end(key, Ending { reason: "ejected", message: String::new() }, cx);
    }

    /// Ends the session, now or as soon as its state allows.
    pub(super) fn end(&mut self, key: SessionKey, ending: Ending, cx: &mut Cx<'_>) {
        if self.is_on_its_way(key) {
            self.farewell(key, &ending, cx);
            self.forget(key, cx);
            return;
        }
        let session = &mut self.sessions[key.index()];
        match &mut session.state {
            State::Waiting { .. } => self.finish_saying(key, &ending, cx),
            // Held here, and contradicted by a world server: whoever has it now ends it.
            State::Finding(_) => {
                self.farewell(key, &ending, cx);
                self.forget(key, cx);
            }
            State::Claiming { to, seat, .. } => {
                let seat = *seat;
                // Whether the claim succeeds or not, what is cleared is what it would have made.
                session.claimed = *to;
                self.servers.give_back(seat, key);
                self.finish_saying(key, &ending, cx);
            }
            State::Attaching { seat, .. } | State::Playing { seat, .. } => {
                let seat = *seat;
                self.leave(key, seat, Then::End(ending), cx);
            }
            State::Moving(_) => {
                session.ending.get_or_insert(ending);
                self.handover_event(key, Event::Cancel, cx);
            }
            State::Lost { .. } => {
                // The old home may be simulating still: the session is over when that is certain.
                let ending = session.ending.get_or_insert(ending).clone();
                self.farewell(key, &ending, cx);
            }
            State::Leaving { then, .. } => match then {
                Then::End(_) => {}
                Then::Replace { .. } => {
                    *then = Then::End(ending);
                }
            },
        }
    }

    /// Tells the home that the session leaves it.
    pub(super) fn leave(&mut self, key: SessionKey, seat: Seat, then: Then, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let reason = match &then {
            Then::End(ending) => ending.reason,
            Then::Replace { .. } => "rerouted",
        };
        cx.tell_world(seat, ToWorld::Leave { epoch: session.epoch, reason });
        session.state = State::Leaving { seat, then, again: false };
        self.set_grace(key, None);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_left(&mut self, seat: Seat, cx: &mut Cx<'_>) {
        let Some(key) = self.session_at(seat) else { return };
        let State::Leaving { seat: here, then, .. } = &self.sessions[key.index()].state else {
            self.counters.strays += 1;
            return;
        };
        if *here != seat {
            self.counters.strays += 1;
            return;
        }
        let then = then.clone();
        self.servers.free(seat);
        self.serve = true;
        match then {
            Then::End(ending) => self.finish_saying(key, &ending, cx),
            Then::Replace { search, .. } => {
                self.rerouting.remove(&key);
                // One leftover is remembered: of an earlier one its server hears now.
                self.disown_leftover(key, seat.server, cx);
                let session = &mut self.sessions[key.index()];
                if session.in_play {
                    // A server that never took up the attach may hold it still, by no handle: it is dismissed by name.
                    session.leftover = Some((seat.server, session.id));
                }
                self.resume_grace(key, cx);
                self.seek(key, search, None, cx);
            }
        }
    }

    /// A detached session that goes on looking for a home has its grace time again.
    fn resume_grace(&mut self, key: SessionKey, cx: &Cx<'_>) {
        if self.sessions[key.index()].conn.is_none() {
            self.start_grace(key, cx);
        }
    }

    pub(super) fn on_leave_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Leaving { seat, then, again } = &mut session.state else { return };
        let seat = *seat;
        if std::mem::replace(again, true) {
            self.hang_up_unresponsive(seat.server, cx);
            return;
        }
        let reason = match then {
            Then::End(ending) => ending.reason,
            Then::Replace { .. } => "rerouted",
        };
        cx.tell_world(seat, ToWorld::Leave { epoch: session.epoch, reason });
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
    }

    /// The home of a session that is leaving is out of reach.
    pub(super) fn left_unheard(&mut self, key: SessionKey, cx: &mut Cx<'_>) -> Option<Search> {
        let session = &mut self.sessions[key.index()];
        let State::Leaving { then, .. } = &session.state else { return None };
        self.rerouting.remove(&key);
        match then.clone() {
            Then::End(ending) => {
                session.ending = Some(ending.clone());
                self.farewell(key, &ending, cx);
                Some(Search::default())
            }
            Then::Replace { search, .. } => {
                self.resume_grace(key, cx);
                Some(search)
            }
        }
    }

    /// Says goodbye to the present connection.
    pub(super) fn farewell(&mut self, key: SessionKey, ending: &Ending, cx: &mut Cx<'_>) {
        if let Some(conn) = self.sessions[key.index()].conn.take() {
            self.set_conn(conn, ConnUse::Free);
            say_goodbye(conn, ending, cx);
        }
        self.sessions[key.index()].greeted = false;
        self.set_grace(key, None);
        self.dirty.insert(key);
    }

    pub(super) fn finish_saying(&mut self, key: SessionKey, ending: &Ending, cx: &mut Cx<'_>) {
        self.farewell(key, ending, cx);
        self.finish(key, ending.reason, cx);
    }

    /// The session is over, and nothing of it is left.
    pub(super) fn finish(&mut self, key: SessionKey, reason: &'static str, cx: &mut Cx<'_>) {
        self.set_step(key, None);
        self.set_grace(key, None);
        self.line.leave(key);
        self.rerouting.remove(&key);
        self.dirty.remove(&key);
        let session = self.sessions.remove(key.index());
        if let State::Finding(Finding::Searching { id, .. }) = &session.state {
            self.searching.remove(id);
        }
        for instance in &session.instances {
            self.servers.leave_instance(instance, key);
        }
        self.by_id.remove(&session.id);
        self.by_who.remove(&session.who);
        if let Some(party) = &session.party
            && let Some(members) = self.parties.get_mut(party)
        {
            members.remove(&key);
            if members.is_empty() {
                self.parties.remove(party);
            }
        }
        if let Some((server, leftover)) = session.leftover
            && self.servers.ready_instance(server).is_some()
        {
            // It has not come to a new home: the server that holds what is left of it would hold it for ever.
            let owner = ToWorld::Owner { session: leftover, epoch: session.epoch.next(), server: None };
            cx.tell_world(Seat { server, handle: 0 }, owner);
        }
        // With several gateways a resting entry says that the database granted its epoch, and others claim from it.
        let granted = !self.is_shared() || session.granted == Some(session.claimed);
        if session.claimed.0 > 0 && granted {
            self.tell_directory(
                session.who.clone(),
                DirectoryOp::Clear { epoch: session.claimed, session: session.id },
                cx,
            );
        }
        self.count_row(session.reported.as_ref().map(|row| row.state), None);
        if session.reported.is_some() {
            cx.out.push(Action::Report(SessionReport::Gone {
                session: session.id,
                reason,
                environment: session.pin.as_ref().map(|p| p.environment.clone()),
                cause: session.pin.as_ref().map(|p| p.cause),
            }));
        }
        self.serve = true;
        if let Some(conn) = session.conn {
            self.set_conn(conn, ConnUse::Free);
            say_goodbye(conn, &Ending { reason, message: String::new() }, cx);
        }
        if let Some((conn, hello)) = session.next {
            self.set_conn(conn, ConnUse::Free);
            self.on_hello(conn, hello, cx);
        }
    }
}

fn say_goodbye(conn: ConnKey, ending: &Ending, cx: &mut Cx<'_>) {
    let message = PlayerMessage::Goodbye { reason: ending.reason, message: ending.message.clone() };
    cx.out.push(Action::ToPlayer { conn, message });
    cx.out.push(Action::ClosePlayer { conn, code: Close::Done });
}
