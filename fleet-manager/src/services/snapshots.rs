//! `SnapshotService`. Snapshots are taken by `EnvironmentService` and by rollouts; here they are looked after.

use fleet_core::snapshot::{SnapshotFacts, SnapshotState};
use fleet_core::{Command, Realm, Reply};
use tidegate_proto::v1;
use tidegate_proto::v1::snapshot_service_server::SnapshotService;
use tidegate_types::SnapshotId;
use tonic::{Request, Response, Status};

use super::{Api, now, page, pending};
use crate::convert;
use crate::effects::{chain, facts_of};
use crate::errors::{Error, Refusal};

#[tonic::async_trait]
impl SnapshotService for Api {
    async fn get_snapshot(&self, request: Request<v1::GetSnapshotRequest>) -> Result<Response<v1::Snapshot>, Status> {
        let (realm, id) = self.manager.of_snapshot(&request.get_ref().id)?;
        Ok(Response::new(message(&realm.realm(), &id)))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let mut snapshots = Vec::new();
        for realm in self.manager.realm_or_all(&request.realm)? {
            let realm = realm.realm();
            let rows = realm.rows.snapshots.values().filter(|s| s.state != SnapshotState::Deleted);
            snapshots.extend(rows.map(|row| convert::snapshot::message(&realm.rows.id, row)));
        }
        let (snapshots, next_page_token) = page(request.page.as_ref(), snapshots, |s| &s.id)?;
        Ok(Response::new(v1::ListSnapshotsResponse { snapshots, next_page_token }))
    }

    async fn verify_snapshot(
        &self,
        request: Request<v1::VerifySnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let pending = pending("VerifySnapshot", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, snapshot) = self.manager.of_snapshot(&request.id)?;
        let known = stored(&realm.realm(), &snapshot)?;
        let read = self.manager.surroundings().snapshots.verify(&snapshot).await;
        let facts = match read {
            Ok(facts) if facts.digest == known.digest => facts_of(facts, now()),
            Ok(facts) => {
                let problem = format!("its manifest has digest {}, not {} as recorded", facts.digest, known.digest);
                SnapshotFacts { verified: false, verified_at: now(), problem, ..known }
            }
            // That it does not match is a finding, not a failure of the call.
            Err(error) => SnapshotFacts { verified: false, verified_at: now(), problem: chain(&error), ..known },
        };
        let command = Command::SnapshotChecked { snapshot: snapshot.clone(), facts: Some(facts), force: false };
        let render = move |realm: &Realm, _: &Reply| message(realm, &snapshot);
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Result<Response<v1::RestoreSnapshotResponse>, Status> {
        let pending = pending("RestoreSnapshot", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (target, command) = self.clone_command(&request.id, &request.target_realm, "")?;
        let (source, _) = self.manager.of_snapshot(&request.id)?;
        if source.id() == target.id() {
            let message = format!("snapshot {} is of realm {}, whose database is in use", request.id, target.id());
            let advice = "restore it into another realm that has no environments, or clone it within its own";
            return Err(Error::from(Refusal::precondition("REALM_NOT_EMPTY", message, advice)).into());
        }
        let render = |_: &Realm, reply: &Reply| {
            let environment_id = match reply {
                Reply::Environment(id) => id.to_string(),
                Reply::Done | Reply::Flip(_) | Reply::Drain(_) | Reply::Rollout(_) | Reply::Snapshot(_) => {
                    String::new()
                }
            };
            v1::RestoreSnapshotResponse { environment_id }
        };
        Ok(Response::new(self.command(&target, pending, &request, command, render).await?))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let pending = pending("DeleteSnapshot", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, snapshot) = self.manager.of_snapshot(&request.id)?;
        let command = Command::SnapshotChecked { snapshot: snapshot.clone(), facts: None, force: request.force };
        let render = |_: &Realm, _: &Reply| v1::DeleteSnapshotResponse {};
        // The row first: it refuses while the snapshot is needed. Blobs that a crash leaves behind are named by no row.
        let answer = self.command(&realm, pending, &request, command, render).await?;
        let deleted = self.manager.surroundings().snapshots.delete(&snapshot).await;
        deleted.map_err(|e| Error::Failed { what: "deleting the snapshot's blobs", why: chain(&e) })?;
        Ok(Response::new(answer))
    }
}

fn message(realm: &Realm, id: &SnapshotId) -> v1::Snapshot {
    let row = realm.rows.snapshots.get(id);
    row.map(|row| convert::snapshot::message(&realm.rows.id, row)).unwrap_or_default()
}

fn stored(realm: &Realm, id: &SnapshotId) -> Result<SnapshotFacts, Error> {
    match realm.rows.snapshots.get(id).map(|row| &row.state) {
        Some(SnapshotState::Stored(facts)) => Ok(facts.clone()),
        Some(SnapshotState::Taking { .. } | SnapshotState::Failed { .. } | SnapshotState::Deleted) | None => {
            let message = format!("snapshot {id} is not stored");
            Err(Refusal::precondition("SNAPSHOT_NOT_STORED", message, "look at it, or take another one").into())
        }
    }
}
