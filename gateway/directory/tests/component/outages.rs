//! Redis killed, paused, emptied, restarted from an old file, full, or turned into a replica.

use std::time::Duration;

use gateway_core::directory::{DirectoryOp, DirectoryOutcome};
use tidegate_directory::testing::{Options, RedisServer};
use tidegate_directory::{DirectoryConfig, State};

use crate::support::{Gateway, cas, conflict, done, found, key, raise};

#[tokio::test]
async fn a_new_directory_and_an_emptied_one_are_said_to_all() {
    let redis = RedisServer::start(Options::default());
    let mut first = Gateway::start(&redis.url(), DirectoryConfig::default());
    assert!(first.up().await, "nobody had used it");
    let mut second = Gateway::start(&redis.url(), DirectoryConfig::default());
    assert!(!second.up().await, "the first one had");
    first.ask("c", cas(0, 5, 1)).await;
    redis.wipe();
    first.wiped().await;
    second.wiped().await;
    assert_eq!(second.ask("c", DirectoryOp::Get).await, found(0, None));
    assert_eq!(first.handle.figures().wipes, 2);
    assert_eq!(second.handle.figures().wipes, 1);
}

#[tokio::test]
async fn an_old_file_is_repaired_upward_and_never_down() {
    let mut redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    gateway.ask("c", cas(0, 5, 1)).await;
    redis.save();
    assert_eq!(gateway.ask("c", cas(5, 6, 2)).await, done(6));
    redis.kill();
    gateway.down().await;
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, DirectoryOutcome::Unavailable);
    redis.restart();
    assert!(!gateway.up().await, "the mark was in the file");
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(5, Some(1)), "the file is older than epoch 6");
    assert_eq!(gateway.ask("c", raise(6, 2)).await, done(6));
    assert_eq!(gateway.ask("c", raise(5, 1)).await, conflict(6, Some(2)));
    assert_eq!(gateway.ask("c", cas(5, 6, 1)).await, conflict(6, Some(2)));
}

#[tokio::test]
async fn a_server_that_lost_everything_is_a_wipe() {
    let mut redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    gateway.ask("c", cas(0, 5, 1)).await;
    redis.restart();
    gateway.wiped().await;
    assert_eq!(gateway.insist("c", raise(5, 1)).await, done(5));
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, done(1));
    redis.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(gateway.ask("c", cas(1, 2, 1)).await, done(2));
    assert_eq!(gateway.handle.figures().errors, 0);
}

#[tokio::test]
async fn a_paused_server_is_unavailable_until_it_goes_on() {
    let mut redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    gateway.ask("c", cas(0, 1, 1)).await;
    redis.pause();
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, DirectoryOutcome::Unavailable);
    let why = gateway.down().await;
    assert_eq!(why, "no answer within 500 ms");
    assert!(matches!(gateway.handle.state(), State::Degraded { .. }));
    redis.resume();
    assert!(!gateway.up().await);
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(1, Some(1)));
    assert_eq!(gateway.handle.state(), State::Up);
    assert!(gateway.handle.figures().timed_out >= 1);
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_the_start_is_degraded_until_it_comes() {
    let mut redis = RedisServer::start(Options::default());
    redis.kill();
    let mut gateway = Gateway::start(&redis.url(), DirectoryConfig::default());
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, DirectoryOutcome::Unavailable);
    gateway.down().await;
    redis.restart();
    gateway.up().await;
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(0, None));
}

#[tokio::test]
async fn a_request_that_comes_before_the_connection_waits_for_it() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::start(&redis.url(), DirectoryConfig::default());
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(0, None));
}

#[tokio::test]
async fn more_requests_than_may_wait_are_unavailable_and_each_is_answered_once() {
    let mut redis = RedisServer::start(Options::default());
    let config = DirectoryConfig { max_requests: 4, ..DirectoryConfig::default() };
    let mut gateway = Gateway::start(&redis.url(), config);
    gateway.up().await;
    redis.pause();
    let asked: Vec<u64> = (0..10).map(|_| gateway.send("c", DirectoryOp::Get)).collect();
    assert_eq!(gateway.handle.room(), 0);
    assert_eq!(gateway.handle.figures().overflowed, 6);
    for id in asked {
        assert_eq!(gateway.outcome(id).await, DirectoryOutcome::Unavailable);
    }
    redis.resume();
    gateway.up().await;
    assert_eq!(gateway.handle.room(), 4);
    let figures = gateway.handle.figures();
    assert_eq!((figures.unavailable, figures.in_flight), (10, 0));
}

#[tokio::test]
async fn a_master_that_became_a_replica_answers_nothing_not_even_reads() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    gateway.ask("c", cas(0, 1, 1)).await;
    // A master that never answers: the replica keeps its old entries and would show them.
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    redis.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]).unwrap();
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, DirectoryOutcome::Unavailable);
    let why = gateway.down().await;
    assert!(why.contains("read only replica"), "{why}");
    redis.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    gateway.up().await;
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(1, Some(1)));
}

#[tokio::test]
async fn a_full_memory_is_degraded_and_not_flapping() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, DirectoryOutcome::Unavailable);
    let why = gateway.down().await;
    assert!(why.contains("OOM"), "{why}");
    let connects = gateway.handle.figures().connects;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    gateway.up().await;
    assert_eq!(gateway.handle.figures().connects, connects + 1, "it did not come and go meanwhile");
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, done(1));
}

#[tokio::test]
async fn a_password_and_tls_are_used() {
    let password = Some("p@ss/w:rd".to_owned());
    let redis = RedisServer::start(Options { password, tls: true, ..Options::default() });
    let url = format!("rediss://:p%40ss%2Fw%3Ard@127.0.0.1:{}", redis.port());
    let config = DirectoryConfig { ca_file: Some(redis.ca_file()), ..DirectoryConfig::default() };
    let mut gateway = Gateway::start(&url, config);
    gateway.up().await;
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, done(1));
    assert_eq!(redis.command(&["EXISTS", &key("c")]).unwrap(), "1");
    // Not believed without its authority.
    let mut stranger = Gateway::start(&url, DirectoryConfig::default());
    let why = stranger.down().await;
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let redis = RedisServer::start(Options::default());
    let gateway = Gateway::join(&redis.url()).await;
    // One of the two is the question itself.
    let clients = || redis.command(&["CLIENT", "LIST"]).unwrap().lines().count();
    assert_eq!(clients(), 2);
    drop(gateway);
    while clients() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
