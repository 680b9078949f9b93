//! A second rollout before the first drain ends: three builds live, and both drains converge.

use std::time::Duration;

use super::main_path::living_world;
use crate::environment::{Label, PhaseKind};
use crate::input::Command;
use crate::model::{build, environment_id, green_start, policy};
use crate::rollout::{RolloutState, StepName, StepState};

#[test]
fn three_builds_are_live_and_both_rollouts_end() {
    let mut run = living_world(1);
    let mut first = green_start(1, build("2.0.0", &[1, 2]));
    first.spec.drain = policy(Duration::from_secs(120));
    let second = green_start(2, build("2.1.0", &[1, 2]));
    let (one, two) = (first.id.clone(), second.id.clone());
    run.command(Command::StartRollout(Box::new(first))).unwrap();
    assert!(run.wait(|run| run.realm.rows.rollouts[&one].step(StepName::Drain).unwrap().state == StepState::Running));
    run.command(Command::StartRollout(Box::new(second))).unwrap();
    assert!(run.wait(|run| run.phase(&environment_id("green-1")) == Some(PhaseKind::Draining)));
    let draining = run.realm.rows.environments.values().filter(|e| e.phase.kind() == PhaseKind::Draining).count();
    assert_eq!(draining, 2, "both older environments drain");
    assert_eq!(run.realm.table().environments.len(), 3);

    assert_eq!(run.wait_rollout(&one), Some(RolloutState::Completed));
    assert_eq!(run.wait_rollout(&two), Some(RolloutState::Completed), "{:#?}", run.realm.rows.rollouts[&two]);
    let rows = &run.realm.rows;
    let first = &rows.rollouts[&one];
    assert!(first.reason.contains("superseded"), "{}", first.reason);
    assert_eq!(first.step(StepName::Drain).unwrap().state, StepState::Done);
    assert_eq!(first.step(StepName::Relabel).unwrap().state, StepState::Skipped);
    assert_eq!(rows.environments[&environment_id("green-2")].label, Some(Label::Blue));
    assert_eq!(rows.environments[&environment_id("next-2")].label, Some(Label::Green));
    let drained = ["blue-1", "green-1"].map(|name| run.phase(&environment_id(name)).unwrap());
    assert!(drained.contains(&PhaseKind::Drained) && drained.contains(&PhaseKind::Retired), "{drained:?}");
}
