//! How much one connection may bring, in packets, datagrams and frames, by count and by bytes.
//!
//! A bucket is one number: the moment at which everything taken from it has been paid for (the generic cell rate algorithm,
//! ITU-T I.371). Asking costs a few instructions and allocates nothing, because it is done for every packet.

use crate::Limits;

const SECOND_NS: u64 = 1_000_000_000;

/// So much a second, and how far ahead of it one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    per_s: u64,
    burst_ns: u64,
}

impl Rate {
    /// `per_s` units a second; whoever was silent may take the units of `burst_ms` at once.
    pub(super) const fn new(per_s: u32, burst_ms: u32) -> Self {
        Self { per_s: per_s as u64, burst_ns: burst_ms as u64 * 1_000_000 }
    }

    /// `per_s` units a second; whoever was silent may take `burst` units at once.
    pub(super) const fn with_burst(per_s: u32, burst: u32) -> Self {
        Self { per_s: per_s as u64, burst_ns: burst as u64 * SECOND_NS / per_s as u64 }
    }

    const fn price_ns(&self, units: u64) -> u64 {
        units * SECOND_NS / self.per_s
    }
}

/// What is left of a [`Rate`]. Times are nanoseconds since the edge began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    paid_at: u64,
}

impl Bucket {
    /// Takes `units` if they are there.
    pub(super) fn take(&mut self, rate: &Rate, now: u64, units: u64) -> bool {
        let paid_at = self.paid_at.max(now) + rate.price_ns(units);
        if paid_at - now > rate.burst_ns {
            return false;
        }
        self.paid_at = paid_at;
        true
    }

    /// Takes `units` whether they are there or not; what is missing is owed.
    fn spend(&mut self, rate: &Rate, now: u64, units: u64) {
        self.paid_at = self.paid_at.max(now) + rate.price_ns(units);
    }

    /// When nothing is owed any more.
    fn settled_at(&self, rate: &Rate) -> u64 {
        self.paid_at.saturating_sub(rate.burst_ns)
    }
}

/// What every connection may bring, from the configuration.
#[derive(Debug)]
pub(super) struct Rates {
    packets: Rate,
    excess: Rate,
    datagrams: Rate,
    datagram_bytes: Rate,
    frames: Rate,
    frame_bytes: Rate,
}

impl Rates {
    pub(super) fn new(limits: &Limits) -> Self {
        let burst_ms = limits.burst_ms;
        Self {
            packets: Rate::new(limits.packets_per_s, burst_ms),
            excess: Rate::with_burst(limits.packets_per_s, limits.flood_packets),
            datagrams: Rate::new(limits.datagrams_per_s, burst_ms),
            datagram_bytes: Rate::new(limits.datagram_bytes_per_s, burst_ms),
            frames: Rate::new(limits.frames_per_s, burst_ms),
            frame_bytes: Rate::new(limits.frame_bytes_per_s, burst_ms),
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    Taken,
    /// Over the rate: not worth its decryption.
    Dropped,
    /// Dropped, and so far over the rate for so long that it is meant.
    Flood,
}

/// What one connection has left.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    packets: Bucket,
    excess: Bucket,
    datagrams: Bucket,
    datagram_bytes: Bucket,
    frames: Bucket,
    frame_bytes: Bucket,
}

impl Allowance {
    /// A UDP packet, before anything was done with it.
    pub(super) fn packet(&mut self, rates: &Rates, now: u64) -> Packet {
        if self.packets.take(&rates.packets, now, 1) {
            Packet::Taken
        } else if self.excess.take(&rates.excess, now, 1) {
            Packet::Dropped
        } else {
            Packet::Flood
        }
    }

    /// An unreliable message: false when it is to be dropped.
    pub(super) fn datagram(&mut self, rates: &Rates, now: u64, bytes: usize) -> bool {
        self.datagrams.take(&rates.datagrams, now, 1)
            && self.datagram_bytes.take(&rates.datagram_bytes, now, bytes as u64)
    }

    /// A frame that was read. `Some`: nothing more is to be read until then.
    pub(super) fn frame(&mut self, rates: &Rates, now: u64, bytes: usize) -> Option<u64> {
        self.frames.spend(&rates.frames, now, 1);
        self.frame_bytes.spend(&rates.frame_bytes, now, bytes as u64);
        let until = self.frames.settled_at(&rates.frames).max(self.frame_bytes.settled_at(&rates.frame_bytes));
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates() -> Rates {
        Rates::new(&Limits {
            packets_per_s: 100,
            flood_packets: 1_000,
            datagrams_per_s: 10,
            datagram_bytes_per_s: 1_000,
            frames_per_s: 10,
            frame_bytes_per_s: 1_000,
            burst_ms: 2_000,
            ..Limits::default()
        })
    }

    #[test]
    fn a_burst_is_taken_at_once_and_the_rate_for_ever() {
        let (rates, mut mine) = (rates(), Allowance::default());
        let taken = |mine: &mut Allowance, at, tries| (0..tries).filter(|_| mine.datagram(&rates, at, 1)).count();
        assert_eq!(taken(&mut mine, 0, 100), 20, "two seconds' worth");
        assert_eq!(taken(&mut mine, SECOND_NS, 100), 10, "one second's worth");
        assert_eq!(taken(&mut mine, 100 * SECOND_NS, 100), 20, "silence is not saved up beyond the burst");
    }

    #[test]
    fn bytes_count_as_well() {
        let (rates, mut mine) = (rates(), Allowance::default());
        assert!(mine.datagram(&rates, 0, 1_200));
        assert!(!mine.datagram(&rates, 0, 1_200), "2,000 bytes at once are the most");
        assert!(mine.datagram(&rates, SECOND_NS, 1_200));
    }

    #[test]
    fn a_long_frame_is_taken_and_then_paid_for() {
        let (rates, mut mine) = (rates(), Allowance::default());
        assert_eq!(mine.frame(&rates, 0, 500), None);
        let until = mine.frame(&rates, 0, 16_000).expect("more than there was");
        assert_eq!(until, (16_500 - 2_000) * SECOND_NS / 1_000);
        assert_eq!(mine.frame(&rates, until + SECOND_NS, 0), None);
    }

    #[test]
    fn twice_the_rate_is_dropped_for_ever_and_a_hundred_times_is_a_flood() {
        let rates = rates();
        for (per_s, floods) in [(100, false), (150, false), (200, false), (10_000, true)] {
            let mut mine = Allowance::default();
            let flooded = (0..per_s * 60).any(|n| mine.packet(&rates, n * SECOND_NS / per_s) == Packet::Flood);
            assert_eq!(flooded, floods, "{per_s}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_burst(gaps in prop::collection::vec(0u64..SECOND_NS / 2, 1..200)) {
            let (rates, mut mine, mut now, mut taken) = (rates(), Allowance::default(), 0, 0);
            for gap in gaps {
                now += gap;
                taken += u64::from(mine.datagram(&rates, now, 1));
                prop_assert!(taken <= 20 + now * 10 / SECOND_NS);
            }
        }
    }
}
