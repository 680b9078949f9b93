//! A manager, a gateway and a world to test a host with. The manager is a bare gRPC server, the gateway a bare link.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate_link::connect::Dialer;
use tidegate_link::pki::{Authority, CA_CERT, Identity, Role};
use tidegate_link::{Event, Sender};
use tidegate_proto::v1::world_control_server::{WorldControl, WorldControlServer};
use tidegate_proto::v1::{
    self, GatewayToWorld, HeartbeatAck, LinkHello, WorldDirective, WorldRegister, WorldReport, WorldToGateway,
    gateway_to_world as to_world, world_directive, world_report, world_to_gateway as to_gateway,
};
use tidegate_types::{Epoch, SessionId};
use tidegate_world::{
    Arrival, Config, Cx, Faults, Formats, Frozen, Host, LeaveReason, Outbox, Place, Refusal, Reply, Seat, World, Zone,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;

/// The streams of a link, as the dialler opens them.
pub const STREAMS: u32 = 4;
/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

// The manager.

pub struct Manager {
    pub addr: SocketAddr,
    registered: mpsc::Receiver<Registered>,
    stop: CancellationToken,
}

/// One registration, with both directions of its stream.
pub struct Registered {
    pub register: WorldRegister,
    pub reports: mpsc::Receiver<world_report::Message>,
    directives: mpsc::Sender<Result<WorldDirective, tonic::Status>>,
}

struct Service {
    registered: mpsc::Sender<Registered>,
}

#[tonic::async_trait]
impl WorldControl for Service {
    type ConnectStream = Pin<Box<dyn futures::Stream<Item = Result<WorldDirective, tonic::Status>> + Send>>;

    async fn connect(
        &self,
        request: tonic::Request<tonic::Streaming<WorldReport>>,
    ) -> Result<tonic::Response<Self::ConnectStream>, tonic::Status> {
        let mut stream = request.into_inner();
        let registered = self.registered.clone();
        let (directives, out) = mpsc::channel(16);
        tokio::spawn(async move {
            let Ok(Some(WorldReport { message: Some(world_report::Message::Register(register)) })) =
                stream.message().await
            else {
                panic!("the first report is a registration");
            };
            let (reports_tx, reports) = mpsc::channel(64);
            let _ = registered.send(Registered { register, reports, directives }).await;
            while let Ok(Some(report)) = stream.message().await {
                if reports_tx.send(report.message.expect("a report")).await.is_err() {
                    break;
                }
            }
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(out))))
    }
}

impl Manager {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(addr: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (registered_tx, registered) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serve = tonic::transport::Server::builder()
                .add_service(WorldControlServer::new(Service { registered: registered_tx }))
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::select! { _ = serve => {}, () = stopped.cancelled() => {} }
        });
        Self { addr, registered, stop }
    }

    pub async fn registration(&mut self) -> Registered {
        soon("a registration", self.registered.recv()).await.unwrap()
    }

    /// As a kill would.
    pub fn kill(self) -> SocketAddr {
        self.stop.cancel();
        self.addr
    }
}

impl Registered {
    pub async fn direct(&self, message: world_directive::Message) {
        self.directives.send(Ok(WorldDirective { message: Some(message) })).await.unwrap();
    }

    /// The next report that `pick` wants; others are passed over.
    pub async fn report<T>(&mut self, what: &str, mut pick: impl FnMut(world_report::Message) -> Option<T>) -> T {
        soon(what, async {
            loop {
                if let Some(found) = pick(self.reports.recv().await.expect("the stream ended")) {
                    return found;
                }
            }
        })
        .await
    }

    pub async fn status(&mut self, what: &str, want: impl Fn(&v1::WorldStatus) -> bool) -> v1::WorldStatus {
        self.report(what, |message| match message {
            world_report::Message::Status(status) if want(&status) => Some(status),
            _ => None,
        })
        .await
    }

    pub async fn load_assets(&mut self, path: &Path, digest: [u8; 32]) -> v1::AssetsLoaded {
        let path = path.to_str().unwrap().to_owned();
        self.direct(world_directive::Message::LoadAssets(v1::LoadAssets { path, digest: digest.to_vec() })).await;
        self.report("assets", |message| match message {
            world_report::Message::AssetsLoaded(loaded) => Some(loaded),
            _ => None,
        })
        .await
    }

    pub async fn serve(&mut self) {
        self.direct(world_directive::Message::Serve(v1::Serve {})).await;
        self.status("serving", |status| status.serving).await;
    }
}

// The world: echoes what it hears, remembers it, and logs what it is told.

