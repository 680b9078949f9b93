//! A gateway with keys of its own in a temporary folder.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_gateway::{Config, RunError, Service};
use tidegate_link::pki::{Authority, Identity, Role};
use tidegate_ticket::{Algorithm, Format, LoginClaims, LoginKey};
use tidegate_types::{CharacterId, Clock, PartyId, PlayerId, RealmId, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) struct TestGateway {
    dir: tempfile::TempDir,
    authority: Authority,
    login: LoginKey,
    pub(crate) config: Config,
    running: Option<Running>,
}

struct Running {
    address: SocketAddr,
    metrics: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl TestGateway {
    /// Makes keys and a configuration; nothing runs yet.
    pub(crate) fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        let authority = Authority::open_or_create(&pki).unwrap();
        let name = Role::Gateway.tls_name("gw-1");
        authority.issue(&name, &["localhost", "127.0.0.1"]).unwrap().write(&pki, "gateway").unwrap();
        let login = LoginKey::generate().unwrap();
        let ticket_keys = dir.path().join("tickets/keys");
        login.public().save_to_ring(&ticket_keys.join("first.toml"), "first", Algorithm::Both).unwrap();
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: dir.path().join("gateway"),
            pki_dir: pki,
            ticket_keys,
            ..Config::default()
        };
        Self { dir, authority, login, config, running: None }
    }

    pub(crate) async fn start(&mut self) {
        let service = Service::new(self.config.clone()).unwrap();
        let (address, metrics) = (service.player_addr(), service.metrics_addr());
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        self.running = Some(Running { address, metrics, stop, task });
    }

    /// Stops it as an operator would.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.stop.cancel();
        super::patient("the gateway's end", running.task).await.unwrap().unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("it runs").address
    }

    /// The value of a metric, by the beginning of its line.
    pub(crate) async fn metric(&self, line: &str) -> f64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.running.as_ref().expect("it runs").metrics;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        let found = page.lines().find_map(|l| l.strip_prefix(line)).map(|rest| rest.trim().parse().unwrap());
        found.unwrap_or_else(|| panic!("no metric {line} in {page}"))
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.config.pki_dir.join("ca.pem")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.config.data_dir.clone()
    }

    /// A certificate for a world server.
    pub(crate) fn world_identity(&self, id: &str) -> Identity {
        let name = Role::World.tls_name(id);
        let (cert, key) = self.authority.issue(&name, &[]).unwrap().write(self.dir.path(), id).unwrap();
        Identity::load(&self.ca(), &cert, &key).unwrap()
    }

    /// A fresh login ticket.
    pub(crate) fn ticket(&self, player: &str) -> String {
        self.ticket_with(player, |_| ())
    }

    pub(crate) fn ticket_with(&self, player: &str, change: impl FnOnce(&mut LoginClaims)) -> String {
        self.ticket_by(&self.login, Format::Paseto, player, change)
    }

    /// The login service's key.
    pub(crate) fn login_key(&self) -> &LoginKey {
        &self.login
    }

    pub(crate) fn ticket_by(
        &self,
        key: &LoginKey,
        format: Format,
        player: &str,
        change: impl FnOnce(&mut LoginClaims),
    ) -> String {
        let now = SystemClock.now().wall;
        let mut claims = LoginClaims {
            id: Uuid::new_v4(),
            realm: RealmId::new("eu-1").unwrap(),
            player: PlayerId::new(player).unwrap(),
            character: CharacterId::new(&format!("{player}-hero")).unwrap(),
            party: None::<PartyId>,
            client_version: "1.0.0".into(),
            issued: now,
            expires: now + Duration::from_secs(60),
            cohorts: vec![],
        };
        change(&mut claims);
        key.mint_as(format, &claims)
    }
}
