//! The gateways: who is there, which tables they have acknowledged, and what is sent to them.
//!
//! ```text
//!   connected --stream ends--> live --gateway_live_ms--> gone --its sessions are over, or gateway_forget_ms--> given up
//!       \--stopping, without sessions: stream ends--------------------------------------------------------------/
//! ```
//!
//! A gateway that stops talking still counts as live for a while (`gateway_live_ms`): it may be serving players behind a
//! broken stream, so a flip names it as unconfirmed. Its sessions count as unknown, and nothing that may hold them as
//! empty, until it is back, others have taken them up, or the world servers say that they are over (`lost.rs`); at the
//! latest it is given up after `gateway_forget_ms`. Gateways are remembered in the store, so that one which has not
//! reconnected after the manager's restart is waited for as well.

mod commands;
mod directory;
mod lost;
mod refused;
mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_proto::v1;
use tidegate_types::{Clock, GatewayId, InstanceId, RealmId, SystemClock, Timestamp};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::servers::ServersView;
use crate::sessions::Sessions;

use commands::Commands;
pub use commands::Results;
pub(crate) use commands::UNKNOWN;
pub(crate) use directory::shown;
use directory::{EMBEDDED, same};
use lost::{Known, LEASE, Lost};
pub use refused::Refused;

#[cfg(test)]
mod tests;

/// Directives that wait for a gateway's stream. Tables and commands are rare; a gateway that is this far behind has
/// stopped reading, and its stream is closed: it gets everything anew when it is back.
const OUTBOX: usize = 1024;

/// Deaths of world servers that a gateway gets when it connects, so that one that was away does not wait for leases.
const DEATHS: usize = 256;

/// How long another process under a gateway's id is kept out after the present one was heard, which reports every second:
/// only one that has stopped talking is replaced. (Once its stream is closed, it is replaced at once.)
const HEARD: Duration = Duration::from_secs(3);

/// How long players are still sent to a gateway whose stream has ended: a broken stream is more often the manager's fault
/// than the gateway's death. The same time is given to all to come back after the manager's restart, before players are
/// told of fewer.
const LISTED: Duration = Duration::from_secs(5);

/// What a gateway said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its id.
    pub id: GatewayId,
    /// The run of its process.
    pub instance: InstanceId,
    /// Its program's version.
    pub version: String,
    /// Where players reach it.
    pub player_address: String,
    /// The generation it serves of each realm.
    pub tables: Vec<(RealmId, u64)>,
    /// "embedded" or the shared directory's URL.
    pub directory: String,
    /// When its process started.
    pub started: Timestamp,
}

/// What is remembered of a gateway across the manager's restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub id: GatewayId,
    /// "embedded" or the shared directory's URL.
    pub directory: String,
}

/// What a realm needs to know of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its id.
    pub id: GatewayId,
    /// Its stream is open.
    pub connected: bool,
    /// It has sent its full list of sessions since it connected.
    pub complete: bool,
    /// The generation of the realm's table that it acknowledged; 0: none.
    pub generation: u64,
}

#[derive(Debug)]
struct Gateway {
    hello: Option<Hello>,
    directory: String,
    since: Timestamp,
    /// The open stream, with a number that tells it from its predecessors.
    stream: Option<(u64, mpsc::Sender<Result<v1::GatewayDirective, Status>>)>,
    last_seen: Instant,
    acked: HashMap<RealmId, u64>,
    load: v1::GatewayLoad,
    /// It was stopping, had nobody left, and has ended its stream: it is not coming back.
    left: bool,
}

#[derive(Debug, Default)]
struct State {
    gateways: BTreeMap<GatewayId, Gateway>,
    /// The newest table of each realm.
    tables: BTreeMap<RealmId, v1::RouteTable>,
    /// The generation at which each realm's accepting environment became what it is.
    flipped: BTreeMap<RealmId, u64>,
    deaths: VecDeque<v1::ServerDead>,
    commands: Commands,
    /// Where players were last told that gateways are.
    listed: Vec<String>,
    lost: Lost,
    streams: u64,
}

/// Handle to the gateways. No method waits; the lock is never held across an await.
#[derive(Debug, Clone)]
pub struct Gateways {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    sessions: Sessions,
    live_for: Duration,
    forget_after: Duration,
}

/// A gateway's stream as it was opened.
#[derive(Debug)]
pub struct Opened {
    /// Tells it from the streams before and after it.
    pub number: u64,
    /// What is to be sent.
    pub directives: mpsc::Receiver<Result<v1::GatewayDirective, Status>>,
}

