//! Gateways and their sessions: what they report is seen, what is unknown is said, commands reach them and come back.

use tidegate_proto::v1;
use tidegate_proto::v1::gateway_report::Message;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{FakeGateway, Fleet, PATIENCE, client, config, eventually, reason, seed, session};

const CACHE: &str = "redis://cache:6379/0";

async fn sessions(manager: &Fleet) -> v1::ListSessionsResponse {
    client!(manager, session).list_sessions(v1::ListSessionsRequest::default()).await.unwrap().into_inner()
}

async fn until_sessions(manager: &Fleet, count: u32) -> v1::ListSessionsResponse {
    eventually(&format!("{count} known sessions"), async || {
        let list = sessions(manager).await;
        (list.total == count && list.unknown_gateways.is_empty()).then_some(list)
    })
    .await
}

#[tokio::test]
async fn sessions_are_listed_found_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    eventually("the gateway to be unknown", async || {
        (!sessions(&manager).await.unknown_gateways.is_empty()).then_some(())
    })
    .await;
    gateway.list(&[session(1, "blue"), session(2, "blue"), session(3, "green")]).await;
    let all = until_sessions(&manager, 3).await;
    assert!(all.sessions.iter().all(|row| row.gateway_id == gateway.id));

    let mut client = client!(manager, session);
    let page = v1::PageRequest { page_size: 1, ..Default::default() };
    let filter = v1::SessionFilter { environment_id: "blue".into(), ..Default::default() };
    let list = v1::ListSessionsRequest { page: Some(page), filter: Some(filter.clone()) };
    let first = client.list_sessions(list).await.unwrap().into_inner();
    assert_eq!((first.sessions.len(), first.total), (1, 2));
    let page = v1::PageRequest { page_size: 5, page_token: first.next_page_token };
    let list = v1::ListSessionsRequest { page: Some(page), filter: Some(filter) };
    let rest = client.list_sessions(list).await.unwrap().into_inner();
    assert_eq!(rest.sessions.len(), 1);
    assert_ne!(rest.sessions[0].player, first.sessions[0].player);

    let get = v1::GetSessionRequest { id: "player:player-3".into() };
    assert_eq!(client.get_session(get).await.unwrap().into_inner().environment_id, "green");
    let explain = v1::ExplainSessionRequest { id: "player:player-3".into() };
    assert!(!client.explain_session(explain).await.unwrap().into_inner().lines.is_empty());

    let gone = v1::SessionGone { session_id: vec![3; 16], reason: "logout".into(), ..Default::default() };
    gateway.say(Message::SessionGone(gone)).await;
    until_sessions(&manager, 2).await;
    // The environment says how many it has.
    let get = v1::GetEnvironmentRequest { id: "blue".into() };
    eventually("the environment's count", async || {
        let environment = client!(manager, environment).get_environment(get.clone()).await.unwrap().into_inner();
        (environment.sessions == 2 && environment.sessions_known).then_some(())
    })
    .await;
    drop(gateway);
    eventually("the gateway to be unknown again", async || {
        let list = sessions(&manager).await;
        (list.total == 2 && list.unknown_gateways == ["gw-1"]).then_some(())
    })
    .await;
    manager.stop().await;
}

#[tokio::test]
async fn sessions_are_watched_with_a_snapshot_first() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    gateway.list(&[session(1, "blue")]).await;
    until_sessions(&manager, 1).await;
    let filter = v1::SessionFilter { environment_id: "blue".into(), ..Default::default() };
    let watch = v1::WatchSessionsRequest { filter: Some(filter) };
    let mut events = client!(manager, session).watch_sessions(watch).await.unwrap().into_inner();
    let mut next = async || tokio::time::timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
    let first = next().await;
    assert!(first.snapshot && first.sessions.len() == 1);
    gateway.say(Message::Session(session(2, "blue"))).await;
    assert_eq!(next().await.sessions[0].player, "player-2");
    // It moves on: for this watch it is gone.
    gateway.say(Message::Session(session(1, "green"))).await;
    assert_eq!(next().await.gone.len(), 1);
    manager.stop().await;
}

