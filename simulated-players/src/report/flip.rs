//! The figures of one flip, from the players' records and the facts that only the operator's side knows.

use serde::Serialize;
use tidegate_types::{Cause, EnvironmentId, Timestamp};

use super::record::{End, SessionRecord};

/// What the manager says about a flip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlipFacts {
    /// The environment flipped away from.
    pub blue: EnvironmentId,
    /// The environment flipped to.
    pub green: EnvironmentId,
    /// When every gateway had acknowledged the flip.
    pub confirmed_at_ms: Timestamp,
    /// When the drain's deadline passed; `None`: it had none, and no drain may move anybody.
    pub drain_deadline_ms: Option<Timestamp>,
}

/// Why sessions left blue, each counted by its first departure after the flip was confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftBlueBy {
    /// The player logged out.
    pub logout: u64,
    /// By a zone change.
    pub zone: u64,
    /// By entering or leaving an instance.
    pub instance: u64,
    /// By a respawn.
    pub respawn: u64,
    /// Moved at the deadline.
    pub drain: u64,
    /// Moved or kicked on an operator's word.
    pub operator: u64,
    /// Restored elsewhere after a crash.
    pub crash: u64,
    /// Lost.
    pub lost: u64,
}

/// The figures of one flip.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlipReport {
    /// Sessions that were in blue when the flip was confirmed.
    pub sessions_at_flip: u64,
    /// Why they left it.
    pub left_blue_by: LeftBlueBy,
    /// Sessions still in blue at the end.
    pub still_on_blue: u64,
    /// Sessions whose `Hello` was sent after the flip was confirmed, and whose `Welcome` named blue.
    pub misrouted_after_flip: u64,
    /// Sessions whose `Hello` was sent after the flip was confirmed.
    pub sessions_after_flip: u64,
    /// Moves by the drain before its deadline, or away from another environment than blue.
    pub drained_early: u64,
}

impl FlipReport {
    /// Counts.
    #[must_use]
    pub fn new(facts: &FlipFacts, records: &[SessionRecord]) -> Self {
        let mut report = Self::default();
        for record in records {
            report.add(facts, record);
        }
        report
    }

    fn add(&mut self, facts: &FlipFacts, record: &SessionRecord) {
        let confirmed = facts.confirmed_at_ms;
        if record.hello_sent > confirmed {
            self.sessions_after_flip += 1;
            self.misrouted_after_flip += u64::from(record.environment == facts.blue);
        }
        let drained_early = |m: &&super::Move| {
            m.cause == Cause::Drain && (m.from != facts.blue || facts.drain_deadline_ms.is_none_or(|d| m.at < d))
        };
        self.drained_early += record.moves.iter().filter(drained_early).count() as u64;
        if record.environment_at(confirmed) == Some(&facts.blue) {
            self.sessions_at_flip += 1;
            self.left(facts, record);
        }
    }

    fn left(&mut self, facts: &FlipFacts, record: &SessionRecord) {
        let by = &mut self.left_blue_by;
        let departure = record.moves.iter().find(|m| m.at > facts.confirmed_at_ms && m.from == facts.blue);
        let counter = match (departure, record.ended) {
            (Some(departure), _) => match departure.cause {
                Cause::Zone => &mut by.zone,
                Cause::Instance => &mut by.instance,
                Cause::Respawn => &mut by.respawn,
                Cause::Drain => &mut by.drain,
                Cause::Crash => &mut by.crash,
                // A login or resume does not move anybody; a record that says so is an operator's doing or a fault that
                // `moved_without_cause` has counted.
                Cause::Operator | Cause::Login | Cause::Resume => &mut by.operator,
            },
            (None, Some((_, End::Logout))) => &mut by.logout,
            (None, Some((_, End::Kicked))) => &mut by.operator,
            (None, Some((_, End::Lost))) => &mut by.lost,
            (None, None) => &mut self.still_on_blue,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Move;
    use super::*;
    use tidegate_types::Generation;

    fn env(name: &str) -> EnvironmentId {
        EnvironmentId::new(name).unwrap()
    }

    fn facts() -> FlipFacts {
        FlipFacts {
            blue: env("a"),
            green: env("b"),
            confirmed_at_ms: Timestamp(1_000),
            drain_deadline_ms: Some(Timestamp(5_000)),
        }
    }

    fn session(hello: i64, at: &str) -> SessionRecord {
        SessionRecord {
            hello_sent: Timestamp(hello),
            welcomed: Timestamp(hello + 10),
            environment: env(at),
            generation: Generation(1),
            moves: vec![],
            ended: None,
        }
    }

    fn moved(mut record: SessionRecord, at: i64, cause: Cause) -> SessionRecord {
        record.moves.push(Move { at: Timestamp(at), from: env("a"), to: env("b"), cause });
        record
    }

    fn ended(mut record: SessionRecord, at: i64, end: End) -> SessionRecord {
        record.ended = Some((Timestamp(at), end));
        record
    }

    #[test]
    fn every_session_at_the_flip_leaves_by_exactly_one_way() {
        let records = [
            ended(session(0, "a"), 2_000, End::Logout),
            moved(session(0, "a"), 2_000, Cause::Zone),
            moved(session(0, "a"), 2_000, Cause::Instance),
            moved(session(0, "a"), 2_000, Cause::Respawn),
            ended(moved(session(0, "a"), 5_000, Cause::Drain), 6_000, End::Logout),
            moved(session(0, "a"), 2_000, Cause::Operator),
            ended(session(0, "a"), 2_000, End::Kicked),
            ended(session(0, "a"), 2_000, End::Lost),
            session(0, "a"),
            // Not there at the flip: gone before, or not yet come.
            ended(session(0, "a"), 900, End::Logout),
            session(1_001, "b"),
        ];
        let report = FlipReport::new(&facts(), &records);
        let by = LeftBlueBy { logout: 1, zone: 1, instance: 1, respawn: 1, drain: 1, operator: 2, crash: 0, lost: 1 };
        assert_eq!((report.sessions_at_flip, report.left_blue_by, report.still_on_blue), (9, by, 1));
        assert_eq!((report.misrouted_after_flip, report.sessions_after_flip, report.drained_early), (0, 1, 0));
    }

    #[test]
    fn a_login_after_the_flip_that_lands_on_blue_is_misrouted() {
        let report = FlipReport::new(&facts(), &[session(1_001, "a"), session(1_000, "a")]);
        assert_eq!(report.misrouted_after_flip, 1);
    }

    #[test]
    fn a_drain_before_its_deadline_or_without_one_is_early() {
        let records = [moved(session(0, "a"), 4_999, Cause::Drain)];
        assert_eq!(FlipReport::new(&facts(), &records).drained_early, 1);
        let none = FlipFacts { drain_deadline_ms: None, ..facts() };
        let records = [moved(session(0, "a"), 9_000, Cause::Drain)];
        assert_eq!(FlipReport::new(&none, &records).drained_early, 1);
    }
}
