//! Snapshots: a consistent cut of one environment (its spec, its assets by digest, every zone's state, the realm database),
//! stored by content through `object_store`, and read back before anyone relies on it.
//!
//! ```text
//!   take: barrier --> copy database --> release --> blobs/<digest> … --> manifests/<id>/<digest>.json --> verify
//! ```
//!
//! The manifest is written last: without it there is no snapshot, whatever blobs lie about. Nothing here knows environments
//! or rollouts; who may be restored into what is decided elsewhere.

mod blobs;
mod database;
mod error;
pub mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tidegate_types::{BuildVersion, EnvironmentId, RealmId, SnapshotId, Timestamp};
use uuid::Uuid;

pub use error::SnapshotError;
pub use manifest::Manifest;

use crate::servers::{BarrierZones, SavedZone, Servers, ServersError};
use blobs::{Blobs, Scratch, io_at};
use manifest::ZoneRef;

/// Longest state of one zone, in bytes, as the wire has it.
const MAX_ZONE_BYTES: usize = 1024 * 1024;
/// Longest manifest that is read, in bytes: some 100,000 zones.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// The snapshots of one store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Arc<dyn ObjectStore>,
    blobs: Blobs,
    scratch: PathBuf,
    /// Held while blobs are written that no manifest names yet, and while unnamed blobs are deleted.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// What to take a snapshot of.
#[derive(Debug, Clone)]
pub struct Take {
    /// The id it shall have.
    pub id: SnapshotId,
    /// The realm.
    pub realm: RealmId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The environment's build.
    pub build: BuildVersion,
    /// What the environment is made from; kept as it is.
    pub spec: serde_json::Value,
    /// Digest of the build's assets.
    pub assets_digest: Option<[u8; 32]>,
    /// The realm's live database.
    pub database: PathBuf,
    /// When.
    pub taken: Timestamp,
    /// How long the world may stand still; when it is over, the snapshot fails and the world goes on.
    pub barrier_timeout: Duration,
}

/// A snapshot in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub id: SnapshotId,
    /// The realm it was taken of.
    pub realm: RealmId,
    /// The environment it was taken of.
    pub environment: EnvironmentId,
    /// The environment's build.
    pub build: BuildVersion,
    /// When.
    pub taken: Timestamp,
    /// BLAKE3 of the manifest, in hex.
    pub digest: String,
    /// Length of its blobs together.
    pub bytes: u64,
    /// How many blobs it has.
    pub blobs: u32,
    /// How long the world stood still for it, in milliseconds.
    pub paused_ms: u32,
}

