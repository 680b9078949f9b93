//! The serving thread: one loop over the edge, the links, the realms' cores and the manager's word.
//!
//! A pass is: packets in, timers, what players sent, what worlds sent, what the manager said, the cores' timers, reports
//! due, packets out. Players come first because their packets also carry the acknowledgements that make room for output;
//! output comes last so that all that a pass said to a player leaves together. Nothing in a pass waits.

mod acks;
mod actions;
mod homes;
mod inputs;
mod stopping;

pub(crate) use homes::{Shared, wire_state};

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway_core::table::RealmTable;
use gateway_core::{Action, Core, CoreConfig, EmbeddedDirectory, Input, SessionCommand};
use tidegate_directory::DirectoryEvent;
use tidegate_proto::frame::{self, player};
use tidegate_proto::{CloseCode, v1};
use tidegate_types::{Clock, InstanceId, Mono, Now, RealmId, ServerId, SystemClock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::edge::{Edge, EdgeEvent};
use crate::links::{LinkEvent, Links};
use crate::players::Players;
use crate::reports::{Figures, Reporter};
use homes::AskedLogin;
use stopping::Stopping;

/// Link batches taken in one pass: what may wait in their queue.
const BATCHES_PER_PASS: usize = 64;
/// Directives taken in one pass. A command may concern 1,024 sessions.
const DIRECTIVES_PER_PASS: usize = 4;
/// How often figures are published.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// How long a stopping gateway waits for its goodbyes to be received.
const GOODBYE_WITHIN: Duration = Duration::from_millis(1_500);

/// How long the links' closes may take to leave. One that does not is noticed by its world server's heartbeat.
const LINK_CLOSES_WITHIN: Duration = Duration::from_millis(20);

/// The shared directory's next event; for ever if there is none.
async fn hear(shared: Option<&mut Shared>) -> DirectoryEvent {
    match shared {
        Some(shared) => match shared.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// The manager's word, checked.
#[derive(Debug)]
pub(crate) enum Directive {
    /// A routing table. It is on disk already.
    Table(RealmTable),
    /// A command about sessions of a realm.
    Command(RealmId, SessionCommand),
    /// That run of that server is certainly dead.
    ServerDead { server: ServerId, instance: InstanceId },
    /// Where players find the gateways that serve now.
    Gateways(Vec<String>),
}

/// One realm on this shard.
struct Realm {
    id: RealmId,
    core: Core,
    directory: EmbeddedDirectory,
}

/// Everything the serving thread owns.
pub(crate) struct Shard {
    edge: Edge,
    players: Players,
    links: Links,
    link_events: mpsc::Receiver<LinkEvent>,
    directives: mpsc::Receiver<Directive>,
    reporter: Reporter,
    /// The directory that other gateways share; `None`: each realm has its own, in memory.
    shared: Option<Shared>,
    /// Logins whose tickets the shared directory is asked about.
    asked: HashMap<u64, AskedLogin>,
    next_token: u64,
    /// What the directory was told, and has not answered.
    unanswered_tellings: u32,
    /// Since when the directory is being told of all sessions.
    rebuilding: Option<Instant>,
    /// Where players find the gateways, as the manager said last; this one's own address.
    gateways: Vec<String>,
    player_address: String,
    stop_within: Duration,
    stopping: Option<Stopping>,
    next_world_acks: Instant,
    realms: Vec<Realm>,
    core_config: CoreConfig,
    max_realms: usize,
    /// Both clocks at the moment of this pass, and the same moment on the runtime's clock.
    now: Now,
    instant: Instant,
    next_figures: Instant,
    passes: u64,
    /// Reused from input to input.
    actions: Vec<Action>,
}

/// What a shard is made of.
pub(crate) struct Parts {
    pub(crate) edge: Edge,
    pub(crate) players: Players,
    pub(crate) links: Links,
    pub(crate) link_events: mpsc::Receiver<LinkEvent>,
    pub(crate) directives: mpsc::Receiver<Directive>,
    pub(crate) reporter: Reporter,
    pub(crate) core_config: CoreConfig,
    pub(crate) max_realms: usize,
    pub(crate) shared: Option<Shared>,
    pub(crate) player_address: String,
    /// How long a planned stop may wait for players to go elsewhere.
    pub(crate) stop_within: Duration,
}

impl Shard {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            edge,
            players,
            links,
            link_events,
            directives,
            reporter,
            core_config,
            max_realms,
            shared,
            player_address,
            stop_within,
        } = parts;
        Self {
            edge,
            players,
            links,
            link_events,
            directives,
            reporter,
            shared,
            asked: HashMap::new(),
            next_token: 0,
            unanswered_tellings: 0,
            rebuilding: None,
            gateways: Vec::new(),
            player_address,
            stop_within,
            stopping: None,
            next_world_acks: Instant::now(),
            realms: Vec::new(),
            core_config,
            max_realms,
            now: SystemClock.now(),
            instant: Instant::now(),
            next_figures: Instant::now(),
            passes: 0,
            actions: Vec::new(),
        }
    }

    /// Serves, from when `begin` says with which tables, until `shutdown`: then players are sent to other gateways, if there
    /// are any. Until `at_once` at the latest.
    ///
    /// # Errors
    /// The socket cannot be used any more.
    pub(crate) async fn run(
        mut self,
        begin: oneshot::Receiver<Vec<RealmTable>>,
        shutdown: CancellationToken,
        at_once: CancellationToken,
    ) -> io::Result<()> {
        // Players who come meanwhile wait in the socket: that is kinder than telling them that no realm is served here.
        let tables = tokio::select! {
            tables = begin => tables.unwrap_or_default(),
            () = shutdown.cancelled() => Vec::new(),
        };
        for table in tables {
            self.directive(Directive::Table(table));
        }
        let (mut batch, mut word, mut heard) = (None, None, None);
        loop {
            let more = self.pass(batch.take(), word.take(), heard.take())?;
            let ends = match (shutdown.is_cancelled(), self.stopping.is_some()) {
                _ if at_once.is_cancelled() => true,
                (false, _) => false,
                (true, false) => !self.begin_stopping(),
                (true, true) => self.stop_further(),
            };
            if ends {
                return self.say_goodbye().await;
            }
            if more {
                // The links' tasks share this thread.
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.next_wake();
            // The order does not matter: each branch only ends the sleep, and the pass looks at everything.
            tokio::select! {
                ready = self.edge.io_ready() => ready?,
                event = self.link_events.recv() => batch = event,
                directive = self.directives.recv(), if !self.directives.is_closed() => word = directive,
                event = hear(self.shared.as_mut()) => heard = Some(event),
                () = tokio::time::sleep_until(wake.into()) => (),
                () = shutdown.cancelled(), if self.stopping.is_none() => (),
                () = at_once.cancelled() => (),
            }
        }
    }

    /// One pass. True: there is more to do already.
    fn pass(
        &mut self,
        batch: Option<LinkEvent>,
        word: Option<Directive>,
        heard: Option<DirectoryEvent>,
    ) -> io::Result<bool> {
        self.passes += 1;
        self.instant = Instant::now();
        self.now = SystemClock.now();
        let mut more = self.edge.receive(self.instant)?;
        self.edge.expire();
        self.edge.collect();
        while let Some(event) = self.edge.next_event() {
            self.player_event(event);
        }
        if let Some(event) = batch {
            self.link_event(event);
        }
        for taken in 0.. {
            if taken == BATCHES_PER_PASS {
                more = true;
                break;
            }
            let Ok(event) = self.link_events.try_recv() else { break };
            self.link_event(event);
        }
        if let Some(directive) = word {
            self.directive(directive);
        }
        for taken in 0.. {
            if taken == DIRECTIVES_PER_PASS {
                more = true;
                break;
            }
            let Ok(directive) = self.directives.try_recv() else { break };
            self.directive(directive);
        }
        more |= self.hear_directory(heard);
        self.expire_cores();
        self.note_rebuilt();
        self.send_acks();
        self.tell_worlds();
        self.report();
        self.edge.flush();
        Ok(more || self.edge.has_work())
    }

    fn player_event(&mut self, event: EdgeEvent) {
        match event {
            EdgeEvent::Frame { conn, frame } => self.player_frame(conn, frame),
            EdgeEvent::Datagram { conn, payload } => {
                if let Some((realm, session)) = self.players.session(conn)
                    && let Some((server, handle)) = self.realms[realm as usize].core.upstream_datagram(session)
                    && let Some(sender) = self.links.sender(realm, server.0)
                {
                    // A datagram may be lost; a closed link tells of itself.
                    let _ = sender.datagram(handle, &payload);
                }
            }
            EdgeEvent::Lost { conn } => self.connection_lost(conn),
        }
    }

    fn expire_cores(&mut self) {
        for realm in 0..self.realms.len() as u32 {
            let core = &mut self.realms[realm as usize].core;
            if core.poll_timeout().is_some_and(|at| at <= self.now.mono) {
                core.handle_timeout(self.now, &mut self.actions);
                self.execute(realm);
            }
        }
    }

    fn send_acks(&mut self) {
        while let Some(conn) = self.players.ack_due(self.instant) {
            self.send_ack(conn);
        }
    }

    /// Tells the client how many of its frames have been received.
    fn send_ack(&mut self, conn: u32) {
        self.players.acknowledged(conn);
        if let Some((realm, session)) = self.players.session(conn) {
            let received_frames = self.realms[realm as usize].core.received_from_player(session);
            self.edge.send(conn, |out| frame::put_message(out, player::ACK, &v1::Ack { received_frames }));
        }
    }

    fn report(&mut self) {
        let realms = &self.realms;
        self.reporter.settle(|| {
            realms
                .iter()
                .flat_map(|realm| realm.core.rows().into_iter().map(|row| convert::report_row(&realm.id, &row)))
                .collect()
        });
        if self.instant >= self.next_figures {
            self.next_figures = self.instant + FIGURES_EVERY;
            self.reporter.publish(Figures {
                edge: self.edge.counters().clone(),
                connections: self.edge.count(),
                realms: self.realms.iter().map(|r| (r.id.clone(), r.core.counters().clone())).collect(),
                links: self.links.open(),
                directory: self.shared.as_ref().map(|shared| shared.handle.figures()),
                stopping: self.stopping.is_some(),
                tickets_refused: self.players.refused.clone(),
                reports_dropped: 0,
                passes: self.passes,
            });
        }
    }

    /// When the next pass is due at the latest.
    fn next_wake(&mut self) -> Instant {
        let cores = self.realms.iter().filter_map(|realm| realm.core.poll_timeout()).min();
        let acks = self.realms.iter().any(|realm| realm.core.has_acks()).then_some(self.next_world_acks);
        [self.edge.next_timeout(), cores.map(|at| self.at(at)), self.players.next_ack(), acks, self.next_stopping()]
            .into_iter()
            .flatten()
            .fold(self.next_figures, Instant::min)
    }

    /// A moment of the cores' clock on the runtime's.
    fn at(&self, mono: Mono) -> Instant {
        self.instant + mono.since(self.now.mono)
    }

    /// Ends: every player is told, then every connection and link is closed.
    async fn say_goodbye(mut self) -> io::Result<()> {
        let goodbye = v1::Goodbye { reason: "shutdown".into(), message: "the gateway stops".into() };
        let put = |out: &mut BytesMut| frame::put_message(out, player::GOODBYE, &goodbye);
        self.edge.close_all(CloseCode::Shutdown, put);
        self.edge.flush();
        // World servers park the players; a successor, or this gateway started again, takes them up.
        self.links.close_all("gateway stops");
        let deadline = Instant::now() + GOODBYE_WITHIN;
        while !self.edge.all_closed() && Instant::now() < deadline {
            let wake = self.edge.next_timeout().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                ready = self.edge.io_ready() => ready?,
                () = tokio::time::sleep_until(wake.into()) => (),
            }
            self.edge.receive(Instant::now())?;
            self.edge.expire();
            self.edge.collect();
            while self.edge.next_event().is_some() {}
            self.edge.flush();
        }
        // The links' closes are sent by their own tasks, which need this thread for a moment.
        tokio::time::sleep(LINK_CLOSES_WITHIN).await;
        Ok(())
    }

    /// Gives one input to a realm's core and does what it wants.
    fn input(&mut self, realm: u32, input: Input) {
        self.realms[realm as usize].core.handle(self.now, input, &mut self.actions);
        self.execute(realm);
    }
}
