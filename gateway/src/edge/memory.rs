//! What the connections' buffers hold, all together, and the ceiling above that.
//!
//! Counted is what a client can make the gateway hold beyond its connection's fixed part: output that waits, half-read
//! frames, unsent datagrams, what QUIC may hold for it while its reading is stopped, and a send window above the smallest.
//! It is exact or an upper bound, and costs a few additions for each connection that a pass touched.

/// The send window of every connection, in bytes, which belongs to its fixed part. It grows with need: see
/// [`super::connection::PlayerConnection::write`].
pub(super) const LEAST_SEND_WINDOW: u32 = 32 * 1024;

/// The sum.
#[derive(Debug)]
pub(super) struct Memory {
    buffered: u64,
    ceiling: u64,
}

impl Memory {
    pub(super) const fn new(ceiling: u64) -> Self {
        Self { buffered: 0, ceiling }
    }

    /// A connection that held `before` now holds `after`.
    pub(super) const fn change(&mut self, before: u64, after: u64) {
        self.buffered = self.buffered + after - before;
    }

    /// Bytes held now.
    pub(super) const fn buffered(&self) -> u64 {
        self.buffered
    }

    /// No new connections.
    pub(super) const fn is_full(&self) -> bool {
        self.buffered >= self.ceiling
    }

    /// Somebody has to go.
    pub(super) const fn is_over(&self) -> bool {
        self.buffered > self.ceiling
    }

    /// True when `bytes` more leave a quarter free: what only makes things faster must not bring the ceiling near.
    pub(super) const fn has_room_for(&self, bytes: u64) -> bool {
        self.buffered + bytes <= self.ceiling / 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_refuses_first_and_then_closes() {
        let mut memory = Memory::new(1_000);
        memory.change(0, 700);
        assert!(memory.has_room_for(50) && !memory.has_room_for(100) && !memory.is_full());
        memory.change(700, 1_000);
        assert!(memory.is_full() && !memory.is_over());
        memory.change(1_000, 1_001);
        assert!(memory.is_over());
        memory.change(1_001, 0);
        assert_eq!(memory.buffered(), 0);
    }
}
