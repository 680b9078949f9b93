//! What the shard tells the control side, without ever waiting for it.
//!
//! The queue is bounded. When it overflows, changes of rows are dropped and the shard owes a full list, which it pays as
//! soon as there is room; what is not a row (acknowledgements, results, ends of sessions) is kept aside meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use gateway_core::Counters;
use tidegate_proto::v1;
use tidegate_types::RealmId;
use tokio::sync::{mpsc, watch};

use crate::edge::EdgeCounters;
use crate::players::TicketsRefused;

/// Reports that wait for the control side: some seconds of a login storm.
const QUEUE: usize = 16 * 1024;
/// Reports that are not rows and wait through an overflow; the oldest go first beyond that.
const KEPT: usize = 16 * 1024;

/// One thing to tell.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    /// Forget all rows; these are all there are.
    AllRows(Vec<v1::SessionRow>),
    /// A row is now this.
    Row(Box<v1::SessionRow>),
    /// A session is over.
    Gone(v1::SessionGone),
    /// A table is in force.
    TableAck(v1::TableAck),
    /// What became of one session of a command.
    CommandResult(v1::CommandResult),
}

/// The shard's figures, once a second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) edge: EdgeCounters,
    pub(crate) connections: u32,
    pub(crate) realms: Vec<(RealmId, Counters)>,
    /// Ids of the servers whose links are open.
    pub(crate) links: Vec<String>,
    /// Of the shared directory, if there is one.
    pub(crate) directory: Option<tidegate_directory::Figures>,
    /// A planned stop is under way.
    pub(crate) stopping: bool,
    pub(crate) tickets_refused: TicketsRefused,
    pub(crate) reports_dropped: u64,
    pub(crate) passes: u64,
}

/// The shard's end.
pub(crate) struct Reporter {
    queue: mpsc::Sender<Report>,
    figures: watch::Sender<Arc<Figures>>,
    /// The control side's rows are not ours: all must be sent.
    owes_all: bool,
    kept: VecDeque<Report>,
    dropped: u64,
}

/// The control side's end.
pub(crate) struct Reports {
    pub(crate) queue: mpsc::Receiver<Report>,
    pub(crate) figures: watch::Receiver<Arc<Figures>>,
}

/// Both ends of a new queue.
pub(crate) fn reports() -> (Reporter, Reports) {
    bounded(QUEUE)
}

fn bounded(limit: usize) -> (Reporter, Reports) {
    let (sender, queue) = mpsc::channel(limit);
    let (publish, figures) = watch::channel(Arc::default());
    let reporter = Reporter { queue: sender, figures: publish, owes_all: false, kept: VecDeque::new(), dropped: 0 };
    (reporter, Reports { queue, figures })
}

impl Reporter {
    /// Tells, or notes that it could not.
    pub(crate) fn tell(&mut self, report: Report) {
        if self.owes_all {
            self.keep(report);
        } else if let Err(e) = self.queue.try_send(report) {
            match e {
                mpsc::error::TrySendError::Full(report) => {
                    tracing::warn!("reports overflow; all sessions will be sent again");
                    self.owes_all = true;
                    self.keep(report);
                }
                // The control side has ended: the process is stopping.
                mpsc::error::TrySendError::Closed(_) => (),
            }
        }
    }

    fn keep(&mut self, report: Report) {
        if let Report::Row(_) | Report::AllRows(_) = report {
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(report);
    }

    /// Pays the full list if it is owed and there is room for it. `rows` is only called then.
    pub(crate) fn settle(&mut self, rows: impl FnOnce() -> Vec<v1::SessionRow>) {
        // Half the queue must be free, so that one overflow does not follow the other.
        if !self.owes_all || self.queue.capacity() < self.queue.max_capacity() / 2 {
            return;
        }
        self.owes_all = false;
        // Ends first: a session that is over is not in the list any more. Acknowledgements after it: what they say of
        // sessions must already be in the rows.
        let (ends, others): (Vec<_>, Vec<_>) = self.kept.drain(..).partition(|r| matches!(r, Report::Gone(_)));
        for report in ends {
            self.tell(report);
        }
        self.tell(Report::AllRows(rows()));
        for report in others {
            self.tell(report);
        }
    }

    /// Publishes the figures; only the last ones count.
    pub(crate) fn publish(&self, mut figures: Figures) {
        figures.reports_dropped = self.dropped;
        self.figures.send_replace(Arc::new(figures));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8) -> Report {
        Report::Row(Box::new(v1::SessionRow { session_id: vec![n], ..Default::default() }))
    }

    fn ack(generation: u64) -> Report {
        Report::TableAck(v1::TableAck { realm: "eu-1".into(), generation })
    }

    fn gone(n: u8) -> Report {
        Report::Gone(v1::SessionGone { session_id: vec![n], ..Default::default() })
    }

    #[test]
    fn an_overflow_is_paid_with_all_rows_and_loses_nothing_else() {
        let (mut reporter, mut reports) = bounded(4);
        for n in 0..5 {
            reporter.tell(row(n));
        }
        reporter.tell(ack(7));
        reporter.tell(gone(2));
        reporter.settle(|| panic!("there is no room yet"));
        let mut seen = Vec::new();
        while let Ok(report) = reports.queue.try_recv() {
            seen.push(report);
        }
        assert_eq!(seen.len(), 4);
        reporter.settle(|| vec![v1::SessionRow { session_id: vec![9], ..Default::default() }]);
        let after: Vec<_> = std::iter::from_fn(|| reports.queue.try_recv().ok()).collect();
        assert!(
            matches!(&after[..], [Report::Gone(_), Report::AllRows(rows), Report::TableAck(_)] if rows.len() == 1),
            "{after:?}"
        );
        reporter.settle(|| panic!("nothing is owed"));
        reporter.tell(row(1));
        assert!(matches!(reports.queue.try_recv(), Ok(Report::Row(_))));
    }
}
