//! What is kept of each session until the report: when it began, where it went, how it ended.

use tidegate_types::{Cause, EnvironmentId, Generation, Timestamp};

/// One session, in the player's words.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// Just before its `Hello` was sent.
    pub hello_sent: Timestamp,
    /// When `Welcome` was received.
    pub welcomed: Timestamp,
    /// The environment that `Welcome` named.
    pub environment: EnvironmentId,
    /// The route generation that `Welcome` named.
    pub generation: Generation,
    /// Every change of environment, in order. Moves within one are only counted.
    pub moves: Vec<Move>,
    /// When and how it ended; `None`: it had not.
    pub ended: Option<(Timestamp, End)>,
}

/// A change of environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// When the player heard of it.
    pub at: Timestamp,
    /// Where from.
    pub from: EnvironmentId,
    /// Where to.
    pub to: EnvironmentId,
    /// Why; for a move found after an absence, what the player's own ledger makes of it.
    pub cause: Cause,
}

/// Whose word the end of a session was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The player's own.
    Logout,
    /// An operator's or the game's.
    Kicked,
    /// Nobody's wish: a lost session.
    Lost,
}

impl End {
    /// The stable word used in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Kicked => "kicked",
            Self::Lost => "lost",
        }
    }
}

impl SessionRecord {
    /// Where the session was at a time; `None` before its welcome and from its end on.
    #[must_use]
    pub fn environment_at(&self, at: Timestamp) -> Option<&EnvironmentId> {
        if at < self.welcomed || self.ended.is_some_and(|(ended, _)| ended <= at) {
            return None;
        }
        let last = self.moves.iter().take_while(|m| m.at <= at).last();
        Some(last.map_or(&self.environment, |m| &m.to))
    }

    /// Where the session is, or was when it ended.
    #[must_use]
    pub fn last_environment(&self) -> &EnvironmentId {
        self.moves.last().map_or(&self.environment, |m| &m.to)
    }
}