#[tokio::test]
async fn a_command_reaches_the_gateway_and_its_result_the_caller_once() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    gateway.list(&[session(1, "blue")]).await;
    until_sessions(&manager, 1).await;
    let kick = v1::KickSessionRequest { request_id: "k".into(), id: "player:player-1".into(), reason: "bye".into() };
    let call = tokio::spawn({
        let (mut client, kick) = (client!(manager, session), kick.clone());
        async move { client.kick_session(kick).await.unwrap().into_inner() }
    });
    let command = gateway.command().await;
    assert_eq!((command.command_id.as_str(), command.session_ids.len()), ("k", 1));
    assert!(matches!(command.action, Some(v1::session_command::Action::Kick(_))));
    let result = v1::CommandResult {
        command_id: command.command_id,
        session_id: vec![1; 16],
        outcome: "done".into(),
        message: String::new(),
    };
    gateway.say(Message::CommandResult(result)).await;
    let answer = call.await.unwrap();
    assert_eq!(answer.outcome, "done");
    assert_eq!(client!(manager, session).kick_session(kick.clone()).await.unwrap().into_inner(), answer);

    let elsewhere = v1::MoveSessionRequest {
        request_id: "m".into(),
        id: "player:player-1".into(),
        environment_id: "blue".into(),
        ..Default::default()
    };
    let status = client!(manager, session).move_session(elsewhere).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_ACTIVE", "nothing takes new sessions yet: {status:?}");

    // The session is over by now: the answer is the same all the same.
    let gone = v1::SessionGone { session_id: vec![1; 16], reason: "kicked".into(), ..Default::default() };
    gateway.say(Message::SessionGone(gone)).await;
    until_sessions(&manager, 0).await;
    assert_eq!(client!(manager, session).kick_session(kick).await.unwrap().into_inner(), answer);
    manager.stop().await;
}

#[tokio::test]
async fn a_second_gateway_with_its_own_directory_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let first = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    let status = FakeGateway::connect(&manager, "gw-2").await.err().expect("is refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "SECOND_EMBEDDED_GATEWAY"));
    assert!(status.message().contains("gw-1"), "{status:?}");
    let advice = status.get_details_error_info().unwrap().metadata["what_to_do"].clone();
    assert!(advice.contains("directory = \"redis://"), "{advice}");
    let status = FakeGateway::connect_to(&manager, "gw-2", CACHE).await.err().expect("is refused");
    assert_eq!(reason(&status), "SECOND_EMBEDDED_GATEWAY");
    drop(first);
    FakeGateway::connect(&manager, "gw-1").await.unwrap();
    manager.stop().await;
}

#[tokio::test]
async fn a_gateway_that_talks_nonsense_loses_its_stream_and_nobody_elses_state() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let mut gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    gateway.list(&[session(1, "blue")]).await;
    until_sessions(&manager, 1).await;
    let bad = v1::SessionRow { session_id: vec![1, 2, 3], ..session(2, "blue") };
    gateway.say(Message::Session(bad)).await;
    while gateway.hear().await.is_some() {}
    assert_eq!(sessions(&manager).await.total, 1);
    let mut again = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    again.list(&[session(1, "blue")]).await;
    until_sessions(&manager, 1).await;
    again.say(Message::Load(v1::GatewayLoad { sessions: 1, ..Default::default() })).await;
    eventually("its load", async || {
        let gateways = client!(manager, routing).list_gateways(v1::ListGatewaysRequest {}).await.unwrap().into_inner();
        (gateways.gateways[0].sessions == 1).then_some(())
    })
    .await;
    manager.stop().await;
    // The stream ends with the manager.
    while again.hear().await.is_some() {}
}

/// Flips to an environment while these gateways listen, and those of them that shall acknowledge do.
async fn flip(manager: &Fleet, to: &str, gateways: &mut [(FakeGateway, bool)]) -> v1::FlipResponse {
    let request = v1::FlipRequest { request_id: to.into(), realm: "eu-1".into(), to: to.into(), ..Default::default() };
    let mut client = client!(manager, routing);
    let call = tokio::spawn(async move { client.flip(request).await.unwrap().into_inner() });
    for (gateway, acknowledges) in gateways {
        loop {
            let table = gateway.table(1).await;
            if *acknowledges {
                gateway.acknowledge(&table).await;
            }
            if table.accepting == to {
                break;
            }
        }
    }
    call.await.unwrap()
}

