//! What the fleet-manager can be told, from a TOML file, environment variables (`TIDEGATE_MANAGER_…`) and flags.
//! `tidegate config explain fleet-manager` prints what stands here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_config::{Problem, Settings, settings};

use crate::store::Check;

settings! {
    /// Everything the fleet-manager can be told. All keys are optional.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Config {
        /// Where the one gRPC port listens (operators, gateways and world servers). Default `127.0.0.1:7400`: loopback,
        /// because the port has no authentication of its own yet. Port 0 takes a free one (see `manager.addr`).
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7400)),
        /// Where `/metrics` is served over HTTP. Default `127.0.0.1:7401`. Port 0 takes a free one.
        pub metrics_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7401)),
        /// The folder of everything durable: database, keys, assets, snapshots, world databases, logs. Default
        /// `./tidegate-data`. Relative paths are taken from the process's working directory.
        pub data_dir: PathBuf = PathBuf::from("tidegate-data"),
        /// Where snapshots are stored: an object-store URL such as `file:///backup/tidegate`. Default:
        /// `<data_dir>/snapshots`.
        pub snapshot_store: Option<String> = None,
        /// Names and IP addresses that players dial, for the development gateways' certificate. Default: none beside
        /// `localhost`, `127.0.0.1` and `::1`, which always are in it.
        pub gateway_names: Vec<String> = Vec::new(),
        /// How long a gateway without a stream still counts as live, in milliseconds: until then a flip waits for it
        /// and names it as unconfirmed, and no second gateway with a directory of its own is admitted. Default 15,000:
        /// long enough to ride out a restart of the manager or the gateway.
        pub gateway_live_ms: u64 = 15_000,
        /// How long a gateway may be away before it is given up, in milliseconds. Until then its sessions are unknown,
        /// and unknown means occupied: a drain waits. Default 600,000: an hour's work lost to patience is better than a
        /// player lost to haste, but a gateway that was taken away for good must not block a drain for ever.
        pub gateway_forget_ms: u64 = 600_000,
        /// How long a flip waits for the gateways when the call does not say, in milliseconds. Default 5,000.
        pub confirm_timeout_ms: u64 = 5_000,
        /// How long an operator's call waits for a long step (snapshot, session command), in milliseconds. Default
        /// 60,000; the step itself goes on.
        pub call_timeout_ms: u64 = 60_000,
        /// How the database is checked before it is believed at a start: `quick` (every page and row) or `full` (whether
        /// each index agrees with its table, too). Default `quick`: a start must not take minutes while players wait.
        pub store_check: Check = Check::Quick,
        /// A copy of the database is made in `<data_dir>/backups` when the newest is older than this, in hours. Default
        /// 24; one is made before every change of its schema as well.
        pub backup_hours: u32 = 24,
        /// How many of these copies are kept, beside those of before a change of the schema. Default 7.
        pub backup_keep: u32 = 7,
        /// How long audit records are kept, in days. Default 400: a year and a bit, so that last year's update can be
        /// read.
        pub audit_retention_days: u32 = 400,
        /// How long answers are kept for retried requests, in hours. Default 168 (7 days).
        pub request_retention_hours: u32 = 168,
        /// Most answers kept for retried requests, newest first. Default 200,000, at about 1 KiB each.
        pub request_limit: u32 = 200_000,
    }
    sections {
        /// The world servers' processes.
        pub servers: ServersConfig,
    }
}

settings! {
    /// How world servers' processes are kept.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct ServersConfig {
        /// How long a process may take from its start to its registration, in milliseconds, before it is started again.
        /// Default 30,000: a large world may load for a while before it speaks.
        pub start_timeout_ms: u64 = 30_000,
        /// The first pause before a process that died is started again, in milliseconds; doubles up to
        /// `restart_max_ms`. Default 200: players are waiting.
        pub restart_min_ms: u64 = 200,
        /// The longest pause between restarts, in milliseconds. Default 10,000.
        pub restart_max_ms: u64 = 10_000,
        /// How long a server that is told to stop has to save its players, in milliseconds, before it is killed.
        /// Default 10,000.
        pub stop_within_ms: u64 = 10_000,
        /// A server whose last report is older than this is `unreachable`, in milliseconds. Default 5,000: five
        /// reports.
        pub report_timeout_ms: u64 = 5_000,
        /// A server that serves and says nothing for this long hangs, in milliseconds: it is killed and replaced. Never
        /// less than three of its own reports (every 300 ms by our SDK). Default 1,300: with the manager's own
        /// measuring every 100 ms, a hang is noticed within 1.5 s. Time in which the manager itself, or the server, was
        /// not run by the machine does not count.
        pub hang_ms: u64 = 1_300,
        /// Most servers killed for silence within 5 s, as a share of all in percent; one may always be. Default 34:
        /// what silences more at once is hardly a fault of each, and killing them all would cost every player a
        /// restart.
        pub hang_share_percent: u32 = 34,
        /// Most world servers this manager runs at once. Default 512.
        pub limit: u32 = 512,
    }
}

