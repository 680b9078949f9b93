//! Both cores, a thousand histories and more: the rules of the design hold at every step of each, and everything that was
//! begun comes to its end. And the other way round: with a rule broken on purpose, some history shows it.
//!
//! `TIDEGATE_SEED=n` replays one history and shows its last events when it breaks a rule; `TIDEGATE_SEEDS=n` plays so many.

use tidegate_tests::simulation::{Seen, Weather, play, play_all};

/// Histories with faults in the suite, and those without.
const WITH_FAULTS: u64 = 800;
const WITHOUT_FAULTS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// Plays what is asked for; all of it in the suite.
fn seeds(usually: u64, weather: Weather, check: impl Fn(&mut Seen)) {
    if let Some(seed) = number("TIDEGATE_SEED") {
        play_all([seed], weather);
        return;
    }
    let mut seen = play_all(0..number("TIDEGATE_SEEDS").unwrap_or(usually), weather);
    println!("{seen:?}");
    check(&mut seen);
}

/// A rule that was never put to the test proves nothing.
fn all_happened(seen: &mut Seen, but: &[&str]) {
    let never: Vec<&str> =
        seen.fields().into_iter().filter(|(name, n)| **n == 0 && !but.contains(name)).map(|(name, _)| name).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}

#[test]
fn the_rules_hold_whatever_breaks() {
    let weather = Weather { faults: true, ..Weather::default() };
    seeds(WITH_FAULTS, weather, |seen| all_happened(seen, &[]));
}

#[test]
fn the_rules_hold_when_nothing_breaks() {
    let only_by_faults =
        ["kept", "rerouted", "restored", "manager_deaths", "gateway_deaths", "server_deaths", "stream_cuts"];
    seeds(WITHOUT_FAULTS, Weather::default(), |seen| all_happened(seen, &only_by_faults));
}

/// Some history of so many breaks the rule that the sabotage is about, in these words.
fn caught(within: u64, weather: Weather, words: &str) {
    let broken = (0..within).filter_map(|seed| play(seed, weather, false).err()).find(|b| b.rule.contains(words));
    let broken = broken.unwrap_or_else(|| panic!("nobody noticed {weather:?} in {within} histories"));
    println!("seed {}: {}", broken.seed, broken.rule);
}

fn gateway(sabotage: gateway_core::Sabotage) -> Weather {
    Weather { faults: true, gateway: sabotage, ..Weather::default() }
}

fn manager(sabotage: fleet_core::model::Sabotage) -> Weather {
    Weather { faults: true, manager: sabotage, ..Weather::default() }
}

#[test]
fn a_skipped_epoch_check_is_caught() {
    let sabotage = gateway_core::Sabotage { skip_epoch_check: true, ..Default::default() };
    caught(400, gateway(sabotage), "is live on");
}

#[test]
fn an_acknowledgement_without_waiting_is_caught() {
    let sabotage = gateway_core::Sabotage { ack_without_waiting: true, ..Default::default() };
    caught(400, gateway(sabotage), "was confirmed");
}

#[test]
fn a_thaw_after_the_commit_is_caught() {
    let sabotage = gateway_core::Sabotage { thaw_after_commit: true, ..Default::default() };
    caught(400, gateway(sabotage), "is live on");
}

#[test]
fn a_skipped_drain_gate_is_caught() {
    let sabotage = fleet_core::model::Sabotage { skip_drain_gate: true, ..Default::default() };
    caught(400, manager(sabotage), "with players inside");
}

#[test]
fn acknowledgements_not_waited_for_are_caught() {
    let sabotage = fleet_core::model::Sabotage { skip_ack_wait: true, ..Default::default() };
    caught(400, manager(sabotage), "although it is drained");
}
