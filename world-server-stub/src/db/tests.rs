//! The realm database as several processes use it: one file, several writer threads.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use tidegate_proto::stub::v1::CharacterState;
use tidegate_types::Mono;

use super::work::{Attach, Claim, ClaimRefused, STARTING_GOLD, Saved, Traded, Written};
use super::{BANK_GOLD, Failure, Store, open, work};
use crate::character::Formats;

/// Longer than any wait for another writer on a loaded machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

fn formats(major: u64) -> Formats {
    Formats::of_build(major, None).unwrap()
}

fn process(path: &Path, instance: &str) -> Connection {
    let db = open(path).unwrap();
    work::register(&db, instance, &format!("server-of-{instance}"), "1.9.0", "boot", Mono(0)).unwrap();
    db
}

fn claim(instance: &str, character: &str, epoch: u64) -> Claim {
    Claim {
        player: format!("player-of-{character}"),
        character: character.to_owned(),
        epoch,
        from: None,
        instance: instance.to_owned(),
        at: Mono(epoch),
    }
}

fn request(instance: &str, character: &str, epoch: u64) -> Attach {
    Attach {
        claim: claim(instance, character, epoch),
        placed: false,
        zones: Arc::new(BTreeSet::from(["harbor".to_owned()])),
        entry: Some("harbor".to_owned()),
        endowed: true,
        formats: formats(1),
    }
}

fn attach(db: &Connection, character: &str, epoch: u64) -> Result<Saved, ClaimRefused> {
    work::attach(db, &request("a", character, epoch)).unwrap()
}

fn bank(db: &Connection) -> i64 {
    db.query_row("SELECT gold FROM bank", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_new_character_takes_its_gold_out_of_the_bank() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    let saved = attach(&db, "ann", 1).unwrap();
    assert_eq!((saved.gold, saved.epoch, saved.zone.as_str()), (STARTING_GOLD.unsigned_abs(), 1, "harbor"));
    assert_eq!(bank(&db), BANK_GOLD - STARTING_GOLD);

    let probe = Attach { endowed: false, ..request("a", "probe-1", 1) };
    assert_eq!(work::attach(&db, &probe).unwrap().unwrap().gold, 0);
    work::forget(&db, "probe-1", 1).unwrap();
    assert_eq!(work::load(&db, "probe-1").unwrap(), None);
    // A character with gold is never forgotten, whatever asks for it.
    work::forget(&db, "ann", 1).unwrap();
    assert!(work::load(&db, "ann").unwrap().is_some());
    assert_eq!(bank(&db), BANK_GOLD - STARTING_GOLD);
}

#[test]
fn an_empty_bank_makes_poor_characters() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    db.execute("UPDATE bank SET gold = ?1", [STARTING_GOLD - 1]).unwrap();
    assert_eq!(attach(&db, "ann", 1).unwrap().gold, 0);
    assert_eq!(bank(&db), STARTING_GOLD - 1);
}

#[test]
fn a_claim_says_why_it_is_refused_and_then_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    attach(&db, "ann", 5).unwrap();
    let before = work::load(&db, "ann").unwrap();

    assert_eq!(attach(&db, "ann", 5), Err(ClaimRefused::Stale { saved: 5 }));
    let elsewhere = Attach { zones: Arc::default(), ..request("a", "ann", 6) };
    assert_eq!(work::attach(&db, &elsewhere).unwrap(), Err(ClaimRefused::WrongZone { zone: "harbor".to_owned() }));
    let nobody = Attach { entry: None, ..request("a", "bob", 1) };
    assert_eq!(work::attach(&db, &nobody).unwrap(), Err(ClaimRefused::Unknown));
    assert_eq!(work::load(&db, "ann").unwrap(), before);

    // The gateway's word about the place is above what was saved.
    let placed = Attach { placed: true, ..elsewhere };
    assert_eq!(work::attach(&db, &placed).unwrap().unwrap().epoch, 6);

    let new = Attach { formats: formats(2), ..request("a", "cat", 1) };
    work::attach(&db, &new).unwrap().unwrap();
    assert_eq!(attach(&db, "cat", 2), Err(ClaimRefused::Format { found: 2 }));
}

#[test]
fn a_hand_over_claims_the_row_and_a_row_that_knows_better_wins() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    process(&dir.path().join("world.db"), "b");
    let saved = attach(&db, "ann", 1).unwrap();
    let state = formats(1).decode(saved.format, &saved.state).unwrap();

    let moved = Saved::new(&CharacterState { zone: "forest".to_owned(), ..state.clone() }, 2, &formats(1));
    let now = work::activate(&db, &claim("b", "ann", 2), &moved, &formats(1)).unwrap().unwrap();
    assert_eq!((now.epoch, now.zone.as_str()), (2, "forest"));
    assert_eq!(work::load(&db, "ann").unwrap(), Some(now));
    // The source is fenced off.
    assert_eq!(work::save(&db, &saved).unwrap(), Written::Stale);
    assert_eq!(
        work::activate(&db, &claim("b", "ann", 2), &moved, &formats(1)).unwrap(),
        Err(ClaimRefused::Stale { saved: 2 })
    );

    let forged = Saved::new(&CharacterState { gold: 1_000_000, ..state }, 3, &formats(1));
    let now = work::activate(&db, &claim("a", "ann", 3), &forged, &formats(1)).unwrap().unwrap();
    assert_eq!(now.gold, STARTING_GOLD.unsigned_abs());
    assert_eq!(work::activate(&db, &claim("a", "bob", 3), &forged, &formats(1)).unwrap(), Err(ClaimRefused::Unknown));
}

