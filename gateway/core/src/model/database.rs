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
    /// The highest epoch ever granted, kept apart from the rows to check them.
    granted: BTreeMap<Who, Epoch>,
    stale: Vec<String>,
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
        let highest = self.granted.entry(who.clone()).or_default();
        *highest = epoch.max(*highest);
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
                if self.granted.get(who).is_some_and(|highest| *highest > epoch) {
                    self.stale.push(format!("{} is saved at the stale epoch {epoch}", who.player));
                }
                *row = character.clone();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Saves that should have been refused, since the last call.
    pub(super) fn take_stale(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stale)
    }
}
