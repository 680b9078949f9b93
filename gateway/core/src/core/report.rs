//! What the manager is told about sessions: a row whenever something in it may have changed, once per input.

use super::{Core, Cx};
use crate::action::{Action, RowState, SessionReport, SessionRow};
use crate::handover::Seat;
use crate::key::SessionKey;
use crate::session::{Doing, Standing};

impl Core {
    /// All rows, for a full report.
    #[must_use]
    pub fn rows(&self) -> Vec<SessionRow> {
        let keys = self.sessions.iter().map(|(index, _)| SessionKey(super::servers::key_of(index).0));
        keys.filter(|key| self.sessions[key.index()].reported.is_some()).map(|key| self.row(key)).collect()
    }

    fn row(&self, key: SessionKey) -> SessionRow {
        let session = &self.sessions[key.index()];
        let mut row = session.row();
        row.server = session.server().and_then(|server| self.servers.get(server)).map(|state| state.id.clone());
        row
    }

    pub(super) fn on_status(&mut self, seat: Seat, doing: Doing) {
        let Some(key) = self.session_at(seat) else { return };
        let session = &mut self.sessions[key.index()];
        if session.doing != doing {
            session.doing = doing;
            self.dirty.insert(key);
            self.note_whereabouts(key, seat);
        }
    }

    pub(super) fn report(&mut self, cx: &mut Cx<'_>) {
        while let Some(key) = self.dirty.pop_first() {
            if !self.sessions.contains(key.index()) {
                continue;
            }
            if self.sessions[key.index()].foreign || self.sessions[key.index()].standing == Standing::Resume {
                // Another gateway's, so far.
                continue;
            }
            let row = self.row(key);
            let row = Box::new(row);
            let state = row.state;
            let reported = &mut self.sessions[key.index()].reported;
            if reported.as_ref() == Some(&row) {
                continue;
            }
            let was = reported.replace(row.clone()).map(|row| row.state);
            self.count_row(was, Some(state));
            cx.out.push(Action::Report(SessionReport::Row(row)));
        }
    }

    /// Keeps the gauges.
    pub(super) fn count_row(&mut self, was: Option<RowState>, is: Option<RowState>) {
        let counters = &mut self.counters;
        let mut count = |state: Option<RowState>, by: i32| {
            let Some(state) = state else { return };
            let gauges = match state {
                RowState::Holding => Some(&mut counters.holding_now),
                RowState::Moving => Some(&mut counters.moving_now),
                RowState::Detached => Some(&mut counters.detached_now),
                RowState::Attaching | RowState::Playing => None,
            };
            if let Some(gauge) = gauges {
                *gauge = gauge.saturating_add_signed(by);
            }
            counters.sessions = counters.sessions.saturating_add_signed(by);
        };
        count(was, -1);
        count(is, 1);
    }
}
