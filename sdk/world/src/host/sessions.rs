//! What the host keeps for each seat beside the seat machine: its channel, frames that the world cannot take now, and what
//! the player was last said to be doing.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidegate_types::Mono;

use super::channel::Counted;
use crate::world::{PlayerStatus, Seat};

/// Frames of one player that may wait for the world. Four times what a client sends without hearing of it.
const FRAMES: usize = 1024;
/// And their bytes.
const BYTES: usize = 256 * 1024;
/// A status is repeated this often.
const REPEAT: Duration = Duration::from_secs(10);

/// Frames on their way to the world.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// A frame was lost: nothing after it may be delivered.
    overflowed: bool,
}

/// What became of a frame that is to wait.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    /// It is the first for which there is no room.
    No,
    /// One before it was lost.
    Never,
}

impl Waiting {
    pub(super) fn push(&mut self, frame: Bytes) -> Kept {
        if self.overflowed {
            return Kept::Never;
        }
        if self.frames.len() >= FRAMES || self.bytes + frame.len() > BYTES {
            self.overflowed = true;
            return Kept::No;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        Kept::Yes
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.overflowed
    }
}

/// One player's.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) channel: Counted,
    pub(super) to_world: Waiting,
    status: Option<Told>,
    /// Among those whose count the gateway is to be told.
    counted: bool,
}

#[derive(Debug)]
struct Told {
    status: PlayerStatus,
    /// When the world said so.
    since: Mono,
    /// When the gateway was told; `None`: not yet, or on another link.
    sent: Option<Mono>,
}

impl Session {
    /// The world said what the player is doing. True when it is news for the gateway.
    pub(super) fn set_status(&mut self, status: PlayerStatus, now: Mono) -> bool {
        let news = self.status.as_ref().is_none_or(|told| {
            let old = &told.status;
            told.sent.is_none()
                || (&old.zone, &old.zone_kind, old.busy) != (&status.zone, &status.zone_kind, status.busy)
        });
        let sent = self.status.as_ref().and_then(|told| told.sent);
        self.status = Some(Told { status, since: now, sent });
        news
    }

    /// Another link: its gateway was told nothing yet.
    pub(super) fn forget_sent(&mut self) {
        if let Some(told) = &mut self.status {
            told.sent = None;
        }
    }

    /// The status as of now if it should be told (again); notes that it is.
    pub(super) fn due_status(&mut self, now: Mono, news: bool) -> Option<PlayerStatus> {
        let told = self.status.as_mut()?;
        if !news && told.sent.is_some_and(|sent| now.since(sent) < REPEAT) {
            return None;
        }
        told.sent = Some(now);
        Some(PlayerStatus { idle: told.status.idle + now.since(told.since), ..told.status.clone() })
    }
}

/// All players', by seat.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_seat: Vec<Option<Session>>,
    /// Those with frames that their gateway was not told of.
    counted: Vec<Seat>,
}

impl Sessions {
    pub(super) fn get_mut(&mut self, seat: Seat) -> &mut Session {
        let index = seat.0 as usize;
        if self.by_seat.len() <= index {
            self.by_seat.resize_with(index + 1, || None);
        }
        self.by_seat[index].get_or_insert_default()
    }

    pub(super) fn find_mut(&mut self, seat: Seat) -> Option<&mut Session> {
        self.by_seat.get_mut(seat.0 as usize)?.as_mut()
    }

    /// A stay begins.
    pub(super) fn open(&mut self, seat: Seat, channel: Counted) {
        *self.get_mut(seat) = Session { channel, ..Session::default() };
    }

    /// A frame of the player's was received; the gateway is to be told.
    pub(super) fn received(&mut self, seat: Seat) {
        let session = self.get_mut(seat);
        session.channel.received();
        if !std::mem::replace(&mut session.counted, true) {
            self.counted.push(seat);
        }
    }

    pub(super) fn has_counted(&self) -> bool {
        !self.counted.is_empty()
    }

    /// Those whose count is to be told; `later` says of whom it cannot be told yet.
    pub(super) fn take_counted(&mut self, later: impl Fn(Seat) -> bool) -> Vec<(Seat, u64)> {
        let mut counts = Vec::with_capacity(self.counted.len());
        let by_seat = &mut self.by_seat;
        self.counted.retain(|seat| {
            let Some(session) = by_seat.get_mut(seat.0 as usize).and_then(Option::as_mut) else { return false };
            // A seat that was given anew in between stands here twice.
            if !session.counted || later(*seat) {
                return session.counted;
            }
            session.counted = false;
            counts.push((*seat, session.channel.up()));
            false
        });
        counts
    }

    pub(super) fn forget(&mut self, seat: Seat) {
        if let Some(entry) = self.by_seat.get_mut(seat.0 as usize) {
            *entry = None;
        }
    }

    pub(super) fn seats(&self) -> Vec<Seat> {
        (0..self.by_seat.len() as u32).filter(|i| self.by_seat[*i as usize].is_some()).map(Seat).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(zone: &str, busy: bool, idle_s: u64) -> PlayerStatus {
        let zone = zone.parse().unwrap();
        PlayerStatus { zone, zone_kind: "shared".into(), busy, idle: Duration::from_secs(idle_s) }
    }

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000)
    }

    #[test]
    fn a_status_is_told_when_it_changes_and_every_ten_seconds() {
        let mut session = Session::default();
        assert!(session.set_status(status("town", false, 0), at(0)));
        assert!(session.due_status(at(0), true).is_some());
        assert!(!session.set_status(status("town", false, 0), at(1)), "nothing new");
        assert_eq!(session.due_status(at(9), false), None);
        assert_eq!(session.due_status(at(10), false).unwrap().idle, Duration::from_secs(9));
        assert!(session.set_status(status("town", true, 0), at(11)));
        session.forget_sent();
        assert!(session.due_status(at(11), false).is_some(), "another link has not heard it");
    }

    #[test]
    fn counts_are_told_once_for_all_that_came_and_later_where_they_must_be() {
        let mut sessions = Sessions::default();
        for seat in [0, 1, 0, 2] {
            sessions.received(Seat(seat));
        }
        sessions.forget(Seat(2));
        assert_eq!(sessions.take_counted(|seat| seat == Seat(1)), [(Seat(0), 2)]);
        assert!(sessions.has_counted());
        sessions.received(Seat(1));
        assert_eq!(sessions.take_counted(|_| false), [(Seat(1), 2)]);
        assert!(!sessions.has_counted());
    }

    #[test]
    fn waiting_frames_are_bounded_and_never_have_a_hole() {
        let mut waiting = Waiting::default();
        let frame = Bytes::from(vec![0; 1000]);
        let taken = (0..1000).take_while(|_| waiting.push(frame.clone()) == Kept::Yes).count();
        assert_eq!(taken, BYTES / 1000);
        while waiting.pop().is_some() {}
        assert_eq!(waiting.push(frame), Kept::Never, "told once");
        assert_eq!(waiting.pop(), None, "nothing after the hole");
    }
}
