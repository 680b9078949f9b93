//! Realms, builds and environments: made once, found again, refused with the field or the id.

use tidegate_proto::v1;
use tonic::Code;

use crate::harness::{Fleet, client, fleet, reason};

#[tokio::test]
async fn what_is_created_is_found_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let realm = manager.realm("eu-1").await;
    assert!(realm.database.ends_with("world.db") && realm.retain_drained == Some(1) && realm.grace_ms == 60_000);
    manager.build("1.9.0").await;
    let request = v1::CreateEnvironmentRequest {
        request_id: "env".into(),
        realm: "eu-1".into(),
        build: "1.9.0".into(),
        fleets: vec![fleet()],
        label: v1::Label::Blue.into(),
    };
    let environment = client!(manager, environment).create_environment(request).await.unwrap().into_inner();
    assert_eq!(environment.phase(), v1::Phase::Provisioning);
    assert_eq!(environment.label(), v1::Label::Blue);
    assert_eq!(environment.fleets.len(), 1);
    manager.stop().await;

    let manager = Fleet::start(dir.path()).await;
    let get = v1::GetEnvironmentRequest { id: environment.id.clone() };
    let again = client!(manager, environment).get_environment(get).await.unwrap().into_inner();
    assert_eq!((again.fleets, again.generation), (environment.fleets, environment.generation));
    let realms = client!(manager, realm).list_realms(v1::ListRealmsRequest::default()).await.unwrap().into_inner();
    assert_eq!(realms.realms, [realm]);
    manager.stop().await;
}

#[tokio::test]
async fn unknown_ids_are_not_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let id = || "ghost".to_owned();
    let mut refused = Vec::new();
    refused.push(client!(manager, realm).get_realm(v1::GetRealmRequest { id: id() }).await.unwrap_err());
    refused.push(client!(manager, build).get_build(v1::GetBuildRequest { version: id() }).await.unwrap_err());
    let get = v1::GetEnvironmentRequest { id: id() };
    refused.push(client!(manager, environment).get_environment(get).await.unwrap_err());
    let get = v1::GetDrainRequest { environment_id: id() };
    refused.push(client!(manager, drain).get_drain(get).await.unwrap_err());
    refused.push(client!(manager, rollout).get_rollout(v1::GetRolloutRequest { id: id() }).await.unwrap_err());
    refused.push(client!(manager, snapshot).get_snapshot(v1::GetSnapshotRequest { id: id() }).await.unwrap_err());
    let get = v1::GetSessionRequest { id: "player:ghost".into() };
    refused.push(client!(manager, session).get_session(get).await.unwrap_err());
    let watch = v1::WatchRolloutRequest { id: id() };
    refused.push(client!(manager, rollout).watch_rollout(watch).await.unwrap_err());
    let flip = v1::FlipRequest { request_id: "f".into(), realm: id(), to: "e".into(), ..Default::default() };
    refused.push(client!(manager, routing).flip(flip).await.unwrap_err());
    for status in refused {
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(status.message().contains("ghost"), "{status:?}");
        assert_eq!(reason(&status), "NOT_FOUND");
    }
    manager.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field_or_reason() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    manager.build("1.9.0").await;
    let good = v1::CreateEnvironmentRequest {
        request_id: "e".into(),
        realm: "eu-1".into(),
        build: "1.9.0".into(),
        fleets: vec![fleet()],
        label: 0,
    };
    let bad = |fleet: v1::Fleet| v1::CreateEnvironmentRequest { fleets: vec![fleet], ..good.clone() };
    for (request, word) in [
        (v1::CreateEnvironmentRequest { request_id: String::new(), ..good.clone() }, "request_id"),
        (bad(v1::Fleet { replicas: 0, ..fleet() }), "fleets.replicas"),
        (bad(v1::Fleet { capacity: 0, ..fleet() }), "fleets.capacity"),
        (bad(v1::Fleet { zones: vec![], ..fleet() }), "fleets.zones"),
        (bad(v1::Fleet { name: String::new(), ..fleet() }), "fleets.name"),
        (v1::CreateEnvironmentRequest { label: 9, ..good.clone() }, "label"),
    ] {
        let status = client!(manager, environment).create_environment(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(word), "{word}: {status:?}");
    }
    let page = v1::PageRequest { page_size: 1001, ..Default::default() };
    let list = v1::ListRealmsRequest { page: Some(page) };
    assert!(client!(manager, realm).list_realms(list).await.unwrap_err().message().contains("page_size"));

    let realm = v1::Realm { id: "eu-1".into(), entry_zone: "harbour".into(), ..Default::default() };
    let again = v1::CreateRealmRequest { request_id: "another".into(), realm: Some(realm) };
    assert_eq!(client!(manager, realm).create_realm(again).await.unwrap_err().code(), Code::AlreadyExists);
    let build = crate::harness::build("1.9.0");
    let again = v1::RegisterBuildRequest { request_id: "another-2".into(), build: Some(build) };
    assert_eq!(client!(manager, build).register_build(again).await.unwrap_err().code(), Code::AlreadyExists);
    manager.stop().await;
}

#[tokio::test]
async fn assets_are_digested_and_missing_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let assets = dir.path().join("bundle");
    std::fs::create_dir(&assets).unwrap();
    std::fs::write(assets.join("map.bin"), b"hills").unwrap();
    let manager = Fleet::start(&dir.path().join("data")).await;
    let register = |id: &str, path: &std::path::Path| v1::RegisterBuildRequest {
        request_id: id.into(),
        build: Some(v1::Build {
            assets_path: path.display().to_string(),
            ..crate::harness::build(&format!("1.0.{}", id.len()))
        }),
    };
    let build = client!(manager, build).register_build(register("a", &assets)).await.unwrap().into_inner();
    assert_eq!(build.assets_digest.len(), 32);
    let missing = register("bb", &dir.path().join("nothing"));
    let status = client!(manager, build).register_build(missing).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("build.assets_path"), "{status:?}");
    manager.stop().await;
}
