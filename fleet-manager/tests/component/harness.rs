//! A fleet-manager in a folder of its own, a client of it, and a gateway that only pretends.

use std::path::Path;
use std::time::Duration;

use fleet_core::environment::{Environment, Phase, Source};
use fleet_core::realm::Rows;
use fleet_core::{BuildInfo, Change, Realm, RealmSpec};
use fleet_manager::store::{Commit, Store, rows};
use fleet_manager::{Config, Service};
use tidegate_proto::v1;
use tidegate_types::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

/// Nothing that a test waits for takes this long, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    pub(crate) channel: Channel,
    pub(crate) metrics: std::net::SocketAddr,
    pub(crate) address: std::net::SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

/// A configuration that takes free ports.
pub(crate) fn config(data_dir: &Path) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        metrics_listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data_dir.to_owned(),
        confirm_timeout_ms: 300,
        ..Config::default()
    }
}

impl Fleet {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_with(config(data_dir)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let service = Service::new(config).await.expect("starts");
        let (address, metrics) = (service.address(), service.metrics_address());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { service.run(stop).await.expect("runs") });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.expect("connects");
        Self { channel, metrics, address, shutdown, running }
    }

    /// Stops it and waits until it has let go of its folder.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.channel);
        tokio::time::timeout(PATIENCE, self.running).await.expect("stops in time").expect("does not panic");
    }

    pub(crate) async fn realm(&self, id: &str) -> v1::Realm {
        let realm = v1::Realm { id: id.into(), entry_zone: "harbour".into(), ..v1::Realm::default() };
        let request = v1::CreateRealmRequest { request_id: format!("realm-{id}"), realm: Some(realm) };
        client!(self, realm).create_realm(request).await.unwrap().into_inner()
    }

    pub(crate) async fn build(&self, version: &str) -> v1::Build {
        let request = v1::RegisterBuildRequest { request_id: format!("build-{version}"), build: Some(build(version)) };
        client!(self, build).register_build(request).await.unwrap().into_inner()
    }
}

/// A client of one service.
macro_rules! client {
    ($fleet:expr, realm) => {
        tidegate_proto::v1::realm_service_client::RealmServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, build) => {
        tidegate_proto::v1::build_service_client::BuildServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, environment) => {
        tidegate_proto::v1::environment_service_client::EnvironmentServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, routing) => {
        tidegate_proto::v1::routing_service_client::RoutingServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, session) => {
        tidegate_proto::v1::session_service_client::SessionServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, audit) => {
        tidegate_proto::v1::audit_service_client::AuditServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, drain) => {
        tidegate_proto::v1::drain_service_client::DrainServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, rollout) => {
        tidegate_proto::v1::rollout_service_client::RolloutServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, snapshot) => {
        tidegate_proto::v1::snapshot_service_client::SnapshotServiceClient::new($fleet.channel.clone())
    };
    ($fleet:expr, gateway) => {
        tidegate_proto::v1::gateway_control_client::GatewayControlClient::new($fleet.channel.clone())
    };
}
pub(crate) use client;

pub(crate) fn build(version: &str) -> v1::Build {
    v1::Build {
        version: version.into(),
        command: vec!["true".into()],
        state_formats_read: vec![1],
        state_format_write: 1,
        ..v1::Build::default()
    }
}

pub(crate) fn fleet() -> v1::Fleet {
    v1::Fleet { name: "town".into(), replicas: 1, zones: vec!["harbour".into()], capacity: 10, ..v1::Fleet::default() }
}

/// The stable reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Puts a realm with ready environments into the store of a manager that does not run. They have no fleets: routing can
/// be tried without world servers.
pub(crate) async fn seed(data_dir: &Path, realm: &str, environments: &[&str]) {
    let build = BuildInfo {
        version: "1.0.0".parse().unwrap(),
        assets_digest: None,
        state_formats_read: vec![1],
        state_format_write: 1,
        schema_versions: vec![],
        client_versions: String::new(),
    };
    let database = data_dir.join(format!("{realm}.db")).display().to_string();
    let spec = RealmSpec::new("harbour".parse().unwrap(), database, Timestamp(1));
    let mut rows = Rows::new(realm.parse().unwrap(), spec);
    for id in environments {
        let mut environment = Environment::new(id.parse().unwrap(), build.clone(), vec![], Source::Empty, Timestamp(1));
        environment.phase = Phase::Ready;
        rows.environments.insert(environment.id.clone(), environment);
    }
    let registered = fleet_manager::builds::Build {
        info: build,
        command: vec!["true".into()],
        environment: Default::default(),
        assets_path: String::new(),
        created: Timestamp(1),
    };
    let realm = Realm::load(rows);
    let mut writes = rows::writes(&realm, &Change::Realm);
    writes.push(rows::build_row(&registered));
    for id in realm.rows.environments.keys() {
        writes.extend(rows::writes(&realm, &Change::Environment(id.clone())));
    }
    std::fs::create_dir_all(data_dir).unwrap();
    let store = Store::open(&data_dir.join("manager.db")).unwrap();
    store.commit(Commit { rows: writes, ..Commit::default() }).await.unwrap();
}

