//! Each rule of the protocol is needed: taken away, there is a way to break what must hold. A check that could not see it
//! would be none.

use stateright::{Checker, HasDiscoveries, Model};
use tidegate_model::{Case, Rules, Spec};

const IN_PLAY: Case = Case { in_play: true, behind: false, faults: 0, handovers: 0, hellos: 0, logouts: 0, epochs: 5 };

/// The checker finds a way in which `broken` (one of these) no longer holds.
fn check(rules: Rules, case: Case, broken: &[&str]) {
    let spec = Spec { rules, case };
    let checker = spec.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found: Vec<&str> = checker.discoveries().into_keys().filter(|name| *name != "in play").collect();
    println!("{} states: {found:?}", checker.unique_state_count());
    assert!(found.iter().any(|name| broken.contains(name)), "not noticed, or something else: {found:?}");
}

const TWO_HOMES: &[&str] = &["one home", "who is in play may save", "nobody is dropped"];

#[test]
fn claims_from_any_lower_epoch() {
    let rules = Rules { claim_exactly: false, ..Rules::default() };
    check(rules, Case { in_play: false, hellos: 1, ..IN_PLAY }, TWO_HOMES);
}

#[test]
fn no_epoch_check() {
    let rules = Rules { skip_epoch_check: true, ..Rules::default() };
    check(rules, Case { in_play: false, hellos: 1, ..IN_PLAY }, TWO_HOMES);
}

#[test]
fn no_wait_for_the_lease() {
    check(Rules { skip_lease_wait: true, ..Rules::default() }, Case { faults: 1, ..IN_PLAY }, TWO_HOMES);
}

#[test]
fn a_thaw_after_the_commit() {
    check(Rules { thaw_after_commit: true, ..Rules::default() }, Case { handovers: 1, ..IN_PLAY }, TWO_HOMES);
}

/// Not a rule of safety: the realm database lets only one of the two claims out from the frozen epoch through. It spares the
/// player the hand-over that fails.
#[test]
fn a_take_over_of_a_frozen_player_is_decided_by_the_realm_database() {
    let rules = Rules { take_over_frozen: true, ..Rules::default() };
    let spec = Spec { rules, case: Case { handovers: 1, hellos: 1, ..IN_PLAY } };
    spec.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join().assert_properties();
}

/// Its epochs are only asked for, or long over: taken as granted, they let a claim jump over who is in play.
#[test]
fn a_directory_that_is_trusted_over_what_is_known() {
    let rules = Rules { trust_directory: true, ..Rules::default() };
    check(rules, Case { handovers: 1, hellos: 1, ..IN_PLAY }, TWO_HOMES);
}

#[test]
fn a_release_on_a_conflict() {
    let rules = Rules { release_on_conflict: true, ..Rules::default() };
    check(rules, Case { handovers: 1, hellos: 1, faults: 1, ..IN_PLAY }, &["nobody is dropped"]);
}

#[test]
fn a_claim_above_a_stale_epoch_without_a_search() {
    let rules = Rules { skip_find: true, ..Rules::default() };
    check(rules, Case { faults: 1, hellos: 1, ..IN_PLAY }, TWO_HOMES);
}