#[derive(Default)]
pub struct Told {
    pub log: Vec<String>,
    pub outbox: Option<Outbox>,
    pub barrier: Option<Reply<Result<Vec<Zone>, String>>>,
    pub keep_barrier: bool,
    pub freeze: Option<Reply<Result<Frozen, Refusal>>>,
    pub keep_freeze: bool,
    pub activate: Option<Reply<Result<Place, Refusal>>>,
    pub keep_activate: bool,
    pub refuse_prepare: bool,
    pub refuse_reclaim: Option<Refusal>,
}

pub struct Scribe {
    pub told: Arc<Mutex<Told>>,
    heard: Vec<Bytes>,
}

pub fn town() -> Place {
    Place { zone: "town".parse().unwrap(), instance: None }
}

impl Scribe {
    fn log(&self, line: String) {
        self.told.lock().unwrap().log.push(line);
    }

    fn seat(&mut self, seat: Seat) -> &mut Bytes {
        let index = seat.0 as usize;
        if self.heard.len() <= index {
            self.heard.resize(index + 1, Bytes::new());
        }
        &mut self.heard[index]
    }
}

impl World for Scribe {
    fn formats(&self) -> Formats {
        Formats { read: vec![1], write: 1 }
    }
    fn load_zones(&mut self, zones: Vec<Zone>) -> Result<(), String> {
        self.log(format!("zones {}", zones.len()));
        Ok(())
    }
    fn attach(&mut self, cx: &mut Cx<'_>, arrival: Arrival, reply: Reply<Result<Place, Refusal>>) {
        self.log(format!("attach {} {}", arrival.player, arrival.epoch));
        self.told.lock().unwrap().outbox = Some(cx.outbox());
        *self.seat(arrival.seat) = Bytes::new();
        reply.send(Ok(town()));
    }
    fn message(&mut self, cx: &mut Cx<'_>, seat: Seat, body: Bytes) {
        assert!(cx.is_live(seat), "a message for a player who is not live");
        cx.send(seat, &body);
        let heard = self.seat(seat);
        *heard = [&heard[..], &body[..]].concat().into();
    }
    fn datagram(&mut self, cx: &mut Cx<'_>, seat: Seat, payload: Bytes) {
        cx.datagram(seat, &payload);
    }
    fn park(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.log(format!("park {}", seat.0));
    }
    fn unpark(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.log(format!("unpark {}", seat.0));
    }
    fn leave(&mut self, _: &mut Cx<'_>, seat: Seat, reason: LeaveReason, reply: Reply<()>) {
        self.log(format!("leave {} {reason}", seat.0));
        reply.send(());
    }
    fn freeze(&mut self, _: &mut Cx<'_>, seat: Seat, reply: Reply<Result<Frozen, Refusal>>) {
        self.log(format!("freeze {}", seat.0));
        let state = self.seat(seat).clone();
        let mut told = self.told.lock().unwrap();
        if told.keep_freeze {
            told.freeze = Some(reply);
        } else {
            reply.send(Ok(Frozen { state, format: 1 }));
        }
    }
    fn thaw(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.log(format!("thaw {}", seat.0));
    }
    fn release(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.log(format!("release {}", seat.0));
    }
    fn prepare(&mut self, cx: &mut Cx<'_>, arrival: Arrival, state: Frozen, reply: Reply<Result<(), Refusal>>) {
        self.log(format!("prepare {} {}", arrival.player, arrival.epoch));
        *self.seat(arrival.seat) = state.state;
        let mut told = self.told.lock().unwrap();
        told.outbox = Some(cx.outbox());
        // Dropping a reply refuses.
        if !told.refuse_prepare {
            reply.send(Ok(()));
        }
    }
    fn activate(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<Place, Refusal>>) {
        self.log(format!("activate {} {epoch}", seat.0));
        let heard = self.seat(seat).clone();
        cx.send(seat, &heard);
        let mut told = self.told.lock().unwrap();
        if told.keep_activate {
            told.activate = Some(reply);
        } else {
            reply.send(Ok(town()));
        }
    }
    fn reclaim(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<Place, Refusal>>) {
        assert!(!cx.is_live(seat), "a claim for a player who may change behind it");
        self.log(format!("reclaim {} {epoch}", seat.0));
        let mut told = self.told.lock().unwrap();
        match told.refuse_reclaim.take() {
            Some(refusal) => reply.send(Err(refusal)),
            None => reply.send(Ok(town())),
        }
    }
    fn abort(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.log(format!("abort {}", seat.0));
    }
    fn barrier(&mut self, _: &mut Cx<'_>, reply: Reply<Result<Vec<Zone>, String>>) {
        self.log("barrier".into());
        let mut told = self.told.lock().unwrap();
        if told.keep_barrier {
            told.barrier = Some(reply);
        } else {
            let zone = town().zone;
            reply.send(Ok(vec![Zone { zone, state: Bytes::from_static(b"trees"), format: 1 }]));
        }
    }
    fn barrier_release(&mut self, _: &mut Cx<'_>) {
        self.log("barrier_release".into());
    }
    fn stopping(&mut self, _: &mut Cx<'_>, reply: Reply<()>) {
        self.log("stopping".into());
        reply.send(());
    }
}

