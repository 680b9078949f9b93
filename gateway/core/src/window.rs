//! The `Game` frames of one session that are between two places. Counts are since the session began, so that they survive
//! connections, links and homes.
//!
//! ```text
//!   to the player     acknowledged by the player │ given to the connection │ waiting (no connection, not welcomed)
//!   from the player   received by the home       │ on their way to it      │ waiting (no home that plays)
//! ```
//!
//! Both are bounded. What falls out of the downstream one is only missed if the connection breaks; then the player is told of
//! a gap. Nothing falls out of the upstream one: its sender is told to stop.

use bytes::Bytes;
use tidegate_window::{Backlog, MAX_COUNT};

use crate::message::Channel;

/// Limits of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Frames from the player that the home has not confirmed.
    pub(crate) queued_frames: usize,
    /// Bytes from the player that the home has not confirmed.
    pub(crate) queued_bytes: usize,
    /// Frames unacknowledged by the player.
    pub(crate) window_frames: usize,
    /// Bytes unacknowledged by the player.
    pub(crate) window_bytes: usize,
}

/// What became of a frame of the player's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Kept.
    Yes,
    /// Kept; the sender is to stop until the home has confirmed more.
    Full,
    /// Not kept: the sender went on although it was told to stop.
    TooMany,
}

/// The frames of one session.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limits: Limits,
    down: Backlog,
    /// Downstream frames below this number have been given to the present connection.
    given: u64,
    /// How many the player has by its own word: of these some may still be on their way here.
    has: u64,
    up: Backlog,
    /// Upstream frames below this number have been sent to the present home.
    forwarded: u64,
}

impl Window {
    /// Nothing sent, nothing received.
    #[must_use]
    pub(crate) fn new(limits: Limits) -> Self {
        let down = tidegate_window::Limits { frames: limits.window_frames, bytes: limits.window_bytes };
        // Never reached: beyond it nothing is taken.
        let up = tidegate_window::Limits { frames: usize::MAX, bytes: usize::MAX };
        Self { limits, down: Backlog::new(down), given: 0, has: 0, up: Backlog::new(up), forwarded: 0 }
    }

    // To the player.

    /// A frame for the player, that is being given to the connection now.
    pub(crate) fn sent(&mut self, body: &[u8]) {
        debug_assert_eq!(self.given, self.down.total(), "frames that wait go first");
        self.down.push(body);
        self.given = self.down.total();
    }

    /// A frame for the player, to be given later.
    pub(crate) fn keep(&mut self, body: &[u8]) {
        self.down.push(body);
    }

    /// If the player has the next frame already, which a world server that was taken up again cannot know: it is done with.
    pub(crate) fn pass_over(&mut self) -> bool {
        let next = self.down.total();
        if next >= self.has {
            return false;
        }
        self.down.adopt(next + 1, []);
        self.given = next + 1;
        true
    }

    /// The player has received so many.
    pub(crate) fn acknowledged(&mut self, received: u64) {
        self.down.acknowledge(received.min(self.given));
    }

    /// How many frames the player has acknowledged, as far as it matters: the number of the oldest frame kept.
    #[must_use]
    pub(crate) const fn delivered(&self) -> u64 {
        self.down.base()
    }

    /// How many frames for the player there were since the session began.
    #[must_use]
    pub(crate) fn total_down(&self) -> u64 {
        self.down.total()
    }

    /// True if frames wait to be given to the connection.
    #[must_use]
    pub(crate) fn has_unsent(&self) -> bool {
        self.given < self.down.total()
    }

    /// The number of the next frame that the connection is given.
    #[must_use]
    pub(crate) fn next_frame(&self) -> u64 {
        self.given.max(self.has)
    }

    /// The frames that wait; they count as given to the connection from now on.
    pub(crate) fn take_unsent(&mut self) -> Vec<Bytes> {
        let frames = self.down.from(self.given);
        self.given = self.down.total();
        frames
    }