impl Snapshots {
    /// Opens the store: `<data_dir>/snapshots`, or the one at `url`. Blocks for as long as making a folder takes.
    ///
    /// # Errors
    /// [`SnapshotError::Store`]: not a URL, a scheme that is not compiled in, or a folder that cannot be used.
    pub fn open(data_dir: &Path, url: Option<&str>) -> Result<Self, SnapshotError> {
        let dir = match url {
            None => data_dir.join("snapshots"),
            Some(text) => local_folder(text)?,
        };
        let unusable = |e: &dyn std::fmt::Display| SnapshotError::Store(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(|e| unusable(&e))?;
        let store = LocalFileSystem::new_with_prefix(&dir).map_err(|e| unusable(&e))?.with_fsync(true);
        let scratch = data_dir.join("scratch");
        std::fs::create_dir_all(&scratch).map_err(io_at(&scratch))?;
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        Ok(Self { blobs: Blobs::new(Arc::clone(&store)), store, scratch, writing: Arc::default() })
    }

    /// Takes a snapshot and verifies it by reading everything back. Taking one that exists verifies that one: the same id
    /// is the same snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]; there is then no snapshot of that id (unless it existed and is damaged), and the world goes on.
    pub async fn take(&self, take: Take, servers: &Servers) -> Result<Facts, SnapshotError> {
        match self.verify(&take.id).await {
            Err(SnapshotError::NotFound(_)) => {}
            found => return found,
        }
        let copy = self.scratch_file();
        let (zones, paused) = self.stand_still(&take, servers, &copy.0).await?;
        let checked = copy.0.clone();
        blocking(move || database::check(&checked)).await?;

        let writing = self.writing.lock().await;
        let database = self.blobs.put_file(&copy.0).await?;
        let mut refs = Vec::new();
        for zone in zones.into_iter().flat_map(|server| server.zones) {
            let SavedZone { server, zone, state, format } = zone;
            if state.len() > MAX_ZONE_BYTES {
                return Err(SnapshotError::ZoneTooLong {
                    zone: zone.to_string(),
                    server: server.to_string(),
                    bytes: state.len(),
                    limit: MAX_ZONE_BYTES,
                });
            }
            refs.push(ZoneRef { zone, server, format, blob: self.blobs.put(state).await? });
        }
        refs.sort_unstable();
        let manifest = Manifest {
            version: manifest::VERSION,
            id: take.id.clone(),
            realm: take.realm,
            environment: take.environment,
            build: take.build,
            taken: take.taken,
            paused_ms: u32::try_from(paused.as_millis()).unwrap_or(u32::MAX),
            spec: take.spec,
            flags: BTreeMap::new(),
            assets: take.assets_digest.map(|digest| blake3::Hash::from(digest).to_hex().to_string()),
            database,
            zones: refs,
        };
        let bytes =
            manifest.encode().map_err(|e| SnapshotError::Manifest { id: take.id.clone(), why: e.to_string() })?;
        let digest = blake3::hash(&bytes).to_hex();
        self.store.put(&manifest_key(&take.id, &digest), bytes.into()).await?;
        drop(writing);
        tracing::info!(snapshot_id = %take.id, %digest, paused_ms = manifest.paused_ms, "snapshot written");
        self.verify(&take.id).await
    }

    /// Copies the database while the environment's world stands still; the zones, and how long it stood.
    async fn stand_still(
        &self,
        take: &Take,
        servers: &Servers,
        copy: &Path,
    ) -> Result<(Vec<BarrierZones>, Duration), SnapshotError> {
        let started = Instant::now();
        let barrier = servers.barrier(take.environment.clone(), take.id.clone(), take.barrier_timeout).await;
        let zones = barrier.map_err(|e| match e {
            ServersError::Barrier { why } => SnapshotError::Barrier(why),
            other => SnapshotError::Barrier(other.to_string()),
        })?;
        let (from, to) = (take.database.clone(), copy.to_owned());
        let copied = blocking(move || database::copy(&from, &to)).await;
        // Whatever came of the copy, the world goes on now.
        let held = servers.barrier_release(take.environment.clone(), take.id.clone()).await;
        let paused = started.elapsed();
        copied?;
        if held.unwrap_or(false) {
            Ok((zones, paused))
        } else {
            Err(SnapshotError::Barrier("a server went on, or died, before the copy was made".to_owned()))
        }
    }

    /// Reads everything back: the manifest against its name, every blob against its digest, the database copy with
    /// SQLite's own check.
    ///
    /// # Errors
    /// [`SnapshotError`] names the first part that is missing or damaged.
    pub async fn verify(&self, id: &SnapshotId) -> Result<Facts, SnapshotError> {
        let (manifest, digest) = self.load(id).await?;
        for blob in manifest.blobs().filter(|blob| **blob != manifest.database) {
            self.blobs.check(blob).await?;
        }
        let copy = self.scratch_file();
        self.blobs.get_file(&manifest.database, &copy.0).await?;
        let path = copy.0.clone();
        blocking(move || database::check(&path)).await?;
        Ok(manifest.facts(&digest))
    }

    /// The manifest of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::NotFound`], [`SnapshotError::Manifest`].
    pub async fn manifest(&self, id: &SnapshotId) -> Result<Manifest, SnapshotError> {
        Ok(self.load(id).await?.0)
    }

    /// The zones of a snapshot, to be given to fresh servers.
    ///
    /// # Errors
    /// [`SnapshotError`] names what is missing or damaged.
    pub async fn zones(&self, id: &SnapshotId) -> Result<Vec<SavedZone>, SnapshotError> {
        let (manifest, _) = self.load(id).await?;
        let mut zones = Vec::with_capacity(manifest.zones.len());
        for zone in manifest.zones {
            let state = self.blobs.get(&zone.blob, MAX_ZONE_BYTES).await?;
            zones.push(SavedZone { server: zone.server, zone: zone.zone, state, format: zone.format });
        }
        Ok(zones)
    }

    /// Puts the snapshot's database at `target`. A database that is there is put aside, and refused if it is in use. Doing
    /// it again changes nothing.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`], or what is missing or damaged; `target` is then as it was.
    pub async fn restore_database(&self, id: &SnapshotId, target: &Path) -> Result<(), SnapshotError> {
        let (manifest, _) = self.load(id).await?;
        if let Some(dir) = target.parent() {
            std::fs::create_dir_all(dir).map_err(io_at(dir))?;
        }
        let (path, expected) = (target.to_owned(), manifest.database.digest.clone());
        let there = blocking(move || has_digest(&path, &expected)).await?;
        if there {
            return Ok(());
        }
        // Beside the target: renaming is atomic only within a file system.
        let mut beside = target.as_os_str().to_owned();
        beside.push(format!(".{}.new", Uuid::new_v4()));
        let new = Scratch(PathBuf::from(beside));
        self.blobs.get_file(&manifest.database, &new.0).await?;
        let (path, target, word) = (new.0.clone(), target.to_owned(), format!("before-{id}"));
        blocking(move || {
            database::check(&path)?;
            // An id may hold what cannot be in a file name.
            database::replace(&path, &target, &word.replace('/', "_"))
        })
        .await
    }

    /// Deletes a snapshot, and the blobs that no other one needs. One that is not there is deleted already.
    ///
    /// # Errors
    /// [`SnapshotError::Objects`], or [`SnapshotError::Manifest`] of another snapshot that cannot be read: what it needs is
    /// not known, so no blob is deleted.
    pub async fn delete(&self, id: &SnapshotId) -> Result<(), SnapshotError> {
        let _writing = self.writing.lock().await;
        for key in self.manifest_keys(&manifests().join(id.as_str())).await? {
            match self.store.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut keep = BTreeSet::new();
        for (_, found) in self.list().await? {
            keep.extend(found?.blobs().map(|blob| blob.digest.clone()));
        }
        let blobs = self.blobs.sweep(&keep).await?;
        tracing::info!(snapshot_id = %id, blobs, "snapshot deleted");
        Ok(())
    }

    /// Every snapshot's manifest, or what is wrong with it, by id.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn list(&self) -> Result<Vec<(SnapshotId, Result<Manifest, SnapshotError>)>, SnapshotError> {
        let mut ids = BTreeSet::new();
        for key in self.manifest_keys(&manifests()).await? {
            // The id is in the manifest too, but a damaged one must be named as well.
            let part = key.parts().nth(1).map(|part| part.as_ref().to_owned()).unwrap_or_default();
            let text = Key::from_url_path(&part).map_or(part, |decoded| decoded.to_string());
            if let Ok(id) = SnapshotId::new(&text) {
                ids.insert(id);
            }
        }
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let manifest = self.load(&id).await.map(|(manifest, _)| manifest);
            found.push((id, manifest));
        }
        Ok(found)
    }

