//! Bad networks, schedules of faults, and the judge of what came of them.
//!
//! - [`relay`]: a network between processes that loses, delays, repeats and cuts;
//! - [`schedule`]: which fault strikes when, by a seed;
//! - [`verdict`]: what the events and the realm's database say of each rule, after the fact.
//!
//! Knows the event log's words and the realm database's tables, and nothing else of the product.

pub mod relay;
pub mod schedule;
pub mod verdict;
