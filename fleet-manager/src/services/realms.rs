//! `RealmService`.

use prost::Message as _;
use tidegate_proto::v1::realm_service_server::RealmService;
use tidegate_proto::{convert::BadField, v1};
use tonic::{Request, Response, Status};

use super::{Api, now, page, pending};
use crate::convert;
use crate::errors::{Error, Kind, Refusal};
use crate::requests::{self, Pending};
use crate::store::{AuditRow, Commit, rows};

#[tonic::async_trait]
impl RealmService for Api {
    async fn create_realm(&self, request: Request<v1::CreateRealmRequest>) -> Result<Response<v1::Realm>, Status> {
        let pending = pending("CreateRealm", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let store = &self.manager.surroundings().store;
        let first = async |pending| self.create(pending, request.realm.clone()).await;
        Ok(Response::new(requests::once(store, pending, &request, first, async |realm| Ok(realm)).await?))
    }

    async fn get_realm(&self, request: Request<v1::GetRealmRequest>) -> Result<Response<v1::Realm>, Status> {
        let realm = self.manager.realm(&request.get_ref().id)?.realm();
        Ok(Response::new(convert::realm::message(&realm.rows)))
    }

    async fn list_realms(
        &self,
        request: Request<v1::ListRealmsRequest>,
    ) -> Result<Response<v1::ListRealmsResponse>, Status> {
        let realms = self.manager.list().iter().map(|r| convert::realm::message(&r.realm().rows)).collect();
        let (realms, next_page_token) = page(request.get_ref().page.as_ref(), realms, |r| &r.id)?;
        Ok(Response::new(v1::ListRealmsResponse { realms, next_page_token }))
    }
}

impl Api {
    async fn create(&self, pending: Pending, realm: Option<v1::Realm>) -> Result<v1::Realm, Error> {
        let realm = realm.ok_or_else(|| BadField::new("realm", "is not set"))?;
        let now = now();
        let folder = self.manager.surroundings().data_dir.join("realms");
        let database = |id: &tidegate_types::RealmId| folder.join(id.as_str()).join("world.db").display().to_string();
        let (id, mut spec) = convert::realm::spec(realm, now, database)?;
        // World servers run in a folder of their own: a relative path would mean another file to each of them.
        let database = self.manager.surroundings().data_dir.join(&spec.database);
        spec.database = database.display().to_string();
        let store = &self.manager.surroundings().store;
        if self.manager.realm(id.as_str()).is_ok() {
            let refusal = Refusal {
                reason: "ALREADY_EXISTS".to_owned(),
                message: format!("realm {id} exists"),
                what_to_do: "choose another id, or use the realm that is there".to_owned(),
                kind: Kind::AlreadyExists,
            };
            let request = Some(pending.refused(&refusal, now));
            store.commit(Commit { request, ..Commit::default() }).await?;
            return Err(refusal.into());
        }
        if let Some(parent) = std::path::Path::new(&spec.database).parent() {
            std::fs::create_dir_all(parent)
                .map_err(|e| BadField::new("realm.database", format!("{}: {e}", parent.display())))?;
        }
        let rows = fleet_core::realm::Rows::new(id.clone(), spec.clone());
        let answer = convert::realm::message(&rows);
        let audit = AuditRow {
            at_ms: now.0,
            who: pending.who.clone(),
            what: "realm".to_owned(),
            realm: id.to_string(),
            subject: id.to_string(),
            after: "created".to_owned(),
            request_id: pending.id.to_string(),
            ..AuditRow::default()
        };
        let commit = Commit {
            rows: vec![rows::realm_row(&id, &spec)],
            audit: vec![audit],
            request: Some(pending.answered(answer.encode_to_vec(), true, now)),
            prune: None,
        };
        store.commit(commit).await?;
        self.manager.create(id, spec);
        Ok(answer)
    }
}