#[test]
fn a_claim_is_from_exactly_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    let exact = |from, epoch| Claim { from: Some(from), ..claim("a", "ann", epoch) };
    let attach = |claim| work::attach(&db, &Attach { claim, ..request("a", "ann", 0) }).unwrap();
    let stale = |saved| Err(ClaimRefused::Stale { saved });
    // There is no such character, so it has no epoch.
    assert_eq!(attach(exact(3, 4)), stale(0));
    let saved = attach(exact(0, 4)).unwrap();
    // Higher proves nothing: what if another claimed in between?
    for from in [0, 3, 5] {
        assert_eq!(attach(exact(from, 6)), stale(4));
        assert_eq!(work::activate(&db, &exact(from, 6), &saved, &formats(1)).unwrap(), stale(4));
        assert_eq!(work::reclaim(&db, &exact(from, 6)).unwrap().unwrap_err(), ClaimRefused::Stale { saved: 4 });
    }
    assert_eq!(work::activate(&db, &exact(4, 6), &saved, &formats(1)).unwrap().unwrap().epoch, 6);
    assert_eq!(attach(exact(6, 7)).unwrap().epoch, 7);
}

#[test]
fn a_character_claimed_anew_is_saved_under_the_new_epoch_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world.db");
    let db = process(&path, "a");
    let before = attach(&db, "ann", 1).unwrap();
    let exact = |from, epoch| Claim { from: Some(from), ..claim("a", "ann", epoch) };
    assert_eq!(work::reclaim(&db, &exact(1, 2)).unwrap(), Ok(()));
    assert_eq!(work::reclaim(&db, &exact(1, 3)).unwrap(), Err(ClaimRefused::Stale { saved: 2 }));
    assert_eq!(work::reclaim(&db, &exact(2, 2)).unwrap(), Err(ClaimRefused::Stale { saved: 2 }), "upward only");
    let nobody = Claim { from: Some(1), ..claim("a", "nobody", 2) };
    assert_eq!(work::reclaim(&db, &nobody).unwrap(), Err(ClaimRefused::Unknown));
    assert_eq!(work::save(&db, &before).unwrap(), Written::Stale);
    let now = Saved { epoch: 2, gold: 90, ..before };
    assert_eq!(work::save(&db, &now).unwrap(), Written::Yes);
    assert_eq!(work::load(&db, "ann").unwrap(), Some(now));
    assert_eq!(crate::ledger::audit(&path).unwrap().intervals, 1, "it begins when the player is in play again");
}

#[test]
fn a_trade_with_a_fenced_off_side_writes_neither() {
    let dir = tempfile::tempdir().unwrap();
    let db = process(&dir.path().join("world.db"), "a");
    let (ann, bob) = (attach(&db, "ann", 1).unwrap(), attach(&db, "bob", 1).unwrap());
    let side = |saved: &Saved, gold| Saved { gold, ..saved.clone() };
    assert_eq!(work::trade(&db, &side(&ann, 90), &side(&bob, 110)).unwrap(), Traded::Yes);
    attach(&db, "bob", 2).unwrap();
    assert_eq!(
        work::trade(&db, &side(&ann, 80), &side(&bob, 120)).unwrap(),
        Traded::Stale { giver: false, receiver: true }
    );
    assert_eq!(work::load(&db, "ann").unwrap().unwrap().gold, 90);
    assert_eq!(work::load(&db, "bob").unwrap().unwrap().gold, 110);
}

#[test]
fn a_bad_job_fails_alone_and_every_done_is_called_after_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world.db");
    let reader = process(&path, "a");
    let (store, writer) = Store::start(open(&path).unwrap()).unwrap();
    let (told, heard) = channel();
    // Holds the writer, so that the jobs after this one are one batch.
    let (go, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    store.submit(
        move |_| {
            let _opened = gate.lock().map(|gate| gate.recv());
            Ok(())
        },
        |_| {},
    );
    for n in 0..20_u64 {
        let told = told.clone();
        store.submit(
            move |db| {
                if n == 7 {
                    db.execute("UPDATE bank SET gold = -1", [])?;
                }
                attach_row(db, &format!("c{n}"))
            },
            move |outcome| told.send((n, outcome)).unwrap(),
        );
    }
    // Opens the gate for good: a batch may be applied twice.
    drop(go);
    for n in 0..20 {
        let (told, outcome) = heard.recv_timeout(LONG).unwrap();
        assert_eq!(told, n, "done in the order of submission");
        if n == 7 {
            assert!(matches!(outcome, Err(Failure::Sql(_))), "{outcome:?}");
        } else {
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(work::load(&reader, &format!("c{n}")).unwrap().is_some(), "committed before done");
        }
    }
    assert_eq!(work::load(&reader, "c7").unwrap(), None);
    assert_eq!(bank(&reader), BANK_GOLD - 19 * STARTING_GOLD);
    drop(store);
    writer.join();
}

