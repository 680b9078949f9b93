//! Random histories of the model world against the core: the rules of the design hold at every step, and everything that was
//! begun comes to an end. And the other way round: with a rule broken on purpose the same histories show it.

use gateway_core::model::{Numbers, Setup, Step, World};
use gateway_core::{CoreConfig, Counters, Sabotage};
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => any::<u16>().prop_map(Step::Deliver),
        20 => any::<u16>().prop_map(Step::DeliverMany),
        12 => any::<u16>().prop_map(Step::Pass),
        20 => any::<u16>().prop_map(Step::Player),
        6 => any::<u16>().prop_map(Step::Server),
        3 => any::<u16>().prop_map(Step::Link),
        2 => any::<u16>().prop_map(Step::Process),
        4 => any::<u16>().prop_map(Step::Manager),
        2 => any::<u16>().prop_map(Step::Refuse),
        1 => any::<u16>().prop_map(Step::Gateway),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    (1usize..3, 1usize..6, 1u32..7).prop_map(|(servers, players, capacity)| Setup {
        servers,
        players,
        capacity,
        ..Setup::default()
    })
}

fn told(world: &World) -> Vec<String> {
    for line in world.trace() {
        println!("{line}");
    }
    world.violations().to_vec()
}

fn violations(setup: &Setup, steps: impl IntoIterator<Item = Step>) -> Vec<String> {
    play(setup, steps).0
}

