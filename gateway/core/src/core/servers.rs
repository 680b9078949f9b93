//! The world servers, their links and the handles in use on them. Knows no session but by key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slab::Slab;
use tidegate_types::{EnvironmentId, InstanceId, Mono, ServerId};

use crate::action::DialTarget;
use crate::decide::{Occupancy, Seats};
use crate::handover::Seat;
use crate::key::{ServerKey, SessionKey};
use crate::lease::Lease;
use crate::message::{Place, Resident};
use crate::session::InstanceKey;

/// Most residents of one roster: what one server may hold, many times over.
const MAX_ROSTER: usize = 100_000;

/// The lease of a run that is certainly dead ended long ago.
const DEAD: Mono = Mono(0);

/// All world servers of the realm that matter now.
#[derive(Debug, Default)]
pub(super) struct Servers {
    slab: Slab<ServerState>,
    by_id: BTreeMap<ServerId, ServerKey>,
    instances: BTreeMap<InstanceKey, (ServerKey, BTreeSet<SessionKey>)>,
}

/// One world server.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) id: ServerId,
    /// Where the table says it is; `None`: not in the table.
    pub(super) wanted: Option<DialTarget>,
    pub(super) link: Link,
    handles: Slab<Use>,
    /// The last run whose link broke or that was reported dead, and when its lease ends.
    past: Option<(InstanceId, Mono)>,
}

/// The link to a world server.
#[derive(Debug)]
pub(super) enum Link {
    Idle,
    Dialing,
    Up {
        instance: InstanceId,
        lease: Lease,
        /// The roster so far; `None`: it is complete.
        roster: Option<Vec<Resident>>,
    },
}

/// What a handle is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A player's home, or about to be, or about to be left.
    Home,
    /// The target of a hand-over.
    Target,
    /// Told to abort or to release; free when it answers.
    Closing,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) session: Option<SessionKey>,
    pub(super) role: Role,
}

impl Servers {
    pub(super) fn key(&self, id: &ServerId) -> Option<ServerKey> {
        self.by_id.get(id).copied()
    }

    pub(super) fn get(&self, key: ServerKey) -> Option<&ServerState> {
        self.slab.get(key.index())
    }

    pub(super) fn get_mut(&mut self, key: ServerKey) -> Option<&mut ServerState> {
        self.slab.get_mut(key.index())
    }

    pub(super) fn keys(&self) -> Vec<ServerKey> {
        self.slab.iter().map(|(index, _)| key_of(index)).collect()
    }

    pub(super) fn any_unwanted(&self) -> bool {
        self.slab.iter().any(|(_, state)| state.wanted.is_none())
    }

    pub(super) fn ensure(&mut self, id: &ServerId) -> ServerKey {
        if let Some(key) = self.key(id) {
            return key;
        }
        let key = key_of(self.slab.insert(ServerState {
            id: id.clone(),
            wanted: None,
            link: Link::Idle,
            handles: Slab::new(),
            past: None,
        }));
        self.by_id.insert(id.clone(), key);
        key
    }

    pub(super) fn remove(&mut self, key: ServerKey) {
        if let Some(state) = self.slab.try_remove(key.index()) {
            self.by_id.remove(&state.id);
            self.instances.retain(|_, (host, _)| *host != key);
        }
    }

    /// The run whose link is up and whose roster is known.
    pub(super) fn ready_instance(&self, key: ServerKey) -> Option<InstanceId> {
        match &self.get(key)?.link {
            Link::Up { instance, roster: None, .. } => Some(*instance),
            Link::Up { .. } | Link::Idle | Link::Dialing => None,
        }
    }

    /// Takes a handle on the link.
    pub(super) fn seat(&mut self, server: ServerKey, session: SessionKey, role: Role) -> Seat {
        let handles = &mut self.slab[server.index()].handles;
        Seat { server, handle: key_of(handles.insert(Use { session: Some(session), role })).0 }
    }

    pub(super) fn usage(&self, server: ServerKey, handle: u32) -> Option<Use> {
        self.get(server)?.handles.get(handle as usize).copied()
    }

    pub(super) fn set_role(&mut self, seat: Seat, role: Role) {
        if let Some(usage) = self.get_mut(seat.server).and_then(|s| s.handles.get_mut(seat.handle as usize)) {
            usage.role = role;
        }
    }

    /// The session is done with the handle, the server is not: it answers `Aborted` or `Released` yet.
    pub(super) fn close(&mut self, seat: Seat) {
        if let Some(usage) = self.get_mut(seat.server).and_then(|s| s.handles.get_mut(seat.handle as usize)) {
            *usage = Use { session: None, role: Role::Closing };
        }
    }

