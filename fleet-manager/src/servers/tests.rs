//! The supervisor over real processes.

use std::fs;

use tidegate_proto::v1::world_directive;

use super::messages::Report;
use super::plan::Occupancy;
use super::testing::{Bench, FakeWorld, environment, server};
use super::*;

const SLEEP: &str = "exec sleep 1000";

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn wanting_the_same_twice_starts_one_process_with_its_variables() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, "env; exec sleep 1000");
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let pid = bench.pid_of(&server(1)).await;
    bench.servers.ensure(wanted.clone()).await.unwrap();
    assert_eq!(bench.pid_of(&server(1)).await, pid);

    let log = dir.path().join("logs/e1-town-1.log");
    let text = loop {
        let text = fs::read_to_string(&log).unwrap();
        if text.contains("TIDEGATE_DATABASE=") && text.ends_with('\n') {
            break text;
        }
        tokio::task::yield_now().await;
    };
    for line in [
        "TIDEGATE_SERVER_ID=e1-town-1",
        "TIDEGATE_ENVIRONMENT=e1",
        "TIDEGATE_REALM=eu-1",
        "TIDEGATE_FLEET=town",
        "TIDEGATE_BUILD=2.0.0",
        "TIDEGATE_ZONES=market",
        "TIDEGATE_INSTANCE_KINDS=dungeon",
        "TIDEGATE_CAPACITY=100",
        "TIDEGATE_LINK_LISTEN=127.0.0.1:0",
        "TIDEGATE_MANAGER=http://127.0.0.1:9",
        "FROM_BUILD=fleet",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
    }
    bench.end(&wanted.environment).await;
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "its process is gone");
    assert_eq!(fs::read_dir(dir.path().join("servers")).unwrap().count(), 0, "and its record");
}

#[tokio::test]
async fn a_restarted_manager_adopts_what_lives_and_notices_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = environment(dir.path(), 1, SLEEP);
    let first = Bench::open(dir.path());
    first.servers.ensure(wanted.clone()).await.unwrap();
    let mut world = first.register(&server(1)).await;
    world.status(true, 3).await;
    let before = first.until("ready", |view| view.servers[&server(1)].state == ServerState::Ready).await;
    first.close().await;

    let second = Bench::open(dir.path());
    let view = second.until("adopted", |view| !view.servers.is_empty()).await;
    let adopted = &view.servers[&server(1)];
    assert_eq!(adopted.pid, Some(world.pid));
    assert_eq!(adopted.state, ServerState::Unreachable, "it has not spoken to this manager yet");
    assert_eq!(adopted.occupancy, Occupancy::Unknown, "unknown means occupied");
    assert_eq!(adopted.instance, before.servers[&server(1)].instance);
    assert_eq!(adopted.link_address, "127.0.0.1:4000", "gateways are still told where it is");

    second.servers.ensure(wanted.clone()).await.unwrap();
    world = FakeWorld { servers: second.servers.clone(), serving: true, ..world };
    world.register().await.unwrap();
    world.status(true, 3).await;
    let is_back = |server: &ServerView| server.state == ServerState::Ready && server.players == 3;
    let view = second.until("ready", |view| is_back(&view.servers[&server(1)])).await;
    assert_eq!(view.servers[&server(1)].pid, Some(world.pid));
    assert_eq!(view.servers[&server(1)].restarts, 0, "nothing was started");

    let mut deaths = second.servers.deaths();
    kill(world.pid);
    let death = deaths.recv().await.unwrap();
    assert_eq!(death, ServerDead { server: server(1), instance: world.instance });
    let view = second.until("replaced", |view| view.servers[&server(1)].pid.is_some_and(|pid| pid != world.pid)).await;
    assert_eq!(view.servers[&server(1)].restarts, 1);
    assert_eq!(view.servers[&server(1)].instance, None, "the new run has not registered");
    assert_eq!(view.recent_deaths, [death]);
    second.end(&wanted.environment).await;
}

#[tokio::test]
async fn a_death_while_no_manager_watched_is_told_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = environment(dir.path(), 1, SLEEP);
    let first = Bench::open(dir.path());
    first.servers.ensure(wanted.clone()).await.unwrap();
    let world = first.register(&server(1)).await;
    first.close().await;
    kill(world.pid);
    while fs::read_to_string(format!("/proc/{}/stat", world.pid)).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::task::yield_now().await;
    }

    let second = Bench::open(dir.path());
    let view = second.until("told", |view| !view.recent_deaths.is_empty()).await;
    assert_eq!(view.recent_deaths, [ServerDead { server: server(1), instance: world.instance }]);
    assert_eq!(view.servers[&server(1)].pid, None, "nothing is started before it is wanted");
    second.servers.ensure(wanted.clone()).await.unwrap();
    assert_ne!(second.pid_of(&server(1)).await, world.pid);
    second.end(&wanted.environment).await;
}

