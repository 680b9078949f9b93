//! One connection's part of a session's life: frames in, frames out, acknowledgements, logout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use prost::Message;
use tidegate_proto::frame::{self, Frame, MAX_GAME_BODY, player};
use tidegate_proto::v1;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::acks::Acks;
use super::relocate::Relocation;
use crate::config::ClientConfig;
use crate::convert;
use crate::event::{CloseReason, Closed, Event};
use crate::gateways::Gateways;
use crate::session::{Shared, Stage};
use crate::wire::{Fault, Wire, write_fault};

/// Frames are framed ahead of the stream up to this many bytes; the rest stays in the window, which is bounded.
const OUTPUT_BYTES: usize = 16 * 1024;

/// How a connection's part ended.
pub(super) enum Ended {
    /// The session is over.
    Closed(Closed),
    /// The connection is of no use any more.
    Faulted(Fault),
    /// The session plays on this other connection now, whose first frame is there.
    Relocated(Box<(Wire, Frame)>),
    /// Nobody listens any more.
    Abandoned,
}

/// How the session came to the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    LoggedIn,
    Resumed,
    Relocated,
}

/// What of a session outlives a connection.
pub(super) struct Player {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<ClientConfig>,
    pub(super) gateways: Gateways,
    events: mpsc::Sender<Event>,
    /// Understood, and waiting for room among the events. While there is any, the stream is not read.
    pub(super) inbox: VecDeque<Event>,
    /// `Game` frames received since the session began.
    received: u64,
    pub(super) resume_ticket: Option<String>,
    /// As the last `Welcome` said.
    pub(super) grace: Option<Duration>,
    /// `Welcome` came on the present connection.
    pub(super) welcomed: bool,
    pub(super) arrival: Arrival,
    /// When the way to the present connection began.
    pub(super) since: Instant,
    /// Another gateway is sought while this one still serves.
    pub(super) relocation: Option<Relocation>,
    /// Times that a `Hello` was given up without an answer. Its gateway may still act on it, late, and take the session from
    /// the one that has it.
    strays: u32,
    acks: Acks,
    /// When a logout is no longer waited for.
    logout_by: Option<Instant>,
}

