//! Links to world servers: dialling, breaking, leases, and what becomes of the players behind a broken one.

use tidegate_types::{InstanceId, Mono, ServerId};

use super::servers::{Link, Role, Use};
use super::{Core, Cx, Warm};
use crate::action::{Action, DialTarget};
use crate::handover::{Event, Seat};
use crate::key::{ServerKey, SessionKey};
use crate::message::{HoldReason, PlayerMessage};
use crate::session::{Search, Standing, State};

impl Core {
    pub(super) fn on_link_up(&mut self, server: ServerKey, instance: InstanceId, cx: &mut Cx<'_>) {
        let up = matches!(self.servers.get(server).map(|s| &s.link), Some(Link::Up { .. }));
        if up {
            self.break_link(server, cx);
        }
        self.servers.link_up(server, instance, cx.now.mono, self.config.lease);
    }

    pub(super) fn on_heartbeat(&mut self, server: ServerKey, cx: &Cx<'_>) {
        if let Some(Link::Up { lease, .. }) = self.servers.get_mut(server).map(|s| &mut s.link) {
            lease.answered(cx.now.mono);
        }
    }

    pub(super) fn on_link_down(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        self.break_link(server, cx);
        self.dial_if_wanted(server, cx);
    }

    pub(super) fn on_server_dead(&mut self, server: &ServerId, instance: InstanceId, cx: &mut Cx<'_>) {
        let Some(key) = self.servers.key(server) else { return };
        let was_up = self.servers.get(key).is_some_and(|s| s.is_up(instance));
        self.servers.mark_dead(key, instance);
        if was_up {
            cx.out.push(Action::Hangup { server: key, forget: false });
            self.break_link(key, cx);
            self.dial_if_wanted(key, cx);
        }
        if self.servers.get(key).is_none_or(|state| !matches!(state.link, Link::Up { .. })) {
            self.search_without(key, cx);
        }
        let freed: Vec<SessionKey> =
            self.lost_on(key).filter(|(_, of)| *of == instance).map(|(session, _)| session).collect();
        for session in freed {
            self.on_home_freed(session, cx);
        }
        self.warm_if_known(cx);
    }

    /// The server answers nothing that it is asked: its link goes, and with it, after the lease, its players.
    pub(super) fn hang_up_unresponsive(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        self.counters.unresponsive += 1;
        cx.out.push(Action::Hangup { server, forget: false });
        self.break_link(server, cx);
        self.dial_if_wanted(server, cx);
    }

    pub(super) fn dial_if_wanted(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        let Some(state) = self.servers.get_mut(server) else { return };
        if let (Link::Idle, Some(target)) = (&state.link, &state.wanted) {
            let target: DialTarget = target.clone();
            state.link = Link::Dialing;
            cx.out.push(Action::Dial { server, target });
        }
    }

    /// The link is gone: everyone behind it has lost something.
    pub(super) fn break_link(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        let Some((instance, uses)) = self.servers.link_gone(server) else {
            if let Some(state) = self.servers.get_mut(server) {
                state.link = Link::Idle;
            }
            return;
        };
        self.serve = true;
        for (handle, Use { session, .. }) in &uses {
            let session = session.and_then(|key| self.sessions.get_mut(key.index()));
            if let Some(State::Moving(h)) = session.map(|s| &mut s.state) {
                h.unplug(Seat { server, handle: *handle });
            }
        }
        for (handle, Use { session, role }) in uses {
            let Some(key) = session.filter(|key| self.sessions.contains(key.index())) else { continue };
            let seat = Seat { server, handle };
            match role {
                Role::Home => self.home_lost(key, seat, instance, cx),
                Role::Target => self.handover_event(key, Event::TargetLost, cx),
                Role::Closing => {}
            }
        }
    }

