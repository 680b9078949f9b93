//! What a gateway can be told, from a TOML file, environment variables (`TIDEGATE_GATEWAY_…`) and flags.
//! `tidegate config explain gateway` prints what stands here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tidegate_config::{Problem, Settings, settings};
use tidegate_directory::DirectoryUrl;
use tidegate_ticket::Rules;
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
        /// The login service's public keys: a folder with a file a key, or one such file. `revoked.toml` beside them says
        /// what is revoked. Watched: changes count within a second. Default `./tidegate-data/tickets/keys`, where a
        /// manager on the same machine puts its development key.
        pub ticket_keys: PathBuf = "tidegate-data/tickets/keys".into(),
        /// Longest life of a login ticket, in milliseconds. Default 120,000: a client logs in within seconds of getting
        /// its ticket, two minutes forgive a slow start, and a stolen one is soon worthless.
        pub ticket_max_life_ms: u64 = 120_000,
        /// How far the login service's clock may be ahead of this gateway's, in milliseconds. Default 2,000: machines that
        /// keep time by NTP differ by less, and a ticket that comes too early is told when to come again.
        pub ticket_clock_skew_ms: u64 = 2_000,
        /// The secret that seals resume tickets; all gateways of an installation need the same one. Made if it is not
        /// there. Watched. Default: `resume.key` beside `ticket_keys`, where a manager on the same machine makes it.
        pub resume_key: Option<PathBuf> = None,
        /// Where `/metrics` is served over HTTP. Default `127.0.0.1:7444`. Port 0 takes a free one.
        pub metrics_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7444)),
        /// Where it is known who lives where: `embedded` (default; in memory, for one gateway), or the Redis that several
        /// gateways share: `redis://…`, `rediss://…` with TLS, `redis-sentinel://a,b/service`, `redis-cluster://a,b`.
        pub directory: String = "embedded".into(),
        /// The certificate authority (PEM) of a Redis that speaks TLS. Default: the system's authorities.
        pub directory_ca: Option<PathBuf> = None,
        /// What a login does while the shared directory is out of reach and nobody knows where its character lives: `wait`
        /// (default: in line, until it answers) or `claim` (every world server is asked, and the realm database's claim
        /// decides: slower, and all world servers must be up).
        pub unknown_home: UnknownHome = UnknownHome::Wait,
        /// What a second login of a connected character does: `newest-wins` (default: a player whose client hangs can
        /// come back) or `refuse`.
        pub second_login: SecondLogin = SecondLogin::NewestWins,
        /// How long a world server keeps a player whom no gateway holds any more, in milliseconds, with a shared directory.
        /// Default 120,000: above every realm's grace time, for that is how long a player may take to come back.
        pub orphan_ms: u32 = 120_000,
        /// How long a planned stop waits for players to go to the other gateways, in milliseconds. Default 30,000: clients
        /// take a second or two; the rest is for those on bad networks.
        pub stop_within_ms: u64 = 30_000,
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
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Limits {
        /// Most connections at once. Default 50,000, at about 40 KiB each when they talk and up to 32 KiB that wait for
        /// an acknowledgement.
        pub connections: u32 = 50_000,
        /// Most connections that have not finished their handshake. Default 4,096: about one second of handshakes on
        /// one core, so whoever waits longer would have given up anyway. Above half of it, addresses must prove
        /// themselves first (Retry).
        pub pending_handshakes: u32 = 4_096,
        /// First packets of handshakes, and other long headers of strangers, that are looked at in a second. Default
        /// 10,000: each costs some ten microseconds even to refuse, so that a flood takes a tenth of a core. The others
        /// are dropped; QUIC sends again after a second. Those who have our answer to a Retry or are within a handshake
        /// have four times as many apart.
        pub initials_per_s: u32 = 10_000,
        /// Handshakes begun in a second for addresses that have not proven themselves. Default 100, as many at once:
        /// at half a millisecond each, a twentieth of a core is all that forged addresses can take. Above it, addresses
        /// must prove themselves first (Retry), which costs an honest client one round trip.
        pub unproven_logins_per_s: u32 = 100,
        /// Handshakes begun in a second for proven addresses, all together. Default 1,000: half a core. Above it they
        /// get no answer, and QUIC asks again after a second.
        pub logins_per_s: u32 = 1_000,
        /// How many of them may come at once. Default 4,000: when another gateway dies, its players come all together,
        /// and are worth some seconds of slower packets.
        pub logins_burst: u32 = 4_000,
        /// Handshakes begun in a second for one prefix. Default 20. Above it the prefix must prove itself (Retry), and is
        /// then refused.
        pub prefix_logins_per_s: u32 = 20,
        /// How many of them may come at once. Default 200: players behind one address (a campus, a provider's NAT) come
        /// back together after a fault.
        pub prefix_logins_burst: u32 = 200,
        /// Leading bits of an IPv4 address that count as one prefix. Default 32: an address is what one subscriber, or
        /// one provider's NAT, has.
        pub ipv4_prefix_bits: u8 = 32,
        /// Leading bits of an IPv6 address that count as one prefix. Default 56: what providers give one subscriber;
        /// single addresses cost nothing there.
        pub ipv6_prefix_bits: u8 = 56,
        /// Most prefixes whose handshakes are counted at once, proven and unproven ones apart. Default 65,536, some 8 MiB
        /// together. When full, unproven addresses must prove themselves, and proven ones have only the common rate.
        pub tracked_prefixes: u32 = 65_536,
        /// Prefixes without a rate of their own, for example a proxy's in front ("10.1.0.0/16"). Default loopback:
        /// whoever is on this machine needs no open port, and simulated players all come from there.
        pub exempt_prefixes: Vec<IpNet> = loopback(),
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
        /// Most bytes that all connections' buffers may hold together: output that waits, half-read frames, unsent
        /// datagrams, and windows above the smallest. Default 1 GiB: a thousand clients that do not read at all. At it
        /// nobody new is let in; above it whoever holds most is closed as too slow.
        pub memory_bytes: u64 = 1024 * 1024 * 1024,
        /// QUIC receive window of a connection before `Welcome`, in bytes. Default 8 KiB: several times a `Hello` with
        /// its ticket, and all that a stranger can make the gateway hold.
        pub login_window_bytes: u32 = 8 * 1024,
        /// QUIC receive window of the session stream, in bytes. Default 64 KiB: the most one client can make the
        /// gateway hold per stream while its reading is paused, and ample at game rates.
        pub stream_window_bytes: u32 = 64 * 1024,
        /// QUIC receive window of a connection after `Welcome`, in bytes. Default 128 KiB.
        pub connection_window_bytes: u32 = 128 * 1024,
        /// Most bytes sent and not acknowledged, a connection. Default 256 KiB: 10 Mbit/s at 200 ms. Connections begin
        /// with 32 KiB and have more only while they need it.
        pub send_window_bytes: u32 = 256 * 1024,
        /// Buffer for unreliable data, each way, a connection, in bytes. Default 64 KiB: half a second of it at most;
        /// older positions are worthless.
        pub datagram_buffer_bytes: u32 = 64 * 1024,
        /// Most frames taken from one client before others have their turn. Default 64.
        pub frames_per_turn: u32 = 64,
        /// Frames taken from one client in a second. Default 200: ten times what a lively game sends. Above it they are
        /// read later, and QUIC's flow control slows the client down; nothing is lost.
        pub frames_per_s: u32 = 200,
        /// Bytes of frames taken from one client in a second. Default 64 KiB.
        pub frame_bytes_per_s: u32 = 64 * 1024,
        /// Unreliable messages taken from one client in a second. Default 120: twice the fastest games' 60. Above it they
        /// are dropped, as a network would.
        pub datagrams_per_s: u32 = 120,
        /// Bytes of unreliable messages taken from one client in a second. Default 96 KiB: 60 full packets and more.
        pub datagram_bytes_per_s: u32 = 96 * 1024,
        /// UDP packets taken from one client in a second. Default 1,000: all of the above, each in a packet of its own,
        /// and acknowledgements. Above it they are dropped before they are decrypted, which is what makes them dear.
        pub packets_per_s: u32 = 1_000,
        /// How much of the five rates above may come at once, in milliseconds. Default 2,000: a mobile network holds
        /// everything back for that long now and then, and what a client sends again after a resume (256 frames,
        /// 64 KiB) fits in.
        pub burst_ms: u32 = 2_000,
        /// So many packets dropped for their rate close the connection (they are forgotten at the rate `packets_per_s`, so
        /// that twice the rate never does). Default 10,000: at a hundred times the rate a tenth of a second, at five
        /// times three seconds.
        pub flood_packets: u32 = 10_000,
        /// Most used login tickets remembered (each until it expires). Default 1,000,000; when full, logins wait rather
        /// than a ticket being forgotten.
        pub used_tickets: u32 = 1_000_000,
        /// Most realms served. Default 64.
        pub realms: u32 = 64,
    }
}

