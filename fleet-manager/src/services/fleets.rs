//! `FleetService`.

use fleet_core::{Command, Realm, Reply};
use tidegate_proto::v1::fleet_service_server::FleetService;
use tidegate_proto::{convert::BadField, v1};
use tonic::{Request, Response, Status};

use super::{Api, pending};
use crate::convert;
use crate::errors::Error;
use crate::manager::environment;

#[tonic::async_trait]
impl FleetService for Api {
    async fn list_fleets(
        &self,
        request: Request<v1::ListFleetsRequest>,
    ) -> Result<Response<v1::ListFleetsResponse>, Status> {
        let (realm, id) = self.manager.of_environment(&request.get_ref().environment_id)?;
        let (realm, view) = (realm.realm(), self.view());
        let fleets = &environment(&realm, &id)?.fleets;
        let fleets = fleets.iter().map(|fleet| convert::environment::fleet(&id, fleet, &view)).collect();
        Ok(Response::new(v1::ListFleetsResponse { fleets }))
    }

    async fn scale_fleet(&self, request: Request<v1::ScaleFleetRequest>) -> Result<Response<v1::Fleet>, Status> {
        let pending = pending("ScaleFleet", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let (realm, id) = self.manager.of_environment(&request.environment_id)?;
        if request.replicas == 0 || request.replicas > 1000 {
            let why = format!("is {}, must be 1 to 1000", request.replicas);
            return Err(Error::from(BadField::new("replicas", why)).into());
        }
        let name = tidegate_proto::convert::id("fleet", &request.fleet).map_err(Error::from)?;
        let command = Command::Scale {
            environment: id.clone(),
            fleet: name,
            replicas: request.replicas,
            if_generation: convert::if_generation(request.if_generation),
        };
        let (view, wanted) = (self.view(), request.fleet.clone());
        let render = move |realm: &Realm, _: &Reply| {
            let fleets = realm.rows.environments.get(&id).map(|e| e.fleets.as_slice()).unwrap_or_default();
            let fleet = fleets.iter().find(|f| f.name.as_str() == wanted);
            fleet.map(|f| convert::environment::fleet(&id, f, &view)).unwrap_or_default()
        };
        Ok(Response::new(self.command(&realm, pending, &request, command, render).await?))
    }

    async fn list_servers(
        &self,
        request: Request<v1::ListServersRequest>,
    ) -> Result<Response<v1::ListServersResponse>, Status> {
        let (_, id) = self.manager.of_environment(&request.get_ref().environment_id)?;
        let view = self.view();
        let servers = view.servers.values().filter(|server| server.environment == id);
        let servers = servers.map(convert::environment::server).collect();
        Ok(Response::new(v1::ListServersResponse { servers }))
    }
}
