//! The gateway's side of the lease: until when a world server may still be simulating this gateway's players.
//!
//! The world server counts from when it *sent* the heartbeat that was answered, the gateway from when it *answered*, which is
//! later; one tenth more allows for clocks that run at different rates.

use std::time::Duration;

use tidegate_types::Mono;

/// The lease of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    last_answer: Mono,
    length: Duration,
}

impl Lease {
    /// A lease of a link that opened now. Nothing was answered yet; counting from the opening is on the safe side.
    #[must_use]
    pub(crate) const fn opened(now: Mono, length: Duration) -> Self {
        Self { last_answer: now, length }
    }

    /// A heartbeat was answered now.
    pub(crate) fn answered(&mut self, now: Mono) {
        self.last_answer = self.last_answer.max(now);
    }

    /// From then on the world server says nothing any more on behalf of this gateway's players, unless another heartbeat is
    /// answered.
    #[must_use]
    pub(crate) fn over_at(&self) -> Mono {
        self.last_answer + with_drift(self.length)
    }
}

/// A lease's length with the allowance for drifting clocks.
#[must_use]
pub(crate) fn with_drift(length: Duration) -> Duration {
    length + length / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_waits_a_tenth_longer_from_its_last_answer() {
        let second = |s: u64| Mono(s * 1_000_000);
        let mut lease = Lease::opened(second(10), Duration::from_secs(3));
        assert_eq!(lease.over_at(), Mono(13_300_000));
        lease.answered(second(12));
        assert_eq!(lease.over_at(), Mono(15_300_000));
        lease.answered(second(11));
        assert_eq!(lease.over_at(), Mono(15_300_000), "an answer reported late does not shorten it");
    }
}
