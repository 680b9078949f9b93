//! Sessions against a gateway that follows a script: everything that a gateway may say, and what the client makes of it.

mod away;
mod books;
mod failover;
mod frames;
mod gateway;
mod life;
mod line;
mod network;
mod relocation;

use std::sync::Arc;

use bytes::Bytes;
use gateway::{Connection, Gateway};
use tidegate_player::{ClientConfig, Closed, Event, Events, PlayerEndpoint, Session};
use tidegate_types::Cause;

/// A player in play, seen from both sides.
pub(crate) async fn playing(gateway: &Gateway) -> (Session, Events, Connection) {
    playing_through(gateway, &gateway.client(), gateway.config()).await
}

/// As [`playing`], with a client of the test's own.
pub(crate) async fn playing_through(
    gateway: &Gateway,
    client: &PlayerEndpoint,
    config: ClientConfig,
) -> (Session, Events, Connection) {
    let served = async {
        let mut connection = gateway.accept().await;
        connection.welcome(0, false, "r1").await;
        connection
    };
    let (connected, connection) = tokio::join!(client.connect(Arc::new(config), "t".into()), served);
    let (session, mut events) = connected.unwrap();
    assert!(matches!(events.next().await, Some(Event::Welcome(_))));
    (session, events, connection)
}

/// The session's last word.
pub(crate) async fn closed(events: &mut Events) -> Closed {
    loop {
        match events.next().await {
            Some(Event::Closed(closed)) => return closed,
            Some(_) => {}
            None => panic!("no last word"),
        }
    }
}

/// The session comes back; whether with a gap.
pub(crate) async fn resumed(events: &mut Events) -> bool {
    assert!(matches!(events.next().await, Some(Event::Reconnecting { .. })));
    match events.next().await {
        Some(Event::Resumed(welcome)) => {
            assert_eq!(welcome.cause, Cause::Resume);
            welcome.gap
        }
        other => panic!("not resumed: {other:?}"),
    }
}

pub(crate) fn body(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}
