//! The database's tables and their version, and the checks made before any of it is believed.
//!
//! Every table of facts has the same shape (key, realm, body): the body is a private JSON row (`rows.rs`), because what
//! is asked of them is "all of them, at start" and "this one, now"; the database never filters by their inside.

use rusqlite::Connection;

use super::StoreError;

/// "Tdgt": tells this database from any other SQLite file that someone puts in its place.
const APPLICATION_ID: i32 = 0x5464_6774;

/// The schema that this program writes. A newer one is refused; an older one is brought up to it.
const VERSION: i32 = 1;

/// A table of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// One row a realm.
    Realms,
    /// One row a registered build; belongs to no realm.
    Builds,
    /// One row an environment.
    Environments,
    /// One row a fleet of an environment (`<environment> <fleet>`).
    Fleets,
    /// One row a realm: which environment takes new sessions, and the generation.
    Routing,
    /// One row a drain (the environment's id is its key).
    Drains,
    /// One row a rollout.
    Rollouts,
    /// One row a snapshot.
    Snapshots,
    /// One row a gateway that was ever connected; belongs to no realm.
    Gateways,
}

impl Table {
    /// Every table of facts.
    pub const ALL: [Self; 9] = [
        Self::Realms,
        Self::Builds,
        Self::Environments,
        Self::Fleets,
        Self::Routing,
        Self::Drains,
        Self::Rollouts,
        Self::Snapshots,
        Self::Gateways,
    ];

    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Realms => "realms",
            Self::Builds => "builds",
            Self::Environments => "environments",
            Self::Fleets => "fleets",
            Self::Routing => "routing",
            Self::Drains => "drains",
            Self::Rollouts => "rollouts",
            Self::Snapshots => "snapshots",
            Self::Gateways => "gateways",
        }
    }
}

const AUDIT_AND_REQUESTS: &str = "
    CREATE TABLE requests (
        id      TEXT PRIMARY KEY,
        rpc     TEXT NOT NULL,
        digest  BLOB NOT NULL,
        answer  BLOB NOT NULL,
        refusal TEXT,
        done    INTEGER NOT NULL,
        at_ms   INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX requests_by_age ON requests (at_ms);
    CREATE TABLE audit (
        sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms      INTEGER NOT NULL,
        who        TEXT NOT NULL,
        what       TEXT NOT NULL,
        realm      TEXT NOT NULL,
        subject    TEXT NOT NULL,
        why        TEXT NOT NULL,
        before     TEXT NOT NULL,
        after      TEXT NOT NULL,
        request_id TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_realm ON audit (realm, sequence);
    CREATE INDEX audit_by_subject ON audit (subject, sequence);
";

/// Makes `connection` safe to write acknowledged facts with.
///
/// `synchronous=FULL` syncs the log at every commit: what was acknowledged survives a power cut. The busy timeout only
/// matters for the moment in which a reader checkpoints.
pub(super) fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(())
}

/// Checks what is there and creates what is not.
///
/// # Errors
/// The database is damaged, belongs to another program, or is newer than this program.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let integrity: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        return Err(StoreError::Damaged(integrity));
    }
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => create(connection),
        (APPLICATION_ID, VERSION, _) => Ok(()),
        (APPLICATION_ID, newer, _) => Err(StoreError::Version { found: newer, known: VERSION }),
        _ => Err(StoreError::NotOurs),
    }
}

fn create(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for table in Table::ALL {
        let name = table.name();
        transaction.execute_batch(&format!(
            "CREATE TABLE {name} (key TEXT PRIMARY KEY, realm TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;"
        ))?;
    }
    transaction.execute_batch(AUDIT_AND_REQUESTS)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}
