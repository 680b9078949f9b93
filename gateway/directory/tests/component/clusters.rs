//! Several servers: a replica that Sentinel makes the master, and a cluster.

use std::time::Duration;

use gateway_core::directory::DirectoryOp;
use tidegate_directory::DirectoryConfig;
use tidegate_directory::testing::{Options, RedisCluster, RedisSentinel, RedisServer};

use crate::support::{Gateway, cas, conflict, done, found, key, raise};

async fn sentinel_set() -> (RedisServer, RedisServer, RedisSentinel) {
    let master = RedisServer::start(Options::default());
    let replica = RedisServer::start(Options { replica_of: Some(master.port()), ..Options::default() });
    replica.wait_for_replication();
    let sentinel = RedisSentinel::start(&master);
    sentinel.wait_for_replica();
    (master, replica, sentinel)
}

#[tokio::test]
async fn a_replica_takes_over_from_a_dead_master() {
    let (mut master, replica, sentinel) = sentinel_set().await;
    let mut gateway = Gateway::join(&sentinel.url()).await;
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, done(1));
    while replica.command(&["EXISTS", &key("c")]).unwrap() != "1" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    master.kill();
    gateway.down().await;
    assert!(!gateway.up().await, "the mark came along");
    assert_eq!(gateway.insist("c", DirectoryOp::Get).await, found(1, Some(1)));
    assert_eq!(gateway.insist("c", cas(1, 2, 2)).await, done(2));
    assert_eq!(sentinel.master(), Some(replica.port()));
    assert_eq!(gateway.handle.figures().failovers, 1);
}

#[tokio::test]
async fn a_planned_failover_is_followed() {
    let (_master, replica, sentinel) = sentinel_set().await;
    let mut gateway = Gateway::join(&sentinel.url()).await;
    gateway.ask("c", cas(0, 1, 1)).await;
    sentinel.fail_over();
    gateway.down().await;
    gateway.up().await;
    assert_eq!(gateway.insist("c", raise(1, 1)).await, done(1));
    assert_eq!(sentinel.master(), Some(replica.port()));
}

#[tokio::test]
async fn a_cluster_holds_the_entries_of_all_its_nodes() {
    let cluster = RedisCluster::start(3);
    let mut gateway = Gateway::start(&cluster.url(), DirectoryConfig::default());
    assert!(gateway.up().await);
    for n in 0..60_u64 {
        let character = format!("c{n}");
        assert_eq!(gateway.ask(&character, cas(0, 1, 1)).await, done(1));
        assert_eq!(gateway.ask(&character, cas(0, 1, 2)).await, conflict(1, Some(1)));
        assert_eq!(gateway.ask(&character, DirectoryOp::Get).await, found(1, Some(1)));
    }
    for node in &cluster.nodes {
        let size: u64 = node.command(&["DBSIZE"]).unwrap().parse().unwrap();
        assert!(size > 1, "a node with no entries");
    }
    // A second gateway sees the same directory.
    let mut second = Gateway::start(&cluster.url(), DirectoryConfig::default());
    assert!(!second.up().await);
    // One part of it is emptied.
    cluster.nodes[1].wipe();
    gateway.wiped().await;
    second.wiped().await;
}

#[tokio::test]
async fn a_cluster_that_lost_a_node_recovers_with_it() {
    let mut cluster = RedisCluster::start(3);
    let mut gateway = Gateway::join(&cluster.url()).await;
    gateway.ask("c", cas(0, 1, 1)).await;
    cluster.nodes[2].kill();
    gateway.down().await;
    cluster.nodes[2].restart();
    cluster.wait();
    gateway.up().await;
    for n in 0..20_u64 {
        assert_eq!(gateway.insist(&format!("c{n}"), raise(3, 1)).await, done(3));
    }
}
