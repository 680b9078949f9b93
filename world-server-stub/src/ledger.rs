//! What the realm database says about the rules that are never broken: was anybody live in two places, and is all the gold
//! still there. The witness of demos and tests; no process of a running realm uses it.
//!
//! An interval of [`homes`](crate::db) is a time in which one process *acted* for a player. Its end is what the process
//! itself wrote (frozen, parked, left), else the last tick of that process: a process that was killed stops ticking, so its
//! open intervals end there, while one that was only paused and goes on acting moves its tick on and shows as an overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::character::ITEM_VALUE;

/// Examples listed of each kind of finding: enough to begin looking.
const EXAMPLES: usize = 10;

/// What [`audit`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HomesAudit {
    /// Intervals looked at.
    pub intervals: u64,
    /// Pairs of intervals of one player, on different homes, that share a moment. Rule 1 says 0.
    pub overlaps: u64,
    /// Epochs of one character that were used by more than one process. Rule 1 says 0.
    pub duplicate_epochs: u64,
    /// The bank's gold, the characters' gold, and their items at what they are worth. Never changes.
    pub gold_total: u64,
    /// Writes that the epoch guard refused: a fenced-off home tried to save. Not a fault: the guard worked.
    pub stale_writes_refused: u64,
    /// Characters saved.
    pub characters: u64,
    /// The first few findings, for a person.
    pub examples: Vec<String>,
}

/// One interval, with its end as far as it is known.
#[derive(Debug, Clone)]
struct Interval {
    player: String,
    character: String,
    server: String,
    instance: String,
    boot: String,
    epoch: i64,
    from_us: i64,
    to_us: i64,
}

impl Interval {
    fn home(&self) -> (&str, i64) {
        (&self.instance, self.epoch)
    }
}

