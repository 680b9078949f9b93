//! Copies of the database: before every schema step of our own, and one a day. Each is a whole SQLite file that any SQLite
//! can read; its name says which schema version it has and when it was made.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tidegate_types::Timestamp;

use super::{StoreError, schema};

/// The folder beside the database.
const FOLDER: &str = "backups";

/// Where a copy is made of the database at `database`, in schema version `version`, at `now`.
fn path_of(database: &Path, version: i32, now: Timestamp) -> PathBuf {
    let stem = database.file_stem().map_or_else(|| "manager".into(), |stem| stem.to_string_lossy());
    folder(database).join(format!("{stem}-v{version}-{}.db", stamp(now)))
}

/// The folder of the copies of this database.
pub(super) fn folder(database: &Path) -> PathBuf {
    database.parent().unwrap_or_else(|| Path::new(".")).join(FOLDER)
}

/// Copies the database, as it is now, to a file of its own that is durable and whole when this returns.
///
/// # Errors
/// [`StoreError::Backup`] with the file.
pub(super) fn make(connection: &Connection, database: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let version = schema::version_of(connection)?;
    let path = path_of(database, version, now);
    let failed = |why: String| StoreError::Backup { path: path.clone(), why };
    let io = |e: std::io::Error| failed(e.to_string());
    let sql = |e: rusqlite::Error| failed(e.to_string());
    let folder = folder(database);
    fs::create_dir_all(&folder).map_err(io)?;
    // Made beside and renamed, so that what has the name of a copy is a whole one.
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        Ok(()) | Err(_) => {}
    }
    {
        let mut copy = Connection::open(&beside).map_err(sql)?;
        {
            let backup = Backup::new(connection, &mut copy).map_err(sql)?;
            // All in one read transaction: under a write-ahead log it holds nobody up, and sees one moment.
            match backup.step(-1).map_err(sql)? {
                StepResult::Done => {}
                other => return Err(failed(format!("it could not be read in one go ({other:?})"))),
            }
        }
        // One file, without a log beside it: it can be read and moved by itself.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(sql)?;
        let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
        if found != "ok" {
            return Err(failed(format!("the copy is not whole ({found})")));
        }
    }
    fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&beside, &path).map_err(io)?;
    fs::File::open(&folder).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(path)
}

/// Every copy of this database, oldest first.
pub(super) fn list(database: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder(database)) else { return Vec::new() };
    let stem = database.file_stem().map(|stem| format!("{}-v", stem.to_string_lossy())).unwrap_or_default();
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut copies: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem)))
        .collect();
    copies.sort_by(|a, b| made(a).cmp(made(b)));
    copies
}

/// When a copy was made, as its name says: names of one program sort by it.
pub(super) fn made(path: &Path) -> &str {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.rsplit('-').next().unwrap_or_default()
}

/// What to do about a damaged database, in one line: the commands that put the newest copy in its place.
pub(super) fn advice(database: &Path) -> String {
    let at = database.display();
    let aside = format!("for part in '' -wal -shm; do mv {at}$part {at}.damaged$part; done");
    match list(database).last() {
        Some(copy) => format!(
            "put it aside and restore the copy of {} (what was commanded since then is lost, players play on): {aside}; \
             cp {} {at}",
            made(copy),
            copy.display()
        ),
        None => format!(
            "there is no copy in {}; put a backup of your own in its place, with its -wal file or without one, after: \
             {aside}",
            folder(database).display()
        ),
    }
}

/// Deletes all but the newest `keep` copies of this schema version. Those of earlier versions, made before a step, stay.
pub(super) fn prune(database: &Path, version: i32, keep: usize) -> std::io::Result<()> {
    let copies = list(database);
    let of_now = |path: &&PathBuf| version_in(path) == Some(version);
    let newer: Vec<&PathBuf> = copies.iter().filter(of_now).collect();
    for old in newer.iter().take(newer.len().saturating_sub(keep)) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// The schema version of a copy, as its name says.
fn version_in(path: &Path) -> Option<i32> {
    let stem = path.file_stem()?.to_str()?;
    stem.rsplit('-').nth(1)?.strip_prefix('v')?.parse().ok()
}

/// A time as it stands in a file's name, in UTC to the millisecond: `20261121T132003123Z`.
pub(super) fn stamp(at: Timestamp) -> String {
    let ms = at.0.max(0);
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (s, milli) = (of_day / 1000, of_day % 1000);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}{milli:03}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Days since 1970 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_when_in_utc() {
        for (ms, expected) in [
            (0, "19700101T000000000Z"),
            (951_827_696_007, "20000229T123456007Z"),
            (1_795_267_203_000, "20261121T132003000Z"),
        ] {
            assert_eq!(stamp(Timestamp(ms)), expected);
        }
    }
}
