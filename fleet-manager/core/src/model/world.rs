//! The truth that the realm does not see: server processes, gateways with tables of their own, and the players.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, GatewayId, Generation, SessionId, SnapshotId, Timestamp, ZoneId};

use crate::effect::{Effect, ServersWanted};
use crate::input::{Check, Event};
use crate::model::dice::Dice;
use crate::observe::{
    Departed, GatewayObservation, OccupancyReport, ServerObservation, ServerReport, SessionObservation,
};
use crate::routing::RouteTable;
use crate::snapshot::SnapshotFacts;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Which build the first four are about.
    pub build: Option<BuildVersion>,
    /// One server says it runs something else.
    pub wrong_build: bool,
    /// One server loads something else.
    pub wrong_digest: bool,
    /// One server never gets past starting.
    pub never_ready: bool,
    /// A smoke test fails.
    pub smoke_fails: bool,
    /// So many snapshots fail.
    pub snapshot_failures: u32,
    /// So many clones fail.
    pub clone_failures: u32,
    /// A server dies this often in a thousand ticks.
    pub crashes: u32,
    /// A gateway loses the manager this often in a thousand ticks.
    pub deaf: u32,
    /// A move does not happen this often in a thousand.
    pub moves_fail: u32,
    /// A server's word does not come this often in a thousand.
    pub silent: u32,
}

/// A server process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) seen: ServerObservation,
    /// When it takes its next step towards serving.
    pub(super) next: Timestamp,
}

/// The servers of one environment.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) wanted: ServersWanted,
    pub(super) processes: Vec<Process>,
}

/// A gateway: it serves players by the table it has, whatever the manager thinks.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    pub(super) id: GatewayId,
    pub(super) connected: bool,
    pub(super) table: Option<RouteTable>,
    pub(super) incoming: Option<(Timestamp, RouteTable)>,
    pub(super) back: Timestamp,
}

/// A player's session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) environment: EnvironmentId,
    pub(super) gateway: usize,
    pub(super) row: SessionObservation,
    /// Being handed over to there, until then.
    pub(super) leaving: Option<(Timestamp, EnvironmentId, tidegate_types::Cause)>,
}

/// The truth.
#[derive(Debug, Clone)]
pub struct World {
    /// What goes wrong.
    pub faults: Faults,
    /// Sessions that begin in each tick.
    pub arrivals: u64,
    /// Notices that players got.
    pub notices: u64,
    /// Sessions that were ended by the manager.
    pub kicked: u64,
    /// Everything that must never happen and did.
    pub violations: Vec<String>,
    /// What is the gateways' to do, oldest first, for a simulation that brings gateways of its own; `None`: the world's
    /// gateways do it.
    pub for_gateways: Option<Vec<Effect>>,
    /// Players that such a simulation knows to be in an environment, beside the world's own.
    pub guests: BTreeMap<EnvironmentId, usize>,
    pub(super) dice: Dice,
    pub(super) deployments: BTreeMap<EnvironmentId, Deployment>,
    pub(super) gateways: Vec<Gateway>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) waits: BTreeMap<Generation, Timestamp>,
    pub(super) due: Vec<(Timestamp, Event)>,
    pub(super) departures: Vec<Departed>,
    pub(super) cut: BTreeMap<SnapshotId, SnapshotFacts>,
    pub(super) count: u128,
}

