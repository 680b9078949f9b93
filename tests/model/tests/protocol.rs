//! The protocol holds its rules in every interleaving of the small cases, and there is no dead end in them.

use stateright::{Checker, HasDiscoveries, Model};
use tidegate_model::{Case, Rules, Spec, dead_ends};

/// Threads of one check; the machine that runs the suite has two cores.
const THREADS: usize = 2;

fn check(case: Case) {
    let spec = Spec { rules: Rules::default(), case };
    let checker = spec.clone().checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{:?}: {} states", spec.case, checker.unique_state_count());
    checker.assert_properties();
}

const IN_PLAY: Case = Case { in_play: true, behind: false, faults: 0, handovers: 0, hellos: 0, logouts: 0, epochs: 4 };

#[test]
fn two_faults_of_any_kind() {
    check(Case { faults: 2, ..IN_PLAY });
}

#[test]
fn a_fault_and_a_second_login() {
    check(Case { faults: 1, hellos: 1, ..IN_PLAY });
}

#[test]
fn a_fault_with_a_directory_that_went_back() {
    check(Case { behind: true, faults: 1, ..IN_PLAY });
    no_dead_end(Case { behind: true, faults: 1, ..IN_PLAY });
}

#[test]
fn a_fault_in_a_handover() {
    check(Case { faults: 1, handovers: 1, logouts: 1, ..IN_PLAY });
}

#[test]
fn a_second_login_in_a_handover() {
    check(Case { handovers: 2, hellos: 1, logouts: 1, epochs: 5, ..IN_PLAY });
}

#[test]
fn two_first_logins_at_once() {
    check(Case { in_play: false, hellos: 1, logouts: 1, ..IN_PLAY });
}

/// Two minutes and nine million states: everything at once.
#[test]
#[ignore = "millions of states: cargo test -p tidegate-model -- --ignored"]
fn a_fault_and_a_second_login_in_a_handover() {
    check(Case { faults: 1, handovers: 1, hellos: 1, ..IN_PLAY });
}

fn no_dead_end(case: Case) {
    let survey = dead_ends(&Spec { rules: Rules::default(), case });
    println!("{} states, {} steps, {} beyond", survey.states, survey.steps, survey.beyond);
    assert_eq!(survey.dead_ends, 0, "{:#?}", survey.example);
}

#[test]
fn a_player_who_wants_in_gets_in_after_a_fault() {
    no_dead_end(Case { faults: 1, ..IN_PLAY });
}

#[test]
fn a_player_who_wants_in_gets_in_after_a_fault_in_a_handover() {
    no_dead_end(Case { faults: 1, handovers: 1, logouts: 1, ..IN_PLAY });
}

#[test]
fn a_player_who_wants_in_gets_in_after_a_second_login() {
    no_dead_end(Case { handovers: 1, hellos: 1, ..IN_PLAY });
}