    /// The player is back on a new connection, having received so many. What it lacks waits again. True if some of that is
    /// gone.
    pub(crate) fn resume(&mut self, received: u64) -> bool {
        let gap = received < self.down.base();
        self.down.acknowledge(received);
        self.given = self.down.base();
        self.has = received.min(MAX_COUNT);
        gap
    }

    // From the player.

    /// A frame of the player's.
    pub(crate) fn take(&mut self, body: &[u8], goes_on: bool) -> Taken {
        if self.unconfirmed() >= 2 * self.limits.queued_frames as u64 || self.up.bytes() >= 2 * self.limits.queued_bytes
        {
            return Taken::TooMany;
        }
        self.up.push(body);
        if goes_on {
            debug_assert_eq!(self.forwarded + 1, self.up.total(), "frames that wait go first");
            self.forwarded = self.up.total();
        }
        if self.is_full() { Taken::Full } else { Taken::Yes }
    }

    fn is_full(&self) -> bool {
        self.unconfirmed() >= self.limits.queued_frames as u64 || self.up.bytes() >= self.limits.queued_bytes
    }

    /// The home has received so many. True if there is ample room again.
    pub(crate) fn confirmed(&mut self, received: u64) -> bool {
        self.up.acknowledge(received.min(self.forwarded));
        self.has_room()
    }

