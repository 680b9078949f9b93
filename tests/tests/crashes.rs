//! kill -9 of every kind of process, and hand-overs that fail at each of their points. Judged by the players' ledgers.

use rustix::process::Signal;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, DELVERS, assert_kept};
use tidegate_tests::operator::{Operator, text};
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

/// Lets a crowd that is in hand-overs all the time come to a build with a fault, waits until the fault has struck, and
/// looks at everybody's ledgers. The fault comes after what the smoke test asks of a server, which would rightly stop it.
fn rollout_with(fault: &str, has_struck: impl Fn(&Operator, &str) -> bool) {
    let (cluster, _) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 20, DELVERS);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", &format!("--fault {fault}"));
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    wait::until(&format!("{fault} to strike"), || has_struck(operator, &green).then_some(()));
    crowd.plays(60);
    crowd.wait("nobody on hold", |live| live.holding == 0);
    let report = crowd.leave();
    assert_kept(&report);
    cluster.assert_sound("eu-1", gold);
}

/// Some server of this environment died and was started again.
fn has_died(operator: &Operator, environment: &str) -> bool {
    operator.servers(environment).iter().any(|s| s["restarts"].as_u64().is_some_and(|n| n > 0))
}

#[test]
fn a_target_that_refuses_leaves_players_where_they_are() {
    rollout_with("refuse-prepare=4:4", |operator, _| {
        let gateway = operator.gateway();
        let count = |field: &str| gateway[field].as_u64().unwrap_or(0);
        count("handovers_kept_in_place") >= 4 && count("handovers_completed") > 8
    });
}

#[test]
fn a_target_that_dies_in_prepare_leaves_players_where_they_are() {
    rollout_with("die-in=prepare:4", has_died);
}

#[test]
fn a_target_that_dies_in_activate_gives_the_players_back_from_their_last_save() {
    rollout_with("die-in=activate:4", has_died);
}

#[test]
fn a_source_that_dies_in_freeze_gives_the_players_back_from_their_last_save() {
    rollout_with("die-in=freeze:4", has_died);
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

#[test]
fn a_gateway_and_a_manager_that_die_together_in_a_drain_cost_nobody_their_place() {
    let (mut cluster, first) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 40, |_| {});
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", "");
    let id = text(&cluster.operator.run("rollout start eu-1 2.0.0 --deadline 12s --stable 1s"), "id");
    wait::until("the flip", || (cluster.operator.accepting("eu-1") != first).then_some(()));
    cluster.kill_gateway();
    cluster.kill_manager();
    cluster.restart_manager();
    cluster.restart_gateway();
    let _ = cluster.operator.rollout_ends(&id, &["COMPLETED"]);
    let report = crowd.leave();
    // Frames that were on their way through a dying gateway are not promised; everything else is.
    assert_eq!((report.lost, report.double_homed, report.moved_without_cause), (0, 0, 0), "{:?}", report.broken());
    assert!(report.resumed > 0, "nobody came back: {report:?}");
    let audit = cluster.audit("eu-1");
    assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, gold), "{audit:?}");
}