    fn home_lost(&mut self, key: SessionKey, seat: Seat, instance: InstanceId, cx: &mut Cx<'_>) {
        match &self.sessions[key.index()].state {
            State::Attaching { seat: here, search, permit } if *here == seat => {
                let search = search.clone();
                if permit.is_some() {
                    // Whether the claim was granted nobody knows.
                    self.doubt(key);
                }
                self.lose(key, seat.server, instance, search, cx);
            }
            State::Playing { seat: here, .. } if *here == seat => {
                self.lose(key, seat.server, instance, Search::default(), cx);
            }
            State::Leaving { seat: here, .. } if *here == seat => {
                if let Some(search) = self.left_unheard(key, cx) {
                    self.lose(key, seat.server, instance, search, cx);
                }
            }
            State::Moving(h) if h.source == seat => self.handover_event(key, Event::SourceLost, cx),
            // The seat was kept for it only; the claim's answer finds it gone.
            State::Claiming { .. } => {}
            State::Waiting { .. }
            | State::Finding(_)
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => self.counters.strays += 1,
        }
    }

    /// The player's home is out of reach and may be simulating still: wait for it to come back, for the word that it is
    /// dead, or for the end of its lease.
    pub(super) fn lose(
        &mut self,
        key: SessionKey,
        server: ServerKey,
        instance: InstanceId,
        search: Search,
        cx: &mut Cx<'_>,
    ) {
        let free_at = self.free_at(server, instance, cx);
        let session = &mut self.sessions[key.index()];
        session.homeless.get_or_insert(cx.now.mono);
        if session.in_play {
            self.counters.homes_lost += 1;
            self.counters.holds_home_lost += 1;
        }
        session.state = State::Lost { server, instance, search };
        if let Some(conn) = session.conn {
            let message = PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost };
            cx.out.push(Action::ToPlayer { conn, message });
        }
        self.dirty.insert(key);
        self.set_step(key, Some(free_at));
        if self.sessions[key.index()].foreign {
            self.set_step(key, None);
            self.watch_foreign(key, cx);
            return;
        }
        if self.servers.ready_instance(server) == Some(instance) {
            // The link has come back meanwhile, and its roster was read before this session was lost.
            self.regain(key, server, cx);
        }
    }

    fn free_at(&self, server: ServerKey, instance: InstanceId, cx: &Cx<'_>) -> Mono {
        #[cfg(feature = "model")]
        if self.config.sabotage.skip_lease {
            return cx.now.mono;
        }
        self.servers.free_at(server, instance, cx.now.mono, self.config.lease)
    }

    /// The old home certainly simulates the player no more.
    pub(super) fn on_home_freed(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Lost { server, instance, search } = &session.state else { return };
        let (lost, search) = ((*server, *instance), search.clone());
        if std::mem::take(&mut session.foreign) {
            // Its home is certainly gone: it is restored as if it had been this gateway's, unless somebody else has it.
            (session.known, session.in_play, session.uncounted) = (false, true, true);
            session.standing = Standing::Held;
            if let Some((received, sent)) = session.counts {
                session.window.adopt(sent, received);
                session.uncounted = false;
                session.gap = true;
            }
        }
        if let Some(ending) = session.ending.take() {
            self.finish_saying(key, &ending, cx);
            return;
        }
        self.set_step(key, None);
        if self.is_shared() && !self.sessions[key.index()].known {
            self.search(key, cx);
            return;
        }
        self.seek(key, search, Some(lost), cx);
    }

    /// Sessions whose home was lost there, with the run they were on.
    pub(super) fn lost_on(&self, on: ServerKey) -> impl Iterator<Item = (SessionKey, InstanceId)> {
        self.sessions.iter().filter_map(move |(index, session)| match &session.state {
            State::Lost { server, instance, .. } if *server == on => {
                Some((SessionKey(super::servers::key_of(index).0), *instance))
            }
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => None,
        })
    }

    /// If every server of the table has told its roster, the gateway knows who lives where.
    pub(super) fn warm_if_known(&mut self, cx: &mut Cx<'_>) {
        let (Warm::Not { .. }, Some(table)) = (&self.warm, &self.table) else { return };
        let known = |id: &ServerId| self.servers.key(id).and_then(|key| self.servers.ready_instance(key)).is_some();
        if table.servers().next().is_some() && table.servers().all(|(_, server)| known(&server.id)) {
            self.become_warm(cx);
        }
    }
}
