//! The realm database of the model: one row a character, written only by who holds its epoch.

use std::collections::BTreeMap;

use tidegate_types::Epoch;

use crate::message::{Place, Who};

/// What a character is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Character {
    pub(super) place: Place,
    /// The highest of the player's frames that took effect.
    pub(super) up: u64,
    /// Frames sent to the player in this lineage.
    pub(super) down: u64,
    /// Changes when frames may have been lost for good: a load from the save, a broken link. Grows.
    pub(super) lineage: u64,
    /// The player's next frame need not follow the last that took effect.
    pub(super) resync: bool,
}

#[derive(Debug, Default)]
pub(super) struct Database {
    rows: BTreeMap<Who, (Epoch, Character)>,
}

impl Database {
    pub(super) fn epoch(&self, who: &Who) -> Epoch {
        self.rows.get(who).map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    pub(super) fn character(&self, who: &Who) -> Option<&Character> {
        self.rows.get(who).map(|(_, character)| character)
    }

    /// Takes the row at a higher epoch; false if it is not higher.
    pub(super) fn claim(&mut self, who: &Who, epoch: Epoch, character: Character) -> bool {
        if self.epoch(who) >= epoch {
            return false;
        }
        self.rows.insert(who.clone(), (epoch, character));
        true
    }

    /// Takes the row from exactly the epoch `from`; false if it is at another.
    pub(super) fn reclaim(&mut self, who: &Who, from: Epoch, to: Epoch, character: Character) -> bool {
        self.epoch(who) == from && self.claim(who, to, character)
    }

    /// Writes the row `WHERE epoch = mine`; false if it is another's.
    pub(super) fn save(&mut self, who: &Who, epoch: Epoch, character: &Character) -> bool {
        match self.rows.get_mut(who) {
            Some((mine, row)) if *mine == epoch => {
                *row = character.clone();
                true
            }
            Some(_) | None => false,
        }
    }
}
