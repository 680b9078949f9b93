//! The links that gateways have opened: who is at the other end, until when its lease runs, and what waits for the lease.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_link::accept::Listener;
use tidegate_link::{Event, Link, Receiver, SendError, Sender};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{GatewayToWorld, Heartbeat, LinkHello, WorldHello, WorldToGateway, world_to_gateway};
use tidegate_types::Mono;
use tokio::sync::{mpsc, watch};

use crate::cx::Leases;
use crate::lease::Lease;
use crate::seats::LinkKey;

/// Most links at once; a realm has a handful of gateways.
const MAX_LINKS: usize = 64;
/// Batches of events that wait for the loop, over all links; beyond them the links' own limits hold.
const BATCHES: usize = 64;
/// What may wait, each way, for a lease to be valid again: some seconds of a busy link.
const HELD_BYTES: usize = 16 * 1024 * 1024;
/// Heartbeats at least this often, and four in a lease.
const HEARTBEAT: Duration = Duration::from_millis(750);
/// Shortest and longest lease that a gateway may ask for.
const LEASES_MS: std::ops::RangeInclusive<u32> = 100..=60_000;

/// What the link tasks tell the loop.
pub(super) enum Arrived {
    Up { link: Link<WorldToGateway, GatewayToWorld>, hello: LinkHello },
    Events { key: LinkKey, events: Vec<Event<GatewayToWorld>> },
    Down { key: LinkKey },
}

/// Something for a session's gateway.
#[derive(Debug)]
pub(super) enum Outgoing {
    Game(Bytes),
    Control(world_to_gateway::Message),
}

impl Outgoing {
    fn cost(&self) -> usize {
        match self {
            Self::Game(body) => body.len() + 64,
            Self::Control(world_to_gateway::Message::Frozen(frozen)) => frozen.state.len() + 64,
            Self::Control(_) => 128,
        }
    }
}

#[derive(Debug)]
pub(super) struct OpenLink {
    pub(super) gateway: String,
    /// How many ordered streams it has.
    streams: u32,
    sender: Sender<WorldToGateway>,
    lease: Lease,
    next_heartbeat: Mono,
    interval: Duration,
    /// As the seats were last told.
    pub(super) lapsed: bool,
    /// Waits to be sent.
    held: VecDeque<(u32, Outgoing)>,
    held_bytes: usize,
    /// Waits to be handled.
    pub(super) deferred: VecDeque<Event<GatewayToWorld>>,
    deferred_bytes: usize,
    /// False: the link's task stops taking more.
    flow: watch::Sender<bool>,
}

/// All open links.
#[derive(Debug)]
pub(super) struct Links {
    open: HashMap<LinkKey, OpenLink>,
    last_key: u32,
    arrived: mpsc::Sender<Arrived>,
}

impl Leases for Links {
    fn until(&self, link: LinkKey) -> Option<Mono> {
        self.open.get(&link).map(|link| link.lease.until())
    }
}

/// Accepts links until the listener is closed; what they bring comes out of the returned channel.
pub(super) fn start(listener: Arc<Listener>, answer: WorldHello, realm: String) -> (Links, mpsc::Receiver<Arrived>) {
    let (arrived, incoming) = mpsc::channel(BATCHES);
    let links = Links { open: HashMap::new(), last_key: 0, arrived: arrived.clone() };
    tokio::spawn(async move {
        while let Some(incoming) = listener.accept().await {
            let (answer, realm, arrived) = (answer.clone(), realm.clone(), arrived.clone());
            // Bounded by the listener's own limit on handshakes, and each by its deadline.
            tokio::spawn(async move {
                let introduced = match incoming.introduce().await {
                    Ok(introduced) => introduced,
                    Err(error) => return tracing::debug!(%error, "link was not opened"),
                };
                if introduced.hello().realm != realm {
                    tracing::warn!(theirs = %introduced.hello().realm, "gateway of another realm is refused");
                    return introduced.refuse(CloseCode::Refused, "another realm");
                }
                if !LEASES_MS.contains(&introduced.hello().lease_ms) {
                    tracing::warn!(lease_ms = introduced.hello().lease_ms, "gateway with an unusable lease is refused");
                    return introduced.refuse(CloseCode::Refused, "lease_ms must be 100 to 60000");
                }
                match introduced.accept(answer).await {
                    // The loop may be gone; then the link closes as it is dropped.
                    Ok((link, hello)) => drop(arrived.send(Arrived::Up { link, hello }).await),
                    Err(error) => tracing::debug!(%error, "link was not opened"),
                }
            });
        }
    });
    (links, incoming)
}

