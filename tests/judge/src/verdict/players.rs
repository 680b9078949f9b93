//! Rules 2, 5 and 10 by what the players say.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_events::Record;

use super::Evidence;
use super::tally::Check;

/// The causes that a move may have.
const CAUSES: [&str; 8] = ["login", "zone", "instance", "respawn", "drain", "operator", "crash", "resume"];

/// Members of a party who go through one door are told of it within this time of each other.
const TOGETHER_US: u64 = 2_000_000;

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    let mut checks = vec![causes(evidence), together(evidence), bystanders(evidence)];
    let Some(report) = evidence.of("report").next_back() else { return checks };
    let moves = report.number("moves").unwrap_or(0);
    let sessions = report.number("sessions").unwrap_or(0);
    let frames = report.number("frames_sent").unwrap_or(0);
    for (rule, name, key, of) in [
        (1, "answers from a home that had been left", "double_homed", sessions + moves),
        (1, "answers from a home never announced", "unannounced_home", sessions + moves),
        (2, "moves that the players cannot explain", "moved_without_cause", moves),
        (5, "sessions lost", "lost", sessions),
        (5, "reliable frames lost", "frames_lost", frames),
        (5, "reliable frames twice", "frames_duplicated", frames),
        (5, "reliable frames out of order", "frames_reordered", frames),
        (5, "gold vanished", "gold_vanished", sessions),
    ] {
        let mut check = Check::new(rule, name);
        check.of = of;
        check.add(report.number(key).unwrap_or(0), || "see the events player_broken and player_closed".to_owned());
        checks.push(check);
    }
    checks
}

/// Rule 2: every move has a cause.
fn causes(evidence: &Evidence) -> Check {
    let mut check = Check::new(2, "moves without a cause");
    for moved in evidence.of("player_moved") {
        let cause = moved.text("cause");
        let broken = !CAUSES.contains(&cause);
        check.look(broken.then(|| format!("{} at {} µs: \"{cause}\"", moved.text("player"), moved.at_us)));
    }
    check
}

/// Rule 10: members of one party who go through one door come out in one environment.
fn together(evidence: &Evidence) -> Check {
    let mut check = Check::new(10, "parties split at a door");
    let mut doors: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for moved in evidence.of("player_moved") {
        if moved.text("cause") == "instance" && !moved.text("party").is_empty() && !moved.text("door").is_empty() {
            doors.entry(moved.text("door")).or_default().push(moved);
        }
    }
    for (door, moves) in doors {
        let near = |moved: &&&Record| moved.at_us - moves[0].at_us <= TOGETHER_US;
        let environments: BTreeSet<&str> = moves.iter().filter(near).map(|moved| moved.text("environment")).collect();
        let broken = environments.len() > 1;
        check.look(broken.then(|| format!("{} through {door} into {environments:?}", moves[0].text("party"))));
    }
    check
}

/// Rule 5: a session is ended by its player, by an operator, or by being replaced; not by us.
fn bystanders(evidence: &Evidence) -> Check {
    let mut check = Check::new(5, "sessions ended by nobody's wish");
    for closed in evidence.of("player_closed") {
        let why = closed.text("why");
        let wished = closed.flag("by_own_wish") || matches!(why, "logout" | "kicked" | "operator" | "replaced");
        check.look((!wished).then(|| format!("{} at {} µs: {why}", closed.text("player"), closed.at_us)));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::*;

    fn broken(lines: &[&str]) -> Vec<&'static str> {
        let checks = checks(&evidence(lines));
        checks.iter().filter(|check| check.violations > 0).map(|check| check.name).collect()
    }

    #[test]
    fn a_life_without_complaints_is_well() {
        let lines = [
            "5 players player_moved player=ann cause=zone environment=blue",
            "6 players player_closed player=ann why=logout by_own_wish=true",
            "9 campaign report sessions=1 moves=1 frames_sent=10 lost=0 frames_lost=0",
        ];
        assert_eq!(broken(&lines), Vec::<&str>::new());
    }

    #[test]
    fn each_complaint_is_found() {
        assert_eq!(broken(&["5 p player_moved player=ann cause=whim"]), ["moves without a cause"]);
        assert_eq!(broken(&["6 p player_closed player=ann why=gone"]), ["sessions ended by nobody's wish"]);
        for (key, name) in [
            ("lost", "sessions lost"),
            ("frames_lost", "reliable frames lost"),
            ("frames_duplicated", "reliable frames twice"),
            ("frames_reordered", "reliable frames out of order"),
            ("double_homed", "answers from a home that had been left"),
            ("unannounced_home", "answers from a home never announced"),
            ("moved_without_cause", "moves that the players cannot explain"),
            ("gold_vanished", "gold vanished"),
        ] {
            assert_eq!(broken(&[&format!("9 campaign report sessions=3 {key}=1")]), [name]);
        }
    }

    #[test]
    fn a_party_that_is_split_at_a_door_is_found() {
        let lines = [
            "5 p player_moved player=ann party=x door=x-1 cause=instance environment=blue",
            "6 p player_moved player=bob party=x door=x-1 cause=instance environment=green",
        ];
        assert_eq!(broken(&lines), ["parties split at a door"]);
    }
}
