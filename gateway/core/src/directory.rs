//! Who lives where: one entry a character, changed only by compare-and-set of its epoch.
//!
//! The core asks with a [`DirectoryRequest`] and waits for the [`DirectoryAnswer`], so that the same core works with the
//! [`EmbeddedDirectory`] (one gateway, in memory) and with a shared one. Whoever answers must answer every request, once or
//! more; a request repeated after its answer was lost gets the same answer.

use std::collections::{BTreeMap, VecDeque};

use tidegate_types::{EnvironmentId, Epoch, GatewayId, InstanceId, ServerId, SessionId};

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
    /// The environment that the session is pinned to: where it is restored should the server be gone.
    pub environment: EnvironmentId,
    /// The gateway that holds the session.
    pub gateway: GatewayId,
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
    /// What is known? Answered `Found`; a character of whom nothing is known has epoch 0 and no home.
    Get,
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
    /// The session at this epoch ended: forget the home, keep the epoch. Nothing happens if the epoch is another, or the home
    /// is another session's.
    Clear {
        /// The epoch that ended.
        epoch: Epoch,
        /// The session that ended.
        session: SessionId,
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
    /// The answer to [`DirectoryOp::Get`].
    Found(Entry),
    /// The entry was another, and is unchanged.
    Conflict(Entry),
    /// The directory is out of reach. Whether it did what was asked is not known.
    Unavailable,
}

/// How many entries without a home are remembered, to spare a player who comes back the round trip of a stale epoch. The
/// realm database knows all epochs; forgetting one here costs that round trip and nothing else.
const MAX_RESTING: usize = 100_000;

/// The directory of one gateway, in its memory.
#[derive(Debug, Clone, Default)]
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
            DirectoryOp::Get => DirectoryOutcome::Found(
                self.entries.get(&who).cloned().unwrap_or(Entry { epoch: Epoch(0), home: None }),
            ),
            DirectoryOp::CompareAndSet { expected, to, home } => self.compare_and_set(&who, expected, to, home),
            DirectoryOp::Clear { epoch, session } => self.clear(&who, epoch, session),
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

    fn clear(&mut self, who: &Who, epoch: Epoch, session: SessionId) -> DirectoryOutcome {
        match self.entries.get_mut(who) {
            Some(entry) if entry.epoch == epoch && entry.home.as_ref().is_none_or(|home| home.session == session) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::run;
    use proptest::prelude::*;
    use tidegate_types::{CharacterId, PlayerId};
    use uuid::Uuid;

    fn who() -> Who {
        Who { player: PlayerId::new("p").unwrap(), character: CharacterId::new("c").unwrap() }
    }

    fn home(n: u128) -> Home {
        Home {
            session: SessionId(Uuid::from_u128(n)),
            server: ServerId::new(&format!("s{n}")).unwrap(),
            instance: run(n),
            environment: EnvironmentId::new("blue").unwrap(),
            gateway: GatewayId::new("gw-1").unwrap(),
        }
    }

    fn cas(expected: u64, to: u64, n: u128) -> DirectoryOp {
        DirectoryOp::CompareAndSet { expected: Epoch(expected), to: Epoch(to), home: home(n) }
    }

    fn check(given: &[DirectoryOp], when: DirectoryOp, expect: Result<u64, (u64, Option<u128>)>) {
        let mut directory = EmbeddedDirectory::default();
        let mut ask = |op| directory.answer(DirectoryRequest { id: 1, who: who(), op }).outcome;
        for op in given {
            ask(op.clone());
        }
        let expect = match expect {
            Ok(epoch) => DirectoryOutcome::Done(Epoch(epoch)),
            Err((epoch, n)) => DirectoryOutcome::Conflict(Entry { epoch: Epoch(epoch), home: n.map(home) }),
        };
        assert_eq!(ask(when), expect);
    }

    #[test]
    fn a_home_is_given_only_to_who_knows_the_epoch() {
        check(&[], cas(0, 1, 1), Ok(1));
        check(&[cas(0, 1, 1)], cas(0, 1, 2), Err((1, Some(1))));
        check(&[cas(0, 1, 1)], cas(1, 2, 2), Ok(2));
        check(&[cas(0, 5, 1)], cas(5, 5, 2), Err((5, Some(1))));
        check(&[], cas(3, 4, 1), Err((0, None)));
    }

    #[test]
    fn the_same_question_again_has_the_same_answer() {
        check(&[cas(0, 1, 1)], cas(0, 1, 1), Ok(1));
    }

    #[test]
    fn a_cleared_entry_keeps_its_epoch() {
        let clear = |epoch, n| DirectoryOp::Clear { epoch: Epoch(epoch), session: home(n).session };
        check(&[cas(0, 1, 1), clear(1, 1)], cas(0, 1, 2), Err((1, None)));
        check(&[cas(0, 1, 1), clear(1, 1)], cas(1, 2, 2), Ok(2));
        check(&[cas(0, 2, 1)], clear(1, 1), Err((2, Some(1))));
        check(&[cas(0, 1, 1)], clear(1, 9), Err((1, Some(1))));
    }

    #[test]
    fn a_roster_raises_and_never_lowers() {
        let raise = |epoch, n| DirectoryOp::Raise { epoch: Epoch(epoch), home: home(n) };
        check(&[], raise(4, 1), Ok(4));
        check(&[cas(0, 2, 1)], raise(3, 2), Ok(3));
        check(&[cas(0, 3, 1)], raise(2, 2), Err((3, Some(1))));
        check(&[cas(0, 3, 1)], raise(3, 2), Err((3, Some(1))));
    }

    proptest! {
        #[test]
        fn epochs_only_grow(ops in prop::collection::vec((0u8..3, 0u64..6, 0u64..6, 1u128..4), 0..40)) {
            let mut directory = EmbeddedDirectory::default();
            let mut highest = Epoch(0);
            for (kind, a, b, n) in ops {
                let op = match kind {
                    0 => cas(a, b, n),
                    1 => DirectoryOp::Clear { epoch: Epoch(a), session: home(n).session },
                    _ => DirectoryOp::Raise { epoch: Epoch(b), home: home(n) },
                };
                directory.answer(DirectoryRequest { id: 0, who: who(), op });
                let epoch = directory.get(&who()).map_or(Epoch(0), |e| e.epoch);
                prop_assert!(epoch >= highest);
                highest = epoch;
            }
        }
    }
}
