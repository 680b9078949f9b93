//! Clients that send more than they may: what is too much is counted and dropped, refused or read later, and those who keep
//! to the limits play on.

use std::any::Any;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, TransportConfig};
use tidegate_proto::frame::{self, player as kind};
use tidegate_proto::{CloseCode, varint};

use crate::abuse::metric_reaches;
use crate::support::gateway::TestGateway;
use crate::support::player::{TestPlayer, client_tls, endpoint, login};
use crate::support::{Scene, eventually, patient};

fn over(kind: &str) -> String {
    format!("tidegate_gateway_over_rate_total{{kind=\"{kind}\"}}")
}

/// Still in play: what it says comes back.
async fn plays(player: &mut TestPlayer) {
    player.game("still here").await;
    assert_eq!(player.echo().await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_has_a_small_window_and_a_player_a_larger_one() {
    let scene = Scene::start_with(|config| config.limits.login_window_bytes = 4 * 1024).await;
    let mut stranger = TestPlayer::connect(&scene.gateway).await;
    assert_eq!(stranger.send.write(&[0x3f; 64 * 1024]).await.unwrap(), 4 * 1024);

    let (mut player, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let mut message = bytes::BytesMut::new();
    frame::put(&mut message, kind::GAME, &[b'x'; 16 * 1024]);
    patient("a larger window", async {
        loop {
            let at_once = player.send.write(&message).await.unwrap();
            if at_once > 4 * 1024 {
                return;
            }
            player.send.write_all(&message[at_once..]).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_hello_comes_through_a_small_window() {
    let scene = Scene::start_with(|config| config.limits.login_window_bytes = 2 * 1024).await;
    let mut player = TestPlayer::connect(&scene.gateway).await;
    let mut hello = login(scene.gateway.ticket("anna"));
    hello.realm = "r".repeat(15_000);
    player.hello(hello).await;
    assert_eq!(player.refused().await.reason, "no_environment");
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_before_the_welcome_are_nothing() {
    let scene = Scene::start().await;
    let mut early = TestPlayer::connect(&scene.gateway).await;
    let sends = async {
        while scene.gateway.metric(&over("early_datagrams")).await < 1.0 {
            early.connection.send_datagram("too early".into()).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    patient("them to be counted", sends).await;
    early.hello(login(scene.gateway.ticket("anna"))).await;
    early.welcome().await;
    plays(&mut early).await;
    assert_eq!(scene.town.datagrams(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_beyond_the_rate_are_dropped_and_the_rest_goes_on() {
    let scene = Scene::start_with(|config| {
        config.limits.datagrams_per_s = 2;
        config.limits.burst_ms = 1_000;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let (mut noisy, _) = TestPlayer::login(&scene.gateway, "noisy").await;
    let mut sent = 0;
    let sends = async {
        while scene.gateway.metric(&over("datagrams")).await < 200.0 {
            for _ in 0..50 {
                noisy.connection.send_datagram("here I am".into()).unwrap();
                sent += 1;
            }
            // One who keeps to the rate is heard beside it.
            witness.connection.send_datagram("me too".into()).unwrap();
        }
    };
    patient("them to be dropped", sends).await;
    eventually("the witness' own", || scene.town.datagrams().contains(&"me too".to_owned()).then_some(())).await;
    let heard = scene.town.datagrams().iter().filter(|text| *text == "here I am").count();
    assert!(heard > 0 && heard <= sent - 200, "{heard} of {sent}");
    plays(&mut noisy).await;
    plays(&mut witness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_beyond_the_rate_are_read_later_and_none_is_lost() {
    let scene = Scene::start_with(|config| {
        config.limits.frames_per_s = 50;
        config.limits.burst_ms = 500;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let (mut busy, _) = TestPlayer::login(&scene.gateway, "busy").await;
    for n in 0..100 {
        busy.game(&format!("{n}")).await;
    }
    plays(&mut witness).await;
    for n in 0..100 {
        assert_eq!(busy.echo().await, format!("{n}"));
    }
    metric_reaches(&scene, &over("frames"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_over_the_rate_waits_while_others_do_not() {
    let scene = Scene::start_with(|config| {
        config.limits.frames_per_s = 1;
        config.limits.burst_ms = 3_000;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let (mut busy, _) = TestPlayer::login(&scene.gateway, "busy").await;
    for n in 0..40 {
        busy.game(&format!("busy {n}")).await;
    }
    metric_reaches(&scene, &over("frames"), 1.0).await;
    plays(&mut witness).await;
    plays(&mut witness).await;
    let taken = scene.gateway.metric(r#"tidegate_gateway_frames_total{realm="eu-1",direction="up"}"#).await;
    // One a second: more than thirty would need longer than the patience of this test.
    assert!((1.0..30.0).contains(&taken), "{taken} of 40");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_frames_count_by_their_bytes() {
    let scene = Scene::start_with(|config| {
        config.limits.frame_bytes_per_s = 32 * 1024;
        config.limits.burst_ms = 500;
    })
    .await;
    let (mut busy, _) = TestPlayer::login(&scene.gateway, "busy").await;
    for _ in 0..4 {
        busy.frame(kind::GAME, &[b'x'; 16 * 1024]).await;
    }
    for _ in 0..4 {
        assert_eq!(busy.echo().await.len(), 16 * 1024);
    }
    metric_reaches(&scene, &over("frames"), 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_packets_is_dropped_unread_and_its_connection_closed() {
    let scene = Scene::start_with(|config| {
        config.limits.packets_per_s = 50;
        config.limits.flood_packets = 500;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let flooder = reckless(&scene.gateway).connect(scene.gateway.address(), "localhost").unwrap().await.unwrap();
    let closed = flooder.closed();
    tokio::pin!(closed);
    let ended = patient("the close", async {
        loop {
            for _ in 0..50 {
                let _ = flooder.send_datagram(vec![0; 1_000].into());
            }
            tokio::select! {
                ended = &mut closed => return ended,
                () = tokio::task::yield_now() => (),
            }
        }
    })
    .await;
    // In the flood the close itself may be lost; then the gateway's next word is a stateless reset.
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(c) if c.error_code == (CloseCode::TooFast as u32).into())
            || matches!(&ended, ConnectionError::Reset),
        "{ended}"
    );
    metric_reaches(&scene, &over("packets"), 500.0).await;
    metric_reaches(&scene, r#"tidegate_gateway_connections_closed_total{code="too_fast"}"#, 1.0).await;
    plays(&mut witness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_nobody_ends_are_bounded_and_given_up() {
    let scene = Scene::start_with(|config| {
        config.limits.pending_handshakes = 16;
        config.limits.handshake_ms = 300;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        socket.send_to(&first_packet(&scene.gateway), scene.gateway.address()).unwrap();
    }
    metric_reaches(&scene, "tidegate_gateway_connections_retried_total", 1.0).await;
    let (mut late, _) = TestPlayer::login(&scene.gateway, "late").await;
    plays(&mut late).await;
    plays(&mut witness).await;
    // Beyond half of 16 a Retry is all that a stranger gets; each time handshakes are given up, as many may follow.
    patient("the rest to be given up", async {
        while scene.gateway.metric("tidegate_gateway_connections ").await > 2.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    metric_reaches(&scene, r#"tidegate_gateway_connections_closed_total{code="hello_timeout"}"#, 8.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_must_prove_themselves_above_their_rate() {
    let scene = Scene::start_with(|config| config.limits.unproven_logins_per_s = 1).await;
    let mut players = Vec::new();
    for n in 0..4 {
        players.push(TestPlayer::login(&scene.gateway, &format!("p{n}")).await.0);
    }
    for player in &mut players {
        plays(player).await;
    }
    metric_reaches(&scene, "tidegate_gateway_connections_retried_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_packets_beyond_the_rate_are_dropped_at_the_doorstep() {
    let scene = Scene::start_with(|config| config.limits.initials_per_s = 10).await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..50 {
        socket.send_to(&first_packet(&scene.gateway), scene.gateway.address()).unwrap();
    }
    metric_reaches(&scene, &over("initials"), 1.0).await;
    plays(&mut witness).await;
    // QUIC asks again after a second.
    let (mut late, _) = TestPlayer::login(&scene.gateway, "late").await;
    plays(&mut late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_over_its_rate_is_refused_unless_it_is_exempt() {
    for exempt in [false, true] {
        let scene = Scene::start_with(|config| {
            config.limits.prefix_logins_per_s = 1;
            config.limits.prefix_logins_burst = 1;
            if !exempt {
                config.limits.exempt_prefixes.clear();
            }
        })
        .await;
        let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
        let attempts: Vec<_> = (0..8)
            .map(|_| {
                let endpoint = endpoint(&scene.gateway);
                let connecting = endpoint.connect(scene.gateway.address(), "localhost").unwrap();
                async move { (connecting.await.map(|_| ()), endpoint) }
            })
            .collect();
        let outcomes = patient("the attempts", futures::future::join_all(attempts)).await;
        let refused = outcomes.iter().filter(|(outcome, _)| outcome.is_err()).count();
        assert_eq!(refused > 0, !exempt, "{refused} refused");
        metric_reaches(&scene, &over("prefix"), refused as f64).await;
        plays(&mut witness).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_memory_ceiling_whoever_holds_most_goes() {
    const CEILING: u64 = 1024 * 1024;
    let scene = Scene::start_with(|config| {
        config.limits.memory_bytes = CEILING;
        config.limits.backlog_bytes = 64 * 1024 * 1024;
    })
    .await;
    let (mut witness, _) = TestPlayer::login(&scene.gateway, "witness").await;
    let (sleeper, _) = TestPlayer::login(&scene.gateway, "sleeper").await;
    let (mut half, _) = TestPlayer::login(&scene.gateway, "half").await;
    // Small fry holds something as well: the beginning of a frame.
    let mut announced = bytes::BytesMut::new();
    varint::put(&mut announced, kind::GAME);
    varint::put(&mut announced, 10);
    half.bytes(&announced).await;
    let body = vec![b'x'; 8 * 1024];
    patient("the close", async {
        while scene.gateway.metric("tidegate_gateway_connections_shed_total").await < 1.0 {
            if scene.town.seat("sleeper").is_some_and(|(_, seat)| !seat.parked) {
                for _ in 0..50 {
                    scene.town.game("sleeper", &body);
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let _ended = patient("the sleeper's end", sleeper.connection.closed()).await;
    patient("the memory", async {
        while scene.gateway.metric("tidegate_gateway_buffered_bytes").await > CEILING as f64 / 4.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(scene.gateway.metric("tidegate_gateway_connections_shed_total").await, 1.0, "only the one");
    half.bytes(b"still here").await;
    assert_eq!(half.echo().await, "still here");
    plays(&mut witness).await;
    let (mut late, _) = TestPlayer::login(&scene.gateway, "late").await;
    plays(&mut late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_before_the_handshake_ends() {
    let scene = Scene::start().await;
    // A client that would send early data as soon as it has a ticket for it.
    let mut tls = client_tls(&scene.gateway);
    tls.enable_early_data = true;
    tls.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut eager = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    eager.set_default_client_config(config);
    let mut player = TestPlayer::connect_with(&scene.gateway, eager.clone()).await;
    player.hello(login(scene.gateway.ticket("anna"))).await;
    // Tickets would have come with the end of the handshake, long before this.
    player.welcome().await;
    for _ in 0..2 {
        let again = eager.connect(scene.gateway.address(), "localhost").unwrap();
        let Err(again) = again.into_0rtt() else { panic!("the client could send early data") };
        let connection = patient("a whole handshake", again).await.unwrap();
        let data = connection.handshake_data().unwrap().downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
        assert!(data.protocol.is_some());
    }
    plays(&mut player).await;
}

/// A client whose congestion control lets everything through.
fn reckless(gateway: &TestGateway) -> Endpoint {
    let mut transport = TransportConfig::default();
    transport.congestion_controller_factory(Arc::new(Reckless));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls(gateway)).unwrap()));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

#[derive(Debug, Clone)]
struct Reckless;

impl ControllerFactory for Reckless {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}

impl Controller for Reckless {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        64 * 1024 * 1024
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The first packet of a handshake as it should be, whose client then dies.
fn first_packet(gateway: &TestGateway) -> Vec<u8> {
    let crypto = Arc::new(QuicClientConfig::try_from(client_tls(gateway)).unwrap());
    let config = quinn_proto::EndpointConfig::default();
    let mut endpoint = quinn_proto::Endpoint::new(Arc::new(config), None, false, None);
    let now = Instant::now();
    let client = quinn_proto::ClientConfig::new(crypto);
    let (_, mut connection) = endpoint.connect(now, client, gateway.address(), "localhost").unwrap();
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet).expect("a first packet");
    assert_eq!(transmit.size, packet.len());
    packet
}
