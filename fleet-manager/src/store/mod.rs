//! What the fleet-manager must not forget: SQLite with a write-ahead log, synced at every commit, one writer.
//!
//! A [`Commit`] holds everything that one command changed: rows, audit records and the request's answer. It is durable
//! when [`Store::commit`] returns, or has not happened at all. The store knows tables and bytes, not what they mean:
//! `rows.rs` translates.
//!
//! ```text
//!   open: check --damaged--> refused, with the copy to restore and the commands that do it; the file is left as it is
//!           \--older schema--> copy, then one transaction a step --\
//!            \--current----------------------------------------------> writer thread, reader
//! ```

mod backup;
pub mod rows;
mod schema;
mod writer;

#[cfg(test)]
mod durability;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tidegate_types::{Clock, SystemClock};
use tokio::sync::{broadcast, mpsc, oneshot};

pub use schema::{Check, Table};

/// Most jobs that wait for the writer. Each is one caller who waits for its own answer, so a full queue slows callers
/// down, which is what it is for.
const QUEUE: usize = 1024;

/// Audit records that a slow watcher may be behind before it has to read from the database again.
const AUDIT_BACKLOG: usize = 1024;

/// Why the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own error.
    #[error("the database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The transaction that held this commit failed, and nothing of it happened.
    #[error("the commit failed")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// The file does not pass SQLite's check, is empty, or is not there though it once was.
    #[error("the database is damaged: {why}; {advice}")]
    Damaged {
        /// What was found.
        why: String,
        /// What to do: which copy to restore, and the commands.
        advice: String,
    },
    /// A copy of the database could not be made; nothing was changed.
    #[error("cannot make the copy {}: {why}", path.display())]
    Backup {
        /// The copy.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the writer")]
    Writer(#[source] std::io::Error),
    /// Another program's database.
    #[error("the file is not a fleet-manager's database")]
    NotOurs,
    /// Written by a newer program.
    #[error("the database has schema version {found}, this program knows up to {known}; run a newer program")]
    Version {
        /// In the file.
        found: i32,
        /// Newest that this program knows.
        known: i32,
    },
    /// The request id has been used.
    #[error("the request id is taken")]
    RequestTaken,
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

/// One row of a table of facts, to be written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWrite {
    /// Which table.
    pub table: Table,
    /// Its key there.
    pub key: String,
    /// The realm it belongs to; empty: none.
    pub realm: String,
    /// JSON; `None` deletes the row.
    pub body: Option<String>,
}

/// One row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// Which table.
    pub table: Table,
    /// Its key there.
    pub key: String,
    /// The realm it belongs to; empty: none.
    pub realm: String,
    /// JSON.
    pub body: String,
}

/// One audit record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// Given by the store; 0 before it is written.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub at_ms: i64,
    /// Who did it.
    pub who: String,
    /// What kind of change.
    pub what: String,
    /// The realm; empty: none.
    pub realm: String,
    /// The id of what changed.
    pub subject: String,
    /// Why.
    pub why: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// The request that asked for it; empty: none.
    pub request_id: String,
}

/// A request that was accepted or refused, so that a retry gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Chosen by the caller.
    pub id: String,
    /// The method it was for.
    pub rpc: String,
    /// BLAKE3 of the request without its id.
    pub digest: Vec<u8>,
    /// The answer as protobuf; what is known of it when `done` is false.
    pub answer: Vec<u8>,
    /// A refusal instead of the answer (JSON).
    pub refusal: Option<String>,
    /// The answer is final.
    pub done: bool,
    /// Unix time in milliseconds.
    pub at_ms: i64,
}

/// What a commit does to the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestWrite {
    /// A new one; the whole commit is refused when the id is taken.
    New(RequestRow),
    /// The final answer to one whose answer was not; nothing happens when it already is.
    Finish {
        /// Chosen by the caller.
        id: String,
        /// The answer as protobuf.
        answer: Vec<u8>,
        /// A refusal instead of the answer (JSON).
        refusal: Option<String>,
    },
}

