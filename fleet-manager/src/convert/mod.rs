//! Between the core's structs and the API's messages. Wrong input dies here, named by field.

pub mod build;
pub mod drain;
pub mod environment;
pub mod realm;
pub mod rollout;
pub mod routing;
pub mod snapshot;

use std::time::Duration;

use tidegate_types::{Generation, Timestamp};

/// Milliseconds of a duration.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of a duration, for the fields that hold 32 bits.
#[must_use]
pub fn millis32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A moment that may not be: 0 on the wire.
#[must_use]
pub fn moment(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.0)
}

/// A generation that may be left out: 0 on the wire.
#[must_use]
pub const fn if_generation(generation: u64) -> Option<Generation> {
    if generation == 0 { None } else { Some(Generation(generation)) }
}
