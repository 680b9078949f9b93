//! The books of both sides over a line that breaks again and again: every frame once and in order. And the proof that these
//! books can show a fault: a gateway that lies about one frame is found out.

use bytes::Bytes;
use tidegate_player::{Event, SendError};
use tidegate_proto::frame::player;
use tidegate_proto::v1;

use crate::gateway::Gateway;
use crate::{body, playing, resumed};

/// Frames each way; they fit in the window, so that no acknowledgement is needed.
const COUNT: u32 = 200;

/// One wrong deed of the gateway on one of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Sends a frame again that the client has.
    DownTwice,
    /// Leaves a frame out that the client lacks.
    DownLost,
    /// Asks for a frame again that it has.
    UpTwice,
    /// Says it has a frame that it never read.
    UpLost,
}

/// What the gateway read, and what the player heard.
async fn over_a_breaking_line(lie: Option<Lie>) -> (Vec<Bytes>, Vec<Bytes>) {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    for n in 0..COUNT {
        session.send(body(n)).await.unwrap();
    }
    let listening = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < COUNT as usize {
            match events.next().await {
                Some(Event::Game(body)) => heard.push(body),
                Some(Event::Reconnecting { .. } | Event::Resumed(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        // Whoever stops listening gives the session up; this one is needed for longer.
        (heard, events)
    });
    let (mut read, mut counted, mut from) = (Vec::new(), 0u32, 0u32);
    let mut lie = lie;
    for turn in 1.. {
        let upto = (from + 7 + 13 * turn % 31).min(COUNT);
        for n in from..upto {
            connection.game(&body(n)).await;
        }
        // The rest of what the client wrote on this connection is lost.
        let take = (5 + 11 * turn % 23).min(COUNT - counted);
        read.extend(connection.games(take as usize).await);
        counted += take;
        if counted == COUNT {
            break;
        }
        connection.break_off();
        connection = gateway.accept().await;
        from = u32::try_from(connection.hello.received_frames).unwrap();
        let told = if turn >= 3 && from > 0 { lie.take() } else { None };
        match told {
            Some(Lie::UpTwice) => counted -= 1,
            Some(Lie::UpLost) => counted += 1,
            Some(Lie::DownTwice | Lie::DownLost) | None => {}
        }
        connection.welcome(u64::from(counted), false, "r").await;
        match told {
            Some(Lie::DownTwice) => connection.game(&body(from - 1)).await,
            Some(Lie::DownLost) => from += 1,
            Some(Lie::UpTwice | Lie::UpLost) | None => {}
        }
    }
    assert_eq!(lie, None, "there was no occasion to lie");
    // One last connection stays until the player has heard everything.
    connection.break_off();
    let mut connection = gateway.accept().await;
    connection.welcome(u64::from(counted), false, "r").await;
    for n in u32::try_from(connection.hello.received_frames).unwrap()..COUNT {
        connection.game(&body(n)).await;
    }
    (read, listening.await.unwrap().0)
}

fn all() -> Vec<Bytes> {
    (0..COUNT).map(body).collect()
}

#[tokio::test]
async fn an_honest_gateway_leaves_both_books_exact() {
    assert_eq!(over_a_breaking_line(None).await, (all(), all()));
}

#[tokio::test]
async fn a_frame_twice_or_lost_shows_in_the_books() {
    for (lie, up_is_exact, down_is_exact) in [
        (Lie::DownTwice, true, false),
        (Lie::DownLost, true, false),
        (Lie::UpTwice, false, true),
        (Lie::UpLost, false, true),
    ] {
        let (up, down) = over_a_breaking_line(Some(lie)).await;
        assert_eq!((up == all(), down == all()), (up_is_exact, down_is_exact), "{lie:?}");
    }
}

#[tokio::test]
async fn the_window_is_full_at_64_kib_too() {
    let gateway = Gateway::new();
    let (session, _events, mut connection) = playing(&gateway).await;
    let kilobyte = Bytes::from(vec![7; 1_000]);
    let mut sent = 0;
    while session.try_send(kilobyte.clone()).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, session.try_send(kilobyte.clone())), (65, Err(SendError::Full)));
    connection.games(65).await;
    connection.say(player::ACK, &v1::Ack { received_frames: 1 }).await;
    session.send(kilobyte).await.unwrap();
    assert_eq!(session.try_send(body(1)), Ok(()), "536 bytes were left, and still are");
}

#[tokio::test]
async fn a_gateway_that_counts_less_than_it_acknowledged_makes_a_gap() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    for n in 0..5 {
        session.send(body(n)).await.unwrap();
    }
    connection.games(5).await;
    connection.say(player::ACK, &v1::Ack { received_frames: 4 }).await;
    connection.game(b"after the ack").await;
    assert_eq!(events.next().await, Some(Event::Game("after the ack".into())));
    connection.break_off();
    let mut connection = gateway.accept().await;
    connection.welcome(0, false, "r2").await;
    assert!(resumed(&mut events).await, "a gap, although the gateway does not know it");
    // What was never acknowledged comes again, and counting goes on from the gateway's number.
    assert_eq!(connection.games(1).await, [body(4)]);
    connection.say(player::ACK, &v1::Ack { received_frames: 1 }).await;
    session.send(body(5)).await.unwrap();
    assert_eq!(connection.games(1).await, [body(5)]);
}
