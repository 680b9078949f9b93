//! Players through gateways that die or stop, in front of one world that is honest, or is made to break its word: the players
//! come back, and their ledgers hold the world to every frame.

mod peer;
mod world;

use std::sync::Arc;
use std::time::Duration;

use peer::Peer;
use simulated_players::{Config, Report, Simulation};
use tidegate_ticket::LoginKey;
use tokio_util::sync::CancellationToken;
use world::{Fault, World};

/// Half of them begin with each gateway.
const PLAYERS: u32 = 6;

/// A player who is not back after this never will be.
const GIVE_UP: Duration = Duration::from_secs(60);

const PROFILES: &str = r#"
[[profile]]
name = "pinger"
share = 100
stay_s = 600.0
away_s = 600.0
actions_per_s = 20.0
pipeline = 8
positions = 1.0
stubborn = true
weights = { ping = 1 }
"#;

/// What happens to the first gateway in the middle of play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dies,
    Stops,
}

/// Plays through two gateways, lets the first meet its fate, plays on, and logs out.
async fn report(fate: Fate, fault: Fault) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::new(fault));
    let (first, second) = (Peer::start(&world), Peer::start(&world));
    std::fs::write(dir.path().join("ca.pem"), first.certificate_pem() + &second.certificate_pem()).unwrap();
    std::fs::write(dir.path().join("profiles.toml"), PROFILES).unwrap();
    LoginKey::generate().unwrap().save(&dir.path().join("login.key")).unwrap();
    let simulation = Simulation::new(Config {
        gateway: vec![first.address, second.address],
        ca: dir.path().join("ca.pem"),
        login_key: dir.path().join("login.key"),
        players: PLAYERS,
        profiles: Some(dir.path().join("profiles.toml")),
        settle_ms: 4_000,
        ..Config::default()
    })
    .unwrap();
    let control = simulation.control();
    let running = tokio::spawn(simulation.run(CancellationToken::new()));
    let mut live = control.live();
    let busy = |live: &simulated_players::Live| live.population == PLAYERS && live.actions_answered > 50;
    live.wait_for(busy).await.unwrap();
    match fate {
        Fate::Dies => first.kill(),
        Fate::Stops => first.stop(second.address),
    }
    let playing_on = async {
        world.came_back(u64::from(PLAYERS / 2)).await;
        let answered = live.borrow().actions_answered;
        live.wait_for(|live| live.reconnecting == 0 && live.actions_answered > answered + 50).await.unwrap();
        control.finish();
        running.await.unwrap()
    };
    tokio::time::timeout(GIVE_UP, playing_on).await.expect("all come back, and log out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_loses_a_frame_or_a_home_to_a_dead_gateway() {
    let report = report(Fate::Dies, Fault::None).await;
    assert_eq!(report.broken(), []);
    let resumed = u64::from(PLAYERS / 2);
    assert_eq!((report.resumed, report.resumed_same_home, report.moved_while_away), (resumed, resumed, 0));
    assert_eq!((report.resume_us.count, report.gaps, report.frames_repeated), (resumed, 0, 0));
    assert_eq!(report.frames_sent, report.frames_answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_gateway_that_stops() {
    let report = report(Fate::Stops, Fault::None).await;
    assert_eq!(report.broken(), []);
    assert_eq!((report.relocated, report.relocation_us.count), (u64::from(PLAYERS / 2), u64::from(PLAYERS / 2)));
    assert_eq!((report.resumed, report.gaps, report.frames_repeated), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_that_loses_a_frame_at_a_take_over_is_found_out() {
    let broken = report(Fate::Dies, Fault::LosesOne).await.broken();
    assert!(broken.iter().any(|(what, _)| ["frames_lost", "frames_reordered"].contains(what)), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_that_says_a_frame_twice_at_a_take_over_is_found_out() {
    let broken = report(Fate::Stops, Fault::RepeatsOne).await.broken();
    assert!(broken.iter().any(|(what, _)| *what == "frames_duplicated"), "{broken:?}");
}