    async fn manifest_keys(&self, below: &Key) -> Result<Vec<Key>, SnapshotError> {
        let mut listed = self.store.list(Some(below));
        let mut keys = Vec::new();
        while let Some(meta) = listed.next().await {
            keys.push(meta?.location);
        }
        keys.sort();
        Ok(keys)
    }

    /// Reads a manifest and compares it with the digest in its name.
    async fn load(&self, id: &SnapshotId) -> Result<(Manifest, String), SnapshotError> {
        let damaged = |why: String| SnapshotError::Manifest { id: id.clone(), why };
        let keys = self.manifest_keys(&manifests().join(id.as_str())).await?;
        let Some(key) = keys.first() else { return Err(SnapshotError::NotFound(id.clone())) };
        let found = self.store.get(key).await?;
        if found.meta.size > MAX_MANIFEST_BYTES {
            return Err(damaged(format!("it is {} bytes long", found.meta.size)));
        }
        let bytes = found.bytes().await?;
        let digest = blake3::hash(&bytes).to_hex();
        if key.filename() != Some(&format!("{digest}.json")) {
            return Err(damaged("its content is not what its name says".to_owned()));
        }
        let manifest = Manifest::decode(&bytes).map_err(damaged)?;
        if manifest.id != *id {
            return Err(damaged(format!("it is the manifest of \"{}\"", manifest.id)));
        }
        Ok((manifest, digest.to_string()))
    }

    fn scratch_file(&self) -> Scratch {
        Scratch(self.scratch.join(Uuid::new_v4().to_string()))
    }
}

fn manifests() -> Key {
    Key::from("manifests")
}

fn manifest_key(id: &SnapshotId, digest: &str) -> Key {
    manifests().join(id.as_str()).join(format!("{digest}.json"))
}

/// The folder that a `file://` URL names.
fn local_folder(text: &str) -> Result<PathBuf, SnapshotError> {
    let url = url::Url::parse(text).map_err(|e| SnapshotError::Store(format!("\"{text}\" is not a URL: {e}")))?;
    if url.scheme() != "file" {
        let why = format!("\"{}\" stores are not compiled in; use file:///a/folder", url.scheme());
        return Err(SnapshotError::Store(why));
    }
    url.to_file_path().map_err(|()| SnapshotError::Store(format!("\"{text}\" does not name a folder on this machine")))
}

fn has_digest(path: &Path, expected: &str) -> Result<bool, SnapshotError> {
    match std::fs::File::open(path) {
        Ok(file) => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file).map_err(io_at(path))?;
            Ok(*hasher.finalize().to_hex().as_str() == *expected)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_at(path)(e)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SnapshotError::Stopping))
}

#[cfg(test)]
mod tests;
