//! A world server played by the test: keeps a log of each player's frames, echoes them, and hands both over.
//!
//! The log *is* the player's state: whoever holds a player at the end must have every frame, once and in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate_link::accept::Listener;
use tidegate_link::{Event, Link, Sender};
use tidegate_proto::v1::gateway_to_world::Message as In;
use tidegate_proto::v1::world_to_gateway::Message as Out;
use tidegate_proto::v1::{self, GatewayToWorld, WorldToGateway};
use tidegate_window::{Backlog, Limits};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::gateway::TestGateway;

/// What a world server does wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) refuse_prepare: bool,
    pub(crate) refuse_freeze: bool,
    /// Says nothing to `Prepare`.
    pub(crate) ignore_prepare: bool,
    /// Answers `Prepare` so much later.
    pub(crate) slow_prepare: Option<Duration>,
}

/// A player as the world knows it.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) player: String,
    pub(crate) session: Vec<u8>,
    pub(crate) epoch: u64,
    pub(crate) live: bool,
    pub(crate) parked: bool,
    /// The frames received, as text.
    pub(crate) log: Vec<String>,
    /// How many, in this session.
    pub(crate) up: u64,
    /// What was sent and not acknowledged.
    pub(crate) down: Backlog,
}

fn backlog(channel: &v1::Channel) -> Backlog {
    let mut down = Backlog::new(Limits { frames: 10_000, bytes: 10_000_000 });
    down.adopt(channel.down, channel.frames.iter().map(|frame| &frame[..]));
    down
}

struct Shared {
    id: String,
    environment: String,
    zones: Vec<String>,
    instance: Vec<u8>,
    address: SocketAddr,
    dead: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seats: HashMap<u32, Seat>,
    /// Logs by player, as a realm database would keep them.
    saved: HashMap<String, Vec<String>>,
    datagrams: Vec<String>,
    links: usize,
    senders: Vec<Sender<WorldToGateway>>,
    faults: Faults,
    heard: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct FakeWorld {
    shared: Arc<Shared>,
}

impl FakeWorld {
    pub(crate) async fn start(gateway: &TestGateway, id: &str, zones: &[&str]) -> Self {
        Self::start_in(gateway, "blue", id, zones).await
    }