fn play(setup: &Setup, steps: impl IntoIterator<Item = Step>) -> (Vec<String>, Counters) {
    let mut world = World::new(setup);
    for step in steps {
        world.step(step);
        if !world.violations().is_empty() {
            return (told(&world), world.core().counters().clone());
        }
    }
    world.come_to_rest();
    (told(&world), world.core().counters().clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_rules_hold_in_every_history(setup in setup(), steps in prop::collection::vec(step(), 0..600)) {
        prop_assert_eq!(violations(&setup, steps), Vec::<String>::new());
    }
}

/// Histories by seed: longer than the ones above, and one number names each.
#[test]
fn the_rules_hold_for_a_thousand_seeds() {
    // TIDEGATE_SEED=n replays one seed and prints all that happened; TIDEGATE_SEEDS=n tries so many.
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let traced = number("TIDEGATE_SEED");
    let seeds = traced.map_or(0..number("TIDEGATE_SEEDS").unwrap_or(1_000), |seed| seed..seed + 1);
    let mut seen = Counters::default();
    for seed in seeds {
        let mut numbers = Numbers::new(seed);
        let setup = Setup {
            servers: 1 + usize::try_from(numbers.next() % 2).unwrap(),
            players: 1 + usize::try_from(numbers.next() % 6).unwrap(),
            capacity: 2 + u32::try_from(numbers.next() % 6).unwrap(),
            trace: traced.is_some(),
            ..Setup::default()
        };
        let steps = (0..800).map(|_| numbers.step()).collect::<Vec<_>>();
        let (violations, counters) = play(&setup, steps);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        add(&mut seen, &counters);
    }
    if traced.is_none() {
        assert_happened(&seen);
    }
}

fn add(seen: &mut Counters, more: &Counters) {
    seen.logins += more.logins;
    seen.takeovers += more.takeovers;
    seen.resumes += more.resumes;
    seen.grace_expired += more.grace_expired;
    seen.rerouted += more.rerouted;
    seen.holds_full += more.holds_full;
    seen.holds_warming += more.holds_warming;
    seen.stale_epoch_retries += more.stale_epoch_retries;
    seen.wrong_zone_retries += more.wrong_zone_retries;
    seen.handovers_completed += more.handovers_completed;
    seen.handovers_restored += more.handovers_restored;
    seen.kept_freeze_refused += more.kept_freeze_refused;
    seen.kept_prepare_refused += more.kept_prepare_refused;
    seen.kept_timed_out += more.kept_timed_out;
    seen.kept_target_lost += more.kept_target_lost;
    seen.kept_source_lost += more.kept_source_lost;
    seen.kept_group += more.kept_group;
    seen.boundary_fallbacks += more.boundary_fallbacks;
    seen.homes_regained += more.homes_regained;
    seen.homes_replaced += more.homes_replaced;
    seen.adopted += more.adopted;
    seen.stale_residents += more.stale_residents;
    seen.unresponsive += more.unresponsive;
}

/// A rule that was never put to the test proves nothing: all that can go wrong did, somewhere.
fn assert_happened(seen: &Counters) {
    let counts = [
        ("logins", seen.logins),
        ("takeovers", seen.takeovers),
        ("resumes", seen.resumes),
        ("grace_expired", seen.grace_expired),
        ("rerouted", seen.rerouted),
        ("holds_full", seen.holds_full),
        ("holds_warming", seen.holds_warming),
        ("stale_epoch_retries", seen.stale_epoch_retries),
        ("wrong_zone_retries", seen.wrong_zone_retries),
        ("handovers_completed", seen.handovers_completed),
        ("handovers_restored", seen.handovers_restored),
        ("kept_freeze_refused", seen.kept_freeze_refused),
        ("kept_prepare_refused", seen.kept_prepare_refused),
        ("kept_timed_out", seen.kept_timed_out),
        ("kept_target_lost", seen.kept_target_lost),
        ("kept_source_lost", seen.kept_source_lost),
        ("kept_group", seen.kept_group),
        ("boundary_fallbacks", seen.boundary_fallbacks),
        ("homes_regained", seen.homes_regained),
        ("homes_replaced", seen.homes_replaced),
        ("adopted", seen.adopted),
        ("stale_residents", seen.stale_residents),
        ("unresponsive", seen.unresponsive),
    ];
    println!("{counts:?}");
    let never: Vec<_> = counts.iter().filter(|(_, n)| *n == 0).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}

/// Without faults nothing at all is lost: every frame takes effect, every hand-over that the policy wants succeeds.
#[test]
fn without_faults_every_frame_takes_effect() {
    let mut completed = 0;
    for seed in 0..300 {
        let mut numbers = Numbers::new(seed);
        let setup = Setup { servers: 2, players: 5, capacity: 12, ..Setup::default() };
        let mut world = World::new(&setup);
        for _ in 0..400 {
            match numbers.step() {
                Step::Link(_) | Step::Process(_) | Step::Refuse(_) | Step::Gateway(_) => {}
                // Nothing is ever late by more than a step's time.
                Step::Pass(n) => {
                    world.step(Step::DeliverMany(63));
                    world.step(Step::Pass(n % 400));
                }
                step @ (Step::Deliver(_)
                | Step::DeliverMany(_)
                | Step::Player(_)
                | Step::Server(_)
                | Step::Manager(_)) => world.step(step),
            }
        }
        world.come_to_rest();
        assert_eq!(world.violations(), Vec::<String>::new(), "seed {seed}");
        assert_eq!(world.unheard(), Vec::<String>::new(), "seed {seed}");
        let counters = world.core().counters();
        let unexpected = counters.kept_prepare_refused + counters.kept_freeze_refused + counters.homes_lost;
        assert_eq!(unexpected, 0, "seed {seed}: {counters:?}");
        completed += counters.handovers_completed;
    }
    assert!(completed > 300, "{completed} hand-overs");
}

/// How many of the seeds show a violation with that sabotage; the first one's words.
fn caught(sabotage: Sabotage, wanted: &str) -> (usize, Option<String>) {
    let (mut count, mut first) = (0, None);
    for seed in 0..400 {
        let mut numbers = Numbers::new(seed);
        let core = CoreConfig { sabotage, ..CoreConfig::default() };
        let setup = Setup { servers: 2, players: 4, capacity: 6, core, ..Setup::default() };
        let steps = (0..800).map(|_| numbers.step()).collect::<Vec<_>>();
        if let Some(found) = violations(&setup, steps).into_iter().find(|v| v.contains(wanted)) {
            count += 1;
            first.get_or_insert(found);
        }
    }
    (count, first)
}

#[test]
fn a_skipped_epoch_check_is_caught() {
    let (count, first) = caught(Sabotage { skip_epoch_check: true, ..Sabotage::default() }, "is live on");
    assert!(count > 0, "{first:?}");
}

#[test]
fn an_acknowledgement_without_waiting_is_caught() {
    let (count, first) = caught(Sabotage { ack_without_waiting: true, ..Sabotage::default() }, "not to accept");
    assert!(count > 0, "{first:?}");
}

#[test]
fn a_thaw_after_the_commit_is_caught() {
    let (count, first) = caught(Sabotage { thaw_after_commit: true, ..Sabotage::default() }, "is live on");
    assert!(count > 0, "{first:?}");
}

#[test]
fn a_lease_not_waited_for_is_caught() {
    let (count, first) = caught(Sabotage { skip_lease: true, ..Sabotage::default() }, "is live on");
    assert!(count > 0, "{first:?}");
}
