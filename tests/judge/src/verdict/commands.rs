//! Rules 6 and 7: what was acknowledged holds, and what was begun ends.

use std::collections::BTreeMap;

use tidegate_events::Record;

use super::Evidence;
use super::tally::Check;

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    vec![acknowledged(evidence), same_answer(evidence), rollouts(evidence), drains(evidence)]
}

/// What was answered to each request the first time it was acknowledged.
fn acknowledged_answers(evidence: &Evidence) -> BTreeMap<&str, &Record> {
    let mut answers = BTreeMap::new();
    for answer in evidence.of("answered").filter(|answer| answer.flag("ok")) {
        answers.entry(answer.text("request_id")).or_insert(answer);
    }
    answers
}

/// Rule 6: every acknowledged command is known at the end, by its audit record or by its answer.
fn acknowledged(evidence: &Evidence) -> Check {
    let mut check = Check::new(6, "acknowledged commands lost");
    let known: BTreeMap<&str, &Record> = evidence.of("looked_up").map(|r| (r.text("request_id"), r)).collect();
    for (request, answer) in acknowledged_answers(evidence) {
        // A run that was cut short looked nothing up: then nothing is judged.
        if let Some(looked_up) = known.get(request) {
            let broken = !looked_up.flag("known");
            check.look(broken.then(|| format!("{} {request} of {} µs", answer.text("method"), answer.at_us)));
        }
    }
    check
}

/// Rule 6: the same request has the same answer.
fn same_answer(evidence: &Evidence) -> Check {
    let mut check = Check::new(6, "repeated requests with another answer");
    let answers = acknowledged_answers(evidence);
    for repeated in evidence.of("repeated") {
        let Some(answer) = answers.get(repeated.text("request_id")) else { continue };
        let same = repeated.flag("ok") && repeated.text("print") == answer.text("print");
        check.look((!same).then(|| {
            let (method, request) = (answer.text("method"), answer.text("request_id"));
            format!("{method} {request}: {:?} then {:?}", answer.text("print"), repeated.text("print"))
        }));
    }
    check
}

/// Rule 7: every rollout has ended: completed, rolled back, or failed before its flip.
fn rollouts(evidence: &Evidence) -> Check {
    let mut check = Check::new(7, "rollouts that did not end");
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for rollout in evidence.of("rollout") {
        last.insert(rollout.text("id"), rollout.text("state"));
    }
    for (id, state) in last {
        let ended = matches!(state, "COMPLETED" | "ROLLED_BACK" | "FAILED");
        check.look((!ended).then(|| format!("{id} is {state}")));
    }
    check
}

/// Rule 7: a drain that was begun goes on until its environment is empty or it is taken back.
fn drains(evidence: &Evidence) -> Check {
    let mut check = Check::new(7, "drains that were forgotten");
    let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
    for drain in evidence.of("drain") {
        last.insert(drain.text("environment"), drain);
    }
    for (environment, drain) in last {
        let broken = drain.flag("overdue");
        check.look(
            broken.then(|| format!("{environment}: {} with {:?}", drain.text("state"), drain.number("remaining"))),
        );
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::*;

    fn check(lines: &[&str], expected: [(u64, u64); 4]) {
        let found: Vec<(u64, u64)> = checks(&evidence(lines)).iter().map(|c| (c.violations, c.of)).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    const ACKNOWLEDGED: &str = "1 campaign answered request_id=r1 method=flip ok=true print=a";

    #[test]
    fn a_command_that_is_known_with_its_answer_is_well() {
        let lines = [
            ACKNOWLEDGED,
            "1 campaign answered request_id=r2 method=flip ok=false",
            "9 campaign looked_up request_id=r1 known=true",
            "9 campaign repeated request_id=r1 ok=true print=a",
        ];
        check(&lines, [(0, 1), (0, 1), (0, 0), (0, 0)]);
    }

    #[test]
    fn a_command_that_is_gone_or_answered_otherwise_is_found() {
        check(&[ACKNOWLEDGED, "9 c looked_up request_id=r1 known=false"], [(1, 1), (0, 0), (0, 0), (0, 0)]);
        check(&[ACKNOWLEDGED, "9 c repeated request_id=r1 ok=true print=b"], [(0, 0), (1, 1), (0, 0), (0, 0)]);
        check(&[ACKNOWLEDGED, "9 c repeated request_id=r1 ok=false"], [(0, 0), (1, 1), (0, 0), (0, 0)]);
    }

    #[test]
    fn what_does_not_end_is_found() {
        let lines = [
            "1 c rollout id=ro-1 state=RUNNING",
            "2 c rollout id=ro-2 state=COMPLETED",
            "3 c rollout id=ro-3 state=PAUSED",
        ];
        check(&lines, [(0, 0), (0, 0), (2, 3), (0, 0)]);
        check(
            &["3 c rollout id=ro-1 state=RUNNING", "4 c rollout id=ro-1 state=ROLLED_BACK"],
            [(0, 0), (0, 0), (0, 1), (0, 0)],
        );
        check(&["4 c drain environment=e-1 state=RUNNING overdue=true remaining=3"], [(0, 0), (0, 0), (0, 0), (1, 1)]);
    }
}
