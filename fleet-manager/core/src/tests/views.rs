//! What the realm says of itself: the table, the checklist, the plan, answers to commands; and clones of other realms.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{SnapshotId, Timestamp};

use super::main_path::living_world;
use super::refusals::with_green;
use crate::drain::Policy;
use crate::environment::{PhaseKind, Source};
use crate::input::{CloneCommand, Command, Event, Input};
use crate::model::{Run, build, create, environment_id, fleet, green_start, new_rows};
use crate::observe::ServerState;
use crate::outcome::Reply;
use crate::realm::Realm;
use crate::rollback::Choice;
use crate::rollout::{RolloutState, StepName, StepState};
use crate::snapshot::SnapshotFacts;
use crate::{Effect, Reason};

#[test]
fn a_server_that_changes_is_a_new_generation_and_an_unreachable_one_is_not() {
    let mut run = living_world(1);
    let blue = environment_id("blue-1");
    let mut seen = run.realm.observed.servers[&blue].clone();
    let before = run.realm.table();
    let tell = |realm: &mut Realm, seen: &crate::observe::EnvironmentObservation| {
        drop(realm.handle(Timestamp(2_000_000), Input::Event(Event::ServersObserved(seen.clone()))).unwrap());
        realm.table()
    };
    assert_eq!(tell(&mut run.realm, &seen), before);

    seen.servers[0].state = ServerState::Unreachable;
    seen.servers[0].report = None;
    assert_eq!(tell(&mut run.realm, &seen), before, "the control plane is off the player path");

    seen.servers[0].state = ServerState::Exited;
    let dead = tell(&mut run.realm, &seen);
    assert!(dead.generation > before.generation);
    assert_eq!(dead.environments[0].servers.iter().filter(|s| s.ready).count(), 1);
    assert_eq!(dead.environments[0].servers.len(), 2, "its players wait for it");

    seen.servers[0].state = ServerState::Serving;
    seen.servers[0].address = Some("127.0.0.1:9".to_owned());
    let back = tell(&mut run.realm, &seen);
    assert!(back.environments[0].servers.iter().any(|s| s.ready && s.address == "127.0.0.1:9"));

    seen.servers[0].build = Some("9.9.9".parse().unwrap());
    let wrong = tell(&mut run.realm, &seen);
    assert_eq!(wrong.environments[0].servers.iter().filter(|s| s.ready).count(), 1, "a wrong server gets nobody");
    assert_eq!(run.phase(&blue), Some(PhaseKind::Active), "and its environment keeps its players");
}

#[test]
fn the_table_survives_a_restart_before_any_server_is_seen_again() {
    let run = living_world(2);
    let again = Realm::load(run.stored.clone());
    assert_eq!(again.table(), run.realm.table());
    let effects = again.resume();
    assert!(matches!(&effects[0], Effect::PublishTable(table) if *table == run.realm.table()));
    assert!(effects.iter().any(|e| matches!(e, Effect::EnsureServers(wanted) if wanted.serve)));
}

#[test]
fn commands_are_answered_with_what_they_are_about() {
    let mut run = living_world(3);
    let start = green_start(1, build("2.0.0", &[1, 2]));
    let reply = run.command(Command::StartRollout(Box::new(start.clone()))).unwrap();
    assert_eq!(reply, Reply::Rollout(start.id.clone()), "not with what the rollout does next");
    let frozen = run.command(Command::Freeze { frozen: true, reason: String::new() }).unwrap();
    assert_eq!(frozen, Reply::Flip(run.realm.rows.routing.generation));
}

#[test]
fn the_checklist_names_what_stops_and_what_to_know() {
    let mut run = living_world(4);
    let verdict = |run: &Run, formats: &[u32]| -> BTreeMap<String, (bool, bool)> {
        let spec = green_start(1, build("2.0.0", formats)).spec;
        run.realm.preflight(run.now, &spec, None).into_iter().map(|c| (c.name.clone(), (c.ok, c.warning))).collect()
    };
    let ok = (true, false);
    let warning = (false, true);
    let stops = (false, false);
    let lines = verdict(&run, &[1, 2]);
    assert_eq!(lines["state_forward"], ok);
    assert_eq!(lines["state_back"], warning, "rolling back will be refused: say so now");
    assert_eq!(lines["snapshot"], warning);
    assert_eq!((lines["capacity"], lines["gateways"], lines["blue"], lines["zones"]), (ok, ok, ok, ok));
    assert_eq!(verdict(&run, &[9])["state_forward"], stops);
    let mut spec = green_start(1, build("two", &[1, 2])).spec;
    spec.build.client_versions = "newer".to_owned();
    let checks = run.realm.preflight(run.now, &spec, None);
    assert_eq!(checks.iter().filter(|c| c.stops()).map(|c| c.name.as_str()).collect::<Vec<_>>(), ["build", "clients"]);

    let snapshot: SnapshotId = "s0".parse().unwrap();
    let take = Command::Snapshot { environment: environment_id("blue-1"), snapshot, if_generation: None };
    run.command(take).unwrap();
    assert!(run.wait(|run| run.realm.rows.snapshots["s0"].is_restorable()));
    assert_eq!(verdict(&run, &[1, 2])["snapshot"], ok);
}

