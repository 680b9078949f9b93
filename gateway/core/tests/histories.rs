//! Random histories of the model world against the core: the rules of the design hold at every step, and everything that was
//! begun comes to an end. And the other way round: with a rule broken on purpose the same histories show it.

use gateway_core::model::{Numbers, Setup, Step, World};
use gateway_core::{CoreConfig, Sabotage};
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
    let mut world = World::new(setup);
    for step in steps {
        world.step(step);
        if !world.violations().is_empty() {
            return told(&world);
        }
    }
    world.come_to_rest();
    told(&world)
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
    // TIDEGATE_SEED=n replays one seed and prints all that happened.
    let traced = std::env::var("TIDEGATE_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let seeds = traced.map_or(0..1_000, |seed| seed..seed + 1);
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
        let violations = violations(&setup, steps);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
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
