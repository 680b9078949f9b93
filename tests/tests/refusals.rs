//! What must be refused is refused, with a named reason, and nothing is changed by it.

use std::process::Stdio;

use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, assert_kept};
use tidegate_tests::operator::text;
use tidegate_tests::process::command;

/// Starts a rollout of a build that cannot be brought to anybody; blue must not notice.
fn stops_before_the_flip(fault: &str, reason: &str) {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 10, |_| {});
    cluster.register_reversible("2.0.0", &format!("--fault {fault}"));
    let generation = cluster.operator.run("route show eu-1")["generation"].as_u64();
    let id = text(&cluster.operator.run("rollout start eu-1 2.0.0 --deadline 5s"), "id");
    let rollout = cluster.operator.rollout_ends(&id, &["FAILED"]);
    assert!(text(&rollout, "reason").contains(reason), "{fault}: {rollout}");
    assert_eq!(cluster.operator.accepting("eu-1"), blue, "blue still takes players");
    assert!(cluster.operator.run("route show eu-1")["generation"].as_u64() >= generation);
    assert!(!rollout["steps"].as_array().unwrap().iter().any(|s| s["name"] == "flip" && s["started_ms"] != 0));
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(report.moved_by.get("drain"), None);
}

#[test]
fn a_wrong_build_stops_the_rollout() {
    stops_before_the_flip("wrong-build=1.8.0", "1.8.0");
}

#[test]
fn a_wrong_digest_stops_the_rollout() {
    stops_before_the_flip("wrong-digest", "reports assets");
}

#[test]
fn a_failed_smoke_test_stops_the_rollout() {
    stops_before_the_flip("refuse-prepare", "smoke test zone change failed");
}

#[test]
fn commands_out_of_place_are_refused_and_change_nothing() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let before = operator.run("route show eu-1");
    operator.refused(&format!("route flip eu-1 --to {blue}"), 4, "ALREADY_ACCEPTING");
    operator.refused("route flip eu-1 --to env-none", 6, "env-none");
    operator.refused("route flip nowhere --to env-none", 6, "nowhere");
    operator.refused(&format!("env retire {blue}"), 4, "");
    operator.refused(&format!("env relabel {blue} --if-generation 99999"), 7, "");
    operator.refused("route rollback eu-1", 4, "");
    operator.refused("env create --realm eu-1 --build 9.9.9", 6, "9.9.9");
    operator.refused("build register not-a-version -- x", 2, "");
    operator.refused("realm create UPPER", 2, "");
    operator.refused("realm create eu-1", 7, "eu-1");
    operator.refused("rollout get ro-none", 6, "ro-none");
    operator.refused("session get player:nobody", 6, "nobody");
    operator.refused("snapshot get sn-none", 6, "sn-none");
    let after = operator.run("route show eu-1");
    assert_eq!(before["generation"], after["generation"], "nothing changed");
}

#[test]
fn a_draining_environment_is_neither_cloned_nor_retired_with_players_inside() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 20, |config| config.pace = 0.1);
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    let _ = cluster.operator.run(&format!("drain start {blue}"));
    cluster.operator.refused(&format!("env retire {blue}"), 4, "");
    cluster.operator.refused(&format!("env snapshot {blue}"), 4, "");
    cluster.operator.refused(&format!("env relabel {green}"), 4, "");
    let explained = cluster.operator.run(&format!("drain explain {blue}"));
    let holders = explained["holders"].as_array().unwrap();
    assert!(!holders.is_empty() && holders.iter().all(|h| h["will_leave"] != ""), "{explained}");
    let _ = cluster.operator.run(&format!("drain force {blue}"));
    crowd.wait("blue to be empty", |live| live.playing.get(&blue).is_none_or(|n| *n == 0));
    assert_kept(&crowd.leave());
}

#[test]
fn a_repeated_request_has_one_effect_and_one_answer() {
    let (cluster, _) = Cluster::populated();
    let line = "env create --realm eu-1 --build 1.9.0 --request-id the-same";
    let (first, second) = (cluster.operator.run(line), cluster.operator.run(line));
    assert_eq!(first, second);
    assert_eq!(cluster.operator.environments("eu-1").len(), 2, "blue and one more");
}

#[test]
fn bad_configuration_is_one_line_with_the_key_and_the_file_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_line =
        format!("listen = \"{}\"\ndata_dir = {:?}\n", taken.local_addr().unwrap(), folder.path().join("d"));
    for (process, content, word) in [
        ("fleet-manager", "lisen = \"127.0.0.1:0\"\n", "lisen"),
        ("fleet-manager", "listen = \"nowhere\"\n", "listen"),
        ("fleet-manager", &*taken_line, "listen"),
        ("fleet-manager", "listen = \"127.0.0.1:0\"\ndata_dir = \"/proc/none\"\n", "data_dir"),
        ("gateway", "lease_ms = 3\n", "lease_ms"),
        ("gateway", "unknown = 1\n", "unknown"),
        ("gateway", "listen = \"127.0.0.1:0\"\npki_dir = \"/nonexistent\"\n", "pki_dir"),
    ] {
        std::fs::write(&file, content).unwrap();
        let output =
            command().args([process, "--config"]).arg(&file).stdin(Stdio::null()).output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{content}: {stderr}");
        let said: Vec<&str> = stderr.lines().filter(|l| l.starts_with("tidegate: ")).collect();
        assert_eq!(said.len(), 1, "{content}: {stderr}");
        assert!(said[0].contains(word), "{content}: {stderr}");
    }
}
