//! The fleet-manager as a component: configuration in, ports bound and store opened by [`Service::new`], everything run
//! by [`Service::run`]. Wiring only.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::v1;
use tidegate_ticket::{Algorithm, LoginKey, ResumeKeys};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic_web::GrpcWebLayer;

use crate::builds::Builds;
use crate::config::Config;
use crate::effects::{Surroundings, chain};
use crate::gateways::Gateways;
use crate::housekeeping::{self, Retention};
use crate::manager::{Limits, Manager};
use crate::pki::Pki;
use crate::servers::{Options, Servers, Supervisor};
use crate::services::Api;
use crate::sessions::Sessions;
use crate::snapshots::Snapshots;
use crate::store::{Store, StoreError, rows};
use crate::{metrics, world_control};

/// The file in the manager's folder that holds the address it really listens on.
pub const ADDRESS_FILE: &str = "manager.addr";

/// How long open calls may take to end after a stop. Streams end at once; what is left is a call in the middle of a write.
const END: Duration = Duration::from_secs(3);

/// Calls and watches that one connection may have open at once. A gateway or world server needs one, a console some dozens.
const STREAMS: u32 = 256;

/// How often a quiet connection is asked whether it is alive, and how long it may take to answer: a gateway that lost its
/// network is noticed within their sum.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Why the fleet-manager cannot start or go on. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A configured value cannot be used.
    #[error("{key}: {problem}")]
    Config {
        /// The key in the configuration.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The database is damaged. It is left as it is.
    #[error("data_dir: {}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, and what to do about it.
        problem: String,
    },
    /// Something in the data folder cannot be used.
    #[error("data_dir: {}: {problem}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The gRPC server has failed.
    #[error("the gRPC server failed: {0}")]
    Serve(String),
}

/// A fleet-manager whose ports are bound and whose store is open.
#[derive(Debug)]
pub struct Service {
    grpc: TcpListener,
    metrics: TcpListener,
    address: SocketAddr,
    metrics_address: SocketAddr,
    supervisor: Supervisor,
    surroundings: Arc<Surroundings>,
    realms: Vec<fleet_core::realm::Rows>,
    limits: Limits,
    retention: Retention,
    /// Held for as long as this manager lives: two managers on one folder would overwrite each other's truth.
    _lock: File,
}

impl Service {
    /// Binds the ports, opens the store and makes what a first start needs (keys, folders). Every start-up error surfaces
    /// here, before anything runs.
    ///
    /// # Errors
    /// Port taken, folder not writable or in use by another manager, store damaged or of another version, bad keys.
    pub async fn new(config: Config) -> Result<Self, ServiceError> {
        tidegate_events::start("manager");
        let data_dir = open_folder(&config.data_dir)?;
        let lock = lock(&data_dir)?;
        // Whoever waits for the address must not read that of an earlier run.
        forget_address(&data_dir)?;
        let grpc = bind("listen", config.listen).await?;
        let metrics = bind("metrics_listen", config.metrics_listen).await?;
        let address = local("listen", &grpc)?;
        let metrics_address = local("metrics_listen", &metrics)?;

        let database = data_dir.join("manager.db");
        let broken = tidegate_types::sabotage::words();
        if !broken.is_empty() {
            tracing::warn!(rules = broken.join(","), "rules are broken on purpose: this is for tests alone");
        }
        let store = Store::open_with(&database, config.store_check).map_err(|e| match e {
            StoreError::Damaged { .. } => ServiceError::Damaged { path: database.clone(), problem: chain(&e) },
            e => data(&database, &e),
        })?;
        let raw = store.load().map_err(|e| data(&database, &e))?;
        let mut loaded = rows::load(&raw).map_err(|e| data(&database, &e))?;
        if tidegate_types::sabotage::on("forget_drain") {
            loaded.realms.values_mut().for_each(|realm| realm.drains.retain(|_, drain| !drain.state.is_live()));
        }

        tickets(&data_dir.join("tickets"))?;
        let pki_dir = data_dir.join("pki");
        let pki = Pki::open(&data_dir, &config.gateway_names).map_err(|e| data(&pki_dir, &e))?;
        let snapshots = Snapshots::open(&data_dir, config.snapshot_store.as_deref())
            .map_err(|e| ServiceError::Config { key: "snapshot_store", problem: chain(&e) })?;
        let identity = pki.manager_identity().clone();
        let stop_within = Duration::from_millis(config.servers.stop_within_ms);
        let options = Options { data_dir: data_dir.clone(), manager_url: url(address), config: config.servers.clone() };
        let (servers, supervisor) = Servers::new(options, pki).map_err(|e| data(&data_dir, &e))?;

        let sessions = Sessions::default();
        let forget_after = Duration::from_millis(config.gateway_forget_ms);
        let gateways = Gateways::new(sessions.clone(), config.gateway_live(), forget_after, loaded.gateways);
        let builds = Builds::new(loaded.builds);
        write_address(&data_dir, address)?;
        let surroundings = Arc::new(Surroundings {
            store,
            builds,
            gateways,
            sessions,
            servers,
            snapshots,
            identity,
            data_dir,
            stop_within,
        });
        let confirm = Duration::from_millis(config.confirm_timeout_ms);
        Ok(Self {
            grpc,
            metrics,
            address,
            metrics_address,
            supervisor,
            surroundings,
            realms: loaded.realms.into_values().collect(),
            limits: Limits { confirm, call: config.call_timeout() },
            retention: Retention::new(&config),
            _lock: lock,
        })
    }

