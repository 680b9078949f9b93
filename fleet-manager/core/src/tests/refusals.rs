//! Every refusal: named, and nothing changed (which the harness checks on each).

use std::time::Duration;

use tidegate_types::{Generation, Timestamp};

use super::main_path::living_world;
use crate::environment::{Label, PhaseKind};
use crate::input::{CloneCommand, Command};
use crate::model::{Run, build, create, environment_id, green_start, new_rows, policy};
use crate::outcome::Reply;
use crate::refused::Reason;
use crate::rollback::Choice;
use crate::rollout::RolloutState;
use crate::snapshot::SnapshotState;
use crate::spec::FreezeWindow;

fn flip_to(name: &str) -> Command {
    Command::Flip { to: environment_id(name), if_generation: None, confirm: None, reason: String::new() }
}

fn stage(name: &str) -> Command {
    Command::Stage { environment: environment_id(name), if_generation: None }
}

fn verify(name: &str) -> Command {
    Command::Verify { environment: environment_id(name), if_generation: None }
}

fn retire(name: &str) -> Command {
    Command::Retire { environment: environment_id(name), if_generation: None }
}

fn relabel(name: &str) -> Command {
    Command::Relabel { environment: environment_id(name), if_generation: None }
}

fn snapshot(name: &str, id: &str) -> Command {
    Command::Snapshot { environment: environment_id(name), snapshot: id.parse().unwrap(), if_generation: None }
}

fn check(run: &mut Run, when: Command, expect: Reason) {
    let refused = run.command(when.clone()).expect_err(&format!("{when:?} was not refused"));
    assert_eq!(refused.reason, expect, "{refused}");
    assert!(!refused.message.is_empty() && !refused.what_to_do.is_empty(), "{refused:?} says nothing");
}

/// A living world with another environment that is ready.
pub(super) fn with_green(seed: u64) -> Run {
    let mut run = living_world(seed);
    run.command(create("green-1", build("2.0.0", &[1, 2]), Some(Label::Green))).unwrap();
    make_ready(&mut run, "green-1");
    run
}

pub(super) fn make_ready(run: &mut Run, name: &str) {
    let id = environment_id(name);
    run.command(stage(name)).unwrap();
    assert!(run.wait_phase(&id, PhaseKind::Staged));
    run.command(verify(name)).unwrap();
    assert!(run.wait_phase(&id, PhaseKind::Ready));
    assert!(run.wait(|run| run.realm.rows.environments[&id].servers.values().all(|s| s.ready)));
}

#[test]
fn a_flip_is_refused_while_another_awaits_its_acknowledgements_and_to_what_accepts() {
    let mut run = with_green(1);
    check(&mut run, flip_to("blue-1"), Reason::AlreadyAccepting);
    run.command(flip_to("green-1")).unwrap();
    check(&mut run, flip_to("blue-1"), Reason::FlipInProgress);
    check(&mut run, flip_to("green-1"), Reason::FlipInProgress);
    let back = Command::Rollback { to: None, choice: Choice::Finish, if_generation: None, reason: String::new() };
    check(&mut run, back, Reason::FlipInProgress);
    assert!(run.wait(|run| !run.realm.rows.routing.flip_awaits()));
    check(&mut run, flip_to("green-1"), Reason::AlreadyAccepting);
    check(&mut run, flip_to("blue-1"), Reason::Draining);
}

#[test]
fn a_flip_is_refused_to_what_is_not_ready_unknown_or_retired() {
    let mut run = living_world(2);
    check(&mut run, flip_to("nowhere"), Reason::NotFound);
    run.command(create("green-1", build("2.0.0", &[1, 2]), None)).unwrap();
    check(&mut run, flip_to("green-1"), Reason::NotReady);
    check(&mut run, verify("green-1"), Reason::WrongPhase);
    run.command(retire("green-1")).unwrap();
    check(&mut run, flip_to("green-1"), Reason::Retired);
    check(&mut run, stage("green-1"), Reason::Retired);
    assert_eq!(run.command(retire("green-1")).unwrap(), Reply::Environment(environment_id("green-1")));
}

