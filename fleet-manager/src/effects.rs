//! Performs what the core decided. The one `match` on [`Effect`]; every effect may be performed again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::effect::{Effect, ServersWanted};
use fleet_core::input::Check;
use fleet_core::snapshot::SnapshotFacts;
use fleet_core::{Change, Event, Realm};
use tidegate_link::pki::Identity;
use tidegate_proto::v1;
use tidegate_types::{Clock, EnvironmentId, Generation, RealmId, SessionId, SnapshotId, SystemClock, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::builds::Builds;
use crate::convert;
use crate::gateways::Gateways;
use crate::realm_actor::Message;
use crate::servers::{Assets, EnvironmentServers, FleetSpec, Servers};
use crate::sessions::Sessions;
use crate::snapshots::{Facts, Snapshots, Take};
use crate::store::{Store, rows};
use crate::{assets, smoke};

/// How long the world may stand still for a snapshot before it goes on without one.
const BARRIER: Duration = Duration::from_secs(10);

/// How long a whole run of the smoke tests may take.
const SMOKE: Duration = Duration::from_secs(30);

/// Everything that effects are performed with.
#[derive(Debug)]
pub struct Surroundings {
    /// What must not be forgotten.
    pub store: Store,
    /// The registered builds.
    pub builds: Builds,
    /// The gateways.
    pub gateways: Gateways,
    /// The sessions that they report.
    pub sessions: Sessions,
    /// The world servers' processes.
    pub servers: Servers,
    /// The stored snapshots.
    pub snapshots: Snapshots,
    /// Who the manager is to world servers, for smoke tests.
    pub identity: Identity,
    /// The manager's folder.
    pub data_dir: PathBuf,
    /// How long a world server that is stopped has to save its players.
    pub stop_within: Duration,
}

/// Performs the effects of one realm.
pub struct Executor {
    surroundings: Arc<Surroundings>,
    realm: RealmId,
    inbox: mpsc::Sender<Message>,
    /// Desired servers that the supervisor has not taken yet: tried again until it does.
    untaken: BTreeMap<EnvironmentId, ServersWanted>,
}

impl Executor {
    /// Answers come back through `inbox`.
    #[must_use]
    pub(crate) const fn new(surroundings: Arc<Surroundings>, realm: RealmId, inbox: mpsc::Sender<Message>) -> Self {
        Self { surroundings, realm, inbox, untaken: BTreeMap::new() }
    }

    /// Performs the effects in order. What takes time goes on in a task of its own, and its answer comes as an event.
    pub async fn perform(&mut self, realm: &Realm, effects: Vec<Effect>, shutdown: &CancellationToken) {
        for effect in effects {
            tracing::debug!(?effect, "performing");
            match effect {
                Effect::PublishTable(table) => {
                    self.surroundings.gateways.publish(&self.realm, convert::routing::table(&table));
                }
                Effect::AwaitAcks { generation, deadline } => {
                    let gateways = self.surroundings.gateways.clone();
                    self.spawn(shutdown, await_acks(gateways, self.realm.clone(), generation, deadline));
                }
                Effect::EnsureServers(wanted) => {
                    self.untaken.insert(wanted.environment.clone(), wanted);
                    self.retry(realm).await;
                }
                Effect::StopServers { environment } => {
                    self.untaken.remove(&environment);
                    self.spawn(shutdown, stop(Arc::clone(&self.surroundings), environment));
                }
                Effect::RunSmoke { environment, attempt } => {
                    let surroundings = Arc::clone(&self.surroundings);
                    self.spawn(shutdown, run_smoke(surroundings, self.realm.clone(), environment, attempt));
                }
                Effect::TakeSnapshot { environment, snapshot, attempt } => {
                    let take = take_of(realm, &environment, &snapshot);
                    self.spawn(shutdown, take_snapshot(Arc::clone(&self.surroundings), take, snapshot, attempt));
                }
                Effect::CloneFrom { environment, snapshot, source: _, restore_database, attempt } => {
                    let target = restore_database.then(|| PathBuf::from(&realm.rows.spec.database));
                    let surroundings = Arc::clone(&self.surroundings);
                    self.spawn(shutdown, clone_from(surroundings, environment, snapshot, target, attempt));
                }
                Effect::Notify { command, environment: _, sessions, text, remaining } => {
                    let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
                    let action = v1::session_command::Action::Notify(v1::NotifySessions { text, remaining_ms });
                    self.command(command, &sessions, action);
                }
                Effect::MoveSessions { command, environment: _, to, sessions, cause } => {
                    let to = v1::MoveSessions {
                        environment_id: to.to_string(),
                        server_id: String::new(),
                        cause: v1::Cause::from(cause).into(),
                    };
                    self.command(command, &sessions, v1::session_command::Action::Move(to));
                }
                Effect::KickSessions { command, environment: _, sessions, message } => {
                    let kick = v1::KickSessions { reason: "drain".to_owned(), message };
                    self.command(command, &sessions, v1::session_command::Action::Kick(kick));
                }
            }
        }
    }

    /// Tries again what the supervisor has not taken.
    pub async fn retry(&mut self, realm: &Realm) {
        for (environment, wanted) in std::mem::take(&mut self.untaken) {
            if let Err(why) = ensure(&self.surroundings, &self.realm, &wanted).await {
                let phase = realm.rows.environments.get(&environment).map(|e| e.phase.kind().as_str());
                tracing::warn!(%environment, phase, why, "cannot ensure the servers; trying again");
                self.untaken.insert(environment, wanted);
            }
        }
    }

    /// What becomes of the command is seen in the sessions; its results are not waited for.
    fn command(&self, command_id: String, sessions: &[SessionId], action: v1::session_command::Action) {
        let command = v1::SessionCommand {
            command_id,
            realm: self.realm.to_string(),
            session_ids: sessions.iter().map(|id| id.to_vec()).collect(),
            action: Some(action),
        };
        let results = self.surroundings.gateways.command(&command);
        if results.sent < sessions.len() {
            tracing::debug!(
                command_id = command.command_id,
                sent = results.sent,
                of = sessions.len(),
                "not all were reached"
            );
        }
    }

    /// Runs `work` beside the realm's task, and hands its event in. An effect that a stop cuts short is named again by
    /// the core at the next start.
    fn spawn(&self, shutdown: &CancellationToken, work: impl Future<Output = Option<Event>> + Send + 'static) {
        let (inbox, shutdown) = (self.inbox.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                event = work => if let Some(event) = event {
                    // The realm's task only ends with the manager.
                    drop(inbox.send(Message::Event(event)).await);
                }
            }
        });
    }
}