    /// The gRPC address that was bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `/metrics` that was bound.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// Runs until `shutdown` is cancelled. World servers are left running: players are on them.
    ///
    /// # Errors
    /// A part that must not end has ended.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        // A child: whatever ends this run, ends every task of it, and not what the caller runs beside it.
        let stop = shutdown.child_token();
        let ended = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        tidegate_events::event!("manager_started", pid = std::process::id());
        let manager = Manager::new(Arc::clone(&self.surroundings), self.limits, stop.clone());

        tasks.spawn(self.supervisor.run(stop.clone()));
        tasks.spawn(housekeeping::forward_deaths(Arc::clone(&self.surroundings), stop.clone()));
        tasks.spawn(housekeeping::run(Arc::clone(&self.surroundings), self.retention, stop.clone()));
        for rows in self.realms {
            manager.adopt(rows);
        }
        let pages = axum::serve(self.metrics, metrics::router(manager.clone()))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        tasks.spawn(async move {
            if let Err(error) = pages.await {
                tracing::warn!(%error, "the metrics server failed");
            }
        });
        tracing::info!(address = %self.address, metrics = %self.metrics_address, "fleet-manager runs");

        let outcome = Box::pin(serve(self.grpc, manager.clone(), stop.clone())).await;
        drop(ended);
        self.surroundings.gateways.close_all();
        tasks.close();
        let end = async {
            manager.wait().await;
            tasks.wait().await;
        };
        if tokio::time::timeout(END, end).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        tracing::info!("fleet-manager stopped");
        outcome
    }
}

/// All services on one port: gRPC over HTTP/2, and gRPC-Web over HTTP/1.1 for browsers.
async fn serve(listener: TcpListener, manager: Manager, stop: CancellationToken) -> Result<(), ServiceError> {
    let api = Api::new(manager.clone());
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tidegate_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| ServiceError::Serve(e.to_string()))?;
    let worlds = world_control::Service::new(manager.surroundings().servers.clone()).into_server();
    let (interval, timeout) = KEEPALIVE;
    let mut server = tonic::transport::Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(Some(STREAMS))
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(timeout))
        .layer(GrpcWebLayer::new());
    let mut router = server.add_service(health_service).add_service(reflection).add_service(worlds);
    macro_rules! services {
        ($($module:ident :: $server:ident),* $(,)?) => {$(
            health.set_serving::<v1::$module::$server<Api>>().await;
            router = router.add_service(v1::$module::$server::new(api.clone()));
        )*};
    }
    services!(
        realm_service_server::RealmServiceServer,
        build_service_server::BuildServiceServer,
        environment_service_server::EnvironmentServiceServer,
        fleet_service_server::FleetServiceServer,
        routing_service_server::RoutingServiceServer,
        drain_service_server::DrainServiceServer,
        rollout_service_server::RolloutServiceServer,
        session_service_server::SessionServiceServer,
        snapshot_service_server::SnapshotServiceServer,
        audit_service_server::AuditServiceServer,
        gateway_control_server::GatewayControlServer,
    );
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopped = stop.clone();
    let serving = router.serve_with_incoming_shutdown(incoming, async move { stopped.cancelled().await });
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(END).await;
    };
    tokio::select! {
        served = serving => served.map_err(|e| ServiceError::Serve(chain(&e))),
        // Someone holds a connection open; the process ends regardless.
        () = late => Ok(()),
    }
}

