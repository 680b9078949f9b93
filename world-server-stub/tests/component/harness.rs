//! A manager and a gateway in miniature, for world servers in this process: what they say on the wire and nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use prost::Message;
use tidegate_link::Event as LinkEvent;
use tidegate_link::connect::Dialer;
use tidegate_link::pki::{Authority, Identity, Role};
use tidegate_proto::stub::v1::{Action, Answer, Entered, Event, action, event};
use tidegate_proto::v1::gateway_to_world::Message as ToWorld;
use tidegate_proto::v1::world_control_server::{WorldControl, WorldControlServer};
use tidegate_proto::v1::world_directive::Message as Directive;
use tidegate_proto::v1::world_report::Message as Report;
use tidegate_proto::v1::world_to_gateway::Message as FromWorld;
use tidegate_proto::v1::{
    Attach, Cause, Freeze, GatewayToWorld, HeartbeatAck, LinkHello, Place, Prepare, Serve, SessionIdentity,
    WorldDirective, WorldReport, WorldToGateway,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use world_server_stub::ledger::{HomesAudit, audit};

/// Longer than anything here takes on a loaded machine; what waits so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The lease of the links: two heartbeats long, to have short tests.
pub(crate) const LEASE_MS: u32 = 1_500;

type Directives = mpsc::UnboundedSender<Result<WorldDirective, Status>>;

/// What the world servers reported, and how to direct them.
#[derive(Default)]
struct Desk {
    directives: HashMap<String, Directives>,
    links: HashMap<String, SocketAddr>,
    reports: Vec<(String, Report)>,
}

#[derive(Clone, Default)]
struct Manager {
    desk: Arc<Mutex<Desk>>,
}

#[tonic::async_trait]
impl WorldControl for Manager {
    type ConnectStream = UnboundedReceiverStream<Result<WorldDirective, Status>>;

    async fn connect(&self, request: Request<Streaming<WorldReport>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (directives, stream) = mpsc::unbounded_channel();
        let desk = self.desk.clone();
        tokio::spawn(async move {
            let mut reports = request.into_inner();
            let mut server = String::new();
            while let Some(Ok(WorldReport { message: Some(report) })) = reports.next().await {
                if let Report::Register(register) = &report {
                    server.clone_from(&register.server_id);
                    let serve = WorldDirective { message: Some(Directive::Serve(Serve {})) };
                    directives.send(Ok(serve)).ok();
                    desk.lock().unwrap().directives.insert(server.clone(), directives.clone());
                }
                let mut desk = desk.lock().unwrap();
                if let Report::Status(status) = &report
                    && status.serving
                {
                    let link = desk.reports.iter().find_map(|(of, report)| match report {
                        Report::Register(register) if *of == server => register.link_address.parse().ok(),
                        _ => None,
                    });
                    desk.links.insert(server.clone(), link.expect("registered before it serves"));
                }
                desk.reports.push((server.clone(), report));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

/// A realm's folder, its manager and its certificates.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    manager: Manager,
    url: String,
    authority: Authority,
    shutdown: CancellationToken,
    servers: Vec<tokio::task::JoinHandle<Result<(), world_server_stub::Error>>>,
    processes: Vec<Child>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// The variable that tells a test process to be a world server, with its arguments.
const BE_A_SERVER: &str = "TEST_WORLD_SERVER_ARGUMENTS";

/// What a process started by [`Fleet::start_process`] does: serves as the environment says.
pub(crate) fn be_a_server() {
    let Ok(arguments) = std::env::var(BE_A_SERVER) else { return };
    let args = Cli::parse_from(std::iter::once("stub").chain(arguments.split_whitespace())).args;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(world_server_stub::run(args, CancellationToken::new())).unwrap();
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: world_server_stub::Args,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let manager = Manager::default();
        let service = WorldControlServer::new(manager.clone());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let authority = Authority::open_or_create(&dir.path().join("pki")).unwrap();
        Self {
            manager,
            url,
            authority,
            shutdown: CancellationToken::new(),
            servers: Vec::new(),
            processes: Vec::new(),
            dir,
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("world.db")
    }

    pub(crate) fn audit(&self) -> HomesAudit {
        audit(&self.database()).unwrap()
    }

    /// Starts a world server of the harbor, the forest and dungeons in this process, and waits until it serves.
    pub(crate) async fn start(&mut self, id: &str, arguments: &[&str]) -> Server {
        let args = Cli::parse_from([&["stub"], arguments].concat()).args;
        let vars = self.vars(id, args.build.as_str());
        let lookup = |name: &str| vars.get(name).cloned();
        let config = tidegate_world::Config::from_lookup(args.build.clone(), lookup).unwrap();
        self.servers.push(tokio::spawn(world_server_stub::serve(config, args, self.shutdown.clone())));
        self.link(id).await
    }

    /// The same in a process of its own, which can be killed and paused.
    pub(crate) async fn start_process(&mut self, id: &str, arguments: &str) -> Server {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::world_server_process", "--ignored", "--nocapture"])
            .envs(self.vars(id, "1.9.0"))
            .env(BE_A_SERVER, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push(process);
        self.link(id).await
    }

    /// kill -9 of the process started last.
    pub(crate) fn kill(&mut self) {
        let mut process = self.processes.pop().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Waits until the process started last has ended by itself.
    pub(crate) async fn dies(&mut self) {
        let mut process = self.processes.pop().unwrap();
        until("the process ends", || process.try_wait().unwrap()).await;
    }

    /// Stops the process started last in its tracks, or lets it go on.
    pub(crate) async fn pause(&self, pause: bool) {
        let pid = rustix::process::Pid::from_child(self.processes.last().unwrap());
        let signal = if pause { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        rustix::process::kill_process(pid, signal).unwrap();
        if pause {
            // Each of its threads stops when it gets to it.
            let tasks = format!("/proc/{pid}/task");
            until("all threads stand still", || {
                let states = std::fs::read_dir(&tasks).unwrap().flatten();
                let mut states = states.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
                states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))).then_some(())
            })
            .await;
        }
    }

    /// What the manager tells a server.
    fn vars(&self, id: &str, build: &str) -> HashMap<&'static str, String> {
        let pki = self.dir.path().join("pki");
        let (cert, key) = self.authority.issue(&Role::World.tls_name(id), &[]).unwrap().write(&pki, id).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        HashMap::from([
            ("TIDEGATE_MANAGER", self.url.clone()),
            ("TIDEGATE_REALM", "eu-1".to_owned()),
            ("TIDEGATE_ENVIRONMENT", "eu-1-a".to_owned()),
            ("TIDEGATE_FLEET", "main".to_owned()),
            ("TIDEGATE_SERVER_ID", id.to_owned()),
            ("TIDEGATE_BUILD", build.to_owned()),
            ("TIDEGATE_LINK_LISTEN", "127.0.0.1:0".to_owned()),
            ("TIDEGATE_LINK_CA", text(pki.join("ca.pem"))),
            ("TIDEGATE_LINK_CERT", text(cert)),
            ("TIDEGATE_LINK_KEY", text(key)),
            ("TIDEGATE_ZONES", if id.starts_with("far") { "desert" } else { "harbor,forest" }.to_owned()),
            ("TIDEGATE_INSTANCE_KINDS", "dungeon".to_owned()),
            ("TIDEGATE_CAPACITY", "100".to_owned()),
            ("TIDEGATE_DATABASE", text(self.database())),
        ])
    }

    /// Opens another link to a server.
    pub(crate) async fn link(&self, id: &str) -> Server {
        let desk = self.manager.desk.clone();
        let addr = until("the server serves", || desk.lock().unwrap().links.get(id).copied()).await;
        let pki = self.dir.path().join("pki");
        let name = Role::Gateway.tls_name("gw-1");
        let (cert, key) = self.authority.issue(&name, &[]).unwrap().write(&pki, "gw-1").unwrap();
        let identity = Identity::load(&pki.join("ca.pem"), &cert, &key).unwrap();
        Server::link(id, &identity, addr, &Role::World.tls_name(id)).await
    }

    pub(crate) fn direct(&self, server: &str, directive: Directive) {
        let desk = self.manager.desk.lock().unwrap();
        desk.directives[server].send(Ok(WorldDirective { message: Some(directive) })).unwrap();
    }

    /// Waits for a report of this server that `pick` takes.
    pub(crate) async fn report<T>(&self, server: &str, pick: impl Fn(&Report) -> Option<T>) -> T {
        let desk = self.manager.desk.clone();
        until("a report comes", || {
            desk.lock().unwrap().reports.iter().filter(|(of, _)| of == server).find_map(|(_, report)| pick(report))
        })
        .await
    }

    /// Stops all servers and waits for their last writes.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        for server in self.servers.drain(..) {
            tokio::time::timeout(LONG, server).await.expect("it stops").unwrap().unwrap();
        }
    }
}

/// Looks every few milliseconds until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(LONG, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited too long until {what}"))
}

/// A gateway's link to one world server.
pub(crate) struct Server {
    /// Whether heartbeats are answered.
    pub(crate) answering: Arc<AtomicBool>,
    sender: tidegate_link::Sender<GatewayToWorld>,
    inbox: mpsc::UnboundedReceiver<LinkEvent<WorldToGateway>>,
    /// What came while something else was waited for.
    kept: Vec<LinkEvent<WorldToGateway>>,
}

impl Server {
    async fn link(id: &str, identity: &Identity, addr: SocketAddr, tls_name: &str) -> Self {
        let hello = LinkHello {
            gateway_id: "gw-1".to_owned(),
            gateway_instance: vec![1; 16],
            realm: "eu-1".to_owned(),
            lease_ms: LEASE_MS,
            ..LinkHello::default()
        };
        let (link, world) = Dialer::new(identity).unwrap().connect(addr, tls_name, hello).await.unwrap();
        assert_eq!(world.server_id, id);
        let (inbox_in, inbox) = mpsc::unbounded_channel();
        let sender = link.sender.clone();
        let mut receiver = link.receiver;
        let answering = Arc::new(AtomicBool::new(true));
        let answers = answering.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv(&mut batch).await.is_some() {
                for event in batch.drain(..) {
                    match event {
                        LinkEvent::Control {
                            message: WorldToGateway { message: Some(FromWorld::Heartbeat(beat)) },
                            ..
                        } => {
                            let ack = HeartbeatAck { sequence: beat.sequence };
                            if answers.load(Ordering::SeqCst) {
                                link.sender.control(0, to_world(ToWorld::HeartbeatAck(ack))).ok();
                            }
                        }
                        other => {
                            inbox_in.send(other).ok();
                        }
                    }
                }
            }
        });
        Self { answering, sender, inbox, kept: Vec::new() }
    }

    /// Closes the link.
    pub(crate) fn close(&self) {
        self.sender.close(tidegate_proto::CloseCode::Done, "test");
    }

    /// What has come and was not waited for, but what the link says of itself.
    pub(crate) fn unasked(&mut self) -> Vec<LinkEvent<WorldToGateway>> {
        while let Ok(event) = self.inbox.try_recv() {
            self.kept.push(event);
        }
        std::mem::take(&mut self.kept)
    }

    pub(crate) fn say(&self, handle: u32, message: ToWorld) {
        self.sender.control(handle, to_world(message)).unwrap();
    }

    /// Waits for the first thing that `pick` takes; the rest is kept, in order.
    async fn wait<T>(&mut self, what: &str, pick: impl Fn(&LinkEvent<WorldToGateway>) -> Option<T>) -> T {
        if let Some((at, found)) = self.kept.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?))) {
            self.kept.remove(at);
            return found;
        }
        let waited = tokio::time::timeout(LONG, async {
            loop {
                let event = self.inbox.recv().await.expect("the link is open");
                match pick(&event) {
                    Some(found) => return found,
                    None => self.kept.push(event),
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("waited too long for {what}"))
    }

    /// Waits for a control message that `pick` takes.
    pub(crate) async fn hear<T>(&mut self, what: &str, pick: impl Fn(&FromWorld) -> Option<T>) -> T {
        self.wait(what, |event| match event {
            LinkEvent::Control { message: WorldToGateway { message: Some(message) }, .. } => pick(message),
            _ => None,
        })
        .await
    }

    async fn event<T>(&mut self, of: u32, what: &str, pick: impl Fn(event::Kind) -> Option<T>) -> T {
        self.wait(what, |event| match event {
            LinkEvent::Game { handle, body } if *handle == of => {
                Event::decode(body.clone()).unwrap().kind.and_then(&pick)
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn entered(&mut self, handle: u32) -> Entered {
        self.event(handle, "Entered", |kind| if let event::Kind::Entered(it) = kind { Some(it) } else { None }).await
    }

    pub(crate) async fn answer(&mut self, handle: u32) -> Answer {
        self.event(handle, "an answer", |kind| if let event::Kind::Answer(it) = kind { Some(it) } else { None }).await
    }

    pub(crate) fn act(&self, handle: u32, sequence: u64, kind: action::Kind) {
        self.send(handle, Action { sequence, again: false, kind: Some(kind) });
    }

    pub(crate) fn act_again(&self, handle: u32, sequence: u64, kind: action::Kind) {
        self.send(handle, Action { sequence, again: true, kind: Some(kind) });
    }

    fn send(&self, handle: u32, action: Action) {
        self.sender.game(handle, &Bytes::from(action.encode_to_vec())).unwrap();
    }

    pub(crate) fn datagram(&self, handle: u32, payload: &impl Message) {
        self.sender.datagram(handle, &Bytes::from(payload.encode_to_vec())).unwrap();
    }

    pub(crate) async fn heard_datagram(&mut self, of: u32) -> Bytes {
        self.wait("a datagram", |event| match event {
            LinkEvent::Datagram { handle, payload } if *handle == of => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Attaches a player: `Ok` with the place, or the refusal.
    pub(crate) async fn attach(
        &mut self,
        handle: u32,
        character: &str,
        epoch: u64,
        place: Option<Place>,
    ) -> Result<Place, tidegate_proto::v1::AttachRefused> {
        self.attach_for(Cause::Login, handle, character, epoch, place).await
    }

    pub(crate) async fn attach_for(
        &mut self,
        cause: Cause,
        handle: u32,
        character: &str,
        epoch: u64,
        place: Option<Place>,
    ) -> Result<Place, tidegate_proto::v1::AttachRefused> {
        let attach = Attach { place, cause: cause.into(), ..Attach::default() };
        self.attach_as(attach, handle, character, epoch).await.map(|attached| attached.place.unwrap())
    }

    /// Attaches as `how` says beyond the character.
    pub(crate) async fn attach_as(
        &mut self,
        how: Attach,
        handle: u32,
        character: &str,
        epoch: u64,
    ) -> Result<tidegate_proto::v1::Attached, tidegate_proto::v1::AttachRefused> {
        let attach = Attach { handle, identity: Some(identity(character)), epoch, ..how };
        self.say(handle, ToWorld::Attach(attach));
        self.hear("the attach's answer", |message| match message {
            FromWorld::Attached(it) if it.handle == handle => Some(Ok(it.clone())),
            FromWorld::AttachRefused(it) if it.handle == handle => Some(Err(it.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn freeze(&mut self, handle: u32, epoch: u64) -> tidegate_proto::v1::Frozen {
        self.say(handle, ToWorld::Freeze(Freeze { handle, epoch }));
        self.hear("Frozen", |message| match message {
            FromWorld::Frozen(it) if it.handle == handle => Some(it.clone()),
            FromWorld::FreezeRefused(it) => panic!("{it:?}"),
            _ => None,
        })
        .await
    }

    /// Prepares what was frozen elsewhere: `Err` with the refusal.
    pub(crate) async fn prepare(
        &mut self,
        handle: u32,
        character: &str,
        frozen: tidegate_proto::v1::Frozen,
        place: Place,
    ) -> Result<(), tidegate_proto::v1::PrepareRefused> {
        let prepare = Prepare {
            handle,
            identity: Some(identity(character)),
            epoch: frozen.epoch + 1,
            state: frozen.state,
            format: frozen.format,
            digest: frozen.digest,
            place: Some(place),
            cause: Cause::Zone.into(),
            ..Prepare::default()
        };
        self.say(handle, ToWorld::Prepare(prepare));
        self.hear("the prepare's answer", |message| match message {
            FromWorld::Prepared(it) if it.handle == handle => Some(Ok(())),
            FromWorld::PrepareRefused(it) if it.handle == handle => Some(Err(it.clone())),
            _ => None,
        })
        .await
    }
}

fn identity(character: &str) -> SessionIdentity {
    let mut session_id = [0; 16];
    session_id[..character.len().min(16)].copy_from_slice(&character.as_bytes()[..character.len().min(16)]);
    SessionIdentity {
        session_id: session_id.to_vec(),
        player: if character.starts_with("probe") { format!("probe:{character}") } else { format!("p-{character}") },
        character: character.to_owned(),
        ..SessionIdentity::default()
    }
}

fn to_world(message: ToWorld) -> GatewayToWorld {
    GatewayToWorld { message: Some(message) }
}

pub(crate) fn place(zone: &str) -> Place {
    Place { zone: zone.to_owned(), instance: String::new() }
}
