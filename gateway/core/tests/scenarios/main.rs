//! The core, step by step: what it wants done for each thing that happens.

mod alone;
mod several;
mod stage;
