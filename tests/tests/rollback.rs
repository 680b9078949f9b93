//! Rollback with each of its choices on a populated world, judged by the players' ledgers; and what must be refused.

use rustix::process::Signal;
use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, SETTLERS, TRAVELLERS, assert_kept, ended_in, moved_after, moved_by, now};
use tidegate_tests::operator::text;
use tidegate_tests::process::signal;
use tidegate_tests::wait;

/// Players per environment.
const EACH: u32 = 8;

/// A world after a flip, with players on both sides of it.
struct Flipped {
    cluster: Cluster,
    blue: String,
    green: String,
    crowd: Crowd,
    gold: u64,
}

impl Flipped {
    /// `EACH` settle on blue, then new sessions go to green and `EACH` more come, of the same profile.
    fn with(profiles: &str) -> Self {
        let (cluster, blue) = Cluster::populated();
        cluster.register_reversible("2.0.0", "");
        let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
        let crowd = Crowd::of(&cluster, "eu-1", EACH, profiles);
        let gold = cluster.audit("eu-1").gold_total;
        cluster.flip("eu-1", &green);
        crowd.grow(2 * EACH);
        crowd.wait("players on green", |live| live.playing.get(&green).is_some_and(|n| *n >= EACH));
        Self { cluster, blue, green, crowd, gold }
    }

    fn rollback(&self, options: &str) {
        let answer = self.cluster.operator.run(&format!("route rollback eu-1 {options}"));
        assert_eq!(answer["confirmed"], true, "{answer}");
        assert_eq!(answer["to"], *self.blue, "{answer}");
        assert_eq!(self.cluster.operator.accepting("eu-1"), self.blue);
        assert_eq!(self.cluster.operator.environment(&self.green)["phase"], "PHASE_DRAINING");
    }
}

#[test]
fn finish_lets_players_stay_through_their_boundaries() {
    let it = Flipped::with(TRAVELLERS);
    it.rollback("--players finish");
    let since = now();
    // A third of what they do is to change zone: some forty boundaries.
    it.crowd.plays(120);
    it.crowd.grow(3 * EACH);
    it.crowd.plays(30);
    let (cluster, green, gold) = (it.cluster, it.green, it.gold);
    let report = it.crowd.leave();
    assert_kept(&report);
    assert_eq!(moved_after(&report, since).into_iter().collect::<Vec<_>>(), [], "nobody changed environment");
    let on_green =
        report.records.iter().filter(|r| r.environment_at(since).is_some_and(|e| e.as_str() == green)).count();
    assert!(on_green >= EACH as usize);
    assert_eq!(ended_in(&report)[&green] as usize, on_green, "who was on green stayed there to the end");
    let newcomers = report.records.iter().filter(|r| r.hello_sent >= since);
    assert!(newcomers.clone().count() >= EACH as usize);
    for newcomer in newcomers {
        assert_eq!(newcomer.environment.as_str(), it.blue, "newcomers play on blue");
    }
    cluster.operator.phase(&green, "DRAINED");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn next_boundary_takes_players_back_as_they_change_zone() {
    let it = Flipped::with(TRAVELLERS);
    it.rollback("--players next-boundary");
    let since = now();
    it.crowd.settles(&it.blue, 2 * EACH);
    it.cluster.operator.phase(&it.green, "DRAINED");
    let report = it.crowd.leave();
    assert_kept(&report);
    let moves = moved_after(&report, since);
    assert!(moves[&("zone", it.blue.clone())] >= EACH, "all of green came back by changing zone: {moves:?}");
    assert_eq!(moves.len(), 1, "in no other way: {moves:?}");
    it.cluster.assert_sound("eu-1", it.gold);
}

#[test]
fn force_moves_everybody_back_by_the_deadline() {
    let it = Flipped::with(SETTLERS);
    it.rollback("--players force --deadline 2s");
    let since = now();
    it.crowd.settles(&it.blue, 2 * EACH);
    let drain = it.cluster.operator.drains(&it.green, "green to be empty", |d| d["state"] == "DRAIN_STATE_COMPLETED");
    let deadline = drain["deadline_at_ms"].as_i64().unwrap();
    let report = it.crowd.leave();
    assert_kept(&report);
    let moves = moved_after(&report, since);
    assert_eq!(moves.into_iter().collect::<Vec<_>>(), [(("operator", it.blue.clone()), EACH)]);
    assert!(
        report.records.iter().flat_map(|r| &r.moves).all(|m| m.at.0 >= deadline),
        "nobody is moved before the deadline"
    );
    assert_eq!(ended_in(&report).len(), 1, "all on blue");
    it.cluster.assert_sound("eu-1", it.gold);
}

#[test]
fn freeze_takes_nobody_in_and_moves_nobody() {
    let it = Flipped::with(TRAVELLERS);
    let operator = &it.cluster.operator;
    let before = operator.generation("eu-1");
    let answer = operator.run("route rollback eu-1 --players freeze --reason look-first");
    assert_eq!(answer["confirmed"], true, "{answer}");
    assert!(answer["generation"].as_u64().unwrap() > before, "{answer}");
    let since = now();
    it.crowd.control.set_population(3 * EACH);
    it.crowd.wait("newcomers in line", |live| live.connecting >= EACH);
    it.crowd.plays(120);
    assert_eq!(it.crowd.control.population(), 2 * EACH, "nobody came in");
    wait::until("the line to be reported", || {
        (operator.gateway()["holding"].as_u64()? >= u64::from(EACH)).then_some(())
    });
    let thawed = now();
    let answer = operator.run("route unfreeze eu-1");
    assert_eq!(answer["confirmed"], true, "{answer}");
    it.crowd.wait("the line to be let in", |live| live.population == 3 * EACH);
    assert_eq!(operator.accepting("eu-1"), it.green, "as before");
    let report = it.crowd.leave();
    assert_kept(&report);
    let moved_in_frozen = report.records.iter().flat_map(|r| &r.moves).filter(|m| m.at >= since && m.at < thawed);
    assert_eq!(moved_in_frozen.count(), 0, "boundaries kept everybody where they were");
    it.cluster.assert_sound("eu-1", it.gold);
}

#[test]
fn there_is_no_way_back_to_what_is_retired() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 4, SETTLERS);
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    let _ = operator.run(&format!("drain force {blue}"));
    crowd.settles(&green, 4);
    operator.phase(&blue, "DRAINED");
    let _ = operator.run(&format!("env retire {blue}"));
    let (generation, environment) = (operator.generation("eu-1"), operator.environment(&green));
    for players in ["finish", "next-boundary", "force"] {
        operator.refused(&format!("route rollback eu-1 --players {players}"), 4, "RETIRED");
        operator.refused(&format!("route rollback eu-1 --to {blue} --players {players}"), 4, "RETIRED");
    }
    assert_eq!((operator.generation("eu-1"), operator.environment(&green)), (generation, environment));
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(ended_in(&report).into_iter().collect::<Vec<_>>(), [(green, 4)]);
}

