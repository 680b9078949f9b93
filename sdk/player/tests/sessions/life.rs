//! How sessions begin, wait, come back and end.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidegate_player::{Advice, CloseReason, ConnectError, Event, PlayerEndpoint, Roots, SendError};
use tidegate_proto::frame::{self, player};
use tidegate_proto::{CloseCode, v1, varint};

use crate::gateway::Gateway;
use crate::{body, closed, playing, resumed};

#[tokio::test]
async fn a_player_waits_in_line_until_there_is_room() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.say(player::HOLD, &v1::Hold { place: 2, reason: "full".into() }).await;
        connection
    };
    let (connected, mut connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    let (session, mut events) = connected.unwrap();
    let Some(Event::Hold(hold)) = events.next().await else { panic!("no hold") };
    assert_eq!((hold.place, hold.reason.as_str()), (Some(2), "full"));
    // What the player says meanwhile waits, too.
    session.send(body(1)).await.unwrap();
    connection.welcome(0, false, "r1").await;
    assert!(matches!(events.next().await, Some(Event::Welcome(_))));
    assert_eq!(connection.games(1).await, [body(1)]);
}

#[tokio::test]
async fn a_player_may_leave_the_line() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.say(player::HOLD, &v1::Hold { place: 9, reason: "full".into() }).await;
        connection
    };
    let (connected, mut connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    let (session, mut events) = connected.unwrap();
    let served = async {
        assert_eq!(connection.next().await.unwrap().kind, player::GOODBYE);
        connection.goodbye("logout").await;
    };
    tokio::join!(session.logout(), served);
    assert_eq!(closed(&mut events).await.reason, CloseReason::LoggedOut);
}

#[tokio::test]
async fn a_connection_lost_in_line_ends_the_attempt() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.say(player::HOLD, &v1::Hold { place: 9, reason: "full".into() }).await;
        connection
    };
    let (connected, connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    let (_session, mut events) = connected.unwrap();
    assert!(matches!(events.next().await, Some(Event::Hold(_))));
    connection.break_off();
    assert_eq!(closed(&mut events).await.reason, CloseReason::NotAdmitted);
}

