//! What a simulation must be told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_types::{RealmId, ZoneId};

use crate::error::SimulationError;

/// How many players, how lively, and against which gateway. As TOML, every key may be left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Gateways, tried in turn by every player. Default `127.0.0.1:7443`.
    pub gateway: Vec<SocketAddr>,
    /// The name that the gateway's certificate must carry. Default `localhost`.
    pub server_name: String,
    /// The certificate authority of the gateway, PEM. Default `data/pki/ca.pem`.
    pub ca: PathBuf,
    /// The secret key that signs login tickets (the login service's part, in development). Default `data/tickets/login.key`.
    pub login_key: PathBuf,
    /// The realm to play in. Default `eu-1`.
    pub realm: RealmId,
    /// How many players are to be in the world at once. Default 500, at most 100,000.
    pub players: u32,
    /// Position datagrams a second and player. Default 4, at most 60.
    pub hz: f64,
    /// Everything that is random comes from it. Default 1.
    pub seed: u64,
    /// Logins a second while fewer than `players` are in the world (open loop: a slow gateway does not slow them down).
    /// Default 200.
    pub arrival_per_s: f64,
    /// A TOML file of profiles instead of the embedded ones.
    pub profiles: Option<PathBuf>,
    /// Divides every stay, pause and absence of the profiles: 10 lives a day in two hours and a half. Default 1.
    pub pace: f64,
    /// Shared zones that travellers go to. Default harbor, meadow, forest. The first is where trade happens.
    pub zones: Vec<ZoneId>,
    /// The client version that the players claim, a semver. Default `1.0.0`.
    pub client_version: String,
    /// Begins every player's and character's name, so that several simulations can share a realm. Default `sim`.
    pub name_prefix: String,
    /// How long `finish` waits for the last answers, in milliseconds. Default 10,000.
    pub settle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let zone = |name: &str| ZoneId::new(name).expect("a plain word is an id");
        Self {
            gateway: vec![SocketAddr::from(([127, 0, 0, 1], 7443))],
            server_name: "localhost".into(),
            ca: "data/pki/ca.pem".into(),
            login_key: "data/tickets/login.key".into(),
            realm: RealmId::new("eu-1").expect("a plain word is an id"),
            players: 500,
            hz: 4.0,
            seed: 1,
            arrival_per_s: 200.0,
            profiles: None,
            pace: 1.0,
            zones: vec![zone("harbor"), zone("meadow"), zone("forest")],
            client_version: "1.0.0".into(),
            name_prefix: "sim".into(),
            settle_ms: 10_000,
        }
    }
}

impl Config {
    /// Reads a TOML file; `None` means the defaults.
    ///
    /// # Errors
    /// One line that names the file and the key.
    pub fn load(path: Option<&Path>) -> Result<Self, SimulationError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| SimulationError::Read { path: path.to_owned(), why: e.to_string() })?;
        let config: Self = crate::profile::parse_toml(&text, &path.display().to_string())?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), SimulationError> {
        let wrong = |key, why: &str| Err(SimulationError::Value { key, why: why.into() });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_an_unknown_key_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("simulate.toml");
        std::fs::write(&path, "playerz = 3\n").unwrap();
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("playerz") && error.contains("simulate.toml"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        std::fs::write(&path, "hz = 1000\n").unwrap();
        assert!(Config::load(Some(&path)).unwrap_err().to_string().contains("hz must be 0 to 60"));
    }
}
