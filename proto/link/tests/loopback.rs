//! Both ends of a link over loopback: order, batching, packing, limits, and who is let in.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidegate_link::accept::Listener;
use tidegate_link::connect::Dialer;
use tidegate_link::pki::{Authority, CA_CERT, Identity, Role};
use tidegate_link::{Event, Link, LinkError, SEND_LIMIT, SendError};
use tidegate_proto::v1::{GatewayToWorld, HeartbeatAck, LinkHello, Park, WorldHello, WorldToGateway, gateway_to_world};
use tidegate_proto::{CloseCode, frame};

type GatewayLink = Link<GatewayToWorld, WorldToGateway>;
type WorldLink = Link<WorldToGateway, GatewayToWorld>;

fn identity(authority: &Authority, dir: &Path, role: Role, id: &str) -> Identity {
    let (cert, key) = authority.issue(&role.tls_name(id), &[]).unwrap().write(dir, id).unwrap();
    Identity::load(&dir.join(CA_CERT), &cert, &key).unwrap()
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn hello() -> LinkHello {
    LinkHello { gateway_id: "gw".into(), realm: "eu-1".into(), lease_ms: 3000, ..LinkHello::default() }
}

async fn pair() -> (GatewayLink, WorldLink) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let listener = Listener::bind(&identity(&authority, dir.path(), Role::World, "s"), local()).unwrap();
    let addr = listener.local_addr();
    let dialer = Dialer::new(&identity(&authority, dir.path(), Role::Gateway, "gw")).unwrap();
    let accepted = tokio::spawn(async move {
        let answer = WorldHello { server_id: "s".into(), ..WorldHello::default() };
        listener.accept().await.unwrap().accept(answer).await.unwrap()
    });
    let (link, answer) = dialer.connect(addr, "s.world.tidegate", hello()).await.unwrap();
    let (world, seen) = accepted.await.unwrap();
    assert_eq!((answer.server_id.as_str(), seen.gateway_id.as_str(), seen.streams), ("s", "gw", 4));
    (link, world)
}

fn park(handle: u32) -> GatewayToWorld {
    GatewayToWorld { message: Some(gateway_to_world::Message::Park(Park { handle })) }
}

/// Sends, and waits for room instead of giving up: what a test's load may do, and a gateway must not.
async fn patiently(mut send: impl FnMut() -> Result<(), SendError>) {
    loop {
        match send() {
            Ok(()) => return,
            Err(SendError::Full) => tokio::task::yield_now().await,
            Err(SendError::Closed) => panic!("link closed"),
        }
    }
}

#[tokio::test]
async fn frames_and_control_of_a_handle_keep_their_order_and_share_writes() {
    const HANDLES: u32 = 50;
    const ROUNDS: u32 = 1_000;
    let (gateway, mut world) = pair().await;
    let sender = gateway.sender.clone();
    tokio::spawn(async move {
        for round in 0..ROUNDS {
            for handle in 0..HANDLES {
                let body = Bytes::copy_from_slice(&round.to_be_bytes());
                patiently(|| sender.game(handle, &body)).await;
                if round % 10 == 0 {
                    patiently(|| sender.control(handle, park(handle))).await;
                }
            }
            // One tick's worth is queued; now the writers have their turn.
            tokio::task::yield_now().await;
        }
    });
    let mut next = vec![0u32; HANDLES as usize];
    let mut parks = vec![0u32; HANDLES as usize];
    let mut batch = Vec::new();
    while next.iter().any(|n| *n < ROUNDS) {
        world.receiver.recv(&mut batch).await.expect("open");
        for event in batch.drain(..) {
            match event {
                Event::Game { handle, body } => {
                    assert_eq!(u32::from_be_bytes(body[..].try_into().unwrap()), next[handle as usize]);
                    next[handle as usize] += 1;
                }
                Event::Control { stream, message } => {
                    let Some(gateway_to_world::Message::Park(Park { handle })) = message.message else { panic!() };
                    assert_eq!(stream, handle % 4);
                    assert_eq!(next[handle as usize], parks[handle as usize] * 10 + 1, "control keeps its place");
                    parks[handle as usize] += 1;
                }
                Event::Datagram { .. } => panic!("none was sent"),
            }
        }
    }
    let stats = gateway.sender.stats();
    assert_eq!(stats.frames, u64::from(HANDLES * (ROUNDS + ROUNDS / 10)));
    assert!(stats.writes * 5 < stats.frames, "{stats:?}");
}

