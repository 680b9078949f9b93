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
/// How often a server reports that does not say how often.
const STATUS_EVERY: Duration = Duration::from_secs(1);
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
        status_every: match register.status_every_ms {
            0 => STATUS_EVERY,
            ms => Duration::from_millis(u64::from(ms)),
        },
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

#[cfg(test)]
mod tests {
    use tidegate_proto::v1::world_control_client::WorldControlClient;
    use tidegate_proto::v1::world_directive::Message as Directive;
    use tidegate_proto::v1::{AssetsLoaded, BarrierReached, WorldStatus, ZoneBlob};
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::Code;

    use super::*;
    use crate::servers::testing::{Bench, environment, server};
    use crate::servers::{Assets, EnvironmentServers, ServerState};

    fn register(pid: u32) -> WorldRegister {
        WorldRegister {
            server_id: "e1-town-1".to_owned(),
            instance: vec![7; 16],
            realm: "eu-1".to_owned(),
            environment_id: "e1".to_owned(),
            fleet: "town".to_owned(),
            build: "2.0.0".to_owned(),
            pid,
            link_address: "127.0.0.1:4000".to_owned(),
            state_formats_read: vec![1, 2],
            state_format_write: 2,
            ..WorldRegister::default()
        }
    }

    fn report(message: world_report::Message) -> WorldReport {
        WorldReport { message: Some(message) }
    }

    /// A stream as a world server opens it: what it says goes into the sender, what it is told comes out.
    struct Line {
        say: mpsc::Sender<WorldReport>,
        hear: Streaming<WorldDirective>,
    }

    async fn line(address: &str, first: WorldReport) -> Result<Line, Status> {
        let channel = tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap().connect().await.unwrap();
        let mut client = WorldControlClient::new(channel);
        let (say, said) = mpsc::channel(8);
        say.send(first).await.unwrap();
        let hear = client.connect(ReceiverStream::new(said)).await?.into_inner();
        Ok(Line { say, hear })
    }

    impl Line {
        async fn say(&self, message: world_report::Message) {
            self.say.send(report(message)).await.unwrap();
        }

        async fn hear(&mut self) -> Directive {
            let heard = tokio::time::timeout(Duration::from_secs(30), self.hear.message()).await;
            heard.expect("told in time").unwrap().expect("the stream is open").message.unwrap()
        }
    }

    async fn listen_on_loopback(servers: &Servers) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = Service::new(servers.clone()).into_server();
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        address
    }

    #[tokio::test]
    async fn a_server_is_staged_over_its_stream_and_survives_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path());
        let address = listen_on_loopback(&bench.servers).await;
        let assets = Some(Assets { path: dir.path().join("bundle"), digest: [9; 32] });
        let wanted = EnvironmentServers { assets, ..environment(dir.path(), 1, "exec sleep 1000") };
        bench.servers.ensure(wanted.clone()).await.unwrap();
        let pid = bench.pid_of(&server(1)).await;

        let mut line = line(&address, report(world_report::Message::Register(register(pid)))).await.unwrap();
        assert!(matches!(line.hear().await, Directive::Registered(_)));
        let load = line.hear().await;
        assert!(matches!(&load, Directive::LoadAssets(load) if load.digest == [9; 32]), "{load:?}");
        let loaded = AssetsLoaded { digest: vec![9; 32], error: String::new() };
        line.say(world_report::Message::AssetsLoaded(loaded)).await;
        assert!(matches!(line.hear().await, Directive::Serve(_)));
        let status = WorldStatus { serving: true, players: 2, ..WorldStatus::default() };
        line.say(world_report::Message::Status(status)).await;
        let ready = |s: &crate::servers::ServerView| s.state == ServerState::Ready && s.players == 2;
        bench.until("ready", |view| ready(&view.servers[&server(1)])).await;

        drop(line);
        let gone = |view: &crate::servers::ServersView| view.servers[&server(1)].state == ServerState::Unreachable;
        let view = bench.until("unreachable", gone).await;
        assert_eq!(view.servers[&server(1)].pid, Some(pid));
        bench.end(&wanted.environment).await;
    }

    #[tokio::test]
    async fn strangers_and_nonsense_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path());
        let address = listen_on_loopback(&bench.servers).await;
        let wanted = environment(dir.path(), 1, "exec sleep 1000");
        bench.servers.ensure(wanted.clone()).await.unwrap();
        let good = register(bench.pid_of(&server(1)).await);

        let of = |register: WorldRegister| report(world_report::Message::Register(register));
        let odd = WorldRegister { server_id: "e9-town-1".to_owned(), ..good.clone() };
        let astray = WorldRegister { environment_id: "e2".to_owned(), ..good.clone() };
        let short = WorldRegister { instance: vec![1], ..good.clone() };
        let nowhere = WorldRegister { link_address: "town".to_owned(), ..good.clone() };
        for (first, code, word) in [
            (of(odd), Code::NotFound, "e9-town-1"),
            (of(astray), Code::FailedPrecondition, "started for \"e1\""),
            (of(short), Code::InvalidArgument, "instance"),
            (of(nowhere), Code::InvalidArgument, "link_address"),
            (WorldReport { message: None }, Code::InvalidArgument, "registration"),
        ] {
            let refused = line(&address, first).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.code(), code);
            assert!(refused.message().contains(word), "{}", refused.message());
        }

        // Nonsense later on closes the stream, and only that.
        let mut line = line(&address, of(good.clone())).await.unwrap();
        assert!(matches!(line.hear().await, Directive::Registered(_)));
        line.say(world_report::Message::Register(good)).await;
        bench.until("unreachable", |view| view.servers[&server(1)].state == ServerState::Unreachable).await;
        bench.end(&wanted.environment).await;
    }

    #[test]
    fn a_report_with_a_bad_name_is_refused_by_field() {
        let zones = vec![ZoneBlob { zone: "a zone".to_owned(), state: Vec::new(), format: 1 }];
        let reached = BarrierReached { snapshot_id: "s1".to_owned(), zones };
        let bad = read(report(world_report::Message::BarrierReached(reached))).unwrap_err();
        assert!(bad.to_string().starts_with("field zones.zone: "), "{bad}");
        assert!(read(WorldReport { message: None }).is_err());
    }
}
