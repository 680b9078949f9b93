//! The sending half: callers append encoded frames to a lane's buffer and never wait; one task a lane writes all that
//! gathered since its last wake-up in one go. That coalescing is what decides the cost of a link.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{Connection, SendDatagramError, SendStream};
use tidegate_proto::{CloseCode, frame, packed};
use tokio::sync::Notify;

use crate::SEND_LIMIT;
use crate::error::{Closed, SendError};

/// Datagrams that wait for their task: as much as the connection itself keeps. More are dropped, as any datagram may be.
const DATAGRAM_LIMIT: usize = 1024 * 1024;

/// Sends on a link from any thread, without waiting.
#[derive(Debug)]
pub struct Sender<Out> {
    shared: Arc<Shared>,
    message: PhantomData<fn(Out)>,
}

impl<Out> Clone for Sender<Out> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), message: PhantomData }
    }
}

/// Counters of one link since it opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames accepted for the ordered streams.
    pub frames: u64,
    /// Writes that carried them.
    pub writes: u64,
    /// Messages accepted for datagrams.
    pub messages: u64,
    /// Datagrams that carried them.
    pub datagrams: u64,
    /// Messages dropped: too long for a datagram, or too many waiting.
    pub dropped: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    connection: Connection,
    lanes: Box<[Lane]>,
    packing: Mutex<Packing>,
    datagrams_ready: Notify,
    /// Bytes in the lanes' buffers or on their way into the connection.
    queued: AtomicUsize,
    closed: AtomicBool,
    finishing: AtomicBool,
    /// Lane tasks that have not ended yet.
    writing: AtomicUsize,
    writers_done: Notify,
    frames: AtomicU64,
    writes: AtomicU64,
    messages: AtomicU64,
    datagrams: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    buffer: Mutex<BytesMut>,
    ready: Notify,
}

/// Datagrams being filled. `whole` are as full as they get, `open` takes more.
#[derive(Debug, Default)]
struct Packing {
    whole: Vec<Bytes>,
    whole_bytes: usize,
    open: BytesMut,
    /// The connection's limit when it was last asked.
    limit: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can be left half-changed by a panic that matters more than the panic itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the sending tasks of an open connection.
pub(crate) fn start<Out>(connection: Connection, streams: Vec<SendStream>) -> Sender<Out> {
    let limit = connection.max_datagram_size().unwrap_or(0);
    let shared = Arc::new(Shared {
        lanes: streams.iter().map(|_| Lane::default()).collect(),
        packing: Mutex::new(Packing { limit, ..Packing::default() }),
        datagrams_ready: Notify::new(),
        queued: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        finishing: AtomicBool::new(false),
        writing: AtomicUsize::new(streams.len()),
        writers_done: Notify::new(),
        frames: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        messages: AtomicU64::new(0),
        datagrams: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        connection,
    });
    for (index, stream) in streams.into_iter().enumerate() {
        tokio::spawn(write_lane(shared.clone(), index, stream));
    }
    tokio::spawn(send_datagrams(shared.clone()));
    tokio::spawn(watch(shared.clone()));
    Sender { shared, message: PhantomData }
}

/// Wakes every task when the connection ends; a task that waits for work would not notice by itself.
async fn watch(shared: Arc<Shared>) {
    shared.connection.closed().await;
    shared.closed.store(true, Ordering::Release);
    for lane in &shared.lanes {
        lane.ready.notify_one();
    }
    shared.datagrams_ready.notify_one();
}

async fn write_lane(shared: Arc<Shared>, index: usize, mut stream: SendStream) {
    let lane = &shared.lanes[index];
    loop {
        let gathered = lock(&lane.buffer).split().freeze();
        if !gathered.is_empty() {
            let size = gathered.len();
            shared.writes.fetch_add(1, Ordering::Relaxed);
            let written = stream.write_chunk(gathered).await;
            shared.queued.fetch_sub(size, Ordering::AcqRel);
            if written.is_err() {
                break;
            }
        } else if shared.closed.load(Ordering::Acquire) {
            break;
        } else if shared.finishing.load(Ordering::Acquire) {
            if stream.finish().is_ok() {
                // Ends when the peer has acknowledged everything, or when the connection does.
                let _ = stream.stopped().await;
            }
            break;
        } else {
            lane.ready.notified().await;
        }
    }
    if shared.writing.fetch_sub(1, Ordering::AcqRel) == 1 {
        shared.writers_done.notify_waiters();
    }
}

async fn send_datagrams(shared: Arc<Shared>) {
    let mut ready = Vec::new();
    while !shared.closed.load(Ordering::Acquire) {
        {
            let mut packing = lock(&shared.packing);
            packing.close_open();
            std::mem::swap(&mut ready, &mut packing.whole);
            packing.whole_bytes = 0;
            // The path's limit changes as the connection learns about it.
            packing.limit = shared.connection.max_datagram_size().unwrap_or(0);
        }
        if ready.is_empty() {
            shared.datagrams_ready.notified().await;
            continue;
        }
        for datagram in ready.drain(..) {
            match shared.connection.send_datagram(datagram) {
                Ok(()) => {
                    shared.datagrams.fetch_add(1, Ordering::Relaxed);
                }
                // The path shrank since it was packed.
                Err(SendDatagramError::TooLarge) => {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Err(
                    SendDatagramError::ConnectionLost(_)
                    | SendDatagramError::Disabled
                    | SendDatagramError::UnsupportedByPeer,
                ) => return,
            }
        }
    }
}

impl Packing {
    fn close_open(&mut self) {
        if !self.open.is_empty() {
            let whole = self.open.split().freeze();
            self.whole_bytes += whole.len();
            self.whole.push(whole);
        }
    }

    /// Takes one message, or returns false: too long for any datagram, or too many waiting.
    fn put(&mut self, handle: u32, payload: &[u8]) -> bool {
        let size = packed::len(handle, payload.len());
        if size > self.limit || self.whole_bytes + self.open.len() + size > DATAGRAM_LIMIT {
            return false;
        }
        if self.open.len() + size > self.limit {
            self.close_open();
        }
        if self.open.is_empty() {
            self.open.reserve(self.limit);
        }
        packed::put(&mut self.open, handle, payload);
        true
    }
}

impl<Out> Sender<Out> {
    /// Appends to a lane and wakes its task if it may be asleep.
    fn append(&self, key: u32, put: impl FnOnce(&mut BytesMut)) -> Result<(), SendError> {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) || shared.finishing.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        if shared.queued.load(Ordering::Acquire) >= SEND_LIMIT {
            return Err(SendError::Full);
        }
        let lane = &shared.lanes[key as usize % shared.lanes.len()];
        let was_empty = {
            let mut buffer = lock(&lane.buffer);
            let before = buffer.len();
            put(&mut buffer);
            // Counted under the lock: the task must not subtract before we have added.
            shared.queued.fetch_add(buffer.len() - before, Ordering::AcqRel);
            before == 0
        };
        shared.frames.fetch_add(1, Ordering::Relaxed);
        if was_empty {
            lane.ready.notify_one();
        }
        Ok(())
    }

    /// Queues a session's reliable frame on the stream `handle % streams`.
    ///
    /// # Errors
    /// [`SendError::Closed`] and [`SendError::Full`]; nothing was queued then.
    pub fn game(&self, handle: u32, body: &Bytes) -> Result<(), SendError> {
        self.append(handle, |out| frame::put_link_game(out, handle, body))
    }

    /// Queues a message of one session to be packed into a datagram. One that is too long for any datagram, or for which
    /// there is no room, is dropped and counted, as the network would.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub fn datagram(&self, handle: u32, payload: &Bytes) -> Result<(), SendError> {
        let shared = &*self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        let (was_empty, taken) = {
            let mut packing = lock(&shared.packing);
            let was_empty = packing.open.is_empty() && packing.whole.is_empty();
            (was_empty, packing.put(handle, payload))
        };
        let counter = if taken { &shared.messages } else { &shared.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        if was_empty && taken {
            shared.datagrams_ready.notify_one();
        }
        Ok(())
    }

    /// Closes the link at once; what is still queued may be lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.shared.closed.store(true, Ordering::Release);
        crate::hello::close(&self.shared.connection, code, reason);
    }