impl Settings for Config {
    const PREFIX: &'static str = "TIDEGATE_MANAGER_";

    fn check(&self) -> Result<(), Problem> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value < least { Err(Problem::new(key, format!("is {value}, must be at least {least}"))) } else { Ok(()) }
        };
        at_least("gateway_live_ms", self.gateway_live_ms, 1_000)?;
        at_least("gateway_forget_ms", self.gateway_forget_ms, self.gateway_live_ms)?;
        at_least("confirm_timeout_ms", self.confirm_timeout_ms, 1)?;
        at_least("call_timeout_ms", self.call_timeout_ms, 100)?;
        at_least("request_retention_hours", u64::from(self.request_retention_hours), 1)?;
        at_least("audit_retention_days", u64::from(self.audit_retention_days), 1)?;
        at_least("backup_hours", u64::from(self.backup_hours), 1)?;
        at_least("backup_keep", u64::from(self.backup_keep), 1)?;
        at_least("request_limit", u64::from(self.request_limit), 1_000)?;
        at_least("servers.start_timeout_ms", self.servers.start_timeout_ms, 100)?;
        at_least("servers.restart_min_ms", self.servers.restart_min_ms, 10)?;
        at_least("servers.restart_max_ms", self.servers.restart_max_ms, self.servers.restart_min_ms)?;
        at_least("servers.stop_within_ms", self.servers.stop_within_ms, 100)?;
        at_least("servers.report_timeout_ms", self.servers.report_timeout_ms, 1_500)?;
        at_least("servers.hang_ms", self.servers.hang_ms, 500)?;
        at_least("servers.hang_share_percent", u64::from(self.servers.hang_share_percent), 1)?;
        at_least("servers.limit", u64::from(self.servers.limit), 1)?;
        if self.data_dir.as_os_str().is_empty() {
            return Err(Problem::new("data_dir", "is empty"));
        }
        if self.listen == self.metrics_listen && self.listen.port() != 0 {
            // The one that was set is to blame, not the other's default.
            let (key, other) = match self.metrics_listen == Self::default().metrics_listen {
                true => ("listen", "metrics_listen"),
                false => ("metrics_listen", "listen"),
            };
            return Err(Problem::new(key, format!("is the same as {other} ({})", self.listen)));
        }
        if let Some(store) = &self.snapshot_store
            && let Err(e) = url::Url::parse(store)
        {
            return Err(Problem::new("snapshot_store", format!("\"{store}\" is not a URL: {e}")));
        }
        Ok(())
    }
}

impl Config {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::{ConfigError, Layers};

    fn load(text: &str) -> Result<Config, ConfigError> {
        Ok(Layers::new().text("manager.toml", text).load()?.config)
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(load("").unwrap(), Config::default());
    }

    #[test]
    fn every_refusal_is_one_line_with_file_and_key() {
        for (text, word) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("listen = \"nowhere\"", "listen"),
            ("gateway_live_ms = 5", "gateway_live_ms"),
            ("[servers]\nrestart_min_ms = 1", "servers.restart_min_ms"),
            ("[servers]\nhang_ms = 100", "servers.hang_ms"),
            ("store_check = \"slow\"", "store_check"),
            ("[servers]\nrestart_min_ms = 500\nrestart_max_ms = 100", "servers.restart_max_ms"),
            ("snapshot_store = \"not a url\"", "snapshot_store"),
            ("data_dir = \"\"", "data_dir"),
            ("listen = \"127.0.0.1:9\"\nmetrics_listen = \"127.0.0.1:9\"", "metrics_listen"),
            ("listen = \"127.0.0.1:7401\"", "listen"),
            ("listen = ", "listen"),
        ] {
            let line = load(text).expect_err("refused").to_string();
            assert!(line.starts_with("manager.toml: ") && line.contains(word), "{text:?} -> {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
