//! Tells the shared directory which sessions this gateway holds: after it was out of reach or lost, and now and then.
//!
//! The directory may be lost whole and is rebuilt from these. In portions, so that players' packets are not kept waiting.

use std::time::Duration;

use tidegate_types::Mono;

use super::{Core, Cx, Timer};
use crate::key::SessionKey;
use crate::session::State;

/// Sessions of one portion.
const PORTION: usize = 500;
/// Between two portions; 25,000 sessions a second.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two full announcements. An entry lives for many times that.
const EVERY: Duration = Duration::from_secs(60);

impl Core {
    /// The directory answers again, and may have forgotten.
    pub(super) fn on_directory_up(&mut self, cx: &mut Cx<'_>) {
        self.announce_from = 0;
        self.announcing = true;
        self.set_announce(Some(cx.now.mono));
        self.ask_for_those_in_line(cx);
    }

    /// True from [`crate::Input::DirectoryUp`] until all sessions have been told to the directory.
    #[must_use]
    pub const fn is_announcing(&self) -> bool {
        self.announcing
    }

    pub(super) fn set_announce(&mut self, at: Option<Mono>) {
        self.timers.set(Timer::Announce, self.announce_at, at);
        self.announce_at = at;
    }

    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        self.announce_at = None;
        let from = self.announce_from;
        let portion: Vec<usize> =
            self.sessions.iter().map(|(index, _)| index).filter(|index| *index >= from).take(PORTION).collect();
        for index in &portion {
            let session = &self.sessions[*index];
            let server = match &session.state {
                State::Playing { seat, .. } => seat.server,
                State::Moving(h) if !h.is_committed() => h.source.server,
                State::Moving(_)
                | State::Waiting { .. }
                | State::Finding(_)
                | State::Claiming { .. }
                | State::Attaching { .. }
                | State::Lost { .. }
                | State::Leaving { .. } => continue,
            };
            let (who, epoch) = (session.who.clone(), session.epoch);
            self.raise(SessionKey(super::servers::key_of(*index).0), who, epoch, server, cx);
        }
        let more = portion.len() == PORTION;
        self.announce_from = if more { portion.last().map_or(0, |last| last + 1) } else { 0 };
        self.announcing &= more;
        self.set_announce(Some(cx.now.mono + if more { PAUSE } else { EVERY }));
    }
}
