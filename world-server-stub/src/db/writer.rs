//! The one writer of this process: jobs queue up, all that wait become one transaction (group commit), and each job's
//! `done` is called after the commit that holds it.
//!
//! Jobs are applied in the order of their submission, so a save submitted after a trade never undoes it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tracing::{debug, error, warn};

/// Jobs that may wait: some seconds of saves and moves of a full server. More means that the disk does not keep up.
const QUEUE: usize = 16_384;

/// Jobs in one transaction: keeps the write lock short (a few milliseconds) for the other processes of the realm.
const BATCH: usize = 256;

/// Why a job's effect is not in the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Too many jobs wait.
    #[error("the realm database is behind")]
    Behind,
    /// The writer has ended.
    #[error("the realm database is closed")]
    Closed,
    /// SQLite said no.
    #[error("the realm database failed: {0}")]
    Sql(String),
}

/// Submits jobs to the writer thread. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Box<dyn Job>>,
}

/// The writer thread; ends when every [`Store`] is dropped and all jobs are done.
pub struct WriterThread {
    thread: JoinHandle<()>,
}

impl Store {
    /// Starts the writer on an open database.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start(connection: Connection) -> std::io::Result<(Self, WriterThread)> {
        let (jobs, queue) = sync_channel(QUEUE);
        let thread =
            std::thread::Builder::new().name("realm-db".to_owned()).spawn(move || Writer { connection }.run(&queue))?;
        Ok((Self { jobs }, WriterThread { thread }))
    }

    /// Queues `work`. `done` is called exactly once: after the commit, on the writer thread, or at once when the job
    /// cannot be queued. `work` may be applied more than once (a batch that fails is applied again, job by job), each time
    /// from the same state, so it must not change anything but the database.
    pub fn submit<R: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<R> + Send + 'static,
        done: impl FnOnce(Result<R, Failure>) + Send + 'static,
    ) {
        let job = Box::new(Typed { work, done, result: None });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.finish(Err(Failure::Behind)),
            Err(TrySendError::Disconnected(job)) => job.finish(Err(Failure::Closed)),
        }
    }
}

impl WriterThread {
    /// Waits until all jobs are done. Every [`Store`] must be dropped first, or this waits for them.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the realm database's writer panicked");
        }
    }
}

trait Job: Send {
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, outcome: Result<(), Failure>);
}

struct Typed<W, D, R> {
    work: W,
    done: D,
    result: Option<R>,
}

impl<W, D, R> Job for Typed<W, D, R>
where
    W: Fn(&Connection) -> rusqlite::Result<R> + Send,
    D: FnOnce(Result<R, Failure>) + Send,
    R: Send,
{
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.result = Some((self.work)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Failure>) {
        let Self { done, result, .. } = *self;
        done(outcome.and_then(|()| result.ok_or(Failure::Closed)));
    }
}

struct Writer {
    connection: Connection,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = queue.recv() {
            let mut batch = vec![first];
            batch.extend(queue.try_iter().take(BATCH - 1));
            self.write(batch);
        }
        debug!("the realm database is closed");
    }

    fn write(&mut self, mut batch: Vec<Box<dyn Job>>) {
        match self.commit(&mut batch) {
            Ok(()) => batch.into_iter().for_each(|job| job.finish(Ok(()))),
            Err(e) if batch.len() == 1 => {
                warn!(error = %e, "a write to the realm database failed");
                batch.into_iter().for_each(|job| job.finish(Err(Failure::Sql(e.to_string()))));
            }
            // One bad job must not take the others with it.
            Err(_) => batch.into_iter().for_each(|job| self.write(vec![job])),
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        // IMMEDIATE: take the write lock first, so that nothing read inside can change before the commit.
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in batch {
            job.apply(&tx)?;
        }
        tx.commit()
    }
}