/// Carries batches from one link to the loop, until its end.
async fn pump(
    key: LinkKey,
    mut receiver: Receiver<GatewayToWorld>,
    mut flow: watch::Receiver<bool>,
    arrived: mpsc::Sender<Arrived>,
) {
    loop {
        let mut events = Vec::new();
        if receiver.recv(&mut events).await.is_none() {
            break;
        }
        if arrived.send(Arrived::Events { key, events }).await.is_err() {
            return;
        }
        // An error means that the loop has dropped the link.
        if flow.wait_for(|open| *open).await.is_err() {
            break;
        }
    }
    let _ = arrived.send(Arrived::Down { key }).await;
}

impl Links {
    /// Takes a new link in and sends its first heartbeat; `None` when there are too many.
    pub(super) fn add(
        &mut self,
        link: Link<WorldToGateway, GatewayToWorld>,
        hello: LinkHello,
        now: Mono,
    ) -> Option<LinkKey> {
        let Link { sender, receiver } = link;
        if self.open.len() >= MAX_LINKS {
            tracing::warn!(gateway = %hello.gateway_id, "too many links");
            sender.close(CloseCode::Refused, "too many links");
            return None;
        }
        self.last_key += 1;
        let key = LinkKey(self.last_key);
        let (flow, flow_rx) = watch::channel(true);
        tokio::spawn(pump(key, receiver, flow_rx, self.arrived.clone()));
        let length = Duration::from_millis(u64::from(hello.lease_ms));
        let open = OpenLink {
            gateway: hello.gateway_id,
            streams: hello.streams.max(1),
            sender,
            lease: Lease::new(length),
            next_heartbeat: now,
            interval: HEARTBEAT.min(length / 4),
            lapsed: true,
            held: VecDeque::new(),
            held_bytes: 0,
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            flow,
        };
        self.open.insert(key, open);
        Some(key)
    }

    pub(super) fn remove(&mut self, key: LinkKey) -> Option<OpenLink> {
        self.open.remove(&key)
    }

    pub(super) fn get_mut(&mut self, key: LinkKey) -> Option<&mut OpenLink> {
        self.open.get_mut(&key)
    }

    /// The gateway at the other end; empty: there is no such link.
    pub(super) fn gateway(&self, key: Option<LinkKey>) -> &str {
        key.and_then(|key| self.open.get(&key)).map_or("", |link| &link.gateway)
    }

    pub(super) fn keys(&self) -> Vec<LinkKey> {
        self.open.keys().copied().collect()
    }

    /// The next link whose lease is not as the seats were told.
    pub(super) fn changed_lease(&self, now: Mono) -> Option<(LinkKey, bool)> {
        self.open.iter().find_map(|(key, link)| {
            let lapsed = !link.lease.is_valid(now);
            (lapsed != link.lapsed).then_some((*key, lapsed))
        })
    }

    /// Sends the heartbeats that are due; when the next one is.
    pub(super) fn heartbeats(&mut self, now: Mono, players: impl Fn() -> u32) -> Option<Mono> {
        for link in self.open.values_mut() {
            if now >= link.next_heartbeat {
                let players = players();
                let sequence = link.lease.heartbeat(now);
                link.next_heartbeat = now + link.interval;
                let _ = link.say(0, world_to_gateway::Message::Heartbeat(Heartbeat { sequence, players }));
            }
        }
        self.open.values().map(|link| link.next_heartbeat).min()
    }

    /// The earliest end of a valid lease.
    pub(super) fn next_lapse(&self) -> Option<Mono> {
        self.open.values().filter(|link| !link.lapsed).map(|link| link.lease.until()).min()
    }

    /// Closes all links once their peers have read what was sent, or soon.
    pub(super) async fn finish(&mut self, within: Duration) {
        let closing = self.open.drain().map(|(_, link)| async move {
            link.sender.finish(CloseCode::Shutdown, "the world server stops", within).await;
        });
        futures::future::join_all(closing).await;
    }
}

