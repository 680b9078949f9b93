//! World servers of the model: what the world SDK does, in small.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidegate_window::{Backlog, Limits};
use tidegate_types::{Cause, EnvironmentId, Epoch, InstanceId, Mono, PartyId, ServerId, SessionId, ZoneId};

use super::database::Character;
use super::wires::Up;
use super::{World, zone};
use crate::message::{Channel, FromWorld, Pin, Place, Resident, Who};

/// One run of one world server.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ServerId,
    pub(super) environment: EnvironmentId,
    pub(super) run: InstanceId,
    pub(super) zones: Vec<ZoneId>,
    pub(super) capacity: u32,
    pub(super) alive: bool,
    /// Runs that died and were not reported.
    pub(super) unreported: Vec<InstanceId>,
    pub(super) link: Option<u32>,
    pub(super) beat_at: Mono,
    pub(super) lease_until: Mono,
    /// What it will refuse next.
    pub(super) refuse: Option<Refuse>,
    pub(super) held: BTreeMap<Who, Held>,
}

/// A request that a world server will refuse, or not answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuse {
    Attach,
    Freeze,
    Prepare,
    /// The next request gets no answer and no effect.
    Silence,
    /// It dies on `Activate`.
    DieOnActivate,
}

/// A player on a world server.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) session: SessionId,
    pub(super) party: Option<PartyId>,
    pub(super) pin: Pin,
    pub(super) handle: Option<u32>,
    pub(super) epoch: Epoch,
    pub(super) mode: Mode,
    pub(super) parked: bool,
    pub(super) character: Character,
    /// Frames that came while it may not simulate.
    pub(super) inbox: VecDeque<Bytes>,
    /// The transfer it asked for last.
    pub(super) asked: Option<Place>,
    /// Frames of this session that took effect at its homes.
    pub(super) up: u64,
    /// Frames for the player that it has not acknowledged.
    pub(super) down: Backlog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Live,
    Frozen,
    Prepared,
}

impl Held {
    /// As a roster tells of it.
    pub(super) fn resident(&self, who: &Who) -> Resident {
        Resident {
            session: self.session,
            who: who.clone(),
            party: self.party.clone(),
            epoch: self.epoch,
            zone: Some(self.character.place.zone.clone()),
            frozen: self.mode == Mode::Frozen,
            prepared: self.mode == Mode::Prepared,
            pin: Some(self.pin.clone()),
            gateway: None,
        }
    }
}

/// The frames for a player that a home keeps, as they were when it became one.
pub(super) fn backlog(channel: &Channel) -> Backlog {
    let mut down = Backlog::new(Limits { frames: 256, bytes: 64 * 1024 });
    down.adopt(channel.down, channel.frames.iter().map(|frame| &frame[..]));
    down
}

impl Process {
    pub(super) fn new(id: ServerId, environment: EnvironmentId, run: u128, zones: Vec<ZoneId>, capacity: u32) -> Self {
        Self {
            id,
            environment,
            run: super::manager::run(run),
            zones,
            capacity,
            alive: true,
            unreported: Vec::new(),
            link: None,
            beat_at: Mono(0),
            lease_until: Mono(0),
            refuse: None,
            held: BTreeMap::new(),
        }
    }

    /// Whom it simulates at this moment.
    pub(super) fn simulated(&self, now: Mono) -> impl Iterator<Item = &Who> {
        let may = self.alive && now < self.lease_until;
        self.held.iter().filter(move |(_, h)| may && h.mode == Mode::Live && !h.parked).map(|(who, _)| who)
    }

    /// The link is gone: everyone is parked.
    pub(super) fn unlink(&mut self) {
        self.link = None;
        self.lease_until = Mono(0);
        for held in self.held.values_mut() {
            held.parked = true;
            held.handle = None;
            held.asked = None;
            held.inbox.clear();
        }
    }

    /// A new link: everyone is parked, and told of.
    pub(super) fn relink(&mut self, link: u32) -> Vec<Resident> {
        self.unlink();
        self.link = Some(link);
        self.beat_at = Mono(0);
        self.held.iter().map(|(who, held)| held.resident(who)).collect()
    }

