//! Which fault strikes when: a pure function of a seed, so that a run can be had again.
//!
//! Time goes in *rounds*. In each, one to three faults of different parts of the realm strike within a few seconds, so that
//! they overlap; all end in the round, and then there is time to recover. Kinds are dealt from a shuffled deck: a long run
//! has every kind about equally often, a short one as many as fit.

mod aimed;
mod kind;
mod words;

pub use aimed::SABOTAGE;
pub use kind::{Kind, Part};
pub use words::{Word, Words};

use std::fmt;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

/// The first fault waits so long, in milliseconds: players have come in and play.
const BEGINS_MS: u64 = 2_000;
/// Faults of one round begin within this time of each other.
const STRIKES_MS: u64 = 3_000;
/// After the last fault of a round has ended, so long nothing else happens.
const RECOVERY_MS: std::ops::Range<u64> = 5_000..8_000;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// When, since the beginning of the schedule.
    pub at_ms: u64,
    /// How long until it is taken back; a kill is taken back by a new start.
    pub lasts_ms: u64,
    /// What.
    pub kind: Kind,
    /// Whom: counted around those that are there.
    pub target: u32,
}

/// All that strikes in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Where it comes from.
    pub seed: u64,
    /// How long it is, in milliseconds; every fault has ended by then.
    pub length_ms: u64,
    /// In the order of time.
    pub faults: Vec<Fault>,
    /// What the two operators say, in the order of time.
    pub words: Vec<Word>,
}

impl Schedule {
    /// The schedule of a seed, of faults of these kinds only.
    #[must_use]
    pub fn new(seed: u64, length_ms: u64, kinds: &[Kind]) -> Self {
        let mut dice = Pcg64Mcg::seed_from_u64(seed);
        let faults = faults(&mut dice, length_ms, kinds);
        let words = words::draw(&mut Pcg64Mcg::seed_from_u64(seed ^ 0x0907), length_ms);
        Self { seed, length_ms, faults, words }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} over {} s: {} faults", self.seed, self.length_ms / 1_000, self.faults.len())?;
        for fault in &self.faults {
            let at = fault.at_ms as f64 / 1_000.0;
            let lasts = fault.lasts_ms as f64 / 1_000.0;
            writeln!(f, "  {at:8.3} s  {:<18} target {}  for {lasts:.3} s", fault.kind.word(), fault.target)?;
        }
        Ok(())
    }
}

fn faults(dice: &mut Pcg64Mcg, length_ms: u64, kinds: &[Kind]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut deck: Vec<Kind> = Vec::new();
    let mut round = BEGINS_MS;
    while !kinds.is_empty() {
        let wanted = dice.random_range(1..=3);
        let mut dealt: Vec<Kind> = Vec::new();
        for _ in 0..wanted {
            if deck.is_empty() {
                deck = shuffled(dice, kinds);
            }
            // Two faults of one part would hide each other; the next that fits is taken.
            let fits = deck.iter().rposition(|kind| dealt.iter().all(|other| other.part() != kind.part()));
            if let Some(at) = fits {
                dealt.push(deck.remove(at));
            }
        }
        let mut over = round;
        let mut struck = Vec::new();
        for (n, kind) in dealt.into_iter().enumerate() {
            let at_ms = round + if n == 0 { 0 } else { dice.random_range(0..STRIKES_MS) };
            let lasts_ms = dice.random_range(kind.lasts_ms());
            over = over.max(at_ms + lasts_ms);
            struck.push(Fault { at_ms, lasts_ms, kind, target: dice.random_range(0..1_000) });
        }
        if over > length_ms {
            break;
        }
        struck.sort_by_key(|fault| fault.at_ms);
        faults.extend(struck);
        round = over + dice.random_range(RECOVERY_MS);
    }
    faults
}

fn shuffled(dice: &mut Pcg64Mcg, kinds: &[Kind]) -> Vec<Kind> {
    let mut deck = kinds.to_vec();
    for at in (1..deck.len()).rev() {
        deck.swap(at, dice.random_range(0..=at));
    }
    deck
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_AN_HOUR: u64 = 30 * 60_000;

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        assert_eq!(Schedule::new(7, 60_000, &Kind::ALL), Schedule::new(7, 60_000, &Kind::ALL));
        assert_ne!(Schedule::new(7, 60_000, &Kind::ALL).faults, Schedule::new(8, 60_000, &Kind::ALL).faults);
    }

    #[test]
    fn a_long_run_has_every_kind_many_times_and_ends_in_time() {
        for seed in 0..20 {
            let schedule = Schedule::new(seed, HALF_AN_HOUR, &Kind::ALL);
            for kind in Kind::ALL {
                let times = schedule.faults.iter().filter(|fault| fault.kind == kind).count();
                assert!(times >= 3, "seed {seed}: {} only {times} times", kind.word());
            }
            assert!(schedule.faults.iter().all(|fault| fault.at_ms + fault.lasts_ms <= HALF_AN_HOUR));
            assert!(schedule.faults.is_sorted_by_key(|fault| fault.at_ms));
        }
    }

    #[test]
    fn faults_overlap_but_never_two_of_one_part() {
        let mut overlaps = 0;
        for seed in 0..20 {
            let faults = Schedule::new(seed, HALF_AN_HOUR, &Kind::ALL).faults;
            for (n, one) in faults.iter().enumerate() {
                for two in &faults[n + 1..] {
                    if two.at_ms < one.at_ms + one.lasts_ms {
                        overlaps += 1;
                        assert_ne!(one.kind.part(), two.kind.part(), "seed {seed}: {one:?} and {two:?}");
                    }
                }
            }
        }
        assert!(overlaps > 100);
    }

    #[test]
    fn only_the_kinds_asked_for_strike() {
        let schedule = Schedule::new(1, 600_000, &[Kind::WorldKill]);
        assert!(schedule.faults.len() > 10);
        assert!(schedule.faults.iter().all(|fault| fault.kind == Kind::WorldKill));
        assert!(Schedule::new(1, 600_000, &[]).faults.is_empty());
    }

    #[test]
    fn it_can_be_read() {
        let text = Schedule::new(1, 60_000, &[Kind::RedisWipe]).to_string();
        assert!(text.contains("seed 1 over 60 s") && text.contains("redis-wipe"), "{text}");
    }
}