fn open_folder(folder: &Path) -> Result<PathBuf, ServiceError> {
    let wrong = |e: std::io::Error| ServiceError::Data { path: folder.to_owned(), problem: e.to_string() };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let folder = folder.canonicalize().map_err(wrong)?;
    for part in ["realms", "logs"] {
        std::fs::create_dir_all(folder.join(part)).map_err(wrong)?;
    }
    Ok(folder)
}

fn lock(data_dir: &Path) -> Result<File, ServiceError> {
    let path = data_dir.join("manager.lock");
    let wrong = |problem: String| ServiceError::Data { path: path.clone(), problem };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| wrong(e.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(wrong("another fleet-manager uses this folder".to_owned())),
        Err(std::fs::TryLockError::Error(e)) => Err(wrong(e.to_string())),
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address)
        .await
        .map_err(|e| ServiceError::Config { key, problem: format!("cannot listen on {address}: {e}") })
}

fn local(key: &'static str, listener: &TcpListener) -> Result<SocketAddr, ServiceError> {
    listener.local_addr().map_err(|e| ServiceError::Config { key, problem: e.to_string() })
}

fn data(path: &Path, error: &dyn std::error::Error) -> ServiceError {
    ServiceError::Data { path: path.to_owned(), problem: chain(error) }
}

/// World servers run on this machine: where the manager listens on every address, they take the loopback.
fn url(address: SocketAddr) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{port}"),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{port}"),
        SocketAddr::V4(_) | SocketAddr::V6(_) => format!("http://{address}"),
    }
}

/// Keys for trying things out: a login service's key pair, the ring that gateways on this machine read, and the key that
/// they seal resume tickets with. Made at the first start, kept afterwards. The ring is filled once: an operator who takes
/// the development key out of it does not find it there again.
fn tickets(folder: &Path) -> Result<(), ServiceError> {
    let (secret, public) = (folder.join("login.key"), folder.join("login.pub"));
    std::fs::create_dir_all(folder).map_err(|e| data(folder, &e))?;
    let key = if secret.exists() {
        LoginKey::load(&secret).map_err(|e| data(&secret, &e))?
    } else {
        let key = LoginKey::generate().map_err(|e| data(&secret, &e))?;
        key.save(&secret).map_err(|e| data(&secret, &e))?;
        key
    };
    // Written again each time, so that the two always belong together.
    key.public().save(&public).map_err(|e| data(&public, &e))?;
    let ring = folder.join("keys");
    if !ring.exists() {
        let file = ring.join("development.toml");
        key.public().save_to_ring(&file, "development", Algorithm::Both).map_err(|e| data(&file, &e))?;
    }
    let resume = folder.join("resume.key");
    ResumeKeys::open_or_create(&resume).map(drop).map_err(|e| data(&resume, &e))
}

fn forget_address(data_dir: &Path) -> Result<(), ServiceError> {
    let path = data_dir.join(ADDRESS_FILE);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(data(&path, &e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Written beside and renamed, so that whoever waits for the file never reads half of it.
fn write_address(data_dir: &Path, address: SocketAddr) -> Result<(), ServiceError> {
    let path = data_dir.join(ADDRESS_FILE);
    let beside = data_dir.join("manager.addr.new");
    std::fs::write(&beside, address.to_string()).map_err(|e| data(&beside, &e))?;
    std::fs::rename(&beside, &path).map_err(|e| data(&path, &e))
}
