//! What the services share: the realms' tasks, the registries, and how a mutating call is run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::environment::Environment;
use fleet_core::{Realm, RealmSpec, realm::Rows};
use rand::RngExt;
use tidegate_types::{BuildVersion, EnvironmentId, RealmId, RolloutId, SnapshotId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::builds::Build;
use crate::effects::Surroundings;
use crate::errors::Error;
use crate::realm_actor::{RealmActor, RealmHandle};

/// Handle to everything that the services need; cheap to clone.
#[derive(Debug, Clone)]
pub struct Manager {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    surroundings: Arc<Surroundings>,
    realms: Mutex<BTreeMap<RealmId, RealmHandle>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    limits: Limits,
}

/// How long calls wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A flip waits this long for the gateways when the call does not say.
    pub confirm: Duration,
    /// An operator's call waits this long for a long step.
    pub call: Duration,
}

impl Manager {
    /// Without realms yet: [`Manager::adopt`] adds them.
    #[must_use]
    pub fn new(surroundings: Arc<Surroundings>, limits: Limits, shutdown: CancellationToken) -> Self {
        let realms = Mutex::default();
        Self { inner: Arc::new(Inner { surroundings, realms, tasks: TaskTracker::new(), shutdown, limits }) }
    }

    /// Starts the task of a realm that is stored.
    pub fn adopt(&self, rows: Rows) -> RealmHandle {
        let (actor, handle) = RealmActor::new(Realm::load(rows), Arc::clone(&self.inner.surroundings));
        self.realms().insert(handle.id().clone(), handle.clone());
        self.inner.tasks.spawn(actor.run(self.inner.shutdown.clone()));
        handle
    }

    /// Starts the task of a realm that was just stored, unless it runs.
    pub fn create(&self, id: RealmId, spec: RealmSpec) -> RealmHandle {
        let known = self.realms().get(&id).cloned();
        known.unwrap_or_else(|| self.adopt(Rows::new(id, spec)))
    }

    /// Waits for the realms' tasks to end after a stop.
    pub async fn wait(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn realms(&self) -> MutexGuard<'_, BTreeMap<RealmId, RealmHandle>> {
        // A map is whole at any time.
        self.inner.realms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that effects are performed with.
    #[must_use]
    pub fn surroundings(&self) -> &Surroundings {
        &self.inner.surroundings
    }

    /// How long calls wait.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Cancelled when the manager stops.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// Every realm, by id.
    #[must_use]
    pub fn list(&self) -> Vec<RealmHandle> {
        self.realms().values().cloned().collect()
    }

    /// One realm, by the id as it was given.
    ///
    /// # Errors
    /// There is none.
    pub fn realm(&self, id: &str) -> Result<RealmHandle, Error> {
        self.realms().get(id).cloned().ok_or_else(|| Error::not_found("realm", id))
    }

    /// The realms that a request means: one, or all when it names none.
    ///
    /// # Errors
    /// There is none by that id.
    pub fn realm_or_all(&self, id: &str) -> Result<Vec<RealmHandle>, Error> {
        if id.is_empty() { Ok(self.list()) } else { Ok(vec![self.realm(id)?]) }
    }

    /// The realm that an environment belongs to.
    ///
    /// # Errors
    /// There is no such environment.
    pub fn of_environment(&self, id: &str) -> Result<(RealmHandle, EnvironmentId), Error> {
        self.find("environment", id, |realm| realm.rows.environments.get_key_value(id).map(|(id, _)| id.clone()))
    }

    /// The realm that a rollout belongs to.
    ///
    /// # Errors
    /// There is no such rollout.
    pub fn of_rollout(&self, id: &str) -> Result<(RealmHandle, RolloutId), Error> {
        self.find("rollout", id, |realm| realm.rows.rollouts.get_key_value(id).map(|(id, _)| id.clone()))
    }

    /// The realm that a snapshot belongs to.
    ///
    /// # Errors
    /// There is no such snapshot.
    pub fn of_snapshot(&self, id: &str) -> Result<(RealmHandle, SnapshotId), Error> {
        self.find("snapshot", id, |realm| realm.rows.snapshots.get_key_value(id).map(|(id, _)| id.clone()))
    }

    fn find<T>(
        &self,
        kind: &'static str,
        id: &str,
        find: impl Fn(&Realm) -> Option<T>,
    ) -> Result<(RealmHandle, T), Error> {
        let found = self.list().into_iter().find_map(|realm| find(&realm.realm()).map(|found| (realm, found)));
        found.ok_or_else(|| Error::not_found(kind, id))
    }

    /// A registered build.
    ///
    /// # Errors
    /// There is none of that version.
    pub fn build(&self, version: &str) -> Result<Arc<Build>, Error> {
        let known = version.parse::<BuildVersion>().ok().and_then(|v| self.surroundings().builds.get(&v));
        known.ok_or_else(|| Error::not_found("build", version))
    }

    /// A new environment's id: the realm's, and a few characters that no other environment or rollout has.
    ///
    /// # Errors
    /// The realm's id is too long to make another of it.
    pub fn environment_id(&self, realm: &Realm) -> Result<EnvironmentId, Error> {
        loop {
            let id: EnvironmentId = named(&format!("{}-{}", realm.rows.id, word(4)))?;
            let reserved = realm.rows.rollouts.values().any(|r| r.green == id || r.next_green == id);
            if !reserved && !realm.rows.environments.contains_key(&id) {
                return Ok(id);
            }
        }
    }

    /// A new rollout's id.
    ///
    /// # Errors
    /// Never in practice: the id is short.
    pub fn rollout_id(&self) -> Result<RolloutId, Error> {
        named(&format!("ro-{}", word(8)))
    }

    /// A new snapshot's id.
    ///
    /// # Errors
    /// Never in practice: the id is short.
    pub fn snapshot_id(&self) -> Result<SnapshotId, Error> {
        named(&format!("snap-{}", word(8)))
    }
}

fn named<T: std::str::FromStr<Err = tidegate_types::InvalidId>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|e: tidegate_types::InvalidId| Error::Failed { what: "making an id", why: e.to_string() })
}

/// Random characters that are not mistaken for each other when read aloud.
fn word(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstvwxyz23456789";
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// The environment in the realm as it is now.
///
/// # Errors
/// It is not there.
pub fn environment<'a>(realm: &'a Realm, id: &EnvironmentId) -> Result<&'a Environment, Error> {
    realm.rows.environments.get(id).ok_or_else(|| Error::not_found("environment", id))
}
