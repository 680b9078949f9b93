//! Several gateways: finding out where a character lives, and taking a player over from another gateway.
//!
//! ```text
//!            home, at X                                                        Attached
//!   Asking ------------> take over at X (or wait for X, or restore if X is dead) --------> held here
//!     |  nothing known, a stale epoch, directory out of reach                        |
//!     v                                                                              | refused: not there
//!   Searching: every world server of the table says whether it holds the character <-+
//!     |  nobody does
//!     v
//!   a new claim, above every epoch that anybody has seen
//! ```
//!
//! The directory is a hint. Who holds a player is the world server's word, and which epoch is valid the realm database's; so a
//! directory that forgot, or fell back to an older state, costs a search and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, Epoch, InstanceId, PartyId, ServerId};

use super::servers::Role;
use super::{Core, Cx};
use crate::action::{Action, SessionReport};
use crate::directory::{DirectoryOp, DirectoryOutcome, Entry, Home};
use crate::handover::{Event, Seat};
use crate::key::{ServerKey, SessionKey};
use crate::lease::with_drift;
use crate::message::{Channel, HoldReason, Pin, PlayerMessage, Refusal, RefusedReason, Resident, ToWorld};
use crate::session::{Ending, Finding, Search, Standing, State, Then};

/// How soon a home that could not be taken over now (its hand-over is under way) is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What the gateway does about a login while it cannot be known where the character lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownHome {
    /// Hold it until the directory answers.
    Wait,
    /// Ask every world server, and let the realm database's claim decide: slower, and it needs all world servers.
    Claim,
}

/// What a second login of a character that is connected already does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondLogin {
    /// It takes the session over.
    NewestWins,
    /// It is refused.
    Refuse,
}

impl Core {
    /// True if other gateways hold sessions of this realm too.
    pub(super) const fn is_shared(&self) -> bool {
        self.config.shared.is_some()
    }

    pub(super) fn home(&self, key: SessionKey, server: ServerId, instance: InstanceId, at: EnvironmentId) -> Home {
        let session = self.sessions[key.index()].id;
        Home { session, server, instance, environment: at, gateway: self.config.gateway.clone() }
    }

    /// It is not certain any more what has become of the session's claim: before another one it must be found out who holds
    /// the character, if anybody does.
    pub(super) fn doubt(&mut self, key: SessionKey) {
        if self.is_shared() {
            self.sessions[key.index()].known = false;
        }
    }

