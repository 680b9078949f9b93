//! Rollouts in an operator's hands: planned, paused, resumed, aborted; and those that cannot be brought to anybody.

use serde_json::Value;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, SETTLERS, assert_kept, ended_in, moved_by};
use tidegate_tests::operator::text;
use tidegate_tests::process::binary;
use tidegate_tests::wait;

const PLAYERS: u32 = 8;

/// A world with players who stay, and build 2.0.0 of a stub with these arguments.
fn world(stub: &str) -> (Cluster, String, Crowd, u64) {
    let (cluster, blue) = Cluster::populated();
    cluster.register_reversible("2.0.0", stub);
    let crowd = Crowd::of(&cluster, "eu-1", PLAYERS, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    (cluster, blue, crowd, gold)
}

fn step<'a>(rollout: &'a Value, name: &str) -> &'a Value {
    let steps = rollout["steps"].as_array().expect("steps");
    steps.iter().find(|s| s["name"] == name).expect("a step of this name")
}

/// Nobody on blue noticed anything.
fn blue_was_never_touched(cluster: &Cluster, crowd: Crowd, blue: &str, gold: u64) {
    assert_eq!(cluster.operator.accepting("eu-1"), blue);
    crowd.plays(20);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(report.moved_by.is_empty(), "{:?}", report.moved_by);
    assert_eq!(ended_in(&report).into_iter().collect::<Vec<_>>(), [(blue.to_owned(), PLAYERS)]);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_plan_says_everything_and_changes_nothing() {
    let (cluster, blue, crowd, gold) = world("");
    let operator = &cluster.operator;
    let look = || {
        let audit = operator.run("audit list --realm eu-1");
        let newest = audit["records"][0]["sequence"].clone();
        (operator.generation("eu-1"), newest, operator.environments("eu-1").len(), operator.run("rollout list"))
    };
    let before = look();
    let plan = wait::until("the players to be counted", || {
        let plan = operator.run("rollout plan eu-1 2.0.0 --deadline 5s");
        (plan["sessions_affected"] == PLAYERS).then_some(plan)
    });
    assert_eq!(plan["blue"], blue, "{plan}");
    let steps = plan["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10, "{plan}");
    assert!(steps.iter().all(|s| s["what"] != "" && s["undo"] != ""), "{plan}");
    assert!(plan["checks"].as_array().unwrap().iter().all(|c| c["ok"] == true || c["warning"] == true), "{plan}");
    operator.refused("rollout plan eu-1 9.9.9", 6, "9.9.9");
    // One that would be refused says so, and by its exit code.
    cluster.register("3.0.0", "--reads 9 --writes 9", "");
    operator.refused("rollout plan eu-1 3.0.0", 4, "would be refused");
    assert_eq!(before, look());
    blue_was_never_touched(&cluster, crowd, &blue, gold);
}

#[test]
fn a_rollout_paused_before_its_flip_waits_and_then_goes_on_to_its_end() {
    let (cluster, blue, crowd, gold) = world("--fault slow-start=2s");
    let operator = &cluster.operator;
    let id = text(&operator.run("rollout start eu-1 2.0.0 --deadline 2s --stable 1s --skip-clone"), "id");
    operator.step(&id, "stage", "RUNNING");
    let paused = operator.run(&format!("rollout pause {id} --reason lunch"));
    assert_eq!(paused["state"], "ROLLOUT_STATE_PAUSED", "{paused}");
    assert!(text(&paused, "reason").contains("lunch"), "{paused}");
    // What runs, runs to its end; the slow servers are slow and no more than that.
    operator.step(&id, "stage", "DONE");
    crowd.plays(40);
    let rollout = operator.run(&format!("rollout get {id}"));
    assert_eq!(
        (&rollout["state"], &step(&rollout, "verify")["state"]),
        (&"ROLLOUT_STATE_PAUSED".into(), &"STEP_STATE_PENDING".into())
    );
    assert_eq!(operator.accepting("eu-1"), blue);

    let _ = operator.run(&format!("rollout resume {id}"));
    let rollout = operator.run(&format!("rollout watch {id}"));
    assert_eq!(rollout["state"], "ROLLOUT_STATE_COMPLETED", "{rollout}");
    assert_eq!(rollout["next_green"], "", "none was asked for: {rollout}");
    let green = text(&rollout, "green");
    assert_eq!(operator.environment(&green)["label"], "LABEL_BLUE");
    operator.refused(&format!("rollout pause {id}"), 4, "ROLLOUT_ENDED");
    operator.refused(&format!("rollout abort {id}"), 4, "ROLLOUT_ENDED");
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(moved_by(&report, "drain"), u64::from(PLAYERS), "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_rollout_aborted_before_its_flip_retires_green_and_leaves_blue_alone() {
    let (cluster, blue, crowd, gold) = world("--fault slow-start=2s");
    let operator = &cluster.operator;
    let before = operator.generation("eu-1");
    let id = text(&operator.run("rollout start eu-1 2.0.0 --deadline 2s"), "id");
    operator.step(&id, "stage", "RUNNING");
    let aborted = operator.run(&format!("rollout abort {id} --reason not-today"));
    assert_eq!(aborted["state"], "ROLLOUT_STATE_FAILED", "{aborted}");
    assert!(text(&aborted, "reason").contains("not-today"), "{aborted}");
    let green = text(&aborted, "green");
    operator.phase(&green, "RETIRED");
    wait::until("green's servers to be gone", || operator.servers(&green).is_empty().then_some(()));
    assert_eq!(operator.generation("eu-1"), before, "the table never changed");
    assert_eq!(operator.environment(&blue)["label"], "LABEL_BLUE");
    let refusal = operator.try_run(&format!("rollout watch {id}")).unwrap_err();
    assert_eq!(refusal.code, 1, "{refusal:?}");
    blue_was_never_touched(&cluster, crowd, &blue, gold);
}

#[test]
fn a_rollout_aborted_in_its_drain_sends_the_players_back() {
    let (cluster, blue, crowd, gold) = world("");
    let operator = &cluster.operator;
    // Without a deadline: they would stay on blue for ever.
    let id = text(&operator.run("rollout start eu-1 2.0.0"), "id");
    operator.step(&id, "drain", "RUNNING");
    let green = operator.accepting("eu-1");
    assert_ne!(green, blue);
    crowd.grow(2 * PLAYERS);
    crowd.settles(&green, PLAYERS);
    let watch = {
        let (operator, line) = (operator.clone(), format!("rollout watch {id}"));
        std::thread::spawn(move || operator.try_run(&line))
    };
    let aborted = operator.run(&format!("rollout abort {id} --players force --reason too-slow"));
    assert!(
        matches!(aborted["state"].as_str(), Some("ROLLOUT_STATE_ABORTING" | "ROLLOUT_STATE_ROLLED_BACK")),
        "{aborted}"
    );
    let refusal = watch.join().unwrap().unwrap_err();
    assert_eq!(refusal.code, 9, "{refusal:?}");
    assert!(refusal.message.contains("too-slow"), "{refusal:?}");
    let rollout = operator.run(&format!("rollout get {id}"));
    assert_eq!(rollout["state"], "ROLLOUT_STATE_ROLLED_BACK", "{rollout}");
    assert_eq!(step(&rollout, "flip")["state"], "STEP_STATE_UNDONE", "{rollout}");
    assert_eq!(
        (operator.accepting("eu-1"), &operator.environment(&blue)["label"]),
        (blue.clone(), &"LABEL_BLUE".into())
    );
    crowd.settles(&blue, 2 * PLAYERS);
    operator.phase(&green, "DRAINED");
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(moved_by(&report, "operator"), u64::from(PLAYERS), "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

/// A rollout whose green cannot get ready fails before the flip, says why and what to do.
fn never_stands(cluster: &Cluster, blue: &str, reasons: &[&str]) {
    let operator = &cluster.operator;
    let line = "rollout start eu-1 2.0.0 --deadline 2s --stage-timeout 4s";
    let id = text(&operator.run(line), "id");
    let rollout = operator.rollout_ends(&id, &["FAILED", "COMPLETED"]);
    assert_eq!(rollout["spec"]["stage_timeout_ms"], 4_000, "{rollout}");
    let reason = text(&rollout, "reason");
    for word in reasons.iter().chain(&["start another rollout", "never touched"]) {
        assert!(reason.contains(word), "{word:?} is not in {reason:?}");
    }
    assert_eq!(step(&rollout, "stage")["state"], "STEP_STATE_FAILED", "{rollout}");
    assert_eq!(step(&rollout, "flip")["state"], "STEP_STATE_SKIPPED", "{rollout}");
    operator.phase(&text(&rollout, "green"), "RETIRED");
    assert_eq!(operator.environment(blue)["phase"], "PHASE_ACTIVE");
}

#[test]
fn a_green_that_never_gets_ready_stops_the_rollout() {
    let (cluster, blue, crowd, gold) = world("--fault never-ready");
    never_stands(&cluster, &blue, &["not ready in time", "is loading"]);
    blue_was_never_touched(&cluster, crowd, &blue, gold);
}

#[test]
fn a_build_whose_program_is_not_there_stops_the_rollout() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::of(&cluster, "eu-1", PLAYERS, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    let program = cluster.folder().join("world-server");
    let program_text = program.display();
    let line = format!("build register 2.0.0 --reads 1,2 --writes 1 -- {program_text} world-server-stub --build 2.0.0");
    cluster.operator.refused(&line, 2, "world-server\" is no file");
    // It is there when the build is registered, and gone when it is needed.
    std::os::unix::fs::symlink(binary(), &program).unwrap();
    let _ = cluster.operator.run(&line);
    std::fs::remove_file(&program).unwrap();
    never_stands(&cluster, &blue, &[&program_text.to_string(), "No such file"]);
    blue_was_never_touched(&cluster, crowd, &blue, gold);
}
