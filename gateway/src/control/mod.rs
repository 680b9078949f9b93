//! The stream to the manager: opened again and again, everything re-sent in full each time.
//!
//! ```text
//!   shard --reports--> [mirror of all rows] --stream--> manager
//!   shard <--directives-- (table on disk first) <--stream-- manager
//! ```
//!
//! The mirror makes the full re-send this side's own affair: the shard is never asked for it. While there is no stream,
//! the mirror goes on following the shard, and what is not a row waits (bounded) for the next stream.
//!
//! The tables from disk come into force once the manager has taken this gateway in or cannot be reached, not while it
//! refuses it: beside a gateway that is live, one that follows an old table would take that one's players.

mod mirror;

use std::sync::Arc;
use std::time::Duration;

use gateway_core::table::RealmTable;
use rand::RngExt;
use tidegate_proto::v1::gateway_control_client::GatewayControlClient;
use tidegate_proto::v1::{self, gateway_directive, gateway_report};
use tidegate_types::InstanceId;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::convert;
use crate::reports::{Figures, Report, Reports};
use crate::shard::{Directive, wire_state};
use crate::tables::Tables;
use mirror::Mirror;

/// First pause after a broken stream: a manager that restarts is back within a second or two.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause: how late a gateway may learn of a manager that is back.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long opening the stream may take in all; a manager that hangs is as good as none. A starting gateway serves after it
/// at the latest.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// A manager that answers no ping for so long is gone; the stream is opened anew.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Messages that wait for the stream. Small: what waits longer waits in the shard's queue, which can say that it is full.
const STREAM_QUEUE: usize = 1024;
/// Largest directive, in bytes: a routing table of thousands of servers.
const MAX_DIRECTIVE: usize = 16 * 1024 * 1024;
/// Most gateways that players are told of: more would only make every welcome longer.
const MAX_GATEWAYS: usize = 64;

/// What the control side needs.
pub(crate) struct Control {
    pub(crate) endpoint: Endpoint,
    pub(crate) hello: v1::GatewayHello,
    pub(crate) reports: Reports,
    pub(crate) directives: mpsc::Sender<Directive>,
    pub(crate) tables: Tables,
    /// What was on disk at the start.
    pub(crate) loaded: Vec<RealmTable>,
    /// Begins the shard's serving, with the tables that are in force.
    pub(crate) begin: oneshot::Sender<Vec<RealmTable>>,
}

/// The endpoint of a manager's URL, with time limits.
///
/// # Errors
/// The URL is none.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

impl Control {
    /// Keeps the stream open until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let Self { endpoint, hello, reports: Reports { mut queue, figures }, directives, tables, mut loaded, begin } =
            self;
        let mut begin = Some(begin);
        let mut mirror = Mirror::default();
        let mut pause = BACKOFF_MIN;
        let mut refusal = String::new();
        let work = async {
            loop {
                // Following the shard while dialling: its queue must not fill up because the manager is away.
                let serving = mirror.acks().map(|a| v1::KnownTable { realm: a.realm, generation: a.generation });
                let hello = v1::GatewayHello { tables: serving.collect(), ..hello.clone() };
                let opening = tokio::time::timeout(OPEN_TIMEOUT, open(&endpoint, hello));
                let opened = following(&mut queue, &mut mirror, opening).await;
                let opened = opened.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer")));
                let refused = opened.as_ref().err().and_then(refused);
                let in_force = if refused.is_none() { std::mem::take(&mut loaded) } else { Vec::new() };
                match begin.take() {
                    // A shard that has ended needs nothing; so below.
                    Some(begin) => drop(begin.send(in_force)),
                    None => {
                        let late = async {
                            for table in in_force {
                                let _ = directives.send(Directive::Table(table)).await;
                            }
                        };
                        following(&mut queue, &mut mirror, late).await;
                    }
                }
                match opened {
                    Ok((outgoing, incoming)) => {
                        tracing::info!(manager = %endpoint.uri(), "manager connected");
                        pause = BACKOFF_MIN;
                        refusal.clear();
                        let resend = Notify::new();
                        let mut figures = figures.clone();
                        // Either end of the stream ends it.
                        let why = tokio::select! {
                            why = send(&mut queue, &mut figures, &mut mirror, &outgoing, &resend) => why,
                            why = receive(incoming, &directives, &tables, &resend) => why,
                        };
                        tracing::warn!(manager = %endpoint.uri(), why, "manager lost; players are served without it");
                    }
                    Err(error) => match refused {
                        // Said once, and tried again quietly: the other gateway may be on its way out.
                        Some(why) if why != refusal => {
                            tracing::warn!(manager = %endpoint.uri(), why, "the manager refuses this gateway");
                            refusal = why;
                        }
                        Some(_) => {}
                        None => tracing::debug!(manager = %endpoint.uri(), %error, "manager not reached"),
                    },
                }
                let jitter = rand::rng().random_range(0.5..1.0);
                following(&mut queue, &mut mirror, tokio::time::sleep(pause.mul_f64(jitter))).await;
                pause = (pause * 2).min(BACKOFF_MAX);
            }
        };
        tokio::select! {
            () = work => (),
            () = shutdown.cancelled() => (),
        }
    }
}

