//! Emptying one environment: by attrition first, then by warning, then by moving the last ones.
//!
//! ```text
//! Running --deadline--> Forcing --empty--> Completed
//!    |  \-----------------------empty-------^
//!    +--- the environment takes new sessions again ---> Cancelled
//! ```
//!
//! A drain begins with the flip away from its environment, at first without a deadline; a policy is given once.

pub mod explain;
pub mod gate;
pub mod progress;
pub(crate) mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, Generation, Timestamp};

use crate::observe::SessionObservation;

/// What happens at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtDeadline {
    /// Hand the last ones over.
    Move,
    /// End their sessions with a message.
    Kick,
    /// Let them stay for as long as they like.
    Stay,
}

/// How to drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// From the drain's start; `None`: natural attrition for ever.
    pub deadline: Option<Duration>,
    /// What happens then.
    pub at_deadline: AtDeadline,
    /// Warn when this much time remains.
    pub notices: Vec<Duration>,
    /// What the warning says; "{remaining}" is replaced. Empty: [`DEFAULT_NOTICE`].
    pub notice_text: String,
    /// How much longer a *busy* session may stay past the deadline, by zone kind.
    pub extensions: BTreeMap<String, Duration>,
    /// Most hand-overs a second when moving the last ones; zero means [`DEFAULT_MOVES_PER_SECOND`].
    pub moves_per_second: u32,
}

/// What a warning says by default.
pub const DEFAULT_NOTICE: &str =
    "The world is being updated. You will be moved in {remaining}, without losing anything.";

/// A pace at which one gateway and a handful of servers hand over without anyone noticing.
pub const DEFAULT_MOVES_PER_SECOND: u32 = 200;

impl Policy {
    /// Most hand-overs a second, never zero.
    #[must_use]
    pub const fn pace(&self) -> u32 {
        if self.moves_per_second == 0 { DEFAULT_MOVES_PER_SECOND } else { self.moves_per_second }
    }

    /// Natural attrition for ever.
    #[must_use]
    pub const fn natural() -> Self {
        Self {
            deadline: None,
            at_deadline: AtDeadline::Stay,
            notices: Vec::new(),
            notice_text: String::new(),
            extensions: BTreeMap::new(),
            moves_per_second: DEFAULT_MOVES_PER_SECOND,
        }
    }
}

/// How a session left an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Departure {
    /// Its home changed for this cause.
    Moved(Cause),
    /// The player logged out.
    Logout,
    /// The grace time passed.
    GraceOver,
    /// It was ended.
    Kicked,
    /// It was replaced by a newer login, or the gateway lost it.
    Other,
}

impl Departure {
    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moved(cause) => cause.as_str(),
            Self::Logout => "logout",
            Self::GraceOver => "grace_over",
            Self::Kicked => "kicked",
            Self::Other => "other",
        }
    }
}

/// Where a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainState {
    /// By attrition.
    Running,
    /// Past the deadline, moving or ending the last ones.
    Forcing,
    /// Empty.
    Completed,
    /// The environment takes new sessions again.
    Cancelled,
}

impl DrainState {
    /// True while it lasts.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Forcing)
    }
}

/// One drain. Its environment's id is its id; a later drain of the same environment takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// What drains.
    pub environment: EnvironmentId,
    /// Where it is.
    pub state: DrainState,
    /// How.
    pub policy: Policy,
    /// The policy was given by someone; false: it is the natural one that every flip begins with.
    pub policy_given: bool,
    /// The cause that a move at the deadline records.
    pub cause: Cause,
    /// When it began: the flip, or the moment the policy was given.
    pub started: Timestamp,
    /// When the last ones are moved or ended; `None`: never.
    pub deadline: Option<Timestamp>,
    /// Extensions do not count (any more).
    pub ignore_extensions: bool,
    /// When it ended; `None`: it lasts.
    pub ended: Option<Timestamp>,
    /// Sessions when it began (a lower bound if some gateway had not reported).
    pub initial: u32,
    /// The generation from which on no new session comes in. All gateways must be at it before "empty" counts.
    pub generation: Generation,
    /// Departures by how.
    pub departed: BTreeMap<Departure, u32>,
    /// Warnings that were sent, by their remaining time, in milliseconds.
    pub notices_sent: BTreeSet<u64>,
    /// Commands sent so far; numbers their ids.
    pub commands: u64,
}

impl Drain {
    /// When this session is moved or ended; `None`: it is not.
    #[must_use]
    pub fn leaves_at(&self, session: &SessionObservation) -> Option<Timestamp> {
        let deadline = self.deadline.filter(|_| self.policy.at_deadline != AtDeadline::Stay)?;
        if !session.busy || self.ignore_extensions {
            return Some(deadline);
        }
        Some(deadline + self.policy.extensions.get(&session.zone_kind).copied().unwrap_or_default())
    }
}
