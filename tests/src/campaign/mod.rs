//! The campaign: a populated realm under a seeded schedule of faults, judged by what everybody wrote down.
//!
//! ```text
//!  schedule (seed) ──▶ faults ──▶ processes, relays, Redis ─┐
//!          └─────────▶ two operators ──▶ manager ───────────┤ events, realm database
//!  simulated players ──▶ relays ──▶ gateways ──▶ … ─────────┘        │
//!                                                     judge ◀────────┘
//! ```
//!
//! Nothing here decides whether something was right: it makes trouble and writes down. [`tidegate_judge`] judges.

mod epilogue;
mod faults;
mod operators;
mod options;
mod people;
mod realm;
mod watch;

pub use options::{Kinds, Options};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_events::event;
use tidegate_judge::schedule::Schedule;
use tidegate_judge::verdict::{Evidence, Verdict, judge};
use tidegate_types::{Clock as _, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Plan};
use crate::crowd::Crowd;
use operators::{Acknowledged, Operator};
use realm::{REALM, Realm, lock};

/// Builds that rollouts bring: each can be rolled back from.
const BUILDS: usize = 4;

/// Runs a campaign in `folder`, whose `events` this process writes to already, and judges it.
///
/// # Panics
/// When the realm cannot be started; what happens to it later is for the judge.
#[must_use]
pub fn run(options: &Options, folder: &Path, program: PathBuf) -> Verdict {
    let schedule = options.schedule();
    event!("campaign_started", seed = options.seed, length_ms = schedule.length_ms, wall_ms = crate::crowd::now().0);
    let (realm, builds, gold) = populate(options, folder, program);
    let realm = Arc::new(realm);
    let crowd = {
        let cluster = lock(&realm.cluster);
        let addresses = realm.gateways.iter().map(|gateway| lock(gateway).address).collect();
        Crowd::at(&cluster, REALM, options.players, addresses, people::PROFILES, options.seed)
    };
    note("the players are in");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (end, acknowledged) = (CancellationToken::new(), Arc::new(Acknowledged::default()));
    let builds: Arc<[String]> = builds.into();
    runtime.spawn({
        let (realm, end) = (realm.clone(), end.clone());
        async move { watch::manager(&realm, &end).await }
    });
    runtime.spawn({
        let (live, end) = (crowd.control.live(), end.clone());
        async move { watch::players(live, &end).await }
    });
    let begin = Instant::now();
    let operators: Vec<_> = (0..2)
        .filter(|_| !options.silent)
        .map(|number| {
            let words: Vec<_> = schedule.words.iter().filter(|word| word.operator == number).copied().collect();
            let (realm, acknowledged, builds) = (realm.clone(), acknowledged.clone(), builds.clone());
            let (seed, struck) = (options.seed, options.strikes_at_acknowledgements());
            runtime.spawn(async move {
                let mut operator = Operator::new(&realm.manager_address, number, seed, &builds, &acknowledged);
                if struck {
                    operator = operator.striking(|| faults::kill_manager(&realm));
                }
                for word in words {
                    tokio::time::sleep_until((begin + Duration::from_millis(word.at_ms)).into()).await;
                    operator.say(&word).await;
                }
            })
        })
        .collect();
    strike(&realm, &schedule, begin);
    note("the last fault is over; everything is healed");
    faults::heal(&realm);
    let mut last =
        runtime.block_on(async { Operator::new(&realm.manager_address, 2, options.seed, &builds, &acknowledged) });
    runtime.block_on(async {
        for operator in operators {
            let _panicked_operators_are_heard_of_on_stderr = operator.await;
        }
        epilogue::finish_changes(&realm, &mut last).await;
    });
    epilogue::calm(&crowd);
    note("everybody logs out");
    let report = crowd.leave();
    epilogue::tell_report(&report);
    runtime.block_on(async {
        epilogue::finish_changes(&realm, &mut last).await;
        epilogue::tell_changes(&realm).await;
        last.look_up().await;
    });
    end.cancel();
    // The watchers' own connections must not be in the way of the last books.
    runtime.shutdown_timeout(Duration::from_secs(5));
    close_the_books(&realm, gold)
}

/// A realm with everybody's processes in place, the builds of its rollouts, and its gold.
fn populate(options: &Options, folder: &Path, program: PathBuf) -> (Realm, Vec<String>, u64) {
    let sabotage = options.sabotage.iter().map(|word| ("TIDEGATE_SABOTAGE".to_owned(), word.clone()));
    let several = options.gateways > 1;
    let (cluster, _) = Cluster::populated_as(Plan {
        gateways: usize::from(options.gateways),
        redis: several,
        lines: true,
        variables: sabotage.collect(),
        world_line: Some(program),
        folder: Some(folder.to_owned()),
        seed: options.seed,
        ..Plan::default()
    });
    let builds: Vec<String> = (0..BUILDS).map(|n| format!("2.0.{n}")).collect();
    for build in &builds {
        cluster.register_reversible(build, "");
    }
    let gold = cluster.audit(REALM).gold_total;
    (Realm::new(cluster), builds, gold)
}

/// Shows every fault of the schedule at its time.
fn strike(realm: &Arc<Realm>, schedule: &Schedule, begin: Instant) {
    std::thread::scope(|scope| {
        for (number, fault) in schedule.faults.iter().enumerate() {
            let at = begin + Duration::from_millis(fault.at_ms);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            note(&format!("{} for {} ms", fault.kind.word(), fault.lasts_ms));
            scope.spawn(move || {
                // One that cannot be shown just now (a Redis that only reads, a process that does not come up) is left out.
                if catch_unwind(AssertUnwindSafe(|| faults::show(realm, number, fault))).is_err() {
                    note(&format!("{} could not be shown", fault.kind.word()));
                }
            });
        }
        let end = begin + Duration::from_millis(schedule.length_ms);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    });
}

fn close_the_books(realm: &Realm, gold: u64) -> Verdict {
    epilogue::tell_errors(realm);
    match world_server_stub::ledger::audit(&realm.database) {
        Ok(audit) => {
            event!("gold", before = gold, after = audit.gold_total, stale_writes_refused = audit.stale_writes_refused)
        }
        Err(error) => event!("error_line", log = "campaign", line = %error),
    }
    event!("campaign_ended", mono_us = SystemClock.now().mono.0);
    let evidence = Evidence::read(&Realm::events(&realm.folder), &realm.database);
    judge(&evidence.expect("what everybody wrote can be read"))
}

fn note(text: &str) {
    event!("note", text = text);
    eprintln!("campaign: {text}");
}
