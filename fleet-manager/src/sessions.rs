//! Every player session that the gateways report: rows, indexes, departures, and a stream of changes.
//!
//! Only an observation, rebuilt from the gateways after a restart. What is not known is said to be unknown and never
//! taken for empty (invariant 9 of ARCHITECTURE.md): a gateway whose full list has not arrived makes every count a
//! lower bound.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{Clock, EnvironmentId, GatewayId, PlayerId, RealmId, SessionId, SystemClock, Timestamp};
use tokio::sync::{broadcast, watch};
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// Changes that a slow watcher may be behind before it gets a fresh snapshot instead: a second of a busy realm.
const BACKLOG: usize = 8192;

/// Most sessions of one manager: about 1 KiB each.
const MOST: usize = 1_000_000;

/// One change, for watchers.
#[derive(Debug, Clone)]
pub enum Change {
    /// The row as it is now.
    Row(Arc<v1::SessionRow>),
    /// It has ended; the row as it was.
    Gone(Arc<v1::SessionRow>),
}

/// Most departures that wait to be counted. They are taken once a second; more than this in a second is not plausible,
/// and losing the oldest costs a figure in a report, not a player.
const DEPARTURES: usize = 100_000;

/// One session has left one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// The environment it left.
    pub environment: EnvironmentId,
    /// When that was heard.
    pub at: Timestamp,
    /// The word of the cause that moved it, or of how it ended: `logout`, `kicked`, `grace_over`, `lost`, `unreported`.
    pub how: String,
}

/// What the gateways know of one environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Population {
    /// Sessions pinned to it.
    pub sessions: u32,
    /// Of those, in a hand-over.
    pub moving: u32,
    /// By zone.
    pub by_zone: BTreeMap<String, u32>,
    /// By kind of zone.
    pub by_kind: BTreeMap<String, u32>,
}

/// Why a report cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A field of it is wrong.
    #[error(transparent)]
    Field(#[from] BadField),
    /// The registry is full.
    #[error("there are {MOST} sessions already")]
    Full,
}

/// A session that its gateway has not confirmed since its stream ended, and that no other has taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The session.
    pub id: SessionId,
    /// The server that was its home; empty: none.
    pub server: String,
    /// It was waiting for a home.
    pub waits: bool,
    /// When it was last certain.
    pub since: Instant,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is of a session that this gateway held, or of a new one.
    Held,
    /// Another gateway held the session, and has lost it.
    Taken,
    /// Another gateway holds the session at a later epoch: the row is old, and was not taken.
    Old,
}

#[derive(Debug, Clone, Copy)]
struct Alone {
    since: Instant,
    /// The gateway's process that held it is another one by now: that its list lacks it says nothing.
    of_former_run: bool,
}

#[derive(Debug)]
struct Entry {
    /// Not confirmed since then.
    alone: Option<Alone>,
    gateway: GatewayId,
    realm: RealmId,
    environment: Option<EnvironmentId>,
    player: PlayerId,
    row: Arc<v1::SessionRow>,
}

#[derive(Debug, Default)]
struct Reported {
    ids: BTreeSet<SessionId>,
    /// The full list has arrived since the gateway connected.
    known: bool,
    /// The ids of the full list that is arriving.
    arriving: Option<BTreeSet<SessionId>>,
}

#[derive(Debug, Default)]
struct Registry {
    rows: BTreeMap<SessionId, Entry>,
    by_environment: HashMap<EnvironmentId, BTreeSet<SessionId>>,
    by_player: HashMap<(RealmId, PlayerId), BTreeSet<SessionId>>,
    gateways: BTreeMap<GatewayId, Reported>,
    departures: HashMap<RealmId, VecDeque<Departed>>,
}

/// Handle to the registry. No method waits; the lock is never held across an await.
#[derive(Debug, Clone)]
pub struct Sessions {
    registry: Arc<Mutex<Registry>>,
    changes: broadcast::Sender<Change>,
    version: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { registry: Arc::default(), changes: broadcast::channel(BACKLOG).0, version: watch::channel(0).0 }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Every method leaves the registry whole before it can panic.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn publish(&self, change: Change) {
        // Nobody watching is not an error.
        drop(self.changes.send(change));
    }

