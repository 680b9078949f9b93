//! What goes out: what the shard says to a connection, and the end of a pass, when it leaves.

use bytes::{Bytes, BytesMut};
use quinn_proto::{SendDatagramError, Transmit};
use tidegate_proto::CloseCode;

use super::connection::Phase;
use super::memory::LEAST_SEND_WINDOW;
use super::{Edge, LINGER, known, mark_dirty};

impl Edge {
    /// Says something on the session stream: `put` appends whole frames. A client that does not keep up is closed.
    pub(crate) fn send(&mut self, index: u32, put: impl FnOnce(&mut BytesMut)) {
        let Some(conn) = known(&mut self.connections, index) else { return };
        put(conn.out());
        if conn.backlog() > self.limits.backlog_bytes as usize {
            self.fail(index, CloseCode::TooSlow);
        } else if let Some(conn) = self.connections[index as usize].as_deref_mut() {
            mark_dirty(conn, &mut self.dirty);
        }
    }

    /// Sends an unreliable message, or drops it.
    pub(crate) fn datagram(&mut self, index: u32, payload: Bytes) {
        let Some(conn) = known(&mut self.connections, index) else { return };
        match conn.proto.datagrams().send(payload, true) {
            Ok(()) => mark_dirty(conn, &mut self.dirty),
            Err(
                SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled
                | SendDatagramError::TooLarge
                | SendDatagramError::Blocked(_),
            ) => self.counters.datagrams_dropped += 1,
        }
    }

    /// Stops reading the session stream: QUIC's flow control then slows the client down.
    pub(crate) fn pause_reading(&mut self, index: u32) {
        if let Some(conn) = known(&mut self.connections, index) {
            conn.paused = true;
            mark_dirty(conn, &mut self.dirty);
        }
    }

    /// Reads the session stream again.
    pub(crate) fn resume_reading(&mut self, index: u32) {
        let Some(conn) = known(&mut self.connections, index) else { return };
        if conn.paused {
            conn.paused = false;
            conn.readable = true;
            self.mark_ready(index);
        }
    }

    /// The session is in play: its connection may now take its full share.
    pub(crate) fn admit(&mut self, index: u32) {
        if let Some(conn) = known(&mut self.connections, index) {
            conn.admit(&self.limits);
            mark_dirty(conn, &mut self.dirty);
        }
    }

    /// Closes once what was said has been received (or after a second). The shard hears no more of it.
    pub(crate) fn close_after_flush(&mut self, index: u32, code: CloseCode) {
        let deadline = self.now + LINGER;
        let Some(conn) = known(&mut self.connections, index) else { return };
        if conn.lost {
            // Nobody is there to receive anything.
            conn.phase = Phase::Closed;
            conn.lost = false;
        } else {
            conn.phase = Phase::Lingering(code);
            conn.deadline = Some(deadline);
        }
        (conn.readable, conn.datagrams) = (false, false);
        mark_dirty(conn, &mut self.dirty);
        self.counters.closed[code as usize] += 1;
    }

    /// Closes at once, because the client broke a rule that only the shard knows. The shard is told as of any loss.
    pub(crate) fn violate(&mut self, index: u32, code: CloseCode) {
        self.fail(index, code);
    }

    /// True when every connection has been closed.
    pub(crate) fn all_closed(&self) -> bool {
        self.connections.iter().flatten().all(|conn| conn.phase == Phase::Closed)
    }

    /// Says goodbye to all: those the shard knows are closed once `put` is flushed, the others at once.
    pub(crate) fn close_all(&mut self, code: CloseCode, mut put: impl FnMut(&mut BytesMut)) {
        for index in 0..self.connections.len() as u32 {
            let Some(conn) = self.connections[index as usize].as_deref_mut() else { continue };
            match conn.phase {
                Phase::Open => {
                    put(conn.out());
                    self.close_after_flush(index, code);
                }
                Phase::Handshaking | Phase::AwaitingHello => self.fail(index, code),
                Phase::Lingering(_) | Phase::Closed => (),
            }
        }
    }

