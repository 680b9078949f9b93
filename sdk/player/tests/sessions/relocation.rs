//! Sessions that are asked to move to another gateway: make before break.

use bytes::Bytes;
use tidegate_player::{ClientConfig, CloseReason, Event, Events, Session};
use tidegate_proto::frame::player;
use tidegate_proto::{CloseCode, v1};

use crate::gateway::{Connection, Gateway, client_of};
use crate::{body, closed, playing_through};

/// Time enough for everything that is to happen within it, on any machine.
const WITHIN_MS: u32 = 60_000;

/// A player at the first of these, who trusts all of them and is configured with the first alone.
async fn at_first_of(gateways: &[&Gateway]) -> (Session, Events, Connection) {
    let config: ClientConfig = gateways[0].config();
    playing_through(gateways[0], &client_of(gateways), config).await
}

async fn relocating(events: &mut Events) {
    assert!(matches!(events.next().await, Some(Event::Relocating { .. })));
}

async fn relocated(events: &mut Events) {
    match events.next().await {
        Some(Event::Relocated(welcome)) => assert!(!welcome.gap),
        other => panic!("not relocated: {other:?}"),
    }
}

async fn hears(events: &mut Events, n: u32) {
    assert_eq!(events.next().await, Some(Event::Game(body(n))));
}