    /// Frees a seat that was kept for a session, if it still is: a broken link has freed it already.
    pub(super) fn give_back(&mut self, seat: Seat, session: SessionKey) {
        if self.usage(seat.server, seat.handle).is_some_and(|usage| usage.session == Some(session)) {
            self.free(seat);
        }
    }

    pub(super) fn free(&mut self, seat: Seat) {
        if let Some(state) = self.get_mut(seat.server) {
            state.handles.try_remove(seat.handle as usize);
        }
    }

    pub(super) fn link_up(&mut self, key: ServerKey, instance: InstanceId, now: Mono, lease: Duration) {
        if let Some(state) = self.get_mut(key) {
            state.handles.clear();
            state.link = Link::Up { instance, lease: Lease::opened(now, lease), roster: Some(Vec::new()) };
        }
    }

    pub(super) fn resident(&mut self, key: ServerKey, resident: Resident) {
        if let Some(Link::Up { roster: Some(roster), .. }) = self.get_mut(key).map(|s| &mut s.link)
            && roster.len() < MAX_ROSTER
        {
            roster.push(resident);
        }
    }

    /// The roster is complete: gives it.
    pub(super) fn roster_end(&mut self, key: ServerKey) -> Option<(InstanceId, Vec<Resident>)> {
        match self.get_mut(key).map(|s| &mut s.link) {
            Some(Link::Up { instance, roster, .. }) => Some((*instance, roster.take()?)),
            Some(Link::Idle | Link::Dialing) | None => None,
        }
    }

    /// The link is gone, and with it all handles: gives the run, and who used which handle for what.
    pub(super) fn link_gone(&mut self, key: ServerKey) -> Option<(InstanceId, Vec<(u32, Use)>)> {
        let state = self.get_mut(key)?;
        let link = std::mem::replace(&mut state.link, Link::Idle);
        match link {
            Link::Up { instance, lease, .. } => {
                let over = match state.past {
                    Some((past, DEAD)) if past == instance => DEAD,
                    Some(_) | None => lease.over_at(),
                };
                state.past = Some((instance, over));
                let uses = state.handles.iter().map(|(index, usage)| (key_of(index).0, *usage)).collect();
                state.handles.clear();
                Some((instance, uses))
            }
            Link::Idle | Link::Dialing => None,
        }
    }

    /// That run is certainly dead.
    pub(super) fn mark_dead(&mut self, key: ServerKey, instance: InstanceId) {
        if let Some(state) = self.get_mut(key) {
            state.past = Some((instance, DEAD));
        }
    }

    /// That run is known to be dead.
    pub(super) fn is_dead(&self, key: ServerKey, instance: InstanceId) -> bool {
        self.get(key).is_some_and(|state| state.past == Some((instance, DEAD)))
    }

    /// From when on that run certainly does not simulate this gateway's players: the end of its lease.
    pub(super) fn free_at(&self, key: ServerKey, instance: InstanceId, now: Mono, lease: Duration) -> Mono {
        let Some(state) = self.get(key) else { return now + crate::lease::with_drift(lease) };
        match (&state.link, state.past) {
            (_, Some((past, over))) if past == instance && !state.is_up(instance) => over,
            (Link::Up { instance: up, lease, .. }, _) if *up == instance => lease.over_at(),
            // Not the last run we knew: be patient rather than wrong.
            _ => now + crate::lease::with_drift(lease),
        }
    }

    pub(super) fn enter_instance(&mut self, key: &InstanceKey, server: ServerKey, session: SessionKey) {
        let (host, members) = self.instances.entry(key.clone()).or_insert_with(|| (server, BTreeSet::new()));
        if members.is_empty() || *host == server {
            *host = server;
            members.insert(session);
        }
    }

    pub(super) fn leave_instance(&mut self, key: &InstanceKey, session: SessionKey) {
        if let Some((_, members)) = self.instances.get_mut(key) {
            members.remove(&session);
            if members.is_empty() {
                self.instances.remove(key);
            }
        }
    }
}

impl ServerState {
    pub(super) fn is_up(&self, run: InstanceId) -> bool {
        matches!(self.link, Link::Up { instance, .. } if instance == run)
    }

    pub(super) fn in_use(&self) -> bool {
        !self.handles.is_empty()
    }
}

impl Seats for Servers {
    fn occupancy(&self, server: &ServerId) -> Option<Occupancy> {
        let key = self.key(server)?;
        self.ready_instance(key)?;
        let players = u32::try_from(self.get(key)?.handles.len()).unwrap_or(u32::MAX);
        Some(Occupancy { key, players })
    }

    fn instance_host(&self, environment: &EnvironmentId, place: &Place) -> Option<ServerKey> {
        self.instances.get(&(environment.clone(), place.clone())).map(|(host, _)| *host)
    }
}

pub(super) fn key_of(index: usize) -> ServerKey {
    ServerKey(u32::try_from(index).expect("a slab of servers or handles stays below 2^32"))
}
