//! A drain as a gateway sees it: it waits for the last session, warns nobody without a policy, moves on an operator's word,
//! and ends only when the gateway has said that nobody is left.

use tidegate_proto::v1;
use tidegate_proto::v1::gateway_report::Message;
use tonic::Code;

use crate::harness::{FakeGateway, Fleet, PATIENCE, client, eventually, reason, seed, session};

fn flip(id: &str, to: &str) -> v1::FlipRequest {
    v1::FlipRequest { request_id: id.into(), realm: "eu-1".into(), to: to.into(), ..v1::FlipRequest::default() }
}

async fn drain(manager: &Fleet) -> v1::Drain {
    let get = v1::GetDrainRequest { environment_id: "blue".into() };
    client!(manager, drain).get_drain(get).await.unwrap().into_inner()
}

/// Flips to blue and then to green, and acknowledges it. Only then is the list of sessions told, with players still in
/// blue: until then they are unknown, and that alone keeps the drain from ending. (Known, they would need more room than
/// environments without servers have.)
async fn draining(manager: &Fleet, players: u8) -> FakeGateway {
    let mut gateway = FakeGateway::connect(manager, "gw-1").await.unwrap();
    for (id, to) in [("to-blue", "blue"), ("to-green", "green")] {
        let (mut client, request) = (client!(manager, routing), flip(id, to));
        let call = tokio::spawn(async move { client.flip(request).await.unwrap().into_inner() });
        loop {
            let table = gateway.table(1).await;
            gateway.acknowledge(&table).await;
            if table.accepting == to {
                break;
            }
        }
        assert!(call.await.unwrap().confirmed);
    }
    let blind = eventually("the drain to say whom it waits for", async || {
        let drain = drain(manager).await;
        drain.waiting_for.iter().any(|why| why.contains("gw-1")).then_some(drain)
    })
    .await;
    assert_eq!((blind.state(), blind.remaining, blind.known), (v1::DrainState::Running, 0, false));
    let rows: Vec<_> = (1..=players).map(|n| session(n, "blue")).collect();
    gateway.list(&rows).await;
    gateway
}

#[tokio::test]
async fn the_last_one_is_moved_on_the_operators_word_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let mut gateway = draining(&manager, 2).await;
    let running = eventually("the drain to see both", async || {
        let drain = drain(&manager).await;
        (drain.remaining == 2 && drain.known).then_some(drain)
    })
    .await;
    assert_eq!(running.state(), v1::DrainState::Running);

    let explain = v1::ExplainDrainRequest { environment_id: "blue".into(), page: None };
    let why = client!(manager, drain).explain_drain(explain).await.unwrap().into_inner();
    assert_eq!(why.holders.iter().map(|h| h.player.as_str()).collect::<Vec<_>>(), ["player-1", "player-2"]);
    assert!(why.holders.iter().all(|h| !h.will_leave.is_empty()));

    let retire = v1::RetireEnvironmentRequest { request_id: "r".into(), id: "blue".into(), if_generation: 0 };
    let status = client!(manager, environment).retire_environment(retire).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let relabel = v1::RelabelEnvironmentRequest { request_id: "l".into(), id: "green".into(), if_generation: 0 };
    let status = client!(manager, environment).relabel_environment(relabel).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "DRAINING"), "{status:?}");

    // One logs out by itself.
    let gone = v1::SessionGone { session_id: vec![1; 16], reason: "logout".into(), ..Default::default() };
    gateway.say(Message::SessionGone(gone)).await;

    let watch = v1::WatchDrainRequest { environment_id: "blue".into() };
    let mut watched = client!(manager, drain).watch_drain(watch).await.unwrap().into_inner();
    let policy = v1::DrainPolicy {
        deadline_ms: Some(3_600_000),
        at_deadline: v1::AtDeadline::Move.into(),
        ..v1::DrainPolicy::default()
    };
    let start = v1::StartDrainRequest { request_id: "s".into(), environment_id: "blue".into(), policy: Some(policy) };
    client!(manager, drain).start_drain(start).await.unwrap();
    let force = v1::ForceDrainRequest { request_id: "f".into(), environment_id: "blue".into(), ..Default::default() };
    client!(manager, drain).force_drain(force).await.unwrap();
    let command = gateway.command().await;
    let Some(v1::session_command::Action::Move(to)) = &command.action else { panic!("{command:?}") };
    assert_eq!((to.environment_id.as_str(), command.session_ids), ("green", vec![vec![2; 16]]));
    let cause = v1::Cause::Drain;
    let moved = v1::SessionRow {
        pin: Some(v1::Pin { environment_id: "green".into(), cause: cause.into(), ..v1::Pin::default() }),
        epoch: 2,
        ..session(2, "green")
    };
    gateway.say(Message::Session(moved)).await;

    // The watch ends by itself, with the end.
    let mut last = None;
    while let Some(drain) = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap() {
        last = Some(drain);
    }
    let last = last.expect("the drain was watched");
    assert_eq!(last.state(), v1::DrainState::Completed);
    assert_eq!((last.departed.get("logout"), last.departed.get("drain")), (Some(&1), Some(&1)), "{last:?}");
    manager.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_away_keeps_an_empty_environment_occupied() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &["blue", "green"]).await;
    let manager = Fleet::start(dir.path()).await;
    let gateway = draining(&manager, 1).await;
    drop(gateway);
    manager.stop().await;

    // After a restart nothing is known of the gateway but that it was there.
    let manager = Fleet::start(dir.path()).await;
    let waiting = eventually("the drain to say whom it waits for", async || {
        let drain = drain(&manager).await;
        drain.waiting_for.iter().any(|why| why.contains("gw-1")).then_some(drain)
    })
    .await;
    assert_eq!((waiting.state(), waiting.known), (v1::DrainState::Running, false));

    let mut gateway = FakeGateway::connect(&manager, "gw-1").await.unwrap();
    let table = gateway.table(1).await;
    gateway.acknowledge(&table).await;
    gateway.list(&[]).await;
    eventually("the drain to end", async || (drain(&manager).await.state() == v1::DrainState::Completed).then_some(()))
        .await;
    manager.stop().await;
}

#[tokio::test]
async fn a_rollout_without_anything_to_roll_from_is_refused_and_planned_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path(), "eu-1", &[]).await;
    let manager = Fleet::start(dir.path()).await;
    let spec = v1::RolloutSpec { realm: "eu-1".into(), build: "1.0.0".into(), ..v1::RolloutSpec::default() };
    let plan = v1::PlanRolloutRequest { spec: Some(spec.clone()) };
    let plan = client!(manager, rollout).plan_rollout(plan).await.unwrap().into_inner();
    assert_eq!(plan.steps.len(), 10);
    assert!(plan.checks.iter().any(|check| !check.ok && !check.warning), "{plan:?}");
    let start = v1::StartRolloutRequest { request_id: "s".into(), spec: Some(spec.clone()) };
    let status = client!(manager, rollout).start_rollout(start).await.unwrap_err();
    assert_eq!(reason(&status), "NOTHING_ACCEPTING", "{status:?}");
    let unknown = v1::RolloutSpec { build: "9.9.9".into(), ..spec };
    let start = v1::StartRolloutRequest { request_id: "u".into(), spec: Some(unknown) };
    let status = client!(manager, rollout).start_rollout(start).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("9.9.9"));
    manager.stop().await;
}
