//! What came of an input: the answer, the rows that changed, what to do now, what to write down.
//!
//! The shell writes the rows, the audit entries and the answered request in **one** transaction, and only then performs
//! the effects. Dying in between is harmless: [`crate::Realm::resume`] names the effects again.

use std::collections::BTreeSet;

use tidegate_types::{EnvironmentId, Generation, RolloutId, SnapshotId};

use crate::effect::Effect;

/// The answer to a command. Events are answered with [`Reply::Done`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reply {
    /// Done, or nothing to do.
    #[default]
    Done,
    /// Look at this environment.
    Environment(EnvironmentId),
    /// The table of this generation is on its way; `routing.flip` says what becomes of it.
    Flip(Generation),
    /// Look at this environment's drain.
    Drain(EnvironmentId),
    /// Look at this rollout.
    Rollout(RolloutId),
    /// Look at this snapshot.
    Snapshot(SnapshotId),
}

/// A row that changed and must be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The realm's own row (its spec).
    Realm,
    /// The realm's routing row.
    Routing,
    /// One environment, with its fleets and known servers.
    Environment(EnvironmentId),
    /// The drain of one environment.
    Drain(EnvironmentId),
    /// One rollout, with its steps.
    Rollout(RolloutId),
    /// One snapshot.
    Snapshot(SnapshotId),
}

/// One record of a state change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// `None`: whoever sent the command (for events: "manager"). Else `rollout:<id>`.
    pub who: Option<String>,
    /// For example "flip", "environment.phase", "rollout.step".
    pub what: &'static str,
    /// The id of what changed.
    pub subject: String,
    /// Why.
    pub why: String,
    /// The value before; empty: there was none.
    pub before: String,
    /// The value after.
    pub after: String,
}

/// What came of an input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// Rows to write.
    pub changes: BTreeSet<Change>,
    /// What to do once they are written, in this order.
    pub effects: Vec<Effect>,
    /// What to write down with them.
    pub audit: Vec<AuditEntry>,
}

impl Outcome {
    pub(crate) fn audit(
        &mut self,
        who: Option<&RolloutId>,
        what: &'static str,
        subject: impl ToString,
        why: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) {
        self.audit.push(AuditEntry {
            who: who.map(|id| format!("rollout:{id}")),
            what,
            subject: subject.to_string(),
            why: why.into(),
            before: before.into(),
            after: after.into(),
        });
    }
}