    pub(crate) async fn start_in(gateway: &TestGateway, environment: &str, id: &str, zones: &[&str]) -> Self {
        let identity = gateway.world_identity(id);
        let listener = Listener::bind(&identity, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let shared = Arc::new(Shared {
            id: id.into(),
            environment: environment.into(),
            zones: zones.iter().map(|z| (*z).into()).collect(),
            instance: Uuid::new_v4().as_bytes().to_vec(),
            address: listener.local_addr(),
            dead: CancellationToken::new(),
            state: Mutex::default(),
        });
        let world = Self { shared };
        let accepting = world.clone();
        tokio::spawn(async move {
            loop {
                let incoming = tokio::select! {
                    incoming = listener.accept() => incoming,
                    () = accepting.shared.dead.cancelled() => None,
                };
                let Some(incoming) = incoming else { break };
                let world = accepting.clone();
                let hello = v1::WorldHello {
                    server_id: world.shared.id.clone(),
                    server_instance: world.shared.instance.clone(),
                    environment_id: world.shared.environment.clone(),
                    build: "1.9.0".into(),
                };
                tokio::spawn(async move {
                    if let Ok((link, _)) = incoming.accept(hello).await {
                        world.serve(link).await;
                    }
                });
            }
        });
        world
    }

    pub(crate) fn id(&self) -> &str {
        &self.shared.id
    }
    pub(crate) fn instance(&self) -> Vec<u8> {
        self.shared.instance.clone()
    }
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }
    pub(crate) fn zones(&self) -> Vec<String> {
        self.shared.zones.clone()
    }
    pub(crate) fn links(&self) -> usize {
        self.shared.state.lock().unwrap().links
    }
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.shared.state.lock().unwrap().faults = faults;
    }
    pub(crate) fn datagrams(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().datagrams.clone()
    }
    /// Words of the control messages heard, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().heard.clone()
    }

    /// Dies with all it holds.
    pub(crate) fn kill(&self) {
        self.shared.dead.cancel();
    }

    /// The seat of a player, with its handle.
    pub(crate) fn seat(&self, player: &str) -> Option<(u32, Seat)> {
        let state = self.shared.state.lock().unwrap();
        state.seats.iter().find(|(_, seat)| seat.player == player).map(|(handle, seat)| (*handle, seat.clone()))
    }

    /// The player walks into another zone.
    pub(crate) fn transfer(&self, player: &str, zone: &str) {
        let (handle, _) = self.seat(player).expect("the player is here");
        let to = Some(v1::Place { zone: zone.into(), instance: String::new() });
        let transfer = v1::Transfer { handles: vec![handle], to, cause: v1::Cause::Zone.into() };
        self.say(handle, Out::Transfer(transfer));
    }

    /// Something unreliable for the player.
    pub(crate) fn datagram(&self, player: &str, text: &str) {
        let (handle, _) = self.seat(player).expect("the player is here");
        let senders = self.shared.state.lock().unwrap().senders.clone();
        senders.last().unwrap().datagram(handle, &Bytes::copy_from_slice(text.as_bytes())).unwrap();
    }

    /// A reliable frame for the player.
    pub(crate) fn game(&self, player: &str, body: &[u8]) {
        let (handle, _) = self.seat(player).expect("the player is here");
        let senders = self.shared.state.lock().unwrap().senders.clone();
        senders.last().unwrap().game(handle, &Bytes::copy_from_slice(body)).unwrap();
    }

    fn say(&self, handle: u32, message: Out) {
        let senders = self.shared.state.lock().unwrap().senders.clone();
        senders.last().unwrap().control(handle, WorldToGateway { message: Some(message) }).unwrap();
    }

    async fn serve(&self, link: Link<WorldToGateway, GatewayToWorld>) {
        let Link { sender, mut receiver } = link;
        let send = |handle: u32, message: Out| {
            // The gateway may be gone; the test will see that elsewhere.
            let _ = sender.control(handle, WorldToGateway { message: Some(message) });
        };
        let residents: Vec<Seat> = {
            let mut state = self.shared.state.lock().unwrap();
            state.links += 1;
            state.senders.push(sender.clone());
            state.seats.drain().map(|(_, seat)| seat).collect()
        };
        for seat in &residents {
            let resident = v1::Resident {
                session_id: seat.session.clone(),
                player: seat.player.clone(),
                character: format!("{}-hero", seat.player),
                epoch: seat.epoch,
                zone: self.shared.zones[0].clone(),
                ..Default::default()
            };
            send(0, Out::Resident(resident));
        }
        send(0, Out::RosterEnd(v1::RosterEnd::default()));
        // Kept by player until the gateway takes them up under new handles.
        let mut parked: HashMap<String, Seat> = residents.into_iter().map(|s| (s.player.clone(), s)).collect();
        let mut beat = tokio::time::interval(Duration::from_millis(750));
        let (mut batch, mut sequence) = (Vec::new(), 0);
        loop {
            tokio::select! {
                got = receiver.recv(&mut batch) => if got.is_none() { break },
                () = self.shared.dead.cancelled() => break,
                _ = beat.tick() => {
                    sequence += 1;
                    send(0, Out::Heartbeat(v1::Heartbeat { sequence, players: 0 }));
                }
            }
            for event in batch.drain(..) {
                match event {
                    Event::Game { handle, body } => {
                        let text = String::from_utf8_lossy(&body).into_owned();
                        let mut received = 0;
                        if let Some(seat) = self.shared.state.lock().unwrap().seats.get_mut(&handle) {
                            assert!(seat.live, "a frame for a player who is not live here: {text}");
                            seat.log.push(text);
                            seat.up += 1;
                            seat.down.push(&body);
                            received = seat.up;
                        }
                        let _ = sender.game(handle, &body);
                        let frames = v1::FramesReceived { handles: vec![handle], counts: vec![received] };
                        send(handle, Out::FramesReceived(frames));
                    }
                    Event::Datagram { payload, .. } => {
                        let text = String::from_utf8_lossy(&payload).into_owned();
                        self.shared.state.lock().unwrap().datagrams.push(text);
                    }
                    Event::Control { message, .. } => {
                        let Some(message) = message.message else { continue };
                        let Some((handle, answer)) = self.control(message, &mut parked) else { continue };
                        let again = match &answer {
                            Out::Attached(attached) => {
                                let from = attached.channel.as_ref().map_or(0, |channel| channel.down);
                                self.shared.state.lock().unwrap().seats.get(&handle).map(|seat| seat.down.from(from))
                            }
                            _ => None,
                        };
                        let slow = self.shared.state.lock().unwrap().faults.slow_prepare;
                        if let (Out::Prepared(_), Some(pause)) = (&answer, slow) {
                            let sender = sender.clone();
                            tokio::spawn(async move {
                                tokio::time::sleep(pause).await;
                                let _ = sender.control(handle, WorldToGateway { message: Some(answer) });
                            });
                        } else {
                            send(handle, answer);
                            for frame in again.into_iter().flatten() {
                                let _ = sender.game(handle, &frame);
                            }
                        }
                    }
                }
            }
        }
        let mut state = self.shared.state.lock().unwrap();
        state.links -= 1;
        for seat in state.seats.values_mut() {
            seat.parked = true;
        }
    }

    fn control(&self, message: In, parked: &mut HashMap<String, Seat>) -> Option<(u32, Out)> {
        let mut state = self.shared.state.lock().unwrap();
        let word = format!("{message:?}");
        state.heard.push(word.split(['(', ' ']).next().unwrap_or_default().to_owned());
        let place = Some(v1::Place { zone: self.shared.zones[0].clone(), instance: String::new() });
        let refused = v1::RefusalReason::Game.into();
        match message {
            In::Attach(m) => {
                let identity = m.identity.unwrap();
                let asked = m.channel.unwrap_or_default();
                // On this handle (another client came), or from before the link broke.
                let held = parked.remove(&identity.player).or_else(|| state.seats.remove(&m.handle));
                let saved = || state.saved.get(&identity.player).cloned().unwrap_or_default();
                let is_new = held.is_none();
                let (log, up, down) = match held {
                    Some(seat) if !asked.restart => (seat.log, seat.up, seat.down),
                    Some(seat) => (seat.log, asked.up, backlog(&asked)),
                    None => (saved(), asked.up, backlog(&asked)),
                };
                // To a new home the gateway says what it has itself: none of that is sent again.
                let first = if is_new { down.total() } else { asked.down.max(down.base()) };
                let channel = v1::Channel { up, down: first, ..Default::default() };
                let seat = Seat {
                    up,
                    down,
                    player: identity.player,
                    session: identity.session_id,
                    epoch: m.epoch,
                    live: true,
                    parked: false,
                    log,
                };
                state.seats.insert(m.handle, seat);
                let attached = v1::Attached {
                    handle: m.handle,
                    epoch: m.epoch,
                    place,
                    channel: Some(channel),
                    ..Default::default()
                };
                Some((m.handle, Out::Attached(attached)))
            }
            In::Park(m) => {
                state.seats.get_mut(&m.handle).unwrap().parked = true;
                None
            }
            In::Unpark(m) => {
                state.seats.get_mut(&m.handle).unwrap().parked = false;
                None
            }
            In::Leave(m) => {
                if let Some(seat) = state.seats.remove(&m.handle) {
                    state.saved.insert(seat.player, seat.log);
                }
                Some((m.handle, Out::Left(v1::Left { handle: m.handle })))
            }
            In::Freeze(m) if state.faults.refuse_freeze => {
                let refused = v1::FreezeRefused { handle: m.handle, reason: refused, message: "no".into() };
                Some((m.handle, Out::FreezeRefused(refused)))
            }
            In::Freeze(m) => {
                let seat = state.seats.get_mut(&m.handle).unwrap();
                seat.live = false;
                let blob = Bytes::from(seat.log.join("\n"));
                let digest = blake3::hash(&blob).as_bytes().to_vec();
                let frozen = v1::Frozen { handle: m.handle, epoch: m.epoch, state: blob, format: 1, digest };
                Some((m.handle, Out::Frozen(frozen)))
            }
            In::Thaw(m) => {
                state.seats.get_mut(&m.handle).unwrap().live = true;
                Some((m.handle, Out::Thawed(v1::Thawed { handle: m.handle })))
            }
            In::Release(m) => {
                state.seats.remove(&m.handle);
                Some((m.handle, Out::Released(v1::Released { handle: m.handle })))
            }
            In::Prepare(_) if state.faults.ignore_prepare => None,
            In::Prepare(m) if state.faults.refuse_prepare => {
                let refused = v1::PrepareRefused { handle: m.handle, reason: refused, message: "no".into() };
                Some((m.handle, Out::PrepareRefused(refused)))
            }
            In::Prepare(m) => {
                let identity = m.identity.unwrap();
                assert_eq!(blake3::hash(&m.state).as_bytes()[..], m.digest[..]);
                let text = String::from_utf8(m.state.to_vec()).unwrap();
                let log = text.split('\n').filter(|l| !l.is_empty()).map(Into::into).collect();
                let channel = m.channel.unwrap_or_default();
                let seat = Seat {
                    up: channel.up,
                    down: backlog(&channel),
                    player: identity.player,
                    session: identity.session_id,
                    epoch: m.epoch,
                    live: false,
                    parked: false,
                    log,
                };
                state.seats.insert(m.handle, seat);
                Some((m.handle, Out::Prepared(v1::Prepared { handle: m.handle })))
            }
            In::Activate(m) => {
                state.seats.get_mut(&m.handle).unwrap().live = true;
                Some((m.handle, Out::Activated(v1::Activated { handle: m.handle, epoch: m.epoch, place })))
            }
            In::Abort(m) => {
                state.seats.remove(&m.handle);
                Some((m.handle, Out::Aborted(v1::Aborted { handle: m.handle })))
            }
            In::FramesReceived(m) => {
                for (handle, count) in m.handles.iter().zip(&m.counts) {
                    if let Some(seat) = state.seats.get_mut(handle) {
                        seat.down.acknowledge(*count);
                    }
                }
                None
            }
            In::Find(m) => Some((0, Out::Found(v1::Found { id: m.id, resident: None }))),
            In::Hello(_) | In::HeartbeatAck(_) | In::Notice(_) | In::Owner(_) | In::TransferRefused(_) => None,
        }
    }
}