#[test]
fn a_flip_is_refused_where_state_would_be_unreadable_or_room_is_missing() {
    let mut run = living_world(3);
    run.command(create("alien", build("3.0.0", &[9]), None)).unwrap();
    make_ready(&mut run, "alien");
    check(&mut run, flip_to("alien"), Reason::StateFormatUnreadable);
    let mut other = build("2.0.0", &[1, 2]);
    other.schema_versions = vec![4];
    let mut blue = build("1.9.0", &[1]);
    blue.schema_versions = vec![3];
    assert!(!other.shares_schema_with(&blue));
    let tiny = Command::CreateEnvironment {
        id: environment_id("tiny"),
        build: build("2.0.0", &[1, 2]),
        fleets: vec![crate::model::fleet(3)],
        label: None,
    };
    run.command(tiny).unwrap();
    make_ready(&mut run, "tiny");
    check(&mut run, flip_to("tiny"), Reason::NoCapacity);
}

#[test]
fn a_flip_is_refused_in_a_freeze_window_while_frozen_and_on_another_generation() {
    let mut run = with_green(4);
    run.realm.rows.spec.freeze_windows =
        vec![FreezeWindow { from: Timestamp(0), to: Timestamp(i64::MAX), reason: "world boss".to_owned() }];
    run.stored.spec = run.realm.rows.spec.clone();
    check(&mut run, flip_to("green-1"), Reason::FreezeWindow);
    run.realm.rows.spec.freeze_windows.clear();
    run.stored.spec = run.realm.rows.spec.clone();
    run.command(Command::Freeze { frozen: true, reason: "incident".to_owned() }).unwrap();
    assert_eq!(run.realm.table().accepting, None);
    check(&mut run, flip_to("green-1"), Reason::Frozen);
    run.command(Command::Freeze { frozen: false, reason: String::new() }).unwrap();
    let other = Command::Flip {
        to: environment_id("green-1"),
        if_generation: Some(Generation(1)),
        confirm: None,
        reason: String::new(),
    };
    check(&mut run, other, Reason::GenerationMismatch);
    let other = Command::Retire { environment: environment_id("green-1"), if_generation: Some(Generation(1)) };
    check(&mut run, other, Reason::GenerationMismatch);
}

#[test]
fn what_drains_is_not_relabelled_cloned_or_retired() {
    let mut run = with_green(5);
    run.command(snapshot("blue-1", "s-blue")).unwrap();
    check(&mut run, snapshot("blue-1", "s-other"), Reason::SnapshotRunning);
    check(&mut run, snapshot("green-1", "s-green"), Reason::NotActive);
    assert!(run.wait(|run| run.realm.rows.snapshots["s-blue"].is_restorable()));
    check(&mut run, relabel("green-1"), Reason::NotActive);
    check(&mut run, retire("blue-1"), Reason::AlreadyAccepting);
    run.command(flip_to("green-1")).unwrap();
    run.tick();
    check(&mut run, relabel("green-1"), Reason::Draining);
    let SnapshotState::Stored(facts) = run.realm.rows.snapshots["s-blue"].state.clone() else {
        panic!("the snapshot is stored");
    };
    let clone = CloneCommand {
        id: environment_id("copy"),
        snapshot: "s-blue".parse().unwrap(),
        source: run.realm.rows.id.clone(),
        facts: facts.clone(),
        build: build("1.9.0", &[1]),
        fleets: Vec::new(),
    };
    check(&mut run, Command::Clone(Box::new(clone.clone())), Reason::Draining);
    let elsewhere = CloneCommand { source: "us-1".parse().unwrap(), ..clone.clone() };
    check(&mut run, Command::Clone(Box::new(elsewhere)), Reason::RealmNotEmpty);
    check(&mut run, retire("blue-1"), Reason::Occupied);
    run.wait_phase(&environment_id("blue-1"), PhaseKind::Drained);
    run.command(relabel("green-1")).unwrap();
    run.command(Command::Clone(Box::new(clone))).unwrap();
    check(
        &mut run,
        Command::SnapshotChecked { snapshot: "s-blue".parse().unwrap(), facts: None, force: false },
        Reason::InUse,
    );
}