    /// True if a sender that was told to stop may go on.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        self.unconfirmed() <= self.limits.queued_frames as u64 / 2 && self.up.bytes() <= self.limits.queued_bytes / 2
    }

    /// The player's frames that wait, in order; they count as sent to the home from now on.
    pub(crate) fn take_queued(&mut self) -> Vec<Bytes> {
        let frames = self.up.from(self.forwarded);
        self.forwarded = self.up.total();
        frames
    }

    /// How many of the player's frames are here, and not confirmed by a home: a player who resumes sends them again.
    #[must_use]
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.up.total() - self.up.base()
    }

    /// How many of the player's frames homes have confirmed.
    #[must_use]
    pub(crate) const fn received(&self) -> u64 {
        self.up.base()
    }

    /// What was on its way to the home has arrived there (it is the home's word that says so), or is gone with it.
    pub(crate) fn settle_up(&mut self) {
        self.up.acknowledge(self.forwarded);
    }

    // Homes.

    /// For a new home, after [`Self::settle_up`].
    #[must_use]
    pub(crate) fn channel(&self) -> Channel {
        Channel {
            up: self.up.base(),
            down: self.down.base(),
            frames: self.down.from(self.down.base()),
            ..Channel::default()
        }
    }

    /// The home was taken up again after a broken link: it has received so many of the player's frames, and its next one has
    /// the number `channel.down`. What it lacks waits again. True if frames for the player are gone.
    pub(crate) fn rejoin(&mut self, channel: &Channel) -> bool {
        // Another gateway may have had the player meanwhile.
        let beyond = channel.up > self.up.total();
        if beyond {
            self.up.adopt(channel.up.min(MAX_COUNT), []);
        }
        let up = channel.up.min(self.up.total());
        self.up.acknowledge(up);
        self.forwarded = up.max(self.up.base());
        let gap = beyond || channel.down != self.down.total();
        if gap {
            self.down.adopt(channel.down, []);
            self.given = self.down.base();
        }
        gap
    }

    /// Nothing is known here of the frames so far: the counts are these, and nothing waits.
    pub(crate) fn adopt(&mut self, up: u64, down: u64) {
        self.down.adopt(down, []);
        self.given = self.down.base();
        self.has = 0;
        self.up.adopt(up.min(MAX_COUNT), []);
        self.forwarded = self.up.base();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { queued_frames: 3, queued_bytes: 100, window_frames: 4, window_bytes: 100 };

    fn sent(frames: std::ops::Range<u8>) -> Window {
        let mut window = Window::new(LIMITS);
        for n in frames {
            window.sent(&[n]);
        }
        window
    }

    fn firsts(frames: &[Bytes]) -> Vec<u8> {
        frames.iter().map(|b| b[0]).collect()
    }

    #[test]
    fn a_resume_sends_what_the_player_lacks() {
        for (acknowledged, received, expect, gap) in
            [(0, 0, vec![0, 1, 2], false), (1, 2, vec![2], false), (0, 3, vec![], false), (2, 1, vec![2], true)]
        {
            let mut window = sent(0..3);
            window.acknowledged(acknowledged);
            assert_eq!(window.resume(received), gap, "{acknowledged} {received}");
            assert_eq!(firsts(&window.take_unsent()), expect);
        }
    }

    #[test]
    fn after_a_gap_the_numbers_are_still_those_of_the_world_server() {
        let mut window = sent(0..6);
        assert!(window.resume(1), "frame 1 fell out");
        assert_eq!(window.next_frame(), 2);
        assert_eq!(window.take_unsent().len(), 4);
        window.acknowledged(6);
        assert!(!window.resume(6));
        assert!(window.take_unsent().is_empty());
    }

    #[test]
    fn frames_that_the_player_has_and_the_world_server_sends_again_are_passed_over() {
        let mut window = Window::new(LIMITS);
        window.adopt(0, 3);
        assert!(!window.resume(5));
        assert_eq!(window.next_frame(), 5);
        assert!(window.pass_over() && window.pass_over() && !window.pass_over());
        assert!(!window.has_unsent());
        window.sent(&[5]);
        assert_eq!((window.next_frame(), window.delivered()), (6, 5));
    }

    #[test]
    fn an_ack_of_frames_never_sent_forgets_only_what_was() {
        let mut window = sent(0..2);
        window.keep(&[9]);
        window.acknowledged(100);
        assert_eq!(firsts(&window.take_unsent()), [9]);
    }

    #[test]
    fn a_client_that_claims_absurd_counts_overflows_nothing() {
        let mut resumed = sent(0..2);
        assert!(!resumed.resume(u64::MAX));
        assert!(resumed.pass_over(), "it said that it has everything");
        let mut adopted = Window::new(LIMITS);
        adopted.adopt(u64::MAX, u64::MAX);
        for window in [&mut resumed, &mut adopted] {
            window.keep(&[9]);
            assert_eq!(firsts(&window.take_unsent()), [9]);
            assert_eq!(window.take(&[1], true), Taken::Yes);
            window.acknowledged(u64::MAX);
            assert!(!window.has_unsent());
        }
    }

    #[test]
    fn the_sender_is_told_to_stop_until_the_home_has_confirmed() {
        let mut window = Window::new(LIMITS);
        let said: Vec<_> = (0..7).map(|n| window.take(&[n], n < 2)).collect();
        assert_eq!(&said[..3], [Taken::Yes, Taken::Yes, Taken::Full]);
        assert_eq!(said[6], Taken::TooMany);
        assert_eq!(firsts(&window.take_queued()), [2, 3, 4, 5]);
        assert!(!window.confirmed(3));
        assert!(window.confirmed(6));
        assert_eq!(window.received(), 6);
        assert!(window.take_queued().is_empty());
    }

    #[test]
    fn what_a_home_did_not_receive_goes_to_it_again() {
        let mut window = Window::new(LIMITS);
        for n in 0..4 {
            window.take(&[n], true);
        }
        window.confirmed(1);
        assert!(!window.rejoin(&Channel { up: 2, down: 0, ..Channel::default() }));
        assert_eq!(firsts(&window.take_queued()), [2, 3]);
        assert_eq!(window.received(), 2);
        window.sent(&[7]);
        assert!(!window.rejoin(&Channel { up: 4, down: 1, ..Channel::default() }));
        assert!(window.take_queued().is_empty());
        assert!(window.rejoin(&Channel { up: 4, down: 5, ..Channel::default() }), "frames 1 to 4 are gone");
        assert_eq!(window.next_frame(), 5);
    }
}
