//! What world servers say they hold when a link opens: homes that come back, leftovers of an older epoch, and players that
//! this gateway does not know because it was restarted. Knowledge goes upward only: a roster never lowers an epoch.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_types::{Cause, Epoch, InstanceId, SessionId};

use super::servers::Role;
use super::{Core, Cx, Warm};
use crate::directory::DirectoryOp;
use crate::handover::Seat;
use crate::key::{ServerKey, SessionKey};
use crate::message::{Channel, Pin, Resident, ToWorld, Who};
use crate::session::{Search, Standing, State};

impl Core {
    pub(super) fn on_roster_end(&mut self, server: ServerKey, cx: &mut Cx<'_>) {
        let Some((instance, roster)) = self.servers.roster_end(server) else { return };
        self.serve = true;
        let held: BTreeSet<SessionId> = roster.iter().filter(|r| !r.prepared).map(|r| r.session).collect();
        if let Warm::Not { found, .. } = &mut self.warm {
            found.extend(roster.into_iter().map(|resident| (server, resident)));
        } else {
            for resident in roster {
                self.reconcile(server, instance, resident, cx);
            }
        }
        // That run of the server is alive and does not hold them: they need not wait for its lease.
        let missing: Vec<SessionKey> = self
            .lost_on(server)
            .filter(|(key, of)| *of == instance && !held.contains(&self.sessions[key.index()].id))
            .map(|(key, _)| key)
            .collect();
        for key in missing {
            if self.sessions.get(key.index()).is_some_and(|session| !session.foreign) {
                // It may be on its way out there, or have been taken elsewhere.
                self.doubt(key);
                self.on_home_freed(key, cx);
            }
        }
        // Homes of other gateways that were out of reach from here: what has become of them is asked anew.
        let foreign: Vec<SessionKey> = self.lost_on(server).map(|(key, _)| key).collect();
        for key in foreign {
            if self.sessions.get(key.index()).is_some_and(|session| session.foreign) {
                self.inquire(key, cx);
            }
        }
        self.search_on(server, cx);
        self.warm_if_known(cx);
    }

    fn reconcile(&mut self, server: ServerKey, instance: InstanceId, resident: Resident, cx: &mut Cx<'_>) {
        let Some(key) = self.by_who.get(&resident.who).copied() else {
            // With other gateways around, a player comes back to one of them, which then takes it over.
            if !self.is_shared() {
                self.adopt(server, instance, resident, cx);
            }
            return;
        };
        if self.is_shared() && self.reconcile_shared(key, server, &resident, cx) {
            return;
        }
        let session = &self.sessions[key.index()];
        let waits_for_it = match &session.state {
            State::Lost { server: of, instance: run, .. } => (*of, *run) == (server, instance),
            State::Waiting { lost, .. } => *lost == Some((server, instance)),
            State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Leaving { .. } => false,
        };
        let current = resident.session == session.id && resident.epoch == session.epoch;
        if waits_for_it && current {
            if session.in_play || self.accepts_on(server) {
                self.regain(key, server, cx);
            } else {
                self.disown(key, server, cx);
            }
        } else if self.takes_stale(&resident) {
            self.rebind_stale(key, server, &resident, cx);
        } else if resident.prepared || resident.epoch < session.epoch {
            self.counters.stale_residents += 1;
            self.dismiss(server, key, resident.session, cx);
        } else {
            // The home that this session is about to get will have an epoch above this one. (An epoch that this gateway does
            // not know of was given by somebody else: the claim goes above that, too.) Then the server is to forget it.
            let session = &mut self.sessions[key.index()];
            session.epoch = session.epoch.max(resident.epoch);
            session.leftover = Some((server, resident.session));
        }
    }

    /// What several gateways must look at before. True: there is nothing more to do.
    fn reconcile_shared(&mut self, key: SessionKey, server: ServerKey, resident: &Resident, cx: &mut Cx<'_>) -> bool {
        let session = &self.sessions[key.index()];
        if session.standing != Standing::Held {
            // Whoever looks for it hears of it by its own question.
            return true;
        }
        let elsewhere = resident.gateway.as_ref().is_some_and(|gateway| *gateway != self.config.gateway);
        let lost_here = match &session.state {
            State::Lost { server: of, .. } => *of == server,
            State::Waiting { lost, .. } => lost.is_some_and(|(of, _)| of == server),
            State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Leaving { .. } => false,
        };
        let others = resident.epoch > session.epoch && (elsewhere || session.is_anothers(resident.epoch));
        if others && lost_here {
            self.replaced(key, cx);
            return true;
        }
        if others {
            return true;
        }
        // Another gateway's player is its own affair; if it is ours as well, the epochs decide when either goes on.
        elsewhere
    }

