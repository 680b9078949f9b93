//! The database's tables and their version, and the checks made before any of it is believed.
//!
//! Every table of facts has the same shape (key, realm, body): the body is a private JSON row (`rows.rs`), because what
//! is asked of them is "all of them, at start" and "this one, now"; the database never filters by their inside.

use rusqlite::Connection;

use super::StoreError;

/// "Tdgt": tells this database from any other SQLite file that someone puts in its place.
const APPLICATION_ID: i32 = 0x5464_6774;

/// The schema that this program writes. A newer one is refused; an older one is brought up to it, step by step.
const VERSION: i32 = 2;

/// The first schema that was ever written.
const FIRST: i32 = 1;

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

/// One of our own changes of the schema: from the version before it to `to`.
struct Step {
    to: i32,
    sql: &'static str,
}

/// Every step since version 1, in order. A step that is out is never changed: somebody's database has taken it.
const STEPS: [Step; 1] =
    // Old audit records are deleted by age; without this each time reads all of them.
    [Step { to: 2, sql: "CREATE INDEX audit_by_age ON audit (at_ms);" }];

/// How thoroughly the file is read before it is believed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Every page and row, but not whether each index agrees with its table: some hundred MB a second.
    #[default]
    Quick,
    /// The indexes too; several times slower.
    Full,
}

impl Check {
    const fn pragma(self) -> &'static str {
        match self {
            Self::Quick => "PRAGMA quick_check(1)",
            Self::Full => "PRAGMA integrity_check(1)",
        }
    }
}

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

/// Checks what is there, creates what is not, and brings an older schema up to this program's. `keep` makes a copy of the
/// database, by the version that it has, before the first step; nothing is changed when it fails.
///
/// # Errors
/// The database is damaged, belongs to another program, or is newer than this program; the copy could not be made.
pub(super) fn prepare(
    connection: &mut Connection,
    check: Check,
    keep: impl FnOnce(&Connection, i32) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let found: String = connection.query_row(check.pragma(), [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Damaged { why: found, advice: String::new() });
    }
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version = version_of(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => create(connection),
        (APPLICATION_ID, VERSION, _) => Ok(()),
        (APPLICATION_ID, older, _) if (FIRST..VERSION).contains(&older) => {
            keep(connection, older)?;
            upgrade(connection, older)
        }
        (APPLICATION_ID, newer, _) => Err(StoreError::Version { found: newer, known: VERSION }),
        _ => Err(StoreError::NotOurs),
    }
}

/// The version of the schema in this file.
pub(super) fn version_of(connection: &Connection) -> Result<i32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Takes each step in a transaction of its own, with its number: a crash between two leaves a database of the version
/// that it says.
fn upgrade(connection: &mut Connection, from: i32) -> Result<(), StoreError> {
    for step in STEPS.iter().filter(|step| step.to > from) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step.sql)?;
        transaction.pragma_update(None, "user_version", step.to)?;
        transaction.commit()?;
        tracing::info!(version = step.to, "the database has a new schema version");
    }
    Ok(())
}

fn create(connection: &mut Connection) -> Result<(), StoreError> {
    create_first(connection)?;
    upgrade(connection, FIRST)
}

/// The schema of version 1, with which every database begins: so a new one and an upgraded one are the same.
pub(super) fn create_first(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for table in Table::ALL {
        let name = table.name();
        transaction.execute_batch(&format!(
            "CREATE TABLE {name} (key TEXT PRIMARY KEY, realm TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;"
        ))?;
    }
    transaction.execute_batch(AUDIT_AND_REQUESTS)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FIRST)?;
    transaction.commit()?;
    Ok(())
}