async fn await_acks(gateways: Gateways, realm: RealmId, generation: Generation, deadline: Timestamp) -> Option<Event> {
    let begun = Instant::now();
    let mut changed = gateways.changed();
    loop {
        changed.mark_unchanged();
        let missing = gateways.missing(&realm, generation.0);
        let now = SystemClock.now().wall;
        if missing.is_empty() || now >= deadline {
            for gateway_id in gateways.given_up_on(&realm, generation.0) {
                tracing::warn!(%gateway_id, %realm, %generation, "gateway is gone; the table is confirmed without its word");
            }
            let confirm_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            return Some(Event::TableAcked { generation, missing, confirm_us });
        }
        // A gateway that falls silent stops being waited for without any change: look at least this often.
        let wait = deadline.since(now).min(Duration::from_millis(250));
        // The time-out only makes it look again.
        let _ = tokio::time::timeout(wait, changed.changed()).await;
    }
}

async fn ensure(surroundings: &Surroundings, realm: &RealmId, wanted: &ServersWanted) -> Result<(), String> {
    let version = &wanted.build.version;
    let build = surroundings.builds.get(version).ok_or_else(|| format!("build {version} is not registered"))?;
    let zones = match &wanted.zones_from {
        Some(snapshot) => {
            let zones = surroundings.snapshots.zones(snapshot).await;
            zones.map_err(|e| chain(&e))?.into()
        }
        None => Vec::new().into(),
    };
    let fleets = wanted.fleets.iter().map(|fleet| FleetSpec {
        name: fleet.name.clone(),
        replicas: fleet.replicas,
        zones: fleet.zones.clone(),
        instance_kinds: fleet.instance_kinds.clone(),
        capacity: fleet.capacity,
        environment: fleet.environment.clone(),
    });
    let assets = wanted
        .build
        .assets_digest
        .map(|digest| Assets { path: assets::path_of(&surroundings.data_dir, &digest), digest });
    let servers = EnvironmentServers {
        environment: wanted.environment.clone(),
        realm: realm.clone(),
        build: version.clone(),
        command: build.command.clone(),
        command_environment: build.environment.clone(),
        assets,
        fleets: fleets.collect(),
        database: PathBuf::from(&wanted.database),
        zones,
        serve: wanted.serve,
    };
    surroundings.servers.ensure(servers).await.map_err(|e| chain(&e))
}