#[test]
fn rolling_back_is_refused_after_retire_and_to_a_build_that_could_not_read() {
    let mut run = with_green(6);
    run.command(flip_to("green-1")).unwrap();
    assert!(run.wait_phase(&environment_id("blue-1"), PhaseKind::Drained));
    let back = |choice| Command::Rollback { to: None, choice, if_generation: None, reason: String::new() };
    // 1.9.0 reads format 1 only, and 2.0.0 writes 2.
    check(&mut run, back(Choice::NextBoundary), Reason::StateFormatUnreadable);
    run.command(back(Choice::Freeze)).unwrap();
    assert_eq!(run.realm.table().accepting, None);
    assert!(run.realm.table().hold_pins);
    run.command(Command::Freeze { frozen: false, reason: String::new() }).unwrap();
    run.command(relabel("green-1")).unwrap();
    run.command(retire("blue-1")).unwrap();
    check(&mut run, back(Choice::NextBoundary), Reason::Retired);
}

#[test]
fn drains_and_rollouts_refuse_what_makes_no_sense() {
    let mut run = with_green(7);
    let drain = |name: &str, seconds: u64| Command::StartDrain {
        environment: environment_id(name),
        policy: policy(Duration::from_secs(seconds)),
    };
    check(&mut run, drain("blue-1", 9), Reason::AlreadyAccepting);
    check(&mut run, drain("green-1", 9), Reason::NotDraining);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    run.command(Command::StartRollout(Box::new(start.clone()))).unwrap();
    // The same request again is the same rollout; another one has to wait.
    run.command(Command::StartRollout(Box::new(start.clone()))).unwrap();
    let other = green_start(2, build("2.1.0", &[1, 2]));
    check(&mut run, Command::StartRollout(Box::new(other)), Reason::RolloutRunning);
    check(&mut run, flip_to("green-1"), Reason::RolloutRunning);
    check(&mut run, retire("green-1"), Reason::RolloutRunning);
    assert!(run.wait(|run| run.phase(&environment_id("blue-1")) == Some(PhaseKind::Draining)));
    assert!(run.wait(|run| run.realm.rows.drains[&environment_id("blue-1")].policy_given));
    check(&mut run, drain("blue-1", 9), Reason::DrainRunning);
    assert_eq!(run.wait_rollout(&start.id), Some(RolloutState::Completed));
    check(&mut run, Command::PauseRollout { rollout: start.id, reason: String::new() }, Reason::RolloutEnded);
    let force = Command::ForceDrain {
        environment: environment_id("blue-1"),
        deadline: Duration::ZERO,
        ignore_extensions: false,
    };
    check(&mut run, force, Reason::NotDraining);
}

#[test]
fn a_rollout_needs_an_environment_to_roll_from_and_a_fleet_needs_servers() {
    let mut run = Run::new(new_rows(), 8);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    check(&mut run, Command::StartRollout(Box::new(start)), Reason::NothingAccepting);
    let none = Command::CreateEnvironment {
        id: environment_id("none"),
        build: build("1.9.0", &[1]),
        fleets: Vec::new(),
        label: None,
    };
    check(&mut run, none, Reason::Invalid);
    run.command(create("blue-1", build("1.9.0", &[1]), Some(Label::Blue))).unwrap();
    check(&mut run, create("blue-1", build("1.9.0", &[1]), None), Reason::AlreadyExists);
    check(&mut run, create("blue-2", build("1.9.0", &[1]), Some(Label::Blue)), Reason::AlreadyExists);
    let scale = |fleet: &str, replicas| Command::Scale {
        environment: environment_id("blue-1"),
        fleet: fleet.parse().unwrap(),
        replicas,
        if_generation: None,
    };
    check(&mut run, scale("main", 0), Reason::Invalid);
    check(&mut run, scale("other", 2), Reason::NotFound);
    run.command(scale("main", 3)).unwrap();
}