    /// A server holds a leftover of this player: it is to forget it. The leftover may be of an earlier session, and a server
    /// knows its players by their sessions.
    fn dismiss(&mut self, server: ServerKey, key: SessionKey, leftover: SessionId, cx: &mut Cx<'_>) {
        let seat = Seat { server, handle: 0 };
        let session = &self.sessions[key.index()];
        if session.id == leftover {
            self.tell_owner(seat, key, cx);
        } else {
            let owner = ToWorld::Owner { session: leftover, epoch: session.epoch, server: None };
            cx.tell_world(seat, owner);
        }
    }

    /// The server is in the environment that takes new sessions.
    pub(super) fn accepts_on(&self, server: ServerKey) -> bool {
        let (Some(state), Some(table)) = (self.servers.get(server), &self.table) else { return false };
        table.accepting().is_some_and(|e| e.servers.iter().any(|s| s.id == state.id))
    }

    /// A login whose attach arrived just before the link broke, in an environment that takes no logins any more: its player
    /// has seen nothing of it. The server is to forget it, and the search goes on above that epoch.
    fn disown(&mut self, key: SessionKey, server: ServerKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        session.epoch = session.epoch.next();
        let owner = ToWorld::Owner { session: session.id, epoch: session.epoch, server: None };
        cx.tell_world(Seat { server, handle: 0 }, owner);
        self.on_home_freed(key, cx);
    }

    #[cfg(feature = "model")]
    fn takes_stale(&self, resident: &Resident) -> bool {
        self.config.sabotage.skip_epoch_check && !resident.prepared
    }

    #[cfg(not(feature = "model"))]
    #[expect(clippy::unused_self, reason = "the twin with the feature reads the configuration")]
    fn takes_stale(&self, _: &Resident) -> bool {
        false
    }

    /// What a gateway that does not compare epochs would do. Reached by sabotage only.
    fn rebind_stale(&mut self, key: SessionKey, server: ServerKey, resident: &Resident, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let Some(pin) = session.pin.clone() else { return };
        let identity = session.identity(pin);
        let seat = self.servers.seat(server, key, Role::Target);
        let attach = ToWorld::Attach {
            identity,
            epoch: resident.epoch,
            from: None,
            place: None,
            cause: Cause::Resume,
            take_over: false,
            refuse_connected: false,
            channel: Channel::default(),
        };
        cx.tell_world(seat, attach);
        self.servers.close(seat);
    }

