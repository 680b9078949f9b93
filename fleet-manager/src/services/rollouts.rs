//! `RolloutService`.

use std::time::Duration;

use fleet_core::input::StartRollout;
use fleet_core::rollout::RolloutSpec;
use fleet_core::{Command, Realm, Reply};
use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_proto::v1::rollout_service_server::RolloutService;
use tidegate_types::RolloutId;
use tonic::{Request, Response, Status};

use super::{Api, Watch, follow, now, pending};
use crate::convert;
use crate::errors::Error;
use crate::realm_actor::RealmHandle;

/// How often a watched rollout is looked at: steps last seconds.
const PACE: Duration = Duration::from_millis(50);

#[tonic::async_trait]
impl RolloutService for Api {
    async fn plan_rollout(
        &self,
        request: Request<v1::PlanRolloutRequest>,
    ) -> Result<Response<v1::RolloutPlan>, Status> {
        let (realm, spec) = self.rollout_spec(request.into_inner().spec)?;
        let plan = realm.realm().plan(now(), &spec);
        Ok(Response::new(convert::rollout::plan(&plan)))
    }

    async fn start_rollout(&self, request: Request<v1::StartRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let pending = pending("StartRollout", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, spec) = self.rollout_spec(request.spec.clone())?;
        let id = self.manager.rollout_id()?;
        let start = StartRollout {
            id: id.clone(),
            spec,
            green: self.manager.environment_id(&realm.realm())?,
            snapshot: self.manager.snapshot_id()?,
            next_green: self.manager.environment_id(&realm.realm())?,
        };
        let command = Command::StartRollout(Box::new(start));
        let render = move |realm: &Realm, _: &Reply| message(realm, &id).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn get_rollout(&self, request: Request<v1::GetRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let (realm, id) = self.manager.of_rollout(&request.get_ref().id)?;
        Ok(Response::new(message(&realm.realm(), &id).unwrap_or_default()))
    }

    async fn list_rollouts(
        &self,
        request: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        let mut rollouts = Vec::new();
        for realm in self.manager.realm_or_all(&request.get_ref().realm)? {
            let realm = realm.realm();
            rollouts.extend(realm.rows.rollouts.values().map(|r| convert::rollout::message(&realm.rows.id, r)));
        }
        // Newest first: that is the one that is asked about.
        rollouts.sort_by(|a: &v1::Rollout, b| b.started_ms.cmp(&a.started_ms).then_with(|| a.id.cmp(&b.id)));
        Ok(Response::new(v1::ListRolloutsResponse { rollouts }))
    }

    async fn pause_rollout(&self, request: Request<v1::PauseRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let pending = pending("PauseRollout", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, rollout) = self.manager.of_rollout(&request.id)?;
        let command = Command::PauseRollout { rollout: rollout.clone(), reason: request.reason.clone() };
        let render = move |realm: &Realm, _: &Reply| message(realm, &rollout).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn resume_rollout(
        &self,
        request: Request<v1::ResumeRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let pending = pending("ResumeRollout", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, rollout) = self.manager.of_rollout(&request.id)?;
        let command = Command::ResumeRollout { rollout: rollout.clone() };
        let render = move |realm: &Realm, _: &Reply| message(realm, &rollout).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn abort_rollout(&self, request: Request<v1::AbortRolloutRequest>) -> Result<Response<v1::Rollout>, Status> {
        let pending = pending("AbortRollout", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, rollout) = self.manager.of_rollout(&request.id)?;
        let command = Command::AbortRollout {
            rollout: rollout.clone(),
            reason: request.reason.clone(),
            choice: convert::rollout::read_abort_choice(&request.choice).map_err(Error::from)?,
        };
        let render = move |realm: &Realm, _: &Reply| message(realm, &rollout).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    type WatchRolloutStream = Watch<v1::Rollout>;

    async fn watch_rollout(
        &self,
        request: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        let (realm, id) = self.manager.of_rollout(&request.get_ref().id)?;
        let stream = follow(&self.manager, &realm, PACE, move |realm| {
            let end = realm.rows.rollouts.get(&id)?.state.is_terminal();
            Some((message(realm, &id)?, end))
        });
        Ok(Response::new(stream))
    }
}

impl Api {
    fn rollout_spec(&self, spec: Option<v1::RolloutSpec>) -> Result<(RealmHandle, RolloutSpec), Error> {
        let spec = spec.ok_or_else(|| BadField::new("spec", "is not set"))?;
        let realm = self.manager.realm(&spec.realm)?;
        let next_build = match spec.next_build.as_str() {
            "" => None,
            version => Some(self.manager.build(version)?.info.clone()),
        };
        let core = RolloutSpec {
            build: self.manager.build(&spec.build)?.info.clone(),
            drain: convert::drain::read_policy(spec.drain)?,
            stable: convert::rollout::stable(spec.stable_ms),
            stage_timeout: (spec.stage_timeout_ms > 0).then(|| Duration::from_millis(spec.stage_timeout_ms)),
            next_build,
            skip_clone: spec.skip_clone,
            reason: spec.reason,
        };
        Ok((realm, core))
    }
}

fn message(realm: &Realm, id: &RolloutId) -> Option<v1::Rollout> {
    realm.rows.rollouts.get(id).map(|rollout| convert::rollout::message(&realm.rows.id, rollout))
}
