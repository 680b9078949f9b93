//! Latency histograms: what is recorded while the players play, and what the report shows of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart from longer ones, in microseconds: two minutes.
const LONGEST_US: u64 = 120_000_000;

/// The histograms of one part of the players, in microseconds.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// Reliable action: intended to answered.
    pub action: Histogram<u64>,
    /// Datagram: sent to echoed.
    pub datagram: Histogram<u64>,
    /// Login: intended to welcomed.
    pub login: Histogram<u64>,
    /// Between two homes.
    pub handover: Histogram<u64>,
    /// Lost connection noticed to back in play.
    pub resume: Histogram<u64>,
    /// Standstill while moving to another gateway.
    pub relocation: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        // Two significant figures: an error of one per cent, and 20 KB a histogram.
        let new = || Histogram::new_with_max(LONGEST_US, 2).expect("the bounds are fixed and right");
        Self { action: new(), datagram: new(), login: new(), handover: new(), resume: new(), relocation: new() }
    }
}

impl Latencies {
    /// Adds another part's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.action, &other.action),
            (&mut self.datagram, &other.datagram),
            (&mut self.login, &other.login),
            (&mut self.handover, &other.handover),
            (&mut self.resume, &other.resume),
            (&mut self.relocation, &other.relocation),
        ] {
            mine.add(theirs).expect("all are made with the same bounds");
        }
    }
}

/// Records a time; one beyond the longest counts as the longest.
pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US));
}

/// One histogram's figures, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The shortest.
    pub min: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// Half took at most this.
    pub p50: u64,
    /// Nine in ten took at most this.
    pub p90: u64,
    /// All but one in a hundred.
    pub p99: u64,
    /// All but one in a thousand.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// The whole histogram: pairs of an upper bound in microseconds and the count up to it since the bound before.
    pub buckets: Vec<(u64, u64)>,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            // Powers of two: enough to draw, small enough to print.
            buckets: histogram
                .iter_log(16, 2.0)
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_buckets_agree_with_what_was_recorded() {
        let mut latencies = Latencies::default();
        for us in 1..=1000 {
            record(&mut latencies.action, Duration::from_micros(us));
        }
        let mut sum = Latencies::default();
        sum.add(&latencies);
        let latency = Latency::from(&sum.action);
        assert_eq!((latency.count, latency.min), (1000, 1));
        assert!((495..=510).contains(&latency.p50) && (985..=1010).contains(&latency.p99), "{latency:?}");
        assert_eq!(latency.buckets.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert_eq!(Latency::from(&sum.login), Latency::default());
    }

    #[test]
    fn a_time_beyond_the_scale_counts_as_the_longest() {
        let mut latencies = Latencies::default();
        record(&mut latencies.login, Duration::from_secs(100_000));
        assert!(latencies.login.max() >= LONGEST_US);
    }
}
