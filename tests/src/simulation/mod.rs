//! A seeded simulation of both cores with a model beside them.
//!
//! ```text
//!   operator's deeds          Realm (rows stored, killed at any line)      machines that start, load, die
//!        \______________________/        |  effects        \_________________________/
//!                                 Stream (late, cut, opened again)                 |  processes
//!                                        |  tables, commands, deaths               |
//!   players (frames numbered) ---- Core (gateway) ---- links (late, cut) ---- world servers (leases, epochs)
//! ```
//!
//! Real are [`fleet_core::Realm`] and [`gateway_core::Core`]; around them are the models of their own crates, joined here by
//! a virtual network and one virtual clock. `rules::Rules` knows only what players and processes see and what the operator
//! said, and compares. One seed is one history: [`play`] gives the same for the same seed, always.

mod deeds;
mod joint;
mod manager;
mod registry;
mod rest;
mod rules;
mod stream;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway_core::CoreConfig;
use gateway_core::model::{Numbers, Setup};

use self::joint::Joint;

/// Events of a failed history that are shown, unless `TIDEGATE_EVENTS` says otherwise.
const SHOWN_EVENTS: usize = 60;

/// What may go wrong in a history, by itself or on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// Links, streams and connections break, processes die and are refused, the manager and the gateway die.
    pub faults: bool,
    /// Rules that the gateway's core breaks.
    pub gateway: gateway_core::Sabotage,
    /// Rules that the manager's core breaks.
    pub manager: fleet_core::model::Sabotage,
}

/// What happened in a history that broke no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Sessions begun.
    pub logins: u64,
    /// Hand-overs that ended at their target.
    pub handovers: u64,
    /// Hand-overs that left the player in place.
    pub kept: u64,
    /// Sessions restored from a save after their home was lost.
    pub restored: u64,
    /// Sessions taken up again after a lost connection.
    pub resumes: u64,
    /// Attaches taken back because the accepting environment changed meanwhile.
    pub rerouted: u64,
    /// Flips that every gateway acknowledged.
    pub flips_confirmed: u64,
    /// Drains that ended.
    pub drained: u64,
    /// Moves at a drain's deadline or on an operator's word.
    pub commanded_moves: u64,
    /// Rollouts that completed.
    pub rollouts_completed: u64,
    /// Rollouts that were taken back or failed.
    pub rollouts_undone: u64,
    /// Times at which two environments drained at once.
    pub two_drains: u64,
    /// Deaths of the manager.
    pub manager_deaths: u64,
    /// Deaths of the gateway.
    pub gateway_deaths: u64,
    /// Deaths of world servers.
    pub server_deaths: u64,
    /// Breaks of the stream between gateway and manager.
    pub stream_cuts: u64,
}

impl Seen {
    /// Adds what another history saw.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), (_, theirs)) in self.fields().into_iter().zip(other.clone().fields()) {
            *mine += *theirs;
        }
    }

    /// Every count with its name.
    pub const fn fields(&mut self) -> [(&'static str, &mut u64); 16] {
        [
            ("logins", &mut self.logins),
            ("handovers", &mut self.handovers),
            ("kept", &mut self.kept),
            ("restored", &mut self.restored),
            ("resumes", &mut self.resumes),
            ("rerouted", &mut self.rerouted),
            ("flips_confirmed", &mut self.flips_confirmed),
            ("drained", &mut self.drained),
            ("commanded_moves", &mut self.commanded_moves),
            ("rollouts_completed", &mut self.rollouts_completed),
            ("rollouts_undone", &mut self.rollouts_undone),
            ("two_drains", &mut self.two_drains),
            ("manager_deaths", &mut self.manager_deaths),
            ("gateway_deaths", &mut self.gateway_deaths),
            ("server_deaths", &mut self.server_deaths),
            ("stream_cuts", &mut self.stream_cuts),
        ]
    }
}

/// A history that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which history.
    pub seed: u64,
    /// The rule, in words.
    pub rule: String,
    /// What happened last; empty unless it was asked for.
    pub events: Vec<String>,
}

/// Plays the history of a seed. With `trace` a broken one comes with its last events.
///
/// # Errors
/// [`Broken`], when a rule was.
pub fn play(seed: u64, weather: Weather, trace: bool) -> Result<Seen, Broken> {
    let mut dice = Numbers::new(seed);
    let players = 1 + usize::try_from(dice.next() % 6).unwrap_or(0);
    let setup = Setup {
        servers: 0,
        players,
        // Room for everybody: that a full server holds players is the business of the gateway core's own histories.
        capacity: 16,
        core: CoreConfig { sabotage: weather.gateway, ..CoreConfig::default() },
        trace,
    };
    let mut joint = Joint::new(seed, &setup, weather, dice);
    // The harness of the manager's core panics where a rule is broken; here it is a result like any other.
    let played = catch_unwind(AssertUnwindSafe(|| joint.play()));
    let rule = match played {
        Ok(()) => joint.first_violation(),
        Err(panic) => Some(words(panic.as_ref())),
    };
    match rule {
        None => Ok(joint.seen()),
        Some(rule) => {
            let events = joint.events();
            Err(Broken { seed, rule, events: events[events.len().saturating_sub(shown())..].to_vec() })
        }
    }
}

/// Plays the histories of `seeds`; the first broken one is played again and shown.
///
/// # Panics
/// When one breaks a rule.
pub fn play_all(seeds: impl IntoIterator<Item = u64>, weather: Weather) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds {
        match play(seed, weather, false) {
            Ok(more) => seen.add(&more),
            Err(broken) => {
                let shown = play(seed, weather, true).err().unwrap_or_else(|| broken.clone());
                for event in &shown.events {
                    println!("{event}");
                }
                panic!("seed {seed}: {} (TIDEGATE_SEED={seed} replays it)", broken.rule);
            }
        }
    }
    seen
}

fn shown() -> usize {
    std::env::var("TIDEGATE_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(SHOWN_EVENTS)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
