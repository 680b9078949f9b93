//! Who may begin a handshake, and how often: by the address's prefix, and all together.
//!
//! ```text
//!   first packet --strangers' rates--> handshake
//!        \-- over, or many handshakes open --> Retry --address proven--> its own prefix's rate, everybody's rate --> handshake
//!                                                                             \-- over --> refused     \-- over --> no answer
//! ```
//!
//! What an address that may be forged does is counted apart: it can make its prefix prove itself, and nothing worse.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed, keyed::HashMapStateStore};
use governor::{Quota, RateLimiter};
use ipnet::IpNet;

use crate::Limits;

/// How often prefixes that have long been silent are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often when there are as many as are kept: the walk takes about a millisecond.
const SWEEP_WHEN_FULL_EVERY: Duration = Duration::from_secs(1);

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admit,
    /// Its address must be proven first (Retry).
    Prove,
    /// Its prefix is over its rate: it is told so.
    Refuse,
    /// Everybody together is over the rate: without an answer QUIC asks again in a second.
    Ignore,
}

type Together<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
type ByPrefix<C> = RateLimiter<IpNet, HashMapStateStore<IpNet>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The rates and who has used them.
pub(super) struct Admission<C: Clock = DefaultClock> {
    strangers: Together<C>,
    proven: Together<C>,
    prefixes: Prefixes<C>,
    stranger_prefixes: Prefixes<C>,
    exempt: Vec<IpNet>,
    v4_bits: u8,
    v6_bits: u8,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Self::with_clock(limits, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> Admission<C> {
    fn with_clock(limits: &Limits, clock: &C) -> Self {
        let by_prefix = quota(limits.prefix_logins_per_s, limits.prefix_logins_burst);
        let prefixes = || Prefixes {
            limiter: RateLimiter::hashmap_with_clock(by_prefix, clock.clone()),
            most: limits.tracked_prefixes as usize,
            swept: None,
        };
        let together = |per_s, burst| RateLimiter::direct_with_clock(quota(per_s, burst), clock.clone());
        Self {
            strangers: together(limits.unproven_logins_per_s, limits.unproven_logins_per_s),
            proven: together(limits.logins_per_s, limits.logins_burst),
            prefixes: prefixes(),
            stranger_prefixes: prefixes(),
            exempt: limits.exempt_prefixes.clone(),
            v4_bits: limits.ipv4_prefix_bits,
            v6_bits: limits.ipv6_prefix_bits,
        }
    }

    /// Judges one attempt. `proven`: its address answered a Retry; `pressed`: addresses must.
    pub(super) fn judge(&mut self, address: IpAddr, proven: bool, pressed: bool, now: Instant) -> Verdict {
        // On a socket for both families IPv4 comes mapped into IPv6.
        let address = address.to_canonical();
        let exempt = self.exempt.iter().any(|prefix| prefix.contains(&address));
        let prefix = prefix_of(address, self.v4_bits, self.v6_bits);
        if proven {
            // The prefix first, so that what it is refused is not taken from everybody.
            if !exempt && !self.prefixes.take(prefix, now).unwrap_or(true) {
                Verdict::Refuse
            } else if self.proven.check().is_err() {
                Verdict::Ignore
            } else {
                Verdict::Admit
            }
        } else if pressed
            || !(exempt || self.stranger_prefixes.take(prefix, now).unwrap_or(false))
            || self.strangers.check().is_err()
        {
            Verdict::Prove
        } else {
            Verdict::Admit
        }
    }

    /// Prefixes that are remembered now.
    pub(super) fn tracked(&self) -> usize {
        self.prefixes.limiter.len() + self.stranger_prefixes.limiter.len()
    }
}

/// One rate for each prefix, for a bounded number of them.
struct Prefixes<C: Clock> {
    limiter: ByPrefix<C>,
    most: usize,
    swept: Option<Instant>,
}

impl<C: Clock> Prefixes<C> {
    /// Whether the prefix is within its rate; `None` when no more can be remembered.
    fn take(&mut self, prefix: IpNet, now: Instant) -> Option<bool> {
        let full = self.limiter.len() >= self.most;
        let since = now - *self.swept.get_or_insert(now);
        if since >= if full { SWEEP_WHEN_FULL_EVERY } else { SWEEP_EVERY } {
            self.swept = Some(now);
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        (self.limiter.len() < self.most).then(|| self.limiter.check_key(&prefix).is_ok())
    }
}

fn prefix_of(address: IpAddr, v4_bits: u8, v6_bits: u8) -> IpNet {
    let bits = if address.is_ipv4() { v4_bits } else { v6_bits };
    IpNet::new(address, bits).unwrap_or_else(|_| IpNet::from(address)).trunc()
}

fn quota(per_s: u32, burst: u32) -> Quota {
    let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_s)).allow_burst(at_least_one(burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    struct Door {
        admission: Admission<FakeRelativeClock>,
        clock: FakeRelativeClock,
        now: Instant,
    }

    impl Door {
        fn new() -> Self {
            let clock = FakeRelativeClock::default();
            let limits = Limits {
                logins_per_s: 100,
                logins_burst: 300,
                unproven_logins_per_s: 50,
                prefix_logins_per_s: 1,
                prefix_logins_burst: 3,
                tracked_prefixes: 1_000,
                exempt_prefixes: vec!["10.0.0.0/8".parse().unwrap()],
                ..Limits::default()
            };
            Self { admission: Admission::with_clock(&limits, &clock), clock, now: Instant::now() }
        }

        fn judge(&mut self, address: &str, proven: bool) -> Verdict {
            self.admission.judge(address.parse().unwrap(), proven, false, self.now)
        }

        fn passes(&mut self, by: Duration) {
            self.clock.advance(by);
            self.now += by;
        }
    }

    #[test]
    fn a_prefix_over_its_rate_must_prove_itself_and_is_then_refused() {
        let mut door = Door::new();
        for _ in 0..3 {
            assert_eq!(door.judge("192.0.2.1", false), Verdict::Admit);
        }
        assert_eq!(door.judge("192.0.2.1", false), Verdict::Prove);
        for _ in 0..3 {
            assert_eq!(door.judge("192.0.2.1", true), Verdict::Admit, "what a stranger did is not held against it");
        }
        assert_eq!(door.judge("192.0.2.1", true), Verdict::Refuse);
        assert_eq!(door.judge("::ffff:192.0.2.1", true), Verdict::Refuse, "the same address");
        assert_eq!(door.judge("192.0.2.2", true), Verdict::Admit, "a neighbour");
        door.passes(Duration::from_secs(1));
        assert_eq!(door.judge("192.0.2.1", true), Verdict::Admit);
    }

    #[test]
    fn an_ipv6_site_counts_as_one() {
        let mut door = Door::new();
        for host in ["2001:db8:0:100::1", "2001:db8:0:1ff::2", "2001:db8:0:100::3"] {
            assert_eq!(door.judge(host, true), Verdict::Admit);
        }
        assert_eq!(door.judge("2001:db8:0:142::4", true), Verdict::Refuse);
        assert_eq!(door.judge("2001:db8:0:200::1", true), Verdict::Admit, "the next /56");
    }

    #[test]
    fn everybody_together_is_slowed_down_whoever_they_are() {
        let mut door = Door::new();
        let admitted = (0..500).filter(|_| door.judge("10.1.2.3", true) == Verdict::Admit).count();
        assert_eq!(admitted, 300, "exempt from its prefix's rate alone");
        assert_eq!(door.judge("192.0.2.1", true), Verdict::Ignore);
        let strangers = (0..500).filter(|_| door.judge("10.1.2.3", false) == Verdict::Admit).count();
        assert_eq!(strangers, 50);
        door.passes(Duration::from_secs(1));
        assert_eq!(door.judge("192.0.2.1", true), Verdict::Admit);
    }

    #[test]
    fn forged_addresses_neither_fill_the_memory_nor_shut_anybody_out() {
        let mut door = Door::new();
        for n in 0..5_000u32 {
            let address = IpAddr::from(n.to_be_bytes());
            door.admission.judge(address, false, false, door.now);
            if n % 50 == 0 {
                door.passes(Duration::from_millis(10));
            }
            assert!(door.admission.tracked() <= 2_000);
        }
        assert_eq!(door.judge("192.0.2.1", true), Verdict::Admit);
        door.passes(SWEEP_EVERY);
        door.judge("192.0.2.1", false);
        assert!(door.admission.tracked() < 10, "the silent are forgotten");
    }
}
