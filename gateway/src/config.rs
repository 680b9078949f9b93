//! What a gateway can be told, from a TOML file, environment variables (`TIDEGATE_GATEWAY_…`) and flags.
//! `tidegate config explain gateway` prints what stands here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_config::{Problem, Settings, settings};
use tidegate_types::GatewayId;

settings! {
    /// Everything a gateway can be told. All keys are optional.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Config {
        /// This gateway's name, unique among the manager's gateways. Default `gw-1`: one gateway is the common case.
        pub id: GatewayId = GatewayId::new("gw-1").expect("a valid id"),
        /// Where players reach it by UDP. Default `0.0.0.0:7443`. Port 0 takes a free one (see `gateway.addr`).
        pub listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 7443)),
        /// The address that the manager is told players use, "host:port". Default: the bound address; set it behind
        /// NAT.
        pub advertise: Option<String> = None,
        /// The manager's URL. Default `http://127.0.0.1:7400`. Players are served with or without it.
        pub manager: String = "http://127.0.0.1:7400".into(),
        /// The folder of what it keeps: routing tables, resume key, `gateway.addr`. Default `./tidegate-gateway`.
        pub data_dir: PathBuf = "tidegate-gateway".into(),
        /// The folder with `ca.pem`, `gateway.pem` and `gateway.key`. Default `./tidegate-data/pki`, where a manager on
        /// the same machine makes them.
        pub pki_dir: PathBuf = "tidegate-data/pki".into(),
        /// The login service's public key. Default `./tidegate-data/tickets/login.pub`, the development key pair's.
        pub ticket_key: PathBuf = "tidegate-data/tickets/login.pub".into(),
        /// Where `/metrics` is served over HTTP. Default `127.0.0.1:7444`. Port 0 takes a free one.
        pub metrics_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7444)),
        /// How long an answered heartbeat lets a world server simulate this gateway's players, in milliseconds. Default
        /// 3,000: four heartbeats, so that three may be late; it is also how long players stand still when both a world
        /// server and the manager are gone.
        pub lease_ms: u32 = 3_000,
        /// How long a world server may take for one step of a hand-over, or to take a player in or let one go, in
        /// milliseconds. Default 5,000: a state of 1 MiB and a slow database fit; a player who plays on meanwhile is
        /// held up.
        pub step_timeout_ms: u64 = 5_000,
        /// This gateway's number in connection ids, so that a router in front can send packets to the right one.
        /// Default 0.
        pub connection_id_instance: u16 = 0,
    }
    sections {
        /// What clients may take of this gateway.
        pub limits: Limits,
    }
}

settings! {
    /// What clients may take of a gateway. quinn's own defaults suit a trusted peer; these suit an open port.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Limits {
        /// Most connections at once. Default 50,000, at about 40 KiB each when they talk.
        pub connections: u32 = 50_000,
        /// Most connections that have not finished their handshake. Default 4,096: about one second of handshakes on
        /// one core, so whoever waits longer would have given up anyway. Above half of it, addresses must prove
        /// themselves first (Retry).
        pub pending_handshakes: u32 = 4_096,
        /// How long a handshake may take, in milliseconds. Default 2,000: several round trips across the world.
        pub handshake_ms: u64 = 2_000,
        /// How long a connected client may take to say `Hello`, in milliseconds. Default 2,000.
        pub hello_ms: u64 = 2_000,
        /// A connection that is silent for this long is lost, in milliseconds. Default 10,000: clients send keep-alives
        /// every few seconds, and a phone that changes networks is back within that.
        pub idle_ms: u32 = 10_000,
        /// Most unsent bytes a client may have waiting before it is closed as too slow. Default 1 MiB: minutes of a
        /// game's events.
        pub backlog_bytes: u32 = 1024 * 1024,
        /// QUIC receive window of the session stream, in bytes. Default 64 KiB: the most one client can make the
        /// gateway hold per stream while its reading is paused, and ample at game rates.
        pub stream_window_bytes: u32 = 64 * 1024,
        /// QUIC receive window of a connection, in bytes. Default 128 KiB.
        pub connection_window_bytes: u32 = 128 * 1024,
        /// Most bytes sent and not acknowledged, a connection. Default 256 KiB: 10 Mbit/s at 200 ms.
        pub send_window_bytes: u32 = 256 * 1024,
        /// Buffer for unreliable data, each way, a connection, in bytes. Default 64 KiB: half a second of it at most;
        /// older positions are worthless.
        pub datagram_buffer_bytes: u32 = 64 * 1024,
        /// Most frames taken from one client before others have their turn. Default 64.
        pub frames_per_turn: u32 = 64,
        /// Most used login tickets remembered (each until it expires). Default 1,000,000; when full, logins wait rather
        /// than a ticket being forgotten.
        pub used_tickets: u32 = 1_000_000,
        /// Most realms served. Default 64.
        pub realms: u32 = 64,
    }
}

