//! Two kinds of time. [`Timestamp`] is for records and people; [`Mono`] is for leases and timers, and never jumps.
//!
//! Pure code takes a [`Now`] as an argument; only shells ask a [`Clock`].

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Wall-clock time: milliseconds since the Unix epoch. May jump; use it for records, deadlines that people set, and display.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Monotonic time: microseconds since an arbitrary start, counting through suspend (CLOCK_BOOTTIME on Linux).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Both clocks, read at one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For leases and timers.
    pub mono: Mono,
    /// For records.
    pub wall: Timestamp,
}

impl Timestamp {
    /// The time `self` minus `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Mono {
    /// The time `self` minus `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Now {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self { mono: self.mono + d, wall: self.wall + d }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Where a shell gets its time from.
pub trait Clock: Send + Sync + 'static {
    /// Both clocks, now.
    fn now(&self) -> Now;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { mono: boottime(), wall: wall() }
    }
}

fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// std's `Instant` is CLOCK_MONOTONIC on Linux, which stops while the machine is suspended; a lease must not.
/// `/proc/uptime` would do without FFI but costs a system call on a file; the C library's call is a vDSO read.
#[cfg(target_os = "linux")]
fn boottime() -> Mono {
    #[repr(C)]
    struct TimeSpec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32;
    }
    const CLOCK_BOOTTIME: i32 = 7;
    let mut time = TimeSpec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is a valid timespec (two 64-bit fields on every 64-bit Linux) that outlives the call.
    let outcome = unsafe { clock_gettime(CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(outcome, 0, "CLOCK_BOOTTIME exists on every Linux since 2.6.39");
    Mono(time.seconds as u64 * 1_000_000 + time.nanoseconds as u64 / 1_000)
}

/// Elsewhere the standard monotonic clock has to do: leases are then only safe on machines that never suspend.
#[cfg(not(target_os = "linux"))]
fn boottime() -> Mono {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Mono(u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_does_not_go_back() {
        let a = SystemClock.now();
        let b = SystemClock.now();
        assert!(b.mono >= a.mono && a.mono > Mono(0));
        assert_eq!(a.mono.since(b.mono + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn timestamps_add_and_subtract_whole_milliseconds() {
        let t = Timestamp(1_000) + Duration::from_millis(500);
        assert_eq!(t, Timestamp(1_500));
        assert_eq!(t.since(Timestamp(1_000)), Duration::from_millis(500));
        assert_eq!(Timestamp(1_000).since(t), Duration::ZERO);
        assert_eq!(t - Duration::from_millis(500), Timestamp(1_000));
    }
}
