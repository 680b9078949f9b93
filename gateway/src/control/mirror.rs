//! The control side's copy of what the shard reported: all rows, the last acknowledgement of each realm, and what else
//! waits for a stream.

use std::collections::{HashMap, VecDeque};

use tidegate_proto::v1::{self, gateway_report::Message};

use crate::reports::Report;

/// Ends of sessions and results that wait while there is no manager; the oldest go first beyond that.
const KEPT: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Mirror {
    rows: HashMap<Vec<u8>, v1::SessionRow>,
    acks: HashMap<String, u64>,
    kept: VecDeque<Message>,
}

impl Mirror {
    /// Applies a report; the message that says the same. Not for [`Report::AllRows`], which is many messages.
    pub(super) fn apply(&mut self, report: Report) -> Message {
        match report {
            Report::Row(row) => {
                self.rows.insert(row.session_id.clone(), (*row).clone());
                Message::Session(*row)
            }
            Report::Gone(gone) => {
                self.rows.remove(&gone.session_id);
                Message::SessionGone(gone)
            }
            Report::TableAck(ack) => {
                self.acks.insert(ack.realm.clone(), ack.generation);
                Message::TableAck(ack)
            }
            Report::CommandResult(result) => Message::CommandResult(result),
            Report::AllRows(rows) => {
                self.replace(rows);
                Message::SessionsBegin(v1::SessionsBegin {})
            }
        }
    }

    /// Applies a report that cannot be sent now.
    pub(super) fn keep(&mut self, report: Report) {
        let message = self.apply(report);
        // Rows and acknowledgements are sent in full with the next stream.
        if let Message::SessionGone(_) | Message::CommandResult(_) = message {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(message);
        }
    }

    pub(super) fn next_kept(&mut self) -> Option<Message> {
        self.kept.pop_front()
    }

    pub(super) fn replace(&mut self, rows: Vec<v1::SessionRow>) {
        self.rows = rows.into_iter().map(|row| (row.session_id.clone(), row)).collect();
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &v1::SessionRow> {
        self.rows.values()
    }

    pub(super) fn acks(&self) -> impl Iterator<Item = v1::TableAck> {
        self.acks.iter().map(|(realm, generation)| v1::TableAck { realm: realm.clone(), generation: *generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8, zone: &str) -> v1::SessionRow {
        v1::SessionRow { session_id: vec![n], zone: zone.into(), ..Default::default() }
    }

    #[test]
    fn rows_follow_and_what_is_not_a_row_waits() {
        let mut mirror = Mirror::default();
        mirror.keep(Report::Row(Box::new(row(1, "town"))));
        mirror.keep(Report::Row(Box::new(row(1, "forest"))));
        mirror.keep(Report::Row(Box::new(row(2, "town"))));
        mirror.keep(Report::Gone(v1::SessionGone { session_id: vec![2], ..Default::default() }));
        mirror.keep(Report::TableAck(v1::TableAck { realm: "eu-1".into(), generation: 3 }));
        assert_eq!(mirror.rows().cloned().collect::<Vec<_>>(), [row(1, "forest")]);
        assert!(matches!(mirror.next_kept(), Some(Message::SessionGone(_))));
        assert_eq!(mirror.next_kept(), None);
        assert_eq!(mirror.acks().map(|a| a.generation).collect::<Vec<_>>(), [3]);
        mirror.replace(vec![row(7, "town")]);
        assert_eq!(mirror.rows().count(), 1);
    }
}
