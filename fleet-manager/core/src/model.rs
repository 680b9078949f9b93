//! For tests (feature `model`): a small world that answers effects, a harness that crashes the manager between any two
//! lines, and switches that break it on purpose.
//!
//! The [`World`] is the truth: which player is where. The realm hears of it late, in part, or not at all, and whatever it
//! concludes is compared with the truth by [`Run`].

mod dice;
mod machines;
mod make;
mod players;
mod run;
mod world;

pub use dice::Dice;
pub use make::{build, create, environment_id, fleet, green_start, new_rows, policy};
pub use run::{Crash, Run};
pub use world::{Faults, World};

/// What is deliberately broken, to show that the tests see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sabotage {
    /// Every environment counts as empty.
    pub skip_drain_gate: bool,
    /// An environment counts as empty although gateways may still send players there.
    pub skip_ack_wait: bool,
}
