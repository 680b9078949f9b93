//! What a world server is told by the manager that started it: environment variables, each checked and named when wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, FleetName, RealmId, ServerId, ZoneId};

/// A world server's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The manager's gRPC address, `http://host:port` (`TIDEGATE_MANAGER`).
    pub manager: String,
    /// `TIDEGATE_REALM`.
    pub realm: RealmId,
    /// `TIDEGATE_ENVIRONMENT`.
    pub environment: EnvironmentId,
    /// `TIDEGATE_FLEET`.
    pub fleet: FleetName,
    /// `TIDEGATE_SERVER_ID`.
    pub server: ServerId,
    /// The build this process really is: given by the program, never by the environment.
    pub build: BuildVersion,
    /// The build that the manager believes it started (`TIDEGATE_BUILD`); for the logs only.
    pub expected_build: BuildVersion,
    /// Where the link listens (`TIDEGATE_LINK_LISTEN`); port 0 means any.
    pub link_listen: SocketAddr,
    /// The address that gateways are told to dial (`TIDEGATE_LINK_ADVERTISE`); `None`: where the link is bound. For servers
    /// behind address translation.
    pub link_advertise: Option<SocketAddr>,
    /// The authority that gateways' certificates must be from (`TIDEGATE_LINK_CA`), a PEM file.
    pub link_ca: PathBuf,
    /// This server's certificate (`TIDEGATE_LINK_CERT`), a PEM file.
    pub link_cert: PathBuf,
    /// This server's secret key (`TIDEGATE_LINK_KEY`), a PEM file.
    pub link_key: PathBuf,
    /// Shared zones it serves (`TIDEGATE_ZONES`, separated by commas; may be empty).
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance it hosts (`TIDEGATE_INSTANCE_KINDS`, separated by commas; may be empty).
    pub instance_kinds: Vec<ZoneId>,
    /// Most players (`TIDEGATE_CAPACITY`); the host refuses more with `FULL`.
    pub capacity: u32,
    /// The realm's database (`TIDEGATE_DATABASE`), for the world's own use.
    pub database: PathBuf,
    /// Steps of the simulation a second, 1 to 1000; 20 unless the program sets another number.
    pub tick_hz: u32,
    /// Where the host itself is to lie, for tests of the fleet; nowhere by default.
    pub faults: Faults,
}

/// Lies and delays of the host itself. They exist to show that a manager notices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reports another digest of the assets than it read.
    pub wrong_digest: bool,
    /// Registers as this build.
    pub wrong_build: Option<BuildVersion>,
    /// Loads its assets for ever.
    pub never_ready: bool,
    /// Waits so long before it registers.
    pub slow_start: Option<Duration>,
    /// Added to the population that it reports to the manager (never below zero).
    pub population_lie: Option<i64>,
}

