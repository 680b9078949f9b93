//! Networks that change under a session.

use std::time::Duration;

use bytes::Bytes;
use tidegate_player::Event;
use tidegate_proto::frame::player;
use tidegate_proto::v1;

use crate::gateway::Gateway;
use crate::line::Line;
use crate::{body, playing, playing_through, resumed};

/// Frames each way.
const COUNT: u32 = 300;
/// The network changes after so many of them.
const EVERY: u32 = 60;

#[tokio::test]
async fn a_session_goes_on_when_its_network_changes_in_the_middle_of_play() {
    let gateway = Gateway::new();
    let (session, mut events, mut connection) = playing(&gateway).await;
    let sending = tokio::spawn({
        let session = session.clone();
        async move {
            for n in 0..COUNT {
                if n % EVERY == EVERY / 2 {
                    session.network_changed().unwrap();
                }
                session.send(body(n)).await.unwrap();
            }
        }
    });
    let listening = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < COUNT as usize {
            match events.next().await {
                Some(Event::Game(body)) => heard.push(body),
                other => panic!("the owner heard of it: {other:?}"),
            }
        }
        (heard, events)
    });
    let before = connection.quinn.remote_address();
    let mut read = Vec::new();
    for n in 0..COUNT {
        connection.game(&body(n)).await;
        read.extend(connection.games(1).await);
        connection.say(player::ACK, &v1::Ack { received_frames: read.len() as u64 }).await;
    }
    sending.await.unwrap();
    let all: Vec<Bytes> = (0..COUNT).map(body).collect();
    assert_eq!((read, listening.await.unwrap().0), (all.clone(), all));
    assert_ne!(connection.quinn.remote_address(), before, "the same connection, from another port");
}

#[tokio::test]
async fn a_session_whose_way_is_forgotten_comes_back_through_a_new_socket() {
    let gateway = Gateway::new();
    let line = Line::to(gateway.address).await;
    let mut config = gateway.config();
    config.gateway = vec![line.address];
    config.keep_alive = Duration::from_millis(50);
    config.silence = Duration::from_millis(300);
    let (session, mut events, _connection) = playing_through(&gateway, &gateway.client(), config).await;
    assert_eq!(line.clients(), 1);
    line.forget();
    session.send(body(1)).await.unwrap();
    // From the old port nothing gets through any more, whatever it is.
    let mut connection = gateway.accept().await;
    assert_eq!(line.clients(), 2);
    connection.welcome(0, false, "r2").await;
    assert!(!resumed(&mut events).await);
    assert_eq!(connection.games(1).await, [body(1)]);
}
