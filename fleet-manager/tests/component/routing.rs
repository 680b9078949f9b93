//! Flips: pushed, acknowledged, confirmed or named as unconfirmed, refused by name, and the same after a restart.

use tidegate_proto::v1;
use tonic::Code;

use crate::harness::{FakeGateway, Fleet, client, eventually, reason, seed};

fn flip(id: &str, to: &str) -> v1::FlipRequest {
    v1::FlipRequest { request_id: id.into(), realm: "eu-1".into(), to: to.into(), ..v1::FlipRequest::default() }
}

#[tokio::test]
async fn a_flip_is_confirmed_by_every_gateway_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    let acknowledging = gateway.keep_acknowledging();
    let mut client = client!(manager, routing);
    let answer = client.flip(flip("f1", "blue")).await.unwrap().into_inner();
    assert!(answer.confirmed && answer.confirm_us > 0 && answer.confirmed_at_ms > 0, "{answer:?}");
    assert_eq!((answer.from.as_str(), answer.to.as_str()), ("", "blue"));
    let second = client.flip(flip("f2", "green")).await.unwrap().into_inner();
    assert_eq!((second.from.as_str(), second.to.as_str()), ("blue", "green"));
    assert!(second.generation > answer.generation);
    assert_eq!(client.flip(flip("f1", "blue")).await.unwrap().into_inner(), answer, "a retry gets its own answer");
    acknowledging.abort();
    manager.stop().await;

    let manager = Fleet::start(dir.path()).await;
    let mut client = client!(manager, routing);
    let table = client.get_route_table(v1::GetRouteTableRequest { realm: "eu-1".into() }).await.unwrap().into_inner();
    assert_eq!(table.accepting, "green");
    assert!(table.generation >= second.generation);
    // The gateway is not back yet: it is remembered, and named.
    let back = v1::RollbackRequest {
        request_id: "back".into(),
        realm: "eu-1".into(),
        choice: v1::RollbackChoice::NextBoundary.into(),
        ..v1::RollbackRequest::default()
    };
    let mut gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    assert_eq!(gateway.table(1).await.accepting, "green", "a gateway that connects gets the table at once");
    let acknowledging = gateway.keep_acknowledging();
    let answer = client.rollback(back).await.unwrap().into_inner();
    assert!(answer.confirmed && answer.to == "blue", "{answer:?}");
    acknowledging.abort();
    manager.stop().await;
}

#[tokio::test]
async fn a_gateway_that_does_not_acknowledge_is_named() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    let request = v1::FlipRequest { confirm_timeout_ms: 100, ..flip("f", "blue") };
    let answer = client!(manager, routing).flip(request).await.unwrap().into_inner();
    assert!(!answer.confirmed && answer.confirm_us == 0);
    assert_eq!(answer.unconfirmed_gateways, ["gw-1"]);
    // The flip stands: the gateway has the table, and its late word is taken.
    let table = gateway.table(answer.generation).await;
    assert_eq!(table.accepting, "blue");
    gateway.acknowledge(&table).await;
    eventually("the late acknowledgement", async || {
        let gateways = client!(manager, routing).list_gateways(v1::ListGatewaysRequest {}).await.unwrap().into_inner();
        (gateways.gateways[0].tables.first()?.generation >= answer.generation).then_some(())
    })
    .await;
    manager.stop().await;
}

#[tokio::test]
async fn a_gateway_that_was_there_before_the_restart_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue"]).await;
    let manager = Fleet::start(dir.path()).await;
    let gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    drop(gateway);
    manager.stop().await;
    let manager = Fleet::start(dir.path()).await;
    let answer = client!(manager, routing).flip(flip("f", "blue")).await.unwrap().into_inner();
    assert_eq!(answer.unconfirmed_gateways, ["gw-1"]);
    manager.stop().await;
}

#[tokio::test]
async fn flips_that_cannot_be_are_refused_by_name_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut client = client!(manager, routing);
    let generation = client.flip(flip("f", "blue")).await.unwrap().into_inner().generation;
    let expect = [
        (flip("a", "blue"), Code::FailedPrecondition, "ALREADY_ACCEPTING"),
        (flip("b", "ghost"), Code::NotFound, "NOT_FOUND"),
        (v1::FlipRequest { if_generation: 99, ..flip("c", "green") }, Code::Aborted, "GENERATION_MISMATCH"),
        (v1::FlipRequest { confirm_timeout_ms: u32::MAX, ..flip("d", "green") }, Code::InvalidArgument, "INVALID"),
        (flip("e", "not an id"), Code::InvalidArgument, "INVALID"),
    ];
    for (request, code, word) in expect {
        let status = client.flip(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, word), "{status:?}");
    }
    let table = client.get_route_table(v1::GetRouteTableRequest { realm: "eu-1".into() }).await.unwrap().into_inner();
    assert_eq!((table.generation, table.accepting.as_str()), (generation, "blue"));
    let wrong = v1::RollbackRequest { request_id: "r".into(), realm: "eu-1".into(), ..Default::default() };
    assert_eq!(client.rollback(wrong).await.unwrap_err().code(), Code::InvalidArgument, "a choice must be made");
    manager.stop().await;
}

#[tokio::test]
async fn a_freeze_holds_new_sessions_and_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut client = client!(manager, routing);
    client.flip(flip("f", "blue")).await.unwrap();
    let gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    let acknowledging = gateway.keep_acknowledging();
    let freeze = |id: &str, frozen| v1::FreezeRequest {
        request_id: id.into(),
        realm: "eu-1".into(),
        frozen,
        reason: "maintenance".into(),
    };
    let frozen = client.freeze(freeze("on", true)).await.unwrap().into_inner();
    assert!(frozen.confirmed && frozen.to.is_empty(), "{frozen:?}");
    let table = client.get_route_table(v1::GetRouteTableRequest { realm: "eu-1".into() }).await.unwrap().into_inner();
    assert_eq!(table.accepting, "");
    let open = client.freeze(freeze("off", false)).await.unwrap().into_inner();
    assert!(open.confirmed && open.to == "blue", "{open:?}");
    acknowledging.abort();
    manager.stop().await;
}

#[tokio::test]
async fn routes_can_be_watched_from_a_generation() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut client = client!(manager, routing);
    let first = client.flip(flip("a", "blue")).await.unwrap().into_inner().generation;
    let watch = v1::WatchRoutesRequest { realm: "eu-1".into(), after_generation: first };
    let mut tables = client.watch_routes(watch).await.unwrap().into_inner();
    client.flip(flip("b", "green")).await.unwrap();
    let next = tokio::time::timeout(crate::harness::PATIENCE, tables.message()).await.unwrap().unwrap().unwrap();
    assert!(next.generation > first && next.accepting == "green", "{next:?}");
    manager.stop().await;
}
