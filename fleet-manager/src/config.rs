//! What the fleet-manager can be told, from a TOML file. Unknown keys are errors; every error is one line that names the
//! file and the key, and comes before anything has been started.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Everything the fleet-manager can be told. All keys are optional.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the one gRPC port listens (operators, gateways and world servers). Default `127.0.0.1:7400`: loopback,
    /// because the port has no authentication of its own yet. Port 0 takes a free one (see `manager.addr`).
    pub listen: SocketAddr,
    /// Where `/metrics` is served over HTTP. Default `127.0.0.1:7401`. Port 0 takes a free one.
    pub metrics_listen: SocketAddr,
    /// The folder of everything durable: database, keys, assets, snapshots, world databases, logs. Default `./tidegate-data`.
    /// Relative paths are taken from the process's working directory.
    pub data_dir: PathBuf,
    /// Where snapshots are stored: an object-store URL such as `file:///backup/tidegate`. Default: `<data_dir>/snapshots`.
    pub snapshot_store: Option<String>,
    /// Names and IP addresses that players dial, for the development gateways' certificate. Default: none beside
    /// `localhost`, `127.0.0.1` and `::1`, which always are in it.
    pub gateway_names: Vec<String>,
    /// How long a gateway without a stream still counts as live, in milliseconds: until then a flip waits for it and names
    /// it as unconfirmed, and no second gateway with a directory of its own is admitted. Default 15,000: long enough to
    /// ride out a restart of the manager or the gateway.
    pub gateway_live_ms: u64,
    /// How long a gateway may be away before it is given up, in milliseconds. Until then its sessions are unknown, and
    /// unknown means occupied: a drain waits. Default 600,000: an hour's work lost to patience is better than a player
    /// lost to haste, but a gateway that was taken away for good must not block a drain for ever.
    pub gateway_forget_ms: u64,
    /// How long a flip waits for the gateways when the call does not say, in milliseconds. Default 5,000.
    pub confirm_timeout_ms: u64,
    /// How long an operator's call waits for a long step (snapshot, session command), in milliseconds. Default 60,000;
    /// the step itself goes on.
    pub call_timeout_ms: u64,
    /// How long audit records are kept, in days. Default 400: a year and a bit, so that last year's update can be read.
    pub audit_retention_days: u32,
    /// How long answers are kept for retried requests, in hours. Default 168 (7 days).
    pub request_retention_hours: u32,
    /// Most answers kept for retried requests, newest first. Default 200,000, at about 1 KiB each.
    pub request_limit: u32,
    /// The world servers' processes.
    pub servers: ServersConfig,
}

/// How world servers' processes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServersConfig {
    /// How long a process may take from its start to its registration, in milliseconds, before it is started again.
    /// Default 30,000: a large world may load for a while before it speaks.
    pub start_timeout_ms: u64,
    /// The first pause before a process that died is started again, in milliseconds; doubles up to `restart_max_ms`.
    /// Default 200: players are waiting.
    pub restart_min_ms: u64,
    /// The longest pause between restarts, in milliseconds. Default 10,000.
    pub restart_max_ms: u64,
    /// How long a server that is told to stop has to save its players, in milliseconds, before it is killed.
    /// Default 10,000.
    pub stop_within_ms: u64,
    /// A server whose last report is older than this is `unreachable`, in milliseconds. Default 5,000: five reports.
    pub report_timeout_ms: u64,
    /// Most world servers this manager runs at once. Default 512.
    pub limit: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 7401)),
            data_dir: PathBuf::from("tidegate-data"),
            snapshot_store: None,
            gateway_names: Vec::new(),
            gateway_live_ms: 15_000,
            gateway_forget_ms: 600_000,
            confirm_timeout_ms: 5_000,
            call_timeout_ms: 60_000,
            audit_retention_days: 400,
            request_retention_hours: 168,
            request_limit: 200_000,
            servers: ServersConfig::default(),
        }
    }
}

impl Default for ServersConfig {
    fn default() -> Self {
        Self {
            start_timeout_ms: 30_000,
            restart_min_ms: 200,
            restart_max_ms: 10_000,
            stop_within_ms: 10_000,
            report_timeout_ms: 5_000,
            limit: 512,
        }
    }
}

/// One line that says which file and which key cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct ConfigError {
    /// The file, or "defaults".
    pub source_name: String,
    /// What is wrong, beginning with the key where there is one.
    pub problem: String,
}