/// Addresses of this machine's own.
fn loopback() -> Vec<IpNet> {
    vec![IpNet::new_assert([127, 0, 0, 0].into(), 8), IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST))]
}

/// What a login does while nobody knows where its character lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownHome {
    /// It waits until the directory answers.
    Wait,
    /// World servers are asked, and the realm database's claim decides.
    Claim,
}

/// What a second login of a connected character does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondLogin {
    /// It takes the session over.
    NewestWins,
    /// It is refused.
    Refuse,
}

impl Settings for Config {
    const PREFIX: &'static str = "TIDEGATE_GATEWAY_";

    fn check(&self) -> Result<(), Problem> {
        let limits = &self.limits;
        for (key, value, least, most) in [
            // Below two heartbeats a single late packet would stop the world.
            ("lease_ms", u64::from(self.lease_ms), 1_500, 60_000),
            ("step_timeout_ms", self.step_timeout_ms, 100, 60_000),
            // Below two leases it could end while its gateway still has the player.
            ("orphan_ms", u64::from(self.orphan_ms), 2 * u64::from(self.lease_ms), 24 * 3_600_000),
            ("stop_within_ms", self.stop_within_ms, 0, 3_600_000),
            // Used tickets are remembered for so long.
            ("ticket_max_life_ms", self.ticket_max_life_ms, 1_000, 3_600_000),
            ("ticket_clock_skew_ms", self.ticket_clock_skew_ms, 0, 60_000),
            ("limits.connections", limits.connections.into(), 1, 1_000_000),
            ("limits.pending_handshakes", limits.pending_handshakes.into(), 2, 65_536),
            ("limits.initials_per_s", limits.initials_per_s.into(), 10, 1_000_000),
            ("limits.unproven_logins_per_s", limits.unproven_logins_per_s.into(), 1, 100_000),
            ("limits.logins_per_s", limits.logins_per_s.into(), 1, 100_000),
            ("limits.logins_burst", limits.logins_burst.into(), 1, 1_000_000),
            ("limits.prefix_logins_per_s", limits.prefix_logins_per_s.into(), 1, 100_000),
            ("limits.prefix_logins_burst", limits.prefix_logins_burst.into(), 1, 1_000_000),
            // Wider ones would make whole countries one client.
            ("limits.ipv4_prefix_bits", limits.ipv4_prefix_bits.into(), 16, 32),
            ("limits.ipv6_prefix_bits", limits.ipv6_prefix_bits.into(), 32, 128),
            ("limits.tracked_prefixes", limits.tracked_prefixes.into(), 16, 10_000_000),
            ("limits.handshake_ms", limits.handshake_ms, 100, 60_000),
            ("limits.hello_ms", limits.hello_ms, 100, 60_000),
            ("limits.idle_ms", limits.idle_ms.into(), 1_000, 600_000),
            ("limits.backlog_bytes", limits.backlog_bytes.into(), 64 * 1024, 64 * 1024 * 1024),
            ("limits.memory_bytes", limits.memory_bytes, 1024 * 1024, 1024 * 1024 * 1024 * 1024),
            ("limits.login_window_bytes", limits.login_window_bytes.into(), 2 * 1024, 1024 * 1024),
            // A frame of 16 KiB must fit with room to spare.
            ("limits.stream_window_bytes", limits.stream_window_bytes.into(), 32 * 1024, 16 * 1024 * 1024),
            ("limits.connection_window_bytes", limits.connection_window_bytes.into(), 32 * 1024, 64 * 1024 * 1024),
            ("limits.send_window_bytes", limits.send_window_bytes.into(), 32 * 1024, 64 * 1024 * 1024),
            ("limits.datagram_buffer_bytes", limits.datagram_buffer_bytes.into(), 2 * 1024, 16 * 1024 * 1024),
            ("limits.frames_per_turn", limits.frames_per_turn.into(), 1, 100_000),
            ("limits.frames_per_s", limits.frames_per_s.into(), 1, 1_000_000),
            // The longest of each must be affordable within a burst.
            ("limits.frame_bytes_per_s", limits.frame_bytes_per_s.into(), 4 * 1024, 1024 * 1024 * 1024),
            ("limits.datagrams_per_s", limits.datagrams_per_s.into(), 2, 1_000_000),
            ("limits.datagram_bytes_per_s", limits.datagram_bytes_per_s.into(), 4 * 1024, 1024 * 1024 * 1024),
            // A handshake, and the acknowledgements of a busy world.
            ("limits.packets_per_s", limits.packets_per_s.into(), 50, 10_000_000),
            ("limits.burst_ms", limits.burst_ms.into(), 500, 60_000),
            ("limits.flood_packets", limits.flood_packets.into(), 100, 100_000_000),
            ("limits.used_tickets", limits.used_tickets.into(), 1_000, 100_000_000),
            ("limits.realms", limits.realms.into(), 1, 1_000),
        ] {
            if value < least || value > most {
                return Err(Problem::new(key, format!("is {value}, must be {least} to {most}")));
            }
        }
        for (key, path) in
            [("data_dir", &self.data_dir), ("pki_dir", &self.pki_dir), ("ticket_keys", &self.ticket_keys)]
        {
            if path.as_os_str().is_empty() {
                return Err(Problem::new(key, "is empty"));
            }
        }
        if let Err(e) = DirectoryUrl::parse(&self.directory) {
            return Err(Problem::new("directory", e.to_string()));
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

    /// How long login tickets may live.
    #[must_use]
    pub const fn ticket_rules(&self) -> Rules {
        Rules {
            max_lifetime: Duration::from_millis(self.ticket_max_life_ms),
            clock_skew: Duration::from_millis(self.ticket_clock_skew_ms),
        }
    }

    /// Where the resume key stands.
    #[must_use]
    pub fn resume_key_path(&self) -> PathBuf {
        self.resume_key.clone().unwrap_or_else(|| self.ticket_keys.with_file_name("resume.key"))
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

    /// Every number of the limits, below its least and above its most, is refused by its name.
    #[test]
    fn every_limit_has_its_bounds() {
        let all = toml::Table::try_from(Limits::default()).unwrap();
        let mut bounded = 0;
        for (key, _) in all.iter().filter(|(_, value)| value.is_integer()) {
            for value in [0, i64::MAX] {
                let text = format!("[limits]\n{key} = {value}");
                let line = load(&text).expect_err(&text).to_string();
                assert!(line.starts_with("gateway.toml: ") && line.contains(key), "{text:?} -> {line}");
            }
            bounded += 1;
        }
        assert!(bounded > 25, "{bounded} limits");
    }

    #[test]
    fn prefixes_are_read_from_a_file_and_from_a_variable() {
        let config = load("[limits]\nexempt_prefixes = [\"10.0.0.0/8\", \"2001:db8::/32\"]").unwrap();
        assert_eq!(config.limits.exempt_prefixes, ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let variable = |text: &str| {
            let variables = [("TIDEGATE_GATEWAY_LIMITS__EXEMPT_PREFIXES".into(), text.into())];
            Layers::new().variables(variables).load::<Config>()
        };
        assert_eq!(variable("10.0.0.0/8, ::1/128").unwrap().config.limits.exempt_prefixes.len(), 2);
        assert!(variable("[]").unwrap().config.limits.exempt_prefixes.is_empty());
        let line = variable("10.0.0.0/64").expect_err("refused").to_string();
        assert!(line.contains("limits.exempt_prefixes"), "{line}");
    }

    #[test]
    fn the_resume_key_stands_beside_the_ticket_keys_unless_it_is_told_otherwise() {
        let path = |text: &str| load(text).unwrap().resume_key_path();
        assert_eq!(path(""), PathBuf::from("tidegate-data/tickets/resume.key"));
        assert_eq!(path("ticket_keys = \"/t/login.pub\""), PathBuf::from("/t/resume.key"));
        assert_eq!(path("resume_key = \"/secret/resume\""), PathBuf::from("/secret/resume"));
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
            ("directory = \"http://x\"", "directory"),
            ("second_login = \"both\"", "second_login"),
            ("orphan_ms = 100", "orphan_ms"),
            ("ticket_keys = \"\"", "ticket_keys"),
            ("ticket_max_life_ms = 10", "ticket_max_life_ms"),
            ("ticket_clock_skew_ms = 60001", "ticket_clock_skew_ms"),
            ("[limits]\nconnections = 0", "limits.connections"),
            ("[limits]\nspeed = 0", "speed"),
            ("[limits]\nexempt_prefixes = [\"everybody\"]", "exempt_prefixes"),
            ("[limits]\nexempt_prefixes = \"10.0.0.0/8\"", "exempt_prefixes"),
            ("listen = ", "listen"),
        ] {
            let line = load(text).expect_err("refused").to_string();
            assert!(line.starts_with("gateway.toml: ") && line.contains(word), "{text:?} -> {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
