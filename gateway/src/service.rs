//! Wiring: what is opened at the start, which threads run, what ends them.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::CoreConfig;
use gateway_core::table::RealmTable;
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_directory::check;
use tidegate_directory::{DirectoryConfig, DirectoryUrl, SharedUrl};
use tidegate_link::connect::Dialer;
use tidegate_link::pki::Identity;
use tidegate_proto::v1;
use tidegate_ticket::{KeyRing, ResumeKeys, Watcher};
use tidegate_types::{Clock, InstanceId, SystemClock};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::{self, Control};
use crate::edge::{self, Edge, GatewayCids};
use crate::links::Links;
use crate::players::Players;
use crate::reports;
use crate::shard::Shared;
use crate::shard::{Parts, Shard};
use crate::tables::Tables;
use crate::{Config, SecondLogin, UnknownHome, convert, metrics};

/// The manager's words that wait for the shard: a table, a few commands. More wait in the stream.
const DIRECTIVES: usize = 64;

/// Why a gateway cannot start: one line that begins with the configuration's key.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {what}")]
pub struct StartError {
    /// The configuration's key that names the thing.
    pub key: &'static str,
    /// What is wrong with it, the system's word included: this line is all that the operator sees.
    pub what: String,
}

/// Why a running gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The player socket cannot be used any more.
    #[error("serve players")]
    Socket(#[source] std::io::Error),
    /// The metrics port cannot be used any more.
    #[error("serve metrics")]
    Metrics(#[source] std::io::Error),
    /// The serving thread ended without a word: a defect.
    #[error("the serving thread ended unexpectedly")]
    Thread,
}

/// A gateway that has bound its ports and read its keys, and can run.
pub struct Service {
    config: Config,
    player_addr: SocketAddr,
    metrics_addr: SocketAddr,
    metrics_listener: TcpListener,
    runtime: ShardRuntime,
    shard: Shard,
    begun: oneshot::Receiver<Vec<RealmTable>>,
    control: Control,
    key_watcher: Watcher,
    lock: File,
}

impl Service {
    /// Binds ports, opens folders, reads certificates, keys and the last routing tables.
    ///
    /// # Errors
    /// Every start-up error, as one line that names the configuration's key.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let data = &config.data_dir;
        fs::create_dir_all(data).map_err(|e| start("data_dir", data, &e))?;
        let lock = lock(data)?;
        let tables = Tables::open(data.join("tables")).map_err(|e| start("data_dir", &data.join("tables"), &e))?;
        let identity = Identity::load(
            &config.pki_dir.join("ca.pem"),
            &config.pki_dir.join("gateway.pem"),
            &config.pki_dir.join("gateway.key"),
        )
        .map_err(|e| start("pki_dir", &config.pki_dir, &chain(&e)))?;
        let tls = edge::tls(&config.pki_dir).map_err(|e| start("pki_dir", &config.pki_dir, &format!("{e:#}")))?;
        let login_keys =
            KeyRing::open(&config.ticket_keys, config.ticket_rules()).map_err(|e| plain("ticket_keys", &chain(&e)))?;
        let resume_keys =
            ResumeKeys::open_or_create(&config.resume_key_path()).map_err(|e| plain("resume_key", &chain(&e)))?;
        let key_watcher = Watcher::start(login_keys.clone(), resume_keys.clone())
            .map_err(|e| plain("ticket_keys", &format!("cannot be watched: {e}")))?;
        let manager = control::endpoint(&config.manager).map_err(|e| plain("manager", &chain(&e)))?;
        let cids = cids(&config)?;

        let socket = bind_udp(config.listen).map_err(|e| bind("listen", config.listen, &e))?;
        let metrics_listener =
            TcpListener::bind(config.metrics_listen).map_err(|e| bind("metrics_listen", config.metrics_listen, &e))?;
        let metrics_addr =
            metrics_listener.local_addr().map_err(|e| bind("metrics_listen", config.metrics_listen, &e))?;

        let directory = DirectoryUrl::parse(&config.directory).map_err(|e| plain("directory", &e))?;
        let runtime = ShardRuntime::new().map_err(|e| plain("listen", &format!("no runtime: {e}")))?;
        let inside = runtime.get().enter();
        let server = edge::server_config(tls, &config.limits)
            .map_err(|e| start("pki_dir", &config.pki_dir, &format!("{e:#}")))?;
        let edge =
            Edge::new(socket, cids, server, config.limits.clone()).map_err(|e| bind("listen", config.listen, &e))?;
        let player_addr = edge.local_addr().map_err(|e| bind("listen", config.listen, &e))?;
        let shared = match directory.shared() {
            Some(url) => Some(open_directory(&runtime, url, &config)?),
            None => None,
        };
        let dialer = Dialer::new(&identity).map_err(|e| start("pki_dir", &config.pki_dir, &chain(&e)))?;
        let loaded = load_tables(&tables).map_err(|e| start("data_dir", &data.join("tables"), &e))?;
        for (name, address) in [("gateway.addr", player_addr), ("metrics.addr", metrics_addr)] {
            let path = data.join(name);
            fs::write(&path, reachable(address).to_string()).map_err(|e| start("data_dir", &path, &e))?;
        }

        let instance = InstanceId(Uuid::new_v4());
        let (directives, directive_queue) = mpsc::channel(DIRECTIVES);
        let (reporter, reports) = reports::reports();
        let (links, link_events) = Links::new(
            dialer,
            v1::LinkHello {
                gateway_id: config.id.to_string(),
                gateway_instance: instance.to_vec(),
                lease_ms: config.lease_ms,
                orphan_ms: if shared.is_some() { config.orphan_ms } else { 0 },
                ..Default::default()
            },
        );
        let player_address = config.advertise.clone().unwrap_or_else(|| reachable(player_addr).to_string());
        let shard = Shard::new(Parts {
            edge,
            players: Players::new(login_keys, resume_keys, config.limits.used_tickets as usize),
            links,
            link_events,
            directives: directive_queue,
            reporter,
            core_config: CoreConfig {
                gateway: config.id.clone(),
                shared: shared.is_some().then_some(match config.unknown_home {
                    UnknownHome::Wait => gateway_core::UnknownHome::Wait,
                    UnknownHome::Claim => gateway_core::UnknownHome::Claim,
                }),
                second_login: match config.second_login {
                    SecondLogin::NewestWins => gateway_core::SecondLogin::NewestWins,
                    SecondLogin::Refuse => gateway_core::SecondLogin::Refuse,
                },
                lease: config.lease(),
                step_timeout: Duration::from_millis(config.step_timeout_ms),
                ..CoreConfig::default()
            },
            max_realms: config.limits.realms as usize,
            shared,
            player_address: player_address.clone(),
            stop_within: Duration::from_millis(config.stop_within_ms),
        });
        let hello = v1::GatewayHello {
            gateway_id: config.id.to_string(),
            instance: instance.to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            player_address,
            tables: Vec::new(),
            directory: directory.to_string(),
            started_ms: SystemClock.now().wall.0,
        };
        let (begin, begun) = oneshot::channel();
        let control = Control { endpoint: manager, hello, reports, directives, tables, loaded, begin };
        drop(inside);
        Ok(Self {
            config,
            player_addr,
            metrics_addr,
            metrics_listener,
            runtime,
            shard,
            begun,
            control,
            key_watcher,
            lock,
        })
    }

    /// Where players reach it (the bound address).
    #[must_use]
    pub const fn player_addr(&self) -> SocketAddr {
        self.player_addr
    }

    /// Where `/metrics` is served (the bound address).
    #[must_use]
    pub const fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    /// Serves until `shutdown`, then says goodbye to players and ends.
    ///
    /// # Errors
    /// [`RunError`] when a socket cannot be used any more.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self {
            config,
            player_addr,
            metrics_addr,
            metrics_listener,
            runtime,
            shard,
            begun,
            control,
            key_watcher,
            lock,
        } = self;
        // Held until the end.
        let (_lock, _key_watcher) = (lock, key_watcher);
        tidegate_events::start(config.id.as_str());
        tidegate_events::event!("gateway_started", pid = std::process::id(), listen = %player_addr);
        for word in tidegate_types::sabotage::words() {
            tracing::warn!(word, "a rule is broken on purpose");
        }
        tracing::info!(gateway = %config.id, %player_addr, %metrics_addr, manager = config.manager,
            tables = control.loaded.len(), "gateway serves");
        // Whichever part ends first takes the others with it. The shard is told of the shutdown itself: while it sends its
        // players elsewhere the manager must be heard.
        let stop = CancellationToken::new();
        let begin_to_stop = shutdown.child_token();
        // Also a caller who drops this future: the thread must not serve on unseen.
        let _stop_with_this = stop.clone().drop_guard();
        let figures = control.reports.figures.clone();
        let (ended, shard_ended) = oneshot::channel();
        let (token, now) = (begin_to_stop.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("gateway-shard".into())
            .spawn(move || {
                let outcome = runtime.get().block_on(shard.run(begun, token, now));
                // Links' tasks end with their runtime; their peers have been told.
                drop(runtime);
                // Nobody waits for it any more only if the caller dropped the run.
                let _ = ended.send(outcome);
            })
            .map_err(RunError::Socket)?;
        let metrics = metrics::serve(metrics_listener, figures, stop.clone());
        let control = control.run(stop.clone());
        tokio::pin!(metrics, control, shard_ended);
        let mut outcome = Ok(());
        let mut shard_done = false;
        tokio::select! {
            ended = &mut shard_ended => {
                shard_done = true;
                outcome = shard_outcome(ended);
            }
            served = &mut metrics => outcome = served.map_err(RunError::Metrics),
            () = &mut control => (),
        }
        stop.cancel();
        if !shard_done {
            let last = shard_outcome(shard_ended.await);
            outcome = outcome.and(last);
        }
        if thread.join().is_err() {
            return Err(RunError::Thread);
        }
        tidegate_events::event!("gateway_stopped");
        tracing::info!(gateway = %config.id, "gateway ended");
        outcome
    }
}

