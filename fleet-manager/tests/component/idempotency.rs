//! A retried request has one effect and the same answer, also after a restart; another request under its id is refused.

use tidegate_proto::v1;
use tonic::Code;

use crate::harness::{Fleet, client, fleet, reason};

fn create(request_id: &str) -> v1::CreateEnvironmentRequest {
    v1::CreateEnvironmentRequest {
        request_id: request_id.into(),
        realm: "eu-1".into(),
        build: "1.9.0".into(),
        // More than one variable: their order must not make a retry look like another request.
        fleets: vec![v1::Fleet { environment: (0..20).map(|n| (format!("V{n}"), n.to_string())).collect(), ..fleet() }],
        label: 0,
    }
}

#[tokio::test]
async fn a_retry_gets_the_same_answer_and_has_no_second_effect() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    manager.build("1.9.0").await;
    let mut client = client!(manager, environment);
    let first = client.create_environment(create("same")).await.unwrap().into_inner();
    let second = client.create_environment(create("same")).await.unwrap().into_inner();
    assert_eq!(first, second);
    manager.stop().await;

    let manager = Fleet::start(dir.path()).await;
    let mut client = client!(manager, environment);
    let third = client.create_environment(create("same")).await.unwrap().into_inner();
    assert_eq!(first, third);
    let all = client.list_environments(v1::ListEnvironmentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.environments.len(), 1);
    let audit = client!(manager, audit).list_audit(v1::ListAuditRequest::default()).await.unwrap().into_inner();
    assert_eq!(audit.records.iter().filter(|r| r.request_id == "same").count(), 1, "{:?}", audit.records);
    manager.stop().await;
}

#[tokio::test]
async fn the_same_request_many_times_at_once_has_one_effect() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    manager.build("1.9.0").await;
    let calls = (0..16).map(|_| {
        let mut client = client!(manager, environment);
        async move { client.create_environment(create("same")).await.unwrap().into_inner().id }
    });
    let ids: std::collections::BTreeSet<String> = futures::future::join_all(calls).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let list = v1::ListEnvironmentsRequest::default();
    let all = client!(manager, environment).list_environments(list).await.unwrap().into_inner();
    assert_eq!(all.environments.len(), 1);
    manager.stop().await;
}

#[tokio::test]
async fn another_request_under_the_same_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    manager.build("1.9.0").await;
    let mut client = client!(manager, environment);
    client.create_environment(create("same")).await.unwrap();
    let other = v1::CreateEnvironmentRequest { label: v1::Label::Green.into(), ..create("same") };
    let status = client.create_environment(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    let stage = v1::StageEnvironmentRequest { request_id: "realm-eu-1".into(), ..Default::default() };
    let all = client.list_environments(v1::ListEnvironmentsRequest::default()).await.unwrap().into_inner();
    let stage = v1::StageEnvironmentRequest { id: all.environments[0].id.clone(), ..stage };
    assert_eq!(reason(&client.stage_environment(stage).await.unwrap_err()), "REQUEST_ID_REUSED");
    manager.stop().await;
}

#[tokio::test]
async fn a_refusal_is_repeated_although_it_would_now_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    manager.build("1.9.0").await;
    let mut client = client!(manager, environment);
    // No fleets, and no blue to take them from.
    let bare = v1::CreateEnvironmentRequest { fleets: vec![], ..create("bare") };
    let refused = client.create_environment(bare.clone()).await.unwrap_err();
    let blue = v1::CreateEnvironmentRequest { label: v1::Label::Blue.into(), ..create("blue") };
    client.create_environment(blue).await.unwrap();
    let again = client.create_environment(bare.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (again.code(), again.message()));
    client.create_environment(v1::CreateEnvironmentRequest { request_id: "new".into(), ..bare }).await.unwrap();
    manager.stop().await;
}