    /// Asks the directory where the character lives.
    pub(super) fn inquire(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.line.leave(key);
        let request = self.ask(key, DirectoryOp::Get, cx);
        let session = &mut self.sessions[key.index()];
        session.foreign = false;
        session.state = State::Finding(Finding::Asking { request });
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn on_found(&mut self, key: SessionKey, outcome: DirectoryOutcome, cx: &mut Cx<'_>) {
        match outcome {
            DirectoryOutcome::Done(_) => self.counters.strays += 1,
            DirectoryOutcome::Unavailable => match self.config.shared {
                Some(UnknownHome::Wait) => self.wait_for_directory(key, cx),
                Some(UnknownHome::Claim) | None => self.search(key, cx),
            },
            DirectoryOutcome::Found(Entry { epoch, home }) | DirectoryOutcome::Conflict(Entry { epoch, home }) => {
                let trusts = self.trusts_directory();
                let session = &mut self.sessions[key.index()];
                session.claimed = epoch;
                match (home, session.standing) {
                    (Some(home), _) => self.go_home(key, epoch, home, cx),
                    (None, Standing::Login) => {
                        session.known = true;
                        session.granted = Some(epoch);
                        session.epoch = session.epoch.max(epoch);
                        self.seek(key, Search::default(), None, cx);
                    }
                    // The session of the ticket ended.
                    (None, Standing::Resume) if epoch >= session.epoch || trusts => self.no_such_session(key, cx),
                    // Somebody had it after this gateway, and it ended.
                    (None, Standing::Held) if epoch > session.epoch => self.replaced(key, cx),
                    (None, Standing::Resume | Standing::Held) => self.search(key, cx),
                }
            }
        }
    }

    pub(super) fn wait_for_directory(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.sessions[key.index()].known = false;
        self.wait(key, HoldReason::Directory, Search::default(), None, cx);
    }

    /// The character lives there, as the directory or a world server says: goes on with it from here.
    fn go_home(&mut self, key: SessionKey, epoch: Epoch, home: Home, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        match session.standing {
            Standing::Held if home.gateway != self.config.gateway => return self.replaced(key, cx),
            // The directory knows no better than this gateway, whom a world server has just contradicted.
            Standing::Held => return self.search(key, cx),
            // The ticket was sealed at a higher epoch: the directory has gone back to an older state.
            Standing::Resume if epoch < session.epoch && !self.trusts_directory() => return self.search(key, cx),
            Standing::Resume if home.session != session.id => return self.no_such_session(key, cx),
            Standing::Resume | Standing::Login => {}
        }
        self.take_name(key, home.session, cx);
        let session = &mut self.sessions[key.index()];
        session.epoch = session.epoch.max(epoch);
        session.claimed = epoch;
        session.foreign = true;
        let pin = Pin { environment: home.environment, since: cx.now.wall, cause: Cause::Login, until: None };
        session.pin = Some(pin);
        let server = self.servers.ensure(&home.server);
        if self.servers.ready_instance(server) == Some(home.instance) {
            self.take_over_at(key, server, cx);
        } else {
            let search = Search::default();
            self.sessions[key.index()].state = State::Lost { server, instance: home.instance, search };
            self.tell_hold(key, HoldReason::HomeLost, cx);
            self.watch_foreign(key, cx);
        }
        self.dirty.insert(key);
    }

    /// The session is known to the world by this id.
    fn take_name(&mut self, key: SessionKey, id: tidegate_types::SessionId, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let old = std::mem::replace(&mut session.id, id);
        if old == id {
            return;
        }
        let was = session.reported.take();
        self.by_id.remove(&old);
        self.by_id.insert(id, key);
        if let Some(row) = was {
            self.count_row(Some(row.state), None);
            let gone = SessionReport::Gone { session: old, reason: "moved", environment: None, cause: None };
            cx.out.push(Action::Report(gone));
        }
    }

    /// Another gateway's home that cannot be reached from here: only its return or its death helps. That this gateway hears
    /// nothing of it proves nothing: another one may.
    pub(super) fn watch_foreign(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let State::Lost { server, instance, .. } = &session.state else { return };
        let named = self.servers.get(*server).and_then(|s| s.wanted.as_ref()).map(|target| target.instance);
        let dead = self.servers.is_dead(*server, *instance);
        let at = if dead {
            Some(cx.now.mono)
        } else if named == Some(*instance) {
            None
        } else {
            // The manager has replaced it, or taken it away; what it was is over when its leases are.
            session.step_at.or(Some(cx.now.mono + with_drift(self.config.lease)))
        };
        self.set_step(key, at);
    }

    /// After a new table: homes that were waited for may not be there any more.
    pub(super) fn watch_all_foreign(&mut self, cx: &mut Cx<'_>) {
        for key in self.keys_where(|session| session.foreign && matches!(session.state, State::Lost { .. })) {
            self.watch_foreign(key, cx);
        }
        for key in self.keys_where(|session| matches!(session.state, State::Finding(Finding::Searching { .. }))) {
            self.ask_servers(key, None, cx);
        }
    }

    fn keys_where(&self, is_it: impl Fn(&crate::session::Session) -> bool) -> Vec<SessionKey> {
        let those = self.sessions.iter().filter(|(_, session)| is_it(session));
        those.map(|(index, _)| SessionKey(super::servers::key_of(index).0)).collect()
    }

    fn take_over_at(&mut self, key: SessionKey, server: ServerKey, cx: &mut Cx<'_>) {
        let seat = self.servers.seat(server, key, Role::Home);
        let refuse = self.config.second_login == SecondLogin::Refuse;
        let pin = self.sessions[key.index()].pin.clone().unwrap_or_else(|| self.pin_on(server, cx));
        let session = &mut self.sessions[key.index()];
        session.epoch = session.epoch.max(session.claimed).next();
        session.foreign = true;
        let restart = std::mem::take(&mut session.restarting);
        session.asked.push(session.epoch);
        let is_login = session.standing == Standing::Login;
        let attach = ToWorld::Attach {
            identity: session.identity(pin),
            epoch: session.epoch,
            from: None,
            place: None,
            cause: if is_login { Cause::Login } else { Cause::Resume },
            take_over: true,
            refuse_connected: is_login && refuse,
            channel: match session.counts {
                // It was held here: what is known of its frames goes on being so.
                _ if session.standing == Standing::Held && !session.uncounted => {
                    let (up, down) = (session.window.received(), session.window.total_down());
                    Channel { up, down, restart, ..Channel::default() }
                }
                Some((received, _)) if !is_login => Channel { down: received, ..Channel::default() },
                Some(_) | None => Channel { restart: true, ..Channel::default() },
            },
        };
        session.state = State::Attaching { seat, permit: None, search: Search::default() };
        cx.tell_world(seat, attach);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    /// The world server has bound the player to this gateway. True if a player who was connected here all the time cannot go
    /// on counting.
    pub(super) fn took_over(
        &mut self,
        key: SessionKey,
        seat: Seat,
        (channel, pin, party): (&Channel, Option<Pin>, Option<PartyId>),
        cx: &mut Cx<'_>,
    ) -> bool {
        let session = &mut self.sessions[key.index()];
        if session.standing == Standing::Login {
            self.counters.takeovers += 1;
        } else {
            self.counters.resumes += 1;
        }
        self.counters.taken_over += 1;
        let was_held = session.standing == Standing::Held && !session.uncounted;
        session.foreign = false;
        session.standing = Standing::Held;
        session.known = true;
        session.in_play = true;
        session.claimed = session.epoch;
        session.generation = self.table.as_ref().map_or(session.generation, crate::table::RealmTable::generation);
        if pin.is_some() {
            session.pin = pin;
        }
        session.uncounted = false;
        let mut lost_frames = false;
        if was_held {
            lost_frames = session.window.rejoin(channel);
        } else {
            session.window.adopt(channel.up, channel.down);
        }
        if let Some((received, _)) = session.counts.filter(|_| !was_held) {
            session.gap = session.window.resume(received);
            self.counters.resume_gaps += u64::from(session.gap);
        }
        let (who, epoch) = (session.who.clone(), session.epoch);
        if session.party != party {
            self.change_party(key, party);
        }
        self.raise(key, who, epoch, seat.server, cx);
        lost_frames
    }

    fn change_party(&mut self, key: SessionKey, party: Option<PartyId>) {
        let old = std::mem::replace(&mut self.sessions[key.index()].party, party.clone());
        if let Some(old) = old
            && let Some(members) = self.parties.get_mut(&old)
        {
            members.remove(&key);
            if members.is_empty() {
                self.parties.remove(&old);
            }
        }
        if let Some(party) = party {
            self.parties.entry(party).or_default().insert(key);
        }
    }

    pub(super) fn raise(
        &mut self,
        key: SessionKey,
        who: crate::message::Who,
        epoch: Epoch,
        server: ServerKey,
        cx: &mut Cx<'_>,
    ) {
        let Some(environment) = self.sessions[key.index()].pin.as_ref().map(|pin| pin.environment.clone()) else {
            return;
        };
        let Some(instance) = self.servers.ready_instance(server) else { return };
        if let Some(id) = self.servers.get(server).map(|state| state.id.clone()) {
            let home = self.home(key, id, instance, environment);
            self.tell_directory(who, DirectoryOp::Raise { epoch, home }, cx);
        }
    }

    /// The world server would not give the player to this gateway. The seat is free already.
    pub(super) fn take_over_refused(&mut self, key: SessionKey, reason: Refusal, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Attaching { search, .. } = &mut session.state else { return };
        search.tries += 1;
        match reason {
            Refusal::PlayerOnline => {
                session.claimed = Epoch(0);
                self.turn_away(key, RefusedReason::AlreadyOnline, "the character is connected already".to_owned(), cx);
            }
            Refusal::StaleEpoch | Refusal::Unknown => self.search(key, cx),
            Refusal::NotReady
            | Refusal::Full
            | Refusal::WrongZone
            | Refusal::Format
            | Refusal::Digest
            | Refusal::Game => self.pause(key, cx),
        }
    }

    fn pause(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        session.foreign = false;
        session.state = State::Finding(Finding::Pausing);
        self.set_step(key, Some(cx.now.mono + AGAIN));
        self.dirty.insert(key);
    }

    /// Asks every world server whether it holds the character.
    pub(super) fn search(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.counters.searches += 1;
        self.line.leave(key);
        let id = self.next_ask;
        self.next_ask += 1;
        let session = &mut self.sessions[key.index()];
        (session.foreign, session.known) = (false, false);
        let highest = session.epoch.max(session.claimed);
        session.state = State::Finding(Finding::Searching { id, answered: BTreeSet::new(), best: None, highest });
        self.searching.insert(id, key);
        self.dirty.insert(key);
        self.ask_servers(key, None, cx);
    }

    /// Asks those that have not answered, or only `one` of them; concludes if nobody is left.
    pub(super) fn ask_servers(&mut self, key: SessionKey, one: Option<ServerKey>, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let (State::Finding(Finding::Searching { id, answered, .. }), Some(table)) = (&session.state, &self.table)
        else {
            return;
        };
        let mut waits = false;
        for (_, wanted) in table.servers() {
            let Some(server) = self.servers.key(&wanted.id) else { continue };
            // A dead process holds nobody.
            if answered.contains(&server) || self.servers.is_dead(server, wanted.instance) {
                continue;
            }
            waits = true;
            if one.is_none_or(|one| one == server) && self.servers.ready_instance(server).is_some() {
                let find = ToWorld::Find { id: *id, who: session.who.clone() };
                cx.tell_world(Seat { server, handle: 0 }, find);
            }
        }
        if waits {
            self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        } else {
            self.conclude(key, cx);
        }
    }

    /// A link is open: those who are searched for may be there.
    pub(super) fn search_on(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        let keys: Vec<SessionKey> = self.searching.values().copied().collect();
        for key in keys {
            self.ask_servers(key, Some(server), cx);
        }
    }

    /// That server's process is dead: it holds nobody.
    pub(super) fn search_without(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        let ids: Vec<u64> = self.searching.keys().copied().collect();
        for id in ids {
            self.on_answered(server, id, None, cx);
        }
    }

    pub(super) fn on_answered(&mut self, server: ServerKey, asked: u64, found: Option<Resident>, cx: &mut Cx<'_>) {
        let Some(key) = self.searching.get(&asked).copied() else { return };
        let State::Finding(Finding::Searching { id, answered, best, highest }) = &mut self.sessions[key.index()].state
        else {
            return;
        };
        if *id != asked || !answered.insert(server) {
            return;
        }
        if let Some(resident) = found {
            *highest = (*highest).max(resident.epoch);
            let better = best.as_ref().is_none_or(|(_, other)| other.epoch < resident.epoch);
            if !resident.prepared && better {
                *best = Some((server, resident));
            }
        }
        self.ask_servers(key, Some(server), cx);
    }

    fn conclude(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Finding(Finding::Searching { id, best, highest, .. }) = &mut session.state else { return };
        let (id, best, highest) = (*id, best.take(), *highest);
        self.searching.remove(&id);
        session.epoch = session.epoch.max(highest);
        match (best, session.standing) {
            (Some((server, resident)), standing) => {
                let elsewhere = resident.gateway.as_ref().is_some_and(|gateway| *gateway != self.config.gateway);
                // In play at an epoch that this gateway never had: another one has had the player since.
                let others = session.is_anothers(resident.epoch);
                match standing {
                    Standing::Held if elsewhere || others || resident.session != session.id => self.replaced(key, cx),
                    Standing::Resume if resident.session != session.id => self.no_such_session(key, cx),
                    Standing::Held | Standing::Resume | Standing::Login => {
                        self.go_to_resident(key, server, resident, cx)
                    }
                }
            }
            (None, Standing::Resume) => self.no_such_session(key, cx),
            // Another gateway has had the player since, and nobody has them now: what is known here is of before.
            (None, Standing::Held) if session.learnt.is_some_and(|learnt| session.is_anothers(learnt)) => {
                self.replaced(key, cx);
            }
            (None, Standing::Login | Standing::Held) => {
                session.known = true;
                // What was learnt before the search began: nobody plays the character at that epoch.
                session.granted = session.learnt.take().or(session.granted);
                self.seek(key, Search::default(), None, cx);
            }
        }
    }

    fn go_to_resident(&mut self, key: SessionKey, server: ServerKey, resident: Resident, cx: &mut Cx<'_>) {
        let pin = resident.pin.unwrap_or_else(|| self.pin_on(server, cx));
        self.take_name(key, resident.session, cx);
        let session = &mut self.sessions[key.index()];
        session.pin = Some(pin);
        match self.servers.ready_instance(server) {
            Some(_) => self.take_over_at(key, server, cx),
            None => self.inquire(key, cx),
        }
    }

    /// The step of a search has taken long.
    pub(super) fn on_finding_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let State::Finding(finding) = &self.sessions[key.index()].state else { return };
        match finding {
            Finding::Asking { request } => {
                let request = *request;
                self.ask_again(request, cx);
                self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
            }
            Finding::Searching { .. } => {
                self.tell_hold(key, HoldReason::HomeLost, cx);
                self.ask_servers(key, None, cx);
            }
            Finding::Pausing => self.inquire(key, cx),
        }
    }

    /// Another gateway has the player: the session is not this one's any more.
    pub(super) fn on_taken_over(&mut self, seat: Seat, cx: &mut Cx<'_>) {
        let Some(key) = self.session_at(seat) else { return };
        if let State::Moving(h) = &mut self.sessions[key.index()].state {
            if h.source != seat {
                self.counters.strays += 1;
                return;
            }
            h.unplug(seat);
            self.servers.free(seat);
            self.handover_event(key, Event::SourceLost, cx);
            // Once the directory was asked, its answer and the target's decide.
            if self.sessions.get(key.index()).is_some_and(|session| matches!(session.state, State::Lost { .. })) {
                self.replaced(key, cx);
            }
            return;
        }
        // What it was asked under this handle since is still answered: the handle is not for another before that.
        match &self.sessions[key.index()].state {
            State::Attaching { .. } | State::Leaving { then: Then::Replace { .. }, .. } => self.servers.close(seat),
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => self.servers.free(seat),
        }
        self.serve = true;
        self.replaced(key, cx);
    }

    /// The session goes on at another gateway; nothing is left of it here.
    pub(super) fn replaced(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.counters.replaced += 1;
        let ending = Ending { reason: "moved", message: "the session goes on at another gateway".to_owned() };
        self.farewell(key, &ending, cx);
        self.forget(key, cx);
    }

    /// The ticket's session is over, or never was.
    fn no_such_session(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.sessions[key.index()].claimed = Epoch(0);
        self.turn_away(key, RefusedReason::ResumeUnknown, "the session is over".to_owned(), cx);
    }

    /// Drops what is known of a session that is not this gateway's: neither the directory nor a world server is told.
    pub(super) fn forget(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        session.claimed = Epoch(0);
        session.leftover = None;
        if let State::Claiming { seat, .. } = &session.state {
            let seat = *seat;
            self.servers.give_back(seat, key);
        }
        self.finish(key, "moved", cx);
    }

    fn tell_hold(&mut self, key: SessionKey, reason: HoldReason, cx: &mut Cx<'_>) {
        if let Some(conn) = self.sessions[key.index()].conn {
            cx.out.push(Action::ToPlayer { conn, message: PlayerMessage::Hold { place: 0, reason } });
        }
    }
}