/// One environment variable is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// Its value cannot be used.
    #[error("environment variable {name} = {value:?}: {why}")]
    Bad {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Config {
    /// Reads the environment. `build` is what the program really is.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first variable that is missing or wrong.
    pub fn from_env(build: BuildVersion) -> Result<Self, ConfigError> {
        Self::from_lookup(build, |name| std::env::var(name).ok())
    }

    /// As [`Config::from_env`], with the variables from elsewhere.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first variable that is missing or wrong.
    pub fn from_lookup(build: BuildVersion, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let vars = Vars { lookup };
        let manager = vars.text("TIDEGATE_MANAGER")?;
        if let Err(error) = tonic::transport::Endpoint::from_shared(manager.clone()) {
            return Err(bad("TIDEGATE_MANAGER", &manager, error));
        }
        let config = Self {
            manager,
            realm: vars.parse("TIDEGATE_REALM")?,
            environment: vars.parse("TIDEGATE_ENVIRONMENT")?,
            fleet: vars.parse("TIDEGATE_FLEET")?,
            server: vars.parse("TIDEGATE_SERVER_ID")?,
            build,
            expected_build: vars.parse("TIDEGATE_BUILD")?,
            link_listen: vars.parse("TIDEGATE_LINK_LISTEN")?,
            link_advertise: vars.optional("TIDEGATE_LINK_ADVERTISE")?,
            link_ca: vars.text("TIDEGATE_LINK_CA")?.into(),
            link_cert: vars.text("TIDEGATE_LINK_CERT")?.into(),
            link_key: vars.text("TIDEGATE_LINK_KEY")?.into(),
            zones: vars.list("TIDEGATE_ZONES")?,
            instance_kinds: vars.list("TIDEGATE_INSTANCE_KINDS")?,
            capacity: vars.parse("TIDEGATE_CAPACITY")?,
            database: vars.text("TIDEGATE_DATABASE")?.into(),
            tick_hz: 20,
            faults: Faults::default(),
        };
        if config.zones.is_empty() && config.instance_kinds.is_empty() {
            return Err(bad("TIDEGATE_ZONES", "", "neither a zone nor an instance kind is given"));
        }
        Ok(config)
    }
}

struct Vars<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Vars<F> {
    fn text(&self, name: &'static str) -> Result<String, ConfigError> {
        match (self.lookup)(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(ConfigError::Missing(name)),
        }
    }

    fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        let value = self.text(name)?;
        value.parse().map_err(|why| bad(name, &value, why))
    }

    /// Empty and unset mean `None`.
    fn optional<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        let value = (self.lookup)(name).filter(|value| !value.is_empty());
        value.map(|value| value.parse().map_err(|why| bad(name, &value, why))).transpose()
    }

    /// Empty and unset mean the empty list.
    fn list(&self, name: &'static str) -> Result<Vec<ZoneId>, ConfigError> {
        let value = (self.lookup)(name).unwrap_or_default();
        value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().map_err(|why| bad(name, &value, why)))
            .collect()
    }
}

fn bad(name: &'static str, value: &str, why: impl std::fmt::Display) -> ConfigError {
    ConfigError::Bad { name, value: value.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn complete() -> HashMap<&'static str, &'static str> {
        HashMap::from([
            ("TIDEGATE_MANAGER", "http://127.0.0.1:7400"),
            ("TIDEGATE_REALM", "eu-1"),
            ("TIDEGATE_ENVIRONMENT", "eu-1-a"),
            ("TIDEGATE_FLEET", "main"),
            ("TIDEGATE_SERVER_ID", "eu-1-a-main-0"),
            ("TIDEGATE_BUILD", "1.9.0"),
            ("TIDEGATE_LINK_LISTEN", "127.0.0.1:0"),
            ("TIDEGATE_LINK_CA", "ca.pem"),
            ("TIDEGATE_LINK_CERT", "s.pem"),
            ("TIDEGATE_LINK_KEY", "s.key"),
            ("TIDEGATE_ZONES", "town, forest"),
            ("TIDEGATE_INSTANCE_KINDS", ""),
            ("TIDEGATE_CAPACITY", "500"),
            ("TIDEGATE_DATABASE", "world.db"),
        ])
    }

    fn read(vars: &HashMap<&'static str, &'static str>) -> Result<Config, ConfigError> {
        Config::from_lookup(BuildVersion::new("1.9.0").unwrap(), |name| vars.get(name).map(|v| (*v).to_owned()))
    }

    #[test]
    fn a_complete_environment_is_read() {
        let config = read(&complete()).unwrap();
        assert_eq!(config.zones.iter().map(ZoneId::as_str).collect::<Vec<_>>(), ["town", "forest"]);
        assert!(config.instance_kinds.is_empty());
        assert_eq!((config.tick_hz, config.link_advertise), (20, None));
        let mut elsewhere = complete();
        elsewhere.insert("TIDEGATE_LINK_ADVERTISE", "192.0.2.1:4000");
        assert_eq!(read(&elsewhere).unwrap().link_advertise, Some("192.0.2.1:4000".parse().unwrap()));
    }

    #[test]
    fn every_wrong_variable_is_named() {
        for (name, value) in [
            ("TIDEGATE_REALM", "eu 1"),
            ("TIDEGATE_MANAGER", "not a url"),
            ("TIDEGATE_LINK_LISTEN", "localhost"),
            ("TIDEGATE_LINK_ADVERTISE", "world.example"),
            ("TIDEGATE_CAPACITY", "-1"),
            ("TIDEGATE_ZONES", "a b"),
            ("TIDEGATE_ZONES", ""),
            ("TIDEGATE_DATABASE", ""),
        ] {
            let mut vars = complete();
            vars.insert(name, value);
            let error = read(&vars).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