/// What is old enough to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    /// Requests before this Unix time in milliseconds.
    pub requests_before_ms: i64,
    /// All but so many of the newest requests.
    pub requests_limit: u32,
    /// Audit records before this Unix time in milliseconds.
    pub audit_before_ms: i64,
}

/// Everything that happens together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Rows to write or delete.
    pub rows: Vec<RowWrite>,
    /// Records to add.
    pub audit: Vec<AuditRow>,
    /// The request that asked for it.
    pub request: Option<RequestWrite>,
    /// What to forget.
    pub prune: Option<Prune>,
}

impl Commit {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.audit.is_empty() && self.request.is_none() && self.prune.is_none()
    }
}

/// Which audit records to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this realm; empty: all.
    pub realm: String,
    /// Only of this subject; empty: all.
    pub subject: String,
    /// Only below this sequence (newest first), when set.
    pub before: Option<u64>,
    /// Only above this sequence (oldest first), when set.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// Handle to the store; cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: mpsc::Sender<writer::Job>,
    audit: broadcast::Sender<Arc<AuditRow>>,
    /// Readers never wait for the writer under a write-ahead log, and there are few of them: one connection is enough.
    reader: Mutex<Connection>,
    path: PathBuf,
}

fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    reader.busy_timeout(Duration::from_secs(5))?;
    Ok(reader)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database after a quick check, creating it when there is none, and starts the writer.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, Check::Quick)
    }

    /// As [`Store::open`], after this check. A database of an older schema is copied, then brought up to date.
    ///
    /// # Errors
    /// It cannot be opened, is damaged, belongs to another program or is newer than this one; the copy of an older one
    /// cannot be made. The file is then as it was.
    pub fn open_with(path: &Path, check: Check) -> Result<Self, StoreError> {
        // SQLite says some of it on several lines.
        let damaged = |why: String| StoreError::Damaged { why: why.replace('\n', " "), advice: backup::advice(path) };
        let has_copies = !backup::list(path).is_empty();
        if has_copies && std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
            return Err(damaged("the file is empty".to_owned()));
        }
        if has_copies && !path.exists() {
            return Err(damaged("the file is not there".to_owned()));
        }
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            // What has copies once was ours.
            Some(rusqlite::ErrorCode::NotADatabase) if !has_copies => StoreError::NotOurs,
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                damaged(error.to_string())
            }
            _ => StoreError::Sqlite(error),
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        // Whatever is refused is left as it is: closing must not write the log into a damaged file.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        schema::configure(&connection).map_err(failed)?;
        let keep = |connection: &Connection, version| {
            let copy = backup::make(connection, path, SystemClock.now().wall)?;
            tracing::info!(version, copy = %copy.display(), "copied the database before a new schema version");
            Ok(())
        };
        schema::prepare(&mut connection, check, keep).map_err(|error| match error {
            StoreError::Sqlite(error) => failed(error),
            StoreError::Damaged { why, .. } => damaged(why),
            other => other,
        })?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let reader = reader(path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (audit, _) = broadcast::channel(AUDIT_BACKLOG);
        let records = audit.clone();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(connection, queue, &records))
            .map_err(StoreError::Writer)?;
        Ok(Self { inner: Arc::new(Inner { jobs, audit, reader: Mutex::new(reader), path: path.to_owned() }) })
    }

    /// Makes a copy if the newest one is older than `every`, and deletes all but the newest `keep`. `None`: there was
    /// no need.
    ///
    /// # Errors
    /// The copy could not be made. The database is not touched by that.
    pub async fn back_up(&self, every: Duration, keep: usize) -> Result<Option<PathBuf>, StoreError> {
        let path = self.inner.path.clone();
        tokio::task::spawn_blocking(move || {
            let now = SystemClock.now().wall;
            let fresh_since = backup::stamp(now - every);
            if backup::list(&path).last().is_some_and(|copy| backup::made(copy) > fresh_since.as_str()) {
                return Ok(None);
            }
            // A connection of its own: whoever reads meanwhile does not wait.
            let connection = reader(&path)?;
            let copy = backup::make(&connection, &path, now)?;
            let pruned = backup::prune(&path, schema::version_of(&connection)?, keep.max(1));
            pruned.map_err(|e| StoreError::Backup { path: backup::folder(&path), why: e.to_string() })?;
            Ok(Some(copy))
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// Writes all of it, durably, before it returns.
    ///
    /// # Errors
    /// Nothing of it happened: the request id is taken, or the database failed.
    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        if commit.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.inner.jobs.send(writer::Job { commit, done }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Every row of every table of facts. For the start: it blocks.
    ///
    /// # Errors
    /// The database failed.
    pub fn load(&self) -> Result<Vec<RawRow>, StoreError> {
        let reader = self.reader();
        let mut rows = Vec::new();
        for table in Table::ALL {
            let name = table.name();
            let mut statement = reader.prepare(&format!("SELECT key, realm, body FROM {name} ORDER BY key"))?;
            let found = statement
                .query_map([], |row| Ok(RawRow { table, key: row.get(0)?, realm: row.get(1)?, body: row.get(2)? }))?;
            for row in found {
                rows.push(row?);
            }
        }
        Ok(rows)
    }

    /// What was answered to this request.
    ///
    /// # Errors
    /// The database failed.
    pub async fn request(&self, id: &str) -> Result<Option<RequestRow>, StoreError> {
        let id = id.to_owned();
        self.read(move |reader| {
            reader
                .prepare_cached("SELECT rpc, digest, answer, refusal, done, at_ms FROM requests WHERE id = ?1")?
                .query_row(params![id], |row| {
                    Ok(RequestRow {
                        id: id.clone(),
                        rpc: row.get(0)?,
                        digest: row.get(1)?,
                        answer: row.get(2)?,
                        refusal: row.get(3)?,
                        done: row.get(4)?,
                        at_ms: row.get(5)?,
                    })
                })
                .optional()
        })
        .await
    }

    /// Audit records: newest first, or oldest first when `after` is set.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        self.read(move |reader| {
            let order = if query.after.is_some() { "ASC" } else { "DESC" };
            reader
                .prepare_cached(&format!(
                    "SELECT sequence, at_ms, who, what, realm, subject, why, before, after, request_id FROM audit
                     WHERE (?1 = '' OR realm = ?1) AND (?2 = '' OR subject = ?2)
                     AND sequence < ?3 AND sequence > ?4 ORDER BY sequence {order} LIMIT ?5"
                ))?
                .query_map(
                    params![
                        query.realm,
                        query.subject,
                        query.before.map_or(i64::MAX, |n| i64::try_from(n).unwrap_or(i64::MAX)),
                        query.after.map_or(0, |n| i64::try_from(n).unwrap_or(i64::MAX)),
                        query.limit,
                    ],
                    |row| {
                        Ok(AuditRow {
                            sequence: row.get::<_, i64>(0)?.unsigned_abs(),
                            at_ms: row.get(1)?,
                            who: row.get(2)?,
                            what: row.get(3)?,
                            realm: row.get(4)?,
                            subject: row.get(5)?,
                            why: row.get(6)?,
                            before: row.get(7)?,
                            after: row.get(8)?,
                            request_id: row.get(9)?,
                        })
                    },
                )?
                .collect()
        })
        .await
    }

    /// Audit records from now on, after their commit.
    #[must_use]
    pub fn watch_audit(&self) -> broadcast::Receiver<Arc<AuditRow>> {
        self.inner.audit.subscribe()
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A reader that panicked leaves the connection usable: it holds no state of ours.
        self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || read(&store.reader()))
            .await
            .map_err(|_| StoreError::Closed)?
            .map_err(Into::into)
    }
}
