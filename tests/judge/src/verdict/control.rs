//! Rules 8 and 9, and what no run may have: errors in the logs, money made or lost.

use super::Evidence;
use super::tally::Check;
use crate::schedule::Kind;

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    vec![off_the_path(evidence), occupied(evidence), gold(evidence), errors(evidence)]
}

/// One fault's time.
pub(super) struct Window<'a> {
    pub(super) kind: &'a str,
    pub(super) from_us: u64,
    pub(super) to_us: u64,
    pub(super) target: &'a str,
}

/// All faults, by their beginning.
pub(super) fn windows(evidence: &Evidence) -> Vec<Window<'_>> {
    let ends: std::collections::BTreeMap<u64, u64> =
        evidence.of("fault_end").filter_map(|end| Some((end.number("n")?, end.at_us))).collect();
    evidence
        .of("fault_begin")
        .filter_map(|begin| {
            let to_us = *ends.get(&begin.number("n")?)?;
            Some(Window { kind: begin.text("kind"), from_us: begin.at_us, to_us, target: begin.text("target") })
        })
        .collect()
}

/// Rule 8: while only the manager or the directory is in trouble, nobody is disconnected.
fn off_the_path(evidence: &Evidence) -> Check {
    let mut check = Check::new(8, "players disconnected by the control plane");
    let windows = windows(evidence);
    let off_path = |window: &Window<'_>| {
        Kind::ALL.into_iter().any(|kind| kind.word() == window.kind && kind.is_off_the_player_path())
    };
    // A connection may be found dead some time after it was cut by another fault.
    const LATE_US: u64 = 15_000_000;
    for window in windows.iter().filter(|window| off_path(window)) {
        let alone = windows
            .iter()
            .all(|other| off_path(other) || other.from_us > window.to_us || other.to_us + LATE_US < window.from_us);
        if !alone {
            continue;
        }
        let lost: Vec<&str> = evidence
            .of("player_lost")
            .filter(|lost| (window.from_us..=window.to_us).contains(&lost.at_us))
            .map(|lost| lost.text("player"))
            .collect();
        check.look((!lost.is_empty()).then(|| format!("{} at {} µs: {lost:?}", window.kind, window.from_us)));
    }
    check
}

/// Rule 9: nobody is live on an environment that was given up.
fn occupied(evidence: &Evidence) -> Check {
    let mut check = Check::new(9, "players live on a retired environment");
    for retired in evidence.of("phase").filter(|phase| phase.text("phase") == "RETIRED") {
        // Servers are named after their environment.
        let prefix = format!("{}-", retired.text("environment"));
        let live =
            evidence.homes.intervals.iter().find(|home| {
                home.server.starts_with(&prefix) && home.to_us > retired.at_us && home.to_us > home.from_us
            });
        check.look(live.map(|home| format!("{} on {} until {} µs", home.player, home.server, home.to_us)));
    }
    check
}

/// The world holds what it held.
fn gold(evidence: &Evidence) -> Check {
    let mut check = Check::new(5, "gold made or destroyed");
    for gold in evidence.of("gold") {
        let (before, after) = (gold.number("before").unwrap_or(0), gold.number("after").unwrap_or(0));
        check.of += before;
        check.add(before.abs_diff(after), || format!("{before} before, {after} after"));
    }
    check
}

/// An ERROR line is a broken invariant.
fn errors(evidence: &Evidence) -> Check {
    let mut check = Check::new(0, "error lines and panics in logs");
    check.of = evidence.of("log_read").filter_map(|log| log.number("lines")).sum();
    for line in evidence.of("error_line") {
        check.add(1, || format!("{}: {}", line.text("log"), line.text("line")));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::super::homes::Interval;
    use super::*;

    fn violations(evidence: &Evidence) -> [u64; 4] {
        let checks = checks(evidence);
        std::array::from_fn(|n| checks[n].violations)
    }

    #[test]
    fn a_disconnection_in_a_fault_of_redis_alone_is_found() {
        let fault = ["100 c fault_begin n=1 kind=redis-kill", "200 c fault_end n=1"];
        assert_eq!(violations(&evidence(&fault)), [0; 4]);
        let lost = ["150 p player_lost player=ann"];
        assert_eq!(violations(&evidence(&[&fault[..], &lost[..]].concat())), [1, 0, 0, 0]);
        let other = ["120 c fault_begin n=2 kind=gateway-kill", "130 c fault_end n=2"];
        assert_eq!(violations(&evidence(&[&fault[..], &lost[..], &other[..]].concat())), [0; 4]);
    }

    #[test]
    fn a_player_on_a_retired_environment_is_found() {
        let mut evidence = evidence(&["500 c phase environment=eu-1-a phase=RETIRED"]);
        let home = Interval {
            player: "ann".into(),
            character: "ann".into(),
            server: "eu-1-a-open-1".into(),
            instance: "i".into(),
            epoch: 1,
            from_us: 100,
            to_us: 400,
        };
        evidence.homes.intervals.push(home.clone());
        assert_eq!(violations(&evidence), [0; 4]);
        evidence.homes.intervals.push(Interval { to_us: 600, ..home });
        assert_eq!(violations(&evidence), [0, 1, 0, 0]);
    }

    #[test]
    fn gold_and_error_lines_are_counted() {
        let told = ["1 c gold before=100 after=98", "2 c log_read lines=7", "2 c error_line log=gw-1 line=x"];
        assert_eq!(violations(&evidence(&told)), [0, 0, 2, 1]);
    }
}
