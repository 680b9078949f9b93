//! The one thread that writes. Jobs that wait together share one transaction (group commit), so that the cost of a sync
//! is paid once; each answer is given only after the commit that holds it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{AuditRow, Commit, RequestWrite, StoreError};

/// Most jobs of one transaction. Enough to share a sync among every realm that has something to say, small enough that
/// the first of them does not wait long.
const GROUP: usize = 256;

/// One unit of work: all of it is committed or none of it.
pub(super) struct Job {
    pub(super) commit: Commit,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// How long the commit comes after the answer where that rule is broken on purpose.
const BROKEN_FOR: std::time::Duration = std::time::Duration::from_millis(300);

/// Runs until every sender is gone and the queue is empty.
pub(super) fn run(mut connection: Connection, mut jobs: mpsc::Receiver<Job>, audit: &broadcast::Sender<Arc<AuditRow>>) {
    let mut group = Vec::with_capacity(GROUP);
    let answers_first = tidegate_types::sabotage::on("ack_before_commit");
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        if answers_first {
            for job in &mut group {
                let (unheard, _) = oneshot::channel();
                drop(std::mem::replace(&mut job.done, unheard).send(Ok(())));
            }
            // Long enough for whoever was answered to see what comes of it.
            std::thread::sleep(BROKEN_FOR);
        }
        let mut applied = Vec::with_capacity(group.len());
        let mut records = Vec::new();
        match write(&mut connection, group.drain(..), &mut applied, &mut records) {
            Ok(()) => {
                for record in records {
                    // Nobody watching is not an error.
                    drop(audit.send(Arc::new(record)));
                }
                for (done, outcome) in applied {
                    drop(done.send(outcome));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for (done, _) in applied {
                    drop(done.send(Err(StoreError::Commit(Arc::clone(&error)))));
                }
            }
        }
    }
}

type Applied = Vec<(oneshot::Sender<Result<(), StoreError>>, Result<(), StoreError>)>;

fn write(
    connection: &mut Connection,
    group: impl Iterator<Item = Job>,
    applied: &mut Applied,
    records: &mut Vec<AuditRow>,
) -> Result<(), rusqlite::Error> {
    let begun = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
    let mut transaction = match begun {
        Ok(transaction) => transaction,
        Err(error) => {
            // Every job must be answered, also when nothing can be begun.
            applied.extend(group.map(|job| (job.done, Ok(()))));
            return Err(error);
        }
    };
    let mut failed = None;
    for job in group {
        if failed.is_some() {
            applied.push((job.done, Ok(())));
            continue;
        }
        // A savepoint each: one refused job (a request id that is taken) must not take the others with it.
        match savepoint(&mut transaction, job.commit) {
            Ok(Ok(mut rows)) => {
                records.append(&mut rows);
                applied.push((job.done, Ok(())));
            }
            Ok(Err(refused)) => applied.push((job.done, Err(refused))),
            Err(error) => {
                failed = Some(error);
                applied.push((job.done, Ok(())));
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => transaction.commit(),
    }
}

/// Applies one job. The outer error is the database's and spoils the whole group, the inner one only this job.
fn savepoint(
    transaction: &mut Transaction<'_>,
    commit: Commit,
) -> Result<Result<Vec<AuditRow>, StoreError>, rusqlite::Error> {
    let point = transaction.savepoint()?;
    if let Some(request) = &commit.request
        && let Some(refused) = apply_request(&point, request)?
    {
        // Dropped without a commit: rolled back to the savepoint.
        return Ok(Err(refused));
    }
    for row in &commit.rows {
        let name = row.table.name();
        match &row.body {
            Some(body) => point
                .prepare_cached(&format!(
                    "INSERT INTO {name} (key, realm, body) VALUES (?1, ?2, ?3)
                     ON CONFLICT (key) DO UPDATE SET realm = ?2, body = ?3"
                ))?
                .execute(params![row.key, row.realm, body])?,
            None => point.prepare_cached(&format!("DELETE FROM {name} WHERE key = ?1"))?.execute(params![row.key])?,
        };
    }
    let mut records = commit.audit;
    for record in &mut records {
        point
            .prepare_cached(
                "INSERT INTO audit (at_ms, who, what, realm, subject, why, before, after, request_id)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                record.at_ms,
                record.who,
                record.what,
                record.realm,
                record.subject,
                record.why,
                record.before,
                record.after,
                record.request_id
            ])?;
        record.sequence = point.last_insert_rowid().unsigned_abs();
    }
    if let Some(prune) = &commit.prune {
        point.execute(
            "DELETE FROM requests WHERE at_ms < ?1
             OR id IN (SELECT id FROM requests ORDER BY at_ms DESC LIMIT -1 OFFSET ?2)",
            params![prune.requests_before_ms, prune.requests_limit],
        )?;
        point.execute("DELETE FROM audit WHERE at_ms < ?1", params![prune.audit_before_ms])?;
    }
    point.commit()?;
    Ok(Ok(records))
}

fn apply_request(connection: &Connection, request: &RequestWrite) -> Result<Option<StoreError>, rusqlite::Error> {
    match request {
        RequestWrite::New(row) => {
            let taken: Option<i64> = connection
                .prepare_cached("SELECT 1 FROM requests WHERE id = ?1")?
                .query_row(params![row.id], |r| r.get(0))
                .optional()?;
            if taken.is_some() {
                return Ok(Some(StoreError::RequestTaken));
            }
            connection
                .prepare_cached(
                    "INSERT INTO requests (id, rpc, digest, answer, refusal, done, at_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![row.id, row.rpc, row.digest, row.answer, row.refusal, row.done, row.at_ms])?;
        }
        RequestWrite::Finish { id, answer, refusal } => {
            // An answer that was given stays: the first to finish wins.
            connection
                .prepare_cached("UPDATE requests SET answer = ?2, refusal = ?3, done = 1 WHERE id = ?1 AND done = 0")?
                .execute(params![id, answer, refusal])?;
        }
    }
    Ok(None)
}