#[test]
fn a_plan_says_who_is_affected_and_what_can_be_undone() {
    let run = living_world(5);
    let before = run.realm.rows.clone();
    let plan = run.realm.plan(run.now, &green_start(1, build("2.0.0", &[1, 2])).spec);
    assert_eq!(run.realm.rows, before);
    assert_eq!(plan.sessions_affected as usize, run.world.population(&environment_id("blue-1")));
    assert_eq!(plan.steps.len(), StepName::ALL.len());
    let undo = |plan: &crate::plan::Plan| plan.steps.iter().find(|s| s.name == StepName::Flip).unwrap().undo.clone();
    assert!(undo(&plan).starts_with("no: the old build cannot read"));
    assert!(undo(&run.realm.plan(run.now, &green_start(1, build("2.0.0", &[2, 1])).spec)).starts_with("yes"));
}

#[test]
fn freezing_pauses_the_rollout_whose_green_it_is() {
    let mut run = living_world(6);
    let mut start = green_start(1, build("2.0.0", &[1, 2]));
    start.spec.drain = Policy::natural();
    let id = start.id.clone();
    run.command(Command::StartRollout(Box::new(start))).unwrap();
    assert!(run.wait(|run| run.realm.rows.rollouts[&id].step(StepName::Drain).unwrap().state == StepState::Running));
    let freeze = Command::Rollback { to: None, choice: Choice::Freeze, if_generation: None, reason: "bug".to_owned() };
    run.command(freeze).unwrap();
    let rollout = &run.realm.rows.rollouts[&id];
    assert_eq!(rollout.state, RolloutState::Paused);
    assert!(rollout.reason.contains("end the freeze and resume"));
    run.command(Command::Freeze { frozen: false, reason: String::new() }).unwrap();
    run.command(Command::ResumeRollout { rollout: id.clone() }).unwrap();
    assert_eq!(run.wait_rollout(&id), Some(RolloutState::Completed));
}

#[test]
fn a_snapshot_of_another_realm_is_cloned_with_a_copy_of_its_database() {
    let facts = SnapshotFacts {
        taken: Timestamp(1),
        digest: "ab".to_owned(),
        verified: true,
        verified_at: Timestamp(1),
        bytes: 1,
        blobs: 1,
        paused_ms: 1,
        problem: String::new(),
    };
    let clone = CloneCommand {
        id: environment_id("copy"),
        snapshot: "s-eu".parse().unwrap(),
        source: "us-1".parse().unwrap(),
        facts: facts.clone(),
        build: build("1.9.0", &[1]),
        fleets: vec![fleet(100)],
    };
    let mut run = Run::new(new_rows(), 7);
    let torn = SnapshotFacts { verified: false, problem: "blob 3 differs".to_owned(), ..facts };
    let refused = run.command(Command::Clone(Box::new(CloneCommand { facts: torn, ..clone.clone() }))).unwrap_err();
    assert_eq!(refused.reason, Reason::SnapshotNotVerified);
    run.world.faults.clone_failures = 1;
    run.command(Command::Clone(Box::new(clone.clone()))).unwrap();
    let copy = environment_id("copy");
    let source = &run.realm.rows.environments[&copy].source;
    assert!(matches!(source, Source::Cloning { restore_database: true, .. }));
    let stage = Command::Stage { environment: copy.clone(), if_generation: None };
    assert_eq!(run.command(stage.clone()).unwrap_err().reason, Reason::NotReady);
    assert!(run.wait_phase(&copy, PhaseKind::Failed));

    let mut run = Run::new(new_rows(), 8);
    run.command(Command::Clone(Box::new(clone))).unwrap();
    assert!(run.wait(|run| matches!(run.realm.rows.environments[&copy].source, Source::Cloned { .. })));
    run.command(stage).unwrap();
    assert!(run.wait_phase(&copy, PhaseKind::Staged));
    let wanted = run.realm.servers_wanted(&run.realm.rows.environments[&copy]);
    assert_eq!(wanted.zones_from, Some("s-eu".parse().unwrap()));
}

#[test]
fn sessions_may_be_moved_only_to_what_accepts() {
    let mut run = with_green(9);
    assert!(run.realm.may_move_to(&environment_id("blue-1")).is_ok());
    assert_eq!(run.realm.may_move_to(&environment_id("green-1")).unwrap_err().reason, Reason::NotActive);
    assert_eq!(run.realm.may_move_to(&environment_id("none")).unwrap_err().reason, Reason::NotFound);
    run.command(create("spare", build("2.0.0", &[1]), None)).unwrap();
    assert_eq!(run.realm.environment(&environment_id("spare")).unwrap().phase.kind(), PhaseKind::Provisioning);
    assert_eq!(run.realm.rows.spec.grace, Duration::from_secs(60));
}