    /// The home is back, with the player still in it: go on there, under a new handle.
    pub(super) fn regain(&mut self, key: SessionKey, server: ServerKey, cx: &mut Cx<'_>) {
        self.line.leave(key);
        let seat = self.servers.seat(server, key, Role::Home);
        let session = &mut self.sessions[key.index()];
        let search = match &session.state {
            State::Lost { search, .. } | State::Waiting { search, .. } => search.clone(),
            State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Leaving { .. } => Search::default(),
        };
        let pin = session.pin.clone().unwrap_or_else(|| self.pin_on(server, cx));
        let session = &mut self.sessions[key.index()];
        session.pin.get_or_insert_with(|| pin.clone());
        let attach = ToWorld::Attach {
            identity: session.identity(pin),
            epoch: session.epoch,
            from: self.config.shared.map(|_| session.epoch),
            place: session.place.clone(),
            cause: Cause::Resume,
            take_over: false,
            refuse_connected: false,
            channel: Channel {
                up: session.window.received(),
                down: session.window.total_down(),
                restart: session.restarting,
                ..Channel::default()
            },
        };
        session.state = State::Attaching { seat, permit: None, search };
        cx.tell_world(seat, attach);
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    pub(super) fn pin_on(&self, server: ServerKey, cx: &Cx<'_>) -> Pin {
        let environment = self.servers.get(server).and_then(|state| {
            let table = self.table.as_ref()?;
            table.servers().find(|(_, s)| s.id == state.id).map(|(e, _)| e.id.clone())
        });
        let unknown = || tidegate_types::EnvironmentId::new("unknown").expect("a constant that is an id");
        Pin { environment: environment.unwrap_or_else(unknown), since: cx.now.wall, cause: Cause::Login, until: None }
    }

    /// Several servers may hold leftovers of one player.
    pub(super) fn adopt_found(&mut self, found: Vec<(ServerKey, Resident)>, cx: &mut Cx<'_>) {
        let mut by_who: BTreeMap<Who, Vec<(ServerKey, Resident)>> = BTreeMap::new();
        for (server, resident) in found {
            by_who.entry(resident.who.clone()).or_default().push((server, resident));
        }
        for (_, mut residents) in by_who {
            // The one that played it last comes first: held inert counts least; then the highest epoch.
            residents.sort_by_key(|(_, r)| (r.prepared, std::cmp::Reverse(r.epoch)));
            let highest = residents.iter().map(|(_, r)| r.epoch).max().unwrap_or_default();
            for (server, mut resident) in residents {
                let Some(instance) = self.servers.ready_instance(server) else { continue };
                if !self.by_who.contains_key(&resident.who) {
                    resident.epoch = highest;
                }
                self.reconcile(server, instance, resident, cx);
            }
        }
    }

    /// A player whom this gateway does not know: a session that lost its gateway, and with it its connection.
    ///
    /// What the roster says may be old: another server may have had the player since, and be down now. Only the realm
    /// database knows: the server is asked to go on with the player under an epoch above the roster's, which its game claims
    /// from exactly the one it holds; if that fails the player is loaded from its save.
    fn adopt(&mut self, server: ServerKey, instance: InstanceId, resident: Resident, cx: &mut Cx<'_>) {
        self.counters.adopted += 1;
        let mut session = self.blank(resident.session, resident.who.clone(), resident.party, cx);
        session.in_play = true;
        session.uncounted = true;
        session.held_at = (!resident.prepared).then_some(server);
        session.leftover = Some((server, resident.session));
        session.epoch = resident.epoch;
        session.claimed = resident.epoch;
        session.pin = Some(resident.pin.unwrap_or_else(|| self.pin_on(server, cx)));
        let key = self.insert(session);
        if let Some(state) = self.servers.get(server) {
            let environment = self.sessions[key.index()].pin.as_ref().map(|pin| pin.environment.clone());
            let environment = environment.unwrap_or_else(|| self.pin_on(server, cx).environment);
            let home = self.home(key, state.id.clone(), instance, environment);
            let op = DirectoryOp::Raise { epoch: resident.epoch, home };
            self.tell_directory(resident.who, op, cx);
        }
        self.start_grace(key, cx);
        self.seek(key, Search::default(), None, cx);
    }

    /// The session is at home elsewhere than where a roster had it: that server is to forget it.
    pub(super) fn disown_leftover(&mut self, key: SessionKey, home: ServerKey, cx: &mut Cx<'_>) {
        if let Some((server, leftover)) = self.sessions[key.index()].leftover.take()
            && server != home
            && self.servers.ready_instance(server).is_some()
        {
            self.dismiss(server, key, leftover, cx);
        }
    }

    pub(super) fn on_who_owns(&mut self, seat: Seat, session: SessionId, cx: &mut Cx<'_>) {
        match self.by_id.get(&session).copied() {
            // While a hand-over or a claim is under way the answer is about to change; the server asks again.
            Some(key) => match &self.sessions[key.index()].state {
                State::Playing { .. } => self.tell_owner(seat, key, cx),
                State::Waiting { .. }
                | State::Finding(_)
                | State::Claiming { .. }
                | State::Attaching { .. }
                | State::Moving(_)
                | State::Lost { .. }
                | State::Leaving { .. } => {}
            },
            None if matches!(self.warm, Warm::Done) => {
                cx.tell_world(seat, ToWorld::Owner { session, epoch: Epoch(0), server: None });
            }
            None => {}
        }
    }

    fn tell_owner(&mut self, seat: Seat, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let server = session.server().and_then(|server| self.servers.get(server)).map(|s| s.id.clone());
        let owner = ToWorld::Owner { session: session.id, epoch: session.epoch, server };
        cx.tell_world(seat, owner);
    }
}
