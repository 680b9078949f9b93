//! When a world server that says nothing counts as hung, and how many may be killed for it.
//!
//! ```text
//!   quiet --half its deadline--> (how long has it waited for the CPU?) --deadline--> hung --within the share--> killed
//!     \--says something--> not quiet         \--it got no CPU: half the deadline anew, a few times
//! ```
//!
//! Silence is counted only while this manager listens: a tick adds at most its own length, and after one that came much
//! too late everybody begins anew ([`LATE`]). However many are silent at once, only a share of them is killed within
//! [`WINDOW`]: what silences many at once is hardly a fault of each.
//!
//! No I/O or clock: time and figures come in.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_types::Mono;

/// How often silence is measured. A hang is noticed at most this much after its deadline.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A tick that comes this much after the one before says that the manager itself was stopped, or that the machine has no
/// time for it: whatever world servers have sent meanwhile has not been read.
pub(crate) const LATE: Duration = Duration::from_millis(400);

/// Statuses that a server must miss to count as hung, however short the configured deadline is.
const MISSED: u32 = 3;

/// How often the deadline of a server that got no CPU is extended. A hung one on a busy machine is found all the same.
const EXTENSIONS: u32 = 3;

/// The time in which only a share of the servers is killed for silence.
const WINDOW: Duration = Duration::from_secs(5);

/// How long a server that serves may be silent: as configured, but never less than some of its statuses.
pub(crate) fn deadline(hang: Duration, status_every: Duration) -> Duration {
    hang.max(status_every * MISSED)
}

/// How long one run of a server has been silent.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    lasts: Duration,
    /// How long it had waited for the CPU in all when half its deadline was over.
    waited_at_half: Option<Duration>,
    extensions: u32,
}

impl Quiet {
    /// How long, counted while the manager listened.
    pub(crate) const fn lasts(&self) -> Duration {
        self.lasts
    }

    /// It has said something, or nobody could have heard it.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Another tick without a word. `waited` says for how long its threads have been ready to run without being run, since
    /// it was started (unknown: `None`). True: it counts as hung.
    pub(crate) fn goes_on(
        &mut self,
        passed: Duration,
        deadline: Duration,
        waited: impl FnOnce() -> Option<Duration>,
    ) -> bool {
        let half = deadline / 2;
        self.lasts += passed.min(TICK);
        let since_extension = self.lasts.saturating_sub(half * self.extensions);
        if since_extension < half {
            return false;
        }
        if since_extension < deadline {
            if self.waited_at_half.is_none() {
                self.waited_at_half = waited();
            }
            return false;
        }
        let starved = match (self.waited_at_half, waited()) {
            (Some(before), Some(now)) => now.saturating_sub(before) >= half / 2,
            _ => false,
        };
        if starved && self.extensions < EXTENSIONS {
            self.extensions += 1;
            self.waited_at_half = None;
            return false;
        }
        true
    }
}

/// Who was killed for silence of late.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    recent: VecDeque<Mono>,
}

impl Kills {
    /// Whether one more may be killed now; if so, it is counted.
    pub(crate) fn one_more(&mut self, servers: usize, share_percent: u32, now: Mono) -> bool {
        while self.recent.front().is_some_and(|at| now.since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let most = (servers * share_percent as usize / 100).max(1);
        let may = self.recent.len() < most;
        if may {
            self.recent.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(1_300);

    /// Ticks until it counts as hung, when each tick finds that it has waited `waits` more for the CPU.
    fn ticks_until_hung(waits: Option<Duration>, most: u32) -> Option<u32> {
        let mut quiet = Quiet::default();
        (1..=most).find(|n| quiet.goes_on(TICK, DEADLINE, || waits.map(|waits| waits * *n)))
    }

    #[test]
    fn a_hang_is_found_at_its_deadline_whether_or_not_the_system_says_more() {
        assert_eq!(ticks_until_hung(Some(Duration::ZERO), 100), Some(13));
        assert_eq!(ticks_until_hung(Some(TICK / 10), 100), Some(13));
        assert_eq!(ticks_until_hung(None, 100), Some(13));
    }

    #[test]
    fn one_that_gets_no_cpu_has_longer_and_not_for_ever() {
        let hung = ticks_until_hung(Some(TICK), 100).expect("it is found");
        assert!(hung > 26, "{hung}");
    }

    #[test]
    fn a_word_begins_it_anew() {
        let mut quiet = Quiet::default();
        for _ in 0..12 {
            assert!(!quiet.goes_on(TICK, DEADLINE, || None));
        }
        quiet.over();
        assert!(!quiet.goes_on(TICK, DEADLINE, || None));
        assert_eq!(quiet.lasts(), TICK);
    }

    #[test]
    fn time_in_which_nobody_listened_is_no_silence() {
        let mut quiet = Quiet::default();
        assert!(!quiet.goes_on(Duration::from_secs(60), DEADLINE, || None));
        assert_eq!(quiet.lasts(), TICK);
    }

    #[test]
    fn a_server_that_speaks_seldom_has_longer() {
        assert_eq!(deadline(DEADLINE, Duration::from_millis(300)), DEADLINE);
        assert_eq!(deadline(DEADLINE, Duration::from_secs(1)), Duration::from_secs(3));
    }

    #[test]
    fn only_a_share_is_killed_at_once() {
        let mut kills = Kills::default();
        let at = |s: u64| Mono(s * 1_000_000);
        let killed = (0..10).filter(|_| kills.one_more(10, 34, at(100))).count();
        assert_eq!(killed, 3);
        assert!(!kills.one_more(10, 34, at(104)));
        assert!(kills.one_more(10, 34, at(105)));
        let mut kills = Kills::default();
        assert!(kills.one_more(1, 1, at(0)), "one may always be");
        assert!(!kills.one_more(1, 1, at(1)));
    }
}