    /// A gateway has connected: until its full list has arrived its sessions are unknown. With a `new_run` of its process
    /// those of the former one stay until another gateway takes them up or [`Self::drop_orphans`]: it knows nothing of them.
    pub fn connected(&self, gateway: &GatewayId, new_run: bool) {
        self.alone(gateway, new_run);
    }

    /// A gateway's stream broke: its rows stay as the last that was heard, and are not known any more.
    pub fn disconnected(&self, gateway: &GatewayId) {
        self.alone(gateway, false);
    }

    fn alone(&self, gateway: &GatewayId, new_run: bool) {
        let mut registry = self.lock();
        let Registry { gateways, rows, .. } = &mut *registry;
        let reported = gateways.entry(gateway.clone()).or_default();
        reported.known = false;
        reported.arriving = None;
        let now = Instant::now();
        for id in &reported.ids {
            if let Some(entry) = rows.get_mut(id) {
                let alone = entry.alone.get_or_insert(Alone { since: now, of_former_run: false });
                alone.of_former_run |= new_run;
            }
        }
        drop(registry);
        self.changed();
    }

    /// The sessions that nobody has confirmed since their gateway's stream ended.
    #[must_use]
    pub fn orphans(&self) -> Vec<Orphan> {
        let registry = self.lock();
        let alone = registry.rows.iter().filter_map(|(id, entry)| Some((id, entry, entry.alone?)));
        let orphans = alone.map(|(id, entry, alone)| Orphan {
            id: *id,
            server: entry.row.server_id.clone(),
            waits: matches!(entry.row.state(), v1::SessionState::Holding | v1::SessionState::Unspecified),
            since: alone.since,
        });
        orphans.collect()
    }

    /// How many sessions are held by gateways that are there, by server.
    #[must_use]
    pub fn held_by_server(&self) -> BTreeMap<String, u32> {
        let mut held = BTreeMap::new();
        for entry in self.lock().rows.values().filter(|entry| entry.alone.is_none()) {
            *held.entry(entry.row.server_id.clone()).or_default() += 1;
        }
        held
    }

    /// These are over, if still nobody has confirmed them. Their departure is counted as `lost`.
    pub fn drop_orphans(&self, ids: &[SessionId]) {
        let mut registry = self.lock();
        let is_alone = |registry: &Registry, id| registry.rows.get(id).is_some_and(|entry| entry.alone.is_some());
        let gone: Vec<_> =
            ids.iter().filter_map(|id| is_alone(&registry, id).then(|| registry.remove(id, "lost"))?).collect();
        drop(registry);
        gone.into_iter().for_each(|row| self.publish(Change::Gone(row)));
        self.changed();
    }

    /// A gateway is gone for good: its rows are dropped. Their departure is counted as `lost`.
    pub fn forget(&self, gateway: &GatewayId) {
        let mut registry = self.lock();
        let ids = registry.gateways.remove(gateway).map(|r| r.ids).unwrap_or_default();
        let gone: Vec<_> = ids.iter().filter_map(|id| registry.remove(id, "lost")).collect();
        drop(registry);
        gone.into_iter().for_each(|row| self.publish(Change::Gone(row)));
        self.changed();
    }

    /// The full list begins.
    pub fn begin(&self, gateway: &GatewayId) {
        let mut registry = self.lock();
        let reported = registry.gateways.entry(gateway.clone()).or_default();
        reported.known = false;
        reported.arriving = Some(BTreeSet::new());
    }

    /// The full list is complete: what it did not name is gone.
    pub fn end(&self, gateway: &GatewayId) {
        let mut registry = self.lock();
        let reported = registry.gateways.entry(gateway.clone()).or_default();
        reported.known = true;
        let listed = reported.arriving.take().unwrap_or_default();
        let stale: Vec<SessionId> = reported.ids.difference(&listed).copied().collect();
        // A new process knows nothing of those that the one before it held: somebody else may be taking them up.
        let is_known = |id: &SessionId| {
            let alone = registry.rows.get(id).and_then(|entry| entry.alone);
            !alone.is_some_and(|alone| alone.of_former_run)
        };
        let stale: Vec<SessionId> = stale.into_iter().filter(is_known).collect();
        // How they ended was not heard; the gateway knew, and the stream broke before it could say.
        let gone: Vec<_> = stale.iter().filter_map(|id| registry.remove(id, "unreported")).collect();
        drop(registry);
        gone.into_iter().for_each(|row| self.publish(Change::Gone(row)));
        self.changed();
    }