/// Reads a realm database, which may be in use.
///
/// # Errors
/// SQLite's, when the file is not there or is no realm database.
pub fn audit(db_path: &Path) -> Result<HomesAudit, rusqlite::Error> {
    let db = Connection::open_with_flags(db_path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    // One transaction, so that gold in the middle of a trade is seen on one side or the other.
    db.execute_batch("BEGIN DEFERRED")?;
    let mut audit = HomesAudit::default();
    gold(&db, &mut audit)?;
    let intervals = intervals(&db)?;
    judge(intervals, &mut audit);
    db.execute_batch("ROLLBACK")?;
    Ok(audit)
}

fn gold(db: &Connection, audit: &mut HomesAudit) -> rusqlite::Result<()> {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let bank: i64 = db.query_row("SELECT total(gold) FROM bank", [], |row| row.get::<_, f64>(0)).map(|g| g as i64)?;
    let (characters, gold, items): (i64, i64, i64) =
        db.query_row("SELECT count(*), coalesce(sum(gold), 0), coalesce(sum(items), 0) FROM characters", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    audit.characters = unsigned(characters);
    audit.gold_total = unsigned(bank) + unsigned(gold) + unsigned(items) * ITEM_VALUE;
    let refused: i64 =
        db.query_row("SELECT value FROM counters WHERE name = 'stale_writes_refused'", [], |row| row.get(0))?;
    audit.stale_writes_refused = unsigned(refused);
    Ok(())
}

fn intervals(db: &Connection) -> rusqlite::Result<Vec<Interval>> {
    db.prepare(
        "SELECT h.player, h.character, p.server, h.instance, p.boot, h.epoch, h.from_us,
                coalesce(h.to_us, max(h.from_us, p.seen_us)) AS to_us
         FROM homes h JOIN processes p ON p.instance = h.instance
         ORDER BY h.player, p.boot, h.from_us, h.id",
    )?
    .query_map([], |row| {
        Ok(Interval {
            player: row.get(0)?,
            character: row.get(1)?,
            server: row.get(2)?,
            instance: row.get(3)?,
            boot: row.get(4)?,
            epoch: row.get(5)?,
            from_us: row.get(6)?,
            to_us: row.get(7)?,
        })
    })?
    .collect()
}

/// Counts what breaks rule 1 among intervals that are sorted by player, boot and beginning.
fn judge(intervals: Vec<Interval>, audit: &mut HomesAudit) {
    audit.intervals = intervals.len() as u64;
    let mut note = |text: String| {
        if audit.examples.len() < EXAMPLES {
            audit.examples.push(text);
        }
    };
    // Those of the same player that were not over when the last one began.
    let mut open: Vec<&Interval> = Vec::new();
    let mut users: BTreeMap<(&str, i64), BTreeSet<&str>> = BTreeMap::new();
    for interval in &intervals {
        users.entry((&interval.character, interval.epoch)).or_default().insert(&interval.instance);
        open.retain(|earlier| {
            earlier.player == interval.player && earlier.boot == interval.boot && earlier.to_us > interval.from_us
        });
        // An interval without length (it began and the process died) overlaps nothing that it could act against.
        for earlier in open.iter().filter(|e| e.home() != interval.home() && interval.to_us > interval.from_us) {
            audit.overlaps += 1;
            note(format!(
                "{} was live on {} (epoch {}) until {} µs and on {} (epoch {}) from {} µs",
                interval.player,
                earlier.server,
                earlier.epoch,
                earlier.to_us,
                interval.server,
                interval.epoch,
                interval.from_us
            ));
        }
        open.push(interval);
    }
    for ((character, epoch), instances) in users.into_iter().filter(|(_, instances)| instances.len() > 1) {
        audit.duplicate_epochs += 1;
        note(format!("epoch {epoch} of {character} was used by {} processes", instances.len()));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::Mono;

    use super::*;
    use crate::db::work::{self, HomeMark};
    use crate::db::{BANK_GOLD, open};

    /// One story of intervals, told by the processes themselves.
    struct Story {
        dir: tempfile::TempDir,
        db: Connection,
    }

    impl Story {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let db = open(&dir.path().join("world.db")).unwrap();
            for name in ["a", "b"] {
                work::register(&db, name, name, "1.9.0", "boot", Mono(0)).unwrap();
            }
            Self { dir, db }
        }

        fn mark(epoch: u64, at: u64) -> HomeMark {
            HomeMark { player: "p".to_owned(), character: "ann".to_owned(), epoch, at: Mono(at) }
        }

        fn begins(&self, home: &str, epoch: u64, at: u64) -> &Self {
            work::homes_begin(&self.db, home, &Self::mark(epoch, at)).unwrap();
            self
        }

        fn ends(&self, home: &str, epoch: u64, at: u64) -> &Self {
            work::homes_end(&self.db, home, &Self::mark(epoch, at)).unwrap();
            self
        }

        fn ticks(&self, home: &str, at: u64) -> &Self {
            work::seen(&self.db, home, Mono(at)).unwrap();
            self
        }

        fn audit(&self) -> HomesAudit {
            audit(&self.dir.path().join("world.db")).unwrap()
        }

        fn check(&self, overlaps: u64, duplicate_epochs: u64) {
            let audit = self.audit();
            assert_eq!((audit.overlaps, audit.duplicate_epochs), (overlaps, duplicate_epochs), "{audit:?}");
        }
    }

    #[test]
    fn an_empty_realm_has_all_its_gold_in_the_bank() {
        let audit = Story::new().audit();
        assert_eq!(audit, HomesAudit { gold_total: BANK_GOLD.unsigned_abs(), ..HomesAudit::default() });
        assert!(super::audit(Path::new("nowhere/world.db")).is_err());
    }

    #[test]
    fn a_hand_over_and_its_failure_are_no_overlap() {
        let story = Story::new();
        story.begins("a", 1, 10).ends("a", 1, 20).begins("a", 1, 25).ends("a", 1, 40).begins("b", 2, 40);
        story.ticks("a", 100).ticks("b", 100).check(0, 0);
    }

    #[test]
    fn a_process_that_died_ends_with_its_last_tick() {
        let story = Story::new();
        story.begins("a", 1, 10).ticks("a", 50).begins("b", 2, 60).ticks("b", 900).check(0, 0);
    }

    #[test]
    fn a_process_that_goes_on_after_a_pause_is_an_overlap() {
        let story = Story::new();
        story.begins("a", 1, 10).ticks("a", 50).begins("b", 2, 60).ticks("b", 900).ticks("a", 70).check(1, 0);
        assert!(story.audit().examples[0].contains("live on a"));
    }

    #[test]
    fn a_paused_process_that_closes_its_books_is_none() {
        let story = Story::new();
        story.begins("a", 1, 10).ticks("a", 50).begins("b", 2, 60).ends("a", 1, 55).ticks("a", 900).check(0, 0);
    }

    #[test]
    fn one_process_cannot_hold_a_player_twice_either() {
        let story = Story::new();
        story.begins("a", 1, 10).begins("a", 2, 20).ticks("a", 30).check(1, 0);
    }

    #[test]
    fn an_epoch_has_one_user() {
        let story = Story::new();
        story.begins("a", 1, 10).ends("a", 1, 20).begins("b", 1, 30).ends("b", 1, 40).check(0, 1);
    }
}
