//! The frames that the world has not acknowledged yet, so that they can be sent again after a lost connection.
//!
//! ```text
//!    acknowledged      a gateway has them      sent on this connection      waiting
//!   ──────────────┬─────────────────────────┬─────────────────────────┬───────────────
//!   forgotten     │ frames[0] …             │ frames[held] …          │ frames[sent] …
//!                 └ count = acknowledged
//! ```
//!
//! What a gateway said to have at a resume need not be sent to it, but is kept: if that gateway dies before the world has
//! it, the next one asks for it again. It takes no room that the player could fill.
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
    /// Of the frames that count, which are those behind the `held` ones.
    bytes: usize,
    acknowledged: u64,
    /// How many of `frames` the present gateway said to have when the connection began. Never more than `sent`.
    held: usize,
    held_bytes: usize,
    /// How many of `frames` are written on the present connection.
    sent: usize,
    /// How many of `frames` were ever written on any connection.
    ever_sent: usize,
}

impl SendWindow {
    /// True if a frame of this length may be added. One frame always fits, whatever its length.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        let counted = self.frames.len() - self.held;
        counted == 0 || (counted < MAX_FRAMES && self.bytes + length <= MAX_BYTES)
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
        let limit = self.ever_sent();
        if received > limit {
            return Err(BeyondSent { received, sent: limit });
        }
        self.bytes += std::mem::take(&mut self.held_bytes);
        (self.held, self.sent) = (0, 0);
        if received < self.acknowledged {
            self.acknowledged = received;
            return Ok(true);
        }
        let has = usize::try_from(received - self.acknowledged).unwrap_or(usize::MAX);
        (self.held, self.sent) = (has, has);
        self.held_bytes = self.frames.iter().take(has).map(Bytes::len).sum();
        self.bytes -= self.held_bytes;
        while self.held > MAX_FRAMES || self.held_bytes > MAX_BYTES {
            self.forget(1);
            self.sent -= 1;
        }
        Ok(false)
    }

    /// Nobody knows what became of the frames that the gateway said to have: they are never asked for again.
    pub(crate) fn forget_held(&mut self) {
        let held = self.held;
        self.forget(held);
        self.sent -= held;
    }

    fn forget(&mut self, count: usize) {
        for frame in self.frames.drain(..count) {
            if self.held > 0 {
                self.held -= 1;
                self.held_bytes -= frame.len();
            } else {
                self.bytes -= frame.len();
            }
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

    #[test]
    fn what_died_with_a_gateway_is_sent_again_to_the_next() {
        let mut window = SendWindow::default();
        for n in 0..6 {
            window.push(frame(n));
            window.next_to_send();
        }
        window.acknowledge(2).unwrap();
        // The gateway has five frames, the world two of them; then the gateway is gone.
        assert_eq!(window.rewind(5), Ok(false));
        assert_eq!(window.next_to_send(), Some(frame(5)));
        assert_eq!(window.ever_sent(), 6);
        assert_eq!(window.rewind(2), Ok(false));
        let again: Vec<Bytes> = std::iter::from_fn(|| window.next_to_send()).collect();
        assert_eq!(again, (2..6).map(frame).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_gateway_has_takes_no_room_and_is_bounded_itself() {
        let mut window = SendWindow::default();
        for round in 1..=3 {
            while window.has_room(1) {
                window.push(Bytes::from_static(b"x"));
            }
            while window.next_to_send().is_some() {}
            assert_eq!(window.rewind(round * MAX_FRAMES as u64), Ok(false));
            assert!(window.has_room(1), "a gateway that never acknowledges does not stop the player");
            assert!(window.frames.len() <= MAX_FRAMES);
        }
        assert_eq!((window.held, window.held_bytes, window.bytes), (MAX_FRAMES, MAX_FRAMES, 0));
        window.acknowledge(3 * MAX_FRAMES as u64).unwrap();
        assert_eq!((window.held, window.held_bytes, window.frames.len()), (0, 0, 0));
    }

    #[test]
    fn after_a_gap_nothing_old_is_kept() {
        let mut window = SendWindow::default();
        for n in 0..3 {
            window.push(frame(n));
            window.next_to_send();
        }
        window.rewind(2).unwrap();
        window.forget_held();
        assert_eq!((window.acknowledged, window.frames.len(), window.bytes), (2, 1, 8));
        assert_eq!(window.next_to_send(), Some(frame(2)));
    }

    proptest! {
        /// A gateway that has more than the world, and dies: what the world lacks comes again, once and in order.
        #[test]
        fn the_world_gets_every_frame_once_whatever_gateways_forget(
            steps in prop::collection::vec((0u8..5, 0usize..8), 1..200),
        ) {
            let (mut window, mut pushed) = (SendWindow::default(), 0u64);
            // On the gateway: received from the client and not yet given to the world.
            let (mut world, mut gateway) = (Vec::new(), VecDeque::new());
            for (step, count) in steps {
                match step {
                    0 => for _ in 0..count {
                        if window.has_room(8) {
                            window.push(frame(pushed));
                            pushed += 1;
                        }
                    },
                    1 => for _ in 0..count { gateway.extend(window.next_to_send()); },
                    2 => {
                        for _ in 0..count { world.extend(gateway.pop_front()); }
                        window.acknowledge(world.len() as u64).unwrap();
                    }
                    // The same gateway again: it has what it has.
                    3 => prop_assert_eq!(window.rewind((world.len() + gateway.len()) as u64), Ok(false)),
                    // Another one: only what the world has counts.
                    _ => {
                        for _ in 0..count { world.extend(gateway.pop_front()); }
                        gateway.clear();
                        prop_assert_eq!(window.rewind(world.len() as u64), Ok(false));
                    }
                }
            }
            world.extend(gateway);
            world.extend(std::iter::from_fn(|| window.next_to_send()));
            prop_assert_eq!(world, (0..pushed).map(frame).collect::<Vec<_>>());
        }

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