#[tokio::test]
async fn a_process_whose_pid_was_never_recorded_is_found_by_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = environment(dir.path(), 1, SLEEP);
    let first = Bench::open(dir.path());
    first.servers.ensure(wanted.clone()).await.unwrap();
    let pid = first.pid_of(&server(1)).await;
    first.close().await;
    // As if the manager had died between the start and the second writing of the record.
    let path = dir.path().join("servers/e1-town-1.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["process"] = serde_json::Value::Null;
    fs::write(&path, record.to_string()).unwrap();

    let second = Bench::open(dir.path());
    second.servers.ensure(wanted.clone()).await.unwrap();
    assert_eq!(second.pid_of(&server(1)).await, pid, "adopted, not started twice");
    second.end(&wanted.environment).await;
}

#[tokio::test]
async fn one_that_exits_again_and_again_is_a_problem_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, "echo error: port 7 is taken; exit 3");
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let id = wanted.environment.clone();
    let view = bench.until("failing", |view| view.environments.get(&id).is_some_and(|e| e.problem.is_some())).await;
    let problem = view.environments[&id].problem.clone().unwrap();
    assert_eq!(problem, "e1-town-1 exited with code 3; its log ends with: error: port 7 is taken");
    assert!(view.servers[&server(1)].restarts >= 4 && !view.environments[&id].complete);
    bench.end(&id).await;
}

#[tokio::test]
async fn a_missing_program_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let command = vec!["/nonexistent/world-server".to_owned()];
    let wanted = EnvironmentServers { command, ..environment(dir.path(), 1, "") };
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let id = wanted.environment.clone();
    let view = bench.until("failing", |view| view.environments.get(&id).is_some_and(|e| e.problem.is_some())).await;
    let problem = view.environments[&id].problem.clone().unwrap();
    assert!(problem.starts_with("e1-town-1 cannot start /nonexistent/world-server: No such file"), "{problem}");
    bench.end(&id).await;
}

#[tokio::test]
async fn a_registration_must_be_of_the_process_that_was_started() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let pid = bench.pid_of(&server(1)).await;
    let world = |id| FakeWorld::new(bench.servers.clone(), id, pid);

    let unknown = world("e1-town-9".parse().unwrap()).register().await;
    assert_eq!(unknown, Err(RegistrationRefused::UnknownServer("e1-town-9".parse().unwrap())));
    let mut astray = FakeWorld { environment: "e2", ..world(server(1)) };
    let refused = astray.register().await.unwrap_err().to_string();
    assert!(refused.contains("environment is \"e2\"; it was started for \"e1\""), "{refused}");
    let other = FakeWorld::new(bench.servers.clone(), server(1), std::process::id()).register().await;
    assert!(matches!(other, Err(RegistrationRefused::OtherProcess { .. })), "{other:?}");
    world(server(1)).register().await.unwrap();
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn a_wrong_build_is_named_and_never_ready() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let pid = bench.pid_of(&server(1)).await;
    let mut world = FakeWorld { build: "1.9.0", ..FakeWorld::new(bench.servers.clone(), server(1), pid) };
    world.register().await.unwrap();
    world.status(true, 0).await;
    let id = wanted.environment.clone();
    let view = bench.until("a problem", |view| view.environments[&id].problem.is_some()).await;
    assert_eq!(view.environments[&id].problem.as_deref(), Some("e1-town-1 reports build 1.9.0, expected 2.0.0"));
    assert_eq!(view.servers[&server(1)].state, ServerState::Loading);
    assert_eq!(view.servers[&server(1)].build_ok, Some(false));
    bench.end(&id).await;
}

