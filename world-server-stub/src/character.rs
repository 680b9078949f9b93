//! A character's state: what a hand-over carries and the realm database keeps, in format 1 (builds 1.x) or 2 (2.x).
//!
//! Format 2 added `title`. A reader of 2 gives characters of format 1 a first title; a writer of 1 leaves it out, so that
//! going back and forth loses only the title and never gold, items or the count of applied actions.

use prost::Message;
use tidegate_proto::stub::v1::{Answer, CharacterState};

/// What one item is worth in gold: what it is bought and sold for.
pub const ITEM_VALUE: u64 = 10;

/// Most answers kept for actions that are sent again after a crash; at least half as many are. Asked for are those that
/// were on their way to the player when the home died: some tens of milliseconds of play.
pub const RECENT: usize = 64;

/// The title that a character of format 1 gets.
const FIRST_TITLE: &str = "Wanderer";

/// The formats of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// Those it reads.
    pub read: Vec<u32>,
    /// The one it writes.
    pub write: u32,
}

/// A state that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// This build does not read that format.
    #[error("state format {0} is not among those that this build reads")]
    Format(u32),
    /// The bytes are no state.
    #[error("state does not parse: {0}")]
    Garbled(String),
}

impl Formats {
    /// Of a build whose version begins with `major`, told to write `write` instead of its own (`None`: its own).
    ///
    /// # Errors
    /// A line for the operator when the build cannot write that.
    pub fn of_build(major: u64, write: Option<u32>) -> Result<Self, String> {
        let (read, own) = if major < 2 { (vec![1], 1) } else { (vec![1, 2], 2) };
        let write = write.unwrap_or(own);
        if read.contains(&write) {
            Ok(Self { read, write })
        } else {
            Err(format!("a build {major}.x cannot write state format {write}: it knows {read:?}"))
        }
    }

    /// The state as bytes of the format written.
    #[must_use]
    pub fn encode(&self, state: &CharacterState) -> Vec<u8> {
        if self.write == 1 && !state.title.is_empty() {
            CharacterState { title: String::new(), ..state.clone() }.encode_to_vec()
        } else {
            state.encode_to_vec()
        }
    }

    /// The state out of bytes of the given format.
    ///
    /// # Errors
    /// [`BadState`] says whether the format or the bytes are at fault.
    pub fn decode(&self, format: u32, bytes: &[u8]) -> Result<CharacterState, BadState> {
        if !self.read.contains(&format) {
            return Err(BadState::Format(format));
        }
        let mut state = CharacterState::decode(bytes).map_err(|e| BadState::Garbled(e.to_string()))?;
        if state.character.is_empty() {
            return Err(BadState::Garbled("no character's name".to_owned()));
        }
        let titled = self.read.contains(&2);
        if titled && state.title.is_empty() {
            FIRST_TITLE.clone_into(&mut state.title);
        }
        Ok(state)
    }
}

/// What the character owns, in gold.
#[must_use]
pub fn worth(state: &CharacterState) -> u64 {
    state.gold.saturating_add(state.items.saturating_mul(ITEM_VALUE))
}

/// Remembers the answer to the action just applied. The older half makes room at once when there is none, so that a long
/// list is not moved for every action. Only what cannot be known again is kept:
/// who answered, and the payload, come from the home and the action that ask again.
pub fn remember(state: &mut CharacterState, answer: &Answer) {
    if state.recent.len() >= RECENT {
        state.recent.drain(..state.recent.len() - RECENT / 2);
    }
    state.recent.push(Answer {
        sequence: answer.sequence,
        ok: answer.ok,
        refused: answer.refused.clone(),
        gold: answer.gold,
        items: answer.items,
        ..Answer::default()
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(gold: u64, items: u64, applied: u64, title: &str) -> CharacterState {
        CharacterState {
            character: "ann".to_owned(),
            player: "p-1".to_owned(),
            zone: "harbor".to_owned(),
            gold,
            items,
            applied,
            title: title.to_owned(),
            ..CharacterState::default()
        }
    }

    #[test]
    fn builds_know_their_formats() {
        let of = |major, write| Formats::of_build(major, write);
        assert_eq!(of(1, None), Ok(Formats { read: vec![1], write: 1 }));
        assert_eq!(of(2, None), Ok(Formats { read: vec![1, 2], write: 2 }));
        assert_eq!(of(3, Some(1)), Ok(Formats { read: vec![1, 2], write: 1 }));
        assert!(of(1, Some(2)).unwrap_err().contains("cannot write state format 2"));
    }

    #[test]
    fn an_old_build_refuses_what_a_new_one_wrote() {
        let old = Formats::of_build(1, None).unwrap();
        let new = Formats::of_build(2, None).unwrap();
        let bytes = new.encode(&state(5, 1, 9, "Tide Warden"));
        assert_eq!(old.decode(new.write, &bytes), Err(BadState::Format(2)));
        assert!(matches!(new.decode(2, b"\xff\xff"), Err(BadState::Garbled(_))));
        assert!(matches!(new.decode(2, b""), Err(BadState::Garbled(_))));
    }

    #[test]
    fn the_latest_answers_are_kept() {
        let mut state = state(0, 0, 0, "");
        for last in 1..=300 {
            remember(&mut state, &Answer { sequence: last, payload: vec![1; 100], ..Answer::default() });
            let kept: Vec<u64> = state.recent.iter().map(|a| a.sequence).collect();
            let first = last + 1 - kept.len() as u64;
            assert_eq!(kept, (first..=last).collect::<Vec<u64>>());
            assert!(kept.len() <= RECENT && kept.len() as u64 >= last.min(RECENT as u64 / 2));
        }
        assert!(state.encode_to_vec().len() < 1_024, "a saved character stays small");
    }

    proptest! {
        #[test]
        fn up_and_down_conversion_loses_only_the_title(gold: u64, items: u64, applied: u64, title in "[a-zA-Z ]{0,12}") {
            let old = Formats::of_build(1, None).unwrap();
            let new = Formats::of_build(2, None).unwrap();
            let careful = Formats::of_build(2, Some(1)).unwrap();
            let before = state(gold, items, applied, &title);

            let same = new.decode(2, &new.encode(&before)).unwrap();
            let expected = if title.is_empty() { FIRST_TITLE } else { &title };
            prop_assert_eq!(&same, &CharacterState { title: expected.to_owned(), ..before.clone() });

            let down = old.decode(1, &careful.encode(&same)).unwrap();
            prop_assert_eq!(&down, &CharacterState { title: String::new(), ..before.clone() });

            let up = new.decode(1, &old.encode(&down)).unwrap();
            prop_assert_eq!(up, CharacterState { title: FIRST_TITLE.to_owned(), ..before });
        }
    }
}
