//! Reliable frames arrive once and in order: over lost connections, forgetful gateways, full windows and logouts.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidegate_player::{CloseReason, Event, SendError};
use tidegate_proto::frame::player;
use tidegate_proto::v1;
use tidegate_types::{Cause, Epoch};

use crate::gateway::Gateway;
use crate::{body, closed, playing, resumed};

#[tokio::test]
async fn frames_and_datagrams_go_both_ways() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    assert_eq!((connection.hello.realm.as_str(), connection.hello.login_ticket.as_str()), ("eu-1", "t"));
    session.send(body(1)).await.unwrap();
    session.send(body(2)).await.unwrap();
    assert_eq!(connection.games(2).await, [body(1), body(2)]);
    connection.game(b"hello").await;
    assert_eq!(events.next().await, Some(Event::Game("hello".into())));
    session.datagram("where".into()).unwrap();
    assert_eq!(connection.quinn.read_datagram().await.unwrap(), "where");
    connection.quinn.send_datagram("here".into()).unwrap();
    assert_eq!(events.next().await, Some(Event::Datagram("here".into())));
}

#[tokio::test]
async fn a_lost_connection_loses_no_frame_of_either_side() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    for n in 0..5 {
        session.send(body(n)).await.unwrap();
    }
    connection.games(5).await;
    connection.game(&body(100)).await;
    assert_eq!(events.next().await, Some(Event::Game(body(100))));
    // The last two of the client's frames never reached this gateway's books.
    connection.break_off();
    let mut connection = gateway.accept().await;
    let hello = connection.hello.clone();
    assert_eq!((hello.login_ticket.as_str(), hello.resume_ticket.as_str()), ("", "r1"));
    assert_eq!((hello.received_frames, hello.sent_frames), (1, 5));
    connection.welcome(3, false, "r2").await;
    connection.game(&body(101)).await;
    assert_eq!(connection.games(2).await, [body(3), body(4)]);
    assert!(!resumed(&mut events).await);
    assert_eq!(events.next().await, Some(Event::Game(body(101))));
    // The next absence is announced with the new ticket and the new counts.
    connection.break_off();
    let connection = gateway.accept().await;
    assert_eq!(connection.hello.resume_ticket, "r2");
    assert_eq!((connection.hello.received_frames, connection.hello.sent_frames), (2, 5));
}

/// Both sides say 300 frames over a line that breaks again and again, each time at another point.
#[tokio::test]
async fn every_frame_arrives_once_and_in_order_however_often_the_line_breaks() {
    const COUNT: u32 = 300;
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    let sender = session.clone();
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            sender.send(body(n)).await.unwrap();
        }
    });
    let listening = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < COUNT as usize {
            if let Some(Event::Game(body)) = events.next().await {
                heard.push(body);
            }
        }
        (heard, events)
    });
    let (mut got, mut from, mut turn) = (Vec::new(), 0u32, 1u32);
    loop {
        let upto = (from + 37 * turn % 61).min(COUNT);
        for n in from..upto {
            connection.game(&body(n)).await;
        }
        let take = (29 * turn % 53).min(COUNT - got.len() as u32);
        got.extend(connection.games(take as usize).await);
        connection.say(player::ACK, &v1::Ack { received_frames: got.len() as u64 }).await;
        if listening.is_finished() && got.len() == COUNT as usize {
            break;
        }
        turn += 1;
        connection.break_off();
        connection = gateway.accept().await;
        connection.welcome(got.len() as u64, false, "r").await;
        from = u32::try_from(connection.hello.received_frames).unwrap();
        tokio::task::yield_now().await;
    }
    sending.await.unwrap();
    let all: Vec<Bytes> = (0..COUNT).map(body).collect();
    assert_eq!(got, all);
    assert_eq!(listening.await.unwrap().0, all);
}

#[tokio::test]
async fn a_gateway_that_lost_its_memory_makes_a_gap_and_counting_goes_on() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    for n in 0..3 {
        session.send(body(n)).await.unwrap();
    }
    connection.games(3).await;
    connection.break_off();
    let mut connection = gateway.accept().await;
    connection.welcome(connection.hello.sent_frames, true, "r2").await;
    assert!(resumed(&mut events).await);
    session.send(body(3)).await.unwrap();
    assert_eq!(connection.games(1).await, [body(3)]);
    connection.say(player::ACK, &v1::Ack { received_frames: 4 }).await;
    connection.game(b"all is well").await;
    assert_eq!(events.next().await, Some(Event::Game("all is well".into())));
}