    /// A row is new or has changed. Of two gateways that report the same session the one with the later epoch holds it.
    ///
    /// # Errors
    /// A field is wrong, or the registry is full.
    pub fn put(&self, gateway: &GatewayId, mut row: v1::SessionRow) -> Result<Put, Refused> {
        let id = session_id("session.session_id", &row.session_id)?;
        let realm: RealmId = convert::id("session.realm", &row.realm)?;
        let player: PlayerId = convert::id("session.player", &row.player)?;
        let environment = convert::optional_id("session.environment_id", &row.environment_id)?;
        row.gateway_id = gateway.to_string();
        let row = Arc::new(row);
        let mut registry = self.lock();
        if registry.rows.len() >= MOST && !registry.rows.contains_key(&id) {
            return Err(Refused::Full);
        }
        let put = match registry.rows.get(&id).filter(|known| known.gateway != *gateway) {
            Some(known) if known.row.epoch > row.epoch => return Ok(Put::Old),
            Some(_) => Put::Taken,
            None => Put::Held,
        };
        let entry = Entry { alone: None, gateway: gateway.clone(), realm, environment, player, row: Arc::clone(&row) };
        registry.put(id, entry);
        drop(registry);
        self.publish(Change::Row(row));
        self.changed();
        Ok(put)
    }

    /// A session has ended.
    ///
    /// # Errors
    /// The id is wrong.
    pub fn gone(&self, gateway: &GatewayId, gone: &v1::SessionGone) -> Result<(), Refused> {
        let id = session_id("session_gone.session_id", &gone.session_id)?;
        let mut registry = self.lock();
        // Another gateway may hold it by now; only the holder's word ends it.
        if registry.rows.get(&id).is_none_or(|entry| entry.gateway != *gateway) {
            return Ok(());
        }
        let reason = if gone.reason.is_empty() { "unreported" } else { &gone.reason };
        let row = registry.remove(&id, reason);
        drop(registry);
        if let Some(row) = row {
            self.publish(Change::Gone(row));
        }
        self.changed();
        Ok(())
    }

    /// Grows with every change.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Changes from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// One session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Arc<v1::SessionRow>> {
        self.lock().rows.get(&id).map(|entry| Arc::clone(&entry.row))
    }

    /// A player's sessions (of different characters).
    #[must_use]
    pub fn of_player(&self, player: &PlayerId) -> Vec<Arc<v1::SessionRow>> {
        let registry = self.lock();
        let ids = registry.by_player.iter().filter(|((_, p), _)| p == player).flat_map(|(_, ids)| ids);
        ids.filter_map(|id| registry.rows.get(id)).map(|entry| Arc::clone(&entry.row)).collect()
    }

    /// The sessions after `after` in the order of their ids that match, at most `limit`, and how many match in all.
    #[must_use]
    pub fn list(
        &self,
        filter: &v1::SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> (Vec<Arc<v1::SessionRow>>, u32) {
        let registry = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = registry
            .rows
            .range((start, Bound::Unbounded))
            .map(|(_, entry)| &entry.row)
            .filter(|row| matches(filter, row))
            .take(limit)
            .cloned()
            .collect();
        let total = registry.rows.values().filter(|entry| matches(filter, &entry.row)).count();
        (page, u32::try_from(total).unwrap_or(u32::MAX))
    }

    /// The sessions of an environment.
    #[must_use]
    pub fn of_environment(&self, environment: &EnvironmentId) -> Vec<Arc<v1::SessionRow>> {
        let registry = self.lock();
        let ids = registry.by_environment.get(environment).into_iter().flatten();
        ids.filter_map(|id| registry.rows.get(id)).map(|entry| Arc::clone(&entry.row)).collect()
    }

    /// How many sessions of an environment are held by a gateway that has not sent its full list.
    #[must_use]
    pub fn population(&self, environment: &EnvironmentId) -> Population {
        let mut population = Population::default();
        for row in self.of_environment(environment) {
            population.sessions += 1;
            population.moving += u32::from(row.state() == v1::SessionState::Moving);
            *population.by_zone.entry(row.zone.clone()).or_default() += 1;
            *population.by_kind.entry(row.zone_kind.clone()).or_default() += 1;
        }
        population
    }

    /// The departures in a realm that have not been taken yet, oldest first.
    #[must_use]
    pub fn take_departures(&self, realm: &RealmId) -> Vec<Departed> {
        self.lock().departures.remove(realm).map(Vec::from).unwrap_or_default()
    }

    /// The gateways whose full list has not arrived.
    #[must_use]
    pub fn unknown(&self) -> Vec<GatewayId> {
        self.lock().gateways.iter().filter(|(_, r)| !r.known).map(|(id, _)| id.clone()).collect()
    }

    /// How many sessions a gateway holds, and how many of them it has not confirmed since its stream ended.
    #[must_use]
    pub fn of_gateway(&self, gateway: &GatewayId) -> (usize, usize) {
        let registry = self.lock();
        let Some(reported) = registry.gateways.get(gateway) else { return (0, 0) };
        let is_alone = |id: &&SessionId| registry.rows.get(id).is_some_and(|entry| entry.alone.is_some());
        (reported.ids.len(), reported.ids.iter().filter(is_alone).count())
    }
}