/// The serving thread's runtime; sockets are registered with it before the thread runs. It may be dropped on any thread,
/// also on one that is driving another runtime, where tokio's own drop would panic.
struct ShardRuntime(Option<Runtime>);

impl ShardRuntime {
    fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for ShardRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn shard_outcome(ended: Result<std::io::Result<()>, oneshot::error::RecvError>) -> Result<(), RunError> {
    ended.map_err(|_| RunError::Thread)?.map_err(RunError::Socket)
}

/// A UDP socket; an IPv6 wildcard takes IPv4 too.
fn bind_udp(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One gateway a folder: two would know different homes, and each would take the other's players.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("gateway.lock");
    let options = File::options().create(true).truncate(false).write(true).open(&path);
    let file = options.map_err(|e| start("data_dir", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(start("data_dir", &path, &"another gateway uses this folder")),
        Err(fs::TryLockError::Error(e)) => Err(start("data_dir", &path, &e)),
    }
}

/// The tables on disk that make sense.
fn load_tables(tables: &Tables) -> std::io::Result<Vec<RealmTable>> {
    let wire = tables.load()?;
    Ok(wire
        .iter()
        .filter_map(|table| match convert::table(table) {
            Ok(table) => Some(table),
            Err(error) => {
                tracing::warn!(realm = table.realm, %error, "a routing table on disk makes no sense; ignored");
                None
            }
        })
        .collect())
}

/// Connection ids for this start: the next generation, the same key.
fn cids(config: &Config) -> Result<GatewayCids, StartError> {
    let path = config.data_dir.join("generation");
    let last: u64 = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| start("data_dir", &path, &"is not a number"))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(start("data_dir", &path, &e)),
    };
    let generation = last + 1;
    fs::write(&path, generation.to_string()).map_err(|e| start("data_dir", &path, &e))?;
    // This gateway's own, unlike the resume key: another gateway must not be able to make its connection ids.
    let secret = tidegate_ticket::local_secret(&config.data_dir.join("connection-ids.key"))
        .map_err(|e| plain("data_dir", &chain(&e)))?;
    let key = blake3::derive_key("tidegate gateway connection ids 1", &secret);
    Ok(GatewayCids { generation: generation as u8, instance: config.connection_id_instance, key })
}

