//! What two operators say while everything breaks. Which environment a word is about is found when it is said.

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

/// What an operator can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Words {
    /// New players to the other environment.
    Flip,
    /// And back; players follow at their next boundary.
    Rollback,
    /// A new build, by itself, to the end.
    Rollout,
    /// Move one session to wherever new players go.
    Move,
    /// No new players for a moment.
    Freeze,
    /// Say something to everybody.
    Notify,
}

/// How often each is said, relative to the others.
const SHARES: [(Words, u32); 6] = [
    (Words::Flip, 6),
    (Words::Rollback, 3),
    (Words::Rollout, 4),
    (Words::Move, 6),
    (Words::Freeze, 1),
    (Words::Notify, 2),
];

/// One thing said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Word {
    /// When, since the beginning of the schedule.
    pub at_ms: u64,
    /// Which of the operators, 0 or 1.
    pub operator: u32,
    /// What.
    pub words: Words,
    /// Chooses among what it may be about.
    pub about: u32,
}

pub(super) fn draw(dice: &mut Pcg64Mcg, length_ms: u64) -> Vec<Word> {
    let mut said = Vec::new();
    for operator in 0..2 {
        let mut at_ms = dice.random_range(1_000..4_000);
        while at_ms < length_ms {
            said.push(Word { at_ms, operator, words: pick(dice), about: dice.random_range(0..1_000) });
            at_ms += dice.random_range(1_500..6_000);
        }
    }
    said.sort_by_key(|word| (word.at_ms, word.operator));
    said
}

fn pick(dice: &mut Pcg64Mcg) -> Words {
    let total: u32 = SHARES.iter().map(|(_, share)| share).sum();
    let mut draw = dice.random_range(0..total);
    for (words, share) in SHARES {
        if draw < share {
            return words;
        }
        draw -= share;
    }
    Words::Notify
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;

    #[test]
    fn both_speak_and_everything_is_said() {
        let words = Schedule::new(3, 600_000, &[]).words;
        for (expected, _) in SHARES {
            for operator in 0..2 {
                assert!(words.iter().any(|word| word.words == expected && word.operator == operator), "{expected:?}");
            }
        }
        assert!(words.is_sorted_by_key(|word| word.at_ms));
    }
}
