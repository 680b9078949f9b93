//! The `Game` frames of one session that are between two places: those the player has not acknowledged, and those the player
//! sent while there was no home to send them to. Counts are since the session began, so that they survive a connection.
//!
//! Both queues are bounded. What falls out of the downstream one is only missed if the connection breaks; then the player is
//! told of a gap.

use std::collections::VecDeque;

use bytes::Bytes;

/// Limits of both queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Frames waiting for a home.
    pub(crate) queued_frames: usize,
    /// Bytes waiting for a home.
    pub(crate) queued_bytes: usize,
    /// Frames unacknowledged by the player.
    pub(crate) window_frames: usize,
    /// Bytes unacknowledged by the player.
    pub(crate) window_bytes: usize,
}

/// What became of a frame that waits for a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    /// Kept.
    Kept,
    /// Kept; there is no room for another.
    KeptFull,
    /// Not kept: the sender went on although it was told to stop.
    TooMany,
}

/// The frames of one session.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limits: Limits,
    /// Frames to the player, oldest first: number `base` onwards.
    down: Frames,
    base: u64,
    /// Frames below this number have been given to the present connection.
    sent: u64,
    up: Frames,
    received: u64,
}

/// Frames in a row. Copied, not shared: a frame is a slice of a buffer that many sessions' frames came in, and keeping one
/// would keep them all. One ring for all bytes, so that the usual case allocates nothing.
#[derive(Debug, Clone, Default)]
struct Frames {
    lengths: VecDeque<u32>,
    bytes: VecDeque<u8>,
}

/// The highest count that a client is believed: no session comes near it, and counting on from it cannot overflow.
const MAX_COUNT: u64 = 1 << 62;

/// Room that an empty ring may keep, in bytes; after a burst the rest is given back.
const KEPT_ROOM: usize = 4 * 1024;

impl Frames {
    fn len(&self) -> usize {
        self.lengths.len()
    }

    fn push(&mut self, body: &Bytes) {
        self.lengths.push_back(u32::try_from(body.len()).expect("a frame is at most 16 KiB long"));
        self.bytes.extend(&body[..]);
    }

