//! Several gateways and a real Redis: whoever dies or is stopped, players stay where they are.

use std::time::Duration;

use rustix::process::Signal;
use tidegate_tests::cluster::{Cluster, Plan};
use tidegate_tests::crowd::{Crowd, DELVERS, SETTLERS, assert_kept, moved_by};
use tidegate_tests::process::{signal, signal_if_there};
use tidegate_tests::visitor::Visitors;
use tidegate_tests::wait;

fn three() -> (Cluster, String) {
    Cluster::populated_as(Plan::gateways(3))
}

/// The gateway with the most sessions, by its place in the cluster.
fn busiest(cluster: &Cluster) -> usize {
    wait::until("a gateway with sessions", || {
        let gateways = cluster.operator.run("route gateways")["gateways"].as_array()?.clone();
        let most = gateways.iter().max_by_key(|g| g["sessions"].as_u64())?;
        most["sessions"].as_u64().filter(|sessions| *sessions > 0)?;
        cluster.gateways.iter().position(|gateway| most["id"] == *gateway.id)
    })
}

fn all_play(crowd: &Crowd) {
    crowd.wait("everybody to be back", |live| live.reconnecting == 0 && live.holding == 0 && live.connecting == 0);
    crowd.plays(60);
}

#[test]
fn players_of_a_killed_gateway_resume_at_their_home_through_another() {
    let (mut cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let victim = busiest(&cluster);
    cluster.gateways[victim].kill();
    crowd.wait("its players to notice", |live| live.reconnecting > 0);
    all_play(&crowd);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(report.resumed > 0, "nobody came back: {report:?}");
    assert_eq!((report.gaps, report.moved_while_away, moved_by(&report, "crash")), (0, 0, 0), "{report:?}");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_gateway_killed_under_hand_overs_loses_nobody() {
    let (mut cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 12, DELVERS);
    crowd.wait("hand-overs", |live| live.moved > 20);
    let victim = busiest(&cluster);
    cluster.gateways[victim].kill();
    crowd.wait("its players to notice", |live| live.reconnecting > 0);
    all_play(&crowd);
    cluster.gateways[victim].restart();
    all_play(&crowd);
    assert_kept(&crowd.leave());
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_gateway_that_stops_hands_its_players_over_before_it_ends() {
    let (mut cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let victim = busiest(&cluster);
    assert!(cluster.gateways[victim].stop(Duration::from_secs(40)), "it ended by itself");
    all_play(&crowd);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!((report.gaps, report.moved_while_away), (0, 0), "{report:?}");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn the_newest_login_of_a_character_wins_whichever_gateway_it_comes_to() {
    let (cluster, _) = three();
    let visitors = Visitors::new(&cluster, "eu-1");
    let mut first = visitors.enter(&cluster.gateways[0], "ann");
    let mut second = visitors.enter(&cluster.gateways[1], "ann");
    first.is_replaced();
    second.is_answered();
    second.leave();
    let gold = cluster.audit("eu-1").gold_total;
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_second_login_can_be_refused_instead() {
    let plan = Plan { gateway_config: "second_login = \"refuse\"\n".to_owned(), ..Plan::gateways(2) };
    let (cluster, _) = Cluster::populated_as(plan);
    let visitors = Visitors::new(&cluster, "eu-1");
    let mut first = visitors.enter(&cluster.gateways[0], "ann");
    visitors.is_refused(&cluster.gateways[1], "ann");
    visitors.is_refused(&cluster.gateways[0], "ann");
    first.is_answered();
    first.leave();
    visitors.enter(&cluster.gateways[1], "ann").leave();
}

#[test]
fn play_goes_on_without_redis_and_logins_wait_for_it() {
    let (mut cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 10, DELVERS);
    cluster.redis.as_mut().unwrap().kill();
    let moved = crowd.control.live().borrow().moved;
    crowd.plays(100);
    crowd.wait("hand-overs without a directory", |live| live.moved > moved + 10);
    crowd.control.set_population(12);
    crowd.wait("new players to wait", |live| live.holding > 0 || live.connecting > 0);
    crowd.plays(60);
    assert_eq!(crowd.control.population(), 10, "nobody new comes in while nobody knows where they live");
    cluster.redis.as_mut().unwrap().restart();
    crowd.wait("new players to come in", |live| live.population == 12);
    all_play(&crowd);
    assert_kept(&crowd.leave());
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_directory_that_is_wiped_is_filled_again_by_the_gateways() {
    let (cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let redis = cluster.redis.as_ref().unwrap();
    let entries = || redis.command(&["KEYS", "*"]).map_or(0, |keys| keys.lines().filter(|k| !k.is_empty()).count());
    wait::until("an entry for everybody", || (entries() >= 12).then_some(()));
    redis.wipe();
    wait::until("everybody to be known again", || (entries() >= 12).then_some(()));
    all_play(&crowd);
    assert_kept(&crowd.leave());
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn players_do_not_notice_a_redis_that_stands_still() {
    let (mut cluster, _) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 10, DELVERS);
    cluster.redis.as_mut().unwrap().pause();
    let moved = crowd.control.live().borrow().moved;
    crowd.wait("hand-overs without a directory", |live| live.moved > moved + 10);
    cluster.redis.as_mut().unwrap().resume();
    all_play(&crowd);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(report.resumed, 0, "nobody was disconnected: {report:?}");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_second_gateway_with_a_directory_of_its_own_is_refused_with_the_setting_to_change() {
    let cluster = Cluster::of(Plan { gateways: 2, ..Plan::default() });
    wait::until("the refusal", || {
        let log = std::fs::read_to_string(cluster.gateways[1].log()).ok()?;
        log.lines().any(|line| line.contains("directory") && line.contains("redis://")).then_some(())
    });
    let connected = |id: &str| {
        let gateways = cluster.operator.run("route gateways")["gateways"].as_array().cloned().unwrap_or_default();
        gateways.iter().any(|gateway| gateway["id"] == id && gateway["connected"] == true)
    };
    assert!(connected("gw-1") && !connected("gw-2"));
}

#[test]
fn a_server_that_wakes_up_after_its_lease_emits_and_writes_nothing() {
    let (mut cluster, blue) = three();
    let gold = cluster.audit("eu-1").gold_total;
    let crowd = Crowd::of(&cluster, "eu-1", 12, SETTLERS);
    let pid = wait::until("a server with players", || {
        let servers = cluster.operator.servers(&blue);
        let most = servers.iter().max_by_key(|s| s["players"].as_u64())?;
        most["players"].as_u64().filter(|players| *players > 0)?;
        u32::try_from(most["pid"].as_u64()?).ok()
    });
    // Nobody can end it: the leases alone must do.
    let manager = cluster.manager.as_ref().unwrap().pid();
    signal(manager, Signal::STOP);
    signal(pid, Signal::STOP);
    crowd.wait("its players to be restored elsewhere", |live| live.moved > 0);
    signal_if_there(pid, Signal::CONT);
    all_play(&crowd);
    signal_if_there(manager, Signal::CONT);
    let report = crowd.leave();
    assert_kept(&report);
    assert!(moved_by(&report, "crash") > 0, "{:?}", report.moved_by);
    cluster.manager.as_mut().unwrap().kill();
    cluster.restart_manager();
    cluster.assert_sound("eu-1", gold);
}
