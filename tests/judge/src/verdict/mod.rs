//! What the events and the realm's database say of each rule, after the fact.
//!
//! [`judge`] is a function of what was written down while the realm ran: it can be asked again about a folder that was
//! kept. Every rule has checks, each `violations of N`; a check that looked at nothing proves nothing and says so. The
//! numbers of the rules are those of the invariants in ARCHITECTURE.md.

mod commands;
mod control;
mod evidence;
mod figures;
mod homes;
mod players;
mod routing;
mod table;
mod tally;
mod writes;

pub use evidence::{Evidence, EvidenceError};
pub use figures::{Figure, Recovery};
pub use homes::{Homes, Interval};
pub use tally::Check;

use serde::Serialize;

/// The judgement of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The seed of its schedule, if it had one.
    pub seed: Option<u64>,
    /// Events looked at.
    pub events: u64,
    /// Lines that a killed process did not finish.
    pub torn_lines: u64,
    /// Rule by rule.
    pub checks: Vec<Check>,
    /// How long things took.
    pub figures: Vec<Figure>,
    /// How long the players took to be back in play, by kind of fault.
    pub recoveries: Vec<Recovery>,
}

impl Verdict {
    /// The checks that found something.
    #[must_use]
    pub fn broken(&self) -> Vec<&Check> {
        self.checks.iter().filter(|check| check.violations > 0).collect()
    }
}

/// Judges one run.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut checks = Vec::new();
    checks.extend(homes::checks(evidence));
    checks.extend(writes::checks(evidence));
    checks.extend(players::checks(evidence));
    checks.extend(routing::checks(evidence));
    checks.extend(commands::checks(evidence));
    checks.extend(control::checks(evidence));
    checks.push(figures::resumes(evidence).0);
    checks.sort_by_key(|check| check.rule);
    Verdict {
        seed: evidence.of("campaign_started").next().and_then(|started| started.number("seed")),
        events: evidence.events.len() as u64,
        torn_lines: evidence.torn_lines,
        checks,
        figures: figures::figures(evidence),
        recoveries: figures::recoveries(evidence),
    }
}