fn attach_row(db: &Connection, character: &str) -> rusqlite::Result<bool> {
    work::attach(db, &request("a", character, 1)).map(|claimed| claimed.is_ok())
}

/// Two writers of one file, each with its own connection and thread as in two processes, fight for the same characters:
/// every job comes to an end, every claim has one winner, and only the winner's saves are in the file.
#[test]
fn two_writers_share_one_file() {
    const CHARACTERS: u64 = 40;
    const ROUNDS: u64 = 25;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("world.db");
    let reader = process(&path, "a");
    process(&path, "b");
    let (told, heard) = channel();
    let stores = ["a", "b"].map(|instance| (instance, Store::start(open(&path).unwrap()).unwrap()));
    for epoch in 1..=ROUNDS {
        for c in 0..CHARACTERS {
            for (instance, (store, _)) in &stores {
                let request = request(instance, &format!("c{c}"), epoch);
                let told = told.clone();
                store.submit(
                    move |db| {
                        let won = work::attach(db, &request)?;
                        if let Ok(saved) = &won {
                            let mine = Saved { applied: epoch, ..saved.clone() };
                            assert_eq!(work::save(db, &mine)?, Written::Yes);
                        }
                        Ok(won.is_ok())
                    },
                    move |outcome| told.send((c, epoch, outcome)).unwrap(),
                );
            }
        }
    }
    drop(told);
    let mut winners = std::collections::BTreeMap::new();
    for _ in 0..CHARACTERS * ROUNDS * 2 {
        let (c, epoch, outcome) = heard.recv_timeout(LONG).expect("every job ends");
        if outcome.expect("the lock is waited for") {
            *winners.entry((c, epoch)).or_insert(0) += 1;
        }
    }
    assert!(winners.values().all(|n| *n == 1), "an epoch has one winner");
    for c in 0..CHARACTERS {
        let row = work::load(&reader, &format!("c{c}")).unwrap().unwrap();
        assert_eq!((row.epoch, row.applied), (ROUNDS, ROUNDS));
    }
    assert_eq!(bank(&reader), BANK_GOLD - STARTING_GOLD * i64::try_from(CHARACTERS).unwrap());
    for (_, (store, writer)) in stores {
        drop(store);
        writer.join();
    }
}

#[derive(Debug, Clone)]
enum Op {
    Claim { home: usize, ahead: u64 },
    Save { home: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (0..3_usize, 0..3_u64).prop_map(|(home, ahead)| Op::Claim { home, ahead }),
        (0..3_usize).prop_map(|home| Op::Save { home }),
    ];
    prop::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever three homes try: epochs only grow, only the latest claimant's saves are written, and every refused one
    /// is counted.
    #[test]
    fn only_the_latest_claimant_writes(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world.db");
        let db = process(&path, "a");
        let (mut highest, mut holder, mut written, mut refused) = (0, None, 0_u64, 0_u64);
        let mut homes: [Option<Saved>; 3] = [None, None, None];
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Claim { home, ahead } => {
                    // ahead 0 claims what is known already.
                    let epoch = highest + ahead;
                    match attach(&db, "ann", epoch) {
                        Ok(saved) => {
                            prop_assert!(epoch > highest || holder.is_none());
                            prop_assert_eq!(saved.applied, written);
                            (highest, holder) = (epoch, Some(home));
                            for (other, held) in homes.iter_mut().enumerate() {
                                if other == home { *held = Some(saved.clone()); }
                            }
                        }
                        Err(e) => {
                            prop_assert_eq!(e, ClaimRefused::Stale { saved: highest });
                            prop_assert_eq!(ahead, 0);
                        }
                    }
                }
                Op::Save { home } => {
                    let Some(saved) = &mut homes[home] else { continue };
                    saved.applied = step as u64 + 1;
                    let outcome = work::save(&db, saved).unwrap();
                    if holder == Some(home) && saved.epoch == highest {
                        prop_assert_eq!(outcome, Written::Yes);
                        written = saved.applied;
                    } else {
                        prop_assert_eq!(outcome, Written::Stale);
                        refused += 1;
                    }
                }
            }
            if holder.is_some() {
                let row = work::load(&db, "ann").unwrap().unwrap();
                prop_assert_eq!((row.epoch, row.applied), (highest, written));
            }
        }
        let audit = crate::ledger::audit(&path).unwrap();
        prop_assert_eq!(audit.stale_writes_refused, refused);
        prop_assert_eq!(audit.gold_total, BANK_GOLD.unsigned_abs());
    }
}
