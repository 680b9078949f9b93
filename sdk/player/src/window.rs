//! The frames that the other side has not acknowledged yet, so that they can be sent again after a lost connection.
//!
//! ```text
//!    acknowledged        sent on this connection      waiting
//!   ──────────────┬──────────────────────────────┬───────────────
//!   forgotten     │ frames[0] … frames[sent - 1] │ frames[sent] …
//!                 └ count = acknowledged
//! ```
//!
//! Pure; knows neither sockets nor time.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most frames kept: at a few actions a second, minutes of play; the gateway's own window is as large.
pub(crate) const MAX_FRAMES: usize = 256;
/// Most bytes kept, counted over bodies.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// The other side says it received more than was ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{received} frames are said to be received, but only {sent} were sent")]
pub(crate) struct BeyondSent {
    /// What it says.
    pub(crate) received: u64,
    /// What was sent.
    pub(crate) sent: u64,
}

/// See the module's drawing.
#[derive(Debug, Default)]
pub(crate) struct SendWindow {
    frames: VecDeque<Bytes>,
    bytes: usize,
    acknowledged: u64,
    /// How many of `frames` are written on the present connection.
    sent: usize,
    /// How many of `frames` were ever written on any connection.
    ever_sent: usize,
}

impl SendWindow {
    /// True if a frame of this length may be added. One frame always fits, whatever its length.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.frames.is_empty() || (self.frames.len() < MAX_FRAMES && self.bytes + length <= MAX_BYTES)
    }

    /// Adds a frame at the end; the caller asked [`Self::has_room`].
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// How many frames were ever written since the session began, received or not.
    pub(crate) fn ever_sent(&self) -> u64 {
        self.acknowledged + self.ever_sent as u64
    }

    /// The next frame to write on the present connection.
    pub(crate) fn next_to_send(&mut self) -> Option<Bytes> {
        let frame = self.frames.get(self.sent)?.clone();
        self.sent += 1;
        self.ever_sent = self.ever_sent.max(self.sent);
        Some(frame)
    }

    /// True if everything is written on the present connection.
    pub(crate) fn all_sent(&self) -> bool {
        self.sent == self.frames.len()
    }

    /// Forgets what the other side has received. An older count than a known one is ignored. True if there is more room.
    pub(crate) fn acknowledge(&mut self, received: u64) -> Result<bool, BeyondSent> {
        let limit = self.acknowledged + self.sent as u64;
        if received > limit {
            return Err(BeyondSent { received, sent: limit });
        }
        let count = usize::try_from(received.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        self.forget(count);
        self.sent -= count;
        Ok(count > 0)
    }

    /// A new connection: the other side has received this many, the rest is to be written again. `Ok(true)` if it has
    /// *fewer* than it once acknowledged (another gateway that does not know the count): counting then goes on from its
    /// number, all unacknowledged frames are written again, and the caller reports a gap.
    pub(crate) fn rewind(&mut self, received: u64) -> Result<bool, BeyondSent> {
        self.sent = 0;
        if received < self.acknowledged {
            self.acknowledged = received;
            return Ok(true);
        }
        let limit = self.acknowledged + self.ever_sent as u64;
        if received > limit {
            return Err(BeyondSent { received, sent: limit });
        }
        self.forget(usize::try_from(received - self.acknowledged).unwrap_or(usize::MAX));
        Ok(false)
    }

    fn forget(&mut self, count: usize) {
        for frame in self.frames.drain(..count) {
            self.bytes -= frame.len();
        }
        self.acknowledged += count as u64;
        self.ever_sent = self.ever_sent.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(n: u64) -> Bytes {
        Bytes::copy_from_slice(&n.to_be_bytes())
    }

    #[test]
    fn the_window_is_bounded_by_frames_and_by_bytes() {
        let mut window = SendWindow::default();
        while window.has_room(1) {
            window.push(Bytes::from_static(b"x"));
        }
        assert_eq!(window.frames.len(), MAX_FRAMES);
        let mut window = SendWindow::default();
        while window.has_room(1000) {
            window.push(Bytes::from(vec![0; 1000]));
        }
        assert_eq!(window.frames.len(), MAX_BYTES / 1000);
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_refused() {
        let mut window = SendWindow::default();
        window.push(frame(0));
        assert_eq!(window.acknowledge(1), Err(BeyondSent { received: 1, sent: 0 }));
        assert_eq!(window.rewind(1), Err(BeyondSent { received: 1, sent: 0 }));
        window.next_to_send();
        assert_eq!(window.acknowledge(1), Ok(true));
        assert_eq!(window.acknowledge(0), Ok(false));
    }

    #[test]
    fn a_gateway_that_forgot_gets_what_is_unacknowledged_and_counts_from_its_own_number() {
        let mut window = SendWindow::default();
        for n in 0..4 {
            window.push(frame(n));
            window.next_to_send();
        }
        window.acknowledge(3).unwrap();
        assert_eq!(window.rewind(0), Ok(true));
        assert_eq!(window.next_to_send(), Some(frame(3)));
        assert_eq!(window.acknowledge(1), Ok(true));
        assert!(window.frames.is_empty());
    }

    #[test]
    fn a_gateway_that_was_restarted_counts_on_from_what_was_sent() {
        let mut window = SendWindow::default();
        for n in 0..4 {
            window.push(frame(n));
        }
        window.next_to_send();
        window.next_to_send();
        window.acknowledge(1).unwrap();
        assert_eq!(window.ever_sent(), 2);
        assert_eq!(window.rewind(2), Ok(false));
        assert_eq!(window.next_to_send(), Some(frame(2)));
    }

    proptest! {
        /// A model of the other side: it receives in order what is written, and each connection may lose any tail.
        #[test]
        fn every_frame_arrives_once_and_in_order(
            steps in prop::collection::vec((0u8..4, 0usize..8), 1..200),
        ) {
            let (mut window, mut pushed, mut delivered) = (SendWindow::default(), 0u64, Vec::new());
            let mut in_flight = VecDeque::new();
            for (step, count) in steps {
                match step {
                    0 => for _ in 0..count {
                        if window.has_room(8) {
                            window.push(frame(pushed));
                            pushed += 1;
                        }
                    },
                    1 => for _ in 0..count { in_flight.extend(window.next_to_send()); },
                    2 => {
                        for _ in 0..count { delivered.extend(in_flight.pop_front()); }
                        window.acknowledge(delivered.len() as u64).unwrap();
                    }
                    _ => {
                        for _ in 0..count { delivered.extend(in_flight.pop_front()); }
                        in_flight.clear();
                        prop_assert_eq!(window.rewind(delivered.len() as u64), Ok(false));
                    }
                }
            }
            in_flight.extend(std::iter::from_fn(|| window.next_to_send()));
            delivered.extend(in_flight);
            prop_assert_eq!(delivered, (0..pushed).map(frame).collect::<Vec<_>>());
        }
    }
}