impl Registry {
    fn put(&mut self, id: SessionId, entry: Entry) {
        if let Some(old) = self.rows.get(&id) {
            if old.gateway != entry.gateway
                && let Some(reported) = self.gateways.get_mut(&old.gateway)
            {
                reported.ids.remove(&id);
            }
            if let Some(left) = &old.environment
                && entry.environment.as_ref() != Some(left)
            {
                let cause = entry.row.pin.as_ref().and_then(|pin| convert::cause(pin.cause).ok());
                let how = cause.map_or("unreported", |cause| cause.as_str());
                departed(&mut self.departures, &old.realm, left, how);
            }
            let (environment, player) = (old.environment.clone(), (old.realm.clone(), old.player.clone()));
            self.unindex(id, environment.as_ref(), player);
        }
        let reported = self.gateways.entry(entry.gateway.clone()).or_default();
        reported.ids.insert(id);
        if let Some(arriving) = &mut reported.arriving {
            arriving.insert(id);
        }
        if let Some(environment) = &entry.environment {
            self.by_environment.entry(environment.clone()).or_default().insert(id);
        }
        self.by_player.entry((entry.realm.clone(), entry.player.clone())).or_default().insert(id);
        self.rows.insert(id, entry);
    }

    fn remove(&mut self, id: &SessionId, reason: &str) -> Option<Arc<v1::SessionRow>> {
        let entry = self.rows.remove(id)?;
        if let Some(reported) = self.gateways.get_mut(&entry.gateway) {
            reported.ids.remove(id);
        }
        if let Some(left) = &entry.environment {
            departed(&mut self.departures, &entry.realm, left, reason);
        }
        self.unindex(*id, entry.environment.as_ref(), (entry.realm, entry.player));
        Some(entry.row)
    }

    fn unindex(&mut self, id: SessionId, environment: Option<&EnvironmentId>, player: (RealmId, PlayerId)) {
        if let Some(environment) = environment
            && let Some(ids) = self.by_environment.get_mut(environment)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_environment.remove(environment);
            }
        }
        if let Some(ids) = self.by_player.get_mut(&player) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_player.remove(&player);
            }
        }
    }
}

fn departed(queues: &mut HashMap<RealmId, VecDeque<Departed>>, realm: &RealmId, left: &EnvironmentId, how: &str) {
    let queue = queues.entry(realm.clone()).or_default();
    if queue.len() >= DEPARTURES {
        queue.pop_front();
    }
    queue.push_back(Departed { environment: left.clone(), at: SystemClock.now().wall, how: how.to_owned() });
}

/// True if the row matches every part of the filter that is set.
#[must_use]
pub fn matches(filter: &v1::SessionFilter, row: &v1::SessionRow) -> bool {
    let is = |want: &str, have: &str| want.is_empty() || want == have;
    is(&filter.realm, &row.realm)
        && is(&filter.environment_id, &row.environment_id)
        && is(&filter.server_id, &row.server_id)
        && is(&filter.zone, &row.zone)
        && is(&filter.player, &row.player)
}

/// Reads the 16 bytes of a session's id.
///
/// # Errors
/// [`BadField`] naming the field.
pub fn session_id(field: &'static str, bytes: &[u8]) -> Result<SessionId, BadField> {
    let id = Uuid::from_slice(bytes).map_err(|_| BadField::new(field, format!("has {} bytes, not 16", bytes.len())))?;
    Ok(SessionId(id))
}
