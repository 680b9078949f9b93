//! `RoutingService`.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::{Command, Realm, Reply};
use prost::Message as _;
use tidegate_proto::v1::routing_service_server::RoutingService;
use tidegate_proto::{convert::BadField, v1};
use tonic::{Request, Response, Status};

use super::{Api, Watch, decode, follow, pending};
use crate::convert;
use crate::errors::Error;
use crate::realm_actor::RealmHandle;
use crate::requests::{self, Pending};

/// How long past a flip's own limit its caller waits for the verdict, before it is answered "unconfirmed".
const SLACK: Duration = Duration::from_secs(2);

/// Longest a flip may wait for the gateways.
const LONGEST_CONFIRM: Duration = Duration::from_secs(300);

#[tonic::async_trait]
impl RoutingService for Api {
    async fn get_route_table(
        &self,
        request: Request<v1::GetRouteTableRequest>,
    ) -> Result<Response<v1::RouteTable>, Status> {
        let realm = self.manager.realm(&request.get_ref().realm)?.realm();
        Ok(Response::new(convert::routing::table(&realm.table())))
    }

    async fn flip(&self, request: Request<v1::FlipRequest>) -> Result<Response<v1::FlipResponse>, Status> {
        let pending = pending("Flip", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let realm = self.manager.realm(&request.realm)?;
        let confirm = match request.confirm_timeout_ms {
            0 => self.manager.limits().confirm,
            ms => Duration::from_millis(u64::from(ms)),
        };
        if confirm > LONGEST_CONFIRM {
            let why = format!("is longer than {} ms", LONGEST_CONFIRM.as_millis());
            return Err(Error::from(BadField::new("confirm_timeout_ms", why)).into());
        }
        let command = Command::Flip {
            to: tidegate_proto::convert::id("to", &request.to).map_err(Error::from)?,
            if_generation: convert::if_generation(request.if_generation),
            confirm: Some(confirm),
            reason: request.reason.clone(),
        };
        Ok(Response::new(self.flip_command(&realm, pending, &request, command, confirm).await?))
    }

    async fn rollback(&self, request: Request<v1::RollbackRequest>) -> Result<Response<v1::FlipResponse>, Status> {
        let pending = pending("Rollback", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let realm = self.manager.realm(&request.realm)?;
        let command = Command::Rollback {
            to: tidegate_proto::convert::optional_id("to", &request.to).map_err(Error::from)?,
            choice: convert::rollout::read_choice(request.choice, request.deadline_ms).map_err(Error::from)?,
            if_generation: convert::if_generation(request.if_generation),
            reason: request.reason.clone(),
        };
        let confirm = realm.realm().rows.spec.limits.confirm;
        Ok(Response::new(self.flip_command(&realm, pending, &request, command, confirm).await?))
    }

    async fn freeze(&self, request: Request<v1::FreezeRequest>) -> Result<Response<v1::FlipResponse>, Status> {
        let pending = pending("Freeze", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let realm = self.manager.realm(&request.realm)?;
        let command = Command::Freeze { frozen: request.frozen, reason: request.reason.clone() };
        let confirm = self.manager.limits().confirm;
        Ok(Response::new(self.flip_command(&realm, pending, &request, command, confirm).await?))
    }

    type WatchRoutesStream = Watch<v1::RouteTable>;

    async fn watch_routes(
        &self,
        request: Request<v1::WatchRoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let request = request.into_inner();
        let realm = self.manager.realm(&request.realm)?;
        let mut newest: Option<v1::RouteTable> = None;
        // Nothing is sent before there is something newer than what the caller has; an empty table is what it has.
        let stream = follow(&self.manager, &realm, Duration::ZERO, move |realm| {
            let table = realm.table();
            if newest.as_ref().is_none_or(|known| known.generation < table.generation.0) {
                newest = Some(convert::routing::table(&table));
            }
            newest.clone().map(|table| (table, false))
        });
        let after = request.after_generation;
        let newer = futures::StreamExt::filter(stream, move |table| {
            futures::future::ready(table.as_ref().map_or(true, |table| table.generation > after))
        });
        Ok(Response::new(Box::pin(newer)))
    }

    async fn list_gateways(
        &self,
        _: Request<v1::ListGatewaysRequest>,
    ) -> Result<Response<v1::ListGatewaysResponse>, Status> {
        let gateways = self.manager.surroundings().gateways.list();
        Ok(Response::new(v1::ListGatewaysResponse { gateways }))
    }
}

impl Api {
    /// A command that changes the table, and whose answer is complete when the gateways have acknowledged it.
    async fn flip_command<Q: prost::Message>(
        &self,
        realm: &RealmHandle,
        pending: Pending,
        request: &Q,
        command: Command,
        confirm: Duration,
    ) -> Result<v1::FlipResponse, Error> {
        let before = realm.realm().rows.routing.accepting.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = pending.id.clone();
        let first = async |pending: Pending| {
            let render =
                Box::new(move |realm: &Realm, reply: &Reply| (begun(realm, reply, before).encode_to_vec(), false));
            let answer = realm.command(command, pending, render).await?;
            self.confirmed(realm, &id, decode(&answer.body)?, confirm).await
        };
        let again = async |begun| self.confirmed(realm, &id, begun, confirm).await;
        requests::once(&self.manager.surroundings().store, pending, request, first, again).await
    }

    /// Waits for the gateways' word on a table, and completes the request's record.
    async fn confirmed(
        &self,
        realm: &RealmHandle,
        request: &tidegate_types::RequestId,
        begun: v1::FlipResponse,
        confirm: Duration,
    ) -> Result<v1::FlipResponse, Error> {
        let generation = begun.generation;
        let own = |realm: &Realm| realm.rows.routing.flip.clone().filter(|flip| flip.generation.0 == generation);
        let is_flip = own(&realm.realm()).is_some();
        let answer = if is_flip {
            let mut watched = realm.watch();
            let verdict = |realm: &Arc<Realm>| own(realm).is_none_or(|flip| convert::routing::flip(&flip).is_some());
            let waited = tokio::time::timeout(confirm + SLACK, watched.wait_for(verdict)).await;
            let verdict = match waited {
                Ok(Ok(realm)) => own(&realm).and_then(|flip| convert::routing::flip(&flip)),
                Ok(Err(_)) => return Err(Error::Stopping),
                Err(_) => None,
            };
            match verdict {
                Some(answer) => answer,
                // Another flip has taken its place, or the verdict is late: what is missing now is the answer.
                None => self.missing(realm, begun),
            }
        } else {
            self.acknowledged(realm, begun, confirm).await
        };
        requests::finish(&self.manager.surroundings().store, request, &answer).await?;
        Ok(answer)
    }

    /// For a table that is no flip (a freeze): waits for the acknowledgements themselves.
    async fn acknowledged(&self, realm: &RealmHandle, begun: v1::FlipResponse, confirm: Duration) -> v1::FlipResponse {
        let gateways = &self.manager.surroundings().gateways;
        let started = std::time::Instant::now();
        let mut changed = gateways.changed();
        let all = async {
            while !gateways.missing(realm.id(), begun.generation).is_empty() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // Either way, what is missing then is the answer.
        let _ = tokio::time::timeout(confirm, all).await;
        let answer = self.missing(realm, begun);
        let confirm_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        v1::FlipResponse { confirm_us: if answer.confirmed { confirm_us } else { 0 }, ..answer }
    }

    fn missing(&self, realm: &RealmHandle, begun: v1::FlipResponse) -> v1::FlipResponse {
        let missing = self.manager.surroundings().gateways.missing(realm.id(), begun.generation);
        let confirmed = missing.is_empty();
        v1::FlipResponse {
            confirmed,
            confirmed_at_ms: if confirmed { super::now().0 } else { 0 },
            unconfirmed_gateways: missing.iter().map(ToString::to_string).collect(),
            ..begun
        }
    }
}

fn begun(realm: &Realm, reply: &Reply, from: String) -> v1::FlipResponse {
    let routing = &realm.rows.routing;
    let generation = match reply {
        Reply::Flip(generation) => generation.0,
        Reply::Done | Reply::Environment(_) | Reply::Drain(_) | Reply::Rollout(_) | Reply::Snapshot(_) => {
            routing.generation.0
        }
    };
    let to = routing.accepting.as_ref().filter(|_| routing.frozen.is_none());
    v1::FlipResponse {
        generation,
        from,
        to: to.map(ToString::to_string).unwrap_or_default(),
        ..v1::FlipResponse::default()
    }
}
