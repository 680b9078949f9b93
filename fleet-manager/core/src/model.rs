//! For tests only (feature `model`): sabotage switches.

/// What is deliberately broken, to show that the tests see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sabotage {
    /// Every environment counts as empty.
    pub skip_drain_gate: bool,
}
