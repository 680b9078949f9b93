//! How long to wait between attempts: doubling, with full jitter, so that the players of a lost gateway do not come back
//! all at once.

use std::time::Duration;

/// The first attempt comes within this time, so that even it is spread out.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer: within a grace time of a minute there must be room for many attempts.
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one absence.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait; `fraction` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, fraction: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts += 1;
        ceiling.mul_f64(fraction.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn waits_are_spread_over_their_whole_range() {
        assert_eq!(Backoff::default().next(0.0), Duration::ZERO);
        assert_eq!(Backoff::default().next(0.5), Duration::from_millis(25));
    }
}
