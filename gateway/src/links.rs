//! Links to world servers: dialling again and again, and one reader a link that hands batches to the shard.
//!
//! Everything runs on the shard's own runtime: the readers and writers of links get their turn between two passes.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::DialTarget;
use rand::RngExt;
use tidegate_link::connect::Dialer;
use tidegate_link::{Event, Link, Sender};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{GatewayToWorld, LinkHello, WorldHello, WorldToGateway};
use tidegate_types::InstanceId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// First pause after a failed dial: a world server that is just being started is there soon.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause between dials: players wait for this server.
const BACKOFF_MAX: Duration = Duration::from_millis(1_000);
/// Batches (of at most 256 events) that wait for the shard; full means that the shard is busy, and its readers then stop,
/// so that QUIC's flow control holds the world servers back.
const WAITING_BATCHES: usize = 64;

/// Which link: the realm's and the server's index, and which of the links to it this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkId {
    pub(crate) realm: u32,
    pub(crate) server: u32,
    serial: u64,
}

/// What a link has for the shard.
pub(crate) enum LinkEvent {
    /// It is open.
    Up { link: LinkId, sender: Sender<GatewayToWorld>, instance: InstanceId },
    /// Something came.
    Batch { link: LinkId, events: Vec<Event<WorldToGateway>> },
    /// It is closed, and nothing more will come.
    Down { link: LinkId },
}

/// One server's link, or the attempt at one.
struct Slot {
    serial: u64,
    task: AbortHandle,
    sender: Option<Sender<GatewayToWorld>>,
    name: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(sender) = &self.sender {
            sender.close(CloseCode::Done, "hung up");
        }
    }
}

/// All links of the shard, by realm and server index.
pub(crate) struct Links {
    dialer: Dialer,
    /// What every link's hello says; the realm is filled in.
    hello: LinkHello,
    slots: Vec<Vec<Option<Slot>>>,
    events: mpsc::Sender<LinkEvent>,
    serial: u64,
}

impl Links {
    /// With the queue from which the shard takes events.
    pub(crate) fn new(dialer: Dialer, hello: LinkHello) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, queue) = mpsc::channel(WAITING_BATCHES);
        (Self { dialer, hello, slots: Vec::new(), events, serial: 0 }, queue)
    }

    /// Dials until it is up or hung up. Replaces what there was.
    pub(crate) fn dial(&mut self, realm: u32, realm_id: &str, server: u32, target: DialTarget) {
        self.serial += 1;
        let link = LinkId { realm, server, serial: self.serial };
        let hello = LinkHello { realm: realm_id.to_owned(), ..self.hello.clone() };
        let name = target.id.to_string();
        let task = tokio::spawn(run(self.dialer.clone(), target, hello, link, self.events.clone()));
        let servers = at(&mut self.slots, realm as usize, Vec::new);
        *at(servers, server as usize, || None) =
            Some(Slot { serial: self.serial, task: task.abort_handle(), sender: None, name });
    }

    /// Closes it, or stops dialling.
    pub(crate) fn hang_up(&mut self, realm: u32, server: u32) {
        if let Some(slot) = self.slots.get_mut(realm as usize).and_then(|servers| servers.get_mut(server as usize)) {
            *slot = None;
        }
    }

    /// Notes that it is open. False: it was hung up meanwhile.
    pub(crate) fn opened(&mut self, link: LinkId, sender: Sender<GatewayToWorld>) -> bool {
        match self.slot(link) {
            Some(slot) => {
                slot.sender = Some(sender);
                true
            }
            None => {
                sender.close(CloseCode::Done, "hung up");
                false
            }
        }
    }

    /// Notes that it is closed. False: it was hung up before.
    pub(crate) fn closed(&mut self, link: LinkId) -> bool {
        let current = self.slot(link).is_some();
        if current {
            self.hang_up(link.realm, link.server);
        }
        current
    }

    /// True if events of this link are still wanted.
    pub(crate) fn is_current(&mut self, link: LinkId) -> bool {
        self.slot(link).is_some()
    }

    fn slot(&mut self, link: LinkId) -> Option<&mut Slot> {
        self.slots
            .get_mut(link.realm as usize)?
            .get_mut(link.server as usize)?
            .as_mut()
            .filter(|slot| slot.serial == link.serial)
    }

    /// The sender of an open link; `None` while there is none (what was to be said is then moot: the core hears of the
    /// broken link next).
    pub(crate) fn sender(&self, realm: u32, server: u32) -> Option<&Sender<GatewayToWorld>> {
        self.slots.get(realm as usize)?.get(server as usize)?.as_ref()?.sender.as_ref()
    }

    /// Ids of the servers whose links are open.
    pub(crate) fn open(&self) -> Vec<String> {
        self.slots.iter().flatten().flatten().filter(|s| s.sender.is_some()).map(|s| s.name.clone()).collect()
    }

    /// Closes all.
    pub(crate) fn close_all(&mut self, reason: &str) {
        for slot in self.slots.iter().flatten().flatten() {
            if let Some(sender) = &slot.sender {
                sender.close(CloseCode::Shutdown, reason);
            }
        }
        self.slots.clear();
    }
}

fn at<T>(list: &mut Vec<T>, index: usize, empty: impl FnMut() -> T) -> &mut T {
    if list.len() <= index {
        list.resize_with(index + 1, empty);
    }
    &mut list[index]
}

async fn run(dialer: Dialer, target: DialTarget, hello: LinkHello, link: LinkId, events: mpsc::Sender<LinkEvent>) {
    let (open, instance) = dial(&dialer, &target, &hello).await;
    let Link { sender, mut receiver } = open;
    if events.send(LinkEvent::Up { link, sender, instance }).await.is_err() {
        return;
    }
    let mut batch = Vec::new();
    while receiver.recv(&mut batch).await.is_some() {
        if events.send(LinkEvent::Batch { link, events: std::mem::take(&mut batch) }).await.is_err() {
            return;
        }
    }
    // The shard ends before its queue does; then nobody needs to know.
    let _ = events.send(LinkEvent::Down { link }).await;
}

async fn dial(
    dialer: &Dialer,
    target: &DialTarget,
    hello: &LinkHello,
) -> (Link<GatewayToWorld, WorldToGateway>, InstanceId) {
    let mut pause = BACKOFF_MIN;
    loop {
        match attempt(dialer, target, hello).await {
            Ok(open) => return open,
            Err(why) => tracing::debug!(server = %target.id, address = target.address, why, "dial failed"),
        }
        // Jitter, so that gateways do not all knock at the same moment.
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

async fn attempt(
    dialer: &Dialer,
    target: &DialTarget,
    hello: &LinkHello,
) -> Result<(Link<GatewayToWorld, WorldToGateway>, InstanceId), String> {
    let address: SocketAddr = match target.address.parse() {
        Ok(address) => address,
        Err(_) => tokio::net::lookup_host(&target.address)
            .await
            .map_err(|e| e.to_string())?
            .next()
            .ok_or("the name has no address")?,
    };
    let (link, world): (_, WorldHello) =
        dialer.connect(address, &target.tls_name, hello.clone()).await.map_err(|e| e.to_string())?;
    if world.server_id != target.id.as_str() {
        link.sender.close(CloseCode::Done, "not the server that was called");
        return Err(format!("{} answered", world.server_id));
    }
    let Some(instance) = InstanceId::from_slice(&world.server_instance) else {
        link.sender.close(CloseCode::BadMessage, "bad instance id");
        return Err("its hello has no instance id".into());
    };
    Ok((link, instance))
}
