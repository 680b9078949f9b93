//! What goes wrong before and after the flip, and what a rollout then does.

use super::main_path::living_world;
use crate::environment::{Label, PhaseKind};
use crate::input::Command;
use crate::model::{Faults, Run, build, environment_id, green_start};
use crate::rollout::{RolloutState, StepName, StepState};

fn faulty(faults: Faults) -> Faults {
    Faults { build: Some("2.0.0".parse().unwrap()), ..faults }
}

/// A rollout of 2.0.0 with `faults` fails before the flip, and says `why`; blue was never touched.
fn check(seed: u64, faults: Faults, step: StepName, why: &str) {
    let mut run = living_world(seed);
    let generation = run.realm.rows.environments[&environment_id("blue-1")].generation;
    run.world.faults = faulty(faults);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Failed));
    let rollout = &run.realm.rows.rollouts[&id];
    assert_eq!(rollout.step(step).unwrap().state, StepState::Failed, "{rollout:#?}");
    assert!(rollout.reason.contains(why), "{}", rollout.reason);
    assert!(rollout.reason.contains("start another rollout"), "{}", rollout.reason);
    assert!(rollout.step(StepName::Flip).unwrap().state == StepState::Skipped);
    let blue = &run.realm.rows.environments[&environment_id("blue-1")];
    assert_eq!((blue.phase.kind(), blue.label, blue.generation), (PhaseKind::Active, Some(Label::Blue), generation));
    assert_eq!(run.phase(&environment_id("green-1")), Some(PhaseKind::Retired));
}

#[test]
fn one_server_with_another_build_stops_the_rollout() {
    let faults = Faults { wrong_build: true, ..Faults::default() };
    check(1, faults, StepName::Stage, "server green-1-main-0 runs build 0.0.1, not 2.0.0");
}

#[test]
fn one_server_with_other_assets_stops_the_rollout() {
    check(
        2,
        Faults { wrong_digest: true, ..Faults::default() },
        StepName::Stage,
        "server green-1-main-0 loaded assets",
    );
}

#[test]
fn a_server_that_never_gets_ready_stops_the_rollout() {
    check(3, Faults { never_ready: true, ..Faults::default() }, StepName::Stage, "server green-1-main-0 is starting");
}

#[test]
fn a_rollout_says_how_long_its_green_may_load() {
    let mut run = living_world(3);
    run.world.faults = faulty(Faults { never_ready: true, ..Faults::default() });
    let mut start = green_start(1, build("2.0.0", &[1, 2]));
    let limit = run.realm.rows.spec.limits.stage / 10;
    start.spec.stage_timeout = Some(limit);
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Failed));
    let rollout = &run.realm.rows.rollouts[&id];
    assert!(rollout.reason.contains("not ready in time"), "{}", rollout.reason);
    let took = rollout.ended.unwrap().since(rollout.started);
    assert!(took >= limit && took < limit * 5, "{took:?}");
}

#[test]
fn a_smoke_test_that_fails_stops_the_rollout() {
    check(4, Faults { smoke_fails: true, ..Faults::default() }, StepName::Verify, "smoke test login failed");
}

#[test]
fn a_line_of_the_checklist_that_fails_makes_nothing() {
    let mut run = living_world(5);
    let start = green_start(1, build("3.0.0", &[9]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Failed));
    assert!(run.realm.rows.rollouts[&id].reason.contains("state_forward"));
    assert!(!run.realm.rows.environments.contains_key(&environment_id("green-1")));
}

#[test]
fn a_snapshot_and_a_clone_that_fail_are_tried_again_and_then_an_operator_is_asked() {
    let mut run = living_world(6);
    run.world.faults.snapshot_failures = 4;
    run.world.faults.clone_failures = 2;
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Paused));
    let rollout = &run.realm.rows.rollouts[&id];
    assert_eq!(rollout.step(StepName::Snapshot).unwrap().state, StepState::Failed);
    assert!(rollout.reason.contains("resume to try again"), "{}", rollout.reason);
    run.command(Command::ResumeRollout { rollout: id.clone() }).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed), "{:#?}", run.realm.rows.rollouts[&id]);
}

#[test]
fn a_gateway_that_is_away_keeps_the_old_environment_up_until_it_has_spoken() {
    let mut run = living_world(7);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    let blue = environment_id("blue-1");
    assert!(run.wait(|run| run.realm.rows.rollouts[&id].step(StepName::Verify).unwrap().state == StepState::Done));
    let until = run.now + std::time::Duration::from_secs(90);
    run.world.cut_off(1, until);
    assert!(run.wait_phase(&blue, PhaseKind::Draining));
    while run.now < until {
        run.tick();
        if run.now < until {
            assert_eq!(run.phase(&blue), Some(PhaseKind::Draining));
        }
    }
    let view = run.realm.drain_view(&blue, run.now).unwrap();
    assert!(view.known || view.waiting_for.iter().any(|w| w.contains("gw-2")), "{view:?}");
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed));
}

#[test]
fn pausing_stops_before_the_next_step_and_a_crashing_green_is_not_blue() {
    let mut run = living_world(8);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    run.command(Command::PauseRollout { rollout: id.clone(), reason: "lunch".to_owned() }).unwrap();
    for _ in 0..200 {
        run.tick();
    }
    let rollout = &run.realm.rows.rollouts[&id];
    assert_eq!(rollout.step(StepName::Stage).unwrap().state, StepState::Done, "what runs, runs to its end");
    assert_eq!(rollout.step(StepName::Verify).unwrap().state, StepState::Pending);
    run.command(Command::ResumeRollout { rollout: id.clone() }).unwrap();
    let watching =
        |run: &Run| run.realm.rows.rollouts[&id].step(StepName::VerifyStable).unwrap().state == StepState::Running;
    assert!(run.wait(watching));
    run.world.faults.crashes = 500;
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Paused));
    assert!(run.realm.rows.rollouts[&id].reason.contains("crashes"));
    run.world.calm();
    run.command(Command::ResumeRollout { rollout: id.clone() }).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed));
}
