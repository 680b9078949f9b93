//! What the shell saw: servers, gateways, sessions. Observation is never stored; after a restart everything is unknown
//! until it is seen again, and unknown means occupied (invariant 9 of ARCHITECTURE.md).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_types::{
    BuildVersion, EnvironmentId, FleetName, GatewayId, Generation, InstanceId, PartyId, PlayerId, RolloutId, ServerId,
    SessionId, Timestamp, ZoneId,
};

use crate::drain::Departure;

/// Where one server process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Its process starts; it has not registered.
    Starting,
    /// Registered; assets or zones are not loaded yet.
    Loading,
    /// Everything is loaded; it was not told to serve yet, or has not begun.
    Loaded,
    /// Takes players.
    Serving,
    /// Running, but its stream to the manager is broken or its reports are late.
    Unreachable,
    /// Its process is gone (reaped); perhaps it will be started again.
    Exited,
    /// Was told to stop.
    Stopping,
}

/// What a server says of its assets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assets {
    /// Nothing yet.
    NotLoaded,
    /// Loaded, with this digest of what it read.
    Loaded([u8; 32]),
    /// Loading failed, and why.
    Failed(String),
}

/// A server's own word about who is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerReport {
    /// Held: live, parked, frozen or prepared.
    pub players: u32,
    /// Of these, parked.
    pub parked: u32,
    /// Frozen or prepared: in a hand-over whose end is not known there yet.
    pub in_handover: u32,
}

/// One server, as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerObservation {
    /// Its id.
    pub id: ServerId,
    /// The fleet it belongs to.
    pub fleet: FleetName,
    /// Where its process is.
    pub state: ServerState,
    /// This run of its process; `None` until it registered.
    pub instance: Option<InstanceId>,
    /// Where its link listens, "host:port"; `None` until it registered.
    pub address: Option<String>,
    /// The certificate name to expect on the link.
    pub tls_name: String,
    /// The build it says it is; `None` until it registered.
    pub build: Option<BuildVersion>,
    /// What it says of its assets.
    pub assets: Assets,
    /// Shared zones it serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance it hosts.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players it takes.
    pub capacity: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// Its own word about who is on it; `None`: not known now.
    pub report: Option<ServerReport>,
    /// Why it is not well; empty: it is.
    pub reason: String,
}

/// All servers of one environment that the supervisor knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentObservation {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its servers. One that is missing here does not exist (any more).
    pub servers: Vec<ServerObservation>,
}

/// One session in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionObservation {
    /// Its id.
    pub session: SessionId,
    /// Who plays.
    pub player: PlayerId,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// Its home.
    pub server: ServerId,
    /// Where it is.
    pub zone: ZoneId,
    /// "shared", or the instance's kind.
    pub zone_kind: String,
    /// In something that should not be interrupted (a raid in combat).
    pub busy: bool,
    /// When the player last did anything.
    pub active: Timestamp,
    /// In a hand-over now.
    pub moving: bool,
}

/// One gateway, as far as a realm cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayObservation {
    /// Its id.
    pub id: GatewayId,
    /// Its stream is open.
    pub connected: bool,
    /// It has sent its full list of sessions since it connected.
    pub complete: bool,
    /// The generation of this realm's table that it acknowledged; zero: none.
    pub generation: Generation,
}

/// Who is where, by the gateways' word.
///
/// The shell must list **every** gateway that it has ever known and that an operator has not had it forget, with
/// `connected: false` for those that are away, after its own restart too: a gateway that is left out is one whose
/// players are not asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OccupancyReport {
    /// Every gateway known.
    pub gateways: Vec<GatewayObservation>,
    /// Sessions pinned to each environment. Environments without any may be left out.
    pub counts: BTreeMap<EnvironmentId, u32>,
    /// The sessions themselves, of environments that drain; those of others may be left out.
    pub sessions: BTreeMap<EnvironmentId, Vec<SessionObservation>>,
    /// Who left which environment, and how, since the last report. Each departure stands in exactly one report.
    pub departures: Vec<Departed>,
}

/// One session left one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// The environment it left.
    pub environment: EnvironmentId,
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: Departure,
}

/// Everything observed of a realm. Empty after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The last word on each environment's servers; one that is missing was not seen yet.
    pub servers: BTreeMap<EnvironmentId, EnvironmentObservation>,
    /// The last word on sessions; `None`: nothing was heard yet.
    pub occupancy: Option<OccupancyReport>,
    /// Departures of the last minutes by environment: (when, how many), oldest first, one entry a second.
    pub departures: BTreeMap<EnvironmentId, VecDeque<(Timestamp, u32)>>,
    /// Who was told to leave which environment.
    pub told: BTreeMap<EnvironmentId, Told>,
    /// Rollouts whose green is being watched for crashes.
    pub stable: BTreeMap<RolloutId, StableWatch>,
    /// When this realm first heard anything since it was loaded: no step times out for the time nobody watched.
    pub awake: Option<Timestamp>,
}

/// What was said to those in an environment that drains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Notices that were sent since the realm was loaded, by their remaining time, in milliseconds. The last one before
    /// a death may have been lost with it, so it is sent once more; gateways know it by its command.
    pub notices: BTreeSet<u64>,
    /// When the last batch went out.
    pub last: Option<Timestamp>,
    /// Those who were told and are still there, and when.
    pub sessions: BTreeMap<SessionId, Timestamp>,
}

/// The watch over a green environment that shall become blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StableWatch {
    /// No crash was seen since then.
    pub since: Timestamp,
    /// Restarts of all its servers as of then.
    pub restarts: u32,
    /// Crashes seen by this watch.
    pub crashes: u32,
}

impl Observed {
    /// Sessions pinned to `environment` as far as known (a lower bound when [`Self::sessions_known`] is false).
    #[must_use]
    pub fn session_count(&self, environment: &EnvironmentId) -> u32 {
        self.occupancy.as_ref().and_then(|o| o.counts.get(environment).copied()).unwrap_or(0)
    }

    /// True when every gateway has told all its sessions.
    #[must_use]
    pub fn sessions_known(&self) -> bool {
        self.occupancy.as_ref().is_some_and(|o| o.gateways.iter().all(|g| g.connected && g.complete))
    }

    /// The sessions in `environment`, where the report holds them.
    #[must_use]
    pub fn sessions(&self, environment: &EnvironmentId) -> &[SessionObservation] {
        self.occupancy.as_ref().and_then(|o| o.sessions.get(environment)).map_or(&[], Vec::as_slice)
    }
}