/// Looks at the shared directory, and connects to it. One that is out of reach is no reason not to start.
fn open_directory(runtime: &ShardRuntime, url: &SharedUrl, config: &Config) -> Result<Shared, StartError> {
    let settings = DirectoryConfig { ca_file: config.directory_ca.clone(), ..DirectoryConfig::default() };
    let findings = look_at(url, &settings);
    if let Some(why) = check::refusal(url, &findings) {
        return Err(plain("directory", &why));
    }
    for finding in findings.iter().filter(|finding| finding.level != check::Level::Ok) {
        tracing::warn!(directory = %url, what = finding.what, "{finding}");
    }
    let _inside = runtime.get().enter();
    let (handle, events) = tidegate_directory::start(url, settings).map_err(|e| plain("directory_ca", &chain(&e)))?;
    Ok(Shared { handle, events })
}

/// On a thread of its own: the caller may be inside a runtime, where nothing can be waited for.
fn look_at(url: &SharedUrl, settings: &DirectoryConfig) -> Vec<check::Finding> {
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(check::inspect(url, settings))).unwrap_or_default()
    };
    std::thread::scope(|scope| scope.spawn(look).join().unwrap_or_default())
}

/// An address that a client on this machine can use: a wildcard becomes loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

fn plain(key: &'static str, what: &dyn std::fmt::Display) -> StartError {
    StartError { key, what: what.to_string() }
}

fn start(key: &'static str, path: &Path, what: &dyn std::fmt::Display) -> StartError {
    let path: PathBuf = path.to_owned();
    plain(key, &format_args!("{}: {what}", path.display()))
}

fn bind(key: &'static str, address: SocketAddr, what: &dyn std::fmt::Display) -> StartError {
    plain(key, &format_args!("cannot bind {address}: {what}"))
}
