//! Rule 1 by what the world servers wrote: claims and saves, and whether anybody acted without a lease.

use std::collections::BTreeMap;

use super::Evidence;
use super::tally::Check;

pub(super) fn checks(evidence: &Evidence) -> Vec<Check> {
    vec![stale(evidence), twice(evidence), unfenced(evidence)]
}

/// A write is accepted only at the row's epoch, a claim only above it. What stood in the row before is said by the same
/// transaction, so the order of the lines does not matter.
fn stale(evidence: &Evidence) -> Check {
    let mut check = Check::new(1, "stale-epoch writes accepted");
    for record in evidence.any(&["claim", "save"]).filter(|record| record.flag("accepted")) {
        let (Some(epoch), was) = (record.number("epoch"), record.number("was").unwrap_or(0)) else { continue };
        let broken = if record.event == "claim" { epoch <= was && was > 0 } else { epoch < was };
        check.look(broken.then(|| {
            format!(
                "{} of {} at epoch {epoch} over {was} by {}",
                record.event,
                record.text("character"),
                record.process
            )
        }));
    }
    check
}

/// No two claims of a character get the same epoch.
fn twice(evidence: &Evidence) -> Check {
    let mut check = Check::new(1, "epochs claimed twice");
    let mut seen: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    // A character that was not there (a smoke test's, which is forgotten every time) begins anew.
    let of_a_row = |record: &&tidegate_events::Record| record.flag("accepted") && record.number("was").is_some();
    for record in evidence.of("claim").filter(of_a_row) {
        let Some(epoch) = record.number("epoch") else { continue };
        let before = seen.insert((record.text("character"), epoch), &record.process);
        check.look(
            before.map(|before| {
                format!("epoch {epoch} of {} by {before} and {}", record.text("character"), record.process)
            }),
        );
    }
    check
}

/// Nobody acts for a player whose lease is over. Looked at: the times that a server had to stop.
fn unfenced(evidence: &Evidence) -> Check {
    let mut check = Check::new(1, "acts without a lease");
    check.of = evidence.of("lease_lost").count() as u64;
    for record in evidence.of("acted_unfenced") {
        check.of += 1;
        check.add(1, || format!("{} for {} at {} µs", record.process, record.text("player"), record.at_us));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::*;

    fn check(lines: &[&str], expected: [u64; 3]) {
        let found: Vec<u64> = checks(&evidence(lines)).iter().map(|check| check.violations).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn writes_at_the_rows_epoch_are_well() {
        let lines = [
            "1 w-1 claim character=ann epoch=1 was=0 accepted=true",
            "2 w-1 save character=ann epoch=1 was=1 accepted=true",
            "3 w-2 claim character=ann epoch=2 was=1 accepted=true",
            "4 w-1 save character=ann epoch=1 was=2 accepted=false",
            "4 w-1 lease_lost gateway=gw-1",
        ];
        check(&lines, [0, 0, 0]);
    }

    #[test]
    fn a_save_of_a_former_home_is_found() {
        check(&["4 w-1 save character=ann epoch=1 was=2 accepted=true"], [1, 0, 0]);
    }

    #[test]
    fn a_claim_that_does_not_raise_is_found() {
        check(&["4 w-1 claim character=ann epoch=2 was=2 accepted=true"], [1, 0, 0]);
        let twice = [
            "1 a claim character=ann epoch=2 was=1 accepted=true",
            "2 b claim character=ann epoch=2 was=1 accepted=true",
        ];
        check(&twice, [0, 1, 0]);
    }

    #[test]
    fn acting_without_a_lease_is_found() {
        check(&["4 w-1 acted_unfenced player=ann epoch=2"], [0, 0, 1]);
    }
}
