//! For tests: a supervisor over real child processes, and world servers that are only a sleeping process and whoever plays
//! its part on the stream.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_proto::v1::{self, world_directive};
use tidegate_types::{EnvironmentId, InstanceId, ServerId, ZoneId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::messages::{Registration, RegistrationRefused, Report, Status};
use super::*;

/// A supervisor at work. Dropping it leaves its processes alive, as the manager's death does; [`Bench::end`] ends them.
pub(crate) struct Bench {
    pub(crate) servers: Servers,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    pub(crate) fn open(data_dir: &Path) -> Self {
        // Nobody reports regularly here, however slow the machine is.
        Self::with_report_timeout(data_dir, 600_000)
    }

    pub(crate) fn with_report_timeout(data_dir: &Path, report_timeout_ms: u64) -> Self {
        let config = ServersConfig { report_timeout_ms, hang_ms: 600_000, ..Self::config() };
        Self::with(data_dir, config)
    }

    pub(crate) fn config() -> ServersConfig {
        ServersConfig { restart_min_ms: 10, restart_max_ms: 50, stop_within_ms: 200, ..ServersConfig::default() }
    }

    pub(crate) fn with(data_dir: &Path, config: ServersConfig) -> Self {
        let options = Options { data_dir: data_dir.to_owned(), manager_url: "http://127.0.0.1:9".to_owned(), config };
        let (servers, supervisor) = Servers::new(options, Pki::open(data_dir, &[]).unwrap()).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(supervisor.run(shutdown.clone()));
        Self { servers, shutdown, task }
    }

    /// The manager's end: the supervisor is gone, the processes are not.
    pub(crate) async fn close(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// Ends every process of the environment.
    pub(crate) async fn end(self, environment: &EnvironmentId) {
        self.servers.stop_environment(environment.clone(), Duration::from_millis(100)).await.unwrap();
        self.close().await;
    }

    /// Waits until the view is as `wanted` says. A test that waits in vain fails with the view it has.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&ServersView) -> bool) -> Arc<ServersView> {
        let mut view = self.servers.view();
        let found = tokio::time::timeout(Duration::from_secs(30), view.wait_for(|view| wanted(view))).await;
        match found {
            Ok(view) => Arc::clone(&view.unwrap()),
            Err(_) => panic!("never {what}: {:#?}", self.servers.view().borrow()),
        }
    }

    /// Waits until the server runs, and returns its pid.
    pub(crate) async fn pid_of(&self, server: &ServerId) -> u32 {
        let view = self.until("running", |view| view.servers.get(server).is_some_and(|s| s.pid.is_some())).await;
        view.servers[server].pid.unwrap()
    }

    /// Plays a world server's part: registers the running process.
    pub(crate) async fn register(&self, server: &ServerId) -> FakeWorld {
        let pid = self.pid_of(server).await;
        let mut world = FakeWorld::new(self.servers.clone(), server.clone(), pid);
        world.register().await.unwrap();
        world
    }

    /// Registers every server of the environment and has it serve.
    pub(crate) async fn all_ready(&self, environment: &EnvironmentServers) -> Vec<FakeWorld> {
        let ids = environment.fleets.iter().flat_map(|fleet| {
            (1..=fleet.replicas).map(|ordinal| {
                Slot { environment: environment.environment.clone(), fleet: fleet.name.clone(), ordinal }
                    .server_id()
                    .unwrap()
            })
        });
        let mut worlds = Vec::new();
        for id in ids {
            let mut world = self.register(&id).await;
            world.expect("serve", |directive| matches!(directive, world_directive::Message::Serve(_))).await;
            world.status(true, 0).await;
            worlds.push(world);
        }
        let id = environment.environment.clone();
        self.until("complete", |view| view.environments.get(&id).is_some_and(|e| e.complete)).await;
        worlds
    }
}

/// The stream of a world server, without the world server.
pub(crate) struct FakeWorld {
    pub(crate) servers: Servers,
    pub(crate) id: ServerId,
    pub(crate) instance: InstanceId,
    pub(crate) pid: u32,
    pub(crate) build: &'static str,
    pub(crate) environment: &'static str,
    pub(crate) serving: bool,
    pub(crate) stream: u64,
    pub(crate) directives: mpsc::Receiver<v1::WorldDirective>,
}

impl FakeWorld {
    pub(crate) fn new(servers: Servers, id: ServerId, pid: u32) -> Self {
        let (_, directives) = mpsc::channel(1);
        let instance = InstanceId(Uuid::new_v4());
        Self { servers, id, instance, pid, build: "2.0.0", environment: "e1", serving: false, stream: 0, directives }
    }

    pub(crate) async fn register(&mut self) -> Result<(), RegistrationRefused> {
        let (directives, inbox) = mpsc::channel(64);
        let registration = Registration {
            server: self.id.clone(),
            instance: self.instance,
            realm: "eu-1".parse().unwrap(),
            environment: self.environment.parse().unwrap(),
            fleet: "town".parse().unwrap(),
            build: self.build.parse().unwrap(),
            pid: self.pid,
            link_address: "127.0.0.1:4000".to_owned(),
            state_formats_read: vec![1, 2],
            state_format_write: 2,
            assets_digest: None,
            serving: self.serving,
            status_every: Duration::from_millis(100),
            directives,
        };
        self.stream = self.servers.register(registration).await?;
        self.directives = inbox;
        Ok(())
    }

    /// The next directive that `wanted` likes; others are passed over.
    pub(crate) async fn expect(
        &mut self,
        what: &str,
        wanted: impl Fn(&world_directive::Message) -> bool,
    ) -> world_directive::Message {
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let message = self.directives.recv().await.expect("the stream is open").message.expect("set");
                if wanted(&message) {
                    return message;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{} was never told to {what}", self.id))
    }

    pub(crate) async fn report(&self, report: Report) {
        self.servers.report(self.id.clone(), self.stream, report).await.unwrap();
    }

    pub(crate) async fn status(&self, serving: bool, players: u32) {
        let status = Status { serving, players, ..Status::default() };
        self.report(Report::Status(status)).await;
    }

    pub(crate) async fn lose_stream(&self) {
        self.servers.stream_ended(self.id.clone(), self.stream).await;
    }
}

/// An environment `e1` of one fleet `town`, each of whose servers is this shell command.
pub(crate) fn environment(data_dir: &Path, replicas: u32, script: &str) -> EnvironmentServers {
    EnvironmentServers {
        environment: "e1".parse().unwrap(),
        realm: "eu-1".parse().unwrap(),
        build: "2.0.0".parse().unwrap(),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        command_environment: BTreeMap::from([("FROM_BUILD".to_owned(), "build".to_owned())]),
        assets: None,
        fleets: vec![FleetSpec {
            name: "town".parse().unwrap(),
            replicas,
            zones: vec!["market".parse::<ZoneId>().unwrap()],
            instance_kinds: vec!["dungeon".parse().unwrap()],
            capacity: 100,
            environment: BTreeMap::from([("FROM_BUILD".to_owned(), "fleet".to_owned())]),
        }],
        database: PathBuf::from(data_dir).join("realms/eu-1/world.db"),
        zones: Arc::default(),
        serve: true,
    }
}

/// A server of [`environment`].
pub(crate) fn server(ordinal: u32) -> ServerId {
    format!("e1-town-{ordinal}").parse().unwrap()
}