// A running host.

pub struct Running {
    pub server: String,
    pub link: SocketAddr,
    pub told: Arc<Mutex<Told>>,
    pub shutdown: CancellationToken,
    pub ended: tokio::task::JoinHandle<()>,
}

impl Running {
    pub fn log(&self) -> Vec<String> {
        self.told.lock().unwrap().log.clone()
    }

    pub async fn logged(&self, line: &str) {
        soon(line, async {
            while !self.log().iter().any(|have| have == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub fn outbox(&self) -> Outbox {
        self.told.lock().unwrap().outbox.clone().expect("nobody has come yet")
    }
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub authority: Authority,
    pub manager: Manager,
}

impl Bench {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        Self { dir, authority, manager: Manager::start().await }
    }

    fn issue(&self, role: Role, id: &str) -> (PathBuf, PathBuf, PathBuf) {
        let (cert, key) = self.authority.issue(&role.tls_name(id), &[]).unwrap().write(self.dir.path(), id).unwrap();
        (self.dir.path().join(CA_CERT), cert, key)
    }

    pub fn config(&self, server: &str) -> Config {
        let (ca, cert, key) = self.issue(Role::World, server);
        Config {
            manager: format!("http://{}", self.manager.addr),
            realm: "eu-1".parse().unwrap(),
            environment: "eu-1-a".parse().unwrap(),
            fleet: "main".parse().unwrap(),
            server: server.parse().unwrap(),
            build: "1.0.0".parse().unwrap(),
            expected_build: "1.0.0".parse().unwrap(),
            link_listen: "127.0.0.1:0".parse().unwrap(),
            link_advertise: None,
            link_ca: ca,
            link_cert: cert,
            link_key: key,
            zones: vec!["town".parse().unwrap()],
            instance_kinds: vec![],
            capacity: 10,
            database: self.dir.path().join("world.db"),
            tick_hz: 100,
            faults: Faults::default(),
        }
    }

    pub fn start(&self, config: Config) -> Running {
        let told = Arc::new(Mutex::new(Told::default()));
        let server = config.server.to_string();
        let host = Host::new(config, Scribe { told: told.clone(), heard: Vec::new() }).unwrap();
        let (link, shutdown) = (host.link_addr(), CancellationToken::new());
        let stop = shutdown.clone();
        let ended = tokio::spawn(async move { host.run(stop).await.unwrap() });
        Running { server, link, told, shutdown, ended }
    }

    /// A host that serves.
    pub async fn serving(&mut self, server: &str) -> (Running, Registered) {
        let running = self.start(self.config(server));
        let mut registered = self.manager.registration().await;
        registered.serve().await;
        (running, registered)
    }

    pub async fn gateway(&self, to: &Running, lease_ms: u32) -> Gateway {
        self.gateway_named("gw", to, lease_ms).await
    }

    pub async fn gateway_named(&self, name: &str, to: &Running, lease_ms: u32) -> Gateway {
        self.gateway_keeping(name, to, lease_ms, 0).await
    }

    /// One whose players are kept for `orphan_ms` without it.
    pub async fn gateway_keeping(&self, name: &str, to: &Running, lease_ms: u32, orphan_ms: u32) -> Gateway {
        let (ca, cert, key) = self.issue(Role::Gateway, name);
        let dialer = Dialer::new(&Identity::load(&ca, &cert, &key).unwrap()).unwrap();
        let hello =
            LinkHello { gateway_id: name.into(), realm: "eu-1".into(), lease_ms, orphan_ms, ..LinkHello::default() };
        let (link, answer) = dialer.connect(to.link, &Role::World.tls_name(&to.server), hello).await.unwrap();
        assert_eq!(answer.server_id, to.server);
        let answering = Arc::new(AtomicBool::new(true));
        let (tx, events) = mpsc::channel(10_000);
        let (sender, mut receiver, flag) = (link.sender.clone(), link.receiver, answering.clone());
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv(&mut batch).await.is_some() {
                for event in batch.drain(..) {
                    if let Event::Control {
                        message: WorldToGateway { message: Some(to_gateway::Message::Heartbeat(beat)) },
                        ..
                    } = &event
                    {
                        if flag.load(Ordering::SeqCst) {
                            let ack = to_world::Message::HeartbeatAck(HeartbeatAck { sequence: beat.sequence });
                            let _ = sender.control(0, GatewayToWorld { message: Some(ack) });
                        }
                        continue;
                    }
                    // The test has seen enough.
                    if tx.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
        Gateway { dialer, sender: link.sender, events, answering }
    }
}

// A gateway.

pub struct Gateway {
    dialer: Dialer,
    pub sender: Sender<GatewayToWorld>,
    pub events: mpsc::Receiver<Event<WorldToGateway>>,
    /// Whether heartbeats are answered.
    pub answering: Arc<AtomicBool>,
}

impl Gateway {
    pub fn say(&self, handle: u32, message: to_world::Message) {
        self.sender.control(handle, GatewayToWorld { message: Some(message) }).unwrap();
    }

    pub fn game(&self, handle: u32, body: &'static str) {
        self.sender.game(handle, &Bytes::from_static(body.as_bytes())).unwrap();
    }

    /// The next event but statuses and counts.
    pub async fn next(&mut self) -> Event<WorldToGateway> {
        soon("something from the world", async {
            loop {
                let event = self.events.recv().await.expect("the link ended");
                let passing = matches!(
                    &event,
                    Event::Control {
                        message: WorldToGateway {
                            message: Some(to_gateway::Message::Status(_) | to_gateway::Message::FramesReceived(_))
                        },
                        ..
                    }
                );
                if !passing {
                    return event;
                }
            }
        })
        .await
    }

    pub async fn control(&mut self) -> to_gateway::Message {
        match self.next().await {
            Event::Control { message, .. } => message.message.expect("a message"),
            other => panic!("expected a control message, not {other:?}"),
        }
    }

    pub async fn hears(&mut self, body: &str) {
        match self.next().await {
            Event::Game { body: heard, .. } => assert_eq!(String::from_utf8_lossy(&heard), body),
            other => panic!("expected {body:?}, not {other:?}"),
        }
    }

    /// Reads the roster to its end.
    pub async fn roster(&mut self) -> Vec<v1::Resident> {
        let mut residents = Vec::new();
        loop {
            match self.control().await {
                to_gateway::Message::Resident(resident) => residents.push(resident),
                to_gateway::Message::RosterEnd(_) => return residents,
                other => panic!("not in a roster: {other:?}"),
            }
        }
    }

    pub fn attach(&self, handle: u32, who: &v1::SessionIdentity, epoch: u64) {
        self.attach_as(handle, who, epoch, v1::Attach::default());
    }

    /// As `how` says beyond that.
    pub fn attach_as(&self, handle: u32, who: &v1::SessionIdentity, epoch: u64, how: v1::Attach) {
        let cause = v1::Cause::Login.into();
        let attach = v1::Attach { handle, identity: Some(who.clone()), epoch, cause, ..how };
        self.say(handle, to_world::Message::Attach(attach));
    }

    /// Waits until the world says that it has received so many frames under this handle.
    pub async fn counted(&mut self, handle: u32, count: u64) {
        soon("a count", async {
            loop {
                let event = self.events.recv().await.expect("the link ended");
                if let Event::Control {
                    message: WorldToGateway { message: Some(to_gateway::Message::FramesReceived(told)) },
                    stream,
                } = event
                {
                    assert!(told.handles.iter().all(|of| of % STREAMS == stream), "{told:?} on stream {stream}");
                    if told.handles.iter().zip(&told.counts).any(|(of, told)| (*of, *told) == (handle, count)) {
                        return;
                    }
                }
            }
        })
        .await;
    }

    pub async fn attached(&mut self, handle: u32, who: &v1::SessionIdentity, epoch: u64) {
        self.attach(handle, who, epoch);
        match self.control().await {
            to_gateway::Message::Attached(attached) => {
                assert_eq!((attached.handle, attached.epoch), (handle, epoch));
            }
            other => panic!("expected Attached, not {other:?}"),
        }
    }

    pub async fn frozen(&mut self, handle: u32, epoch: u64) -> v1::Frozen {
        self.say(handle, to_world::Message::Freeze(v1::Freeze { handle, epoch }));
        match self.control().await {
            to_gateway::Message::Frozen(frozen) => frozen,
            other => panic!("expected Frozen, not {other:?}"),
        }
    }

    pub fn prepare(&self, handle: u32, who: &v1::SessionIdentity, epoch: u64, frozen: &v1::Frozen) {
        self.say(
            handle,
            to_world::Message::Prepare(v1::Prepare {
                handle,
                identity: Some(who.clone()),
                epoch,
                state: frozen.state.clone(),
                format: frozen.format,
                digest: frozen.digest.clone(),
                cause: v1::Cause::Zone.into(),
                ..v1::Prepare::default()
            }),
        );
    }
}

pub fn player(n: u128) -> v1::SessionIdentity {
    v1::SessionIdentity {
        session_id: SessionId(uuid::Uuid::from_u128(n)).to_vec(),
        player: format!("p{n}"),
        character: format!("c{n}"),
        party: String::new(),
        client_version: "1.0.0".into(),
        pin: None,
    }
}
