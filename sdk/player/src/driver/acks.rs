//! When the gateway is to be told how many frames have arrived. Pure: times come in.

use std::time::Duration;

use tokio::time::Instant;

/// Received frames are acknowledged at the latest after this many …
const FRAMES: u32 = 32;
/// … or after this time.
const AFTER: Duration = Duration::from_millis(250);

/// What is received on one connection and not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Acks {
    unacknowledged: u32,
    by: Option<Instant>,
}

impl Acks {
    /// A `Game` frame arrived.
    pub(super) fn received(&mut self, now: Instant) {
        self.unacknowledged += 1;
        self.by.get_or_insert(now + AFTER);
    }

    /// True if an `Ack` is due; the caller sends it.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.unacknowledged >= FRAMES || self.by.is_some_and(|by| by <= now);
        if due {
            *self = Self::default();
        }
        due
    }

    /// When to ask again at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_is_acknowledged_when_its_time_has_come() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        assert!(!acks.take_due(start) && acks.next().is_none());
        acks.received(start);
        acks.received(start + AFTER / 2);
        assert_eq!(acks.next(), Some(start + AFTER), "counted from the first");
        assert!(!acks.take_due(start + AFTER / 2));
        assert!(acks.take_due(start + AFTER));
        assert!(!acks.take_due(start + AFTER) && acks.next().is_none(), "once");
    }

    #[test]
    fn thirty_two_frames_are_acknowledged_at_once() {
        let (mut acks, start) = (Acks::default(), Instant::now());
        for _ in 1..FRAMES {
            acks.received(start);
            assert!(!acks.take_due(start));
        }
        acks.received(start);
        assert!(acks.take_due(start));
        assert!(!acks.take_due(start));
    }
}
