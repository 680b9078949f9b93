//! Snapshots.

use fleet_core::snapshot::{Snapshot, SnapshotState};
use tidegate_proto::v1;
use tidegate_types::RealmId;

/// A snapshot, also one that is being taken or could not be.
#[must_use]
pub fn message(realm: &RealmId, snapshot: &Snapshot) -> v1::Snapshot {
    let begun = v1::Snapshot {
        id: snapshot.id.to_string(),
        realm: realm.to_string(),
        environment_id: snapshot.environment.to_string(),
        build: snapshot.build.to_string(),
        taken_ms: snapshot.created.0,
        ..v1::Snapshot::default()
    };
    match &snapshot.state {
        SnapshotState::Taking { .. } => v1::Snapshot { problem: "is being taken".to_owned(), ..begun },
        SnapshotState::Stored(facts) => v1::Snapshot {
            taken_ms: facts.taken.0,
            digest: facts.digest.clone(),
            verified: facts.verified,
            verified_ms: facts.verified_at.0,
            bytes: facts.bytes,
            blobs: facts.blobs,
            paused_ms: facts.paused_ms,
            problem: facts.problem.clone(),
            ..begun
        },
        SnapshotState::Failed { reason, .. } => v1::Snapshot { problem: reason.clone(), ..begun },
        SnapshotState::Deleted => v1::Snapshot { problem: "was deleted".to_owned(), ..begun },
    }
}
