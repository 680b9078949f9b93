//! Rules 3 and 4: where new sessions land, and who accepts them.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_events::Record;

use super::Evidence;
use super::tally::Check;

/// The methods that change where new sessions land.
const CHANGES: [&str; 5] = ["flip", "rollback", "freeze", "unfreeze", "rollout"];

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    vec![landings(evidence), accepting(evidence), generations(evidence)]
}

/// Rule 3: a session that is asked for after a confirmed flip, and is in before anything else changes the routing, lands
/// where the flip said.
fn landings(evidence: &Evidence) -> Check {
    let mut check = Check::new(3, "new sessions on the old environment after a confirmed flip");
    let changes = changes(evidence);
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for welcome in evidence.of("player_welcome").filter(|welcome| !welcome.flag("resumed")) {
        // Who comes back to a session that goes on is where that is.
        if !known.insert(welcome.text("session")) {
            continue;
        }
        let asked_at = welcome.at_us.saturating_sub(welcome.number("took_us").unwrap_or(0));
        let Some(last) = changes.iter().rev().find(|change| change.began_us <= welcome.at_us) else { continue };
        let Some((confirmed_us, to)) = last.confirmed else { continue };
        if confirmed_us <= asked_at {
            let broken = welcome.text("environment") != to;
            check.look(broken.then(|| {
                let (player, at) = (welcome.text("player"), welcome.text("environment"));
                format!(
                    "{player} landed on {at} at {} µs, after {to} was confirmed at {confirmed_us} µs",
                    welcome.at_us
                )
            }));
        }
    }
    check
}

/// One thing that may change where new sessions land.
struct Change<'a> {
    began_us: u64,
    confirmed: Option<(u64, &'a str)>,
}

/// All of them by their beginning. A rollout flips when it likes: it counts from every new table that was seen.
fn changes(evidence: &Evidence) -> Vec<Change<'_>> {
    let mut answers: BTreeMap<&str, &Record> = BTreeMap::new();
    for answer in evidence.of("answered") {
        answers.entry(answer.text("request_id")).or_insert(answer);
    }
    let mut changes = Vec::new();
    for asked in evidence.of("asked").filter(|asked| CHANGES.contains(&asked.text("method"))) {
        let answer = answers.get(asked.text("request_id"));
        let confirmed = answer
            .filter(|answer| answer.flag("ok") && answer.flag("confirmed") && !answer.text("environment").is_empty())
            .map(|answer| (answer.at_us, answer.text("environment")));
        changes.push(Change { began_us: asked.at_us, confirmed });
    }
    let mut last = None;
    let mut seen_before = 0;
    for table in evidence.of("accepting") {
        let now = table.number("generation");
        if last.is_some() && last != now {
            // It changed at some time since the last look.
            changes.push(Change { began_us: seen_before, confirmed: None });
            changes.push(Change { began_us: table.at_us, confirmed: None });
        }
        (last, seen_before) = (now, table.at_us);
    }
    // A flip's own change of the table is no other change: it stands at its answer again.
    let own: Vec<(u64, &str)> = changes.iter().filter_map(|change| change.confirmed).collect();
    for (confirmed_us, to) in own {
        changes.push(Change { began_us: confirmed_us, confirmed: Some((confirmed_us, to)) });
    }
    changes.sort_by_key(|change| change.began_us);
    changes
}

/// Rule 4: each generation of a realm has one accepting environment, whoever is asked.
fn accepting(evidence: &Evidence) -> Check {
    let mut check = Check::new(4, "generations with two accepting environments");
    let mut by_generation: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    for table in evidence.of("accepting") {
        let Some(generation) = table.number("generation") else { continue };
        let environment = table.text("environment");
        let before = *by_generation.entry((table.text("realm"), generation)).or_insert(environment);
        let broken = before != environment;
        check.look(broken.then(|| format!("generation {generation}: {before} and {environment}")));
    }
    check
}

/// Rule 4: generations only rise.
fn generations(evidence: &Evidence) -> Check {
    let mut check = Check::new(4, "generations that went back");
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for table in evidence.of("accepting") {
        let Some(generation) = table.number("generation") else { continue };
        let before = last.insert(table.text("realm"), generation).unwrap_or(0);
        check.look((generation < before).then(|| format!("{generation} after {before}")));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::*;

    fn check(lines: &[&str], expected: [(u64, u64); 3]) {
        let found: Vec<(u64, u64)> = checks(&evidence(lines)).iter().map(|c| (c.violations, c.of)).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    const FLIP: [&str; 2] = [
        "100 campaign asked request_id=r1 method=flip",
        "200 campaign answered request_id=r1 method=flip ok=true confirmed=true environment=green generation=2",
    ];

    fn with_flip(more: &[&'static str]) -> Vec<&'static str> {
        FLIP.into_iter().chain(more.iter().copied()).collect()
    }

    #[test]
    fn sessions_after_a_confirmed_flip_are_judged_and_others_not() {
        check(&with_flip(&["300 p player_welcome session=s1 environment=green took_us=50"]), [(0, 1), (0, 0), (0, 0)]);
        check(&with_flip(&["300 p player_welcome session=s1 environment=blue took_us=50"]), [(1, 1), (0, 0), (0, 0)]);
        // Asked for before it was confirmed.
        check(&with_flip(&["300 p player_welcome session=s1 environment=blue took_us=150"]), [(0, 0), (0, 0), (0, 0)]);
        // Resumed, or known.
        check(
            &with_flip(&["300 p player_welcome session=s1 environment=blue took_us=50 resumed=true"]),
            [(0, 0), (0, 0), (0, 0)],
        );
    }

    #[test]
    fn another_change_meanwhile_excuses() {
        let lines = with_flip(&[
            "250 campaign asked request_id=r2 method=rollback",
            "300 p player_welcome session=s1 environment=blue took_us=50",
        ]);
        check(&lines, [(0, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn a_generation_says_one_thing_and_does_not_go_back() {
        let table = |at, generation, environment| {
            format!("{at} c accepting realm=eu-1 generation={generation} environment={environment}")
        };
        let told = [table(1, 1, "blue"), table(2, 2, "green"), table(3, 2, "blue"), table(4, 1, "blue")];
        let lines: Vec<&str> = told.iter().map(String::as_str).collect();
        check(&lines, [(0, 0), (1, 4), (1, 4)]);
    }
}
