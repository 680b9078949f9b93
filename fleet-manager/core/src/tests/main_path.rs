//! The main job: a first environment, then a rollout from its first step to its last.

use crate::environment::{Label, PhaseKind};
use crate::input::Command;
use crate::model::{Run, build, create, environment_id, green_start, new_rows};
use crate::rollout::{RolloutState, StepState};
use crate::routing::FlipState;
use crate::snapshot::SnapshotState;

/// A realm whose blue environment (build 1.9.0) has players.
pub(super) fn living_world(seed: u64) -> Run {
    let mut run = Run::new(new_rows(), seed);
    let blue = environment_id("blue-1");
    run.command(create("blue-1", build("1.9.0", &[1]), Some(Label::Blue))).unwrap();
    run.command(Command::Stage { environment: blue.clone(), if_generation: None }).unwrap();
    assert!(run.wait_phase(&blue, PhaseKind::Staged));
    run.command(Command::Verify { environment: blue.clone(), if_generation: None }).unwrap();
    assert!(run.wait_phase(&blue, PhaseKind::Ready));
    let serving = |run: &Run| run.realm.rows.environments[&environment_id("blue-1")].servers.values().all(|s| s.ready);
    assert!(run.wait(serving));
    run.command(Command::Flip { to: blue, if_generation: None, confirm: None, reason: "first".to_owned() }).unwrap();
    assert!(run.wait(|run| !run.realm.rows.routing.flip_awaits()));
    run.world.fill(run.now, 60);
    for _ in 0..8 {
        run.tick();
    }
    run
}

#[test]
fn a_rollout_runs_from_preflight_to_the_next_green() {
    let mut run = living_world(1);
    assert!(run.world.population(&environment_id("blue-1")) > 40);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed), "{:#?}", run.realm.rows.rollouts[&id]);

    let rows = &run.realm.rows;
    let rollout = &rows.rollouts[&id];
    assert!(rollout.steps.iter().all(|s| s.state == StepState::Done), "{:#?}", rollout.steps);
    assert!(rollout.flip_confirmed.is_some() && rollout.flip_confirm_us.is_some());
    assert!(matches!(rows.routing.flip.as_ref().unwrap().state, FlipState::Confirmed { .. }));
    let label = |name: &str| rows.environments[&environment_id(name)].label;
    let phase = |name: &str| run.phase(&environment_id(name)).unwrap();
    assert_eq!((label("blue-1"), phase("blue-1")), (None, PhaseKind::Drained));
    assert_eq!((label("green-1"), phase("green-1")), (Some(Label::Blue), PhaseKind::Active));
    assert_eq!((label("next-1"), phase("next-1")), (Some(Label::Green), PhaseKind::Staged));
    assert!(matches!(&rows.snapshots[&rollout.snapshot].state, SnapshotState::Stored(f) if f.verified));
    assert!(run.world.notices > 0);
    let drain = &rows.drains[&environment_id("blue-1")];
    assert!(drain.departed.values().sum::<u32>() > 0);
    assert_eq!(run.world.kicked, 0);
}

#[test]
fn the_next_rollout_uses_the_green_that_stands_ready() {
    let mut run = living_world(2);
    let mut start = green_start(1, build("2.0.0", &[1, 2]));
    start.spec.next_build = Some(build("2.1.0", &[1, 2]));
    let first = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&first), Some(RolloutState::Completed));
    let second = green_start(2, build("2.1.0", &[1, 2]));
    let id = second.id.clone();
    run.command(Command::StartRollout(Box::new(second))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed), "{:#?}", run.realm.rows.rollouts[&id]);
    assert_eq!(run.realm.rows.rollouts[&id].green, environment_id("next-1"));
    assert!(run.wait_phase(&environment_id("blue-1"), PhaseKind::Retired), "one drained environment is kept, not two");
    assert_eq!(run.phase(&environment_id("green-1")), Some(PhaseKind::Drained));
}