#[tokio::test]
async fn a_session_plays_on_until_the_other_gateway_has_its_hello_and_not_a_frame_longer() {
    let (old, new) = (Gateway::new(), Gateway::new());
    let (session, mut events, mut connection) = at_first_of(&[&old, &new]).await;
    connection.relocate(&[&new], WITHIN_MS).await;
    relocating(&mut events).await;
    // The new gateway does not accept yet: play goes on, both ways.
    for n in 0..3 {
        session.send(body(n)).await.unwrap();
        connection.game(&body(100 + n)).await;
        hears(&mut events, 100 + n).await;
    }
    assert_eq!(connection.games(3).await.len(), 3);
    let mut other = new.accept().await;
    assert_eq!((other.hello.resume_ticket.as_str(), other.hello.login_ticket.as_str()), ("r1", ""));
    assert_eq!((other.hello.received_frames, other.hello.sent_frames), (3, 3));
    // What the old one says and the player says now is neither heard nor sent there.
    connection.game(b"after the hello").await;
    session.send(body(3)).await.unwrap();
    assert!(session.datagram("where".into()).is_err());
    other.welcome(2, false, "r2").await;
    relocated(&mut events).await;
    assert_eq!(other.games(2).await, [body(2), body(3)]);
    other.game(&body(103)).await;
    hears(&mut events, 103).await;
    session.datagram("here".into()).unwrap();
    assert_eq!(other.quinn.read_datagram().await.unwrap(), "here");
    assert_eq!(connection.closed_with().await, CloseCode::Done as u64);
    while let Some(frame) = connection.next().await {
        assert_eq!(frame.kind, player::ACK, "no goodbye, no game");
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_leaves_the_session_where_it_plays() {
    let (old, refusing, new) = (Gateway::new(), Gateway::new(), Gateway::new());
    let (session, mut events, mut connection) = at_first_of(&[&old, &refusing, &new]).await;
    connection.relocate(&[&refusing, &new], WITHIN_MS).await;
    relocating(&mut events).await;
    let mut other = refusing.accept().await;
    assert_eq!(other.hello.received_frames, 0);
    connection.game(&body(100)).await;
    session.send(body(0)).await.unwrap();
    // Even a word that would end a session that has no other connection.
    other.refuse("resume_unknown", 0).await;
    hears(&mut events, 100).await;
    assert_eq!(connection.games(1).await, [body(0)]);
    let mut other = new.accept().await;
    assert_eq!((other.hello.received_frames, other.hello.sent_frames), (1, 1));
    other.welcome(1, false, "r2").await;
    relocated(&mut events).await;
}

#[tokio::test]
async fn a_gateway_that_dies_while_another_is_sought_is_a_lost_connection() {
    let (old, new) = (Gateway::new(), Gateway::new());
    let (_session, mut events, mut connection) = at_first_of(&[&old, &new]).await;
    connection.relocate(&[&new], WITHIN_MS).await;
    relocating(&mut events).await;
    connection.goodbye("shutdown").await;
    drop(old);
    let mut other = new.accept().await;
    other.welcome(0, false, "r2").await;
    match events.next().await {
        Some(Event::Reconnecting { .. }) => assert!(matches!(events.next().await, Some(Event::Resumed(_)))),
        // The handshake may have been done when the goodbye came.
        other => assert!(matches!(other, Some(Event::Relocated(_))), "{other:?}"),
    }
}

#[tokio::test]
async fn when_the_time_is_over_the_connection_counts_as_lost() {
    let old = Gateway::new();
    let (_session, mut events, mut connection) = at_first_of(&[&old]).await;
    connection.relocate(&[], 50).await;
    relocating(&mut events).await;
    match events.next().await {
        Some(Event::Reconnecting { why }) => assert!(why.contains("in time"), "{why}"),
        other => panic!("{other:?}"),
    }
    // There is nobody else to ask.
    let mut connection = old.accept().await;
    connection.welcome(0, false, "r2").await;
    assert!(matches!(events.next().await, Some(Event::Resumed(_))));
}

#[tokio::test]
async fn a_hello_that_was_given_up_may_still_take_the_session_and_is_followed() {
    let (old, slow) = (Gateway::new(), Gateway::new());
    let (_session, mut events, mut connection) = at_first_of(&[&old, &slow]).await;
    connection.relocate(&[&slow], WITHIN_MS).await;
    relocating(&mut events).await;
    let mut other = slow.accept().await;
    connection.game(&body(100)).await;
    other.say(player::HOLD, &v1::Hold { place: 0, reason: "directory".into() }).await;
    // No welcome: play goes on at the old gateway.
    hears(&mut events, 100).await;
    // The slow one has acted on the hello after all.
    connection.goodbye("moved").await;
    let mut other = slow.accept().await;
    assert_eq!((other.hello.resume_ticket.as_str(), other.hello.received_frames), ("r1", 1));
    other.welcome(0, false, "r2").await;
    assert!(!crate::resumed(&mut events).await);
}

#[tokio::test]
async fn moved_by_nobodys_wish_is_the_end() {
    let old = Gateway::new();
    let (_session, mut events, mut connection) = at_first_of(&[&old]).await;
    connection.goodbye("moved").await;
    assert_eq!(closed(&mut events).await.reason, CloseReason::Replaced);
}

#[tokio::test]
async fn whoever_is_logging_out_does_not_move_any_more() {
    let (old, new) = (Gateway::new(), Gateway::new());
    let (session, mut events, mut connection) = at_first_of(&[&old, &new]).await;
    let served = async {
        assert_eq!(connection.next_but_ack().await.unwrap().kind, player::GOODBYE);
        connection.relocate(&[&new], 0).await;
        connection.goodbye("logout").await;
    };
    tokio::join!(session.logout(), served);
    match events.next().await {
        Some(Event::Closed(closed)) => assert_eq!(closed.reason, CloseReason::LoggedOut),
        other => panic!("{other:?}"),
    }
}

/// Frames each way.
const COUNT: u32 = 200;

/// To and fro between two gateways in front of one world; at every move frames are on their way in both directions.
#[tokio::test]
async fn every_frame_arrives_once_and_in_order_however_often_a_session_moves() {
    let gateways = [Gateway::new(), Gateway::new()];
    let (session, mut events, mut connection) = at_first_of(&[&gateways[0], &gateways[1]]).await;
    for n in 0..COUNT {
        session.send(body(n)).await.unwrap();
    }
    let listening = tokio::spawn(async move {
        let (mut heard, mut moves) = (Vec::new(), 0);
        while heard.len() < COUNT as usize {
            match events.next().await {
                Some(Event::Game(body)) => heard.push(body),
                Some(Event::Relocated(_)) => moves += 1,
                Some(Event::Relocating { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        (heard, moves, events)
    });
    let (mut world, mut said) = (Vec::new(), 0u32);
    for turn in 1..=4u32 {
        let next = &gateways[turn as usize % 2];
        connection.relocate(&[next], WITHIN_MS).await;
        for n in said..said + 30 {
            connection.game(&body(n)).await;
        }
        // The rest of what the client wrote here never reaches the world.
        world.extend(connection.games(25).await);
        let mut other = next.accept().await;
        // Too late: it is said again by the other one.
        connection.game(b"too late").await;
        said = u32::try_from(other.hello.received_frames).unwrap();
        other.welcome(world.len() as u64, false, "r").await;
        connection = other;
    }
    for n in said..COUNT {
        connection.game(&body(n)).await;
    }
    world.extend(connection.games(COUNT as usize - world.len()).await);
    let all: Vec<Bytes> = (0..COUNT).map(body).collect();
    let (heard, moves, _events) = listening.await.unwrap();
    assert_eq!((world, heard, moves), (all.clone(), all, 4));
}

#[tokio::test]
async fn a_relocation_out_of_line_is_followed_too() {
    let (old, new) = (Gateway::new(), Gateway::new());
    let (_session, mut events, connection) = at_first_of(&[&old, &new]).await;
    connection.break_off();
    let mut connection = old.accept().await;
    connection.say(player::HOLD, &v1::Hold { place: 0, reason: "directory".into() }).await;
    connection.relocate(&[&new], WITHIN_MS).await;
    let mut other = new.accept().await;
    other.welcome(0, false, "r2").await;
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(Event::Resumed(_))) {
        heard.push(events.next().await.unwrap());
    }
    assert!(matches!(
        heard[..],
        [Event::Reconnecting { .. }, Event::Hold(_), Event::Relocating { .. }, Event::Resumed(_)]
    ));
}