impl OpenLink {
    /// Sends at once, whatever the lease: heartbeats and the roster only.
    pub(super) fn say(&mut self, key: u32, message: world_to_gateway::Message) -> Result<(), SendError> {
        self.sender.control(key, WorldToGateway { message: Some(message) })
    }

    pub(super) fn answered(&mut self, sequence: u64) {
        self.lease.answered(sequence);
    }

    pub(super) fn lease_is_valid(&self, now: Mono) -> bool {
        self.lease.is_valid(now)
    }

    /// Sends in order under a valid lease, else holds. A peer that has stopped reading loses the link.
    pub(super) fn emit(&mut self, handle: u32, outgoing: Outgoing, now: Mono) {
        if !self.held.is_empty() || !self.lease.is_valid(now) {
            return self.hold(handle, outgoing);
        }
        if let Some(unsent) = self.send(handle, outgoing) {
            self.hold(handle, unsent);
        }
    }

    /// What could not be sent because the link is at its end comes back.
    fn send(&mut self, handle: u32, outgoing: Outgoing) -> Option<Outgoing> {
        let sent = match &outgoing {
            Outgoing::Game(body) => self.sender.game(handle, body),
            Outgoing::Control(message) => {
                self.sender.control(handle, WorldToGateway { message: Some(message.clone()) })
            }
        };
        if sent == Err(SendError::Full) {
            self.close(CloseCode::TooSlow, "the gateway has stopped reading");
        }
        sent.err().map(|_| outgoing)
    }

    fn hold(&mut self, handle: u32, outgoing: Outgoing) {
        self.held_bytes += outgoing.cost();
        self.held.push_back((handle, outgoing));
        if self.held_bytes > HELD_BYTES {
            self.close(CloseCode::TooSlow, "too much waits for a heartbeat's answer");
        }
    }

    /// The lease is valid again: sends what was held.
    pub(super) fn flush(&mut self, now: Mono) {
        while self.lease.is_valid(now)
            && let Some((handle, outgoing)) = self.held.pop_front()
        {
            self.held_bytes -= outgoing.cost();
            if let Some(unsent) = self.send(handle, outgoing) {
                self.held_bytes += unsent.cost();
                self.held.push_front((handle, unsent));
                return;
            }
        }
    }

    /// An unreliable message; only under a valid lease.
    pub(super) fn datagram(&self, handle: u32, payload: &Bytes, now: Mono) {
        if self.lease.is_valid(now) {
            let _ = self.sender.datagram(handle, payload);
        }
    }

    /// Keeps an event for later; stops the link's task when much waits.
    pub(super) fn defer(&mut self, event: Event<GatewayToWorld>) {
        self.deferred_bytes += event_cost(&event);
        self.deferred.push_back(event);
        if self.deferred_bytes > HELD_BYTES {
            self.flow.send_replace(false);
        }
    }

    pub(super) fn next_deferred(&mut self) -> Option<Event<GatewayToWorld>> {
        let event = self.deferred.pop_front()?;
        self.deferred_bytes -= event_cost(&event);
        if self.deferred_bytes <= HELD_BYTES / 2 && !*self.flow.borrow() {
            self.flow.send_replace(true);
        }
        Some(event)
    }

    /// The player of a handle is bound elsewhere: the frames that wait go there.
    pub(super) fn forget_frames(&mut self, handle: u32) {
        let mut freed = 0;
        self.held.retain(|(of, outgoing)| {
            let goes = *of == handle && matches!(outgoing, Outgoing::Game(_));
            freed += if goes { outgoing.cost() } else { 0 };
            !goes
        });
        self.held_bytes -= freed;
    }

    /// Which of the ordered streams a handle's messages travel on.
    pub(super) fn stream_of(&self, handle: u32) -> u32 {
        handle % self.streams
    }

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        if !self.sender.is_closed() {
            tracing::warn!(gateway = %self.gateway, reason, "link is closed");
        }
        self.sender.close(code, reason);
    }
}

fn event_cost(event: &Event<GatewayToWorld>) -> usize {
    match event {
        Event::Control { .. } => 256,
        Event::Game { body, .. } => body.len() + 64,
        Event::Datagram { payload, .. } => payload.len() + 64,
    }
}