impl Config {
    /// Reads the file (or takes the defaults) and checks every value.
    ///
    /// # Errors
    /// One line naming the file and the key: unreadable file, bad TOML, unknown key, value out of range.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::default().checked("defaults");
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError { source_name: name.clone(), problem: format!("cannot be read: {e}") })?;
        Self::parse(&name, &text)
    }

    /// As [`Config::load`], from text. `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let what = e.message().lines().collect::<Vec<_>>().join(" ");
            let key = e.span().and_then(|span| key_at(text, span.start)).map(|k| format!("{k}: ")).unwrap_or_default();
            ConfigError { source_name: name.to_owned(), problem: format!("{place}{key}{what}") }
        })?;
        config.checked(name)
    }

    /// Checks what a type cannot say.
    fn checked(self, name: &str) -> Result<Self, ConfigError> {
        let bad = |key: &str, why: &dyn fmt::Display| ConfigError {
            source_name: name.to_owned(),
            problem: format!("{key}: {why}"),
        };
        let at_least = |key: &str, value: u64, least: u64| {
            if value < least { Err(bad(key, &format_args!("is {value}, must be at least {least}"))) } else { Ok(()) }
        };
        at_least("gateway_live_ms", self.gateway_live_ms, 1_000)?;
        at_least("gateway_forget_ms", self.gateway_forget_ms, self.gateway_live_ms)?;
        at_least("confirm_timeout_ms", self.confirm_timeout_ms, 1)?;
        at_least("call_timeout_ms", self.call_timeout_ms, 100)?;
        at_least("request_retention_hours", u64::from(self.request_retention_hours), 1)?;
        at_least("audit_retention_days", u64::from(self.audit_retention_days), 1)?;
        at_least("request_limit", u64::from(self.request_limit), 1_000)?;
        at_least("servers.start_timeout_ms", self.servers.start_timeout_ms, 100)?;
        at_least("servers.restart_min_ms", self.servers.restart_min_ms, 10)?;
        at_least("servers.restart_max_ms", self.servers.restart_max_ms, self.servers.restart_min_ms)?;
        at_least("servers.stop_within_ms", self.servers.stop_within_ms, 100)?;
        at_least("servers.report_timeout_ms", self.servers.report_timeout_ms, 1_500)?;
        at_least("servers.limit", u64::from(self.servers.limit), 1)?;
        if self.data_dir.as_os_str().is_empty() {
            return Err(bad("data_dir", &"is empty"));
        }
        if self.listen == self.metrics_listen && self.listen.port() != 0 {
            return Err(bad("metrics_listen", &format_args!("is the same as listen ({})", self.listen)));
        }
        if let Some(store) = &self.snapshot_store
            && let Err(e) = url::Url::parse(store)
        {
            return Err(bad("snapshot_store", &format_args!("\"{store}\" is not a URL: {e}")));
        }
        Ok(self)
    }

    /// How long a gateway without a stream still counts as live.
    #[must_use]
    pub const fn gateway_live(&self) -> Duration {
        Duration::from_millis(self.gateway_live_ms)
    }

    /// How long an operator's call waits for a long step.
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }
}

/// The key of the line at `offset`, so that a bad value is named by its key as well as its line.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |i| i + 1);
    let line = text[start..].lines().next()?;
    let key = line.split_once('=')?.0.trim();
    (!key.is_empty()).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Config::parse("manager.toml", text).expect_err("refused").to_string()
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(Config::parse("manager.toml", "").unwrap(), Config::default());
    }

    #[test]
    fn every_refusal_is_one_line_with_file_and_key() {
        for (text, word) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("listen = \"nowhere\"", "listen"),
            ("gateway_live_ms = 5", "gateway_live_ms"),
            ("[servers]\nrestart_min_ms = 1", "servers.restart_min_ms"),
            ("[servers]\nrestart_min_ms = 500\nrestart_max_ms = 100", "servers.restart_max_ms"),
            ("snapshot_store = \"not a url\"", "snapshot_store"),
            ("data_dir = \"\"", "data_dir"),
            ("listen = \"127.0.0.1:9\"\nmetrics_listen = \"127.0.0.1:9\"", "metrics_listen"),
            ("listen = ", "listen"),
        ] {
            let line = problem(text);
            assert!(line.starts_with("manager.toml: ") && line.contains(word), "{text:?} -> {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/manager.toml"))).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/manager.toml: cannot be read"), "{error}");
    }
}