#[tokio::test]
async fn datagrams_of_many_sessions_share_packets() {
    let (mut gateway, world) = pair().await;
    for handle in 0..500u32 {
        world.sender.datagram(handle, &Bytes::from(vec![handle as u8; 20])).unwrap();
    }
    let mut got = 0;
    let mut batch = Vec::new();
    while got < 500 {
        gateway.receiver.recv(&mut batch).await.expect("open");
        for event in batch.drain(..) {
            let Event::Datagram { handle, payload } = event else { panic!() };
            assert_eq!(payload, vec![handle as u8; 20]);
            got += 1;
        }
    }
    let stats = world.sender.stats();
    assert_eq!((stats.messages, stats.dropped), (500, 0));
    assert!(stats.datagrams <= 12, "{stats:?}");
    world.sender.datagram(1, &Bytes::from(vec![0; 60_000])).unwrap();
    assert_eq!(world.sender.stats().dropped, 1, "it fits no datagram");
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_noticed_before_memory_grows() {
    let (gateway, world) = pair().await;
    let body = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0usize;
    let error = loop {
        match gateway.sender.game(1, &body) {
            Ok(()) => sent += body.len(),
            Err(error) => {
                // Full only counts once the connection takes no more either.
                let before = gateway.sender.queued_bytes();
                tokio::time::sleep(Duration::from_millis(200)).await;
                if gateway.sender.queued_bytes() == before {
                    break error;
                }
            }
        }
        assert!(sent < 100 * 1024 * 1024, "memory grows without a limit");
    };
    assert_eq!(error, SendError::Full);
    assert!(gateway.sender.queued_bytes() <= SEND_LIMIT + body.len() + 16);
    gateway.sender.close(CloseCode::TooSlow, "stopped reading");
    let closed = world.sender.closed().await;
    assert_eq!((closed.code, closed.by_peer), (Some(CloseCode::TooSlow as u64), true));
    assert_eq!(gateway.sender.game(1, &body), Err(SendError::Closed));
}

#[tokio::test]
async fn an_oversized_frame_closes_the_link() {
    let (gateway, mut world) = pair().await;
    gateway.sender.game(1, &Bytes::from(vec![0; frame::MAX_LINK_BODY])).unwrap();
    let closed = gateway.sender.closed().await;
    assert_eq!((closed.code, closed.by_peer), (Some(CloseCode::FrameTooLong as u64), true));
    assert_eq!(world.receiver.recv(&mut Vec::new()).await, None);
}

#[tokio::test]
async fn finishing_delivers_all_that_was_queued() {
    let (gateway, mut world) = pair().await;
    for i in 0..2_000u32 {
        gateway.sender.game(i % 7, &Bytes::from(vec![1; 500])).unwrap();
    }
    let reader = tokio::spawn(async move {
        let (mut count, mut batch) = (0, Vec::new());
        while let Some(n) = world.receiver.recv(&mut batch).await {
            count += n;
            batch.clear();
        }
        count
    });
    gateway.sender.finish(CloseCode::Done, "bye", Duration::from_secs(5)).await;
    assert_eq!(reader.await.unwrap(), 2_000);
    assert_eq!(gateway.sender.control(0, park(1)), Err(SendError::Closed));
}

#[tokio::test]
async fn dropping_the_receiver_closes_the_link() {
    let (gateway, mut world) = pair().await;
    drop(gateway.receiver);
    assert_eq!(world.receiver.recv(&mut Vec::new()).await, None);
    assert_eq!(world.sender.closed().await.code, Some(CloseCode::Done as u64));
}

/// Listens as a world server of `server_dir`'s authority and dials with the given identity; how the dialler fares.
async fn refused(world: Identity, dialler: Identity, tls_name: &str) -> LinkError {
    let listener = Listener::bind(&world, local()).unwrap();
    let addr = listener.local_addr();
    let accepting = tokio::spawn(async move {
        let outcome = listener.accept().await.unwrap().accept(WorldHello::default()).await.map(|_| ());
        assert!(outcome.is_err(), "the listener let it in");
        listener.wait_idle().await;
    });
    let error = Dialer::new(&dialler).unwrap().connect(addr, tls_name, hello()).await.map(|_| ()).unwrap_err();
    accepting.await.unwrap();
    error
}

#[tokio::test]
async fn another_authority_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let our_ca = Authority::open_or_create(ours.path()).unwrap();
    let their_ca = Authority::open_or_create(theirs.path()).unwrap();
    let world = identity(&our_ca, ours.path(), Role::World, "s");
    // A stranger who trusts us, but whom we do not know.
    let (cert, key) = their_ca.issue("x.gateway.tidegate", &[]).unwrap().write(theirs.path(), "x").unwrap();
    let stranger = Identity::load(&ours.path().join(CA_CERT), &cert, &key).unwrap();
    let error = refused(world.clone(), stranger, "s.world.tidegate").await;
    assert!(matches!(error, LinkError::Lost(_)), "{error}");
    // And one who does not trust us.
    let suspicious = identity(&their_ca, theirs.path(), Role::Gateway, "y");
    assert!(matches!(refused(world, suspicious, "s.world.tidegate").await, LinkError::Lost(_)));
}

#[tokio::test]
async fn only_gateways_may_dial_and_only_the_right_server_answers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let world = identity(&authority, dir.path(), Role::World, "s");
    let other_world = identity(&authority, dir.path(), Role::World, "t");
    assert!(matches!(refused(world.clone(), other_world, "s.world.tidegate").await, LinkError::Lost(_)));
    let gateway = identity(&authority, dir.path(), Role::Gateway, "gw");
    assert!(matches!(refused(world, gateway, "t.world.tidegate").await, LinkError::Lost(_)));
}

#[tokio::test]
async fn a_wrong_address_ends_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path()).unwrap();
    let dialer = Dialer::new(&identity(&authority, dir.path(), Role::Gateway, "gw")).unwrap();
    // A socket that nobody reads.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let outcome = dialer.connect(silent.local_addr().unwrap(), "s.world.tidegate", hello()).await;
    assert!(matches!(outcome.map(|_| ()).unwrap_err(), LinkError::Timeout));
}

#[tokio::test]
async fn a_control_message_reaches_the_world_on_stream_0() {
    let (gateway, mut world) = pair().await;
    let ack = GatewayToWorld { message: Some(gateway_to_world::Message::HeartbeatAck(HeartbeatAck { sequence: 9 })) };
    gateway.sender.control(0, ack.clone()).unwrap();
    let mut batch = Vec::new();
    assert_eq!(world.receiver.recv(&mut batch).await, Some(1));
    assert_eq!(batch, [Event::Control { stream: 0, message: ack }]);
}
