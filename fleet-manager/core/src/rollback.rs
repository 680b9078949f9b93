//! The same flip backwards, with a choice for those who are already on the environment that is left.

use std::time::Duration;

/// What happens to players on the environment that is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// They stay until they log out; boundaries keep them there.
    Finish,
    /// They go at their next boundary.
    NextBoundary,
    /// They are moved.
    Force {
        /// How long they have.
        deadline: Duration,
    },
    /// Nobody new on it, nobody moved; the older environment does not take players either.
    Freeze,
}
