//! What the directory does with entries is what the embedded one does.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use gateway_core::EmbeddedDirectory;
use gateway_core::directory::{DirectoryOp, DirectoryOutcome, DirectoryRequest};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidegate_directory::testing::{Options, RedisServer};
use tidegate_types::RealmId;
use tokio::runtime::Builder;

use crate::support::{Gateway, cas, clear, conflict, done, found, home, key, raise, who};

fn op() -> impl Strategy<Value = DirectoryOp> {
    // Small numbers meet each other; large ones are where doubles would run together.
    let epoch = || prop_oneof![0_u64..5, (1_u64 << 53)..(1 << 53) + 3, (u64::MAX - 2)..=u64::MAX];
    prop_oneof![
        Just(DirectoryOp::Get),
        (epoch(), epoch(), 1_u128..4).prop_map(|(expected, to, n)| cas(expected, to, n)),
        (epoch(), 1_u128..4).prop_map(|(expected, n)| cas(expected, expected.saturating_add(1), n)),
        (epoch(), 1_u128..4).prop_map(|(epoch, n)| clear(epoch, n)),
        (epoch(), 1_u128..4).prop_map(|(epoch, n)| raise(epoch, n)),
    ]
}

#[test]
fn every_answer_is_the_embedded_directorys() {
    let redis = RedisServer::start(Options::default());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = runtime.block_on(Gateway::join(&redis.url()));
    let gateway = RefCell::new(gateway);
    let realms = Cell::new(0);
    let cases = Config { cases: 200, ..Config::default() };
    let histories = prop::collection::vec((0_u8..2, op()), 1..40);
    TestRunner::new(cases)
        .run(&histories, |history| {
            let mut gateway = gateway.borrow_mut();
            // Shrinking runs a history again: it needs a realm that nobody used.
            realms.set(realms.get() + 1);
            gateway.realm = RealmId::new(&format!("realm-{}", realms.get())).unwrap();
            let mut model = EmbeddedDirectory::default();
            for (character, op) in history {
                let character = format!("c{character}");
                let request = DirectoryRequest { id: 0, who: who(&character), op: op.clone() };
                let expect = model.answer(request).outcome;
                let answer = runtime.block_on(gateway.ask(&character, op.clone()));
                prop_assert_eq!(answer, expect, "{:?}", op);
            }
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn of_many_gateways_one_wins_each_epoch() {
    const GATEWAYS: u128 = 8;
    let redis = RedisServer::start(Options::default());
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(Gateway::join(&redis.url()).await);
    }
    for epoch in 0..200 {
        let mut asked = Vec::new();
        for (n, gateway) in gateways.iter_mut().enumerate() {
            asked.push(gateway.send("c", cas(epoch, epoch + 1, n as u128)));
        }
        let mut winner = None;
        let mut losers = Vec::new();
        for (n, (gateway, id)) in gateways.iter_mut().zip(asked).enumerate() {
            match gateway.outcome(id).await {
                outcome @ DirectoryOutcome::Done(_) => {
                    assert_eq!(outcome, done(epoch + 1));
                    assert_eq!(winner.replace(n as u128), None, "two homes at epoch {}", epoch + 1);
                }
                outcome => losers.push(outcome),
            }
        }
        let expect = conflict(epoch + 1, winner);
        assert!(losers.iter().all(|loser| *loser == expect), "{losers:?}");
    }
}

#[tokio::test]
async fn entries_expire_later_while_somebody_lives_there() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    let left = || redis.command(&["PTTL", &key("c")]).unwrap().parse::<u64>().unwrap();
    gateway.ask("c", cas(0, 1, 1)).await;
    let hour = 3_600_000;
    assert!((hour / 2..=hour).contains(&left()));
    redis.command(&["PEXPIRE", &key("c"), "5000"]).unwrap();
    assert_eq!(gateway.ask("c", raise(1, 1)).await, done(1));
    assert!((hour / 2..=hour).contains(&left()), "an announcement that changes nothing keeps the entry");
    assert_eq!(gateway.ask("c", clear(1, 1)).await, done(1));
    let week = 7 * 24 * hour;
    assert!((week / 2..=week).contains(&left()));
    assert_eq!(gateway.ask("c", DirectoryOp::Get).await, found(1, None));
}

#[tokio::test]
async fn what_cannot_be_read_is_missing_and_never_lowered() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    let seven = "00000000000000000007";

    redis.command(&["SET", &key("string"), "not ours"]).unwrap();
    assert_eq!(gateway.ask("string", DirectoryOp::Get).await, found(0, None));
    assert_eq!(gateway.ask("string", clear(3, 1)).await, done(3));
    assert_eq!(gateway.ask("string", raise(4, 1)).await, done(4));
    assert_eq!(gateway.ask("string", DirectoryOp::Get).await, found(4, Some(1)));

    redis.command(&["HSET", &key("epoch"), "e", "7", "s", "x"]).unwrap();
    assert_eq!(gateway.ask("epoch", DirectoryOp::Get).await, found(0, None));
    assert_eq!(gateway.ask("epoch", cas(0, 1, 1)).await, done(1));
    assert_eq!(gateway.ask("epoch", DirectoryOp::Get).await, found(1, Some(1)));

    redis.command(&["HSET", &key("half"), "e", seven, "w", "s1"]).unwrap();
    assert_eq!(gateway.ask("half", DirectoryOp::Get).await, found(7, None));
    assert_eq!(gateway.ask("half", cas(0, 1, 1)).await, conflict(7, None));
    assert_eq!(gateway.ask("half", raise(6, 1)).await, conflict(7, None));
    assert_eq!(gateway.ask("half", raise(7, 1)).await, done(7));
    assert_eq!(gateway.ask("half", DirectoryOp::Get).await, found(7, Some(1)));

    assert_eq!(gateway.handle.figures().corrupt, 9);
}

#[tokio::test]
async fn an_entry_says_who_and_where_to_a_person() {
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    gateway.ask("c", cas(0, 1, 1)).await;
    let home = home(1);
    let expect = format!(
        "00000000000000000001\n{}\n{}\n{}\n{}\n{}",
        home.session, home.server, home.instance, home.environment, home.gateway
    );
    let entry = redis.command(&["HMGET", &key("c"), "e", "s", "w", "i", "v", "g"]).unwrap();
    assert_eq!(entry, expect);
}

#[tokio::test]
async fn ten_thousand_sessions_are_announced() {
    const SESSIONS: usize = 10_000;
    let redis = RedisServer::start(Options::default());
    let mut gateway = Gateway::join(&redis.url()).await;
    let start = Instant::now();
    let asked: Vec<u64> = (0..SESSIONS).map(|n| gateway.send(&format!("c{n}"), raise(3, n as u128))).collect();
    for id in asked {
        assert_eq!(gateway.outcome(id).await, done(3));
    }
    println!("{SESSIONS} sessions announced in {:.2} s", start.elapsed().as_secs_f64());
    let figures = gateway.handle.figures();
    assert_eq!((figures.answered, figures.unavailable, figures.in_flight), (SESSIONS as u64, 0, 0));
    assert_eq!(figures.round_trips.iter().sum::<u64>(), SESSIONS as u64);
}
