//! Notices early that the other side does not answer any more. Pure: counters come in.
//!
//! QUIC itself only gives up after its idle timeout, which has to bear every hiccup of a network. Here it counts that
//! something was sent that demands an answer (a frame, a datagram, or one of QUIC's own probes, which follow each other
//! ever more slowly while no answer comes), and that nothing at all came back since.

use std::time::Duration;

use quinn::ConnectionStats;
use tokio::time::Instant;

/// A silence is cut into so many looks. Looks are counted, not the clock: a process that was stopped for a while sees one
/// late look, and the answers that wait for it are read before the next.
const LOOKS: u32 = 4;
/// On a slow path silence has to last for so many probe timeouts: QUIC's first three probes, doubling, take seven.
const PROBE_TIMEOUTS: u32 = 8;
/// What a receiver may hold an acknowledgement back (RFC 9000, `max_ack_delay`).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Watches one connection.
#[derive(Debug)]
pub(crate) struct Silence {
    every: Duration,
    next: Instant,
    heard: u64,
    /// What had been asked when something was heard last.
    asked: u64,
    /// Looks at which a question was open.
    unanswered: u32,
}

impl Silence {
    /// `limit`: how long a question may stay unanswered on a fast path.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        let every = (limit / LOOKS).max(Duration::from_millis(1));
        Self { every, next: now + every, heard: 0, asked: 0, unanswered: 0 }
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// One look, if it is time for one: what was heard, and whether the silence has lasted too long.
    pub(crate) fn look(&mut self, stats: &ConnectionStats, now: Instant) -> Look {
        let sent = &stats.frame_tx;
        self.count(stats.udp_rx.datagrams, sent.stream + sent.datagram + sent.ping, stats.path.rtt, now)
    }

    fn count(&mut self, heard: u64, asked: u64, rtt: Duration, now: Instant) -> Look {
        if now < self.next {
            return Look::Early;
        }
        self.next = now + self.every;
        if heard != self.heard {
            (self.heard, self.asked, self.unanswered) = (heard, asked, 0);
            return Look::Heard;
        }
        self.unanswered += u32::from(asked > self.asked);
        // RFC 9002: round trip + 4 variations + the delay; a variation begins as half of the round trip.
        let patience = (rtt * 3 + ACK_DELAY) * PROBE_TIMEOUTS;
        let looks = patience.as_nanos().div_ceil(self.every.as_nanos());
        if u128::from(self.unanswered) >= looks.max(u128::from(LOOKS)) { Look::Silent } else { Look::Nothing }
    }
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It was not time for one.
    Early,
    /// Something came since the look before.
    Heard,
    /// Nothing came; that may be well.
    Nothing,
    /// The other side does not answer.
    Silent,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(2_000);

    /// Looks in turn, on time; each with what was heard and asked up to then.
    fn looks(rtt: Duration, seen: &[(u64, u64)]) -> Vec<Look> {
        let mut now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        let mut found = Vec::new();
        for (heard, asked) in seen {
            now += LIMIT / LOOKS;
            found.push(silence.count(*heard, *asked, rtt, now));
        }
        found
    }

    #[test]
    fn a_question_without_an_answer_is_silence_in_the_end() {
        let seen = [(1, 1), (1, 2), (1, 2), (1, 3), (1, 3)];
        let found = looks(Duration::from_millis(10), &seen);
        assert_eq!(found, [Look::Heard, Look::Nothing, Look::Nothing, Look::Nothing, Look::Silent]);
    }

    #[test]
    fn who_is_not_asked_need_not_answer() {
        assert!(looks(Duration::ZERO, &[(1, 1); 50]).iter().skip(1).all(|look| *look == Look::Nothing));
    }

    #[test]
    fn any_word_ends_a_silence() {
        let seen: Vec<(u64, u64)> = (0..50).map(|n| (n / 3, n)).collect();
        assert!(!looks(Duration::ZERO, &seen).contains(&Look::Silent));
    }

    #[test]
    fn a_slow_path_is_given_more_time() {
        let seen: Vec<(u64, u64)> = (0..60).map(|n| (1, n)).collect();
        let until = |rtt| looks(rtt, &seen).iter().position(|look| *look == Look::Silent).unwrap();
        assert_eq!(until(Duration::from_millis(10)), 4);
        // (3 x 400 ms + 25 ms) x 8 = 9.8 s, 20 looks.
        assert_eq!(until(Duration::from_millis(400)), 20);
    }

    #[test]
    fn a_process_that_stood_still_does_not_take_its_own_silence_for_the_others() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, start);
        assert_eq!(silence.count(1, 1, Duration::ZERO, start + LIMIT / 4), Look::Heard);
        assert_eq!(silence.count(1, 2, Duration::ZERO, start + LIMIT * 100), Look::Nothing);
        assert_eq!(silence.count(1, 2, Duration::ZERO, start + LIMIT * 100), Look::Early);
        assert_eq!(silence.count(2, 2, Duration::ZERO, start + LIMIT * 101), Look::Heard);
    }
}
