//! Clients that do what they may not: their connection closes with a code, and nobody else notices.

use bytes::BytesMut;
use quinn::ConnectionError;
use tidegate_proto::frame::{self, MAX_GAME_BODY, player as kind};
use tidegate_proto::{CloseCode, varint};

use crate::support::player::{TestPlayer, login};
use crate::support::{Scene, eventually, patient};

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_close_their_own_connection_only() {
    let scene = Scene::start().await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;

    // Before the Hello.
    for (bytes, code) in [
        (vec![0x3f, 0x00], CloseCode::BadFrame),
        (frame_bytes(kind::GAME, b"early"), CloseCode::BadFrame),
        (frame_bytes(kind::HELLO, b"\xff\xff\xff"), CloseCode::BadMessage),
        (frame_bytes(kind::HELLO, b""), CloseCode::Refused),
        (announced(kind::HELLO, 1 << 40), CloseCode::FrameTooLong),
    ] {
        let mut player = TestPlayer::connect(&scene.gateway).await;
        player.bytes(&bytes).await;
        player.assert_closed(code).await;
    }

    // In play.
    for (bytes, code) in [
        (frame_bytes(0x3e, b"?"), CloseCode::BadFrame),
        (frame_bytes(kind::WELCOME, b""), CloseCode::BadFrame),
        (frame_bytes(kind::HELLO, b""), CloseCode::BadFrame),
        (announced(kind::GAME, MAX_GAME_BODY as u64 + 1), CloseCode::FrameTooLong),
        (frame_bytes(kind::ACK, b"\xff"), CloseCode::BadMessage),
        ((0..=255).cycle().take(5_000).collect(), CloseCode::BadFrame),
    ] {
        let (mut player, _) = TestPlayer::login(&scene.gateway, "villain").await;
        player.bytes(&bytes).await;
        player.assert_closed(code).await;
    }

    witness.game("what was that?").await;
    assert_eq!(witness.echo().await, "what was that?");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_always_end_in_a_close_code() {
    use rand::{RngExt, SeedableRng};
    const SEED: u64 = 7;
    let scene = Scene::start_with(|config| config.limits.hello_ms = 300).await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let mut random = rand::rngs::StdRng::seed_from_u64(SEED);
    for round in 0..60 {
        let in_play = round % 2 == 0;
        let mut player = if in_play {
            TestPlayer::login(&scene.gateway, "villain").await.0
        } else {
            TestPlayer::connect(&scene.gateway).await
        };
        let length = random.random_range(1..2_000);
        let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        player.bytes(&bytes).await;
        if in_play {
            // What happens to look like a frame that is not complete is not wrong yet; an end of the stream is.
            let _ = player.send.finish();
        }
        let code = player.closed().await;
        assert!(code <= CloseCode::Refused as u64, "seed {SEED}, round {round}: code {code}");
    }
    witness.game("quiet again").await;
    assert_eq!(witness.echo().await, "quiet again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_of_handshakes_is_slowed_down_and_everybody_comes_in() {
    let scene = std::sync::Arc::new(Scene::start_with(|config| config.limits.pending_handshakes = 8).await);
    let mut players = tokio::task::JoinSet::new();
    for n in 0..16 {
        let scene = scene.clone();
        players.spawn(async move {
            let (mut player, _) = TestPlayer::login(&scene.gateway, &format!("p{n}")).await;
            player.game("in").await;
            player.echo().await
        });
    }
    assert_eq!(patient("all of them", players.join_all()).await, vec!["in"; 16]);
    metric_reaches(&scene, "tidegate_gateway_connections_retried_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_is_closed() {
    let scene = Scene::start_with(|config| config.limits.hello_ms = 200).await;
    let silent = TestPlayer::connect(&scene.gateway).await;
    silent.assert_closed(CloseCode::HelloTimeout).await;
    // Half a frame is nothing.
    let mut half = TestPlayer::connect(&scene.gateway).await;
    half.bytes(&announced(kind::HELLO, 100)).await;
    half.assert_closed(CloseCode::HelloTimeout).await;
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    player.game("in time").await;
    assert_eq!(player.echo().await, "in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_is_one_too_many() {
    let scene = Scene::start().await;
    let (player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let (mut send, _receive) = player.connection.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    player.assert_closed(CloseCode::TooManyStreams).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_end_end_at_the_second() {
    let scene = Scene::start().await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let spammer = crate::support::player::endpoint(&scene.gateway);
    let connection = spammer.connect(scene.gateway.address(), "localhost").unwrap().await.unwrap();
    let spam = async {
        let mut streams = Vec::new();
        // Each begins a frame, so that the gateway hears of it; no more than the allowed few can be open.
        while let Ok((mut send, receive)) = connection.open_bi().await {
            let _ = send.write_all(&[kind::HELLO as u8]).await;
            streams.push((send, receive));
        }
        streams.len()
    };
    assert!(patient("the close", spam).await <= 4);
    let ended = connection.closed().await;
    let code = CloseCode::TooManyStreams as u32;
    assert!(matches!(&ended, ConnectionError::ApplicationClosed(c) if c.error_code == code.into()), "{ended}");
    witness.game("quiet").await;
    assert_eq!(witness.echo().await, "quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_read_is_closed_and_may_come_back() {
    let scene = Scene::start_with(|config| config.limits.backlog_bytes = 64 * 1024).await;
    let (sleeper, _) = TestPlayer::login(&scene.gateway, "sleeper").await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let body = vec![b'x'; 8 * 1024];
    let closed = sleeper.connection.closed();
    tokio::pin!(closed);
    // The client's own QUIC buffers take some megabytes before the gateway's backlog grows.
    let ended = patient("the close", async {
        loop {
            for _ in 0..100 {
                if scene.town.seat("sleeper").is_some_and(|(_, seat)| !seat.parked) {
                    scene.town.game("sleeper", &body);
                }
            }
            tokio::select! {
                ended = &mut closed => return ended,
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => (),
            }
        }
    })
    .await;
    // In the flood the close itself may be lost; then the gateway's next word is a stateless reset.
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(c) if c.error_code == (CloseCode::TooSlow as u32).into())
            || matches!(&ended, ConnectionError::Reset),
        "{ended}"
    );
    let closed = r#"tidegate_gateway_connections_closed_total{code="too_slow"}"#;
    metric_reaches(&scene, closed, 1.0).await;
    witness.game("not my business").await;
    assert_eq!(witness.echo().await, "not my business");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_not_quic_are_ignored() {
    let scene = Scene::start().await;
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..1_200usize {
        let packet: Vec<u8> = (0..length).map(|i| (i * 31 + length * 7) as u8).collect();
        socket.send_to(&packet, scene.gateway.address()).unwrap();
    }
    player.game("quiet").await;
    assert_eq!(player.echo().await, "quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_connections_turns_others_away() {
    let scene = Scene::start_with(|config| config.limits.connections = 1).await;
    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let endpoint = crate::support::player::endpoint(&scene.gateway);
    // Ignored, so the attempt ends by itself; what counts is that it was counted and that anna plays on.
    let _attempt = endpoint.connect(scene.gateway.address(), "localhost").unwrap();
    metric_reaches(&scene, "tidegate_gateway_connections_turned_away_total", 1.0).await;
    player.game("alone").await;
    assert_eq!(player.echo().await, "alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_for_another_realm_is_told_so() {
    let scene = Scene::start().await;
    let mut player = TestPlayer::connect(&scene.gateway).await;
    player.hello(tidegate_proto::v1::Hello { realm: "us-1".into(), ..login(scene.gateway.ticket("anna")) }).await;
    let refused = player.refused().await;
    assert_eq!(refused.reason, "no_environment");
    assert!(refused.retry_after_ms > 0);
    player.assert_closed(CloseCode::Refused).await;
    eventually("nobody came in", || scene.town.seat("anna").is_none().then_some(())).await;
}

pub(crate) async fn metric_reaches(scene: &Scene, line: &str, least: f64) {
    let reaches = async {
        while scene.gateway.metric(line).await < least {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    patient(line, reaches).await;
}

fn frame_bytes(kind: u64, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, kind, body);
    out.to_vec()
}

/// The head of a frame whose body never comes.
fn announced(kind: u64, length: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    varint::put(&mut out, kind);
    varint::put(&mut out, length);
    out.to_vec()
}
