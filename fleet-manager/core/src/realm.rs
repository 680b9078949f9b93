//! One realm: the aggregate that every decision goes through.

use std::collections::BTreeMap;

use tidegate_types::{EnvironmentId, RealmId, RolloutId, SnapshotId, Timestamp};

use crate::drain::Drain;
use crate::effect::Effect;
use crate::environment::Environment;
use crate::input::Input;
use crate::observe::Observed;
use crate::outcome::Outcome;
use crate::refused::Refused;
use crate::rollout::Rollout;
use crate::routing::Routing;
use crate::snapshot::Snapshot;
use crate::spec::RealmSpec;

/// What is stored of a realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Its id.
    pub id: RealmId,
    /// What an operator said about it.
    pub spec: RealmSpec,
    /// Who gets the new players.
    pub routing: Routing,
    /// Its environments, retired ones too.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    /// The last drain of each environment that had one.
    pub drains: BTreeMap<EnvironmentId, Drain>,
    /// Its rollouts, ended ones too.
    pub rollouts: BTreeMap<RolloutId, Rollout>,
    /// Its snapshots.
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
}

impl Rows {
    /// A realm without environments.
    #[must_use]
    pub fn new(id: RealmId, spec: RealmSpec) -> Self {
        Self {
            id,
            spec,
            routing: Routing::default(),
            environments: BTreeMap::new(),
            drains: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        }
    }
}

/// One realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// What is stored.
    pub rows: Rows,
    /// What is observed; empty after a restart.
    pub observed: Observed,
}

impl Realm {
    /// A realm as it was stored. Call [`Self::resume`] next.
    #[must_use]
    pub fn load(rows: Rows) -> Self {
        Self { rows, observed: Observed::default() }
    }

    /// Applies an input.
    ///
    /// # Errors
    /// [`Refused`]: nothing was changed. Only commands are refused, never events.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Result<Outcome, Refused> {
        let _ = (now, input);
        Ok(Outcome::default())
    }

    /// When [`Self::handle_timeout`] wants to be called; `None`: no need.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// Does what is due by the clock alone.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Outcome {
        let _ = now;
        Outcome::default()
    }

    /// The effects in flight: to be performed (again) after a restart.
    #[must_use]
    pub fn resume(&self) -> Vec<Effect> {
        Vec::new()
    }
}
