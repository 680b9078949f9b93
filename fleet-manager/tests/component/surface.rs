//! What stands around the services: audit, health, reflection, gRPC-Web, metrics.

use tidegate_proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Request;

use crate::harness::{Fleet, PATIENCE, client};

#[tokio::test]
async fn every_change_is_audited_with_its_author() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let watch = v1::WatchAuditRequest::default();
    let mut watched = client!(manager, audit).watch_audit(watch).await.unwrap().into_inner();
    let realm = v1::Realm { id: "eu-1".into(), entry_zone: "harbour".into(), ..Default::default() };
    let mut request = Request::new(v1::CreateRealmRequest { request_id: "r-1".into(), realm: Some(realm) });
    request.metadata_mut().insert("tidegate-actor", "mara".parse().unwrap());
    client!(manager, realm).create_realm(request).await.unwrap();
    let record = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((record.who.as_str(), record.subject.as_str(), record.request_id.as_str()), ("mara", "eu-1", "r-1"));
    manager.build("1.0.0").await;
    manager.build("1.0.1").await;
    let page = Some(v1::PageRequest { page_size: 2, ..Default::default() });
    let list = v1::ListAuditRequest { page, ..Default::default() };
    let first = client!(manager, audit).list_audit(list).await.unwrap().into_inner();
    assert_eq!(first.records.iter().map(|r| r.sequence).collect::<Vec<_>>(), [3, 2]);
    let page = Some(v1::PageRequest { page_size: 2, page_token: first.next_page_token });
    let list = v1::ListAuditRequest { page, ..Default::default() };
    let rest = client!(manager, audit).list_audit(list).await.unwrap().into_inner();
    assert_eq!((rest.records.len(), rest.next_page_token.as_str()), (1, ""));
    manager.stop().await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    for service in ["", "tidegate.v1.RoutingService"] {
        let check = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(manager.channel.clone()).check(check).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(manager.channel.clone())
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    assert!(list.service.iter().any(|s| s.name == "tidegate.v1.RolloutService"), "{list:?}");
    manager.stop().await;
}

#[tokio::test]
async fn a_browser_can_call_it_over_http_1() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    // An empty message in the framing of gRPC: no compression, length 0.
    let mut request = b"POST /tidegate.v1.RealmService/ListRealms HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
        content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\ncontent-length: 5\r\n\r\n"
        .to_vec();
    request.extend([0; 5]);
    let answer = exchange(manager.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("eu-1") && answer.contains("grpc-status:0"), "{answer}");
    manager.stop().await;
}

/// The answer of `/metrics`, head and all.
pub(crate) async fn metrics(address: std::net::SocketAddr) -> String {
    exchange(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await
}

#[tokio::test]
async fn metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    manager.realm("eu-1").await;
    let answer = metrics(manager.metrics).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("tidegate_realms 1"), "{answer}");
    assert!(answer.contains("tidegate_route_generation{realm=\"eu-1\"} 0"), "{answer}");
    for quiet in ["tidegate_accepting_mismatches", "tidegate_gateways_behind", "tidegate_rollouts_paused"] {
        assert!(answer.contains(&format!("{quiet}{{realm=\"eu-1\"}} 0")), "{answer}");
    }
    manager.stop().await;
}

async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