    fn pop(&mut self) -> bool {
        let Some(length) = self.lengths.pop_front() else { return false };
        self.bytes.drain(..length as usize);
        if self.lengths.is_empty() && self.bytes.capacity() > KEPT_ROOM {
            self.clear();
        }
        true
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// All but the first `skip`.
    fn copy_from(&self, skip: usize) -> Vec<Bytes> {
        let mut at: usize = self.lengths.iter().take(skip).map(|length| *length as usize).sum();
        let mut frames = Vec::with_capacity(self.len().saturating_sub(skip));
        for length in self.lengths.iter().skip(skip) {
            let end = at + *length as usize;
            frames.push(self.bytes.range(at..end).copied().collect());
            at = end;
        }
        frames
    }
}

impl Window {
    /// Nothing sent, nothing received.
    #[must_use]
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, down: Frames::default(), base: 0, sent: 0, up: Frames::default(), received: 0 }
    }

    /// A frame for the player, that is being given to the connection now.
    pub(crate) fn sent(&mut self, body: &Bytes) {
        debug_assert_eq!(self.sent, self.total(), "frames that wait go first");
        self.push(body);
        self.sent = self.total();
    }

    /// A frame for the player, that waits.
    pub(crate) fn keep(&mut self, body: &Bytes) {
        self.push(body);
    }

    fn push(&mut self, body: &Bytes) {
        self.down.push(body);
        while self.down.len() > self.limits.window_frames || self.down.bytes.len() > self.limits.window_bytes {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if self.down.pop() {
            self.base += 1;
            self.sent = self.sent.max(self.base);
        }
    }

    fn total(&self) -> u64 {
        self.base + self.down.len() as u64
    }

    /// The player has received so many.
    pub(crate) fn acknowledged(&mut self, received: u64) {
        while self.base < received.min(self.sent) {
            self.forget_oldest();
        }
    }

    /// True if frames wait to be given to the connection.
    #[must_use]
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.total()
    }

    /// The frames that wait; they count as given to the connection from now on.
    pub(crate) fn take_unsent(&mut self) -> Vec<Bytes> {
        let skip = usize::try_from(self.sent - self.base).unwrap_or(usize::MAX);
        self.sent = self.total();
        self.down.copy_from(skip)
    }

    /// The player is back on a new connection, having received so many. What it lacks waits again. Returns true if some of
    /// that is gone.
    pub(crate) fn resume(&mut self, received: u64) -> bool {
        let received = received.min(MAX_COUNT);
        self.sent = self.total();
        self.acknowledged(received);
        let gap = received != self.base;
        if gap {
            // The player counts what it gets, so the numbers go on from its count.
            self.base = received;
        }
        self.sent = self.base;
        gap
    }

    /// A client that knows nothing of this session took it over: both counts start anew. Frames that the old one sent and
    /// that wait for a home stay.
    pub(crate) fn restart(&mut self) {
        self.down.clear();
        self.base = 0;
        self.sent = 0;
        self.received = 0;
    }

    /// This gateway knows the session from a world server's roster only: the player's counts are taken over.
    pub(crate) fn adopt(&mut self, received_by_player: u64, sent_by_player: u64) {
        self.restart();
        self.base = received_by_player.min(MAX_COUNT);
        self.sent = self.base;
        self.received = sent_by_player.min(MAX_COUNT);
    }

    /// A frame of the player's that goes straight on.
    pub(crate) const fn forwarded(&mut self) {
        self.received += 1;
    }

    /// A frame of the player's that waits for a home. Frames beyond the limit are taken up to twice its size, because the
    /// sender may have had some in hand when told to stop.
    pub(crate) fn queue(&mut self, body: &Bytes) -> Queued {
        if self.up.len() >= 2 * self.limits.queued_frames || self.up.bytes.len() >= 2 * self.limits.queued_bytes {
            return Queued::TooMany;
        }
        self.received += 1;
        self.up.push(body);
        if self.up.len() >= self.limits.queued_frames || self.up.bytes.len() >= self.limits.queued_bytes {
            Queued::KeptFull
        } else {
            Queued::Kept
        }
    }

    /// The player's frames that waited, in order.
    pub(crate) fn take_queued(&mut self) -> Vec<Bytes> {
        let frames = self.up.copy_from(0);
        self.up.clear();
        frames
    }

    /// How many of the player's frames were taken.
    #[must_use]
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { queued_frames: 3, queued_bytes: 100, window_frames: 4, window_bytes: 100 };

    fn body(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    fn sent(frames: std::ops::Range<u8>) -> Window {
        let mut window = Window::new(LIMITS);
        for n in frames {
            window.sent(&body(n));
        }
        window
    }

    #[test]
    fn a_resume_sends_what_the_player_lacks() {
        for (acknowledged, received, expect, gap) in
            [(0, 0, vec![0, 1, 2], false), (1, 2, vec![2], false), (0, 3, vec![], false), (2, 1, vec![2], true)]
        {
            let mut window = sent(0..3);
            window.acknowledged(acknowledged);
            assert_eq!(window.resume(received), gap, "{acknowledged} {received}");
            let frames: Vec<u8> = window.take_unsent().iter().map(|b| b[0]).collect();
            assert_eq!(frames, expect);
        }
    }

    #[test]
    fn an_overflow_is_a_gap_and_counts_go_on_from_the_players() {
        let mut window = sent(0..6);
        assert!(window.resume(1), "frame 1 fell out");
        assert_eq!(window.take_unsent().len(), 4);
        window.acknowledged(5);
        assert!(!window.resume(5));
        assert!(window.take_unsent().is_empty());
    }

    #[test]
    fn an_ack_of_frames_never_sent_forgets_only_what_was() {
        let mut window = sent(0..2);
        window.keep(&body(9));
        window.acknowledged(100);
        assert_eq!(window.take_unsent(), vec![body(9)]);
    }

    #[test]
    fn a_client_that_claims_absurd_counts_overflows_nothing() {
        let mut resumed = sent(0..2);
        assert!(resumed.resume(u64::MAX));
        let mut adopted = Window::new(LIMITS);
        adopted.adopt(u64::MAX, u64::MAX);
        for window in [&mut resumed, &mut adopted] {
            window.keep(&body(9));
            assert_eq!(window.take_unsent(), vec![body(9)]);
            window.forwarded();
            assert_eq!(window.queue(&body(1)), Queued::Kept);
            window.acknowledged(u64::MAX);
            assert!(!window.has_unsent());
        }
    }

    #[test]
    fn the_queue_says_when_to_stop() {
        let mut window = Window::new(LIMITS);
        let said: Vec<_> = (0..7).map(|n| window.queue(&body(n))).collect();
        assert_eq!(&said[..3], [Queued::Kept, Queued::Kept, Queued::KeptFull]);
        assert_eq!(said[6], Queued::TooMany);
        assert_eq!(window.received(), 6);
        assert_eq!(window.take_queued().len(), 6);
    }
}