impl Gateways {
    /// The registry. `remembered` gateways count as live until they are silent for `live_for` from now; any gateway that
    /// is away for `forget_after` is given up.
    #[must_use]
    pub fn new(sessions: Sessions, live_for: Duration, forget_after: Duration, remembered: Vec<Remembered>) -> Self {
        let gateways = remembered
            .into_iter()
            .map(|known| {
                sessions.connected(&known.id, false);
                let gateway = Gateway {
                    hello: None,
                    directory: known.directory,
                    since: SystemClock.now().wall,
                    stream: None,
                    last_seen: Instant::now(),
                    acked: HashMap::new(),
                    load: v1::GatewayLoad::default(),
                    left: false,
                };
                (known.id, gateway)
            })
            .collect();
        let state = State { gateways, ..State::default() };
        let (state, changed) = (Arc::new(Mutex::new(state)), watch::channel(0).0);
        Self { state, changed, sessions, live_for, forget_after }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every method leaves the state whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Grows whenever a gateway comes, goes, acknowledges or reports its load.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A gateway opens its stream. Every realm's table and the recent deaths wait in it.
    ///
    /// # Errors
    /// It cannot be admitted beside the gateways that are live.
    pub fn open(&self, hello: Hello) -> Result<Opened, Refused> {
        let mut state = self.lock();
        for (id, other) in &state.gateways {
            if *id == hello.id && other.is_another_run(hello.instance) && other.last_seen.elapsed() < HEARD {
                return Err(Refused::SameId(hello.id));
            }
            if *id == hello.id || !other.is_live(self.live_for) {
                continue;
            }
            if hello.directory == EMBEDDED || other.directory == EMBEDDED {
                let embedded = if hello.directory == EMBEDDED { &hello.id } else { id }.clone();
                return Err(Refused::SecondEmbedded { this: hello.id, other: id.clone(), embedded });
            }
            if !same(&other.directory, &hello.directory) {
                return Err(Refused::OtherDirectory {
                    this: hello.id,
                    other: id.clone(),
                    here: shown(&hello.directory),
                    there: shown(&other.directory),
                });
            }
        }
        state.streams += 1;
        let number = state.streams;
        let (outbox, directives) = mpsc::channel(OUTBOX.max(state.tables.len() + DEATHS + 2));
        let greeting = state.tables.values().cloned().map(v1::gateway_directive::Message::Table);
        for message in greeting.chain(state.deaths.iter().cloned().map(v1::gateway_directive::Message::ServerDead)) {
            // There is room: the channel was made for them.
            drop(outbox.try_send(Ok(directive(message))));
        }
        let id = hello.id.clone();
        // Not known (the manager was restarted) may well be the same.
        let before = state.gateways.get(&id).and_then(|known| known.hello.as_ref()).map(|hello| hello.instance);
        let new_run = before.is_some_and(|instance| instance != hello.instance);
        let gateway = Gateway {
            left: false,
            directory: hello.directory.clone(),
            since: SystemClock.now().wall,
            stream: Some((number, outbox)),
            last_seen: Instant::now(),
            // What it serves it has acknowledged: a gateway names a table only once that is so.
            acked: hello.tables.iter().cloned().collect(),
            load: v1::GatewayLoad::default(),
            hello: Some(hello),
        };
        // An older stream of the same gateway ends here: its sender is dropped.
        state.gateways.insert(id.clone(), gateway);
        if !self.list_gateways(&mut state) && !state.listed.is_empty() {
            // The others know already.
            let list = v1::GatewayList { player_addresses: state.listed.clone() };
            state.send(&id, v1::gateway_directive::Message::Gateways(list));
        }
        drop(state);
        self.sessions.connected(&id, new_run);
        self.notify();
        Ok(Opened { number, directives })
    }

    /// A stream has ended. Nothing happens when the gateway has opened another meanwhile.
    pub fn close(&self, id: &GatewayId, number: u64) {
        let mut state = self.lock();
        let Some(gateway) = state.gateways.get_mut(id) else { return };
        if gateway.stream.as_ref().is_none_or(|(current, _)| *current != number) {
            return;
        }
        gateway.stream = None;
        gateway.last_seen = Instant::now();
        let is_known = !self.sessions.unknown().contains(id);
        gateway.left = gateway.load.stopping && is_known && self.sessions.of_gateway(id).0 == 0;
        self.list_gateways(&mut state);
        drop(state);
        self.sessions.disconnected(id);
        self.notify();
    }

    /// True while `number` is the gateway's stream: a report from an older one is not taken.
    #[must_use]
    pub fn is_current(&self, id: &GatewayId, number: u64) -> bool {
        let state = self.lock();
        state.gateways.get(id).and_then(|g| g.stream.as_ref()).is_some_and(|(current, _)| *current == number)
    }

    /// A gateway has acknowledged a generation.
    pub fn acknowledge(&self, id: &GatewayId, realm: RealmId, generation: u64) {
        let mut state = self.lock();
        if let Some(gateway) = state.gateways.get_mut(id) {
            let acked = gateway.acked.entry(realm).or_default();
            *acked = generation.max(*acked);
        }
        drop(state);
        self.notify();
    }

    /// A gateway has reported its load.
    pub fn load(&self, id: &GatewayId, load: v1::GatewayLoad) {
        let mut state = self.lock();
        if let Some(gateway) = state.gateways.get_mut(id) {
            let before = gateway.load.directory();
            if load.directory() != before && load.directory() == v1::DirectoryState::Degraded {
                tracing::warn!(gateway_id = %id, "the shared directory does not answer this gateway");
            } else if before == v1::DirectoryState::Degraded && load.directory() != before {
                tracing::info!(gateway_id = %id, "the shared directory answers this gateway again");
            }
            gateway.load = load;
            gateway.last_seen = Instant::now();
        }
        self.list_gateways(&mut state);
        drop(state);
        self.notify();
    }

    /// Pushes a table to every gateway, unless a newer one was pushed.
    pub fn publish(&self, realm: &RealmId, table: v1::RouteTable) {
        let mut state = self.lock();
        if state.tables.get(realm).is_some_and(|known| known.generation > table.generation) {
            return;
        }
        let accepted = state.tables.get(realm).map(|known| known.accepting.clone());
        if accepted.as_ref() != Some(&table.accepting) {
            state.flipped.insert(realm.clone(), table.generation);
        }
        state.tables.insert(realm.clone(), table.clone());
        state.send_all(&v1::gateway_directive::Message::Table(table));
        drop(state);
        self.notify();
    }

    /// The newest table of a realm.
    #[must_use]
    pub fn table(&self, realm: &RealmId) -> Option<v1::RouteTable> {
        self.lock().tables.get(realm).cloned()
    }

    /// Tells every gateway that this run of this world server is certainly dead.
    pub fn server_dead(&self, dead: v1::ServerDead) {
        let mut state = self.lock();
        if state.deaths.len() >= DEATHS {
            state.deaths.pop_front();
        }
        state.deaths.push_back(dead.clone());
        state.send_all(&v1::gateway_directive::Message::ServerDead(dead));
    }

    /// Looks after what time changes: sessions of gateways that are gone are over once the world servers agree, players are
    /// not sent to such gateways any more, and those that can hold nobody are given up and returned.
    #[must_use]
    pub fn look(&self, servers: &ServersView) -> Vec<GatewayId> {
        let orphans = self.sessions.orphans();
        let held = if orphans.is_empty() { BTreeMap::new() } else { self.sessions.held_by_server() };
        let mut state = self.lock();
        let patience = LEASE + state.grace();
        let now = SystemClock.now().wall;
        let known = Known { orphans: &orphans, held: &held, servers, patience, now: Instant::now(), wall: now };
        let over = state.lost.look(&known);
        self.list_gateways(&mut state);
        let gone: Vec<GatewayId> = state
            .gateways
            .iter()
            .filter(|(id, g)| {
                let away = g.last_seen.elapsed();
                let holds_nobody = || self.sessions.of_gateway(id).0 == 0;
                // One that had not acknowledged the last flip may still be sending players the old way.
                let is_done = || away >= self.live_for.max(patience) && holds_nobody() && state.has_acked(g);
                g.stream.is_none() && (away >= self.forget_after || g.left || is_done())
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            state.gateways.remove(id);
        }
        drop(state);
        if !over.is_empty() {
            tracing::info!(
                sessions = over.len(),
                "sessions of a gateway that is gone are over, by their servers' word"
            );
            self.sessions.drop_orphans(&over);
        }
        for id in &gone {
            self.sessions.forget(id);
        }
        if !gone.is_empty() {
            self.notify();
        }
        gone
    }

    /// Ends every stream: the manager stops.
    pub fn close_all(&self) {
        for gateway in self.lock().gateways.values_mut() {
            gateway.stream = None;
        }
    }
}

impl State {
    /// The longest time that a detached session keeps its place in any realm.
    fn grace(&self) -> Duration {
        Duration::from_millis(self.tables.values().map(|table| u64::from(table.grace_ms)).max().unwrap_or(0))
    }

    /// It has acknowledged that new players go where they go now, in every realm.
    fn has_acked(&self, gateway: &Gateway) -> bool {
        self.flipped.iter().all(|(realm, flipped)| gateway.acked.get(realm).is_some_and(|acked| acked >= flipped))
    }

    /// Sends to one gateway; false if it is not there, or does not read.
    fn send(&self, id: &GatewayId, message: v1::gateway_directive::Message) -> bool {
        let stream = self.gateways.get(id).and_then(|gateway| gateway.stream.as_ref());
        stream.is_some_and(|(_, outbox)| outbox.try_send(Ok(directive(message))).is_ok())
    }

    fn send_all(&mut self, message: &v1::gateway_directive::Message) {
        for (id, gateway) in &mut self.gateways {
            let Some((_, outbox)) = &gateway.stream else { continue };
            if outbox.try_send(Ok(directive(message.clone()))).is_err() {
                // It reads no more. Ending the stream makes it come back, and then it gets everything.
                tracing::warn!(gateway_id = %id, "gateway does not read its directives; closing its stream");
                gateway.stream = None;
                gateway.last_seen = Instant::now();
            }
        }
    }
}

impl Gateway {
    fn is_live(&self, live_for: Duration) -> bool {
        self.stream.is_some() || (!self.left && self.last_seen.elapsed() < live_for)
    }

    /// A process other than this one has the stream.
    fn is_another_run(&self, instance: InstanceId) -> bool {
        self.stream.is_some() && self.hello.as_ref().is_some_and(|hello| hello.instance != instance)
    }
}

fn directive(message: v1::gateway_directive::Message) -> v1::GatewayDirective {
    v1::GatewayDirective { message: Some(message) }
}