    /// Closes the link after the peer has received all that was queued on the ordered streams, or after `within`.
    /// Nothing can be sent from now on. The receiver must be kept until this returns.
    pub async fn finish(&self, code: CloseCode, reason: &str, within: Duration) {
        self.shared.finishing.store(true, Ordering::Release);
        for lane in &self.shared.lanes {
            lane.ready.notify_one();
        }
        let all_written = async {
            loop {
                let done = self.shared.writers_done.notified();
                if self.shared.writing.load(Ordering::Acquire) == 0 {
                    break;
                }
                done.await;
            }
        };
        if tokio::time::timeout(within, all_written).await.is_err() {
            tracing::debug!(within_ms = within.as_millis() as u64, "link closes before its peer has read everything");
        }
        self.close(code, reason);
    }

    /// Waits for the link's end and says how it came.
    pub async fn closed(&self) -> Closed {
        Closed::from_quinn(&self.shared.connection.closed().await)
    }

    /// True once the link has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Acquire)
    }

    /// Counters since the link opened.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let s = &self.shared;
        LinkStats {
            frames: s.frames.load(Ordering::Relaxed),
            writes: s.writes.load(Ordering::Relaxed),
            messages: s.messages.load(Ordering::Relaxed),
            datagrams: s.datagrams.load(Ordering::Relaxed),
            dropped: s.dropped.load(Ordering::Relaxed),
        }
    }
}

impl<Out: Message> Sender<Out> {
    /// Queues a control message on the stream `stream_key % streams` (0 for the link's own, a session's handle for the
    /// session's).
    ///
    /// # Errors
    /// [`SendError::Closed`] and [`SendError::Full`]; nothing was queued then.
    pub fn control(&self, stream_key: u32, message: Out) -> Result<(), SendError> {
        self.append(stream_key, |out| frame::put_message(out, frame::link::CONTROL, &message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_packed_up_to_the_limit_and_no_further() {
        let mut packing = Packing { limit: 100, ..Packing::default() };
        for handle in 0..9 {
            assert!(packing.put(handle, &[7; 28]));
        }
        packing.close_open();
        assert_eq!(packing.whole.iter().map(Bytes::len).collect::<Vec<_>>(), [90, 90, 90]);
        assert!(!packing.put(1, &[7; 99]), "it fits no datagram");
    }

    #[test]
    fn waiting_datagrams_are_bounded() {
        let mut packing = Packing { limit: 1200, ..Packing::default() };
        let taken = (0..10_000).filter(|_| packing.put(1, &[7; 1000])).count();
        assert!(taken * 1003 <= DATAGRAM_LIMIT && taken > 1000, "{taken}");
    }
}
