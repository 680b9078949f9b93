//! The main job, end to end, with real processes.

use tidegate_tests::cluster::{Cluster, FLEETS};
use tidegate_tests::crowd::{Crowd, assert_kept};
use tidegate_tests::operator::text;
use tidegate_tests::process::command;
use tidegate_tests::wait;

#[test]
fn the_demo_keeps_every_rule_and_says_so_in_json() {
    let output = command().args(["demo", "--players", "120", "--deadline", "8s", "-o", "json"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for zero in [
        "misrouted_after_flip",
        "moved_without_cause",
        "lost",
        "double_homed",
        "frames_lost",
        "frames_duplicated",
        "frames_reordered",
    ] {
        assert_eq!(report[zero], 0, "{zero}: {report}");
    }
    assert_eq!(report["gold_before"], report["gold_after"], "{report}");
    for positive in
        ["players", "sessions_started", "sessions_at_flip", "flip_confirm_ms", "frames_sent", "drain_s", "gold_before"]
    {
        assert!(report[positive].as_f64().is_some_and(|n| n > 0.0), "{positive}: {report}");
    }
    let left = report["left_blue_by"].as_object().unwrap();
    for way in ["logout", "zone", "instance", "respawn", "drain", "operator"] {
        assert!(left.contains_key(way), "{way}: {report}");
    }
    let everyone: u64 = left.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(Some(everyone), report["sessions_at_flip"].as_u64(), "everyone who was on blue left it: {report}");
    assert!(report["handovers"]["completed"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["snapshot"]["verified"], true, "{report}");
    let steps: Vec<&str> =
        report["rollout"]["steps"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    let names = [
        "preflight",
        "stage",
        "verify",
        "flip",
        "drain",
        "verify_stable",
        "relabel",
        "snapshot",
        "clone",
        "stage_next",
    ];
    assert_eq!(steps, names);
    let labels: Vec<(&str, &str)> = report["environments"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| Some((e["label"].as_str()?, e["build"].as_str()?)))
        .collect();
    assert!(labels.contains(&("blue", "2.0.0")), "green is the new blue: {report}");
    assert!(labels.contains(&("green", "2.0.0")), "the next green is there: {report}");
}

#[test]
fn a_second_rollout_may_start_before_the_first_drain_ends() {
    let (cluster, first) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 60, |config| config.pace = 20.0);
    cluster.register_reversible("2.0.0", "");
    cluster.register_reversible("2.1.0", "");
    let start = |build: &str, deadline: &str| {
        let line = format!("rollout start eu-1 {build} --deadline {deadline} --stable 1s --skip-clone");
        text(&cluster.operator.run(&line), "id")
    };
    let one = start("2.0.0", "40s");
    wait::until("the first flip", || (cluster.operator.accepting("eu-1") != first).then_some(()));
    let second = cluster.operator.accepting("eu-1");
    crowd.wait("players on the second environment", |live| live.playing.get(&second).is_some_and(|n| *n > 0));
    let two = start("2.1.0", "12s");
    wait::until("three builds live", || {
        let live = cluster
            .operator
            .environments("eu-1")
            .iter()
            .filter(|e| matches!(e["phase"].as_str(), Some("PHASE_ACTIVE" | "PHASE_DRAINING")))
            .count();
        (live >= 3).then_some(())
    });
    let _ = cluster.operator.rollout_ends(&two, &["COMPLETED"]);
    let _ = cluster.operator.rollout_ends(&one, &["COMPLETED", "ROLLED_BACK"]);
    let report = crowd.leave();
    assert_kept(&report);
    let draining = cluster.operator.environments("eu-1").iter().filter(|e| e["phase"] == "PHASE_DRAINING").count();
    assert_eq!(draining, 0, "both drains converged");
    assert_eq!(cluster.error_lines(), Vec::<String>::new());
}

#[test]
fn players_of_one_realm_never_reach_another() {
    let (cluster, eu) = Cluster::populated();
    cluster.realm("us-1");
    let us = cluster.environment("us-1", "1.9.0", "--label blue", FLEETS);
    cluster.flip("us-1", &us);
    let europeans = Crowd::enter(&cluster, "eu-1", 30, |_| {});
    let americans = Crowd::enter(&cluster, "us-1", 30, |_| {});
    europeans.wait("europeans at home", |live| live.playing.keys().all(|env| *env == eu));
    americans.wait("americans at home", |live| live.playing.keys().all(|env| *env == us));
    for (realm, own) in [("eu-1", &eu), ("us-1", &us)] {
        let sessions = cluster.operator.run(&format!("session list --realm {realm}"));
        for session in sessions["sessions"].as_array().unwrap() {
            assert_eq!(session["realm"], realm);
            let environment = session["environment_id"].as_str().unwrap();
            assert!(environment.is_empty() || environment == own, "{session}");
        }
    }
    for report in [europeans.leave(), americans.leave()] {
        assert_kept(&report);
    }
    // A player of one realm cannot be moved into the other's environment.
    let crowd = Crowd::enter(&cluster, "eu-1", 5, |_| {});
    let sessions = cluster.operator.run("session list --realm eu-1");
    let id = text(&sessions["sessions"][0], "session_id");
    let refusal = cluster.operator.try_run(&format!("session move {id} --to {us}")).unwrap_err();
    assert!(matches!(refusal.code, 2 | 4 | 6), "{refusal:?}");
    assert_kept(&crowd.leave());
}
