//! Rule 1 by the realm database's books: the times in which a process *acted* for a player.
//!
//! An interval ends when the process itself wrote that it does, else with the last tick of that process: one that was
//! killed stops ticking, one that was only paused and goes on acting shows as an overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Evidence;
use super::tally::Check;

/// One time in which a process acted for a player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The player.
    pub player: String,
    /// The character.
    pub character: String,
    /// The world server's id.
    pub server: String,
    /// Its process.
    pub instance: String,
    /// The home's epoch.
    pub epoch: u64,
    /// Since when, by CLOCK_BOOTTIME.
    pub from_us: u64,
    /// Until when.
    pub to_us: u64,
}

/// What the realm database's books say.
#[derive(Debug, Default)]
pub struct Homes {
    /// By player and beginning.
    pub intervals: Vec<Interval>,
    /// Writes that the epoch guard refused: the guard at work.
    pub stale_writes_refused: u64,
}

impl Homes {
    /// Reads a realm database, which may be in use.
    ///
    /// # Errors
    /// SQLite's, when the file is not there or is no realm database.
    pub fn read(path: &Path) -> rusqlite::Result<Self> {
        // Reading a database in WAL mode needs its shared memory, which a read-only connection may not be able to make.
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let intervals = db
            .prepare(
                "SELECT h.player, h.character, p.server, h.instance, h.epoch, h.from_us,
                        coalesce(h.to_us, max(h.from_us, p.seen_us))
                 FROM homes h JOIN processes p ON p.instance = h.instance
                 ORDER BY h.player, h.from_us, h.id",
            )?
            .query_map([], |row| {
                Ok(Interval {
                    player: row.get(0)?,
                    character: row.get(1)?,
                    server: row.get(2)?,
                    instance: row.get(3)?,
                    epoch: row.get(4).map(unsigned)?,
                    from_us: row.get(5).map(unsigned)?,
                    to_us: row.get(6).map(unsigned)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let refused = db.query_row("SELECT value FROM counters WHERE name = 'stale_writes_refused'", [], |row| {
            row.get::<_, i64>(0)
        })?;
        Ok(Self { intervals, stale_writes_refused: unsigned(refused) })
    }
}

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    let intervals = &evidence.homes.intervals;
    vec![overlaps(intervals), epochs(intervals), steps(intervals)]
}

/// Milliseconds (each begun one counts) in which a player was live on two homes.
fn overlaps(intervals: &[Interval]) -> Check {
    let mut check = Check::new(1, "double-homed player-milliseconds");
    let mut open: Vec<&Interval> = Vec::new();
    for interval in intervals {
        check.of += 1;
        open.retain(|earlier| earlier.player == interval.player && earlier.to_us > interval.from_us);
        let home = |i: &Interval| (i.instance.clone(), i.epoch);
        for earlier in open.iter().filter(|e| home(e) != home(interval)) {
            let shared = earlier.to_us.min(interval.to_us).saturating_sub(interval.from_us);
            check.add(shared.div_ceil(1_000), || {
                format!(
                    "{} was live on {} (epoch {}) until {} µs and on {} (epoch {}) from {} µs",
                    interval.player,
                    earlier.server,
                    earlier.epoch,
                    earlier.to_us,
                    interval.server,
                    interval.epoch,
                    interval.from_us
                )
            });
        }
        open.push(interval);
    }
    check
}

/// An epoch has one user.
fn epochs(intervals: &[Interval]) -> Check {
    let mut users: BTreeMap<(&str, u64), BTreeSet<&str>> = BTreeMap::new();
    for interval in intervals {
        users.entry((&interval.character, interval.epoch)).or_default().insert(&interval.instance);
    }
    let mut check = Check::new(1, "epochs used by two processes");
    for ((character, epoch), instances) in users {
        let broken = instances.len() > 1;
        check.look(broken.then(|| format!("epoch {epoch} of {character} by {} processes", instances.len())));
    }
    check
}

/// A later home has a higher epoch.
fn steps(intervals: &[Interval]) -> Check {
    let mut check = Check::new(1, "homes with an epoch below an earlier one");
    for pair in intervals.windows(2) {
        let [before, after] = pair else { continue };
        if before.character == after.character && before.player == after.player {
            let broken = after.epoch < before.epoch;
            check.look(broken.then(|| format!("{}: {} after {}", after.character, after.epoch, before.epoch)));
        }
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(instance: &str, epoch: u64, from_us: u64, to_us: u64) -> Interval {
        Interval {
            player: "ann".into(),
            character: "ann".into(),
            server: format!("server-{instance}"),
            instance: instance.into(),
            epoch,
            from_us,
            to_us,
        }
    }

    fn check(intervals: Vec<Interval>, expected: [u64; 3]) {
        let evidence = Evidence { homes: Homes { intervals, stale_writes_refused: 0 }, ..Evidence::default() };
        let found: Vec<u64> = checks(&evidence).iter().map(|check| check.violations).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn homes_that_follow_each_other_are_well() {
        check(vec![interval("a", 1, 0, 10), interval("a", 1, 20, 40), interval("b", 2, 40, 90)], [0, 0, 0]);
    }

    #[test]
    fn two_homes_at_once_count_by_the_millisecond() {
        check(vec![interval("a", 1, 0, 5_000), interval("b", 2, 3_500, 9_000)], [2, 0, 0]);
        check(
            vec![interval("a", 1, 0, 9_000), interval("b", 2, 1_000, 2_000), interval("c", 3, 3_000, 3_001)],
            [2, 0, 0],
        );
    }

    #[test]
    fn an_epoch_used_twice_and_one_that_falls_are_found() {
        check(vec![interval("a", 1, 0, 10), interval("b", 1, 20, 30)], [0, 1, 0]);
        check(vec![interval("a", 3, 0, 10), interval("b", 2, 20, 30)], [0, 0, 1]);
    }
}
