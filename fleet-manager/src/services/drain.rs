//! `DrainService`.

use std::time::Duration;

use fleet_core::{Command, Realm, Reply};
use tidegate_proto::v1;
use tidegate_proto::v1::drain_service_server::DrainService;
use tidegate_types::EnvironmentId;
use tonic::{Request, Response, Status};

use super::{Api, Watch, follow, now, page, pending};
use crate::convert;
use crate::errors::Error;

/// How often a watched drain is sent, at most.
const PACE: Duration = Duration::from_millis(500);

#[tonic::async_trait]
impl DrainService for Api {
    async fn start_drain(&self, request: Request<v1::StartDrainRequest>) -> Result<Response<v1::Drain>, Status> {
        let pending = pending("StartDrain", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.environment_id)?;
        let policy = convert::drain::read_policy(request.policy.clone()).map_err(Error::from)?;
        let command = Command::StartDrain { environment: environment.clone(), policy };
        let render = move |realm: &Realm, _: &Reply| message(realm, &environment).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn get_drain(&self, request: Request<v1::GetDrainRequest>) -> Result<Response<v1::Drain>, Status> {
        let (realm, id) = self.manager.of_environment(&request.get_ref().environment_id)?;
        let drain = message(&realm.realm(), &id).ok_or_else(|| Error::not_found("drain", &id))?;
        Ok(Response::new(drain))
    }

    async fn list_drains(
        &self,
        request: Request<v1::ListDrainsRequest>,
    ) -> Result<Response<v1::ListDrainsResponse>, Status> {
        let mut drains = Vec::new();
        for realm in self.manager.realm_or_all(&request.get_ref().realm)? {
            let realm = realm.realm();
            drains.extend(realm.rows.drains.keys().filter_map(|id| message(&realm, id)));
        }
        Ok(Response::new(v1::ListDrainsResponse { drains }))
    }

    type WatchDrainStream = Watch<v1::Drain>;

    async fn watch_drain(
        &self,
        request: Request<v1::WatchDrainRequest>,
    ) -> Result<Response<Self::WatchDrainStream>, Status> {
        let (realm, id) = self.manager.of_environment(&request.get_ref().environment_id)?;
        message(&realm.realm(), &id).ok_or_else(|| Error::not_found("drain", &id))?;
        let stream = follow(&self.manager, &realm, PACE, move |realm| {
            let live = realm.rows.drains.get(&id)?.state.is_live();
            Some((message(realm, &id)?, !live))
        });
        Ok(Response::new(stream))
    }

    async fn explain_drain(
        &self,
        request: Request<v1::ExplainDrainRequest>,
    ) -> Result<Response<v1::ExplainDrainResponse>, Status> {
        let request = request.into_inner();
        let (realm, id) = self.manager.of_environment(&request.environment_id)?;
        let explained = realm.realm().explain_drain(&id, now()).ok_or_else(|| Error::not_found("drain", &id))?;
        let holders = explained.holders.iter().map(convert::drain::holder).collect();
        let (holders, next_page_token) = page(request.page.as_ref(), holders, |h| &h.session_id)?;
        let waiting_for = explained.waiting_for;
        Ok(Response::new(v1::ExplainDrainResponse { holders, waiting_for, next_page_token }))
    }

    async fn force_drain(&self, request: Request<v1::ForceDrainRequest>) -> Result<Response<v1::Drain>, Status> {
        let pending = pending("ForceDrain", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, environment) = self.manager.of_environment(&request.environment_id)?;
        let command = Command::ForceDrain {
            environment: environment.clone(),
            deadline: Duration::from_millis(request.deadline_ms),
            ignore_extensions: request.ignore_extensions,
        };
        let render = move |realm: &Realm, _: &Reply| message(realm, &environment).unwrap_or_default();
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }
}

fn message(realm: &Realm, id: &EnvironmentId) -> Option<v1::Drain> {
    realm.drain_view(id, now()).map(|view| convert::drain::message(&realm.rows.id, &view))
}
