//! What a simulation must be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_config::{Problem, Settings, settings};
use tidegate_types::{RealmId, ZoneId};

use crate::error::SimulationError;

settings! {
    /// How many players, how lively, and against which gateway. As TOML, every key may be left out.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Config {
        /// Gateways; the first player begins with the first, the next player with the next, and so on, and each tries the
        /// others in turn. Default `127.0.0.1:7443`.
        pub gateway: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 7443))],
        /// Players also go to the gateways that a gateway names; false where only the configured addresses can be reached,
        /// for example through a relay. Default true.
        pub learn_gateways: bool = true,
        /// The name that the gateways' certificates must carry. Default `localhost`.
        pub server_name: String = "localhost".into(),
        /// The certificate authority of the gateway, PEM. Default `data/pki/ca.pem`.
        pub ca: PathBuf = "data/pki/ca.pem".into(),
        /// The secret key that signs login tickets (the login service's part, in development). Default
        /// `data/tickets/login.key`.
        pub login_key: PathBuf = "data/tickets/login.key".into(),
        /// The realm to play in. Default `eu-1`.
        pub realm: RealmId = RealmId::new("eu-1").expect("a plain word is an id"),
        /// How many players are to be in the world at once. Default 500, at most 100,000.
        pub players: u32 = 500,
        /// Position datagrams a second and player. Default 4, at most 60.
        pub hz: f64 = 4.0,
        /// Everything that is random comes from it. Default 1.
        pub seed: u64 = 1,
        /// Logins a second while fewer than `players` are in the world (open loop: a slow gateway does not slow them
        /// down). Default 200.
        pub arrival_per_s: f64 = 200.0,
        /// A TOML file of profiles instead of the embedded ones.
        pub profiles: Option<PathBuf> = None,
        /// Divides every stay, pause and absence of the profiles: 10 lives a day in two hours and a half. Default 1.
        pub pace: f64 = 1.0,
        /// Shared zones that travellers go to. Default harbor, meadow, forest. The first is where trade happens.
        pub zones: Vec<ZoneId> = vec![zone("harbor"), zone("meadow"), zone("forest")],
        /// The client version that the players claim, a semver. Default `1.0.0`.
        pub client_version: String = "1.0.0".into(),
        /// Begins every player's and character's name, so that several simulations can share a realm. Default `sim`.
        pub name_prefix: String = "sim".into(),
        /// How long `finish` waits for the last answers, in milliseconds. Default 10,000.
        pub settle_ms: u64 = 10_000,
    }
}

fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).expect("a plain word is an id")
}

impl Settings for Config {
    const PREFIX: &'static str = "TIDEGATE_SIMULATE_";

    fn check(&self) -> Result<(), Problem> {
        let wrong = |key, why: &str| Err(Problem::new(key, why));
        if self.gateway.is_empty() {
            return wrong("gateway", "names no gateway");
        }
        if self.players == 0 || self.players > 100_000 {
            return wrong("players", "must be 1 to 100000");
        }
        if !(0.0..=60.0).contains(&self.hz) {
            return wrong("hz", "must be 0 to 60");
        }
        if !(self.arrival_per_s > 0.0 && self.arrival_per_s <= 100_000.0) {
            return wrong("arrival_per_s", "must be above 0 and at most 100000");
        }
        if !(self.pace > 0.0 && self.pace <= 10_000.0) {
            return wrong("pace", "must be above 0 and at most 10000");
        }
        if self.zones.is_empty() {
            return wrong("zones", "names no zone");
        }
        if self.name_prefix.is_empty() || self.name_prefix.len() > 40 {
            return wrong("name_prefix", "must be 1 to 40 bytes long");
        }
        Ok(())
    }
}

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), SimulationError> {
        Settings::check(self).map_err(|Problem { key, why }| SimulationError::Value { key, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::Layers;

    #[test]
    fn every_refusal_names_file_and_key() {
        for (text, word) in
            [("playerz = 3", "\"players\""), ("hz = 1000", "hz: must be 0 to 60"), ("zones = []", "zones: ")]
        {
            let line = Layers::new().text("simulate.toml", text).load::<Config>().expect_err(text).to_string();
            assert!(line.starts_with("simulate.toml: line 1: ") && line.contains(word), "{text:?} -> {line}");
        }
    }
}
