//! Clocks: leases are counted on the one that sleep does not stop; tickets and certificates go by the wall clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};

use super::finding::Finding;

/// How far apart two clocks may be: what a gateway forgives a login service by default.
const APART: Duration = Duration::from_secs(2);

/// Where systemd-timesyncd says that it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Programs that set the clock, as `/proc/<pid>/comm` cuts their names off.
const TIME_SERVICES: [&str; 6] = ["chronyd", "ntpd", "ntp-daemon", "ptp4l", "phc2sys", "systemd-timesyn"];

pub(super) fn look() -> Vec<Finding> {
    vec![boot_time(), synchronised(Path::new(SYNCHRONISED).exists(), service(Path::new("/proc")).as_deref())]
}

fn boot_time() -> Finding {
    const NAME: &str = "lease clock";
    let fix = "use a newer kernel: without it a machine that slept would still count its leases as good";
    match clock_gettime_dynamic(DynamicClockId::Boottime) {
        // It counts what the other one counts, and sleep.
        Ok(boot) if boot.tv_sec >= clock_gettime(ClockId::Monotonic).tv_sec.saturating_sub(1) => {
            Finding::ok(NAME, "CLOCK_BOOTTIME runs")
        }
        Ok(boot) => {
            let what = format!("CLOCK_BOOTTIME is {} s, behind CLOCK_MONOTONIC", boot.tv_sec);
            Finding::fail(NAME, what, fix)
        }
        Err(error) => Finding::fail(NAME, format!("CLOCK_BOOTTIME cannot be read: {error}"), fix),
    }
}

/// Who keeps the clock right, as far as that can be seen without asking the network.
fn synchronised(set: bool, service: Option<&str>) -> Finding {
    const NAME: &str = "time service";
    match service {
        Some("systemd-timesyn") if !set => Finding::warn(
            NAME,
            "systemd-timesyncd runs and has not set the clock yet",
            "let it reach a time server: login tickets and certificates are refused when clocks differ",
        ),
        Some("systemd-timesyn") => Finding::ok(NAME, "systemd-timesyncd has set the clock"),
        Some(name) => Finding::ok(NAME, format!("{name} runs")),
        None if set => Finding::ok(NAME, "the clock was set from a time server since the start"),
        None => Finding::ok(NAME, "cannot tell: none is seen here (a container's clock is its host's)"),
    }
}

/// The first time service among the running processes.
fn service(proc: &Path) -> Option<String> {
    let folders = std::fs::read_dir(proc).ok()?;
    folders.filter_map(|folder| std::fs::read_to_string(folder.ok()?.path().join("comm")).ok()).find_map(|name| {
        let name = name.trim();
        TIME_SERVICES.contains(&name).then(|| name.to_owned())
    })
}

/// This machine's clock and the manager's, which the answer's `date` shows to the second.
pub(super) fn against_manager(date: &str, asked: SystemTime, answered: SystemTime) -> Option<Finding> {
    const NAME: &str = "manager's clock";
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let apart = certainly_apart(SystemTime::from(date), asked, answered);
    if apart <= APART {
        return Some(Finding::ok(NAME, "agrees with this machine's"));
    }
    Some(Finding::warn(
        NAME,
        format!("differs from this machine's by {} s", apart.as_secs()),
        "set both from a time server: login tickets and certificates are refused when clocks differ",
    ))
}

/// How far apart the clocks are at least, if the other one said `date`, in whole seconds, between these two moments.
fn certainly_apart(date: SystemTime, asked: SystemTime, answered: SystemTime) -> Duration {
    let ahead = date.duration_since(answered).unwrap_or_default();
    let behind = asked.duration_since(date + Duration::from_secs(1)).unwrap_or_default();
    ahead.max(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn this_machine_counts_leases() {
        assert_eq!(boot_time().level, Level::Ok);
    }

    #[test]
    fn a_time_service_is_found_among_processes() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(service(proc.path()), None);
        for (pid, name) in [("1", "init"), ("7", "chronyd"), ("9", "bash")] {
            std::fs::create_dir(proc.path().join(pid)).unwrap();
            std::fs::write(proc.path().join(pid).join("comm"), format!("{name}\n")).unwrap();
        }
        assert_eq!(service(proc.path()).as_deref(), Some("chronyd"));
    }

    #[test]
    fn only_a_service_that_has_not_set_the_clock_is_worth_a_warning() {
        assert_eq!(synchronised(false, Some("systemd-timesyn")).level, Level::Warn);
        for (set, service) in [(true, Some("systemd-timesyn")), (false, Some("chronyd")), (true, None), (false, None)] {
            assert_eq!(synchronised(set, service).level, Level::Ok, "{set} {service:?}");
        }
    }

    #[test]
    fn clocks_agree_within_what_a_second_and_the_way_hide() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let level = |asked, answered| against_manager(date, asked, answered).unwrap().level;
        let s = Duration::from_secs;
        assert_eq!(level(at, at + s(1)), Level::Ok);
        assert_eq!(level(at - s(60), at + s(60)), Level::Ok);
        assert_eq!(level(at + s(3), at + s(3)), Level::Ok);
        assert_eq!(level(at + s(4), at + s(4)), Level::Warn);
        assert_eq!(level(at - s(9), at - s(3)), Level::Warn);
        assert!(against_manager("yesterday", at, at).is_none());
    }
}
