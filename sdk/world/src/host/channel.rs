//! One player's reliable channel, as the world server keeps it: how many of the player's frames it has received, and which of
//! its own the player has not acknowledged. Counts go on over links, gateways and homes, so that a frame lost with any of
//! them can be sent again and none arrives twice.
//!
//! ```text
//!    acknowledged      sent on the link       waits
//!   ─────────────┬────────────────────────┬────────────┬─────▶ numbers of downstream frames
//!             down.base()               next      down.total()
//! ```

use bytes::Bytes;
use tidegate_proto::v1;
use tidegate_window::{Backlog, Limits};

use crate::seats::Channel;

/// What is kept of the frames to a player. A gateway and a client keep as much (see WIRE.md): a client that is gone longer
/// than this lasts, at some tens of frames a second, is told of the gap. With 64 KiB a server of 2,000 players keeps 128 MiB
/// at the very worst and, with acknowledgements twice a second, a few MiB as a rule.
const KEPT: Limits = Limits { frames: 256, bytes: 64 * 1024 };

/// A reliable channel of one session.
#[derive(Debug)]
pub(super) struct Counted {
    /// The player's frames received since the session began: handed to the world, or queued for it in order.
    up: u64,
    down: Backlog,
    /// The next to be sent on the link.
    next: u64,
    /// The session is taken up again: how its channel is to go on, at `Attached`.
    resume: Option<Channel>,
    /// A frame that was never sent fell out: nothing after it may be sent.
    broken: bool,
}

impl Default for Counted {
    fn default() -> Self {
        Self { up: 0, down: Backlog::new(KEPT), next: 0, resume: None, broken: false }
    }
}

impl Counted {
    /// A stay that begins where earlier homes left off. What they sent is kept as if it had been sent from here.
    pub(super) fn open(channel: &Channel) -> Self {
        let mut counted = Self { up: channel.up, ..Self::default() };
        counted.down.adopt(channel.down, channel.frames.iter().map(|frame| &frame[..]));
        counted.next = counted.down.total();
        counted
    }

    /// The session is taken up again; nothing is sent until [`Counted::attached`].
    pub(super) fn resume(&mut self, channel: Channel) {
        if channel.restart {
            self.up = channel.up;
        }
        self.resume = Some(channel);
    }

    /// `Attached` is said now: where the channel stands. All from `down` on is to be sent next.
    pub(super) fn attached(&mut self) -> v1::Channel {
        let mut gap = false;
        if let Some(Channel { down, restart, .. }) = self.resume.take() {
            if restart {
                self.down.adopt(down, []);
            } else {
                // Nobody renumbers: what fell out leaves a hole that both sides know.
                gap = down < self.down.base();
                self.down.acknowledge(down);
            }
            self.next = self.down.base();
            self.broken = false;
        }
        v1::Channel { up: self.up, down: self.next, frames: Vec::new(), restart: false, gap }
    }

    /// A frame of the player's was handed to the world, or queued for it.
    pub(super) fn received(&mut self) {
        self.up += 1;
    }

    /// How many there were.
    pub(super) fn up(&self) -> u64 {
        self.up
    }

    /// The player has so many. What was not sent yet cannot be among them.
    pub(super) fn acknowledged(&mut self, count: u64) {
        self.down.acknowledge(count.min(self.next));
    }

    /// Keeps a frame to the player.
    pub(super) fn push(&mut self, body: &[u8]) {
        self.down.push(body);
    }

    /// True for the first time that a frame is gone which was never sent on the link that waits for it.
    #[must_use]
    pub(super) fn breaks(&mut self) -> bool {
        let lost = self.down.base() > self.next && self.resume.is_none() && !self.broken;
        self.broken |= lost;
        lost
    }

    /// True if nothing but the frame kept last waits to be sent; notes that it is.
    #[must_use]
    pub(super) fn send_last(&mut self) -> bool {
        let only = !self.broken && self.next + 1 == self.down.total();
        self.next += u64::from(only);
        only
    }