#[test]
fn a_blue_that_cannot_read_what_green_wrote_gets_nobody_back_but_a_freeze_works() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", 4, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register("2.0.0", "--reads 1,2 --writes 2", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    cluster.flip("eu-1", &green);
    crowd.grow(8);
    let generation = operator.generation("eu-1");
    for players in ["finish", "next-boundary", "force"] {
        let refusal = operator.try_run(&format!("route rollback eu-1 --players {players}")).unwrap_err();
        assert_eq!(refusal.code, 4, "{refusal:?}");
        for word in ["STATE_FORMAT_UNREADABLE", "format 2", "2.0.0", "1.9.0", "`freeze`"] {
            assert!(refusal.message.contains(word), "{word}: {refusal:?}");
        }
    }
    assert_eq!((operator.accepting("eu-1"), operator.generation("eu-1")), (green.clone(), generation));
    let answer = operator.run("route rollback eu-1 --players freeze");
    assert_eq!(answer["confirmed"], true, "{answer}");
    crowd.control.set_population(10);
    crowd.wait("newcomers in line", |live| live.connecting == 2);
    crowd.plays(40);
    assert_eq!(crowd.control.population(), 8);
    let _ = operator.run("route unfreeze eu-1");
    crowd.wait("the line to be let in", |live| live.population == 10);
    let report = crowd.leave();
    assert_kept(&report);
    let ended = ended_in(&report);
    assert_eq!((ended[&blue], ended[&green]), (4, 6), "{ended:?}");
    cluster.assert_sound("eu-1", gold);
}

#[test]
fn a_flip_that_a_gateway_does_not_confirm_names_it_and_no_other_flip_begins_meanwhile() {
    let (cluster, blue) = Cluster::populated();
    let operator = &cluster.operator;
    let crowd = Crowd::of(&cluster, "eu-1", EACH, SETTLERS);
    let gold = cluster.audit("eu-1").gold_total;
    cluster.register_reversible("2.0.0", "");
    let green = cluster.environment("eu-1", "2.0.0", "--label green", "");
    let gateway = text(&operator.gateway(), "id");
    let pid = cluster.gateways[0].process.as_ref().unwrap().pid();

    signal(pid, Signal::STOP);
    let first = {
        let (operator, line) = (operator.clone(), format!("route flip eu-1 --to {green} --confirm 5s"));
        std::thread::spawn(move || operator.try_run(&line))
    };
    wait::until("the flip to stand", || (operator.accepting("eu-1") == green).then_some(()));
    let generation = operator.generation("eu-1");
    operator.refused(&format!("route flip eu-1 --to {blue}"), 4, "FLIP_IN_PROGRESS");
    operator.refused("route rollback eu-1", 4, "FLIP_IN_PROGRESS");
    assert_eq!(operator.generation("eu-1"), generation, "a refusal changes nothing");
    let refusal = first.join().unwrap().unwrap_err();
    assert_eq!(refusal.code, 5, "{refusal:?}");
    assert!(refusal.message.contains(&gateway), "{refusal:?}");
    let drain = operator.drain(&blue);
    assert!(drain["waiting_for"].as_array().is_some_and(|w| !w.is_empty()), "blue is not empty for certain: {drain}");

    // Longer than every lease: the world servers have parked the players, and nobody else has them.
    signal(pid, Signal::CONT);
    wait::until("the gateway to acknowledge", || {
        let tables = operator.gateway()["tables"].as_array().cloned()?;
        let known = tables.iter().find(|t| t["realm"] == "eu-1")?["generation"].as_u64()?;
        (known >= generation).then_some(())
    });
    crowd.settles(&blue, EACH);
    crowd.plays(40);
    crowd.grow(2 * EACH);
    crowd.settles(&green, EACH);
    // The flip is confirmed now, so the next may begin.
    let answer =
        wait::until("the way back to be open", || operator.try_run("route rollback eu-1 --players force").ok());
    assert_eq!(answer["confirmed"], true, "{answer}");
    crowd.settles(&blue, 2 * EACH);
    let report = crowd.leave();
    assert_kept(&report);
    assert_eq!(moved_by(&report, "operator"), u64::from(EACH), "{:?}", report.moved_by);
    cluster.assert_sound("eu-1", gold);
}
