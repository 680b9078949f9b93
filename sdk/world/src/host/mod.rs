//! The host: it binds the link's port, keeps the control stream to the manager, and runs the loop that owns the world.

mod channel;
mod commands;
mod control;
mod directives;
mod engine;
mod events;
mod links;
mod requests;
mod sessions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_link::accept::Listener;
use tidegate_link::pki::{Identity, PkiError};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{WorldHello, WorldRegister};
use tidegate_types::{Clock, InstanceId, Mono, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::seats::Seats;
use crate::world::{Formats, World};
use directives::Duties;
use engine::Engine;

/// How long a world may save when the process is told to end from within.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);
/// How long gateways may take to read the last words.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A world that lags so many ticks behind does not catch up; it goes on from now.
const TICKS_BEHIND: u32 = 5;
/// Statuses to the manager, and repeated ones to gateways, are looked at this often.
/// The manager takes a server that misses several for hung, so this decides how soon a hang is noticed.
const STATUS: Duration = Duration::from_millis(300);
/// Gateways are told so often how many frames of their players were received: what they keep until then is little, and a
/// message for many players costs little. Players on no link are looked after as often.
const COUNTS: Duration = Duration::from_millis(100);
/// Gateways are asked again about unresolved hand-overs.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Why a host could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A certificate or key file cannot be used.
    #[error("load the link's certificates")]
    Pki(#[from] PkiError),
    /// The link's address cannot be bound.
    #[error("listen for links on {addr}")]
    Listen {
        /// Where (`TIDEGATE_LINK_LISTEN`).
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The settings make no sense.
    #[error("use tick_hz = {0}: it must be 1 to 1000")]
    TickRate(u32),
}

/// A world server: a [`World`] and everything around it.
pub struct Host<W> {
    config: Config,
    world: W,
    listener: Listener,
}

impl<W: World> Host<W> {
    /// Loads the certificates and binds the link's port. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`HostError`]; nothing is running then.
    pub fn new(config: Config, world: W) -> Result<Self, HostError> {
        if !(1..=1000).contains(&config.tick_hz) {
            return Err(HostError::TickRate(config.tick_hz));
        }
        let identity = Identity::load(&config.link_ca, &config.link_cert, &config.link_key)?;
        let listener = Listener::bind(&identity, config.link_listen)
            .map_err(|source| HostError::Listen { addr: config.link_listen, source })?;
        Ok(Self { config, world, listener })
    }

    /// Where the link listens.
    #[must_use]
    pub fn link_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until the manager says `Stop` or `shutdown` is cancelled, then saves and closes.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), HostError> {
        let Self { config, world, listener } = self;
        let config = Arc::new(config);
        let listener = Arc::new(listener);
        let instance = InstanceId(uuid::Uuid::new_v4());
        let build = config.faults.wrong_build.as_ref().unwrap_or(&config.build).to_string();
        let formats = world.formats();
        let hello = WorldHello {
            server_id: config.server.to_string(),
            server_instance: instance.to_vec(),
            environment_id: config.environment.to_string(),
            build: build.clone(),
        };
        let register = registration(&config, instance, build, &formats, listener.local_addr());
        tracing::info!(server = %config.server, %instance, link = %listener.local_addr(), "world server starts");
        for rule in tidegate_types::sabotage::words() {
            tracing::warn!(rule, "a rule is broken on purpose, for tests");
        }

        let background = CancellationToken::new();
        let control = control::start(config.clone(), register, background.clone());
        let (links, mut arrivals) = links::start(listener.clone(), hello, config.realm.to_string());
        let duties = Duties::new(&config, control);
        let seats = Seats::new(config.capacity, formats);
        let mut engine = Engine::new(config.clone(), world, seats, links, duties);
        let mut timers = Timers::new(engine.now(), config.tick_hz);
        let queue = engine.outbox.queue.clone();

        loop {
            let wait = timers.run(&mut engine);
            if engine.duties.is_over(engine.now()) {
                break;
            }
            // The timers are looked at in every round, so nothing here can starve them; of the rest, directives are rare
            // and come first, and each source gives a bounded piece of work a round.
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !engine.duties.is_stopping() => engine.stop(SHUTDOWN_PATIENCE),
                Some(directive) = engine.duties.control.directives.recv() => {
                    if let Some(message) = directive.message {
                        engine.directive(message);
                    }
                }
                Some(read) = engine.duties.read.recv() => engine.assets_read(read),
                Some(arrived) = arrivals.recv() => engine.arrived(arrived),
                () = queue.ready.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            engine.check_leases();
            if !engine.drain() {
                queue.ready.notify_one();
            }
        }

        tracing::info!(server = %config.server, "world server stops");
        engine.links.finish(LAST_WORDS).await;
        listener.close(CloseCode::Shutdown, "the world server stops");
        // Best effort: a peer that is gone must not keep the process alive.
        let _ = tokio::time::timeout(LAST_WORDS, listener.wait_idle()).await;
        background.cancel();
        Ok(())
    }
}

/// What is due when.
struct Timers {
    period: Duration,
    tick: Mono,
    status: Mono,
    counts: Mono,
    ask: Mono,
}

impl Timers {
    fn new(now: Mono, tick_hz: u32) -> Self {
        Self { period: Duration::from_secs(1) / tick_hz, tick: now, status: now, counts: now, ask: now + ASK_AGAIN }
    }

    /// Does what is due; how long until the next.
    fn run<W: World>(&mut self, engine: &mut Engine<W>) -> Duration {
        engine.check_leases();
        let now = engine.now();
        engine.check_barrier(now);
        if now >= self.tick {
            self.tick = self.tick + self.period;
            if now.since(self.tick) > self.period * TICKS_BEHIND {
                self.tick = now + self.period;
            }
            if engine.duties.ready() {
                let both = SystemClock.now();
                engine.with(|world, cx| world.tick(cx, both));
                let took = engine.now().since(both.mono);
                engine.duties.ticked(took);
                engine.drain();
            }
        }
        let seats = &engine.seats;
        let heartbeat = engine.links.heartbeats(now, || seats.population().players);
        if now >= self.status {
            self.status = now + STATUS;
            engine.report_status();
            for seat in engine.sessions.seats() {
                engine.tell_status(seat, false);
            }
        }
        if now >= self.counts {
            self.counts = now + COUNTS;
            engine.tell_counts();
            if !engine.duties.standing_still() {
                engine.decide(|seats, steps| seats.drop_orphans(now, steps));
            }
        }
        if now >= self.ask {
            self.ask = now + ASK_AGAIN;
            for key in engine.links.keys() {
                engine.ask_owners(key);
            }
        }
        let counts = engine.sessions.has_counted().then_some(self.counts);
        let lapse = engine.links.next_lapse();
        let due = [Some(self.tick), Some(self.status), counts, heartbeat, lapse, engine.duties.deadline()];
        due.into_iter().flatten().min().map_or(self.period, |next| next.since(engine.now()))
    }
}

fn registration(
    config: &Config,
    instance: InstanceId,
    build: String,
    formats: &Formats,
    link_addr: SocketAddr,
) -> WorldRegister {
    WorldRegister {
        server_id: config.server.to_string(),
        instance: instance.to_vec(),
        realm: config.realm.to_string(),
        environment_id: config.environment.to_string(),
        fleet: config.fleet.to_string(),
        build,
        pid: std::process::id(),
        link_address: config.link_advertise.unwrap_or(link_addr).to_string(),
        zones: config.zones.iter().map(ToString::to_string).collect(),
        instance_kinds: config.instance_kinds.iter().map(ToString::to_string).collect(),
        capacity: config.capacity,
        state_formats_read: formats.read.clone(),
        state_format_write: formats.write,
        assets_digest: Vec::new(),
        serving: false,
        status_every_ms: u32::try_from(STATUS.as_millis()).unwrap_or(u32::MAX),
    }
}
