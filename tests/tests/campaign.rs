//! A short campaign: the whole realm under faults, with a fixed seed. `tests/campaign` runs longer ones.

use std::process::{Command, Output, Stdio};

/// Runs the campaign's own program.
fn campaign(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_campaign"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the campaign can be started")
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_minute_of_faults_breaks_no_rule() {
    let output = campaign(&["--seed", "3", "--minutes", "1", "--players", "30"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_same_seed_prints_the_same_schedule() {
    let print = |seed: &str| campaign(&["--seed", seed, "--minutes", "5", "--print"]).stdout;
    assert_eq!(print("7"), print("7"));
    assert_ne!(print("7"), print("8"));
}

/// A broken rule must be seen: the exit code says so, and the rule is named.
fn is_caught(word: &str, names: &[&str]) {
    let output = campaign(&["--seed", "1", "--players", "24", "--sabotage", word]);
    assert_eq!(output.status.code(), Some(1), "{word}: {}", said(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(names.iter().any(|name| stderr.contains(name)), "{word} was caught by another check: {}", said(&output));
}

#[test]
fn epochs_that_are_not_checked_are_caught() {
    is_caught("skip_epoch_check", &["rule 1 is broken"]);
}

#[test]
fn leases_that_are_not_checked_are_caught() {
    is_caught("skip_lease_check", &["rule 1 is broken"]);
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    is_caught("ack_before_commit", &["rule 6 is broken"]);
}

#[test]
fn a_directory_that_is_believed_over_what_is_known_is_caught() {
    is_caught("trust_directory", &["rule 5 is broken", "rule 8 is broken"]);
}

#[test]
fn a_drain_that_is_forgotten_at_a_restart_is_caught() {
    is_caught("forget_drain", &["rule 7 is broken"]);
}
