//! What a client does while it has no connection, and what it makes of words that came just before the connection ended.

use std::sync::Arc;
use std::time::Duration;

use tidegate_player::{CloseReason, ConnectError, Event, PlayerEndpoint, Roots, SendError};
use tidegate_proto::frame::player;
use tidegate_proto::{CloseCode, v1};

use crate::gateway::Gateway;
use crate::{body, closed, playing, resumed};

#[tokio::test]
async fn the_owner_hears_of_the_loss_while_nobody_answers() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    connection.game(b"before").await;
    assert_eq!(events.next().await, Some(Event::Game("before".into())));
    connection.break_off();
    // The gateway does not accept the next connection before this is heard.
    assert!(matches!(events.next().await, Some(Event::Reconnecting { .. })));
    // What is said meanwhile waits.
    session.send(body(1)).await.unwrap();
    assert!(session.datagram("where".into()).is_err());
    let mut connection = gateway.accept().await;
    connection.welcome(0, false, "r2").await;
    assert!(matches!(events.next().await, Some(Event::Resumed(_))));
    assert_eq!(connection.games(1).await, [body(1)]);
}

#[tokio::test]
async fn the_last_words_are_heard_by_a_client_that_is_writing() {
    let gateway = Gateway::new();
    for _ in 0..20 {
        let (session, mut events, mut connection) = playing(&gateway).await;
        let writing = tokio::spawn(async move { while session.send(body(1)).await.is_ok() {} });
        connection.games(1).await;
        connection.game(b"last").await;
        connection.goodbye("ejected").await;
        connection.finish().await;
        connection.quinn.close((CloseCode::Done as u32).into(), b"done");
        assert_eq!(events.next().await, Some(Event::Game("last".into())));
        assert_eq!(closed(&mut events).await.reason, CloseReason::Kicked);
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn a_session_comes_back_at_another_gateway_when_its_own_is_dead() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let both = [gateway.certificate.clone(), other.certificate.clone()];
    let client = PlayerEndpoint::new(&Roots::Certificates(both.to_vec())).unwrap();
    let mut config = gateway.config();
    config.gateway.push(other.address);
    config.handshake_timeout = Duration::from_millis(300);
    let served = async {
        let mut connection = gateway.accept().await;
        connection.welcome(0, false, "r1").await;
        connection
    };
    let (connected, connection) = tokio::join!(client.connect(Arc::new(config), "t".into()), served);
    let (session, mut events) = connected.unwrap();
    assert!(matches!(events.next().await, Some(Event::Welcome(_))));
    session.send(body(1)).await.unwrap();
    connection.break_off();
    drop((connection, gateway));
    let mut connection = other.accept().await;
    assert_eq!((connection.hello.resume_ticket.as_str(), connection.hello.sent_frames), ("r1", 1));
    connection.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
    assert_eq!(connection.games(1).await, [body(1)]);
}

#[tokio::test]
async fn a_logout_whose_answer_was_lost_is_a_logout() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    let served = async {
        assert_eq!(connection.next_but_ack().await.unwrap().kind, player::GOODBYE);
        connection.break_off();
        let mut connection = gateway.accept().await;
        let refused = v1::Refused { reason: "resume_unknown".into(), ..v1::Refused::default() };
        connection.say(player::REFUSED, &refused).await;
        connection
    };
    let ((), _connection) = tokio::join!(session.logout(), served);
    assert_eq!(closed(&mut events).await.reason, CloseReason::LoggedOut);
    assert_eq!(session.try_send(body(1)), Err(SendError::Closed));
}

#[tokio::test]
async fn a_refusal_after_a_wait_in_line_ends_the_session() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.say(player::HOLD, &v1::Hold { place: 1, reason: "full".into() }).await;
        let refused = v1::Refused { reason: "client_too_old".into(), ..v1::Refused::default() };
        connection.say(player::REFUSED, &refused).await;
        connection
    };
    let (connected, _connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    let (_session, mut events) = connected.unwrap();
    assert!(matches!(events.next().await, Some(Event::Hold(_))));
    assert_eq!(closed(&mut events).await.reason, CloseReason::Refused("client_too_old".into()));
}

#[tokio::test]
async fn a_gateway_that_blames_the_client_at_the_door_is_believed() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let connection = gateway.accept().await;
        connection.quinn.close((CloseCode::BadMessage as u32).into(), b"bad message");
        connection
    };
    let (connected, _connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    assert!(matches!(connected, Err(ConnectError::Protocol(_))));
}

#[tokio::test]
async fn a_hold_in_mid_session_ends_with_a_move() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    connection.say(player::HOLD, &v1::Hold { place: 0, reason: "home_lost".into() }).await;
    let Some(Event::Hold(hold)) = events.next().await else { panic!("no hold") };
    assert_eq!((hold.place, hold.reason.as_str()), (None, "home_lost"));
    // The connection stands, so the player may go on.
    session.send(body(1)).await.unwrap();
    assert_eq!(connection.games(1).await, [body(1)]);
    connection.moved(2, "r2").await;
    connection.game(b"new").await;
    assert!(matches!(events.next().await, Some(Event::Moved(_))));
    assert_eq!(events.next().await, Some(Event::Game("new".into())));
}
