//! A ticket is good for one login at all gateways together.

use tidegate_directory::testing::{Options, RedisServer};
use tidegate_directory::{DirectoryConfig, TicketOutcome};
use tidegate_types::{RealmId, Timestamp};
use uuid::Uuid;

use crate::support::Gateway;

const EXPIRES: Timestamp = Timestamp(60_000);

#[tokio::test]
async fn a_ticket_is_used_once_at_all_gateways() {
    let redis = RedisServer::start(Options::default());
    let mut one = Gateway::join(&redis.url()).await;
    let mut two = Gateway::join(&redis.url()).await;
    let id = Uuid::from_u128(5);
    assert_eq!(one.take_ticket(id, EXPIRES).await, TicketOutcome::Fresh);
    assert_eq!(two.take_ticket(id, EXPIRES).await, TicketOutcome::Used);
    assert_eq!(one.take_ticket(id, EXPIRES).await, TicketOutcome::Used);
    two.realm = RealmId::new("eu-2").unwrap();
    assert_eq!(two.take_ticket(id, EXPIRES).await, TicketOutcome::Fresh, "another realm's ticket is another ticket");
}

#[tokio::test]
async fn a_ticket_that_let_nobody_in_is_given_back_by_who_took_it() {
    let redis = RedisServer::start(Options::default());
    let mut one = Gateway::join(&redis.url()).await;
    let mut two = Gateway::join(&redis.url()).await;
    let id = Uuid::from_u128(5);
    assert_eq!(one.take_ticket(id, EXPIRES).await, TicketOutcome::Fresh);
    two.handle.give_ticket_back(&two.realm, id);
    assert_eq!(two.take_ticket(id, EXPIRES).await, TicketOutcome::Used);
    one.handle.give_ticket_back(&one.realm, id);
    assert_eq!(one.take_ticket(id, EXPIRES).await, TicketOutcome::Fresh);
}

#[tokio::test]
async fn a_ticket_is_forgotten_when_it_expires() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    let id = Uuid::from_u128(5);
    assert_eq!(gateway.take_ticket(id, EXPIRES).await, TicketOutcome::Fresh);
    let left: i64 = redis.command(&["PTTL", &format!("tidegate:ticket:{{eu-1/{id}}}")]).unwrap().parse().unwrap();
    assert!((30_000..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_unreachable_directory_decides_about_no_ticket() {
    let mut redis = RedisServer::start(Options::default());
    let url = redis.url();
    redis.kill();
    let mut gateway = Gateway::start(&url, DirectoryConfig::default());
    gateway.down().await;
    assert_eq!(gateway.take_ticket(Uuid::from_u128(5), EXPIRES).await, TicketOutcome::Unavailable);
}
