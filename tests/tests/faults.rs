//! World servers that hang, wake up late, or lie: nobody gets a second home, nobody is left behind.

use rustix::process::Signal;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, SETTLERS, assert_kept, ended_in, moved_by};
use tidegate_tests::process::{signal, signal_if_there};
use tidegate_tests::wait;

/// The server with the most players: its id and process.
fn busiest(cluster: &Cluster, environment: &str) -> (String, u32) {
    wait::until("a server with players", || {
        let servers = cluster.operator.servers(environment);
        let most = servers.iter().filter(|s| s["players"].as_u64() > Some(0)).max_by_key(|s| s["players"].as_u64())?;
        Some((most["id"].as_str()?.to_owned(), u32::try_from(most["pid"].as_u64()?).ok()?))
    })
}

#[test]
fn players_of_a_server_that_hangs_come_back_elsewhere_and_it_is_replaced() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    let (id, pid) = busiest(&cluster, &blue);
    signal(pid, Signal::STOP);
    wait::until("its replacement", || {
        let servers = cluster.operator.servers(&blue);
        let it = servers.iter().find(|s| s["id"] == *id)?;
        (it["state"] == "SERVER_STATE_READY" && it["pid"] != pid && it["restarts"] == 1).then_some(())
    });
    crowd.settles(&blue, 12);
    crowd.plays(60);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(moved_by(&report, "crash") > 0, "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_server_that_wakes_up_after_its_lease_has_nobody_any_more() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    let (_, pid) = busiest(&cluster, &blue);
    signal(pid, Signal::STOP);
    // Their lease is over, and they have been given another home: now the old one goes on where it stopped.
    crowd.wait("its players to be restored", |live| live.moved > 0);
    signal_if_there(pid, Signal::CONT);
    crowd.settles(&blue, 12);
    crowd.plays(60);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(moved_by(&report, "crash") > 0, "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn players_come_back_from_a_build_that_hangs_again_and_again() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 6, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    // Long enough to pass the smoke test and to be flipped to.
    cluster.register_reversible("2.0.0", "--fault hang=8s");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    crowd.grow(12);
    wait::until("a server of green to hang and be replaced", || {
        operator.servers(&green).iter().any(|s| s["restarts"].as_u64() > Some(0)).then_some(())
    });
    let _ = operator.run("route rollback eu-1 --players force");
    crowd.settles(&blue, 12);
    crowd.plays(60);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(ended_in(&report).into_iter().collect::<Vec<_>>(), [(blue, 12)], "all are on blue");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_server_that_claims_players_keeps_its_environment_occupied() {
    let (cluster, blue) = Cluster::populated_by("--fault lie-population=7");
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 6, SETTLERS);
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    let _ = operator.run(&format!("drain force {blue}"));
    crowd.settles(&green, 6);
    let drain = operator.drains(&blue, "no session to be left", |d| d["remaining"] == 0);
    crowd.plays(30);
    let later = operator.drain(&blue);
    for drain in [drain, later] {
        assert_eq!(drain["state"], "DRAIN_STATE_FORCING", "{drain}");
        let waiting = drain["waiting_for"].to_string();
        assert!(waiting.contains("says it holds 7 players"), "{drain}");
    }
    operator.refused(&format!("env retire {blue}"), 4, "OCCUPIED");
    assert_eq!(operator.environment(&blue)["phase"], "PHASE_DRAINING");
    assert_kept(&crowd.leave());
}

#[test]
fn a_server_that_denies_its_players_does_not_end_their_drain() {
    let (cluster, blue) = Cluster::populated_by("--fault lie-population=-1000");
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 6, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    let _ = operator.run(&format!("drain start {blue}"));
    crowd.plays(100);
    assert!(operator.servers(&blue).iter().all(|s| s["players"] == 0), "they deny everybody");
    let drain = operator.drain(&blue);
    assert_eq!((&drain["state"], &drain["remaining"]), (&"DRAIN_STATE_RUNNING".into(), &6.into()), "{drain}");
    operator.refused(&format!("env retire {blue}"), 4, "OCCUPIED");
    crowd.settles(&blue, 6);
    let _ = operator.run(&format!("drain force {blue}"));
    crowd.settles(&green, 6);
    operator.phase(&blue, "DRAINED");
    assert_kept(&crowd.leave());
    cluster.assert_sound("eu-1", gold);
}
