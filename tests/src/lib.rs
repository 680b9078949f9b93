//! Harness, simulation, scenarios, end to end.
//!
//! The end-to-end tests start the real binary as real processes in a folder of their own, drive it by the operator's own
//! command line, and fill it with simulated players whose ledgers are the judges. Nothing here reaches into a process.

pub mod campaign;
pub mod cluster;
pub mod crowd;
pub mod operator;
pub mod process;
pub mod simulation;
pub mod visitor;
pub mod wait;
