//! Going back: the four choices, aborts at every step, and what becomes of labels.

use std::time::Duration;

use super::main_path::living_world;
use super::refusals::make_ready;
use crate::environment::{Label, PhaseKind};
use crate::input::Command;
use crate::model::{Run, build, create, environment_id, green_start};
use crate::rollback::Choice;
use crate::rollout::{RolloutState, StepName, StepState};

/// A world whose 2.0.0 writes what 1.9.0 reads, flipped to green with everybody still on blue.
fn flipped(seed: u64) -> Run {
    let mut run = living_world(seed);
    run.command(create("green-1", build("2.0.0", &[2, 1]), Some(Label::Green))).unwrap();
    make_ready(&mut run, "green-1");
    let to = environment_id("green-1");
    run.command(Command::Flip { to, if_generation: None, confirm: None, reason: String::new() }).unwrap();
    assert!(run.wait(|run| !run.realm.rows.routing.flip_awaits()));
    run.world.fill(run.now, 20);
    run
}

fn back(choice: Choice) -> Command {
    Command::Rollback { to: None, choice, if_generation: None, reason: "it stutters".to_owned() }
}

#[test]
fn finish_holds_the_pins_until_everyone_has_left() {
    let mut run = flipped(1);
    run.command(back(Choice::Finish)).unwrap();
    let rows = &run.realm.rows;
    assert_eq!(rows.routing.accepting, Some(environment_id("blue-1")));
    assert!(rows.routing.hold_pins);
    assert_eq!(run.phase(&environment_id("green-1")), Some(PhaseKind::Draining));
    assert!(run.wait_phase(&environment_id("green-1"), PhaseKind::Drained));
    assert!(!run.realm.rows.routing.hold_pins);
    assert_eq!(
        run.realm.rows.drains[&environment_id("green-1")].departed.keys().map(|d| d.as_str()).collect::<Vec<_>>(),
        ["logout"]
    );
}

#[test]
fn next_boundary_empties_it_by_boundaries_and_force_by_the_deadline() {
    let mut run = flipped(2);
    run.command(back(Choice::NextBoundary)).unwrap();
    assert!(run.realm.table().environments.iter().any(|e| e.id == environment_id("green-1") && e.leave_at_boundary));
    assert!(run.wait_phase(&environment_id("green-1"), PhaseKind::Drained));
    assert!(run.realm.rows.routing.leave_at_boundary.is_empty());

    let mut run = flipped(3);
    run.command(back(Choice::Force { deadline: Duration::from_secs(2) })).unwrap();
    let from = run.now;
    assert!(run.wait_phase(&environment_id("green-1"), PhaseKind::Drained));
    assert!(run.now.since(from) < Duration::from_secs(20));
    let departed = &run.realm.rows.drains[&environment_id("green-1")].departed;
    assert!(departed.keys().any(|d| d.as_str() == "operator"), "{departed:?}");
}

#[test]
fn freeze_moves_nobody_and_takes_nobody() {
    let mut run = flipped(4);
    run.command(back(Choice::Freeze)).unwrap();
    let table = run.realm.table();
    assert_eq!((table.accepting, table.hold_pins), (None, true));
    assert_eq!(run.realm.rows.routing.accepting, Some(environment_id("green-1")));
    run.command(Command::Freeze { frozen: false, reason: String::new() }).unwrap();
    let table = run.realm.table();
    assert_eq!((table.accepting, table.hold_pins), (Some(environment_id("green-1")), false));
}

/// Aborts a rollout when `step` is reached; it must end, with blue in charge.
fn abort_at(seed: u64, step: StepName) -> Run {
    let mut run = living_world(seed);
    let start = green_start(1, build("2.0.0", &[2, 1]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    let reached = |run: &Run| run.realm.rows.rollouts[&id].step(step).unwrap().state != StepState::Pending;
    assert!(run.wait(reached));
    run.command(Command::AbortRollout { rollout: id.clone(), reason: "no".to_owned(), choice: Choice::NextBoundary })
        .unwrap();
    let state = run.wait_rollout(&id);
    let before = step < StepName::Flip || run.realm.rows.rollouts[&id].flip.is_none();
    assert_eq!(state, Some(if before { RolloutState::Failed } else { RolloutState::RolledBack }), "at {step:?}");
    let blue = &run.realm.rows.environments[&environment_id("blue-1")];
    assert_eq!((blue.phase.kind(), blue.label), (PhaseKind::Active, Some(Label::Blue)), "at {step:?}");
    let green = environment_id("green-1");
    let ends = |run: &Run| matches!(run.phase(&green), None | Some(PhaseKind::Retired | PhaseKind::Drained));
    assert!(run.wait(ends), "at {step:?}: green is {:?}", run.phase(&green));
    run
}

#[test]
fn an_abort_at_every_step_ends_with_blue_in_charge() {
    for (seed, step) in StepName::ALL.into_iter().enumerate().skip(1) {
        let run = abort_at(seed as u64 + 10, step);
        let rollout = run.realm.rows.rollouts.values().next().unwrap();
        let flip = rollout.step(StepName::Flip).unwrap();
        assert_eq!(flip.state == StepState::Undone, flip.outcome.contains("confirmed"), "at {step:?}: {flip:?}");
    }
}

#[test]
fn an_abort_is_refused_where_blue_could_not_read_what_green_wrote() {
    let mut run = living_world(30);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert!(run.wait(|run| run.realm.rows.rollouts[&id].step(StepName::Drain).unwrap().state == StepState::Running));
    let abort = Command::AbortRollout { rollout: id.clone(), reason: String::new(), choice: Choice::Finish };
    let refused = run.command(abort).unwrap_err();
    assert_eq!(refused.reason, crate::Reason::StateFormatUnreadable);
    assert!(refused.what_to_do.contains("freeze"));
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed));
}

#[test]
fn an_operators_rollback_takes_the_rollout_back_with_it() {
    let mut run = living_world(31);
    let start = green_start(1, build("2.0.0", &[2, 1]));
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert!(run.wait(|run| run.realm.rows.rollouts[&id].step(StepName::Drain).unwrap().state == StepState::Running));
    run.command(back(Choice::NextBoundary)).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::RolledBack));
    assert!(run.realm.rows.rollouts[&id].superseded_by.is_none());
}