/// Speaks as a gateway does, and does what the test says.
pub(crate) struct FakeGateway {
    pub(crate) id: String,
    reports: mpsc::Sender<v1::GatewayReport>,
    directives: Streaming<v1::GatewayDirective>,
}

impl FakeGateway {
    pub(crate) async fn connect(fleet: &Fleet, id: &str) -> Result<Self, Status> {
        Self::connect_to(fleet, id, "embedded").await
    }

    /// One of several: its sessions are in this directory, and players reach it at `<id>:7443`.
    pub(crate) async fn connect_to(fleet: &Fleet, id: &str, directory: &str) -> Result<Self, Status> {
        let (reports, stream) = mpsc::channel(64);
        let hello = v1::GatewayHello {
            gateway_id: id.into(),
            instance: vec![7; 16],
            version: "0.1.0".into(),
            player_address: format!("{id}:7443"),
            directory: directory.into(),
            ..v1::GatewayHello::default()
        };
        reports.send(report(v1::gateway_report::Message::Hello(hello))).await.unwrap();
        let directives = client!(fleet, gateway).connect(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { id: id.into(), reports, directives })
    }

    pub(crate) async fn say(&self, message: v1::gateway_report::Message) {
        self.reports.send(report(message)).await.expect("the stream is open");
    }

    pub(crate) async fn hear(&mut self) -> Option<v1::gateway_directive::Message> {
        let heard = tokio::time::timeout(PATIENCE, self.directives.message()).await.expect("a directive comes");
        heard.ok().flatten().and_then(|directive| directive.message)
    }

    /// The next table of a generation of at least `generation`.
    pub(crate) async fn table(&mut self, generation: u64) -> v1::RouteTable {
        loop {
            match self.hear().await.expect("the stream is open") {
                v1::gateway_directive::Message::Table(table) if table.generation >= generation => return table,
                _ => {}
            }
        }
    }

    pub(crate) async fn command(&mut self) -> v1::SessionCommand {
        loop {
            if let v1::gateway_directive::Message::Command(command) = self.hear().await.expect("the stream is open") {
                return command;
            }
        }
    }

    /// The next list of gateways that is as `wanted`.
    pub(crate) async fn gateways(&mut self, wanted: &[&str]) {
        loop {
            match self.hear().await.expect("the stream is open") {
                v1::gateway_directive::Message::Gateways(list) if list.player_addresses == wanted => return,
                _ => {}
            }
        }
    }

    pub(crate) async fn acknowledge(&self, table: &v1::RouteTable) {
        let ack = v1::TableAck { realm: table.realm.clone(), generation: table.generation };
        self.say(v1::gateway_report::Message::TableAck(ack)).await;
    }

    /// The full list of sessions.
    pub(crate) async fn list(&self, rows: &[v1::SessionRow]) {
        self.say(v1::gateway_report::Message::SessionsBegin(v1::SessionsBegin {})).await;
        for row in rows {
            self.say(v1::gateway_report::Message::Session(row.clone())).await;
        }
        self.say(v1::gateway_report::Message::SessionsEnd(v1::SessionsEnd { count: rows.len() as u64 })).await;
    }

    /// Acknowledges every table from now on.
    pub(crate) fn keep_acknowledging(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Ok(Some(directive)) = self.directives.message().await {
                if let Some(v1::gateway_directive::Message::Table(table)) = directive.message {
                    self.acknowledge(&table).await;
                }
            }
        })
    }
}

fn report(message: v1::gateway_report::Message) -> v1::GatewayReport {
    v1::GatewayReport { message: Some(message) }
}

pub(crate) fn session(n: u8, environment: &str) -> v1::SessionRow {
    v1::SessionRow {
        session_id: vec![n; 16],
        realm: "eu-1".into(),
        player: format!("player-{n}"),
        character: "c".into(),
        environment_id: environment.into(),
        server_id: "s-1".into(),
        zone: "harbour".into(),
        zone_kind: "shared".into(),
        epoch: 1,
        state: v1::SessionState::Playing.into(),
        pin: Some(v1::Pin { environment_id: environment.into(), cause: v1::Cause::Login.into(), ..v1::Pin::default() }),
        ..v1::SessionRow::default()
    }
}

/// Asks again until the answer is `Some`, as often as it takes.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{what} never came to be"))
}
