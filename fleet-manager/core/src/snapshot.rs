//! Snapshots of the active environment: what is known of each, and when one may be taken.

use tidegate_types::{BuildVersion, EnvironmentId, SnapshotId, Timestamp};

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