#[tokio::test]
async fn a_broken_stream_is_unreachable_and_not_dead() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut worlds = bench.all_ready(&wanted).await;
    worlds[0].status(true, 5).await;
    worlds[0].lose_stream().await;
    let view = bench.until("unreachable", |v| v.servers[&server(1)].state == ServerState::Unreachable).await;
    assert_eq!(view.servers[&server(1)].pid, Some(worlds[0].pid));
    assert_eq!(view.environments[&wanted.environment].occupancy, Occupancy::Unknown);
    assert!(view.recent_deaths.is_empty());
    worlds[0].serving = true;
    worlds[0].register().await.unwrap();
    bench.until("ready again", |v| v.servers[&server(1)].state == ServerState::Ready).await;
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn one_that_falls_silent_is_unreachable_and_then_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with_report_timeout(dir.path(), 300);
    let wanted = environment(dir.path(), 1, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut deaths = bench.servers.deaths();
    let world = bench.register(&server(1)).await;
    let view = bench.until("unreachable", |v| v.servers[&server(1)].state == ServerState::Unreachable).await;
    assert_eq!(
        (view.servers[&server(1)].pid, view.servers[&server(1)].occupancy),
        (Some(world.pid), Occupancy::Unknown)
    );
    assert_eq!(view.servers[&server(1)].reason, "no report for 300 ms");
    assert_eq!(deaths.recv().await.unwrap(), ServerDead { server: server(1), instance: world.instance });
    let replaced = |v: &ServersView| v.servers[&server(1)].pid.is_some_and(|pid| pid != world.pid);
    bench.until("replaced", replaced).await;
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn loaded_servers_wait_until_they_are_wanted_to_serve() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = EnvironmentServers { serve: false, ..environment(dir.path(), 1, SLEEP) };
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut world = bench.register(&server(1)).await;
    bench.until("loaded", |view| view.servers[&server(1)].state == ServerState::Loaded).await;
    bench.servers.ensure(EnvironmentServers { serve: true, ..wanted.clone() }).await.unwrap();
    world.expect("serve", |directive| matches!(directive, world_directive::Message::Serve(_))).await;
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn a_stop_is_a_question_first_and_a_signal_after() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    // Hears neither the question nor SIGTERM.
    let wanted = environment(dir.path(), 1, "trap '' TERM; while true; do sleep 1000; done");
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut world = bench.register(&server(1)).await;
    let (servers, id) = (bench.servers.clone(), wanted.environment.clone());
    let stopped = tokio::spawn(async move { servers.stop_environment(id, Duration::from_millis(50)).await });
    world.expect("stop", |directive| matches!(directive, world_directive::Message::Stop(_))).await;
    stopped.await.unwrap().unwrap();
    assert!(!fs::exists(format!("/proc/{}", world.pid)).unwrap());
    bench.close().await;
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 1, SLEEP);
    let refused = |outcome: Result<(), ServersError>| outcome.unwrap_err().to_string();
    let no_command = EnvironmentServers { command: Vec::new(), ..wanted.clone() };
    assert_eq!(refused(bench.servers.ensure(no_command).await), "command: is empty");
    let mut too_many = wanted.clone();
    too_many.fleets[0].replicas = 513;
    assert!(refused(bench.servers.ensure(too_many).await).contains("at most 512 (servers.limit)"));
    let mut twice = wanted.clone();
    twice.fleets.push(twice.fleets[0].clone());
    assert!(refused(bench.servers.ensure(twice).await).contains("\"e1-town-1\" is taken"));
    assert!(bench.servers.view().borrow().servers.is_empty());
    bench.close().await;
}

#[tokio::test]
async fn all_reach_the_barrier_or_everyone_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let wanted = environment(dir.path(), 2, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut worlds = bench.all_ready(&wanted).await;
    let is_barrier = |snapshot: &'static str| move |d: &world_directive::Message| matches!(d, world_directive::Message::Barrier(b) if b.snapshot_id == snapshot);
    let is_release = |d: &world_directive::Message| matches!(d, world_directive::Message::BarrierRelease(_));
    let reached = |snapshot: &str| Report::BarrierReached {
        snapshot: snapshot.parse().unwrap(),
        zones: vec![("market".parse().unwrap(), bytes::Bytes::from_static(b"state"), 2)],
    };
    let barrier = |snapshot: &'static str, timeout| {
        let (servers, id) = (bench.servers.clone(), wanted.environment.clone());
        tokio::spawn(async move { servers.barrier(id, snapshot.parse().unwrap(), timeout).await })
    };
    let long = Duration::from_secs(30);

    let all = barrier("s1", long);
    for world in &mut worlds {
        world.expect("stand still", is_barrier("s1")).await;
        world.report(reached("s1")).await;
    }
    let zones = all.await.unwrap().unwrap();
    assert_eq!(zones.iter().map(|s| s.server.as_str()).collect::<Vec<_>>(), ["e1-town-1", "e1-town-2"]);
    let second = bench.servers.barrier(wanted.environment.clone(), "s2".parse().unwrap(), long).await;
    assert!(second.unwrap_err().to_string().contains("s1 is being taken"));
    assert!(bench.servers.barrier_release(wanted.environment.clone(), "s1".parse().unwrap()).await.unwrap());
    for world in &mut worlds {
        world.expect("go on", is_release).await;
    }

    let one_fails = barrier("s3", long);
    worlds[0].expect("stand still", is_barrier("s3")).await;
    worlds[0].report(reached("s3")).await;
    let error = "the disk is full".to_owned();
    worlds[1].report(Report::BarrierFailed { snapshot: "s3".parse().unwrap(), error }).await;
    let why = one_fails.await.unwrap().unwrap_err().to_string();
    assert!(why.contains("e1-town-2 could not stand still: the disk is full"), "{why}");
    worlds[0].expect("go on", is_release).await;

    let too_late = barrier("s4", Duration::from_millis(100)).await.unwrap().unwrap_err().to_string();
    assert!(too_late.contains("not reached in time by e1-town-1, e1-town-2"), "{too_late}");

    let dies = barrier("s5", long);
    for world in &mut worlds {
        world.expect("stand still", is_barrier("s5")).await;
        world.report(reached("s5")).await;
    }
    dies.await.unwrap().unwrap();
    let mut deaths = bench.servers.deaths();
    kill(worlds[1].pid);
    deaths.recv().await.unwrap();
    let held = bench.servers.barrier_release(wanted.environment.clone(), "s5".parse().unwrap()).await.unwrap();
    assert!(!held, "a cut in which a server died is not consistent");
    bench.end(&wanted.environment).await;
}

