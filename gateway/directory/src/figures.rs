//! What the directory's connection has done so far, for metrics and status.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the round-trip histogram's buckets, in microseconds; one more bucket holds what is longer.
pub const ROUND_TRIP_BOUNDS_US: [u64; 10] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000];

/// How the directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// It answers.
    Up,
    /// It is out of reach or refuses; requests are answered `Unavailable`.
    Degraded {
        /// Why, in one line.
        why: String,
    },
}

/// Counters since the start; they only grow, but for `in_flight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How the directory is.
    pub state: State,
    /// Requests that wait for their answers.
    pub in_flight: usize,
    /// Requests that were answered by the directory.
    pub answered: u64,
    /// Requests that ended `Unavailable`, for whatever reason.
    pub unavailable: u64,
    /// Of those: not taken because too many waited.
    pub overflowed: u64,
    /// Of those: sent, and not answered in time.
    pub timed_out: u64,
    /// Of those: the server or the connection answered with an error.
    pub errors: u64,
    /// Connections made.
    pub connects: u64,
    /// Times that the directory was found empty or replaced.
    pub wipes: u64,
    /// Times that another server was found to hold (a part of) the directory.
    pub failovers: u64,
    /// Entries that could not be read and were treated as missing.
    pub corrupt: u64,
    /// Round trips by duration: one bucket for each of [`ROUND_TRIP_BOUNDS_US`], and one for what is longer.
    pub round_trips: [u64; ROUND_TRIP_BOUNDS_US.len() + 1],
    /// The sum of all round trips, in microseconds.
    pub round_trips_sum_us: u64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            state: State::Connecting,
            in_flight: 0,
            answered: 0,
            unavailable: 0,
            overflowed: 0,
            timed_out: 0,
            errors: 0,
            connects: 0,
            wipes: 0,
            failovers: 0,
            corrupt: 0,
            round_trips: [0; ROUND_TRIP_BOUNDS_US.len() + 1],
            round_trips_sum_us: 0,
        }
    }
}

impl Figures {
    pub(crate) fn round_trip(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = ROUND_TRIP_BOUNDS_US.iter().position(|&bound| us <= bound).unwrap_or(ROUND_TRIP_BOUNDS_US.len());
        self.round_trips[bucket] += 1;
        self.round_trips_sum_us = self.round_trips_sum_us.saturating_add(us);
    }
}

/// The figures, shared by the handles and the connection. Held for nanoseconds, never across a wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Figures>>);

impl Ledger {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Figures) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_falls_into_the_bucket_that_bounds_it() {
        let mut figures = Figures::default();
        figures.round_trip(Duration::from_micros(100));
        figures.round_trip(Duration::from_micros(101));
        figures.round_trip(Duration::from_secs(9));
        assert_eq!(figures.round_trips[..2], [1, 1]);
        assert_eq!(figures.round_trips[ROUND_TRIP_BOUNDS_US.len()], 1);
        assert_eq!(figures.round_trips_sum_us, 9_000_201);
    }
}
