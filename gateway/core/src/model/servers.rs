//! World servers of the model: what the world SDK does, in small.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidegate_types::{Cause, EnvironmentId, Epoch, GatewayId, InstanceId, Mono, PartyId, ServerId, SessionId, ZoneId};
use tidegate_window::{Backlog, Limits};

use super::database::Character;
use super::wires::Up;
use super::{ORPHANS, World, zone};
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
    /// It lives and does nothing: not even its time passes.
    pub(super) stopped: bool,
    /// The lease of each of its links.
    pub(super) leases: BTreeMap<u32, Lease>,
    pub(super) beat_at: Mono,
    /// The highest epoch at which each character was seen to live here.
    pub(super) seen: BTreeMap<Who, Epoch>,
    /// Link and handle of players whom another link has taken over: nothing more is said about them.
    pub(super) taken: BTreeSet<(u32, u32)>,
    /// What it will refuse next.
    pub(super) refuse: Option<Refuse>,
    pub(super) held: BTreeMap<Who, Held>,
}

/// What a world server knows of a link.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) gateway: GatewayId,
    /// The gateway's run.
    pub(super) run: u64,
    pub(super) until: Mono,
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
    /// Link and handle.
    pub(super) at: Option<(u32, u32)>,
    /// The run of the gateway whose epoch it is.
    pub(super) run: u64,
    /// Prepared: from exactly which epoch it is to be claimed.
    pub(super) from: Option<Epoch>,
    /// On no link: until when it is kept.
    pub(super) kept_until: Option<Mono>,
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
    pub(super) fn resident(&self, who: &Who, gateway: Option<GatewayId>) -> Resident {
        Resident {
            session: self.session,
            who: who.clone(),
            party: self.party.clone(),
            epoch: self.epoch,
            zone: Some(self.character.place.zone.clone()),
            frozen: self.mode == Mode::Frozen,
            prepared: self.mode == Mode::Prepared,
            pin: Some(self.pin.clone()),
            gateway,
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
            stopped: false,
            leases: BTreeMap::new(),
            beat_at: Mono(0),
            seen: BTreeMap::new(),
            taken: BTreeSet::new(),
            refuse: None,
            held: BTreeMap::new(),
        }
    }

    /// True if it does what processes do by themselves.
    pub(super) const fn beats(&self) -> bool {
        self.alive && !self.stopped
    }

    /// True while a link holds the player under a valid lease.
    pub(super) fn is_reachable(&self, held: &Held, now: Mono) -> bool {
        held.at.and_then(|(link, _)| self.leases.get(&link)).is_some_and(|lease| now < lease.until)
    }

    /// Whom it simulates at this moment.
    pub(super) fn simulated(&self, now: Mono) -> impl Iterator<Item = &Who> {
        let live = move |held: &Held| held.mode == Mode::Live && !held.parked && self.is_reachable(held, now);
        self.held.iter().filter(move |(_, held)| self.beats() && live(held)).map(|(who, _)| who)
    }

    /// The run of the gateway at the other end.
    pub(super) fn run_of(&self, link: u32) -> u64 {
        self.leases.get(&link).map_or(0, |lease| lease.run)
    }

    /// The link is gone: everyone on it is parked.
    pub(super) fn unlink(&mut self, link: u32) {
        self.leases.remove(&link);
        self.taken.retain(|(of, _)| *of != link);
        for held in self.held.values_mut().filter(|held| held.at.is_some_and(|(of, _)| of == link)) {
            held.parked = true;
            held.at = None;
            held.asked = None;
            held.inbox.clear();
        }
    }

    /// A new link, told of everyone.
    pub(super) fn relink(&mut self, link: u32, gateway: GatewayId, run: u64, now: Mono) -> Vec<Resident> {
        self.leases.insert(link, Lease { gateway, run, until: Mono(0) });
        self.beat_at = Mono(0);
        self.held.keys().filter_map(|who| self.find(who, now)).collect()
    }

    /// What it says of a character.
    pub(super) fn find(&self, who: &Who, now: Mono) -> Option<Resident> {
        let held = self.held.get(who)?;
        let link = held.at.filter(|_| self.is_reachable(held, now)).and_then(|(link, _)| self.leases.get(&link));
        Some(held.resident(who, link.map(|lease| lease.gateway.clone())))
    }

    pub(super) fn highest(&self, who: &Who) -> Epoch {
        self.seen.get(who).copied().unwrap_or_default()
    }

    pub(super) fn saw(&mut self, who: &Who, epoch: Epoch) {
        let highest = self.seen.entry(who.clone()).or_default();
        *highest = epoch.max(*highest);
    }

    pub(super) fn serves(&self, place: &Place) -> bool {
        if place.instance.is_some() { place.zone == zone("dungeon") } else { self.zones.contains(&place.zone) }
    }

    pub(super) fn at(&mut self, link: u32, handle: u32) -> Option<(&Who, &mut Held)> {
        self.held.iter_mut().find(|(_, held)| held.at == Some((link, handle)))
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
            self.processes.values().filter(|p| p.beats() && !p.leases.is_empty()).map(|p| p.id.clone()).collect();
        if alive.is_empty() {
            return;
        }
        let server = alive[n % alive.len()].clone();
        let now = self.now.mono;
        let process = &self.processes[&server];
        let links: Vec<u32> = process.leases.keys().copied().collect();
        let id = links[n / 16 % links.len()];
        if n.is_multiple_of(5) {
            let left: Vec<(u32, SessionId, Epoch)> = process
                .held
                .values()
                .filter(|h| h.mode != Mode::Live)
                .filter_map(|h| match h.at {
                    Some((link, handle)) => (link == id).then_some((handle, h.session, h.epoch)),
                    None => self.is_shared().then_some((0, h.session, h.epoch)),
                })
                .collect();
            if let Some(link) = self.links.get_mut(&id).filter(|link| !link.broken) {
                for (handle, session, epoch) in left {
                    link.send_up(handle, Up::Control(Box::new(FromWorld::WhoOwns { session, epoch, handle })));
                }
            }
            return;
        }
        if now >= process.leases[&id].until {
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
            .filter(|(_, h)| {
                h.mode == Mode::Live && h.at.is_some_and(|(link, _)| link == id) && !h.parked && h.asked.is_none()
            })
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
                handles.extend(held.at.map(|(_, handle)| handle));
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
        let links: Vec<u32> = std::mem::take(&mut process.leases).into_keys().collect();
        for link in links {
            if let Some(state) = self.links.get_mut(&link) {
                state.cut();
                state.world = false;
                self.forget_link(link);
            }
        }
    }

    /// Players who have been on no link for long leave.
    pub(super) fn drop_orphans(&mut self) {
        let now = self.now.mono;
        for process in self.processes.values_mut().filter(|p| p.beats()) {
            let mut over = Vec::new();
            for (who, held) in process.held.iter_mut().filter(|(_, held)| held.at.is_none()) {
                if now >= *held.kept_until.get_or_insert(now + ORPHANS) {
                    over.push(who.clone());
                }
            }
            for who in over {
                if let Some(held) = process.held.remove(&who).filter(|held| held.mode == Mode::Live) {
                    self.database.save(&who, held.epoch, &held.character);
                }
            }
        }
    }
}
