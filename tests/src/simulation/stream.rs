//! The one stream between the gateway and the manager: in order each way, late by what the dice say, cut at any moment
//! (what is on its way is lost) and opened again by the gateway, which then says everything anew.

use std::collections::VecDeque;
use std::time::Duration;

use fleet_core::RouteTable;
use gateway_core::model::Numbers;
use gateway_core::{SessionCommand, SessionReport, SessionRow};
use tidegate_types::{Generation, InstanceId, ServerId, Timestamp};

/// The longest that one message takes, in milliseconds.
const LATEST_MS: u64 = 400;

/// Manager to gateway.
#[derive(Debug, Clone)]
pub(super) enum Directive {
    Table(Box<RouteTable>),
    Dead(ServerId, InstanceId),
    Command(SessionCommand),
}

/// Gateway to manager.
#[derive(Debug, Clone)]
pub(super) enum Report {
    /// The stream is open; the gateway acknowledged this generation.
    Hello(Generation),
    /// One row of the full list.
    Row(Box<SessionRow>),
    RowsEnd,
    Changed(SessionReport),
    Acked(Generation),
}

/// Messages of one direction.
#[derive(Debug)]
pub(super) struct Way<T> {
    queue: VecDeque<(Timestamp, T)>,
    last: Timestamp,
}

impl<T> Way<T> {
    pub(super) const fn new() -> Self {
        Self { queue: VecDeque::new(), last: Timestamp(0) }
    }

    pub(super) fn send(&mut self, now: Timestamp, dice: &mut Numbers, message: T) {
        let at = (now + Duration::from_millis(dice.next() % LATEST_MS)).max(self.last);
        self.last = at;
        self.queue.push_back((at, message));
    }

    pub(super) fn arrived(&mut self, now: Timestamp) -> Option<T> {
        if self.queue.front().is_none_or(|(at, _)| now < *at) {
            return None;
        }
        self.queue.pop_front().map(|(_, message)| message)
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct Stream {
    open: bool,
    down: Way<Directive>,
    up: Way<Report>,
}

impl Stream {
    pub(super) const fn new() -> Self {
        Self { open: false, down: Way::new(), up: Way::new() }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Opens a new stream.
    pub(super) fn open(&mut self) {
        *self = Self { open: true, ..Self::new() };
    }

    /// True: it was open.
    pub(super) fn cut(&mut self) -> bool {
        std::mem::replace(self, Self::new()).open
    }

    /// Said into a stream that is cut, it is lost.
    pub(super) fn direct(&mut self, now: Timestamp, dice: &mut Numbers, directive: Directive) {
        if self.open {
            self.down.send(now, dice, directive);
        }
    }

    pub(super) fn report(&mut self, now: Timestamp, dice: &mut Numbers, report: Report) {
        if self.open {
            self.up.send(now, dice, report);
        }
    }

    pub(super) fn next_directive(&mut self, now: Timestamp) -> Option<Directive> {
        self.down.arrived(now)
    }

    pub(super) fn next_report(&mut self, now: Timestamp) -> Option<Report> {
        self.up.arrived(now)
    }
}
