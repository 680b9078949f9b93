//! All timers of a core in one ordered set. What a timer means is read from the state when it fires.

use std::collections::BTreeSet;

use tidegate_types::Mono;

use crate::key::SessionKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Other gateways' leases are over.
    Warm,
    /// Look at the line, tell places, retire servers.
    Sweep,
    /// Tell the directory whom this gateway holds.
    Announce,
    /// The session's present step has taken too long.
    Step(SessionKey),
    /// The session's grace time is over.
    Grace(SessionKey),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    /// Moves a timer from `old` to `new`.
    pub(super) fn set(&mut self, timer: Timer, old: Option<Mono>, new: Option<Mono>) {
        if let Some(at) = old {
            self.set.remove(&(at, timer));
        }
        if let Some(at) = new {
            self.set.insert((at, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Mono> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(super) fn pop(&mut self, now: Mono) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }
}
