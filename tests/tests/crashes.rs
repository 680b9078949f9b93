//! kill -9 of every kind of process, and hand-overs that fail at each of their points. Judged by the players' ledgers.

use rustix::process::Signal;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, assert_kept};
use tidegate_tests::operator::text;
use tidegate_tests::process::signal;
use tidegate_tests::wait;

#[test]
fn a_manager_killed_in_every_step_of_a_rollout_changes_nothing() {
    let (mut cluster, blue) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 40, |_| {});
    cluster.register_reversible("2.0.0", "");
    let id = text(&cluster.operator.run("rollout start eu-1 2.0.0 --deadline 6s --notices 3s --stable 1s"), "id");
    let mut killed_in = Vec::new();
    loop {
        let rollout = cluster.operator.run(&format!("rollout get {id}"));
        if rollout["state"] != "ROLLOUT_STATE_RUNNING" {
            assert_eq!(rollout["state"], "ROLLOUT_STATE_COMPLETED", "{rollout}");
            break;
        }
        let running = rollout["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["state"] == "STEP_STATE_RUNNING")
            .map(|s| text(s, "name"));
        if let Some(step) = running
            && !killed_in.contains(&step)
        {
            cluster.kill_manager();
            cluster.restart_manager();
            killed_in.push(step);
        }
    }
    assert!(killed_in.len() >= 4, "killed only in {killed_in:?}");
    let environments = cluster.operator.environments("eu-1");
    let of = |label: &str| environments.iter().filter(|e| e["label"] == label).count();
    assert_eq!((of("LABEL_BLUE"), of("LABEL_GREEN")), (1, 1), "one blue, one next green: {environments:?}");
    assert_ne!(cluster.operator.accepting("eu-1"), blue);
    assert_kept(&crowd.leave());
    let audit = cluster.audit("eu-1");
    assert_eq!((audit.overlaps, audit.duplicate_epochs), (0, 0), "{audit:?}");
}

#[test]
fn players_play_and_log_in_while_the_manager_is_gone() {
    let (mut cluster, _) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 20, |_| {});
    cluster.kill_manager();
    crowd.control.set_population(40);
    crowd.wait("logins without a manager", |live| live.population >= 38);
    cluster.restart_manager();
    wait::until("all sessions reported again", || {
        let list = cluster.operator.try_run("session list --realm eu-1").ok()?;
        let unknown = list["unknown_gateways"].as_array()?.len();
        (unknown == 0 && list["total"].as_u64()? >= 35).then_some(())
    });
    assert_kept(&crowd.leave());
}

#[test]
fn a_world_server_that_dies_sends_nobody_home() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 60, |config| config.pace = 10.0);
    let gold = cluster.audit("eu-1").gold_total;
    let servers = cluster.operator.servers(&blue);
    let victim = servers.iter().max_by_key(|s| s["players"].as_u64()).expect("a server with players");
    let pid = u32::try_from(victim["pid"].as_u64().unwrap()).unwrap();
    signal(pid, Signal::KILL);
    wait::until("the replacement", || {
        let now = cluster.operator.servers(&blue);
        let it = now.iter().find(|s| s["id"] == victim["id"])?;
        (it["state"] == "SERVER_STATE_READY" && it["pid"] != victim["pid"]).then_some(())
    });
    crowd.wait("everybody to be back in play", |live| live.holding == 0 && live.population >= 50);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(report.moved_by.get("crash").copied().unwrap_or(0) > 0, "somebody was restored: {:?}", report.moved_by);
    let audit = cluster.audit("eu-1");
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, gold), "{audit:?}");
}

/// Rolls a build with a fault out to a small crowd and looks at everybody's ledgers.
fn rollout_with(fault: &str) {
    let (cluster, _) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 30, |_| {});
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", &format!("--fault {fault}"));
    // By hand, because the smoke test would rightly stop a rollout of such a build.
    let green = text(&cluster.operator.run("env create --realm eu-1 --build 2.0.0"), "id");
    let _ = cluster.operator.run(&format!("env stage {green} --timeout 60s"));
    match cluster.operator.try_run(&format!("env verify {green} --timeout 60s")) {
        Ok(_) => {
            cluster.flip("eu-1", &green);
            crowd.wait("players on green", |live| live.playing.get(&green).is_some_and(|n| *n >= 3));
        }
        Err(refusal) => assert!(refusal.message.contains("failed"), "{refusal:?}"),
    }
    crowd.wait("nobody on hold", |live| live.holding == 0);
    let report = crowd.leave();
    assert_kept(&report);
    let audit = cluster.audit("eu-1");
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, gold), "{fault}: {audit:?}");
}

#[test]
fn a_target_that_refuses_leaves_players_where_they_are() {
    rollout_with("refuse-prepare=20");
}

#[test]
fn a_target_that_dies_in_prepare_leaves_players_where_they_are() {
    rollout_with("die-in=prepare:4");
}

#[test]
fn a_target_that_dies_in_activate_gives_the_players_back_from_their_last_save() {
    rollout_with("die-in=activate:4");
}

#[test]
fn a_source_that_dies_in_freeze_gives_the_players_back_from_their_last_save() {
    rollout_with("die-in=freeze:4");
}

#[test]
fn a_gateway_that_dies_finds_its_players_where_they_were() {
    let (mut cluster, _) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 20, |config| config.pace = 1.0);
    cluster.kill_gateway();
    cluster.restart_gateway();
    crowd.wait("the players to be back", |live| live.population >= 19 && live.reconnecting == 0 && live.holding == 0);
    let report = crowd.leave();
    assert_eq!((report.double_homed, report.moved_without_cause), (0, 0), "{:?}", report.broken());
    let audit = cluster.audit("eu-1");
    assert_eq!((audit.overlaps, audit.duplicate_epochs), (0, 0), "{audit:?}");
}
