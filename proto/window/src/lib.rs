//! Acknowledged windows: the frames of one direction of a session's reliable channel that the far end has not confirmed yet.
//!
//! ```text
//!    acknowledged           kept
//!   ──────────────┬──────────────────────┬─────▶ numbers, since the session began
//!               base()                 total()
//! ```
//!
//! Counts survive connections, links, gateways and homes; whoever takes a channel over goes on from them. Pure: knows
//! neither sockets nor time.

mod ring;

use bytes::Bytes;

pub use ring::Ring;

/// The highest count that a peer is believed: no session comes near it, and counting on from it cannot overflow.
pub const MAX_COUNT: u64 = 1 << 62;

/// How much a [`Backlog`] may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most frames.
    pub frames: usize,
    /// Most bytes, counted over bodies.
    pub bytes: usize,
}

/// Frames sent (or to be sent) and not acknowledged, oldest first, bounded: what falls out is only missed if it must be sent
/// again.
#[derive(Debug, Clone)]
pub struct Backlog {
    limits: Limits,
    base: u64,
    ring: Ring,
}

impl Backlog {
    /// Nothing sent.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, base: 0, ring: Ring::default() }
    }

    /// The number of the oldest frame kept; all before it are acknowledged, or fell out.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The number that the next frame gets: how many there were since the session began.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    /// How many bytes are kept, counted over bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// True if another frame would push out one that is kept.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ring.len() >= self.limits.frames || self.ring.bytes() >= self.limits.bytes
    }

    /// Adds a frame at the end. The oldest fall out beyond the limits; one frame always fits.
    pub fn push(&mut self, body: &[u8]) {
        self.ring.push(body);
        while self.ring.len() > 1 && (self.ring.len() > self.limits.frames || self.ring.bytes() > self.limits.bytes) {
            self.forget_oldest();
        }
    }

    /// The far end has received so many. A count beyond what was ever sent counts as all of it; an older one changes nothing.
    pub fn acknowledge(&mut self, received: u64) {
        while self.base < received && !self.ring.is_empty() {
            self.forget_oldest();
        }
    }

    /// The frames from `number` on.
    #[must_use]
    pub fn from(&self, number: u64) -> Vec<Bytes> {
        let skip = usize::try_from(number.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.ring.copy_from(skip)
    }

    /// The far end has received so many, and what came after is to be sent again. True if some of that is gone: then what is
    /// left is numbered as if the rest had never been, because the far end counts what it gets.
    #[must_use = "a gap is to be told"]
    pub fn resume(&mut self, received: u64) -> bool {
        let received = received.min(MAX_COUNT);
        self.acknowledge(received);
        let gap = received != self.base;
        self.base = received;
        gap
    }

    /// Goes on where another left off: `base` are acknowledged, `frames` are not.
    pub fn adopt<'a>(&mut self, base: u64, frames: impl IntoIterator<Item = &'a [u8]>) {
        self.ring.clear();
        self.base = base.min(MAX_COUNT);
        for frame in frames {
            self.push(frame);
        }
    }

    fn forget_oldest(&mut self) {
        if self.ring.pop() {
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { frames: 4, bytes: 100 };

    fn filled(frames: std::ops::Range<u8>) -> Backlog {
        let mut backlog = Backlog::new(LIMITS);
        for n in frames {
            backlog.push(&[n]);
        }
        backlog
    }

    fn first_bytes(frames: &[Bytes]) -> Vec<u8> {
        frames.iter().map(|frame| frame[0]).collect()
    }

    #[test]
    fn what_is_not_acknowledged_can_be_sent_again() {
        let mut backlog = filled(0..3);
        backlog.acknowledge(1);
        assert!(!backlog.resume(2));
        assert_eq!((backlog.base(), backlog.total()), (2, 3));
        assert_eq!(first_bytes(&backlog.from(2)), [2]);
        assert_eq!(first_bytes(&backlog.from(0)), [2]);
        assert!(backlog.from(9).is_empty());
    }

    #[test]
    fn an_overflow_is_a_gap_and_counts_go_on_from_the_far_end() {
        let mut backlog = filled(0..6);
        assert_eq!((backlog.base(), backlog.total()), (2, 6));
        assert!(backlog.resume(1), "frame 1 fell out");
        assert_eq!((backlog.base(), backlog.total()), (1, 5));
        assert!(!backlog.resume(5));
    }

    #[test]
    fn a_backlog_taken_over_goes_on_from_the_counts() {
        let mut backlog = Backlog::new(LIMITS);
        backlog.adopt(7, [&b"a"[..], b"b"]);
        backlog.push(b"c");
        assert_eq!((backlog.base(), backlog.total()), (7, 10));
        backlog.acknowledge(8);
        assert_eq!(backlog.from(8), [&b"b"[..], b"c"]);
    }

    #[test]
    fn absurd_counts_overflow_nothing() {
        let mut backlog = filled(0..2);
        assert!(backlog.resume(u64::MAX));
        backlog.push(b"x");
        assert_eq!(backlog.total(), MAX_COUNT + 1);
        backlog.adopt(u64::MAX, []);
        backlog.push(b"y");
        backlog.acknowledge(u64::MAX);
        assert_eq!(backlog.base(), MAX_COUNT + 1);
    }

    proptest! {
        /// Two ends and a line that loses any tail: every frame arrives once and in order as long as nothing falls out.
        #[test]
        fn every_frame_arrives_once(steps in prop::collection::vec((0u8..4, 0usize..6), 1..100)) {
            let mut backlog = Backlog::new(Limits { frames: 1_000, bytes: 1_000_000 });
            let (mut pushed, mut got, mut line) = (0u32, Vec::new(), std::collections::VecDeque::new());
            for (kind, count) in steps {
                match kind {
                    0 => for _ in 0..count {
                        let body = pushed.to_be_bytes();
                        backlog.push(&body);
                        line.push_back(Bytes::copy_from_slice(&body));
                        pushed += 1;
                    },
                    1 => for _ in 0..count { got.extend(line.pop_front()); },
                    2 => backlog.acknowledge(got.len() as u64),
                    _ => {
                        line.clear();
                        prop_assert!(!backlog.resume(got.len() as u64));
                        line.extend(backlog.from(got.len() as u64));
                    }
                }
            }
            got.extend(line);
            let expect: Vec<Bytes> = (0..pushed).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
            prop_assert_eq!(got, expect);
        }
    }
}
