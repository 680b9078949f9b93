//! Opening the database file: pragmas and tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

/// All the gold of a realm: it lies in the bank until characters are made, and is never made or destroyed.
pub const BANK_GOLD: i64 = 1_000_000_000;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("open the realm database {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    cause: rusqlite::Error,
}

/// `synchronous=NORMAL` in WAL mode writes each commit to the log file but syncs it only at checkpoints. A kill -9 loses
/// nothing (the pages are the kernel's by then); a power cut can lose the last commits of the whole file together, which
/// is a consistent earlier state of the world. FULL would cost a disk sync for each group of saves and buy a game little.
const PRAGMAS: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS characters (
        character TEXT PRIMARY KEY,
        player    TEXT NOT NULL,
        -- Whoever writes this row must hold this epoch.
        epoch     INTEGER NOT NULL,
        -- The shared zone to log in to (an instance's exit).
        zone      TEXT NOT NULL,
        gold      INTEGER NOT NULL CHECK (gold >= 0),
        items     INTEGER NOT NULL CHECK (items >= 0),
        -- The highest action sequence that the state contains.
        applied   INTEGER NOT NULL,
        format    INTEGER NOT NULL,
        state     BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS bank (
        id   INTEGER PRIMARY KEY CHECK (id = 1),
        gold INTEGER NOT NULL CHECK (gold >= 0)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS processes (
        instance TEXT PRIMARY KEY,
        server   TEXT NOT NULL,
        build    TEXT NOT NULL,
        -- Names the run of the machine whose CLOCK_BOOTTIME all times of this process are.
        boot     TEXT NOT NULL,
        -- When it last ticked: the end of its open intervals if it dies.
        seen_us  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS homes (
        id        INTEGER PRIMARY KEY,
        player    TEXT NOT NULL,
        character TEXT NOT NULL,
        instance  TEXT NOT NULL REFERENCES processes (instance),
        epoch     INTEGER NOT NULL,
        from_us   INTEGER NOT NULL,
        -- NULL while the player is live, and for ever if the process died.
        to_us     INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS homes_of ON homes (character, epoch);
    CREATE TABLE IF NOT EXISTS zone_state (
        server TEXT NOT NULL,
        zone   TEXT NOT NULL,
        state  BLOB NOT NULL,
        PRIMARY KEY (server, zone)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS counters (
        name  TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT;
";

/// Opens the file, making it and its tables if need be. Several processes may do so at once.
///
/// # Errors
/// [`OpenError`] names the file.
pub fn open(path: &Path) -> Result<Connection, OpenError> {
    let named = |cause| OpenError { path: path.to_owned(), cause };
    if let Some(folder) = path.parent() {
        // A folder that cannot be made shows as the open that then fails, with SQLite's own reason.
        let _made_or_open_fails = std::fs::create_dir_all(folder);
    }
    let mut connection = Connection::open(path).map_err(named)?;
    prepare(&mut connection).map_err(named)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_the_lock))?;
    switch_to_wal(connection)?;
    connection.execute_batch(PRAGMAS)?;
    // The statements of `work` are about fifteen.
    connection.set_prepared_statement_cache_capacity(32);
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    tx.execute("INSERT OR IGNORE INTO bank (id, gold) VALUES (1, ?1)", [BANK_GOLD])?;
    tx.execute("INSERT OR IGNORE INTO counters (name, value) VALUES ('stale_writes_refused', 0)", [])?;
    tx.commit()
}

/// The switch to WAL takes the file alone for a moment and does not call the busy handler in every case, so processes that
/// start together try again: 500 times 2 to 4 ms is longer than all of a realm's servers need one after the other.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        match connection.pragma_update(None, "journal_mode", "wal") {
            Err(e) if is_busy(&e) && tries < 500 => {
                tries += 1;
                wait_for_the_lock(tries);
            }
            outcome => return outcome,
        }
    }
}

/// True where trying again helps: another process has the lock.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

/// SQLite's own handler backs off to 100 ms, which starves one of several writers that each hold the lock for a few
/// milliseconds at a time. This one looks again every 2 to 4 ms, unevenly, and gives up after about half a minute: a lock
/// held that long is a fault to report.
fn wait_for_the_lock(tries: i32) -> bool {
    std::thread::sleep(Duration::from_micros(rand::random_range(2_000..4_000)));
    tries < 10_000
}
