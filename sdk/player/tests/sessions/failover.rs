//! Gateways that die, stop or refuse, and the others that a client knows.

use std::sync::Arc;
use std::time::Duration;

use tidegate_player::Event;

use crate::gateway::{Gateway, client_of};
use crate::line::Line;
use crate::{body, playing_through, resumed};

/// So long that a test which waits for it does not end.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_login_does_not_wait_for_a_dead_gateway_to_time_out() {
    let gateway = Gateway::new();
    // Takes packets and never answers.
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = gateway.config();
    config.gateway.insert(0, dead.local_addr().unwrap());
    config.handshake_timeout = NEVER;
    let (_session, _events, connection) = playing_through(&gateway, &gateway.client(), config).await;
    assert_eq!(connection.hello.login_ticket, "t");
}

#[tokio::test]
async fn a_ticket_is_shown_to_one_gateway_only() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let mut config = gateway.config();
    config.gateway.push(other.address);
    // Both are asked at once; the second accepts when the first has its `Hello`.
    config.next_gateway_after = Duration::ZERO;
    config.handshake_timeout = NEVER;
    let (session, _events, mut connection) = playing_through(&gateway, &client_of(&[&gateway, &other]), config).await;
    other.hears_no_hello().await;
    session.send(body(1)).await.unwrap();
    assert_eq!(connection.games(1).await, [body(1)]);
}

#[tokio::test]
async fn a_gateway_that_was_only_told_of_takes_over_from_a_dead_one() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let line = Line::to(gateway.address).await;
    let mut config = gateway.config();
    config.gateway = vec![line.address];
    config.handshake_timeout = NEVER;
    let client = client_of(&[&gateway, &other]);
    let served = async {
        let mut connection = gateway.accept().await;
        connection.welcome_naming(&[&gateway, &other], 0, "r1").await;
        connection
    };
    let (connected, mut connection) = tokio::join!(client.connect(Arc::new(config), "t".into()), served);
    let (session, mut events) = connected.unwrap();
    let Some(Event::Welcome(welcome)) = events.next().await else { panic!("no welcome") };
    assert_eq!(welcome.gateways, [gateway.address.to_string(), other.address.to_string()]);
    assert_eq!(welcome.gateway, line.address);
    session.send(body(1)).await.unwrap();
    connection.games(1).await;
    // Nobody says a word: the gateway's machine is gone. So is the other way to it.
    line.cut();
    connection.quinn.close(0u32.into(), b"");
    drop((connection, gateway));
    let mut connection = other.accept().await;
    assert_eq!((connection.hello.resume_ticket.as_str(), connection.hello.sent_frames), ("r1", 1));
    connection.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
    assert_eq!(connection.games(1).await, [body(1)]);
}

#[tokio::test]
async fn a_silent_gateway_is_left_long_before_quic_gives_up() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let line = Line::to(gateway.address).await;
    let mut config = gateway.config();
    config.gateway = vec![line.address, other.address];
    config.keep_alive = Duration::from_millis(50);
    config.silence = Duration::from_millis(300);
    config.idle_timeout = NEVER;
    config.handshake_timeout = NEVER;
    let (_session, mut events, _connection) = playing_through(&gateway, &client_of(&[&gateway, &other]), config).await;
    line.cut();
    match events.next().await {
        Some(Event::Reconnecting { why }) => assert!(why.contains("does not answer"), "{why}"),
        event => panic!("{event:?}"),
    }
    let mut connection = other.accept().await;
    connection.welcome(0, false, "r2").await;
    assert!(matches!(events.next().await, Some(Event::Resumed(_))));
}

#[tokio::test]
async fn a_stopping_gateway_is_asked_last_and_named_ones_only_if_they_may_be() {
    for learn in [true, false] {
        let (gateway, other) = (Gateway::new(), Gateway::new());
        let mut config = gateway.config();
        config.learn_gateways = learn;
        let client = client_of(&[&gateway, &other]);
        let served = async {
            let mut connection = gateway.accept().await;
            connection.welcome_naming(&[&gateway, &other], 0, "r1").await;
            connection
        };
        let (connected, mut connection) = tokio::join!(client.connect(Arc::new(config), "t".into()), served);
        let (_session, mut events) = connected.unwrap();
        assert!(matches!(events.next().await, Some(Event::Welcome(_))));
        connection.goodbye("shutdown").await;
        let (mut connection, at_other) = tokio::select! {
            connection = gateway.accept() => (connection, false),
            connection = other.accept() => (connection, true),
        };
        connection.welcome(0, false, "r2").await;
        assert!(!resumed(&mut events).await);
        assert_eq!(at_other, learn);
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_for_now_is_not_waited_for() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let mut config = gateway.config();
    config.gateway.push(other.address);
    // Both would be asked within the grace time of 10 s only if nobody waits for the one that refuses.
    let (_session, mut events, connection) = playing_through(&gateway, &client_of(&[&gateway, &other]), config).await;
    connection.break_off();
    let refusing = async {
        let mut connection = gateway.accept().await;
        connection.refuse("no_environment", 3_600_000).await;
        connection
    };
    let (_refused, mut connection) = tokio::join!(refusing, other.accept());
    connection.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
}

#[tokio::test]
async fn frames_that_died_with_a_gateway_are_sent_to_the_next() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let mut config = gateway.config();
    config.gateway.push(other.address);
    let (session, mut events, mut connection) =
        playing_through(&gateway, &client_of(&[&gateway, &other]), config).await;
    for n in 0..5 {
        session.send(body(n)).await.unwrap();
    }
    assert_eq!(connection.games(5).await.len(), 5);
    connection.break_off();
    // The same gateway has all five, the world has not said so of one.
    let mut connection = gateway.accept().await;
    connection.welcome(5, false, "r2").await;
    assert!(!resumed(&mut events).await);
    session.send(body(5)).await.unwrap();
    assert_eq!(connection.games(1).await, [body(5)]);
    // Now it dies, and the world has two.
    connection.goodbye("shutdown").await;
    let mut connection = other.accept().await;
    assert_eq!(connection.hello.sent_frames, 6);
    connection.welcome(2, false, "r3").await;
    assert!(!resumed(&mut events).await, "no gap: nothing was acknowledged");
    assert_eq!(connection.games(4).await, (2..6).map(body).collect::<Vec<_>>());
}