    /// Says something to everyone the shard knows.
    pub(crate) fn tell_all(&mut self, mut put: impl FnMut(&mut BytesMut)) {
        for index in 0..self.connections.len() as u32 {
            if self.connections[index as usize].as_deref().is_some_and(|conn| conn.phase == Phase::Open) {
                self.send(index, &mut put);
            }
        }
    }

    /// Lets nobody in any more.
    pub(crate) fn stop_accepting(&mut self) {
        self.accepting = false;
    }

    /// While the buffers hold more than all together may: closes whoever holds most.
    fn shed(&mut self) {
        while self.memory.is_over() {
            // Rare, and each turn frees the largest: a walk is cheaper than an order kept for every packet.
            let held =
                self.connections.iter().flatten().filter(|conn| !conn.lost).map(|conn| (conn.charged, conn.handle));
            let Some((charged, handle)) = held.max_by_key(|(charged, _)| *charged).filter(|(charged, _)| *charged > 0)
            else {
                return;
            };
            self.counters.shed += 1;
            self.memory.change(charged, 0);
            if let Some(conn) = self.connections[handle.0].as_deref_mut() {
                conn.charged = 0;
            }
            self.fail(handle.0 as u32, CloseCode::TooSlow);
        }
    }

    /// Ends a pass: hands output to QUIC and packets to the system.
    pub(crate) fn flush(&mut self) {
        self.shed();
        if let Some(transmit) = self.blocked.take() {
            let contents = std::mem::take(&mut self.buffer);
            let sent = self.transmit(&transmit, &contents);
            self.buffer = contents;
            if !sent {
                self.blocked = Some(transmit);
                return;
            }
        }
        let mut place = 0;
        while place < self.dirty.len() {
            let index = self.dirty[place];
            if !self.flush_one(index) {
                // The socket is full: this one and those after it wait for their next chance, still dirty.
                self.dirty.drain(..place);
                return;
            }
            place += 1;
        }
        self.dirty.clear();
    }

    /// False when the socket is full.
    fn flush_one(&mut self, index: u32) -> bool {
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return true };
        let most = self.limits.send_window_bytes;
        let most = if self.memory.has_room_for(most.into()) { most } else { LEAST_SEND_WINDOW };
        if matches!(conn.phase, Phase::Open | Phase::Lingering(_)) && conn.write(most).is_err() {
            self.fail(index, CloseCode::Done);
        }
        loop {
            let Some(conn) = self.connections[index as usize].as_deref_mut() else { return true };
            self.buffer.clear();
            let Some(transmit) = conn.proto.poll_transmit(self.now, self.socket.max_segments(), &mut self.buffer)
            else {
                if self.collect_one(index) {
                    continue;
                }
                break;
            };
            let contents = std::mem::take(&mut self.buffer);
            let sent = self.transmit(&transmit, &contents);
            self.buffer = contents;
            if !sent {
                self.blocked = Some(transmit);
                return false;
            }
        }
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return true };
        conn.dirty = false;
        // Of a lost one nothing is kept but what the shard has still to hear.
        let holds = if conn.lost { 0 } else { conn.holds(&self.limits) };
        self.memory.change(std::mem::replace(&mut conn.charged, holds), holds);
        if conn.phase == Phase::Closed
            && let Some(drained) = conn.drained.take()
        {
            self.endpoint.handle_event(conn.handle, drained);
            self.connections[index as usize] = None;
            self.timers.remove(index);
            self.count -= 1;
        } else if let Some(at) = conn.next_timeout() {
            self.timers.arm(index, at);
        }
        true
    }

    /// False when the socket is full.
    pub(super) fn transmit(&mut self, transmit: &Transmit, contents: &[u8]) -> bool {
        match self.socket.send(transmit, contents) {
            Ok(true) => {
                self.counters.transmits += 1;
                self.counters.bytes_out += transmit.size as u64;
                true
            }
            Ok(false) => false,
            // One packet was not sent; to QUIC it is a lost one.
            Err(error) => {
                tracing::debug!(%error, remote = %transmit.destination, "packet not sent");
                true
            }
        }
    }
}
