//! What the players can testify to at the end.

mod flip;
mod latency;
mod record;

use std::collections::BTreeMap;

use serde::Serialize;

pub use flip::{FlipFacts, FlipReport, LeftBlueBy};
pub(crate) use latency::record as record_time;
pub use latency::{Latencies, Latency};
pub use record::{End, Move, SessionRecord};

/// The players' own figures. Field names are stable; times are in the unit that ends their name.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The configuration's seed.
    pub seed: u64,
    /// How many players were to be in the world at once.
    pub players: u32,
    /// How long the simulation ran, in milliseconds.
    pub ran_ms: u64,
    /// Sessions that were welcomed after a login.
    pub sessions_started: u64,
    /// Sessions that ended, by whose word.
    pub ended_by: BTreeMap<&'static str, u64>,
    /// Login attempts that failed and were tried again.
    pub login_retries: u64,
    /// Players who gave up on logging in.
    pub login_gave_up: u64,
    /// Sessions that ended without the player's or an operator's wish, or that could not come back.
    pub lost: u64,
    /// Answers from a home older than one that had already answered: the player was in two places.
    pub double_homed: u64,
    /// Answers from a home that was never announced.
    pub unannounced_home: u64,
    /// Moves that the player's own actions, the drain's deadline, a crash or an operator do not explain.
    pub moved_without_cause: u64,
    /// Gold that a player missed without having given it away.
    pub gold_vanished: u64,
    /// Moves by cause.
    pub moved_by: BTreeMap<&'static str, u64>,
    /// Sessions found on another world server after an absence.
    pub moved_while_away: u64,
    /// Reliable actions sent, each to be answered once and in order.
    pub frames_sent: u64,
    /// Reliable actions answered.
    pub frames_answered: u64,
    /// Reliable actions that were never answered.
    pub frames_lost: u64,
    /// Answers that came a second time although the action was not sent again.
    pub frames_duplicated: u64,
    /// Answers that came after a later one.
    pub frames_reordered: u64,
    /// Actions sent again after a crash of the home.
    pub frames_repeated: u64,
    /// Actions that the world refused by the game's rules; no broken promise.
    pub actions_refused: BTreeMap<String, u64>,
    /// Lost connections that were mended.
    pub resumed: u64,
    /// Of these, back on the same world server.
    pub resumed_same_home: u64,
    /// Moves to another gateway before the old one stopped.
    pub relocated: u64,
    /// Resumes and relocations with a gap in the reliable frames: the only ones that may lose any.
    pub gaps: u64,
    /// Times a player had to wait in line or for a new home.
    pub holds: u64,
    /// Notices received.
    pub notices: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// What all characters must own together (gold and items in gold), by what they began with and their own trades.
    pub gold_expected: u64,
    /// What all characters own together by the last word of the world to each.
    pub gold_seen: u64,
    /// Reliable round trip, from the time the action was intended.
    pub action_us: Latency,
    /// Datagram sent to echo received.
    pub datagram_us: Latency,
    /// Login intended to `Welcome` received.
    pub login_us: Latency,
    /// Lost connection noticed to back in play.
    pub resume_us: Latency,
    /// How long play stood still when a session moved to another gateway.
    pub relocation_us: Latency,
    /// Between two homes, as the gateway measured it (`Moved.gap_us`).
    pub handover_us: Latency,
    /// The same, in milliseconds with fractions, as the demo's report shows it.
    pub handover_ms: HandoverMs,
    /// What is known once the flip's facts are ([`Report::with_flip`]).
    #[serde(flatten)]
    pub flip: Option<FlipReport>,
    /// One record for each session, for [`Report::with_flip`].
    #[serde(skip)]
    pub records: Vec<SessionRecord>,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HandoverMs {
    /// Half of them took at most this.
    pub p50: f64,
    /// All but one in a hundred took at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Report {
    /// Adds the figures that need the flip's facts, from the players' own records. `moved_without_cause` grows by the
    /// drain's moves that came before the deadline or from another environment than blue.
    #[must_use]
    pub fn with_flip(mut self, facts: &FlipFacts) -> Self {
        let flip = FlipReport::new(facts, &self.records);
        self.moved_without_cause += flip.drained_early;
        self.flip = Some(flip);
        self
    }

    /// Broken promises by name, those that are not 0.
    #[must_use]
    pub fn broken(&self) -> Vec<(&'static str, u64)> {
        let misrouted = self.flip.as_ref().map_or(0, |flip| flip.misrouted_after_flip);
        [
            ("lost", self.lost),
            ("double_homed", self.double_homed),
            ("unannounced_home", self.unannounced_home),
            ("moved_without_cause", self.moved_without_cause),
            ("misrouted_after_flip", misrouted),
            ("gold_vanished", self.gold_vanished),
            ("frames_lost", self.frames_lost),
            ("frames_duplicated", self.frames_duplicated),
            ("frames_reordered", self.frames_reordered),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }
}
