//! `EnvironmentService`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::environment::PhaseKind;
use fleet_core::input::CloneCommand;
use fleet_core::snapshot::SnapshotState;
use fleet_core::{Command, Realm, Reply};
use prost::Message as _;
use tidegate_proto::v1;
use tidegate_proto::v1::environment_service_server::EnvironmentService;
use tidegate_types::{EnvironmentId, SnapshotId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, Watch, decode, page, pending};
use crate::convert;
use crate::errors::{Error, Refusal};
use crate::realm_actor::RealmHandle;
use crate::requests::{self, Pending};
use crate::servers::ServersView;

/// How often a watch of environments looks for changes: what changes more often is not for people.
const PACE: Duration = Duration::from_millis(100);

#[tonic::async_trait]
impl EnvironmentService for Api {
    async fn create_environment(
        &self,
        request: Request<v1::CreateEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("CreateEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let realm = self.manager.realm(&request.realm)?;
        let command = Command::CreateEnvironment {
            id: self.manager.environment_id(&realm.realm())?,
            build: self.manager.build(&request.build)?.info.clone(),
            fleets: convert::environment::read_fleets(request.fleets.clone()).map_err(Error::from)?,
            label: convert::environment::read_label("label", request.label).map_err(Error::from)?,
        };
        Ok(Response::new(self.environment_command(&realm, pending, &request, command).await?))
    }

    async fn get_environment(
        &self,
        request: Request<v1::GetEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let (realm, id) = self.manager.of_environment(&request.get_ref().id)?;
        Ok(Response::new(render(&realm.realm(), &id, &self.view())))
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let request = request.into_inner();
        let view = self.view();
        let mut environments = Vec::new();
        for realm in self.manager.realm_or_all(&request.realm)? {
            environments.extend(of_realm(&realm.realm(), &view, request.include_retired));
        }
        let (environments, next_page_token) = page(request.page.as_ref(), environments, |e| &e.id)?;
        Ok(Response::new(v1::ListEnvironmentsResponse { environments, next_page_token }))
    }

    async fn stage_environment(
        &self,
        request: Request<v1::StageEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("StageEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.id)?;
        let command = Command::Stage { environment, if_generation: convert::if_generation(request.if_generation) };
        Ok(Response::new(self.environment_command(&realm, pending, &request, command).await?))
    }

    async fn verify_environment(
        &self,
        request: Request<v1::VerifyEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("VerifyEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.id)?;
        let command = Command::Verify { environment, if_generation: convert::if_generation(request.if_generation) };
        Ok(Response::new(self.environment_command(&realm, pending, &request, command).await?))
    }

    async fn snapshot_environment(
        &self,
        request: Request<v1::SnapshotEnvironmentRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        let pending = pending("SnapshotEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.id)?;
        let snapshot = self.manager.snapshot_id()?;
        let command =
            Command::Snapshot { environment, snapshot, if_generation: convert::if_generation(request.if_generation) };
        let id = pending.id.clone();
        let first = async |pending: Pending| {
            let render = Box::new(|realm: &Realm, reply: &Reply| (snapshot_of(realm, reply).encode_to_vec(), false));
            let answer = realm.command(command, pending, render).await?;
            self.snapshot_taken(&realm, &id, decode(&answer.body)?).await
        };
        let again = async |begun| self.snapshot_taken(&realm, &id, begun).await;
        let store = &self.manager.surroundings().store;
        Ok(Response::new(requests::once(store, pending, &request, first, again).await?))
    }

    async fn clone_environment(
        &self,
        request: Request<v1::CloneEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("CloneEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (target, command) = self.clone_command(&request.snapshot_id, &request.target_realm, &request.build)?;
        Ok(Response::new(self.environment_command(&target, pending, &request, command).await?))
    }

    async fn relabel_environment(
        &self,
        request: Request<v1::RelabelEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("RelabelEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.id)?;
        let command = Command::Relabel { environment, if_generation: convert::if_generation(request.if_generation) };
        Ok(Response::new(self.environment_command(&realm, pending, &request, command).await?))
    }

    async fn retire_environment(
        &self,
        request: Request<v1::RetireEnvironmentRequest>,
    ) -> Result<Response<v1::Environment>, Status> {
        let pending = pending("RetireEnvironment", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.id)?;
        let command = Command::Retire { environment, if_generation: convert::if_generation(request.if_generation) };
        Ok(Response::new(self.environment_command(&realm, pending, &request, command).await?))
    }

    type WatchEnvironmentsStream = Watch<v1::EnvironmentEvent>;

    async fn watch_environments(
        &self,
        request: Request<v1::WatchEnvironmentsRequest>,
    ) -> Result<Response<Self::WatchEnvironmentsStream>, Status> {
        let realm = request.into_inner().realm;
        self.manager.realm_or_all(&realm)?;
        Ok(Response::new(self.follow_environments(realm)))
    }
}

impl Api {
    pub(super) fn view(&self) -> Arc<ServersView> {
        Arc::clone(&self.manager.surroundings().servers.view().borrow())
    }

    /// A command that answers with an environment.
    pub(super) async fn environment_command<Q: prost::Message>(
        &self,
        realm: &RealmHandle,
        pending: Pending,
        request: &Q,
        command: Command,
    ) -> Result<v1::Environment, Error> {
        let view = self.view();
        let answer = move |realm: &Realm, reply: &Reply| match reply {
            Reply::Environment(id) => render(realm, id, &view),
            Reply::Done | Reply::Flip(_) | Reply::Drain(_) | Reply::Rollout(_) | Reply::Snapshot(_) => {
                v1::Environment::default()
            }
        };
        self.command(realm, pending, request, command, answer).await
    }

    /// The command that makes an environment from a snapshot, and the realm to give it to. Empty: the snapshot's own.
    pub(super) fn clone_command(
        &self,
        snapshot: &str,
        target: &str,
        build: &str,
    ) -> Result<(RealmHandle, Command), Error> {
        let (source, snapshot) = self.manager.of_snapshot(snapshot)?;
        let target = if target.is_empty() { source.clone() } else { self.manager.realm(target)? };
        let realm = source.realm();
        let row = &realm.rows.snapshots[&snapshot];
        let SnapshotState::Stored(facts) = &row.state else {
            let message = format!("snapshot {snapshot} is not stored");
            return Err(Refusal::precondition("SNAPSHOT_NOT_VERIFIED", message, "take another one").into());
        };
        let build = if build.is_empty() { row.build.as_str() } else { build };
        // In another realm there is nothing to take the fleets from but what the snapshot was taken of.
        let fleets = if target.id() == source.id() {
            Vec::new()
        } else {
            realm.rows.environments.get(&row.environment).map(|e| e.fleets.clone()).unwrap_or_default()
        };
        let command = Command::Clone(Box::new(CloneCommand {
            id: self.manager.environment_id(&target.realm())?,
            snapshot,
            source: source.id().clone(),
            facts: facts.clone(),
            build: self.manager.build(build)?.info.clone(),
            fleets,
        }));
        Ok((target, command))
    }

    /// Waits until a snapshot that was begun is stored, and completes the request's record.
    async fn snapshot_taken(
        &self,
        realm: &RealmHandle,
        request: &tidegate_types::RequestId,
        begun: v1::Snapshot,
    ) -> Result<v1::Snapshot, Error> {
        let id: SnapshotId = begun.id.parse().map_err(|_| Error::not_found("snapshot", &begun.id))?;
        let taken = |realm: &Arc<Realm>| {
            let state = realm.rows.snapshots.get(&id).map(|s| &s.state);
            !matches!(state, Some(SnapshotState::Taking { .. }))
        };
        let mut watched = realm.watch();
        let waited = tokio::time::timeout(self.manager.limits().call, watched.wait_for(taken)).await;
        let timed_out = || Error::TimedOut { what: "snapshot", id: id.to_string() };
        let realm = Arc::clone(&*waited.map_err(|_| timed_out())?.map_err(|_| Error::Stopping)?);
        let row = realm.rows.snapshots.get(&id).ok_or_else(|| Error::not_found("snapshot", &id))?;
        if let SnapshotState::Failed { reason, .. } = &row.state {
            let message = format!("snapshot {id} could not be taken: {reason}");
            return Err(
                Refusal::precondition("SNAPSHOT_FAILED", message, "remove the cause and take another one").into()
            );
        }
        let answer = convert::snapshot::message(&realm.rows.id, row);
        requests::finish(&self.manager.surroundings().store, request, &answer).await?;
        Ok(answer)
    }

    fn follow_environments(&self, realm: String) -> Watch<v1::EnvironmentEvent> {
        // One event at a time: a slow client gets the newest state with the next one.
        let (out, stream) = mpsc::channel(1);
        let api = self.clone();
        tokio::spawn(async move {
            let mut sent: BTreeMap<String, v1::Environment> = BTreeMap::new();
            let mut snapshot = true;
            let mut servers = api.manager.surroundings().servers.view();
            loop {
                let view = Arc::clone(&servers.borrow_and_update());
                let realms = api.manager.realm_or_all(&realm).unwrap_or_default();
                let environments = realms.iter().flat_map(|r| of_realm(&r.realm(), &view, true));
                let changed: Vec<_> = environments.filter(|e| sent.get(&e.id) != Some(e)).collect();
                for environment in &changed {
                    sent.insert(environment.id.clone(), environment.clone());
                }
                if snapshot || !changed.is_empty() {
                    let event = v1::EnvironmentEvent { snapshot, environments: changed };
                    if out.send(Ok(event)).await.is_err() {
                        return;
                    }
                    snapshot = false;
                }
                tokio::select! {
                    () = api.manager.shutdown().cancelled() => return,
                    () = out.closed() => return,
                    () = tokio::time::sleep(PACE) => {}
                }
            }
        });
        Box::pin(ReceiverStream::new(stream))
    }
}

fn of_realm(realm: &Realm, view: &ServersView, retired: bool) -> Vec<v1::Environment> {
    let environments = realm.rows.environments.values();
    let wanted = environments.filter(|e| retired || e.phase.kind() != PhaseKind::Retired);
    wanted.map(|e| convert::environment::message(realm, e, view)).collect()
}

fn render(realm: &Realm, id: &EnvironmentId, view: &ServersView) -> v1::Environment {
    let environment = realm.rows.environments.get(id);
    environment.map(|e| convert::environment::message(realm, e, view)).unwrap_or_default()
}

fn snapshot_of(realm: &Realm, reply: &Reply) -> v1::Snapshot {
    match reply {
        Reply::Snapshot(id) => {
            let row = realm.rows.snapshots.get(id);
            row.map(|row| convert::snapshot::message(&realm.rows.id, row)).unwrap_or_default()
        }
        Reply::Done | Reply::Environment(_) | Reply::Flip(_) | Reply::Drain(_) | Reply::Rollout(_) => {
            v1::Snapshot::default()
        }
    }
}
