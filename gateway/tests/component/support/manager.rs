//! A manager played by the test: remembers every report and says what the test wants.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::Stream;
use tidegate_proto::v1::gateway_control_server::{GatewayControl, GatewayControlServer};
use tidegate_proto::v1::{
    self, GatewayDirective, GatewayReport, RouteEnvironment, RouteServer, RouteTable, gateway_directive, gateway_report,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::eventually;
use super::world::FakeWorld;

pub(crate) struct FakeManager {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Shared {
    reports: Mutex<Vec<gateway_report::Message>>,
    streams: Mutex<Vec<mpsc::UnboundedSender<Result<GatewayDirective, Status>>>>,
    /// Sent to every new stream.
    tables: Mutex<Vec<RouteTable>>,
    /// Streams are refused.
    refusing: AtomicBool,
    refusals: AtomicU32,
}

struct Service {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl GatewayControl for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<GatewayDirective, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<GatewayReport>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.shared.refusing.load(Ordering::SeqCst) {
            self.shared.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(Status::failed_precondition("another gateway is live"));
        }
        let (sender, queue) = mpsc::unbounded_channel();
        for table in self.shared.tables.lock().unwrap().iter() {
            let message = Some(gateway_directive::Message::Table(table.clone()));
            sender.send(Ok(GatewayDirective { message })).unwrap();
        }
        self.shared.streams.lock().unwrap().push(sender);
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            loop {
                let report = tokio::select! {
                    report = incoming.message() => report,
                    () = stop.cancelled() => return,
                };
                let Ok(Some(report)) = report else { return };
                shared.reports.lock().unwrap().extend(report.message);
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(queue))))
    }
}

impl FakeManager {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Vec::new()).await
    }

    async fn start_at(address: SocketAddr, tables: Vec<RouteTable>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shared, stop) = (Arc::new(Shared::default()), CancellationToken::new());
        *shared.tables.lock().unwrap() = tables;
        let service = GatewayControlServer::new(Service { shared: shared.clone(), stop: stop.clone() });
        let stopped = stop.clone();
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            // Not graceful: a manager that is killed does not say so.
            tokio::select! {
                served = server.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                () = stopped.cancelled() => (),
            }
        });
        Self { address, shared, stop }
    }

    /// Dies, and is started again on the same port with the same tables and no memory of sessions.
    pub(crate) async fn restart(self) -> Self {
        let (address, tables) = (self.address, self.shared.tables.lock().unwrap().clone());
        self.kill();
        // The port is free once the old server's task has ended.
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    drop(listener);
                    return Self::start_at(address, tables).await;
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    pub(crate) fn kill(&self) {
        self.stop.cancel();
        self.shared.streams.lock().unwrap().clear();
    }

    /// Refuses gateways from now on, or takes them again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::SeqCst);
    }

    /// How many streams were refused.
    pub(crate) fn refusals(&self) -> u32 {
        self.shared.refusals.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells every gateway, now and later.
    pub(crate) fn publish(&self, table: RouteTable) {
        let mut tables = self.shared.tables.lock().unwrap();
        tables.retain(|t| t.realm != table.realm);
        tables.push(table.clone());
        drop(tables);
        self.direct(gateway_directive::Message::Table(table));
    }

    pub(crate) fn direct(&self, message: gateway_directive::Message) {
        for stream in self.shared.streams.lock().unwrap().iter() {
            // A stream whose gateway is gone is no longer interesting.
            let _ = stream.send(Ok(GatewayDirective { message: Some(message.clone()) }));
        }
    }

    pub(crate) fn reports(&self) -> Vec<gateway_report::Message> {
        self.shared.reports.lock().unwrap().clone()
    }

    /// Waits for a report that `pick` finds.
    pub(crate) async fn report<T>(&self, what: &str, pick: impl Fn(&gateway_report::Message) -> Option<T>) -> T {
        eventually(what, || self.shared.reports.lock().unwrap().iter().find_map(&pick)).await
    }

    /// Waits for the acknowledgement of a generation.
    pub(crate) async fn acked(&self, generation: u64) {
        self.report("the table's acknowledgement", |report| match report {
            gateway_report::Message::TableAck(ack) if ack.generation >= generation => Some(()),
            _ => None,
        })
        .await;
    }

    /// The last row of a player, if its session is not gone.
    pub(crate) fn row(&self, player: &str) -> Option<v1::SessionRow> {
        let mut last: Option<v1::SessionRow> = None;
        for report in self.shared.reports.lock().unwrap().iter() {
            match report {
                gateway_report::Message::Session(row) if row.player == player => last = Some(row.clone()),
                gateway_report::Message::SessionGone(gone)
                    if last.as_ref().is_some_and(|row| row.session_id == gone.session_id) =>
                {
                    last = None;
                }
                gateway_report::Message::SessionsBegin(_) => last = None,
                _ => (),
            }
        }
        last
    }
}

/// A routing table with these environments; a server's zones are its own word.
pub(crate) fn table(
    realm: &str,
    generation: u64,
    accepting: &str,
    environments: &[(&str, &[&FakeWorld])],
) -> RouteTable {
    let environments = environments
        .iter()
        .map(|(id, servers)| RouteEnvironment {
            environment_id: (*id).into(),
            build: if *id == "green" { "2.0.0".into() } else { "1.9.0".into() },
            phase: if *id == accepting { v1::Phase::Active } else { v1::Phase::Draining }.into(),
            servers: servers.iter().map(|world| route(world)).collect(),
            ..Default::default()
        })
        .collect();
    RouteTable {
        realm: realm.into(),
        generation,
        accepting: accepting.into(),
        environments,
        boundaries: Some(v1::BoundaryPolicy { zone: true, instance: true, respawn: true }),
        entry_zone: "town".into(),
        grace_ms: 30_000,
        ..Default::default()
    }
}

fn route(world: &FakeWorld) -> RouteServer {
    RouteServer {
        server_id: world.id().into(),
        instance: world.instance(),
        address: world.address().to_string(),
        tls_name: tidegate_link::pki::Role::World.tls_name(world.id()),
        zones: world.zones(),
        instance_kinds: vec![],
        capacity: 1_000,
        ready: true,
    }
}