impl Settings for Config {
    const PREFIX: &'static str = "TIDEGATE_GATEWAY_";

    fn check(&self) -> Result<(), Problem> {
        let limits = &self.limits;
        for (key, value, least, most) in [
            // Below two heartbeats a single late packet would stop the world.
            ("lease_ms", u64::from(self.lease_ms), 1_500, 60_000),
            ("step_timeout_ms", self.step_timeout_ms, 100, 60_000),
            ("limits.connections", limits.connections.into(), 1, 1_000_000),
            ("limits.pending_handshakes", limits.pending_handshakes.into(), 2, 65_536),
            ("limits.handshake_ms", limits.handshake_ms, 100, 60_000),
            ("limits.hello_ms", limits.hello_ms, 100, 60_000),
            ("limits.idle_ms", limits.idle_ms.into(), 1_000, 600_000),
            ("limits.backlog_bytes", limits.backlog_bytes.into(), 64 * 1024, 64 * 1024 * 1024),
            // A frame of 16 KiB must fit with room to spare.
            ("limits.stream_window_bytes", limits.stream_window_bytes.into(), 32 * 1024, 16 * 1024 * 1024),
            ("limits.connection_window_bytes", limits.connection_window_bytes.into(), 32 * 1024, 64 * 1024 * 1024),
            ("limits.send_window_bytes", limits.send_window_bytes.into(), 32 * 1024, 64 * 1024 * 1024),
            ("limits.datagram_buffer_bytes", limits.datagram_buffer_bytes.into(), 2 * 1024, 16 * 1024 * 1024),
            ("limits.frames_per_turn", limits.frames_per_turn.into(), 1, 100_000),
            ("limits.used_tickets", limits.used_tickets.into(), 1_000, 100_000_000),
            ("limits.realms", limits.realms.into(), 1, 1_000),
        ] {
            if value < least || value > most {
                return Err(Problem::new(key, format!("is {value}, must be {least} to {most}")));
            }
        }
        for (key, path) in [("data_dir", &self.data_dir), ("pki_dir", &self.pki_dir), ("ticket_key", &self.ticket_key)]
        {
            if path.as_os_str().is_empty() {
                return Err(Problem::new(key, "is empty"));
            }
        }
        if let Err(e) = tonic::transport::Endpoint::from_shared(self.manager.clone()) {
            return Err(Problem::new("manager", format!("\"{}\" is not a URL: {e}", self.manager)));
        }
        Ok(())
    }
}

impl Config {
    /// The lease as a duration.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::{ConfigError, Layers};

    fn load(text: &str) -> Result<Config, ConfigError> {
        Ok(Layers::new().text("gateway.toml", text).load()?.config)
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
            ("id = \"two words\"", "id"),
            ("lease_ms = 5", "lease_ms"),
            ("manager = \"not a url\"", "manager"),
            ("data_dir = \"\"", "data_dir"),
            ("[limits]\nconnections = 0", "limits.connections"),
            ("[limits]\nspeed = 0", "speed"),
            ("listen = ", "listen"),
        ] {
            let line = load(text).expect_err("refused").to_string();
            assert!(line.starts_with("gateway.toml: ") && line.contains(word), "{text:?} -> {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
