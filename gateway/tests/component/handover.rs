//! A player changes homes with the connection open.

use std::time::Duration;

use tidegate_proto::v1;

use crate::support::player::TestPlayer;
use crate::support::world::{FakeWorld, Faults};
use crate::support::{Scene, eventually, manager, patient};

/// Sends numbered frames while `change` happens in the midst of them, and checks that each came back once and in order.
async fn play_through(player: &mut TestPlayer, from: u32, to: u32, change: impl FnOnce()) -> Option<v1::Moved> {
    use tidegate_proto::frame::player as kind;
    let middle = (from + to) / 2;
    for n in from..middle {
        player.game(&n.to_string()).await;
    }
    change();
    for n in middle..to {
        player.game(&n.to_string()).await;
    }
    let (mut next, mut moved) = (from, None);
    while next < to {
        let frame = player.next().await.unwrap();
        match frame.kind {
            kind::GAME => {
                assert_eq!(frame.body, next.to_string(), "a frame was lost, repeated or reordered");
                next += 1;
            }
            kind::MOVED => moved = Some(<v1::Moved as prost::Message>::decode(frame.body).unwrap()),
            kind::ACK => (),
            other => panic!("unexpected frame of kind {other}"),
        }
    }
    moved
}

fn numbers(to: u32) -> Vec<String> {
    (0..to).map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_change_keeps_every_frame_in_order() {
    let scene = Scene::start().await;
    let (mut player, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    let moved = play_through(&mut player, 0, 200, || scene.town.transfer("anna", "forest")).await;
    let moved = match moved {
        Some(moved) => moved,
        None => player.moved().await,
    };
    assert_eq!((moved.server_id.as_str(), moved.epoch, moved.cause()), ("w2", welcome.epoch + 1, v1::Cause::Zone));
    let (_, seat) = eventually("the forest has it all", || {
        scene.forest.seat("anna").filter(|(_, seat)| seat.live && seat.log.len() == 200)
    })
    .await;
    assert_eq!(seat.log, numbers(200));
    eventually("the town forgot", || scene.town.seat("anna").is_none().then_some(())).await;
    let row = eventually("the row", || scene.manager.row("anna").filter(|r| r.server_id == "w2")).await;
    assert_eq!(row.epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_leaves_the_player_in_place() {
    let scene = Scene::start().await;
    scene.forest.set_faults(Faults { refuse_prepare: true, ..Default::default() });
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let moved = play_through(&mut player, 0, 100, || scene.town.transfer("anna", "forest")).await;
    assert!(moved.is_none());
    eventually("the thaw", || scene.town.heard().contains(&"TransferRefused".to_owned()).then_some(())).await;
    assert_eq!(play_through(&mut player, 100, 200, || ()).await, None);
    let (_, seat) = scene.town.seat("anna").unwrap();
    assert_eq!(seat.log, numbers(200));
    assert!(scene.forest.seat("anna").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_freeze_keeps_the_player() {
    let scene = Scene::start().await;
    scene.town.set_faults(Faults { refuse_freeze: true, ..Default::default() });
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    assert!(play_through(&mut player, 0, 100, || scene.town.transfer("anna", "forest")).await.is_none());
    eventually("the refusal", || scene.town.heard().contains(&"TransferRefused".to_owned()).then_some(())).await;
    assert_eq!(scene.town.seat("anna").unwrap().1.log, numbers(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_silent_costs_a_time_out_and_nothing_else() {
    let scene = Scene::start_with(|config| config.step_timeout_ms = 500).await;
    scene.forest.set_faults(Faults { ignore_prepare: true, ..Default::default() });
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    scene.town.transfer("anna", "forest");
    eventually("the freeze", || scene.forest.heard().contains(&"Prepare".to_owned()).then_some(())).await;
    // These wait in the gateway until the hand-over is given up.
    assert!(play_through(&mut player, 0, 60, || ()).await.is_none());
    assert!(scene.town.heard().contains(&"Thaw".to_owned()) && scene.forest.heard().contains(&"Abort".to_owned()));
    assert_eq!(scene.town.seat("anna").unwrap().1.log, numbers(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_who_plays_on_in_a_long_hand_over_is_slowed_down_and_loses_nothing() {
    let scene = Scene::start().await;
    scene.forest.set_faults(Faults { slow_prepare: Some(Duration::from_millis(700)), ..Default::default() });
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    scene.town.transfer("anna", "forest");
    eventually("the prepare", || scene.forest.heard().contains(&"Prepare".to_owned()).then_some(())).await;
    // Several times what the gateway keeps for one session: its reading is paused, and QUIC holds the rest back.
    let filler = "x".repeat(1_000);
    let mut sending = player.send;
    let sender = tokio::spawn(async move {
        for n in 0..400 {
            let mut out = bytes::BytesMut::new();
            tidegate_proto::frame::put(
                &mut out,
                tidegate_proto::frame::player::GAME,
                format!("{n} {filler}").as_bytes(),
            );
            sending.write_all(&out).await.unwrap();
        }
        sending
    });
    player.send = patient("all is sent", sender).await.unwrap();
    let (_, seat) = eventually("the forest has it all", || {
        scene.forest.seat("anna").filter(|(_, seat)| seat.live && seat.log.len() == 400)
    })
    .await;
    let order: Vec<_> = seat.log.iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(order, numbers(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_sends_newcomers_to_green_and_pinned_players_there_at_their_next_boundary() {
    let scene = Scene::start().await;
    let green = FakeWorld::start_in(&scene.gateway, "green", "g1", &["forest", "town"]).await;
    let (mut old, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let environments: [(&str, &[&FakeWorld]); 2] = [("blue", &[&scene.town, &scene.forest]), ("green", &[&green])];
    scene.manager.publish(manager::table("eu-1", 2, "green", &environments));
    scene.manager.acked(2).await;

    let (_, welcome) = TestPlayer::login(&scene.gateway, "bert").await;
    assert_eq!((welcome.environment_id.as_str(), welcome.generation), ("green", 2));
    // Pinned: nothing moves anna without a boundary.
    assert!(play_through(&mut old, 0, 50, || ()).await.is_none());
    let moved = match play_through(&mut old, 50, 100, || scene.town.transfer("anna", "forest")).await {
        Some(moved) => moved,
        None => old.moved().await,
    };
    assert_eq!((moved.environment_id.as_str(), moved.cause()), ("green", v1::Cause::Zone));
    let (_, seat) =
        eventually("green has it all", || green.seat("anna").filter(|(_, seat)| seat.live && seat.log.len() == 100))
            .await;
    assert_eq!(seat.log, numbers(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_move_is_done_and_answered() {
    let scene = Scene::start().await;
    let (mut player, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    // The same zone elsewhere: a second server of the environment.
    let twin = FakeWorld::start(&scene.gateway, "w3", &["town"]).await;
    let environments: [(&str, &[&FakeWorld]); 1] = [("blue", &[&scene.town, &scene.forest, &twin])];
    scene.manager.publish(manager::table("eu-1", 2, "blue", &environments));
    scene.manager.acked(2).await;
    eventually("the link", || (twin.links() == 1).then_some(())).await;
    let command = v1::SessionCommand {
        command_id: "c1".into(),
        realm: "eu-1".into(),
        session_ids: vec![welcome.session_id.clone(), vec![7; 16]],
        action: Some(v1::session_command::Action::Move(v1::MoveSessions {
            environment_id: "blue".into(),
            server_id: "w3".into(),
            cause: v1::Cause::Operator.into(),
        })),
    };
    scene.manager.direct(v1::gateway_directive::Message::Command(command));
    let moved = player.moved().await;
    assert_eq!((moved.server_id.as_str(), moved.cause()), ("w3", v1::Cause::Operator));
    for (session, outcome) in [(welcome.session_id, "done"), (vec![7; 16], "unknown_session")] {
        let found = scene.manager.report("the command's result", |r| match r {
            v1::gateway_report::Message::CommandResult(r) if r.session_id == session => Some(r.outcome.clone()),
            _ => None,
        });
        assert_eq!(found.await, outcome);
    }
}
