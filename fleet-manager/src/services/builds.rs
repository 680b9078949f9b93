//! `BuildService`.

use std::path::PathBuf;

use prost::Message as _;
use tidegate_proto::v1::build_service_server::BuildService;
use tidegate_proto::{convert::BadField, v1};
use tonic::{Request, Response, Status};

use super::{Api, now, page, pending};
use crate::effects::chain;
use crate::errors::{Error, Kind, Refusal};
use crate::requests::{self, Pending};
use crate::store::{AuditRow, Commit, rows};
use crate::{assets, convert};

#[tonic::async_trait]
impl BuildService for Api {
    async fn register_build(&self, request: Request<v1::RegisterBuildRequest>) -> Result<Response<v1::Build>, Status> {
        let pending = pending("RegisterBuild", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let store = &self.manager.surroundings().store;
        let first = async |pending| self.register(pending, request.build.clone()).await;
        Ok(Response::new(requests::once(store, pending, &request, first, async |build| Ok(build)).await?))
    }

    async fn get_build(&self, request: Request<v1::GetBuildRequest>) -> Result<Response<v1::Build>, Status> {
        let build = self.manager.build(&request.get_ref().version)?;
        Ok(Response::new(convert::build::message(&build)))
    }

    async fn list_builds(
        &self,
        request: Request<v1::ListBuildsRequest>,
    ) -> Result<Response<v1::ListBuildsResponse>, Status> {
        let builds = self.manager.surroundings().builds.list();
        let builds = builds.iter().map(|build| convert::build::message(build)).collect();
        let (builds, next_page_token) = page(request.get_ref().page.as_ref(), builds, |b| &b.version)?;
        Ok(Response::new(v1::ListBuildsResponse { builds, next_page_token }))
    }
}

impl Api {
    async fn register(&self, pending: Pending, build: Option<v1::Build>) -> Result<v1::Build, Error> {
        let build = build.ok_or_else(|| BadField::new("build", "is not set"))?;
        let now = now();
        let mut build = convert::build::build(build, now)?;
        let surroundings = self.manager.surroundings();
        let version = build.info.version.clone();
        if surroundings.builds.get(&version).is_some() {
            let refusal = Refusal {
                reason: "ALREADY_EXISTS".to_owned(),
                message: format!("build {version} is registered, and a build never changes"),
                what_to_do: "register what has changed under a new version".to_owned(),
                kind: Kind::AlreadyExists,
            };
            let request = Some(pending.refused(&refusal, now));
            surroundings.store.commit(Commit { request, ..Commit::default() }).await?;
            return Err(refusal.into());
        }
        if !build.assets_path.is_empty() {
            let (data_dir, source) = (surroundings.data_dir.clone(), PathBuf::from(&build.assets_path));
            let ingested = tokio::task::spawn_blocking(move || assets::ingest(&data_dir, &source)).await;
            let ingested = ingested.map_err(|e| Error::Failed { what: "copying the assets", why: e.to_string() })?;
            let ingested = ingested.map_err(|e| BadField::new("build.assets_path", chain(&e)))?;
            build.info.assets_digest = Some(ingested.digest);
        }
        let answer = convert::build::message(&build);
        let audit = AuditRow {
            at_ms: now.0,
            who: pending.who.clone(),
            what: "build".to_owned(),
            subject: version.to_string(),
            after: "registered".to_owned(),
            request_id: pending.id.to_string(),
            ..AuditRow::default()
        };
        let commit = Commit {
            rows: vec![rows::build_row(&build)],
            audit: vec![audit],
            request: Some(pending.answered(answer.encode_to_vec(), true, now)),
            prune: None,
        };
        surroundings.store.commit(commit).await?;
        surroundings.builds.insert(build);
        Ok(answer)
    }
}
