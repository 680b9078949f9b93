//! An operator and single sessions: move, notify, kick; and fleets that grow and shrink under their players.

use serde_json::Value;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, SETTLERS, assert_kept, ended_in, moved_by};
use tidegate_tests::operator::{Operator, text};
use tidegate_tests::wait;

/// The sessions of an environment, once so many are known.
fn sessions(operator: &Operator, environment: &str, count: usize) -> Vec<Value> {
    wait::until(&format!("{count} sessions in {environment}"), || {
        let list = operator.run(&format!("session list --env {environment}"));
        list["sessions"].as_array().filter(|s| s.len() == count).cloned()
    })
}

#[test]
fn an_operator_moves_notifies_and_kicks() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 6, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    let on_blue = sessions(operator, &blue, 6);
    let id = text(&on_blue[0], "session_id");
    // Only the accepting environment may get somebody new.
    operator.refused(&format!("session move {id} --to {green}"), 4, "NOT_ACTIVE");
    operator.refused("session move 00000000-0000-0000-0000-000000000000 --to nowhere", 6, "00000000");
    cluster.flip("eu-1", &green);

    let moved = operator.run(&format!("session move {id} --to {green} --reason vip --request-id the-move"));
    assert_eq!(moved["outcome"], "done", "{moved}");
    let again = operator.run(&format!("session move {id} --to {green} --reason vip --request-id the-move"));
    assert_eq!(moved, again, "asked again, it is done once");
    let row = operator.run(&format!("session get {id}"));
    assert_eq!(
        (&row["environment_id"], &row["pin"]["cause"]),
        (&green.clone().into(), &"CAUSE_OPERATOR".into()),
        "{row}"
    );
    let lines = operator.run(&format!("session explain {id}"))["lines"].to_string();
    assert!(lines.contains(&green) && lines.contains("operator"), "{lines}");

    // To exactly one server: the other one of the open world.
    let home = text(&row, "server_id");
    let servers = operator.servers(&green);
    let other = servers.iter().find(|s| s["fleet"] == "open" && s["id"] != *home).unwrap();
    let moved = operator.run(&format!("session move {id} --to {green} --server {}", text(other, "id")));
    assert_eq!(moved["outcome"], "done", "{moved}");
    assert_eq!(operator.run(&format!("session get {id}"))["server_id"], other["id"]);

    let sent = operator.try_words(&["session", "notify", "The tide is coming in.", "--env", &blue]).unwrap();
    assert_eq!(sent["sessions"], 5, "{sent}");

    let player = text(&on_blue[1], "player");
    let kicked = operator.run(&format!("session kick player:{player} --reason behave"));
    assert_eq!(kicked["outcome"], "done", "{kicked}");
    // It comes again, and is new: to green.
    crowd.wait("two players on green", |live| live.playing.get(&green) == Some(&2) && live.population == 6);
    let audit = operator.run("audit list --realm eu-1")["records"].to_string();
    for what in ["session.move", "session.notify", "session.kick", "vip", "behave"] {
        assert!(audit.contains(what), "{what}: {audit}");
    }
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(report.notices, 5, "one each for those on blue");
    assert_eq!(report.ended_by.get("kicked"), Some(&1), "{:?}", report.ended_by);
    assert_eq!(moved_by(&report, "operator"), 2, "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}

/// Servers of the open world: how many are ready, and those that are ready to take somebody.
fn open(operator: &Operator, environment: &str) -> (usize, Vec<String>) {
    let ready = |s: &&Value| s["fleet"] == "open" && s["state"] == "SERVER_STATE_READY";
    let servers = operator.servers(environment);
    let table = operator.run("route show eu-1");
    let routed =
        table["environments"].as_array().unwrap().iter().find(|e| e["environment_id"] == *environment).unwrap();
    let takes =
        |id: &Value| routed["servers"].as_array().unwrap().iter().any(|s| s["server_id"] == *id && s["ready"] == true);
    let open: Vec<&Value> = servers.iter().filter(ready).collect();
    (open.len(), open.iter().filter(|s| takes(&s["id"])).map(|s| text(s, "id")).collect())
}

#[test]
fn a_fleet_grows_at_once_and_shrinks_without_sending_anybody_home() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 10, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    operator.refused(&format!("fleet scale {blue} opem 3"), 6, "opem");
    operator.refused(&format!("fleet scale {blue} open 0"), 2, "");
    let (_, before) = open(operator, &blue);
    assert_eq!(before.len(), 2);

    let _ = operator.run(&format!("fleet scale {blue} open 3"));
    wait::until("a third server", || (open(operator, &blue).1.len() == 3).then_some(()));

    // The newest is empty, for nobody of these ever moves: it is the one that goes.
    let _ = operator.run(&format!("fleet scale {blue} open 2"));
    wait::until("the empty server to go", || (operator.servers(&blue).len() == 3).then_some(()));
    assert_eq!(open(operator, &blue), (2, before.clone()));

    // Both are occupied: one takes nobody new, and goes when its last player has.
    let _ = operator.run(&format!("fleet scale {blue} open 1"));
    let stays = wait::until("one server to take nobody new", || {
        let (ready, takes) = open(operator, &blue);
        assert_eq!(ready, 2, "the occupied one is still there");
        (takes.len() == 1).then(|| takes[0].clone())
    });
    let retiring = before.iter().find(|id| **id != stays).unwrap();
    let there = |id: &str| operator.run(&format!("session list --server {id}"))["total"].as_u64().unwrap();
    let held = there(retiring);
    assert!(held > 0);
    crowd.grow(16);
    crowd.plays(60);
    assert_eq!((there(retiring), open(operator, &blue).0), (held, 2), "nobody new, and nobody sent away");
    let report = crowd.leave();
    assert_kept(&report);
    assert!(report.moved_by.is_empty(), "{:?}", report.moved_by);
    assert_eq!(ended_in(&report).into_iter().collect::<Vec<_>>(), [(blue.clone(), 16)]);
    // Now both are empty, and one of them goes.
    wait::until("one server to be left", || {
        let (ready, takes) = open(operator, &blue);
        (ready == 1 && takes.len() == 1).then_some(())
    });
    cluster.assert_sound("eu-1", gold);
}
