//! The registered builds. A build never changes after it is registered; environments carry a copy of what deciding needs,
//! the supervisor takes the command from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::BuildInfo;
use tidegate_types::{BuildVersion, Timestamp};

/// One registered version of the world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// What deciding needs to know.
    pub info: BuildInfo,
    /// Program and arguments that start one world server.
    pub command: Vec<String>,
    /// Extra environment variables of the process.
    pub environment: BTreeMap<String, String>,
    /// Where the assets came from; empty: none. The manager keeps its own copy, by digest.
    pub assets_path: String,
    /// When it was registered.
    pub created: Timestamp,
}

/// Handle to the builds; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Builds(Arc<Mutex<BTreeMap<BuildVersion, Arc<Build>>>>);

impl Builds {
    /// With those that were stored.
    #[must_use]
    pub fn new(builds: Vec<Build>) -> Self {
        let builds = builds.into_iter().map(|build| (build.info.version.clone(), Arc::new(build)));
        Self(Arc::new(Mutex::new(builds.collect())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BuildVersion, Arc<Build>>> {
        // A map is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One build.
    #[must_use]
    pub fn get(&self, version: &BuildVersion) -> Option<Arc<Build>> {
        self.lock().get(version).cloned()
    }

    /// Every build, by version text.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Build>> {
        self.lock().values().cloned().collect()
    }

    /// Adds one that has been stored.
    pub fn insert(&self, build: Build) {
        self.lock().insert(build.info.version.clone(), Arc::new(build));
    }
}
