//! A network between processes that can be made bad on purpose: what netem would do, without a kernel that has it.
//!
//! A relay stands between two parties that speak over UDP or TCP; each is told the relay's address instead of the other's.
//! What a relay does to what passes it is its *weather*, set for each direction at any time. All chance comes from a seed.

mod tcp;
mod udp;
mod weather;

pub use tcp::{Stream, TcpRelay};
pub use udp::UdpRelay;
pub use weather::{Fate, HELD_BACK, QUEUE, Sky, Weather};

/// Which way something passes a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From those who dialled the relay.
    Out,
    /// Back to them.
    Back,
}

impl Direction {
    /// Both ways.
    pub const BOTH: [Self; 2] = [Self::Out, Self::Back];

    const fn index(self) -> usize {
        match self {
            Self::Out => 0,
            Self::Back => 1,
        }
    }
}
