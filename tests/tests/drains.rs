//! Drains with real players: warned, explained, extended for the busy, and ended in each of the ways there are.

use serde_json::Value;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, RAIDERS, SETTLERS, assert_kept, ended_in, moved_by};
use tidegate_tests::wait;

/// Players on blue, and new sessions go to green: blue drains by attrition, and nobody of these leaves by itself.
fn draining(players: u32, profiles: &str) -> (Cluster, String, String, Crowd, u64) {
    let (cluster, blue) = Cluster::populated();
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    let crowd = Crowd::of(&cluster, "eu-1", players, profiles);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.flip("eu-1", &green);
    (cluster, blue, green, crowd, gold)
}

#[test]
fn the_last_ones_are_warned_explained_and_then_moved() {
    let (cluster, blue, green, crowd, gold) = draining(8, SETTLERS);
    let operator = &cluster.operator;
    // As an operator would type it: the text has blanks.
    let started = operator
        .try_words(&[
            "drain",
            "start",
            &blue,
            "--deadline",
            "4s",
            "--notices",
            "3s,2s",
            "--notice-text",
            "The tide turns in {remaining}.",
        ])
        .unwrap();
    assert_eq!(started["state"], "DRAIN_STATE_RUNNING", "{started}");
    operator.refused(&format!("drain start {blue} --deadline 9s"), 4, "DRAIN_RUNNING");
    operator.refused(&format!("drain start {green}"), 4, "ALREADY_ACCEPTING");
    let explained = wait::until("every holder to be explained", || {
        let explained = operator.run(&format!("drain explain {blue}"));
        (explained["holders"].as_array()?.len() == 8).then_some(explained)
    });
    for holder in explained["holders"].as_array().unwrap() {
        let how = holder["will_leave"].as_str().unwrap();
        assert!(how.starts_with("at its next boundary, or moved in "), "{how}");
        assert_eq!(holder["zone_kind"], "shared", "{holder}");
    }
    crowd.settles(&green, 8);
    let drain = operator.drains(&blue, "blue to be empty", |d| d["state"] == "DRAIN_STATE_COMPLETED");
    assert_eq!(
        (&drain["initial"], &drain["departed"]["drain"], &drain["notices_sent"]),
        (&8.into(), &8.into(), &2.into())
    );
    assert_eq!(operator.run(&format!("drain explain {blue}"))["holders"].as_array().map(Vec::len), Some(0));
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(report.notices, 16, "two warnings each");
    assert_eq!(moved_by(&report, "drain"), 8);
    let deadline = drain["deadline_at_ms"].as_i64().unwrap();
    assert!(report.records.iter().flat_map(|r| &r.moves).all(|m| m.at.0 >= deadline), "nobody is moved before");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn who_is_busy_in_a_raid_has_longer() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    let crowd = Crowd::of(&cluster, "eu-1", 10, RAIDERS);
    let gold = cluster.audit("eu-1").gold_total;
    wait::until("a few to be busy in a raid", || {
        let sessions = operator.run(&format!("session list --env {blue}"));
        let busy = |s: &&Value| s["zone_kind"] == "raid" && s["busy"] == true;
        (sessions["sessions"].as_array()?.iter().filter(busy).count() >= 3).then_some(())
    });
    cluster.flip("eu-1", &green);
    let _ = operator.run(&format!("drain start {blue} --deadline 1s --extend raid=10m"));
    wait::until("only the busy ones to be left", || {
        let drain = operator.drain(&blue);
        let explained = operator.run(&format!("drain explain {blue}"));
        let holders = explained["holders"].as_array()?;
        let longer = |h: &Value| {
            h["busy"] == true
                && h["zone_kind"] == "raid"
                && h["will_leave"].as_str().is_some_and(|w| w.contains("it has longer"))
        };
        let some_left = drain["state"] == "DRAIN_STATE_FORCING" && holders.len() < 10;
        (some_left && !holders.is_empty() && holders.iter().all(longer)).then_some(())
    });
    crowd.plays(20);
    let _ = operator.run(&format!("drain force {blue} --ignore-extensions"));
    crowd.settles(&green, 10);
    operator.phase(&blue, "DRAINED");
    let report = crowd.leave();
    assert_kept(&report);
    let (by_drain, by_force) = (moved_by(&report, "drain"), moved_by(&report, "operator"));
    assert!(by_drain > 0 && by_force > 0 && by_drain + by_force <= 10, "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn at_the_deadline_sessions_can_be_ended() {
    let (cluster, blue, green, crowd, gold) = draining(6, SETTLERS);
    let operator = &cluster.operator;
    let _ = operator.run(&format!("drain start {blue} --deadline 1s --at-deadline kick"));
    let drain = operator.drains(&blue, "blue to be empty", |d| d["state"] == "DRAIN_STATE_COMPLETED");
    assert_eq!(drain["departed"]["kicked"], 6, "{drain}");
    // They log in again, as they were asked to, and find themselves on green.
    crowd.settles(&green, 6);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(report.ended_by.get("kicked"), Some(&6), "{:?}", report.ended_by);
    assert!(report.moved_by.is_empty(), "{:?}", report.moved_by);
    assert_eq!(ended_in(&report)[&green], 6);
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn at_the_deadline_players_can_be_let_stay() {
    let (cluster, blue, green, crowd, gold) = draining(6, SETTLERS);
    let operator = &cluster.operator;
    let started = operator.run(&format!("drain start {blue} --deadline 1s --at-deadline stay"));
    let deadline = started["deadline_at_ms"].as_i64().unwrap();
    wait::until("the deadline to pass", || (tidegate_tests::crowd::now().0 > deadline).then_some(()));
    crowd.plays(60);
    let drain = operator.drain(&blue);
    assert_eq!((&drain["state"], &drain["remaining"]), (&"DRAIN_STATE_RUNNING".into(), &6.into()), "{drain}");
    let explained = operator.run(&format!("drain explain {blue}"));
    assert!(
        explained["holders"]
            .as_array()
            .unwrap()
            .iter()
            .all(|h| { h["will_leave"].as_str().is_some_and(|how| how.ends_with("stays as long as it likes")) }),
        "{explained}"
    );
    // Until somebody means it.
    let _ = operator.run(&format!("drain force {blue}"));
    crowd.settles(&green, 6);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(moved_by(&report, "operator"), 6, "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}
