//! SQLite files: a consistent copy of one that is being written, its check, and putting one in place of another.
//! Everything here blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::SnapshotError;
use super::blobs::io_at;

/// How long a copy waits for a writer that holds the database.
const BUSY: Duration = Duration::from_secs(5);

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Database { doing, path, source }
}

fn open(path: &Path) -> Result<Connection, SnapshotError> {
    // Not read-only: reading a database in WAL mode may have to make its shared-memory file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    connection.busy_timeout(BUSY).map_err(failed("open", path))?;
    Ok(connection)
}

/// Copies a live database, as it is at one moment between two of its transactions, into one file of its own.
pub(crate) fn copy(source: &Path, target: &Path) -> Result<(), SnapshotError> {
    let from = open(source)?;
    let mut to = Connection::open(target).map_err(failed("create", target))?;
    {
        let backup = Backup::new(&from, &mut to).map_err(failed("copy", source))?;
        let give_up = Instant::now() + BUSY;
        // All pages in one step: one read transaction, so nothing that is committed meanwhile is half in it.
        loop {
            match backup.step(-1).map_err(failed("copy", source))? {
                StepResult::Done => break,
                _ if Instant::now() >= give_up => {
                    return Err(SnapshotError::InUse { path: source.to_owned() });
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
    // The copy is in the source's WAL mode; a snapshot is one file.
    one_file(&to).map_err(failed("finish", target))?;
    to.close().map_err(|(_, e)| failed("finish", target)(e))?;
    fs::File::open(target).and_then(|file| file.sync_all()).map_err(io_at(target))
}

/// Takes a database out of WAL mode. Only its sole user can. True: done.
fn one_file(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    Ok(mode == "delete")
}

/// SQLite's own check of every page and index.
pub(crate) fn check(path: &Path) -> Result<(), SnapshotError> {
    let damaged = |e: rusqlite::Error| SnapshotError::DamagedDatabase(e.to_string());
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(damaged)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(damaged)?;
    if verdict == "ok" { Ok(()) } else { Err(SnapshotError::DamagedDatabase(verdict)) }
}

/// Puts `new` in the place of `target`. A database that is there is refused if anyone has it open, and put aside (never
/// deleted) if not.
pub(crate) fn replace(new: &Path, target: &Path, aside_name: &str) -> Result<(), SnapshotError> {
    if fs::metadata(target).is_ok_and(|meta| meta.len() > 0) {
        sole_user(target)?;
        let aside = free_name(target, aside_name);
        tracing::info!(path = %target.display(), aside = %aside.display(), "database put aside");
        fs::rename(target, &aside).map_err(io_at(target))?;
    }
    // Left by a crash; they belong to the old content and would be played into the new.
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut name = target.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_at(Path::new(&name))(e)),
            _ => {}
        }
    }
    fs::rename(new, target).map_err(io_at(target))?;
    let dir = target.parent().unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

/// Refuses a database that somebody else has open. Leaving WAL mode needs to be alone with it, and writes everything of
/// the log into the one file, so that it can be put aside whole.
fn sole_user(path: &Path) -> Result<(), SnapshotError> {
    let connection = open(path)?;
    connection.busy_timeout(Duration::from_millis(100)).map_err(failed("open", path))?;
    // A connection that has a database in WAL mode open holds a shared lock for as long as it lives; in another mode an
    // exclusive transaction shows whether anyone is in the middle of one.
    let alone = one_file(&connection).and_then(|done| {
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        Ok(done)
    });
    match alone {
        Ok(true) => Ok(()),
        Ok(false) => Err(SnapshotError::InUse { path: path.to_owned() }),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Err(SnapshotError::InUse { path: path.to_owned() })
        }
        Err(e) => Err(failed("take", path)(e)),
    }
}

fn free_name(target: &Path, word: &str) -> PathBuf {
    let name = |n: u32| {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{word}"));
        if n > 0 {
            name.push(format!("-{n}"));
        }
        PathBuf::from(name)
    };
    (0..u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, rows: u32) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER)").unwrap();
        for n in 0..rows {
            connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
        connection
    }

    fn rows(path: &Path) -> u32 {
        Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_is_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let (live, copied) = (dir.path().join("live.db"), dir.path().join("copy.db"));
        let _open = database(&live, 7);
        copy(&live, &copied).unwrap();
        check(&copied).unwrap();
        assert_eq!(rows(&copied), 7);
        assert!(!dir.path().join("copy.db-wal").exists());
    }

    #[test]
    fn a_damaged_copy_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(database(&path, 500));
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..4200].fill(0xAA);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(check(&path), Err(SnapshotError::DamagedDatabase(_))));
    }

    #[test]
    fn an_open_database_is_not_replaced_and_a_closed_one_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (new, target) = (dir.path().join("new.db"), dir.path().join("world.db"));
        drop(database(&new, 1));
        let open = database(&target, 9);
        assert!(matches!(replace(&new, &target, "before-s1"), Err(SnapshotError::InUse { .. })));
        assert_eq!(rows(&target), 9);
        drop(open);
        replace(&new, &target, "before-s1").unwrap();
        assert_eq!(rows(&target), 1);
        assert_eq!(rows(&dir.path().join("world.db.before-s1")), 9);
    }

    #[test]
    fn a_missing_source_is_an_error_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let (live, copied) = (dir.path().join("live.db"), dir.path().join("copy.db"));
        assert!(copy(&live, &copied).is_err());
        assert!(!live.exists());
    }
}
