//! One link of the smoke tests: heartbeats are answered by a task of its own, so that no server loses its lease while the
//! probe is busy with another.

use std::time::Duration;

use tidegate_link::connect::Dialer;
use tidegate_link::{Event, Receiver, Sender};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{
    GatewayToWorld, HeartbeatAck, LinkHello, WorldToGateway, gateway_to_world as to, world_to_gateway as from,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Request;
use crate::pki::MANAGER_ID;
use crate::servers::ServerView;

/// How long an answered heartbeat lets the server simulate the probe.
const LEASE: Duration = Duration::from_secs(3);
/// How long each answer may take: the same as a gateway gives a step of a hand-over.
const STEP: Duration = Duration::from_secs(5);
/// Messages that wait to be looked at; a probe alone causes a few at a time.
const INBOX: usize = 256;

/// A world server at the other end of a link.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) server: ServerView,
    sender: Sender<GatewayToWorld>,
    inbox: mpsc::Receiver<from::Message>,
    reader: JoinHandle<()>,
    next_handle: u32,
}

impl Peer {
    /// Opens the link and checks who answers.
    pub(super) async fn open(dialer: &Dialer, server: &ServerView, request: &Request) -> Result<Self, String> {
        let address = server.link_address.parse().map_err(|e| format!("address \"{}\": {e}", server.link_address))?;
        let hello = LinkHello {
            gateway_id: MANAGER_ID.to_owned(),
            gateway_instance: Uuid::new_v4().as_bytes().to_vec(),
            realm: request.realm.to_string(),
            lease_ms: u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX),
            stream: 0,
            // The link's own default number.
            streams: 0,
            // A probe that is left behind by a manager that died leaves as soon as its lease is over.
            orphan_ms: u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX),
        };
        let (link, world) = dialer
            .connect(address, &server.tls_name, hello)
            .await
            .map_err(|e| format!("cannot open a link to {address}: {e}"))?;
        let (tell, inbox) = mpsc::channel(INBOX);
        let reader = tokio::spawn(read(link.receiver, link.sender.clone(), tell));
        let peer = Self { server: server.clone(), sender: link.sender, inbox, reader, next_handle: 1 };
        let pairs = [
            ("server", world.server_id, server.id.to_string()),
            ("environment", world.environment_id, request.environment.to_string()),
            ("build", world.build, request.build.to_string()),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                return Err(format!("{address} says it is {what} \"{found}\", expected \"{expected}\""));
            }
        }
        match server.instance {
            Some(instance) if instance.to_vec() != world.server_instance => {
                Err(format!("{address} is another run of the process than the one that registered"))
            }
            _ => Ok(peer),
        }
    }

    /// Waits for its roster and its first heartbeat.
    pub(super) async fn wait_until_alive(&mut self) -> Result<(), String> {
        let (mut roster, mut heartbeat) = (false, false);
        while !(roster && heartbeat) {
            match self.next("its roster and a heartbeat").await? {
                from::Message::RosterEnd(_) => roster = true,
                from::Message::Heartbeat(_) => heartbeat = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// A handle that was not used on this link yet.
    pub(super) fn handle(&mut self) -> u32 {
        let handle = self.next_handle;
        self.next_handle += 1;
        handle
    }

    /// Sends a request about a handle and waits for the answer that `pick` recognises.
    pub(super) async fn ask<T>(
        &mut self,
        handle: u32,
        message: to::Message,
        what: &str,
        mut pick: impl FnMut(from::Message) -> Option<T>,
    ) -> Result<T, String> {
        self.sender
            .control(handle, GatewayToWorld { message: Some(message) })
            .map_err(|e| format!("{}: cannot send {what}: {e}", self.server.id))?;
        let deadline = tokio::time::Instant::now() + STEP;
        loop {
            let message = tokio::time::timeout_at(deadline, self.inbox.recv())
                .await
                .map_err(|_| format!("{} did not answer {what} within {} ms", self.server.id, STEP.as_millis()))?
                .ok_or_else(|| format!("{} closed the link instead of answering {what}", self.server.id))?;
            if let Some(answer) = pick(message) {
                return Ok(answer);
            }
        }
    }

    async fn next(&mut self, what: &str) -> Result<from::Message, String> {
        tokio::time::timeout(STEP, self.inbox.recv())
            .await
            .map_err(|_| format!("{what} did not come within {} ms", STEP.as_millis()))?
            .ok_or_else(|| format!("the link was closed before {what} came"))
    }

    /// Closes the link once everything queued was sent.
    pub(super) async fn close(self, code: CloseCode) {
        const LAST_WORDS: Duration = Duration::from_millis(500);
        self.sender.finish(code, "smoke test over", LAST_WORDS).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Dropping the receiver with its task closes the link, whatever happened.
        self.reader.abort();
    }
}

/// Answers heartbeats at once and hands control messages on. What nobody looks at is dropped: it is not the probe's.
async fn read(
    mut receiver: Receiver<WorldToGateway>,
    sender: Sender<GatewayToWorld>,
    tell: mpsc::Sender<from::Message>,
) {
    let mut batch = Vec::new();
    while receiver.recv(&mut batch).await.is_some() {
        for event in batch.drain(..) {
            let Event::Control { message: WorldToGateway { message: Some(message) }, .. } = event else { continue };
            if let from::Message::Heartbeat(heartbeat) = &message {
                let answer = HeartbeatAck { sequence: heartbeat.sequence };
                if sender.control(0, GatewayToWorld { message: Some(to::Message::HeartbeatAck(answer)) }).is_err() {
                    return;
                }
            }
            match tell.try_send(message) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }
}