#[tokio::test]
async fn a_refusal_at_the_door_says_what_to_do() {
    let gateway = Gateway::new();
    let client = gateway.client();
    for (reason, retry_after_ms, advice) in [
        ("ticket_expired", 0, Advice::NewTicket),
        ("unavailable", 700, Advice::TryAgain(Duration::from_millis(700))),
        ("client_too_old", 0, Advice::Update),
    ] {
        let served = async {
            let refused = v1::Refused { reason: reason.into(), message: "no".into(), retry_after_ms };
            let mut connection = gateway.accept().await;
            connection.say(player::REFUSED, &refused).await;
            connection
        };
        let (connected, _connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
        let Err(error @ ConnectError::Refused(_)) = connected else { panic!("not refused") };
        assert_eq!(error.advice(), advice, "{error}");
    }
}

#[tokio::test]
async fn a_session_that_is_refused_when_it_comes_back_is_over() {
    let gateway = Gateway::new();
    let (session, mut events, connection) = playing(&gateway).await;
    connection.break_off();
    let mut connection = gateway.accept().await;
    let refused = v1::Refused { reason: "resume_unknown".into(), ..v1::Refused::default() };
    connection.say(player::REFUSED, &refused).await;
    assert_eq!(closed(&mut events).await.reason, CloseReason::Refused("resume_unknown".into()));
    assert_eq!(session.send(body(1)).await, Err(SendError::Closed));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_refusal_for_now_is_tried_again() {
    let gateway = Gateway::new();
    let (_session, mut events, connection) = playing(&gateway).await;
    connection.break_off();
    let mut connection = gateway.accept().await;
    let refused = v1::Refused { reason: "unavailable".into(), retry_after_ms: 10, ..v1::Refused::default() };
    connection.say(player::REFUSED, &refused).await;
    let mut again = gateway.accept().await;
    again.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
}

#[tokio::test]
async fn a_notice_is_passed_on() {
    let gateway = Gateway::new();
    let (_session, mut events, mut connection) = playing(&gateway).await;
    connection.say(player::NOTICE, &v1::Notice { text: "soon".into(), remaining_ms: 60_000 }).await;
    let Some(Event::Notice(notice)) = events.next().await else { panic!("no notice") };
    assert_eq!((notice.text.as_str(), notice.remaining), ("soon", Some(Duration::from_secs(60))));
}

#[tokio::test]
async fn the_last_word_names_whose_it_was() {
    let gateway = Gateway::new();
    for (word, reason) in [
        ("kicked", CloseReason::Kicked),
        ("replaced", CloseReason::Replaced),
        ("grace_over", CloseReason::GraceOver),
        ("maintenance", CloseReason::Other("maintenance".into())),
    ] {
        let (_session, mut events, mut connection) = playing(&gateway).await;
        connection.goodbye(word).await;
        assert_eq!(closed(&mut events).await.reason, reason);
    }
    // A close code alone is understood, too: the goodbye may have been lost with the connection.
    let (_session, mut events, connection) = playing(&gateway).await;
    connection.quinn.close((CloseCode::Replaced as u32).into(), b"");
    let last = closed(&mut events).await;
    assert_eq!((last.reason, last.code), (CloseReason::Replaced, Some(CloseCode::Replaced as u64)));
}

#[tokio::test]
async fn a_gateway_that_shuts_down_is_left_for_another() {
    let (gateway, other) = (Gateway::new(), Gateway::new());
    let both = [gateway.certificate.clone(), other.certificate.clone()];
    let client = PlayerEndpoint::new(&Roots::Certificates(both.to_vec())).unwrap();
    let mut config = gateway.config();
    config.gateway.push(other.address);
    let served = async {
        let mut connection = gateway.accept().await;
        connection.welcome(0, false, "r1").await;
        connection
    };
    let (connected, mut connection) = tokio::join!(client.connect(Arc::new(config), "t".into()), served);
    let (_session, mut events) = connected.unwrap();
    assert!(matches!(events.next().await, Some(Event::Welcome(_))));
    connection.goodbye("shutdown").await;
    // The first gateway takes nobody any more; the second one does.
    let refusing = async {
        loop {
            let mut connection = gateway.accept().await;
            let refused = v1::Refused { reason: "unavailable".into(), retry_after_ms: 1, ..v1::Refused::default() };
            connection.say(player::REFUSED, &refused).await;
            connection.quinn.closed().await;
        }
    };
    let coming_back = async {
        let mut connection = other.accept().await;
        assert_eq!(connection.hello.resume_ticket, "r1");
        connection.welcome(0, false, "r2").await;
        assert!(!resumed(&mut events).await);
    };
    tokio::select! {
        () = refusing => {}
        () = coming_back => {}
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_passed_over() {
    let gateway = Gateway::new();
    // Takes packets and never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = gateway.config();
    config.gateway.insert(0, silent.local_addr().unwrap());
    config.handshake_timeout = Duration::from_millis(500);
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.welcome(0, false, "r1").await;
        connection
    };
    let (connected, _connection) = tokio::join!(client.connect(Arc::new(config.clone()), "t".into()), served);
    assert!(connected.is_ok());
    config.gateway.truncate(1);
    match client.connect(Arc::new(config.clone()), "t".into()).await {
        Err(ConnectError::Unreachable { gateway, .. }) => assert_eq!(gateway, silent.local_addr().unwrap()),
        other => panic!("{other:?}"),
    }
    config.gateway.clear();
    assert!(matches!(client.connect(Arc::new(config), "t".into()).await, Err(ConnectError::NoGateway)));
}

#[tokio::test]
async fn a_gateway_of_another_authority_is_not_trusted() {
    let (gateway, stranger) = (Gateway::new(), Gateway::new());
    let client = stranger.client();
    tokio::select! {
        connected = client.connect(Arc::new(gateway.config()), "t".into()) => {
            let Err(ConnectError::Unreachable { why, .. }) = connected else { panic!("trusted") };
            assert!(why.contains("certificate"), "{why}");
        }
        () = gateway.refuse_handshakes() => {}
    }
}

#[tokio::test]
async fn garbage_from_a_gateway_ends_the_session_with_a_code() {
    let gateway = Gateway::new();
    let mut long = BytesMut::new();
    varint::put(&mut long, player::GAME);
    varint::put(&mut long, 1 << 40);
    let mut unknown = BytesMut::new();
    frame::put(&mut unknown, 0x3f, b"");
    let mut unreadable = BytesMut::new();
    frame::put(&mut unreadable, player::MOVED, b"\xff\xff\xff");
    let mut twice = BytesMut::new();
    frame::put(&mut twice, player::WELCOME, b"");
    let mut hello = BytesMut::new();
    frame::put_message(&mut hello, player::HELLO, &v1::Hello::default());
    let mut too_much = BytesMut::new();
    frame::put_message(&mut too_much, player::ACK, &v1::Ack { received_frames: 1 });
    for (bytes, code) in [
        (long, CloseCode::FrameTooLong),
        (unknown, CloseCode::BadFrame),
        (unreadable, CloseCode::BadMessage),
        (twice, CloseCode::BadFrame),
        (hello, CloseCode::BadFrame),
        (too_much, CloseCode::BadMessage),
    ] {
        let (_session, mut events, mut connection) = playing(&gateway).await;
        connection.raw(&bytes).await;
        assert_eq!(closed(&mut events).await.reason, CloseReason::Protocol);
        assert_eq!(connection.closed_with().await, code as u64);
    }
}

#[tokio::test]
async fn a_first_answer_that_is_none_is_a_protocol_error() {
    let gateway = Gateway::new();
    let client = gateway.client();
    let served = async {
        let mut connection = gateway.accept().await;
        connection.game(b"too early").await;
        connection
    };
    let (connected, _connection) = tokio::join!(client.connect(Arc::new(gateway.config()), "t".into()), served);
    assert!(matches!(connected, Err(ConnectError::Protocol(_))));
}

#[tokio::test]
async fn a_client_that_knows_its_network_changed_comes_back_at_once() {
    let gateway = Gateway::new();
    let (session, mut events, _connection) = playing(&gateway).await;
    session.reconnect();
    let mut connection = gateway.accept().await;
    assert_eq!(connection.hello.resume_ticket, "r1");
    connection.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
}

#[tokio::test]
async fn whoever_stops_listening_gives_the_session_up() {
    let gateway = Gateway::new();
    let (_session, events, connection) = playing(&gateway).await;
    drop(events);
    assert_eq!(connection.closed_with().await, CloseCode::Done as u64);
}

#[test]
fn an_authority_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    for content in [None, Some("not a certificate")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = PlayerEndpoint::new(&Roots::PemFile(path.clone())).unwrap_err().to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }
}
