//! The gateways: who is there, which tables they have acknowledged, and what is sent to them.
//!
//! A gateway that stops talking still counts as live for a while (`gateway_live_ms`): it may be serving players behind a
//! broken stream, so a flip names it as unconfirmed. Its sessions count as unknown, and nothing that may hold them as
//! empty, until it is back or is given up (`gateway_forget_ms`). Gateways are remembered in the store, so that one which
//! has not reconnected after the manager's restart is waited for as well.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_proto::v1;
use tidegate_types::{Clock, GatewayId, InstanceId, RealmId, SystemClock, Timestamp};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::sessions::Sessions;

#[cfg(test)]
mod tests;

/// Directives that wait for a gateway's stream. Tables and commands are rare; a gateway that is this far behind has
/// stopped reading, and its stream is closed: it gets everything anew when it is back.
const OUTBOX: usize = 1024;

/// Results of one command that wait for its issuer: a command names at most 1,024 sessions.
const RESULTS: usize = 2048;

/// Deaths of world servers that a gateway gets when it connects, so that one that was away does not wait for leases.
const DEATHS: usize = 256;

/// How long another process under a gateway's id is kept out after the present one was heard, which reports every second:
/// only one that has stopped talking is replaced. (Once its stream is closed, it is replaced at once.)
const HEARD: Duration = Duration::from_secs(3);

/// Why a gateway's stream is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A second gateway, while sessions are kept in the memory of one.
    #[error(
        "gateway {other} is live, and {this} keeps its session directory in its own memory: players would be in two \
         places; stop {other}, or give both the same shared directory"
    )]
    SecondEmbedded {
        /// The one that wants to connect.
        this: GatewayId,
        /// The one that is there.
        other: GatewayId,
    },
    /// Two processes under one id.
    #[error("another gateway runs under the id {0}: give each an id of its own, or stop one of them")]
    SameId(GatewayId),
    /// Two gateways with different directories.
    #[error("gateway {other} uses another session directory ({there}) than {this} ({here}): give both the same")]
    OtherDirectory {
        /// The one that wants to connect.
        this: GatewayId,
        /// The one that is there.
        other: GatewayId,
        /// Directory of the one that wants to connect.
        here: String,
        /// Directory of the one that is there.
        there: String,
    },
}

impl Refused {
    /// The stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SecondEmbedded { .. } => "SECOND_EMBEDDED_GATEWAY",
            Self::SameId(_) => "GATEWAY_ID_TAKEN",
            Self::OtherDirectory { .. } => "OTHER_DIRECTORY",
        }
    }
}

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
}

#[derive(Debug, Default)]
struct State {
    gateways: BTreeMap<GatewayId, Gateway>,
    /// The newest table of each realm.
    tables: BTreeMap<RealmId, v1::RouteTable>,
    deaths: VecDeque<v1::ServerDead>,
    waiting: HashMap<String, mpsc::Sender<v1::CommandResult>>,
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

/// Results of a command as they come in. They stop being collected when this is dropped.
#[derive(Debug)]
pub struct Results {
    command: String,
    gateways: Gateways,
    results: mpsc::Receiver<v1::CommandResult>,
    /// How many sessions the command went to.
    pub sent: usize,
}

impl Results {
    /// The next result; `None` cannot happen before this is dropped, so the caller sets its own time limit.
    pub async fn next(&mut self) -> Option<v1::CommandResult> {
        self.results.recv().await
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.gateways.lock().waiting.remove(&self.command);
    }
}

impl Gateways {
    /// The registry. `remembered` gateways count as live until they are silent for `live_for` from now; any gateway that
    /// is away for `forget_after` is given up.
    #[must_use]
    pub fn new(sessions: Sessions, live_for: Duration, forget_after: Duration, remembered: Vec<Remembered>) -> Self {
        let gateways = remembered
            .into_iter()
            .map(|known| {
                sessions.connected(&known.id);
                let gateway = Gateway {
                    hello: None,
                    directory: known.directory,
                    since: SystemClock.now().wall,
                    stream: None,
                    last_seen: Instant::now(),
                    acked: HashMap::new(),
                    load: v1::GatewayLoad::default(),
                };
                (known.id, gateway)
            })
            .collect();
        let state = State { gateways, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::channel(0).0, sessions, live_for, forget_after }
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
            if hello.directory == "embedded" || other.directory == "embedded" {
                return Err(Refused::SecondEmbedded { this: hello.id, other: id.clone() });
            }
            if other.directory != hello.directory {
                return Err(Refused::OtherDirectory {
                    this: hello.id,
                    other: id.clone(),
                    here: hello.directory,
                    there: other.directory.clone(),
                });
            }
        }
        state.streams += 1;
        let number = state.streams;
        let (outbox, directives) = mpsc::channel(OUTBOX.max(state.tables.len() + DEATHS + 1));
        let greeting = state.tables.values().cloned().map(v1::gateway_directive::Message::Table);
        for message in greeting.chain(state.deaths.iter().cloned().map(v1::gateway_directive::Message::ServerDead)) {
            // There is room: the channel was made for them.
            drop(outbox.try_send(Ok(directive(message))));
        }
        let id = hello.id.clone();
        let gateway = Gateway {
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
        drop(state);
        self.sessions.connected(&id);
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
            gateway.load = load;
            gateway.last_seen = Instant::now();
        }
        drop(state);
        self.notify();
    }

