//! The stream that each world server keeps open to the manager: checks the form of what it says, hands it to the
//! supervisor, and passes the supervisor's directives on. A broken stream makes a server unreachable, never dead.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tidegate_proto::convert::{BadField, id};
use tidegate_proto::v1::world_control_server::{WorldControl, WorldControlServer};
use tidegate_proto::v1::{WorldDirective, WorldRegister, WorldReport, world_report};
use tidegate_types::{InstanceId, ServerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::servers::{Registration, RegistrationRefused, Report, ServerStatus, Servers};

/// From the opening of a stream to its registration.
const REGISTER_DEADLINE: Duration = Duration::from_secs(5);
/// Directives that wait for a server to read them: staging takes a handful, plus one for each 2 MiB of zones.
const DIRECTIVES: usize = 64;
/// Longest report: the zones of a barrier, up to 64 of the largest (1 MiB each).
const MAX_REPORT_BYTES: usize = 64 * 1024 * 1024 + 64 * 1024;
/// Longest text of an error that is kept, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// The service, over the supervisor.
#[derive(Debug, Clone)]
pub struct Service {
    servers: Servers,
}

impl Service {
    /// A service that reports to this supervisor.
    #[must_use]
    pub fn new(servers: Servers) -> Self {
        Self { servers }
    }

    /// As a tonic service, with its limits set.
    #[must_use]
    pub fn into_server(self) -> WorldControlServer<Self> {
        WorldControlServer::new(self).max_decoding_message_size(MAX_REPORT_BYTES)
    }
}

#[tonic::async_trait]
impl WorldControl for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<WorldDirective, Status>> + Send>>;

    async fn connect(&self, request: Request<Streaming<WorldReport>>) -> Result<Response<Self::ConnectStream>, Status> {
        let mut reports = request.into_inner();
        let first = tokio::time::timeout(REGISTER_DEADLINE, reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no registration in time"))??;
        let Some(WorldReport { message: Some(world_report::Message::Register(register)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a registration"));
        };
        let (directives, outbox) = mpsc::channel(DIRECTIVES);
        let registration = registration(register, directives).map_err(bad_field)?;
        let server = registration.server.clone();
        let stream = self.servers.register(registration).await.map_err(|refused| refuse(&refused))?;
        tokio::spawn(listen(self.servers.clone(), server, stream, reports));
        let directives = futures::StreamExt::map(ReceiverStream::new(outbox), Ok);
        Ok(Response::new(Box::pin(directives)))
    }
}

/// Hands reports on until the stream ends, however it ends.
async fn listen(servers: Servers, server: ServerId, stream: u64, mut reports: Streaming<WorldReport>) {
    loop {
        let report = match reports.message().await {
            Ok(Some(report)) => report,
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(server_id = %server, %status, "world server's stream broke");
                break;
            }
        };
        match read(report) {
            Ok(report) => {
                if servers.report(server.clone(), stream, report).await.is_err() {
                    return;
                }
            }
            Err(bad) => {
                tracing::warn!(server_id = %server, error = %bad, "world server sent a bad report; its stream is closed");
                break;
            }
        }
    }
    servers.stream_ended(server, stream).await;
}

fn registration(register: WorldRegister, directives: mpsc::Sender<WorldDirective>) -> Result<Registration, BadField> {
    let instance =
        InstanceId::from_slice(&register.instance).ok_or_else(|| BadField::new("instance", "must be 16 bytes"))?;
    if register.link_address.parse::<std::net::SocketAddr>().is_err() {
        return Err(BadField::new("link_address", format!("\"{}\" is not host:port", register.link_address)));
    }
    let assets_digest = match register.assets_digest.len() {
        0 => None,
        _ => Some(
            <[u8; 32]>::try_from(&register.assets_digest[..])
                .map_err(|_| BadField::new("assets_digest", "must be 32 bytes"))?,
        ),
    };
    Ok(Registration {
        server: id("server_id", &register.server_id)?,
        instance,
        realm: id("realm", &register.realm)?,
        environment: id("environment_id", &register.environment_id)?,
        fleet: id("fleet", &register.fleet)?,
        build: id("build", &register.build)?,
        pid: register.pid,
        link_address: register.link_address,
        state_formats_read: register.state_formats_read,
        state_format_write: register.state_format_write,
        assets_digest,
        serving: register.serving,
        directives,
    })
}

fn read(report: WorldReport) -> Result<Report, BadField> {
    match report.message {
        None => Err(BadField::new("message", "is not set")),
        Some(world_report::Message::Register(_)) => Err(BadField::new("register", "only the first message may be one")),
        Some(world_report::Message::AssetsLoaded(loaded)) => {
            Ok(Report::AssetsLoaded { digest: loaded.digest, error: cut(&loaded.error) })
        }
        Some(world_report::Message::ZonesLoaded(loaded)) => Ok(Report::ZonesLoaded { error: cut(&loaded.error) }),
        Some(world_report::Message::Status(status)) => {
            let population = status.zones.iter().map(|zone| Ok((id("zones.zone", &zone.zone)?, zone.players)));
            Ok(Report::Status(ServerStatus {
                serving: status.serving,
                players: status.players,
                parked: status.parked,
                in_handover: status.in_handover,
                tick_us: status.tick_us,
                population: population.collect::<Result<_, _>>()?,
            }))
        }
        Some(world_report::Message::BarrierReached(reached)) => {
            let snapshot = id("snapshot_id", &reached.snapshot_id)?;
            let zones = reached
                .zones
                .into_iter()
                .map(|blob| Ok((id("zones.zone", &blob.zone)?, Bytes::from(blob.state), blob.format)));
            Ok(Report::BarrierReached { snapshot, zones: zones.collect::<Result<_, _>>()? })
        }
        Some(world_report::Message::BarrierFailed(failed)) => {
            Ok(Report::BarrierFailed { snapshot: id("snapshot_id", &failed.snapshot_id)?, error: cut(&failed.error) })
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).collect()
}

/// A message whose form is wrong.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn bad_field(bad: BadField) -> Status {
    Status::invalid_argument(bad.to_string())
}

fn refuse(refused: &RegistrationRefused) -> Status {
    let text = refused.to_string();
    tracing::warn!(reason = text, "world server's registration refused");
    match refused {
        RegistrationRefused::UnknownServer(_) => Status::not_found(text),
        RegistrationRefused::Mismatch { .. } | RegistrationRefused::OtherProcess { .. } => {
            Status::failed_precondition(text)
        }
        RegistrationRefused::Stopping => Status::unavailable(text),
    }
}
