//! Short schedules that are aimed at one broken rule each: a judge that cannot see the rule broken here is no judge.

use super::{Fault, Kind, Schedule, Word, Words};

/// The words of `TIDEGATE_SABOTAGE`, each with a schedule here.
pub const SABOTAGE: [&str; 5] =
    ["skip_epoch_check", "skip_lease_check", "ack_before_commit", "trust_directory", "forget_drain"];

impl Schedule {
    /// The schedule that shows a rule broken which this word of [`SABOTAGE`] breaks.
    #[must_use]
    pub fn aimed(word: &str, seed: u64) -> Option<Self> {
        let rounds = |every_ms: u64, count: u64, faults: &[(u64, u64, Kind)]| -> Vec<Fault> {
            let fault = |round: u64, (at_ms, lasts_ms, kind): &(u64, u64, Kind)| Fault {
                at_ms: 2_000 + round * every_ms + at_ms,
                lasts_ms: *lasts_ms,
                kind: *kind,
                target: u32::try_from(seed.wrapping_add(round) % 1_000).unwrap_or(0),
            };
            (0..count).flat_map(|round| faults.iter().map(move |it| fault(round, it))).collect()
        };
        let (faults, words) = match word {
            // A server that is away for longer than its lease, while nobody can end it, wakes up and goes on.
            "skip_epoch_check" | "skip_lease_check" => {
                let away = [(0, 14_000, Kind::ManagerPause), (500, 6_000, Kind::WorldHang)];
                (rounds(18_000, 2, &away), Vec::new())
            }
            // The manager dies in the moment of every acknowledgement: the campaign sees to that, no clock could.
            "ack_before_commit" => {
                (Vec::new(), said(1, 3_000, 24_000, &[Words::Rollout, Words::Notify, Words::Freeze]))
            }
            // The directory comes back with what was true long ago, when the gateway that knew better is dead, and its
            // players come by another one.
            "trust_directory" => {
                let back =
                    [(0, 300, Kind::RedisKill), (10_000, 2_500, Kind::RedisOld), (10_500, 5_000, Kind::GatewayKill)];
                (rounds(24_000, 3, &back), Vec::new())
            }
            // The manager dies in the middle of a drain, wherever that is.
            "forget_drain" => {
                (rounds(4_000, 10, &[(0, 300, Kind::ManagerKill)]), said(1, 8_000, 40_000, &[Words::Rollout]))
            }
            _ => return None,
        };
        let last =
            faults.iter().map(|fault| fault.at_ms + fault.lasts_ms).chain(words.iter().map(|word| word.at_ms)).max();
        let length_ms = last.unwrap_or(0) + 5_000;
        Some(Self { seed, length_ms, faults, words })
    }
}

/// So many operators say these in turn, each every so many milliseconds.
fn said(operators: u32, every_ms: u64, until_ms: u64, words: &[Words]) -> Vec<Word> {
    let mut said = Vec::new();
    for (n, at_ms) in (1_000..until_ms).step_by(usize::try_from(every_ms).unwrap_or(usize::MAX)).enumerate() {
        for operator in 0..operators {
            let about = u32::try_from(n).unwrap_or(0);
            said.push(Word { at_ms, operator, words: words[(n + operator as usize) % words.len()], about });
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_schedule_in_order() {
        for word in SABOTAGE {
            let schedule = Schedule::aimed(word, 3).expect(word);
            assert!(
                !(schedule.faults.is_empty() && schedule.words.is_empty()) && schedule.length_ms < 120_000,
                "{word}"
            );
            assert!(schedule.faults.is_sorted_by_key(|fault| fault.at_ms), "{word}");
            assert!(schedule.words.is_sorted_by_key(|said| said.at_ms), "{word}");
            assert_eq!(Schedule::aimed(word, 3), Some(schedule));
        }
        assert_eq!(Schedule::aimed("eat_the_cake", 3), None);
    }
}