async fn stop(surroundings: Arc<Surroundings>, environment: EnvironmentId) -> Option<Event> {
    let stopped = surroundings.servers.stop_environment(environment.clone(), surroundings.stop_within).await;
    match stopped {
        Ok(()) => Some(Event::ServersStopped { environment }),
        // Only while the manager stops; the core asks again at the next start.
        Err(_) => None,
    }
}

async fn run_smoke(
    surroundings: Arc<Surroundings>,
    realm: RealmId,
    environment: EnvironmentId,
    attempt: u32,
) -> Option<Event> {
    // They were told to serve a moment ago; after a restart of the manager they have yet to register again.
    let servers = surroundings.servers.when_complete(&environment, SMOKE / 2).await;
    let Some(build) = servers.first().map(|s| s.build_expected.clone()) else {
        let check = Check { name: "servers".into(), ok: false, warning: false, why: "there are none".into() };
        return Some(Event::SmokeDone { environment, attempt, checks: vec![check] });
    };
    let request = smoke::Request { realm, environment: environment.clone(), build, servers, within: SMOKE };
    let checks = smoke::run(request, &surroundings.identity).await.into_iter().map(|check| {
        let (ok, warning, why) = match check.outcome {
            smoke::Outcome::Passed => (true, false, String::new()),
            smoke::Outcome::Skipped(why) => (true, true, why),
            smoke::Outcome::Failed(why) => (false, false, why),
        };
        Check { name: check.name.to_owned(), ok, warning, why }
    });
    Some(Event::SmokeDone { environment, attempt, checks: checks.collect() })
}

fn take_of(realm: &Realm, environment: &EnvironmentId, snapshot: &SnapshotId) -> Option<Take> {
    let row = realm.rows.environments.get(environment)?;
    let spec = rows::writes(realm, &Change::Environment(environment.clone()));
    let spec = spec.iter().filter_map(|row| {
        let body = serde_json::from_str(row.body.as_ref()?).ok()?;
        Some((format!("{}/{}", row.table.name(), row.key), body))
    });
    Some(Take {
        id: snapshot.clone(),
        realm: realm.rows.id.clone(),
        environment: environment.clone(),
        build: row.build.version.clone(),
        spec: serde_json::Value::Object(spec.collect()),
        assets_digest: row.build.assets_digest,
        database: PathBuf::from(&realm.rows.spec.database),
        taken: SystemClock.now().wall,
        barrier_timeout: BARRIER,
    })
}

async fn take_snapshot(
    surroundings: Arc<Surroundings>,
    take: Option<Take>,
    snapshot: SnapshotId,
    attempt: u32,
) -> Option<Event> {
    let Some(take) = take else {
        return Some(Event::SnapshotFailed { snapshot, attempt, reason: "its environment does not exist".to_owned() });
    };
    Some(match surroundings.snapshots.take(take, &surroundings.servers).await {
        Ok(facts) => Event::SnapshotDone { snapshot, attempt, facts: facts_of(facts, SystemClock.now().wall) },
        Err(error) => Event::SnapshotFailed { snapshot, attempt, reason: chain(&error) },
    })
}

/// What was stored, as read back at `verified`.
#[must_use]
pub fn facts_of(facts: Facts, verified: Timestamp) -> SnapshotFacts {
    SnapshotFacts {
        taken: facts.taken,
        digest: facts.digest,
        verified: true,
        verified_at: verified,
        bytes: facts.bytes,
        blobs: facts.blobs,
        paused_ms: facts.paused_ms,
        problem: String::new(),
    }
}

async fn clone_from(
    surroundings: Arc<Surroundings>,
    environment: EnvironmentId,
    snapshot: SnapshotId,
    database: Option<PathBuf>,
    attempt: u32,
) -> Option<Event> {
    let made = async {
        // Read here, so that a clone whose zones cannot be read fails now and not when its servers start.
        surroundings.snapshots.zones(&snapshot).await?;
        if let Some(database) = &database {
            surroundings.snapshots.restore_database(&snapshot, database).await?;
        }
        Ok::<_, crate::snapshots::SnapshotError>(())
    };
    Some(match made.await {
        Ok(()) => Event::CloneDone { environment, attempt },
        Err(error) => Event::CloneFailed { environment, attempt, reason: chain(&error) },
    })
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