#[tokio::test]
async fn three_gateways_must_all_acknowledge_a_flip_and_one_that_died_is_named_and_then_let_go() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green", "white"]).await;
    let manager = Fleet::start_with(fleet_manager::Config { gateway_live_ms: 1_000, ..config(dir.path()) }).await;
    let mut gateways = Vec::new();
    for id in ["gw-1", "gw-2", "gw-3"] {
        let gateway = FakeGateway::connect_to(&manager, id, CACHE).await.unwrap();
        gateway.list(&[]).await;
        gateways.push((gateway, true));
    }
    for (gateway, _) in &mut gateways {
        gateway.gateways(&["gw-1:7443", "gw-2:7443", "gw-3:7443"]).await;
    }
    assert!(flip(&manager, "blue", &mut gateways).await.confirmed);
    gateways[1].1 = false;
    let answer = flip(&manager, "green", &mut gateways).await;
    assert_eq!((answer.confirmed, answer.unconfirmed_gateways), (false, vec!["gw-2".to_owned()]));

    // It dies without a word. As soon as it cannot be live any more nothing waits for it but the drain, which names it: its
    // players may be anywhere.
    drop(gateways.remove(1));
    let of_2 = eventually("the dead gateway to be let go", async || {
        let listed = client!(manager, routing).list_gateways(v1::ListGatewaysRequest {}).await.unwrap().into_inner();
        listed.gateways.into_iter().find(|gateway| gateway.id == "gw-2" && !gateway.live)
    })
    .await;
    assert_eq!((of_2.connected, of_2.directory.as_str(), of_2.instance.len()), (false, CACHE, 16));
    let answer = flip(&manager, "white", &mut gateways).await;
    assert!(answer.confirmed && answer.unconfirmed_gateways.is_empty(), "{answer:?}");
    let get = v1::GetDrainRequest { environment_id: "green".into() };
    let drain = client!(manager, drain).get_drain(get).await.unwrap().into_inner();
    assert!(drain.waiting_for.iter().any(|why| why.contains("gw-2")), "{drain:?}");
    manager.stop().await;
}

#[tokio::test]
async fn gateways_with_different_directories_are_refused_without_showing_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let _first = FakeGateway::connect_to(&manager, "gw-1", "redis://me:secret@cache").await.unwrap();
    let _second = FakeGateway::connect_to(&manager, "gw-2", CACHE).await.unwrap();
    let status = FakeGateway::connect_to(&manager, "gw-3", "redis://elsewhere").await.err().expect("is refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "OTHER_DIRECTORY"));
    assert!(!format!("{status:?}").contains("secret"), "{status:?}");
    let listed = client!(manager, routing).list_gateways(v1::ListGatewaysRequest {}).await.unwrap().into_inner();
    assert!(listed.gateways.iter().all(|gateway| !gateway.directory.contains("secret")), "{listed:?}");
    manager.stop().await;
}

#[tokio::test]
async fn a_session_that_is_taken_over_keeps_its_row_and_its_commands() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut old = FakeGateway::connect_to(&manager, "gw-1", CACHE).await.unwrap();
    let mut new = FakeGateway::connect_to(&manager, "gw-2", CACHE).await.unwrap();
    old.list(&[session(1, "blue")]).await;
    new.list(&[]).await;
    until_sessions(&manager, 1).await;
    let kick = v1::KickSessionRequest { request_id: "k".into(), id: "player:player-1".into(), reason: "bye".into() };
    let mut client = client!(manager, session);
    let call = tokio::spawn(async move { client.kick_session(kick).await.unwrap().into_inner() });
    let command = old.command().await;
    // The new one takes the session over before the old one has done anything, and is told the same command.
    new.say(Message::Session(v1::SessionRow { epoch: 2, ..session(1, "blue") })).await;
    assert_eq!(new.command().await, command);
    let result = |outcome: &str| {
        Message::CommandResult(v1::CommandResult {
            command_id: command.command_id.clone(),
            session_id: vec![1; 16],
            outcome: outcome.into(),
            message: String::new(),
        })
    };
    old.say(result("unknown_session")).await;
    let gone = v1::SessionGone { session_id: vec![1; 16], reason: "replaced".into(), ..Default::default() };
    old.say(Message::SessionGone(gone)).await;
    new.say(result("done")).await;
    assert_eq!(call.await.unwrap().outcome, "done");
    let row = client!(manager, session).get_session(v1::GetSessionRequest { id: "player:player-1".into() }).await;
    let row = row.unwrap().into_inner();
    assert_eq!((row.gateway_id.as_str(), row.epoch), ("gw-2", 2));
    manager.stop().await;
}

#[tokio::test]
async fn a_degraded_directory_and_a_gateway_that_stops_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let first = FakeGateway::connect_to(&manager, "gw-1", CACHE).await.unwrap();
    let mut second = FakeGateway::connect_to(&manager, "gw-2", CACHE).await.unwrap();
    let degraded = v1::DirectoryState::Degraded;
    let load = v1::GatewayLoad { directory: degraded.into(), stopping: true, sessions: 3, ..Default::default() };
    first.say(Message::Load(load)).await;
    second.gateways(&["gw-2:7443"]).await;
    let listed = client!(manager, routing).list_gateways(v1::ListGatewaysRequest {}).await.unwrap().into_inner();
    let one = &listed.gateways[0];
    assert_eq!((one.directory_state(), one.stopping, one.live), (degraded, true, true));
    let page = crate::surface::metrics(manager.metrics).await;
    for line in ["tidegate_gateways_directory_degraded 1", "tidegate_gateways_stopping 1"] {
        assert!(page.lines().any(|found| found == line), "{line} is missing: {page}");
    }
    manager.stop().await;
}