/// Runs `work`, applying the shard's reports to the mirror meanwhile.
async fn following<T>(queue: &mut mpsc::Receiver<Report>, mirror: &mut Mirror, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            Some(report) = queue.recv() => mirror.keep(report),
        }
    }
}

async fn open(
    endpoint: &Endpoint,
    hello: v1::GatewayHello,
) -> Result<(mpsc::Sender<v1::GatewayReport>, Streaming<v1::GatewayDirective>), anyhow::Error> {
    let channel: Channel = endpoint.connect().await?;
    let mut client = GatewayControlClient::new(channel).max_decoding_message_size(MAX_DIRECTIVE);
    let (outgoing, queue) = mpsc::channel(STREAM_QUEUE);
    outgoing.send(message(gateway_report::Message::Hello(hello))).await?;
    let incoming = client.connect(ReceiverStream::new(queue)).await?.into_inner();
    Ok((outgoing, incoming))
}

/// The manager's words, if it was reached and does not want this gateway.
fn refused(error: &anyhow::Error) -> Option<String> {
    let status = error.downcast_ref::<tonic::Status>()?;
    (status.code() == tonic::Code::FailedPrecondition).then(|| status.message().to_owned())
}

fn message(message: gateway_report::Message) -> v1::GatewayReport {
    v1::GatewayReport { message: Some(message) }
}

/// Sends all, then changes; returns why the stream ended.
async fn send(
    queue: &mut mpsc::Receiver<Report>,
    figures: &mut watch::Receiver<Arc<Figures>>,
    mirror: &mut Mirror,
    outgoing: &mpsc::Sender<v1::GatewayReport>,
    resend: &Notify,
) -> &'static str {
    const CLOSED: &str = "the manager closed the stream";
    // What waited concerns sessions the manager may still count: before the list that no longer has them. Here and below
    // a place in the stream is taken first and the message after it, so that a stream that ends loses none of ours.
    loop {
        let Ok(place) = outgoing.reserve().await else { return CLOSED };
        let Some(waiting) = mirror.next_kept() else { break };
        place.send(message(waiting));
    }
    if send_all(mirror, outgoing).await.is_err() {
        return CLOSED;
    }
    loop {
        let Ok(place) = outgoing.reserve().await else { return CLOSED };
        // No order among these: each is complete in itself.
        let all = tokio::select! {
            report = queue.recv() => match report {
                Some(Report::AllRows(rows)) => {
                    mirror.replace(rows);
                    true
                }
                Some(report) => {
                    place.send(message(mirror.apply(report)));
                    false
                }
                None => return "the gateway stops",
            },
            changed = figures.changed() => match changed {
                Ok(()) => {
                    let load = load(&figures.borrow_and_update());
                    place.send(message(gateway_report::Message::Load(load)));
                    false
                }
                Err(_) => return "the gateway stops",
            },
            () = resend.notified() => true,
        };
        if all && send_all(mirror, outgoing).await.is_err() {
            return CLOSED;
        }
    }
}

