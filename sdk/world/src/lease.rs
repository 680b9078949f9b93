//! The lease of one link: until when its players may be simulated. Counted from when a heartbeat was *sent*, so that this
//! side's lease is over before the gateway, which counts from its answer, believes it to be.
//!
//! No I/O and no clock: times come in.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_types::Mono;

/// Heartbeats whose answer may still come; older ones could not renew any lease that matters.
const REMEMBERED: usize = 64;

/// The lease of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    length: Duration,
    sent: VecDeque<(u64, Mono)>,
    next: u64,
    until: Mono,
}

impl Lease {
    /// A lease that is over until its first heartbeat is answered.
    pub(crate) fn new(length: Duration) -> Self {
        // Sabotage: one that never is over.
        let until = if tidegate_types::sabotage::on("skip_lease_check") { Mono(u64::MAX) } else { Mono(0) };
        Self { length, sent: VecDeque::new(), next: 1, until }
    }

    /// Notes that a heartbeat is sent now; its sequence number.
    pub(crate) fn heartbeat(&mut self, now: Mono) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((sequence, now));
        sequence
    }

    /// Notes an answer. An unknown or repeated one changes nothing.
    pub(crate) fn answered(&mut self, sequence: u64) {
        while let Some(&(sent, at)) = self.sent.front() {
            if sent > sequence {
                break;
            }
            self.sent.pop_front();
            if sent == sequence {
                self.until = self.until.max(at + self.length);
            }
        }
    }

    /// True while the players may be simulated.
    pub(crate) fn is_valid(&self, now: Mono) -> bool {
        now < self.until
    }

    /// When it ends or ended; zero when it never began.
    pub(crate) fn until(&self) -> Mono {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: Duration = Duration::from_millis(3000);

    fn at(ms: u64) -> Mono {
        Mono(1_000_000_000 + ms * 1000)
    }

    #[test]
    fn it_counts_from_the_sending_and_not_from_the_answer() {
        let mut lease = Lease::new(LENGTH);
        assert!(!lease.is_valid(at(0)));
        let first = lease.heartbeat(at(0));
        lease.answered(first);
        assert!(lease.is_valid(at(2999)) && !lease.is_valid(at(3000)));
    }

    #[test]
    fn an_old_answer_after_a_long_pause_renews_nothing() {
        let mut lease = Lease::new(LENGTH);
        let first = lease.heartbeat(at(0));
        lease.answered(first);
        let second = lease.heartbeat(at(750));
        lease.answered(second);
        assert!(!lease.is_valid(at(10_000)));
        let third = lease.heartbeat(at(10_000));
        assert!(!lease.is_valid(at(10_001)));
        lease.answered(third);
        assert!(lease.is_valid(at(10_001)));
    }

    proptest! {
        /// The rule itself, as the gateway sees it: at no time later than `length` after the last *answered* heartbeat's
        /// sending is the lease valid; answers invented or repeated change nothing.
        #[test]
        fn never_valid_beyond_the_last_answered_heartbeat(steps in prop::collection::vec((0u64..4, 0u64..2000, 0u64..80), 1..300)) {
            let mut lease = Lease::new(LENGTH);
            let (mut now, mut sent, mut last_answered) = (0u64, Vec::new(), None::<u64>);
            for (kind, pause, which) in steps {
                now += pause;
                match kind {
                    0 | 1 => sent.push((lease.heartbeat(at(now)), now)),
                    2 => {
                        lease.answered(which);
                        if let Some(&(_, when)) = sent.iter().find(|(s, _)| *s == which) {
                            last_answered = last_answered.max(Some(when));
                        }
                    }
                    _ => {}
                }
                if lease.is_valid(at(now)) {
                    let when = last_answered.expect("valid without an answer");
                    prop_assert!(now < when + 3000);
                }
            }
        }

        /// Answered in time, it never lapses.
        #[test]
        fn a_prompt_gateway_keeps_it_valid(delays in prop::collection::vec(0u64..700, 1..200)) {
            let mut lease = Lease::new(LENGTH);
            for (beat, delay) in delays.into_iter().enumerate() {
                let start = beat as u64 * 750;
                prop_assert!(beat == 0 || lease.is_valid(at(start)));
                let sequence = lease.heartbeat(at(start));
                lease.answered(sequence);
                prop_assert!(lease.is_valid(at(start + delay)));
            }
        }
    }
}
