//! Why something was not done. A refusal changes nothing.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why something was refused: stable words that scripts may match.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// A flip waits for its acknowledgements.
    FlipInProgress = "FLIP_IN_PROGRESS",
    /// The environment is the one that takes new sessions.
    AlreadyAccepting = "ALREADY_ACCEPTING",
    /// The environment (or the old blue) still drains.
    Draining = "DRAINING",
    /// The environment does not drain.
    NotDraining = "NOT_DRAINING",
    /// A drain with a policy runs already.
    DrainRunning = "DRAIN_RUNNING",
    /// The environment, or some server of it, is not ready.
    NotReady = "NOT_READY",
    /// The environment is not the active one.
    NotActive = "NOT_ACTIVE",
    /// The environment's phase does not allow it.
    WrongPhase = "WRONG_PHASE",
    /// Players are inside, or it is not known that there are none.
    Occupied = "OCCUPIED",
    /// The environment is retired.
    Retired = "RETIRED",
    /// The environment failed.
    Failed = "FAILED",
    /// The target's build cannot read the player state that the other build writes.
    StateFormatUnreadable = "STATE_FORMAT_UNREADABLE",
    /// The builds have no database schema version in common.
    SchemaIncompatible = "SCHEMA_INCOMPATIBLE",
    /// The target has too little room.
    NoCapacity = "NO_CAPACITY",
    /// Now is inside a freeze window.
    FreezeWindow = "FREEZE_WINDOW",
    /// The realm is frozen.
    Frozen = "FROZEN",
    /// The row has another generation than the caller expects.
    GenerationMismatch = "GENERATION_MISMATCH",
    /// A rollout is under way that this would disturb.
    RolloutRunning = "ROLLOUT_RUNNING",
    /// The rollout has ended.
    RolloutEnded = "ROLLOUT_ENDED",
    /// There is no environment to go back to.
    NothingToRollBack = "NOTHING_TO_ROLL_BACK",
    /// The realm has no accepting environment.
    NothingAccepting = "NOTHING_ACCEPTING",
    /// A snapshot of it is being taken.
    SnapshotRunning = "SNAPSHOT_RUNNING",
    /// The snapshot is not complete and verified.
    SnapshotNotVerified = "SNAPSHOT_NOT_VERIFIED",
    /// An environment that is not retired needs it.
    InUse = "IN_USE",
    /// The target realm has live environments.
    RealmNotEmpty = "REALM_NOT_EMPTY",
    /// The id is taken.
    AlreadyExists = "ALREADY_EXISTS",
    /// No such environment, fleet, rollout or snapshot.
    NotFound = "NOT_FOUND",
    /// The realm has as many of them as it may have.
    TooMany = "TOO_MANY",
    /// An argument cannot be.
    Invalid = "INVALID",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: why, in a stable word and in a sentence, and what the caller can do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refused {
    /// The stable word.
    pub reason: Reason,
    /// What is the matter, with the ids.
    pub message: String,
    /// What to do instead; empty: nothing helps.
    pub what_to_do: String,
}

impl Refused {
    /// A refusal.
    pub fn new(reason: Reason, message: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { reason, message: message.into(), what_to_do: what_to_do.into() }
    }

    pub(crate) fn not_found(kind: &str, id: impl fmt::Display) -> Self {
        Self::new(Reason::NotFound, format!("{kind} {id} does not exist"), "list what exists and check the id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_its_own_upper_snake_word() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(words.iter().all(|w| w.chars().all(|c| c.is_ascii_uppercase() || c == '_')));
    }
}
