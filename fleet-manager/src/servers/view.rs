//! What runs: every world server as the supervisor sees it, published whole at each change.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tidegate_types::{BuildVersion, EnvironmentId, FleetName, InstanceId, RealmId, ServerId, Timestamp, ZoneId};

use super::plan::Occupancy;

/// All world servers, now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServersView {
    /// Every server that runs or shall run, by id.
    pub servers: BTreeMap<ServerId, ServerView>,
    /// Environments whose servers are wanted, or still there.
    pub environments: BTreeMap<EnvironmentId, EnvironmentView>,
    /// The last deaths (at most 256), oldest first: for gateways that connect after the broadcast.
    pub recent_deaths: Vec<ServerDead>,
}

/// An environment's servers, summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentView {
    /// The realm.
    pub realm: RealmId,
    /// How many servers are wanted.
    pub desired: u32,
    /// How many are ready.
    pub ready: u32,
    /// Why it will not become complete by itself: servers that cannot be started or exit again and again, or report a
    /// wrong build or digest. `None`: nothing is known to be wrong.
    pub problem: Option<String>,
    /// Players that its servers hold, by their own word. Unknown means occupied.
    pub occupancy: Occupancy,
    /// How many have loaded everything, the ready ones included.
    pub loaded: u32,
    /// True: every wanted server is ready, and reports the right build and digest.
    pub complete: bool,
    /// True: it was told to stop, and processes of it may still live.
    pub stopping: bool,
}

/// One world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Its id; a restart keeps it.
    pub id: ServerId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its realm.
    pub realm: RealmId,
    /// Its fleet.
    pub fleet: FleetName,
    /// The run of its process, once it has registered.
    pub instance: Option<InstanceId>,
    /// Where it is in its life.
    pub state: ServerState,
    /// Its process; `None` while there is none.
    pub pid: Option<u32>,
    /// Where its link listens, "host:port"; empty until it has registered.
    pub link_address: String,
    /// The certificate name to expect on the link.
    pub tls_name: String,
    /// The build it must be.
    pub build_expected: BuildVersion,
    /// The build it says it is; `None` until it has registered.
    pub build_reported: Option<BuildVersion>,
    /// Whether the two are the same; `None` until it has registered.
    pub build_ok: Option<bool>,
    /// Whether the assets it loaded are those of the build; `None` until it has answered (`Some(true)` at once where the
    /// build has none).
    pub digest_ok: Option<bool>,
    /// Shared zones it serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance it hosts.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players it takes.
    pub capacity: u32,
    /// Formats of player state it reads, as registered.
    pub state_formats_read: Vec<u32>,
    /// The format it writes, as registered; 0: not registered.
    pub state_format_write: u32,
    /// Players it holds, by its last report.
    pub players: u32,
    /// Of these, parked.
    pub parked: u32,
    /// Of these, in a hand-over whose end it does not know.
    pub in_handover: u32,
    /// Players by zone, by its last report.
    pub population: BTreeMap<ZoneId, u32>,
    /// Longest tick of the last second, in microseconds.
    pub tick_us: u32,
    /// Whether it can be called empty. Unknown means occupied.
    pub occupancy: Occupancy,
    /// How often its process was started again.
    pub restarts: u32,
    /// Why it is not ready, or last exited; empty: nothing to say.
    pub reason: String,
    /// Where its output goes.
    pub log_path: PathBuf,
    /// Since when it is in `state`.
    pub since: Timestamp,
    /// When it last reported; `None`: never to this manager.
    pub last_report: Option<Timestamp>,
    /// It will be stopped once it is empty (its fleet shrinks): bring nobody new.
    pub retiring: bool,
}

impl ServerView {
    /// A server of which nothing is known but what it is for. For tests.
    #[cfg(test)]
    pub(crate) fn nobody(id: ServerId, environment: EnvironmentId, realm: RealmId) -> Self {
        Self {
            tls_name: super::tls_name(&id),
            id,
            environment,
            realm,
            fleet: FleetName::new("town").unwrap(),
            instance: None,
            state: ServerState::Starting,
            pid: None,
            link_address: String::new(),
            build_expected: BuildVersion::new("1.0.0").unwrap(),
            build_reported: None,
            build_ok: None,
            digest_ok: None,
            zones: Vec::new(),
            instance_kinds: Vec::new(),
            capacity: 100,
            state_formats_read: Vec::new(),
            state_format_write: 0,
            players: 0,
            parked: 0,
            in_handover: 0,
            population: BTreeMap::new(),
            tick_us: 0,
            occupancy: Occupancy::Unknown,
            restarts: 0,
            reason: String::new(),
            log_path: PathBuf::new(),
            since: Timestamp(0),
            last_report: None,
            retiring: false,
        }
    }

    /// Whether new players may be brought to it.
    #[must_use]
    pub fn takes_players(&self) -> bool {
        self.state == ServerState::Ready && !self.retiring
    }
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// Its process runs and has not registered yet.
    Starting,
    /// Registered; assets and zones are being loaded, or something it reported is wrong (the reason says what).
    Loading,
    /// Everything is loaded; it is not wanted to serve yet, or has not begun.
    Loaded,
    /// Serves players.
    Ready,
    /// Runs, but its stream is broken or its reports are late.
    Unreachable,
    /// It has no process (the reason says why); if it is wanted, one is started after a pause.
    Exited,
    /// Told to stop.
    Stopping,
}

/// This run of this world server is certainly dead: its process was reaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDead {
    /// The server.
    pub server: ServerId,
    /// The run of its process.
    pub instance: InstanceId,
}
