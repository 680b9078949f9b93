//! Who lives where: one entry a character, changed only by compare-and-set of its epoch.
//!
//! The core asks with a [`DirectoryRequest`] and waits for the [`DirectoryAnswer`], so that the same core works with the
//! [`EmbeddedDirectory`] (one gateway, in memory) and with a shared one. Whoever answers must answer every request, once or
//! more; a request repeated after its answer was lost gets the same answer.

use std::collections::{BTreeMap, VecDeque};

use tidegate_types::{Epoch, InstanceId, ServerId, SessionId};

use crate::message::Who;

/// Where a character lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The session.
    pub session: SessionId,
    /// The world server.
    pub server: ServerId,
    /// The run of it.
    pub instance: InstanceId,
}

/// What the directory knows of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The highest epoch given.
    pub epoch: Epoch,
    /// The home at that epoch; `None` after the session ended.
    pub home: Option<Home>,
}

/// A question of the core's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryRequest {
    /// Comes back in the answer.
    pub id: u64,
    /// Whose entry.
    pub who: Who,
    /// What.
    pub op: DirectoryOp,
}

/// What a [`DirectoryRequest`] wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryOp {
    /// If the entry's epoch is `expected`, make it `to` (above it) with this home. An entry that is not there has epoch 0.
    /// If the entry is this very home at `to` already, that is a success.
    CompareAndSet {
        /// The epoch the caller believes in.
        expected: Epoch,
        /// The epoch to give.
        to: Epoch,
        /// The new home.
        home: Home,
    },
    /// The session at this epoch ended: forget the home, keep the epoch. Nothing happens if the epoch is another.
    Clear {
        /// The epoch that ended.
        epoch: Epoch,
    },
    /// A world server holds this character: remember it if that is higher than what is known (or of the same epoch and
    /// without a home).
    Raise {
        /// The epoch it holds it at.
        epoch: Epoch,
        /// The home.
        home: Home,
    },
}

/// The answer to a [`DirectoryRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// The request's id.
    pub id: u64,
    /// Whose entry.
    pub who: Who,
    /// How it went.
    pub outcome: DirectoryOutcome,
}

/// How a [`DirectoryRequest`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryOutcome {
    /// The entry is now as wanted, at this epoch.
    Done(Epoch),
    /// The entry was another, and is unchanged.
    Conflict(Entry),
}

/// How many entries without a home are remembered, to spare a player who comes back the round trip of a stale epoch. The
/// realm database knows all epochs; forgetting one here costs that round trip and nothing else.
const MAX_RESTING: usize = 100_000;

/// The directory of one gateway, in its memory.
#[derive(Debug, Default)]
pub struct EmbeddedDirectory {
    entries: BTreeMap<Who, Entry>,
    /// Entries without a home, oldest first; some may have a home again.
    resting: VecDeque<(Who, Epoch)>,
}

impl EmbeddedDirectory {
    /// The entry of a character.
    #[must_use]
    pub fn get(&self, who: &Who) -> Option<&Entry> {
        self.entries.get(who)
    }

    /// Does what the request says and gives its answer.
    pub fn answer(&mut self, request: DirectoryRequest) -> DirectoryAnswer {
        let DirectoryRequest { id, who, op } = request;
        let outcome = match op {
            DirectoryOp::CompareAndSet { expected, to, home } => self.compare_and_set(&who, expected, to, home),
            DirectoryOp::Clear { epoch } => self.clear(&who, epoch),
            DirectoryOp::Raise { epoch, home } => self.raise(&who, epoch, home),
        };
        DirectoryAnswer { id, who, outcome }
    }

    fn compare_and_set(&mut self, who: &Who, expected: Epoch, to: Epoch, home: Home) -> DirectoryOutcome {
        let entry = self.entries.get(who);
        if entry.is_some_and(|e| e.epoch == to && e.home.as_ref() == Some(&home)) {
            return DirectoryOutcome::Done(to);
        }
        let known = entry.map_or(Epoch(0), |e| e.epoch);
        if known != expected || to <= expected {
            return DirectoryOutcome::Conflict(entry.cloned().unwrap_or(Entry { epoch: Epoch(0), home: None }));
        }
        self.entries.insert(who.clone(), Entry { epoch: to, home: Some(home) });
        DirectoryOutcome::Done(to)
    }

    fn clear(&mut self, who: &Who, epoch: Epoch) -> DirectoryOutcome {
        match self.entries.get_mut(who) {
            Some(entry) if entry.epoch == epoch => {
                entry.home = None;
                self.rest(who, epoch);
                DirectoryOutcome::Done(epoch)
            }
            Some(entry) => DirectoryOutcome::Conflict(entry.clone()),
            None => DirectoryOutcome::Done(epoch),
        }
    }

    fn raise(&mut self, who: &Who, epoch: Epoch, home: Home) -> DirectoryOutcome {
        match self.entries.get(who) {
            Some(entry) if entry.epoch > epoch || (entry.epoch == epoch && entry.home.is_some()) => {
                if entry.epoch == epoch && entry.home.as_ref() == Some(&home) {
                    DirectoryOutcome::Done(epoch)
                } else {
                    DirectoryOutcome::Conflict(entry.clone())
                }
            }
            _ => {
                self.entries.insert(who.clone(), Entry { epoch, home: Some(home) });
                DirectoryOutcome::Done(epoch)
            }
        }
    }

    fn rest(&mut self, who: &Who, epoch: Epoch) {
        self.resting.push_back((who.clone(), epoch));
        while self.resting.len() > MAX_RESTING {
            let Some((who, epoch)) = self.resting.pop_front() else { return };
            if self.entries.get(&who).is_some_and(|e| e.home.is_none() && e.epoch == epoch) {
                self.entries.remove(&who);
            }
        }
    }
}
