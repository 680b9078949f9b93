//! What the supervisor is told: by its handle, and by the world servers' streams.

use std::time::Duration;

use bytes::Bytes;
use tidegate_proto::v1;
use tidegate_types::{BuildVersion, EnvironmentId, FleetName, InstanceId, RealmId, ServerId, SnapshotId, ZoneId};
use tokio::sync::{mpsc, oneshot};

use super::{BarrierZones, EnvironmentServers, ServersError};

/// A world server's first message, checked for form.
#[derive(Debug)]
pub struct Registration {
    /// Who it says it is.
    pub server: ServerId,
    /// The run of its process.
    pub instance: InstanceId,
    /// The realm it says it is in.
    pub realm: RealmId,
    /// The environment it says it is in.
    pub environment: EnvironmentId,
    /// The fleet it says it is in.
    pub fleet: FleetName,
    /// The build it really is.
    pub build: BuildVersion,
    /// Its process.
    pub pid: u32,
    /// Where its link listens, "host:port".
    pub link_address: String,
    /// Formats of player state it reads.
    pub state_formats_read: Vec<u32>,
    /// The format it writes.
    pub state_format_write: u32,
    /// Digest of the assets it has loaded already; `None`: none yet.
    pub assets_digest: Option<[u8; 32]>,
    /// It serves already (it registers again).
    pub serving: bool,
    /// It says how it is at least this often.
    pub status_every: Duration,
    /// Where its directives go. A server that leaves this queue full does not read its stream.
    pub directives: mpsc::Sender<v1::WorldDirective>,
}

/// Why a registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationRefused {
    /// No server of that id was started here.
    #[error("server \"{0}\" is not one of this manager's")]
    UnknownServer(ServerId),
    /// Its environment, realm or fleet is not what it was started with.
    #[error("server \"{server}\" says its {field} is \"{given}\"; it was started for \"{expected}\"")]
    Mismatch {
        /// Who.
        server: ServerId,
        /// `environment`, `realm` or `fleet`.
        field: &'static str,
        /// What it said.
        given: String,
        /// What it was started with.
        expected: String,
    },
    /// Another process than the one that was started for this id.
    #[error("server \"{server}\" is process {expected:?}, not {given}")]
    OtherProcess {
        /// Who.
        server: ServerId,
        /// The process that registers.
        given: u32,
        /// The process that was started; `None`: none lives.
        expected: Option<u32>,
    },
    /// The manager is stopping.
    #[error("the manager is stopping")]
    Stopping,
}

/// What a registered world server reports, checked for form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The bundle was read, or could not be.
    AssetsLoaded { digest: Vec<u8>, error: String },
    /// The zones were taken, or could not be.
    ZonesLoaded { error: String },
    /// How it is.
    Status(Status),
    /// It stands still.
    BarrierReached { snapshot: SnapshotId, zones: Vec<(ZoneId, Bytes, u32)> },
    /// It could not stand still.
    BarrierFailed { snapshot: SnapshotId, error: String },
}

/// The figures of a status report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Takes players.
    pub(crate) serving: bool,
    /// Players held.
    pub(crate) players: u32,
    /// Of these, parked.
    pub(crate) parked: u32,
    /// Of these, in a hand-over whose end it does not know.
    pub(crate) in_handover: u32,
    /// Longest tick of the last second, in microseconds.
    pub(crate) tick_us: u32,
    /// Players by zone.
    pub(crate) population: Vec<(ZoneId, u32)>,
}

/// Everything that the handle and the streams say to the supervisor.
#[derive(Debug)]
pub(crate) enum Message {
    Ensure {
        servers: Box<EnvironmentServers>,
        reply: oneshot::Sender<Result<(), ServersError>>,
    },
    StopEnvironment {
        environment: EnvironmentId,
        within: Duration,
        reply: oneshot::Sender<Result<(), ServersError>>,
    },
    Barrier {
        environment: EnvironmentId,
        snapshot: SnapshotId,
        timeout: Duration,
        reply: oneshot::Sender<Result<Vec<BarrierZones>, ServersError>>,
    },
    BarrierRelease {
        environment: EnvironmentId,
        snapshot: SnapshotId,
        reply: oneshot::Sender<bool>,
    },
    Register {
        registration: Box<Registration>,
        reply: oneshot::Sender<Result<u64, RegistrationRefused>>,
    },
    Report {
        server: ServerId,
        stream: u64,
        report: Report,
    },
    StreamEnded {
        server: ServerId,
        stream: u64,
    },
}
