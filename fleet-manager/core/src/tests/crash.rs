//! The manager dies at every line: before the rows are written, after, and after the first effect. The rollout ends the same.

use super::main_path::living_world;
use crate::environment::{Label, PhaseKind};
use crate::input::Command;
use crate::model::{Crash, build, environment_id, green_start};
use crate::rollout::RolloutState;

/// Runs a rollout that dies at its `at`th outcome; `None`: it has fewer.
fn run_with(crash: Option<(u64, Crash)>) -> Option<u64> {
    let mut run = living_world(1);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    let begun = run.outcomes;
    run.crash_at = crash.map(|(at, crash)| (begun + at, crash));
    // A command whose answer was lost is sent again.
    while !run.realm.rows.rollouts.contains_key(&id) {
        run.command(Command::StartRollout(Box::new(start.clone()))).unwrap();
    }
    let state = run.wait_rollout(&id);
    assert_eq!(state, Some(RolloutState::Completed), "died at {crash:?}: {:#?}", run.realm.rows.rollouts[&id]);
    let label = |name: &str| run.realm.rows.environments[&environment_id(name)].label;
    assert_eq!((label("green-1"), label("next-1")), (Some(Label::Blue), Some(Label::Green)), "died at {crash:?}");
    assert_eq!(run.phase(&environment_id("blue-1")), Some(PhaseKind::Drained), "died at {crash:?}");
    assert_eq!(run.realm.rows.environments.len(), 3, "died at {crash:?}: something was made twice");
    (crash.is_none() || run.crashes == 1).then_some(run.outcomes - begun)
}

#[test]
fn dying_at_any_line_of_a_rollout_ends_the_same() {
    let outcomes = run_with(None).unwrap();
    assert!(outcomes > 30);
    for crash in [Crash::BeforeWrite, Crash::BeforeEffects, Crash::AfterEffects(1), Crash::AfterEffects(9)] {
        for at in 1..=outcomes {
            run_with(Some((at, crash)));
        }
    }
}
