//! A player comes in, plays, loses the connection and comes back.

use tidegate_proto::{CloseCode, v1};

use crate::support::player::{TestPlayer, login, resume};
use crate::support::{Scene, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_player_logs_in_and_plays_in_order() {
    let scene = Scene::start().await;
    let (mut player, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    assert_eq!((welcome.server_id.as_str(), welcome.environment_id.as_str()), ("w1", "blue"));
    assert_eq!((welcome.cause(), welcome.epoch, welcome.generation), (v1::Cause::Login, 1, 1));
    assert!(!welcome.resume_ticket.is_empty());
    for n in 0..500 {
        player.game(&n.to_string()).await;
    }
    for n in 0..500 {
        assert_eq!(player.echo().await, n.to_string());
    }
    let (_, seat) = scene.town.seat("anna").unwrap();
    assert_eq!(seat.log, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    let row = eventually("the row", || scene.manager.row("anna").filter(|r| r.server_id == "w1")).await;
    assert_eq!((row.environment_id.as_str(), row.state()), ("blue", v1::SessionState::Playing));
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_go_both_ways() {
    let scene = Scene::start().await;
    let (player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    // A datagram may be lost, so it is said until it is heard.
    eventually("a datagram at the world", || {
        player.connection.send_datagram("here".into()).unwrap();
        scene.town.datagrams().contains(&"here".to_owned()).then_some(())
    })
    .await;
    scene.town.datagram("anna", "there");
    let heard = crate::support::patient("a datagram at the player", player.connection.read_datagram()).await;
    assert_eq!(&heard.unwrap()[..], b"there");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_acknowledged() {
    let scene = Scene::start().await;
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    for n in 0..40 {
        player.game(&n.to_string()).await;
    }
    let mut acknowledged = 0;
    while acknowledged < 40 {
        let frame = player.next().await.unwrap();
        if frame.kind == tidegate_proto::frame::player::ACK {
            acknowledged = <v1::Ack as prost::Message>::decode(frame.body).unwrap().received_frames;
        }
    }
    assert_eq!(acknowledged, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_resumed_without_losing_a_frame() {
    let scene = Scene::start().await;
    let (mut player, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    player.game("one").await;
    assert_eq!(player.echo().await, "one");
    player.connection.close(0u32.into(), b"");
    eventually("the park", || scene.town.seat("anna").filter(|(_, s)| s.parked)).await;
    // Said while nobody listens.
    scene.town.game("anna", b"late");
    let mut again = TestPlayer::connect(&scene.gateway).await;
    again.hello(resume(&player.resume_ticket, 1, 1)).await;
    let back = again.welcome().await;
    assert_eq!((&back.session_id, back.epoch), (&welcome.session_id, welcome.epoch));
    assert_eq!((back.cause(), back.received_frames, back.gap), (v1::Cause::Resume, 1, false));
    assert_eq!(again.echo().await, "late");
    again.game("two").await;
    assert_eq!(again.echo().await, "two");
    let (_, seat) = scene.town.seat("anna").unwrap();
    assert_eq!(seat.log, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_player_wins() {
    let scene = Scene::start().await;
    let (first, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    let (mut second, again) = TestPlayer::login(&scene.gateway, "anna").await;
    assert_eq!(again.session_id, welcome.session_id, "the same stay, taken over");
    first.assert_closed(CloseCode::Replaced).await;
    second.game("hello").await;
    assert_eq!(second.echo().await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbye_ends_the_session() {
    let scene = Scene::start().await;
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let goodbye = v1::Goodbye { reason: "logout".into(), message: String::new() };
    player.frame(tidegate_proto::frame::player::GOODBYE, &prost::Message::encode_to_vec(&goodbye)).await;
    player.assert_closed(CloseCode::Done).await;
    eventually("the leave", || scene.town.seat("anna").is_none().then_some(())).await;
    let reason = scene.manager.report("the end", |r| match r {
        v1::gateway_report::Message::SessionGone(gone) => Some(gone.reason.clone()),
        _ => None,
    });
    assert_eq!(reason.await, "logout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_gateway_says_goodbye_and_another_takes_the_players_up() {
    let mut scene = Scene::start().await;
    let (mut player, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    player.game("one").await;
    assert_eq!(player.echo().await, "one");
    scene.gateway.stop().await;
    let goodbye = player.expect(tidegate_proto::frame::player::GOODBYE).await;
    assert_eq!(<v1::Goodbye as prost::Message>::decode(goodbye).unwrap().reason, "shutdown");
    player.assert_closed(CloseCode::Shutdown).await;

    scene.gateway.start().await;
    let mut again = TestPlayer::connect(&scene.gateway).await;
    again.hello(resume(&player.resume_ticket, 1, 1)).await;
    let back = again.welcome().await;
    assert_eq!((back.session_id, back.server_id.as_str()), (welcome.session_id, "w1"));
    again.game("two").await;
    assert_eq!(again.echo().await, "two");
    let (_, seat) = scene.town.seat("anna").unwrap();
    assert_eq!(seat.log, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_refused_with_its_reason() {
    let scene = Scene::start().await;
    let used = scene.gateway.ticket("anna");
    let mut first = TestPlayer::connect(&scene.gateway).await;
    first.hello(login(used.clone())).await;
    first.welcome().await;
    let expired = scene.gateway.ticket_with("bert", |claims| claims.expires = claims.issued);
    let elsewhere = scene.gateway.ticket_with("carl", |claims| claims.realm = "us-1".parse().unwrap());
    for (ticket, reason) in [
        (used, "ticket_used"),
        (expired, "ticket_expired"),
        (elsewhere, "wrong_realm"),
        ("garbage".into(), "ticket_invalid"),
    ] {
        let mut player = TestPlayer::connect(&scene.gateway).await;
        player.hello(login(ticket)).await;
        assert_eq!(player.refused().await.reason, reason);
        player.assert_closed(CloseCode::Refused).await;
    }
    // Whoever is in is not disturbed.
    first.game("still here").await;
    assert_eq!(first.echo().await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_players_each_get_their_own_frames_while_half_of_them_walk() {
    const PLAYERS: usize = 200;
    let scene = std::sync::Arc::new(Scene::start().await);
    let mut players = tokio::task::JoinSet::new();
    for n in 0..PLAYERS {
        let scene = scene.clone();
        players.spawn(async move {
            let name = format!("p{n}");
            let (mut player, _) = TestPlayer::login(&scene.gateway, &name).await;
            let mut next = 0;
            for step in 0..10 {
                if step == 5 && n % 2 == 0 {
                    scene.town.transfer(&name, "forest");
                }
                for k in step * 5..(step + 1) * 5 {
                    player.game(&format!("{name} {k}")).await;
                }
                while next < (step + 1) * 5 {
                    let frame = player.next().await.unwrap();
                    if frame.kind == tidegate_proto::frame::player::GAME {
                        assert_eq!(frame.body, format!("{name} {next}"));
                        next += 1;
                    }
                }
            }
            player
        });
    }
    let players = crate::support::patient("all of them", players.join_all()).await;
    assert_eq!(players.len(), PLAYERS);
    eventually("half of them in the forest", || {
        let moved = (0..PLAYERS)
            .step_by(2)
            .all(|n| scene.forest.seat(&format!("p{n}")).is_some_and(|(_, seat)| seat.live && seat.log.len() == 50));
        moved.then_some(())
    })
    .await;
}