    pub(super) fn serves(&self, place: &Place) -> bool {
        if place.instance.is_some() { place.zone == zone("dungeon") } else { self.zones.contains(&place.zone) }
    }

    pub(super) fn at(&mut self, handle: u32) -> Option<(&Who, &mut Held)> {
        self.held.iter_mut().find(|(_, held)| held.handle == Some(handle))
    }

    pub(super) fn takes(&mut self, what: Refuse) -> bool {
        if self.refuse == Some(what) {
            self.refuse = None;
            return false;
        }
        true
    }
}

impl World {
    /// A world server wants something.
    pub(super) fn server_acts(&mut self, n: usize) {
        let alive: Vec<ServerId> =
            self.processes.values().filter(|p| p.alive && p.link.is_some()).map(|p| p.id.clone()).collect();
        if alive.is_empty() {
            return;
        }
        let server = alive[n % alive.len()].clone();
        let now = self.now.mono;
        let process = &self.processes[&server];
        let Some(id) = process.link else { return };
        if n.is_multiple_of(5) {
            let left: Vec<(u32, SessionId, Epoch)> = process
                .held
                .values()
                .filter(|h| h.mode != Mode::Live)
                .filter_map(|h| Some((h.handle?, h.session, h.epoch)))
                .collect();
            if let Some(link) = self.links.get_mut(&id).filter(|link| !link.broken) {
                for (handle, session, epoch) in left {
                    link.send_up(handle, Up::Control(Box::new(FromWorld::WhoOwns { session, epoch, handle })));
                }
            }
            return;
        }
        if now >= process.lease_until {
            return;
        }
        let zones = ["common", "zone-0", "zone-1", "entry"];
        let (to, cause) = if n.is_multiple_of(3) {
            let instance = Some(format!("run-{}", n / 64 % 2));
            (Place { zone: zone("dungeon"), instance }, Cause::Instance)
        } else {
            let cause = if n.is_multiple_of(2) { Cause::Zone } else { Cause::Respawn };
            (Place { zone: zone(zones[n / 64 % zones.len()]), instance: None }, cause)
        };
        let free: Vec<(Who, Option<PartyId>)> = process
            .held
            .iter()
            .filter(|(_, h)| h.mode == Mode::Live && h.handle.is_some() && !h.parked && h.asked.is_none())
            .map(|(who, h)| (who.clone(), h.party.clone()))
            .collect();
        let Some((who, party)) = free.get(n / 8 % free.len().max(1)).cloned() else { return };
        // A party goes together, as far as it is here.
        let group: Vec<Who> = free
            .into_iter()
            .filter(|(other, p)| *other == who || (party.is_some() && *p == party))
            .map(|(other, _)| other)
            .collect();
        let Some(process) = self.processes.get_mut(&server) else { return };
        let mut handles = Vec::new();
        for who in &group {
            if let Some(held) = process.held.get_mut(who) {
                held.asked = Some(to.clone());
                handles.extend(held.handle);
            }
        }
        for who in group {
            self.allow_boundary(&who, cause);
        }
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.broken)
            && let Some(first) = handles.first().copied()
        {
            link.send_up(first, Up::Control(Box::new(FromWorld::Transfer { handles, to, cause })));
        }
    }

    pub(super) fn refuse_next(&mut self, n: usize) {
        let ids: Vec<ServerId> = self.processes.keys().cloned().collect();
        let refuse = [Refuse::Attach, Refuse::Freeze, Refuse::Prepare, Refuse::Silence, Refuse::DieOnActivate];
        if let Some(process) = self.processes.get_mut(&ids[n % ids.len()]) {
            process.refuse = Some(refuse[n / 16 % refuse.len()]);
        }
    }

    /// The process dies; nobody knows yet.
    pub(super) fn kill(&mut self, server: &ServerId) {
        let Some(process) = self.processes.get_mut(server).filter(|p| p.alive) else { return };
        process.alive = false;
        process.refuse = None;
        process.unreported.push(process.run);
        process.held.clear();
        let link = process.link.take();
        process.lease_until = Mono(0);
        if let Some(link) = link
            && let Some(state) = self.links.get_mut(&link)
        {
            state.cut();
            state.world = false;
            self.forget_link(link);
        }
    }
}