impl Player {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<ClientConfig>,
        gateways: Gateways,
        events: mpsc::Sender<Event>,
        since: Instant,
    ) -> Self {
        Self {
            shared,
            config,
            gateways,
            events,
            inbox: VecDeque::new(),
            received: 0,
            resume_ticket: None,
            grace: None,
            welcomed: false,
            arrival: Arrival::LoggedIn,
            since,
            relocation: None,
            strays: 0,
            acks: Acks::default(),
            logout_by: None,
        }
    }

    pub(super) fn reconnecting(&mut self, why: String, since: Instant) {
        (self.arrival, self.since) = (Arrival::Resumed, since);
        self.inbox.push_back(Event::Reconnecting { why });
    }

    /// See [`Self::strays`].
    pub(super) fn gave_up_a_hello(&mut self) {
        self.strays = self.strays.saturating_add(1);
    }

    /// Hands waiting events to the owner. Resolves only when the owner dropped its [`crate::Events`]. Cancel-safe.
    pub(super) async fn deliver_until_abandoned(&mut self) {
        while !self.inbox.is_empty() {
            let Ok(permit) = self.events.reserve().await else { return };
            if let Some(event) = self.inbox.pop_front() {
                permit.send(event);
            }
        }
        self.events.closed().await;
    }

    /// The `Hello` that takes the session up again.
    pub(super) fn resume_hello(&self) -> v1::Hello {
        v1::Hello {
            realm: self.config.realm.to_string(),
            resume_ticket: self.resume_ticket.clone().unwrap_or_default(),
            received_frames: self.received,
            sent_frames: self.shared.outbox().window.ever_sent(),
            client_version: self.config.client_version.clone(),
            ..v1::Hello::default()
        }
    }

    /// Delivers what is left, and the last word.
    pub(super) async fn finish(&mut self, closed: Closed) {
        self.inbox.push_back(Event::Closed(closed));
        for event in self.inbox.drain(..) {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Plays on one connection, whose first frame is already there, until it or the session ends.
    pub(super) async fn play(&mut self, wire: &mut Wire, first: Frame) -> Ended {
        self.welcomed = false;
        self.relocation = None;
        // What came on an earlier connection was told in this one's `Hello`.
        self.acks = Acks::default();
        match self.understand(wire, first) {
            Ok(None) => {}
            Ok(Some(closed)) => return Ended::Closed(closed),
            Err(fault) => return Ended::Faulted(fault),
        }
        let mut goodbye_said = false;
        loop {
            match self.deliver_and_understand(wire) {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(fault) => return Ended::Faulted(fault),
            }
            if let Err(fault) = wire.look(&self.shared.endpoint) {
                return Ended::Faulted(fault);
            }
            self.fill(wire, &mut goodbye_said);
            let (reading, writing) = (self.inbox.is_empty(), !wire.output.is_empty());
            // Who has said goodbye here ends here.
            let seeking = self.relocation.is_some() && !goodbye_said;
            let timer =
                [self.acks.next(), self.logout_by].into_iter().flatten().fold(wire.silence.next(), Instant::min);
            let mut line = None;
            let Wire { connection, send, recv, input, output, .. } = &mut *wire;
            // No order is asked for: every branch is cancel-safe and none can starve the others for longer than its queue.
            let broken = tokio::select! {
                received = Wire::receive(connection, recv, input), if reading => match received {
                    Ok(()) => None,
                    Err(fault) => return Ended::Faulted(fault),
                },
                written = send.write(output), if writing => match written {
                    Ok(count) => {
                        output.advance(count);
                        None
                    }
                    Err(error) => Some(write_fault(&error)),
                },
                datagram = connection.read_datagram() => match datagram {
                    // A full queue drops it, as the network may.
                    Ok(payload) => {
                        drop(self.events.try_send(Event::Datagram(payload)));
                        None
                    }
                    Err(error) => Some(Fault::from(error)),
                },
                permit = self.events.reserve(), if !reading => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.inbox.pop_front() {
                            permit.send(event);
                        }
                        None
                    }
                    Err(_) => return Ended::Abandoned,
                },
                () = self.shared.work.notified() => None,
                sought = async { self.relocation.as_mut()?.next().await }, if seeking => match sought {
                    Some(found) => {
                        line = Some(found);
                        None
                    }
                    None => return Ended::Faulted(Fault::Leaving("no other gateway was found in time".into())),
                },
                () = tokio::time::sleep_until(timer) => {
                    if self.logout_by.is_some_and(|by| by <= Instant::now()) {
                        let message = "the gateway did not confirm the logout in time".to_owned();
                        return Ended::Closed(Closed { code: None, reason: CloseReason::LoggedOut, message });
                    }
                    None
                }
                () = self.events.closed() => return Ended::Abandoned,
            };
            if let Some(fault) = broken {
                return self.drain(wire, fault).await;
            }
            if let Some(line) = line
                && let Some(ended) = self.cross(wire, line).await
            {
                return ended;
            }
        }
    }

    /// The connection ended; reads what the stream still holds, so that a last `Goodbye` is heard.
    async fn drain(&mut self, wire: &mut Wire, fault: Fault) -> Ended {
        // A gateway that only stopped reading sends on for ever.
        let ended = wire.connection.close_reason().is_some();
        loop {
            match self.understand_all(wire) {
                Ok(None) => {}
                Ok(Some(closed)) => return Ended::Closed(closed),
                Err(fault) => return Ended::Faulted(fault),
            }
            // Bounded by the stream's window: the gateway can send no more.
            if !ended || Wire::receive(&wire.connection, &mut wire.recv, &mut wire.input).await.is_err() {
                return Ended::Faulted(fault);
            }
        }
    }

    /// Hands events to the owner and understands more frames, as far as both go without waiting.
    fn deliver_and_understand(&mut self, wire: &mut Wire) -> Result<Option<Ended>, Fault> {
        loop {
            while let Some(event) = self.inbox.pop_front() {
                match self.events.try_send(event) {
                    Ok(()) => {}
                    Err(TrySendError::Full(event)) => {
                        self.inbox.push_front(event);
                        return Ok(None);
                    }
                    Err(TrySendError::Closed(_)) => return Ok(Some(Ended::Abandoned)),
                }
            }
            let Some(frame) = wire.take()? else { return Ok(None) };
            if let Some(closed) = self.understand(wire, frame)? {
                return Ok(Some(Ended::Closed(closed)));
            }
        }
    }

    fn understand_all(&mut self, wire: &mut Wire) -> Result<Option<Closed>, Fault> {
        while let Some(frame) = wire.take()? {
            if let Some(closed) = self.understand(wire, frame)? {
                return Ok(Some(closed));
            }
        }
        Ok(None)
    }

    /// Acts on one frame. `Ok(Some(_))` if it ends the session.
    fn understand(&mut self, wire: &mut Wire, frame: Frame) -> Result<Option<Closed>, Fault> {
        match frame.kind {
            player::GAME if !self.welcomed => return Err(Fault::bad_frame("a game frame before the welcome")),
            player::GAME => {
                self.received += 1;
                self.acks.received(Instant::now());
                self.inbox.push_back(Event::Game(frame.body));
            }
            player::ACK => {
                let ack: v1::Ack = decode(&frame)?;
                let freed = self.shared.outbox().window.acknowledge(ack.received_frames);
                if freed.map_err(Fault::bad_message)? {
                    self.shared.progress.notify_waiters();
                }
            }
            player::WELCOME if self.welcomed => return Err(Fault::bad_frame("a second welcome")),
            player::WELCOME => self.welcome(wire, &decode(&frame)?)?,
            player::HOLD => self.inbox.push_back(Event::Hold(convert::hold(decode(&frame)?))),
            player::NOTICE => self.inbox.push_back(Event::Notice(convert::notice(decode(&frame)?))),
            player::MOVED => {
                let message: v1::Moved = decode(&frame)?;
                let moved = convert::moved(&message).map_err(Fault::bad_message)?;
                if !message.resume_ticket.is_empty() {
                    self.resume_ticket = Some(message.resume_ticket);
                }
                self.inbox.push_back(Event::Moved(Box::new(moved)));
            }
            player::REFUSED => {
                let refusal = convert::refusal(decode(&frame)?);
                let reason = CloseReason::Refused(refusal.reason);
                return Ok(Some(Closed { code: None, reason, message: refusal.message }));
            }
            player::RELOCATE => self.told_to_relocate(&wire.gateway, &decode(&frame)?),
            player::GOODBYE => {
                let goodbye: v1::Goodbye = decode(&frame)?;
                match (goodbye.reason.as_str(), &self.resume_ticket) {
                    // A gateway that stops says so, and the session goes on at another one.
                    ("shutdown", Some(_)) => return Err(Fault::Leaving("the gateway shuts down".into())),
                    // Another gateway has it, by a `Hello` of ours that we did not wait for any longer.
                    ("moved", Some(_)) if self.relocation.is_some() || self.strays > 0 => {
                        self.strays = self.strays.saturating_sub(1);
                        return Err(Fault::Leaving("another gateway has the session".into()));
                    }
                    _ => {}
                }
                let reason = convert::goodbye(&goodbye.reason);
                return Ok(Some(Closed { code: None, reason, message: goodbye.message }));
            }
            other => return Err(Fault::bad_frame(format!("unknown frame type {other:#x}"))),
        }
        Ok(None)
    }

    fn welcome(&mut self, wire: &Wire, message: &v1::Welcome) -> Result<(), Fault> {
        let gateway = wire.connection.remote_address();
        let mut welcome =
            convert::welcome(message, wire.hello_sent, gateway, self.since.elapsed()).map_err(Fault::bad_message)?;
        {
            let mut outbox = self.shared.outbox();
            let forgotten = outbox.window.rewind(message.received_frames).map_err(Fault::bad_message)?;
            if welcome.gap {
                outbox.window.forget_held();
            }
            welcome.gap |= forgotten;
            outbox.connection = Some(wire.connection.clone());
            if message.max_frame_bytes > 0 {
                outbox.max_frame = MAX_GAME_BODY.min(message.max_frame_bytes as usize);
            }
        }
        self.shared.progress.notify_waiters();
        self.welcomed = true;
        // A gateway that numbers what follows otherwise than we count lost frames on the way to us; one that says 0 without
        // a gap does not number.
        if message.next_frame != self.received && (message.gap || message.next_frame > 0) {
            welcome.gap = self.arrival != Arrival::LoggedIn;
            self.received = message.next_frame;
        }
        self.grace = Some(welcome.grace);
        if !message.resume_ticket.is_empty() {
            self.resume_ticket = Some(message.resume_ticket.clone());
        }
        if self.config.learn_gateways {
            self.gateways.learn(&message.gateways);
        }
        let welcome = Box::new(welcome);
        self.inbox.push_back(match self.arrival {
            Arrival::LoggedIn => Event::Welcome(welcome),
            Arrival::Resumed => Event::Resumed(welcome),
            Arrival::Relocated => Event::Relocated(welcome),
        });
        Ok(())
    }

    /// Frames what may be written: acknowledgements first, they make room on the other side.
    fn fill(&mut self, wire: &mut Wire, goodbye_said: &mut bool) {
        if self.acks.take_due(Instant::now()) {
            frame::put_message(&mut wire.output, player::ACK, &v1::Ack { received_frames: self.received });
        }
        let mut outbox = self.shared.outbox();
        while self.welcomed && !*goodbye_said && wire.output.len() < OUTPUT_BYTES {
            let Some(body) = outbox.window.next_to_send() else { break };
            frame::put(&mut wire.output, player::GAME, &body);
        }
        if outbox.stage == Stage::LoggingOut {
            self.logout_by.get_or_insert_with(|| Instant::now() + self.config.logout_timeout);
            // Who waits in line for the first welcome has nothing to deliver, and no reason to wait longer. Who comes back
            // may have: the welcome says what.
            let in_line = self.resume_ticket.is_none();
            if !*goodbye_said && (in_line || (self.welcomed && outbox.window.all_sent())) {
                *goodbye_said = true;
                let goodbye = v1::Goodbye { reason: "logout".into(), ..v1::Goodbye::default() };
                frame::put_message(&mut wire.output, player::GOODBYE, &goodbye);
            }
        }
    }
}

fn decode<M: Message + Default>(frame: &Frame) -> Result<M, Fault> {
    M::decode(&frame.body[..]).map_err(Fault::bad_message)
}