    /// A gateway has answered a command for one session.
    pub fn result(&self, result: v1::CommandResult) {
        let state = self.lock();
        if let Some(waiting) = state.waiting.get(&result.command_id) {
            // A full queue means nobody reads any more; the issuer has its own time limit.
            drop(waiting.try_send(result));
        }
    }

    /// Pushes a table to every gateway, unless a newer one was pushed.
    pub fn publish(&self, realm: &RealmId, table: v1::RouteTable) {
        let mut state = self.lock();
        if state.tables.get(realm).is_some_and(|known| known.generation > table.generation) {
            return;
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

    /// Sends a command to the gateways that hold its sessions, and collects the results. Sessions that no connected
    /// gateway holds are not sent (see [`Results::sent`]).
    #[must_use]
    pub fn command(&self, command: &v1::SessionCommand) -> Results {
        let mut by_gateway: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for id in &command.session_ids {
            let row = tidegate_types::SessionId::from_slice(id).and_then(|id| self.sessions.get(id));
            if let Some(row) = row {
                by_gateway.entry(row.gateway_id.clone()).or_default().push(id.clone());
            }
        }
        let (results, receiver) = mpsc::channel(RESULTS);
        let mut sent = 0;
        let mut state = self.lock();
        state.waiting.insert(command.command_id.clone(), results);
        for (gateway, session_ids) in by_gateway {
            let stream = state.gateways.get(gateway.as_str()).and_then(|g| g.stream.as_ref());
            let Some((_, outbox)) = stream else { continue };
            let count = session_ids.len();
            let part = v1::SessionCommand { session_ids, ..command.clone() };
            if outbox.try_send(Ok(directive(v1::gateway_directive::Message::Command(part)))).is_ok() {
                sent += count;
            }
        }
        drop(state);
        Results { command: command.command_id.clone(), gateways: self.clone(), results: receiver, sent }
    }

    /// The live gateways that have not acknowledged this generation or a later one.
    #[must_use]
    pub fn missing(&self, realm: &RealmId, generation: u64) -> Vec<GatewayId> {
        let state = self.lock();
        let live = state.gateways.iter().filter(|(_, g)| g.is_live(self.live_for));
        live.filter(|(_, g)| g.acked.get(realm).copied().unwrap_or(0) < generation).map(|(id, _)| id.clone()).collect()
    }

    /// Every gateway that is known and not given up, as a realm sees it.
    #[must_use]
    pub fn observe(&self, realm: &RealmId) -> Vec<Observation> {
        let unknown = self.sessions.unknown();
        let state = self.lock();
        let observations = state.gateways.iter().map(|(id, g)| Observation {
            id: id.clone(),
            connected: g.stream.is_some(),
            complete: g.stream.is_some() && !unknown.contains(id),
            generation: g.acked.get(realm).copied().unwrap_or(0),
        });
        observations.collect()
    }

    /// Gives up the gateways that have been away for too long, with their sessions, and returns them.
    #[must_use]
    pub fn expire(&self) -> Vec<GatewayId> {
        let mut state = self.lock();
        let silent =
            state.gateways.iter().filter(|(_, g)| g.stream.is_none() && g.last_seen.elapsed() >= self.forget_after);
        let gone: Vec<GatewayId> = silent.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            state.gateways.remove(id);
        }
        drop(state);
        for id in &gone {
            self.sessions.forget(id);
        }
        if !gone.is_empty() {
            self.notify();
        }
        gone
    }

    /// Every gateway, for people.
    #[must_use]
    pub fn list(&self) -> Vec<v1::Gateway> {
        let state = self.lock();
        let gateways = state.gateways.iter().map(|(id, g)| {
            let tables = g
                .acked
                .iter()
                .map(|(realm, generation)| v1::KnownTable { realm: realm.to_string(), generation: *generation });
            let mut tables: Vec<_> = tables.collect();
            tables.sort_by(|a, b| a.realm.cmp(&b.realm));
            let hello = g.hello.as_ref();
            v1::Gateway {
                id: id.to_string(),
                player_address: hello.map(|h| h.player_address.clone()).unwrap_or_default(),
                version: hello.map(|h| h.version.clone()).unwrap_or_default(),
                connected: g.stream.is_some(),
                since_ms: g.since.0,
                tables,
                sessions: g.load.sessions,
                detached: g.load.detached,
                holding: g.load.holding,
                handovers_completed: g.load.handovers_completed,
                handovers_kept_in_place: g.load.handovers_kept_in_place,
            }
        });
        gateways.collect()
    }

    /// Ends every stream: the manager stops.
    pub fn close_all(&self) {
        for gateway in self.lock().gateways.values_mut() {
            gateway.stream = None;
        }
    }
}

impl State {
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
        self.stream.is_some() || self.last_seen.elapsed() < live_for
    }

    /// A process other than this one has the stream.
    fn is_another_run(&self, instance: InstanceId) -> bool {
        self.stream.is_some() && self.hello.as_ref().is_some_and(|hello| hello.instance != instance)
    }
}

fn directive(message: v1::gateway_directive::Message) -> v1::GatewayDirective {
    v1::GatewayDirective { message: Some(message) }
}