#[tokio::test]
async fn a_move_is_heard_before_the_new_home_and_brings_a_new_ticket() {
    let gateway = Gateway::new();
    let (_session, mut events, mut connection) = playing(&gateway).await;
    connection.game(b"old").await;
    connection.moved(2, "r-moved").await;
    connection.game(b"new").await;
    assert_eq!(events.next().await, Some(Event::Game("old".into())));
    let Some(Event::Moved(moved)) = events.next().await else { panic!("not moved") };
    assert_eq!((moved.home.epoch, moved.cause), (Epoch(2), Cause::Zone));
    assert_eq!((moved.home.environment.as_str(), moved.between), ("eu-1-b", Duration::from_micros(1_500)));
    assert_eq!(events.next().await, Some(Event::Game("new".into())));
    connection.break_off();
    assert_eq!(gateway.accept().await.hello.resume_ticket, "r-moved");
}

#[tokio::test]
async fn a_logout_delivers_what_was_sent_before_it() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    for n in 0..100 {
        session.send(body(n)).await.unwrap();
    }
    let served = async {
        assert_eq!(connection.games(100).await.len(), 100);
        let goodbye = connection.next_but_ack().await.unwrap();
        assert_eq!(goodbye.kind, player::GOODBYE);
        assert_eq!(v1::Goodbye::decode(goodbye.body).unwrap().reason, "logout");
        connection.game(b"last").await;
        connection.goodbye("logout").await;
    };
    let heard = async {
        assert_eq!(events.next().await, Some(Event::Game("last".into())));
        closed(&mut events).await
    };
    let ((), (), last) = tokio::join!(session.logout(), served, heard);
    assert_eq!(last.reason, CloseReason::LoggedOut);
    assert_eq!(session.try_send(body(1)), Err(SendError::Closed));
}

#[tokio::test]
async fn a_logout_survives_a_lost_connection() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    session.send(body(1)).await.unwrap();
    let served = async {
        while connection.next_but_ack().await.unwrap().kind != player::GOODBYE {}
        connection.break_off();
        let mut connection = gateway.accept().await;
        connection.welcome(0, false, "r2").await;
        assert_eq!(connection.games(1).await, [body(1)]);
        assert_eq!(connection.next_but_ack().await.unwrap().kind, player::GOODBYE);
        connection.goodbye("logout").await;
        connection
    };
    let ((), _connection) = tokio::join!(session.logout(), served);
    assert_eq!(closed(&mut events).await.reason, CloseReason::LoggedOut);
}

#[tokio::test]
async fn a_full_window_makes_the_sender_wait_for_an_acknowledgement() {
    let gateway = Gateway::new();
    let (session, _events, mut connection) = playing(&gateway).await;
    let mut sent = 0;
    while session.try_send(body(sent)).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, session.try_send(body(sent))), (256, Err(SendError::Full)));
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.send(body(256)).await }
    });
    assert_eq!(connection.games(256).await.len(), 256);
    assert!(!waiting.is_finished());
    connection.say(player::ACK, &v1::Ack { received_frames: 1 }).await;
    waiting.await.unwrap().unwrap();
    assert_eq!(connection.games(1).await, [body(256)]);
    // The welcome said what is too long.
    assert_eq!(session.try_send(vec![0; 1_001].into()), Err(SendError::TooLong { length: 1_001, limit: 1_000 }));
}

#[tokio::test]
async fn received_frames_are_acknowledged_by_number_and_by_time() {
    let gateway = Gateway::new();
    let (_session, mut events, mut connection) = playing(&gateway).await;
    connection.game(b"one").await;
    assert_eq!(connection.ack().await, 1);
    for n in 0..64 {
        connection.game(&body(n)).await;
        events.next().await.unwrap();
    }
    let first = connection.ack().await;
    assert!(first >= 32, "{first}");
    while connection.ack().await < 65 {}
}

#[tokio::test]
async fn after_a_gap_frames_are_counted_as_the_gateway_numbers_them() {
    let gateway = Gateway::new();
    let (_session, mut events, mut connection) = playing(&gateway).await;
    connection.game(b"one").await;
    assert_eq!(events.next().await, Some(Event::Game("one".into())));
    connection.break_off();
    let mut connection = gateway.accept().await;
    assert_eq!(connection.hello.received_frames, 1);
    // Six frames were lost on the way.
    let message = connection.welcome_message(0, true, "r2");
    connection.say(player::WELCOME, &v1::Welcome { next_frame: 7, ..message }).await;
    assert!(resumed(&mut events).await);
    connection.game(b"eight").await;
    assert_eq!(connection.ack().await, 8);
    connection.break_off();
    assert_eq!(gateway.accept().await.hello.received_frames, 8);
}