    /// What waits to be sent; notes that it is.
    pub(super) fn send_all(&mut self) -> Vec<Bytes> {
        if self.broken || self.down.base() > self.next {
            return Vec::new();
        }
        let frames = self.down.from(self.next);
        self.next = self.down.total();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(up: u64, down: u64) -> Channel {
        Channel { up, down, ..Channel::default() }
    }

    fn sent(counted: &mut Counted) -> Vec<String> {
        counted.send_all().iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    fn say(counted: &mut Counted, words: &[&str]) {
        for word in words {
            counted.push(word.as_bytes());
            assert!(counted.send_last());
        }
    }

    #[test]
    fn what_the_player_lacks_is_sent_again_and_then_what_waited() {
        let mut counted = Counted::default();
        say(&mut counted, &["0", "1", "2", "3"]);
        counted.acknowledged(1);
        counted.received();
        counted.resume(channel(0, 2));
        counted.push(b"4");
        let answer = counted.attached();
        assert_eq!((answer.up, answer.down, answer.gap), (1, 2, false));
        assert_eq!(sent(&mut counted), ["2", "3", "4"]);
        assert_eq!(sent(&mut counted), [""; 0]);
    }

    #[test]
    fn a_stay_goes_on_from_the_counts_of_earlier_homes() {
        let frames = vec![b"6".to_vec(), b"7".to_vec()];
        let mut counted = Counted::open(&Channel { up: 9, down: 6, frames, restart: false });
        assert_eq!((counted.attached().down, sent(&mut counted)), (8, vec![]), "the gateway has them");
        say(&mut counted, &["8"]);
        counted.received();
        counted.resume(channel(0, 7));
        assert_eq!(
            (counted.attached(), sent(&mut counted)),
            (v1::Channel { up: 10, down: 7, ..v1::Channel::default() }, vec!["7".into(), "8".into()])
        );
    }

    #[test]
    fn a_client_that_knows_nothing_begins_where_it_is_told() {
        let mut counted = Counted::default();
        say(&mut counted, &["0", "1"]);
        counted.received();
        counted.resume(Channel { up: 5, down: 3, restart: true, frames: Vec::new() });
        // Its frames may follow the `Attach` at once.
        counted.received();
        assert_eq!(counted.attached(), v1::Channel { up: 6, down: 3, ..v1::Channel::default() });
        say(&mut counted, &["new"]);
        counted.resume(channel(0, 3));
        assert_eq!((counted.attached().gap, sent(&mut counted)), (false, vec!["new".into()]));
    }

    #[test]
    fn what_fell_out_is_a_gap_only_if_it_was_needed() {
        let mut counted = Counted::default();
        for _ in 0..KEPT.frames + 2 {
            say(&mut counted, &["x"]);
        }
        counted.resume(channel(0, 2));
        assert!(!counted.attached().gap);
        assert_eq!(counted.send_all().len(), KEPT.frames);
        counted.resume(channel(0, 1));
        let answer = counted.attached();
        assert_eq!((answer.gap, answer.down), (true, 2), "the first that is left keeps its number");
        assert_eq!(counted.send_all().len(), KEPT.frames);
    }

    #[test]
    fn a_frame_that_was_never_sent_may_only_be_lost_while_nobody_waits_for_it() {
        let mut counted = Counted::default();
        for _ in 0..KEPT.frames {
            counted.push(b"x");
            assert!(!counted.breaks());
        }
        counted.push(b"x");
        assert!(counted.breaks() && !counted.breaks(), "told once");
        assert!(sent(&mut counted).is_empty() && !counted.send_last(), "nothing after the hole");
        counted.resume(channel(0, 0));
        counted.push(b"x");
        assert!(!counted.breaks(), "told by the gap");
        assert!(counted.attached().gap);
    }

    #[test]
    fn nobody_acknowledges_what_was_never_sent() {
        let mut counted = Counted::default();
        say(&mut counted, &["0"]);
        counted.push(b"1");
        counted.acknowledged(u64::MAX);
        assert_eq!(sent(&mut counted), ["1"]);
    }
}