impl World {
    /// An empty world with two gateways.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let gateway = |name: &str| Gateway {
            id: name.parse().expect("a gateway's id"),
            connected: true,
            table: None,
            incoming: None,
            back: Timestamp(0),
        };
        Self {
            faults: Faults::default(),
            arrivals: 1,
            notices: 0,
            kicked: 0,
            violations: Vec::new(),
            for_gateways: None,
            guests: BTreeMap::new(),
            dice: Dice::new(seed),
            deployments: BTreeMap::new(),
            gateways: vec![gateway("gw-1"), gateway("gw-2")],
            sessions: BTreeMap::new(),
            waits: BTreeMap::new(),
            due: Vec::new(),
            departures: Vec::new(),
            cut: BTreeMap::new(),
            count: 0,
        }
    }

    /// How many players are truly in an environment.
    #[must_use]
    pub fn population(&self, environment: &EnvironmentId) -> usize {
        let guests = self.guests.get(environment).copied().unwrap_or(0);
        guests + self.sessions.values().filter(|s| s.environment == *environment).count()
    }

    /// Servers, gateways and deeds go well from here on.
    pub fn calm(&mut self) {
        self.faults = Faults::default();
        for gateway in &mut self.gateways {
            gateway.connected = true;
        }
    }

    /// Takes a gateway from the manager; it goes on serving by the table it has.
    pub fn cut_off(&mut self, gateway: usize, until: Timestamp) {
        self.gateways[gateway].connected = false;
        self.gateways[gateway].incoming = None;
        self.gateways[gateway].back = until;
    }

    /// The manager died: answers on their way to it are lost, or not.
    pub fn manager_died(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|_| self.dice.per_mille(500));
        self.due = due;
        self.waits.clear();
    }

    /// Does what the realm wants done. Repeating it does no harm.
    pub fn perform(&mut self, now: Timestamp, effect: Effect) {
        if let Some(theirs) = &mut self.for_gateways
            && is_for_gateways(&effect)
        {
            theirs.push(effect);
            return;
        }
        let soon = now + Duration::from_millis(200 + self.dice.below(800));
        match effect {
            Effect::PublishTable(table) => {
                for gateway in self.gateways.iter_mut().filter(|g| g.connected) {
                    let at = now + Duration::from_millis(self.dice.below(400));
                    gateway.incoming = Some((at, table.clone()));
                }
            }
            Effect::AwaitAcks { generation, deadline } => {
                self.waits.insert(generation, deadline);
            }
            Effect::EnsureServers(wanted) => self.ensure(now, wanted),
            Effect::StopServers { environment } => {
                let inside = self.population(&environment);
                if inside > 0 {
                    self.violations.push(format!("the servers of {environment} were stopped with {inside} players"));
                }
                self.deployments.remove(&environment);
                self.due.push((soon, Event::ServersStopped { environment }));
            }
            Effect::RunSmoke { environment, attempt } => {
                let build = self.deployments.get(&environment).map(|d| d.wanted.build.version.clone());
                let ok = !(self.faults.smoke_fails && build == self.faults.build);
                let why = if ok { "" } else { "the probe could not log in" };
                let check = Check { name: "login".to_owned(), ok, warning: false, why: why.to_owned() };
                self.due.push((soon, Event::SmokeDone { environment, attempt, checks: vec![check] }));
            }
            Effect::TakeSnapshot { snapshot, attempt, .. } => {
                let event = if self.faults.snapshot_failures > 0 {
                    self.faults.snapshot_failures -= 1;
                    Event::SnapshotFailed { snapshot, attempt, reason: "a server did not reach the barrier".to_owned() }
                } else {
                    let facts = self.cut.entry(snapshot.clone()).or_insert_with(|| cut(now)).clone();
                    Event::SnapshotDone { snapshot, attempt, facts }
                };
                self.due.push((soon, event));
            }
            Effect::CloneFrom { environment, attempt, .. } => {
                let event = if self.faults.clone_failures > 0 {
                    self.faults.clone_failures -= 1;
                    Event::CloneFailed { environment, attempt, reason: "no space".to_owned() }
                } else {
                    Event::CloneDone { environment, attempt }
                };
                self.due.push((soon, event));
            }
            Effect::Notify { sessions, .. } => self.notices += sessions.len() as u64,
            Effect::MoveSessions { environment, to, sessions, cause, .. } => {
                self.send_away(now, &environment, &to, &sessions, cause);
            }
            Effect::KickSessions { environment, sessions, .. } => self.kick(now, &environment, &sessions),
        }
    }

    /// Lets time pass, and says what the realm hears of it.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Event> {
        self.run_gateways(now);
        self.run_players(now);
        let sessions = std::mem::take(&mut self.sessions);
        let mut events = self.machines(now, |server| {
            let here = sessions.values().filter(|s| s.row.server == server.id);
            let players = u32::try_from(here.clone().count()).unwrap_or(u32::MAX);
            let in_handover = u32::try_from(here.filter(|s| s.leaving.is_some()).count()).unwrap_or(u32::MAX);
            Some(ServerReport { players, parked: 0, in_handover })
        });
        self.sessions = sessions;
        events.extend(self.acknowledgements(now));
        events.push(Event::Occupancy(self.occupancy()));
        events
    }

    fn run_gateways(&mut self, now: Timestamp) {
        let deaf = self.faults.deaf;
        for gateway in &mut self.gateways {
            if !gateway.connected && gateway.back <= now {
                gateway.connected = true;
            } else if gateway.connected && self.dice.per_mille(deaf) {
                gateway.connected = false;
                gateway.incoming = None;
                gateway.back = now + Duration::from_millis(500 + self.dice.below(8000));
            }
            if let Some((_, table)) = gateway.incoming.take_if(|(at, _)| *at <= now) {
                // Older is refused.
                if gateway.table.as_ref().is_none_or(|t| t.generation < table.generation) {
                    gateway.table = Some(table);
                }
            }
        }
    }

    /// A gateway that comes back is sent the table again, as the manager does on connect.
    pub fn greet(&mut self, now: Timestamp, table: &RouteTable) {
        for gateway in self.gateways.iter_mut().filter(|g| g.connected && g.incoming.is_none()) {
            if table.generation.0 > 0 && gateway.table.as_ref().is_none_or(|t| t.generation < table.generation) {
                gateway.incoming = Some((now, table.clone()));
            }
        }
    }

    fn acknowledgements(&mut self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let waits = std::mem::take(&mut self.waits);
        for (generation, deadline) in waits {
            let behind = |g: &&Gateway| g.connected && g.table.as_ref().is_none_or(|t| t.generation < generation);
            let missing: Vec<GatewayId> = self.gateways.iter().filter(behind).map(|g| g.id.clone()).collect();
            if missing.is_empty() || deadline <= now {
                events.push(Event::TableAcked { generation, missing, confirm_us: 1500 });
            } else {
                self.waits.insert(generation, deadline);
            }
        }
        events
    }

    /// What the manager hears of the sessions: those of gateways that are away are not in it.
    fn occupancy(&mut self) -> OccupancyReport {
        let gateways = self.gateways.iter().map(|g| GatewayObservation {
            id: g.id.clone(),
            connected: g.connected,
            complete: g.connected,
            generation: g.table.as_ref().map_or(Generation(0), |t| t.generation),
        });
        let mut report = OccupancyReport { gateways: gateways.collect(), ..OccupancyReport::default() };
        for session in self.sessions.values().filter(|s| self.gateways[s.gateway].connected) {
            *report.counts.entry(session.environment.clone()).or_default() += 1;
            report.sessions.entry(session.environment.clone()).or_default().push(session.row.clone());
        }
        report.departures = std::mem::take(&mut self.departures);
        report
    }
}

const fn is_for_gateways(effect: &Effect) -> bool {
    match effect {
        Effect::PublishTable(_)
        | Effect::AwaitAcks { .. }
        | Effect::Notify { .. }
        | Effect::MoveSessions { .. }
        | Effect::KickSessions { .. } => true,
        Effect::EnsureServers(_)
        | Effect::StopServers { .. }
        | Effect::RunSmoke { .. }
        | Effect::TakeSnapshot { .. }
        | Effect::CloneFrom { .. } => false,
    }
}

fn cut(now: Timestamp) -> SnapshotFacts {
    SnapshotFacts {
        taken: now,
        digest: "00".to_owned(),
        verified: true,
        verified_at: now,
        bytes: 1,
        blobs: 1,
        paused_ms: 1,
        problem: String::new(),
    }
}

/// A zone of the model's fleets.
pub(super) fn zone(name: &str) -> ZoneId {
    name.parse().expect("a zone's id")
}
