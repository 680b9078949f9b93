//! What a cluster is to consist of.

use std::path::PathBuf;

/// What a cluster is to consist of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many gateways.
    pub gateways: usize,
    /// A Redis for their directory; without it each believes to be the only one.
    pub redis: bool,
    /// Relays on every line: players to gateways, gateways to Redis and to the manager, gateways to world servers.
    pub lines: bool,
    /// More lines of every gateway's configuration.
    pub gateway_config: String,
    /// Environment variables of every process.
    pub variables: Vec<(String, String)>,
    /// With lines: the program that starts world servers behind a relay (see [`super::world_line`]); without, gateways reach
    /// world servers directly.
    pub world_line: Option<PathBuf>,
    /// The folder of everything; without one, a temporary folder that is gone with the cluster.
    pub folder: Option<PathBuf>,
    /// All chance of the relays comes from it.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            gateways: 1,
            redis: false,
            lines: false,
            gateway_config: String::new(),
            variables: Vec::new(),
            world_line: None,
            folder: None,
            seed: 1,
        }
    }
}

impl Plan {
    /// So many gateways that share a Redis.
    #[must_use]
    pub fn gateways(gateways: usize) -> Self {
        Self { gateways, redis: true, ..Self::default() }
    }
}
