//! The receiving half: one reader a stream and one for datagrams fill a shared inbox, from which the owner takes batches.
//! When the inbox is full the readers stop reading, and QUIC's flow control holds the peer back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{Connection, RecvStream};
use tidegate_proto::{CloseCode, frame, packed};
use tokio::sync::Notify;

use crate::{RECEIVE_BATCH, RECEIVE_LIMIT};

/// Largest piece taken off a stream at a time, in bytes. Frames share their piece's memory, so that a frame that its
/// receiver keeps can hold on to at most so much.
const PIECE: usize = 16 * 1024;
/// What an event costs beyond its bytes, for the inbox's limit.
const EVENT_OVERHEAD: usize = 64;

/// Something that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<In> {
    /// A control message, on the stream with this index.
    Control {
        /// Index of the stream.
        stream: u32,
        /// The message.
        message: In,
    },
    /// A session's reliable frame. `body` shares memory with its neighbours: copy it to keep it for long.
    Game {
        /// The session's handle on this link.
        handle: u32,
        /// The game's bytes.
        body: Bytes,
    },
    /// A session's unreliable message.
    Datagram {
        /// The session's handle on this link.
        handle: u32,
        /// The game's bytes.
        payload: Bytes,
    },
}

/// Receives from a link. Dropping it closes the link.
#[derive(Debug)]
pub struct Receiver<In> {
    inbox: Arc<Inbox<In>>,
    connection: Connection,
}

#[derive(Debug)]
struct Inbox<In> {
    state: Mutex<State<In>>,
    readable: Notify,
    writable: Notify,
}

#[derive(Debug)]
struct State<In> {
    events: VecDeque<(Event<In>, usize)>,
    bytes: usize,
    /// Readers that have not ended; none left means that nothing more will come.
    readers: usize,
}

impl<In> Inbox<In> {
    fn lock(&self) -> MutexGuard<'_, State<In>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a reader parsed, then waits until there is room for its next piece.
    async fn push(&self, events: &mut Vec<(Event<In>, usize)>) {
        {
            let mut state = self.lock();
            state.bytes += events.iter().map(|(_, cost)| cost).sum::<usize>();
            state.events.extend(events.drain(..));
        }
        self.readable.notify_one();
        loop {
            let room = self.writable.notified();
            tokio::pin!(room);
            // Registered before looking, else a wake-up in between would be lost.
            room.as_mut().enable();
            if self.lock().bytes < RECEIVE_LIMIT {
                return;
            }
            room.await;
        }
    }

    /// Adds unreliable messages if there is room, else drops them.
    fn offer(&self, events: &mut Vec<(Event<In>, usize)>) {
        {
            let mut state = self.lock();
            if state.bytes < RECEIVE_LIMIT {
                state.bytes += events.iter().map(|(_, cost)| cost).sum::<usize>();
                state.events.append(&mut events.drain(..).collect());
            } else {
                events.clear();
            }
        }
        self.readable.notify_one();
    }

    fn reader_ended(&self) {
        self.lock().readers -= 1;
        self.readable.notify_one();
    }
}

/// Starts the receiving tasks of an open connection; each stream comes with what was read of it beyond its hello.
pub(crate) fn start<In>(connection: Connection, streams: Vec<(RecvStream, BytesMut)>) -> Receiver<In>
where
    In: Message + Default + 'static,
{
    let inbox = Arc::new(Inbox {
        state: Mutex::new(State { events: VecDeque::new(), bytes: 0, readers: streams.len() + 1 }),
        readable: Notify::new(),
        writable: Notify::new(),
    });
    for (index, (stream, buffer)) in streams.into_iter().enumerate() {
        let (inbox, connection) = (inbox.clone(), connection.clone());
        tokio::spawn(async move {
            if let Err(bad) = read_lane(&inbox, stream, buffer, index as u32).await {
                tracing::warn!(stream = index, reason = bad.reason, "peer broke the link's rules");
                crate::hello::close(&connection, bad.code, bad.reason);
            }
            inbox.reader_ended();
        });
    }
    {
        let (inbox, connection) = (inbox.clone(), connection.clone());
        tokio::spawn(async move {
            read_datagrams(&inbox, &connection).await;
            inbox.reader_ended();
        });
    }
    Receiver { inbox, connection }
}

/// A peer that does not keep the rules.
struct Bad {
    code: CloseCode,
    reason: &'static str,
}

async fn read_lane<In: Message + Default>(
    inbox: &Inbox<In>,
    mut stream: RecvStream,
    mut buffer: BytesMut,
    index: u32,
) -> Result<(), Bad> {
    let mut events = Vec::new();
    loop {
        while let Some(frame) = frame::take(&mut buffer, frame::MAX_LINK_BODY)
            .map_err(|_| Bad { code: CloseCode::FrameTooLong, reason: "frame too long" })?
        {
            let cost = frame.body.len() + EVENT_OVERHEAD;
            events.push((event(frame, index)?, cost));
        }
        if !events.is_empty() {
            inbox.push(&mut events).await;
        }
        match stream.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => buffer.extend_from_slice(&piece.bytes),
            // The peer finished the stream, or the connection ended: both are told elsewhere.
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

fn event<In: Message + Default>(frame: frame::Frame, stream: u32) -> Result<Event<In>, Bad> {
    match frame.kind {
        frame::link::GAME => {
            let (handle, body) = frame::split_link_game(frame.body)
                .ok_or(Bad { code: CloseCode::BadFrame, reason: "game frame without a handle" })?;
            Ok(Event::Game { handle, body })
        }
        frame::link::CONTROL => {
            let message = In::decode(frame.body)
                .map_err(|_| Bad { code: CloseCode::BadMessage, reason: "control message does not parse" })?;
            Ok(Event::Control { stream, message })
        }
        _ => Err(Bad { code: CloseCode::BadFrame, reason: "unknown frame type" }),
    }
}

async fn read_datagrams<In>(inbox: &Inbox<In>, connection: &Connection) {
    let mut events = Vec::new();
    while let Ok(mut datagram) = connection.read_datagram().await {
        while let Some((handle, payload)) = packed::take(&mut datagram) {
            let cost = payload.len() + EVENT_OVERHEAD;
            events.push((Event::Datagram { handle, payload }, cost));
        }
        inbox.offer(&mut events);
    }
}

impl<In> Receiver<In> {
    /// Waits until something has arrived and appends up to [`RECEIVE_BATCH`] events to `batch`, in the order of each
    /// stream; how many. `None` when the link has ended and everything was taken. Cancel-safe.
    pub async fn recv(&mut self, batch: &mut Vec<Event<In>>) -> Option<usize> {
        loop {
            let arrived = self.inbox.readable.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut state = self.inbox.lock();
                let count = state.events.len().min(RECEIVE_BATCH);
                if count > 0 {
                    let was_full = state.bytes >= RECEIVE_LIMIT;
                    let State { events, bytes, .. } = &mut *state;
                    for (event, cost) in events.drain(..count) {
                        *bytes -= cost;
                        batch.push(event);
                    }
                    if was_full && *bytes < RECEIVE_LIMIT {
                        self.inbox.writable.notify_waiters();
                    }
                    return Some(count);
                }
                if state.readers == 0 {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

impl<In> Drop for Receiver<In> {
    fn drop(&mut self) {
        crate::hello::close(&self.connection, CloseCode::Done, "receiver is gone");
        // Readers that wait for room must see that the connection is closed.
        let mut state = self.inbox.lock();
        state.events.clear();
        state.bytes = 0;
        drop(state);
        self.inbox.writable.notify_waiters();
    }
}