async fn send_all(mirror: &Mirror, outgoing: &mpsc::Sender<v1::GatewayReport>) -> Result<(), ()> {
    use gateway_report::Message;
    outgoing.send(message(Message::SessionsBegin(v1::SessionsBegin {}))).await.map_err(drop)?;
    for row in mirror.rows() {
        outgoing.send(message(Message::Session(row.clone()))).await.map_err(drop)?;
    }
    let count = mirror.rows().count() as u64;
    outgoing.send(message(Message::SessionsEnd(v1::SessionsEnd { count }))).await.map_err(drop)?;
    for ack in mirror.acks() {
        outgoing.send(message(Message::TableAck(ack))).await.map_err(drop)?;
    }
    Ok(())
}

fn load(figures: &Figures) -> v1::GatewayLoad {
    let mut load = v1::GatewayLoad {
        links: figures.links.clone(),
        directory: wire_state(figures.directory.as_ref().map(|figures| &figures.state)).into(),
        stopping: figures.stopping,
        ..Default::default()
    };
    for (_, counters) in &figures.realms {
        load.sessions += counters.sessions;
        load.detached += counters.detached_now;
        load.holding += counters.holding_now;
        load.handovers_in_flight += counters.moving_now;
        load.handovers_completed += counters.handovers_completed;
        load.handovers_kept_in_place += counters.handovers_kept_in_place;
    }
    load
}

/// Takes the manager's word; returns why the stream ended.
async fn receive(
    mut incoming: Streaming<v1::GatewayDirective>,
    directives: &mpsc::Sender<Directive>,
    tables: &Tables,
    resend: &Notify,
) -> &'static str {
    loop {
        let directive = match incoming.message().await {
            Ok(Some(directive)) => directive,
            Ok(None) => return "the manager closed the stream",
            Err(status) => {
                tracing::debug!(%status, "manager's stream failed");
                return "the stream failed";
            }
        };
        let Some(directive) = directive.message else { continue };
        if let gateway_directive::Message::Resend(_) = directive {
            resend.notify_one();
            continue;
        }
        match checked(directive, tables).await {
            Ok(Some(directive)) => {
                if directives.send(directive).await.is_err() {
                    return "the gateway stops";
                }
            }
            Ok(None) => (),
            Err(error) => tracing::warn!(%error, "the manager sent what it may not; ignored"),
        }
    }
}

/// Checks a directive; a table is put on disk before anyone acts on it.
async fn checked(directive: gateway_directive::Message, tables: &Tables) -> anyhow::Result<Option<Directive>> {
    use gateway_directive::Message;
    Ok(Some(match directive {
        Message::Table(wire) => {
            let table = convert::table(&wire)?;
            let tables = tables.clone();
            match tokio::task::spawn_blocking(move || tables.save_newer(&wire)).await? {
                Ok(()) => (),
                // A full disk must not stop the routing; the gateway only starts worse without its manager.
                Err(error) => tracing::warn!(%error, realm = %table.realm(), "routing table not saved"),
            }
            Directive::Table(table)
        }
        Message::Command(wire) => {
            let (realm, command) = convert::command(wire)?;
            Directive::Command(realm, command)
        }
        Message::ServerDead(dead) => {
            let server = tidegate_proto::convert::id("server_id", &dead.server_id)?;
            let Some(instance) = InstanceId::from_slice(&dead.instance) else {
                anyhow::bail!("field instance: is not 16 bytes long");
            };
            Directive::ServerDead { server, instance }
        }
        Message::Gateways(list) => {
            let mut addresses = list.player_addresses;
            addresses.truncate(MAX_GATEWAYS);
            Directive::Gateways(addresses)
        }
        Message::Resend(_) => return Ok(None),
    }))
}
