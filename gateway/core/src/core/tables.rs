//! Routing tables: taking a newer one, taking back what an older one began, and acknowledging it.

use super::servers::Link;
use super::{Core, Cx, Warm};
use crate::action::{Action, DialTarget};
use crate::decide::still_good;
use crate::key::{ServerKey, SessionKey};
use crate::lease::with_drift;
use crate::session::{Search, Session, State, Then};
use crate::table::RealmTable;

impl Core {
    pub(super) fn on_table(&mut self, table: RealmTable, cx: &mut Cx<'_>) {
        if table.realm() != &self.realm {
            self.counters.tables_refused += 1;
            return;
        }
        if let Some(current) = &self.table {
            if table.generation() < current.generation() {
                self.counters.tables_refused += 1;
                return;
            }
            if table.generation() == current.generation() {
                // Said again, after a reconnect: so is the answer.
                self.unacknowledged = true;
                return;
            }
        }
        self.table = Some(table);
        self.follow_servers(cx);
        self.reroute(cx);
        self.note_crossings();
        self.unacknowledged = true;
        self.serve = true;
        if let Warm::Not { until: until @ None, .. } = &mut self.warm {
            let at = cx.now.mono + with_drift(self.config.lease);
            *until = Some(at);
            self.timers.set(super::Timer::Warm, None, Some(at));
        }
        if self.is_shared() {
            // Who lives where is the directory's to say.
            self.become_warm(cx);
            self.watch_all_foreign(cx);
        }
        self.warm_if_known(cx);
        self.retire_servers(cx);
    }

    /// Dials what is new or elsewhere, forgets what is wanted no more.
    fn follow_servers(&mut self, cx: &mut Cx<'_>) {
        let Some(table) = &self.table else { return };
        let targets: Vec<DialTarget> = table
            .servers()
            .map(|(_, s)| DialTarget {
                id: s.id.clone(),
                instance: s.instance,
                address: s.address.clone(),
                tls_name: s.tls_name.clone(),
            })
            .collect();
        let mut wanted: Vec<ServerKey> = Vec::with_capacity(targets.len());
        for target in targets {
            let key = self.servers.ensure(&target.id);
            wanted.push(key);
            let Some(state) = self.servers.get_mut(key) else { continue };
            let moved = state.wanted.as_ref().is_none_or(|old| *old != target);
            let instance = target.instance;
            state.wanted = Some(target);
            let (is_idle, is_old) = match &state.link {
                Link::Idle => (true, false),
                Link::Dialing => (false, moved),
                Link::Up { .. } => (false, moved && !state.is_up(instance)),
            };
            if is_old {
                cx.out.push(Action::Hangup { server: key, forget: false });
                self.break_link(key, cx);
            }
            if is_old || is_idle {
                self.dial_if_wanted(key, cx);
            }
        }
        for key in self.servers.keys() {
            if !wanted.contains(&key)
                && let Some(state) = self.servers.get_mut(key)
            {
                state.wanted = None;
            }
        }
    }

    pub(super) fn has_unwanted_servers(&self) -> bool {
        self.servers.any_unwanted()
    }

    /// Servers that left the table keep their link until their last player is gone.
    pub(super) fn retire_servers(&mut self, cx: &mut Cx<'_>) {
        for key in self.servers.keys() {
            let Some(state) = self.servers.get(key) else { continue };
            if state.wanted.is_some() || state.in_use() || self.is_referred_to(key) {
                continue;
            }
            self.servers.remove(key);
            cx.out.push(Action::Hangup { server: key, forget: true });
        }
    }

    fn is_referred_to(&self, key: ServerKey) -> bool {
        self.sessions.iter().any(|(_, session)| match &session.state {
            State::Waiting { lost: Some((server, _)), .. } => *server == key,
            State::Claiming { permit, .. } => permit.server() == key,
            State::Moving(h) => h.source.server == key || h.target.server == key,
            State::Waiting { .. }
            | State::Finding(_)
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Lost { .. }
            | State::Leaving { .. } => session.server() == Some(key),
        })
    }

    /// Takes back the attaches of new sessions that an older table sent where no new ones go any more. (Claims that are out
    /// are looked at when they are answered; those in line are decided by the table in force anyway.)
    fn reroute(&mut self, cx: &mut Cx<'_>) {
        let Some(table) = &self.table else { return };
        let mut stale = Vec::new();
        for (index, session) in &self.sessions {
            let key = SessionKey(super::servers::key_of(index).0);
            match &session.state {
                State::Attaching { seat, permit: Some(permit), .. }
                    if !session.in_play && !still_good(table, permit) =>
                {
                    stale.push((key, *seat));
                }
                // A login that is being taken up again after its link broke has no permit to look at.
                State::Attaching { seat, permit: None, .. }
                    if !session.in_play && !session.foreign && !self.accepts_on(seat.server) =>
                {
                    stale.push((key, *seat));
                }
                // Taken back already, for another reason: the attach may be on its way all the same.
                State::Leaving { .. } if !session.in_play => {
                    self.rerouting.insert(key);
                }
                State::Waiting { .. }
                | State::Finding(_)
                | State::Claiming { .. }
                | State::Attaching { .. }
                | State::Playing { .. }
                | State::Moving(_)
                | State::Lost { .. }
                | State::Leaving { .. } => {}
            }
        }
        for (key, seat) in stale {
            self.counters.rerouted += 1;
            self.rerouting.insert(key);
            self.doubt(key);
            self.leave(key, seat, Then::Replace { search: Search::default() }, cx);
        }
    }

    pub(super) fn acknowledge_if_due(&mut self, cx: &mut Cx<'_>) {
        let waits = self.unacknowledged && self.something_is_on_its_way();
        #[cfg(feature = "model")]
        let waits = waits && !self.config.sabotage.ack_without_waiting;
        if self.unacknowledged
            && !waits
            && let Some(generation) = self.generation()
        {
            self.unacknowledged = false;
            cx.out.push(Action::AckTable { generation });
        }
    }

    /// Somebody whom an older table sent to where nobody new goes any more may still get there: a new session whose attach
    /// is being taken back, or a hand-over from another environment; or nobody knows, because this gateway has just started
    /// and the world servers have not said yet whom they hold. Once it is there its row says so, and that row is
    /// before the acknowledgement: whoever has both knows that nobody comes after.
    fn something_is_on_its_way(&mut self) -> bool {
        let sessions = &self.sessions;
        self.crossing.retain(|key| sessions.get(key.index()).is_some_and(|s| matches!(s.state, State::Moving(_))));
        let unknown = matches!(self.warm, Warm::Not { .. });
        unknown || !self.rerouting.is_empty() || !self.crossing.is_empty()
    }

    /// Hand-overs to environments that accept no more, from others.
    fn note_crossings(&mut self) {
        let Some(table) = &self.table else { return };
        let crosses = |session: &Session| match &session.state {
            State::Moving(h) => {
                let to = h.permit.environment();
                !table.accepts(to) && session.pin.as_ref().is_none_or(|pin| pin.environment != *to)
            }
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Lost { .. }
            | State::Leaving { .. } => false,
        };
        let crossing = self.sessions.iter().filter(|(_, session)| crosses(session));
        self.crossing.extend(crossing.map(|(index, _)| SessionKey(super::servers::key_of(index).0)));
    }
}