/// Serves, and says so all the time until it is aborted.
fn keeps_speaking(world: FakeWorld) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            world.status(true, 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

fn hangs_after(hang_ms: u64, hang_share_percent: u32) -> ServersConfig {
    ServersConfig { hang_ms, hang_share_percent, ..Bench::config() }
}

#[tokio::test]
async fn one_that_hangs_is_killed_and_replaced_and_one_that_speaks_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(dir.path(), hangs_after(500, 50));
    let wanted = environment(dir.path(), 2, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let mut deaths = bench.servers.deaths();
    let mut spoken = Vec::new();
    for ordinal in [1, 2] {
        let mut world = bench.register(&server(ordinal)).await;
        world.expect("serve", |directive| matches!(directive, world_directive::Message::Serve(_))).await;
        let (instance, pid) = (world.instance, world.pid);
        spoken.push((keeps_speaking(world), instance, pid));
    }
    bench.until("complete", |view| view.environments[&wanted.environment].complete).await;
    spoken[0].0.abort();
    assert_eq!(deaths.recv().await.unwrap(), ServerDead { server: server(1), instance: spoken[0].1 });
    let replaced = |v: &ServersView| v.servers[&server(1)].pid.is_some_and(|pid| pid != spoken[0].2);
    let view = bench.until("replaced", replaced).await;
    assert_eq!((view.servers[&server(2)].pid, view.servers[&server(2)].restarts), (Some(spoken[1].2), 0));
    assert!(view.servers[&server(1)].reason.starts_with("reported nothing for"), "{view:?}");
    spoken[1].0.abort();
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn of_many_that_fall_silent_at_once_only_a_share_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(dir.path(), hangs_after(500, 25));
    let wanted = environment(dir.path(), 4, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let worlds = bench.all_ready(&wanted).await;
    let held_back = |view: &ServersView| {
        view.servers.values().filter(|s| s.reason.contains("hang_share_percent") && !s.takes_players()).count()
    };
    let one_died = |view: &ServersView| held_back(view) == 3 && !view.recent_deaths.is_empty();
    let view = bench.until("three held back", one_died).await;
    let alive = worlds.iter().filter(|world| view.servers.values().any(|s| s.pid == Some(world.pid))).count();
    assert_eq!(alive, 3, "{view:?}");
    // One that speaks again is as good as ever.
    let spared = worlds.iter().find(|w| view.servers[&w.id].reason.contains("hang_share_percent")).unwrap();
    spared.status(true, 0).await;
    bench.until("spared", |view| view.servers[&spared.id].takes_players()).await;
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn a_manager_that_was_stopped_itself_kills_nobody_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::with(dir.path(), hangs_after(1_000, 100));
    let wanted = environment(dir.path(), 1, SLEEP);
    bench.servers.ensure(wanted.clone()).await.unwrap();
    let worlds = bench.all_ready(&wanted).await;
    for _ in 0..3 {
        // The supervisor and everything else here share this thread.
        std::thread::sleep(Duration::from_millis(1_500));
        tokio::task::yield_now().await;
    }
    worlds[0].status(true, 7).await;
    let view = bench.until("heard", |view| view.servers[&server(1)].players == 7).await;
    assert_eq!((view.servers[&server(1)].pid, view.servers[&server(1)].restarts), (Some(worlds[0].pid), 0));
    bench.end(&wanted.environment).await;
}

#[tokio::test]
async fn one_that_was_stopped_while_no_manager_watched_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = environment(dir.path(), 1, SLEEP);
    let first = Bench::with(dir.path(), hangs_after(500, 100));
    first.servers.ensure(wanted.clone()).await.unwrap();
    let world = first.register(&server(1)).await;
    first.close().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(world.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();

    let second = Bench::with(dir.path(), hangs_after(500, 100));
    second.servers.ensure(wanted.clone()).await.unwrap();
    second.until("told", |v| v.recent_deaths == [ServerDead { server: server(1), instance: world.instance }]).await;
    assert_ne!(second.pid_of(&server(1)).await, world.pid);
    second.end(&wanted.environment).await;
}
