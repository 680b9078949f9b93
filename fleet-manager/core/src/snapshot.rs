//! Snapshots of the active environment: what is known of each, and when one may be taken.

use tidegate_types::{BuildVersion, EnvironmentId, RolloutId, SnapshotId, Timestamp};

use crate::effect::Effect;
use crate::environment::Phase;
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// When the world stood still for it.
    pub taken: Timestamp,
    /// BLAKE3 of the manifest, hex.
    pub digest: String,
    /// Everything was read back and matched.
    pub verified: bool,
    /// When it was last read back; zero: never.
    pub verified_at: Timestamp,
    /// Size of everything it names.
    pub bytes: u64,
    /// How many blobs it names.
    pub blobs: u32,
    /// How long the world stood still, in milliseconds.
    pub paused_ms: u32,
    /// Why verification failed; empty: it did not.
    pub problem: String,
}

/// Where a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotState {
    /// Being taken.
    Taking {
        /// Counts from 1; an answer to another one is ignored.
        attempt: u32,
    },
    /// Stored.
    Stored(SnapshotFacts),
    /// It could not be taken.
    Failed {
        /// How often it was tried.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// It was deleted.
    Deleted,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Of which environment.
    pub environment: EnvironmentId,
    /// What that ran.
    pub build: BuildVersion,
    /// Where it is.
    pub state: SnapshotState,
    /// When it was asked for.
    pub created: Timestamp,
}

impl Snapshot {
    /// True when it is stored and was read back whole.
    #[must_use]
    pub const fn is_restorable(&self) -> bool {
        matches!(&self.state, SnapshotState::Stored(facts) if facts.verified)
    }
}

impl Realm {
    pub(crate) fn take_snapshot(
        &mut self,
        now: Timestamp,
        id: &EnvironmentId,
        snapshot: SnapshotId,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let environment = self.environment(id)?;
        out.reply = Reply::Snapshot(snapshot.clone());
        if !self.is_accepting(id) {
            return Err(Refused::new(
                Reason::NotActive,
                format!("environment {id} is {}, not active", environment.phase.kind()),
                "take a snapshot of the active environment: its world is the one that is current",
            ));
        }
        let running = self
            .rows
            .snapshots
            .values()
            .find(|s| s.environment == *id && s.id != snapshot && matches!(s.state, SnapshotState::Taking { .. }));
        if let Some(running) = running {
            return Err(Refused::new(
                Reason::SnapshotRunning,
                format!("snapshot {} of environment {id} is being taken", running.id),
                "wait for it",
            ));
        }
        let attempt = match self.rows.snapshots.get(&snapshot).map(|s| &s.state) {
            None => 1,
            Some(SnapshotState::Failed { attempt, .. }) => attempt + 1,
            // Asked for twice: there is one cut.
            Some(SnapshotState::Taking { .. } | SnapshotState::Stored(_)) => return Ok(()),
            Some(SnapshotState::Deleted) => {
                return Err(Refused::new(
                    Reason::AlreadyExists,
                    format!("snapshot {snapshot} was deleted"),
                    "choose another id",
                ));
            }
        };
        let row = Snapshot {
            id: snapshot.clone(),
            environment: id.clone(),
            build: environment.build.version.clone(),
            state: SnapshotState::Taking { attempt },
            created: now,
        };
        self.rows.snapshots.insert(snapshot.clone(), row);
        out.changes.insert(Change::Snapshot(snapshot.clone()));
        out.audit(who, "snapshot.take", &snapshot, "", "", id.as_str());
        out.effects.push(Effect::TakeSnapshot { environment: id.clone(), snapshot, attempt });
        Ok(())
    }

    fn taking(&mut self, id: &SnapshotId, attempt: u32) -> Option<&mut Snapshot> {
        self.rows.snapshots.get_mut(id).filter(|s| s.state == SnapshotState::Taking { attempt })
    }

    pub(crate) fn snapshot_done(&mut self, id: &SnapshotId, attempt: u32, facts: SnapshotFacts, out: &mut Outcome) {
        let Some(snapshot) = self.taking(id, attempt) else { return };
        let digest = facts.digest.clone();
        snapshot.state = SnapshotState::Stored(facts);
        out.changes.insert(Change::Snapshot(id.clone()));
        out.audit(None, "snapshot.stored", id, "", "", digest);
    }

    pub(crate) fn snapshot_failed(&mut self, id: &SnapshotId, attempt: u32, reason: String, out: &mut Outcome) {
        let Some(snapshot) = self.taking(id, attempt) else { return };
        snapshot.state = SnapshotState::Failed { attempt, reason: reason.clone() };
        out.changes.insert(Change::Snapshot(id.clone()));
        out.audit(None, "snapshot.failed", id, reason, "", "");
    }

    /// Notes what a later look at a snapshot found, or that it is deleted.
    pub(crate) fn snapshot_checked(
        &mut self,
        id: &SnapshotId,
        facts: Option<SnapshotFacts>,
        force: bool,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        let Some(snapshot) = self.rows.snapshots.get(id) else { return Err(Refused::not_found("snapshot", id)) };
        if matches!(snapshot.state, SnapshotState::Taking { .. }) {
            return Err(Refused::new(Reason::SnapshotRunning, format!("snapshot {id} is being taken"), "wait for it"));
        }
        let user = self
            .rows
            .environments
            .values()
            .find(|e| !matches!(e.phase, Phase::Retired { .. }) && e.source.snapshot() == Some(id));
        if let (Some(user), None, false) = (user, &facts, force) {
            return Err(Refused::new(
                Reason::InUse,
                format!("environment {} was cloned from snapshot {id}", user.id),
                "retire that environment first, or delete it by force",
            ));
        }
        let state = facts.map_or(SnapshotState::Deleted, SnapshotState::Stored);
        if state == SnapshotState::Deleted {
            out.audit(None, "snapshot.delete", id, "", "", "");
        }
        if let Some(snapshot) = self.rows.snapshots.get_mut(id) {
            snapshot.state = state;
        }
        out.changes.insert(Change::Snapshot(id.clone()));
        out.reply = Reply::Snapshot(id.clone());
        Ok(())
    }
}
