//! What becomes of a packet: decided from a seed, without sockets or clocks.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// What one direction does to the packets that pass it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// Nothing passes.
    pub cut: bool,
    /// Share of packets that vanish, 0 to 1.
    pub drop: f64,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
    /// Share of packets that are held back until later ones have passed (for [`HELD_BACK`]).
    pub reorder: f64,
    /// How long every packet takes.
    pub delay: Duration,
    /// At most so much more, drawn for each packet.
    pub jitter: Duration,
    /// Most bytes a second; what comes faster queues up for at most [`QUEUE`], then vanishes.
    pub rate_bytes_s: Option<u32>,
}

/// How long a packet is held back that shall be overtaken.
pub const HELD_BACK: Duration = Duration::from_millis(30);

/// The longest that a packet waits for its turn on a slow line.
pub const QUEUE: Duration = Duration::from_millis(500);

impl Weather {
    /// Everything passes at once.
    pub const FAIR: Self = Self {
        cut: false,
        drop: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        rate_bytes_s: None,
    };

    /// Nothing passes.
    pub const CUT: Self = Self { cut: true, ..Self::FAIR };
}

/// When each copy of a packet leaves the relay, by the clock that was given; none at all, one or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The times.
    pub copies: [Option<Duration>; 2],
}

impl Fate {
    /// It vanishes.
    pub const LOST: Self = Self { copies: [None; 2] };
}

/// One direction's weather, and its chance.
#[derive(Debug)]
pub struct Sky {
    /// May be changed at any time.
    pub weather: Weather,
    dice: Pcg64Mcg,
    /// When a slow line has sent what was given to it.
    free_at: Duration,
}

impl Sky {
    /// Fair weather, with the chance of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { weather: Weather::FAIR, dice: Pcg64Mcg::seed_from_u64(seed), free_at: Duration::ZERO }
    }

    /// What becomes of a packet of so many bytes that comes at `now` (time since any fixed moment).
    pub fn fate(&mut self, now: Duration, bytes: usize) -> Fate {
        let weather = self.weather;
        if weather.cut || self.happens(weather.drop) {
            return Fate::LOST;
        }
        let mut leaves = now + weather.delay;
        if weather.jitter > Duration::ZERO {
            leaves += weather.jitter.mul_f64(self.dice.random_range(0.0..1.0));
        }
        if let Some(rate) = weather.rate_bytes_s {
            let begins = self.free_at.max(now);
            if begins - now > QUEUE {
                return Fate::LOST;
            }
            self.free_at = begins + Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1)));
            leaves += self.free_at - now;
        }
        if self.happens(weather.reorder) {
            leaves += HELD_BACK;
        }
        let twice = self.happens(weather.duplicate).then_some(leaves + Duration::from_millis(1));
        Fate { copies: [Some(leaves), twice] }
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.dice.random_bool(share.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The fates of 10,000 packets of 100 bytes, one a millisecond.
    fn fates(weather: Weather, seed: u64) -> Vec<(Duration, Fate)> {
        let mut sky = Sky { weather, ..Sky::new(seed) };
        (0..10_000).map(|n| MS * n).map(|now| (now, sky.fate(now, 100))).collect()
    }

    fn lost(weather: Weather) -> usize {
        fates(weather, 1).iter().filter(|(_, fate)| *fate == Fate::LOST).count()
    }

    #[test]
    fn fair_weather_changes_nothing() {
        for (now, fate) in fates(Weather::FAIR, 1) {
            assert_eq!(fate.copies, [Some(now), None]);
        }
    }

    #[test]
    fn shares_are_kept() {
        assert_eq!(lost(Weather::CUT), 10_000);
        assert!((1_800..2_200).contains(&lost(Weather { drop: 0.2, ..Weather::FAIR })));
        let twice = fates(Weather { duplicate: 0.1, ..Weather::FAIR }, 1);
        assert!((850..1_150).contains(&twice.iter().filter(|(_, fate)| fate.copies[1].is_some()).count()));
        let late = fates(Weather { reorder: 0.1, ..Weather::FAIR }, 1);
        assert!((850..1_150).contains(&late.iter().filter(|(now, f)| f.copies[0] == Some(*now + HELD_BACK)).count()));
    }

    #[test]
    fn delay_and_jitter_bound_the_way() {
        for (now, fate) in fates(Weather { delay: MS * 5, jitter: MS * 10, ..Weather::FAIR }, 3) {
            let took = fate.copies[0].unwrap() - now;
            assert!((MS * 5..MS * 15).contains(&took), "{took:?}");
        }
    }

    #[test]
    fn a_slow_line_queues_and_then_loses() {
        // 100 bytes a millisecond come; half of that passes.
        let fates = fates(Weather { rate_bytes_s: Some(50_000), ..Weather::FAIR }, 1);
        let passed = fates.iter().filter(|(_, fate)| *fate != Fate::LOST).count();
        assert!((5_000..5_400).contains(&passed), "{passed}");
        for (now, fate) in fates {
            assert!(fate.copies[0].is_none_or(|leaves| leaves - now <= QUEUE + MS * 3));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_weather() {
        let bad = Weather { drop: 0.3, duplicate: 0.2, reorder: 0.2, jitter: MS * 9, ..Weather::FAIR };
        assert_eq!(fates(bad, 7), fates(bad, 7));
        assert_ne!(fates(bad, 7), fates(bad, 8));
    }
}
