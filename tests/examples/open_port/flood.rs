//! The flooder: one kind of nuisance, at a fixed rate, from 127.0.0.2, between "go" and "stop" on its standard input.

use std::any::Any;
use std::fmt;
use std::io::BufRead;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::congestion::{Controller, ControllerFactory};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, TransportConfig};
use rand::Rng;
use tidegate_proto::frame::{self, player};
use tidegate_proto::stub::v1 as game;
use tidegate_proto::{PLAYER_ALPN, v1, varint};
use tidegate_ticket::LoginKey;

use crate::players::ticket;

/// Where the flooder's packets come from: another prefix than the honest players'.
const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2)), 0);
/// How often a share of the rate is sent.
const BEAT: Duration = Duration::from_millis(5);

/// A kind of nuisance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First packets of handshakes that never go on.
    Handshakes,
    /// Handshakes that end, and then no word.
    Silent,
    /// Packets of random bytes, half of them with a long header.
    Garbage,
    /// A `Hello` announced a terabyte long.
    Oversized,
    /// One player, 100 times the datagrams it may send, heedless of losses, many in a packet.
    Datagrams,
    /// As many, each filling a packet of its own; comes back when it is closed.
    Packets,
    /// One player, 100 times the frames it may send.
    Frames,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Handshakes, Self::Silent, Self::Garbage, Self::Oversized, Self::Datagrams, Self::Packets, Self::Frames];

    /// Packets, connections, datagrams or frames a second.
    pub(crate) const fn per_second(self) -> u32 {
        match self {
            Self::Handshakes => 5_000,
            Self::Garbage => 20_000,
            // Whole handshakes cost the flooder as much as the gateway.
            Self::Silent | Self::Oversized => 100,
            Self::Datagrams | Self::Packets => 12_000,
            Self::Frames => 20_000,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Handshakes => "handshakes",
            Self::Silent => "silent",
            Self::Garbage => "garbage",
            Self::Oversized => "oversized",
            Self::Datagrams => "datagrams",
            Self::Packets => "packets",
            Self::Frames => "frames",
        })
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == word)
            .ok_or_else(|| anyhow::anyhow!("no flood \"{word}\""))
    }
}

/// The flooder's process: kind, gateway, authority, login key.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [kind, gateway, ca, key] = arguments else { anyhow::bail!("flood KIND GATEWAY CA KEY") };
    let (kind, gateway): (Kind, SocketAddr) = (kind.parse()?, gateway.parse()?);
    let going = Arc::new(AtomicBool::new(false));
    let orders = going.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            orders.store(line == "go", Ordering::Relaxed);
        }
        std::process::exit(0);
    });
    let tls = tls(Path::new(ca))?;
    match kind {
        Kind::Handshakes => {
            let packets: Vec<_> = (0..4_000).map(|_| first_packet(&tls, gateway)).collect::<Result<_, _>>()?;
            throw(kind, gateway, &going, |n| &packets[n % packets.len()])
        }
        Kind::Garbage => {
            let mut packets = vec![vec![0; 1_200]; 1_000];
            for (n, packet) in packets.iter_mut().enumerate() {
                rand::rng().fill_bytes(packet);
                packet[0] = if n % 2 == 0 { packet[0] | 0xc0 } else { packet[0] & 0x7f | 0x40 };
            }
            throw(kind, gateway, &going, |n| &packets[n % packets.len()])
        }
        Kind::Silent | Kind::Oversized | Kind::Datagrams | Kind::Packets | Kind::Frames => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let key = LoginKey::load(Path::new(key))?;
            runtime.block_on(connected(kind, gateway, tls, key, &going))
        }
    }
}

/// Packets without a connection.
fn throw<'a>(
    kind: Kind,
    gateway: SocketAddr,
    going: &AtomicBool,
    packet: impl Fn(usize) -> &'a Vec<u8>,
) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(FROM)?;
    let mut sent = 0;
    loop {
        std::thread::sleep(BEAT);
        if going.load(Ordering::Relaxed) {
            for _ in 0..per_beat(kind) {
                // A full buffer drops it, as a network would.
                let _ = socket.send_to(packet(sent), gateway);
                sent += 1;
            }
        }
    }
}

fn per_beat(kind: Kind) -> u32 {
    (kind.per_second() * BEAT.as_millis() as u32).div_ceil(1_000)
}

async fn connected(
    kind: Kind,
    gateway: SocketAddr,
    tls: rustls::ClientConfig,
    key: LoginKey,
    going: &AtomicBool,
) -> anyhow::Result<()> {
    let mut endpoint = Endpoint::client(FROM)?;
    let mut transport = TransportConfig::default();
    transport.congestion_controller_factory(Arc::new(Reckless));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    let mut player = None;
    let mut ticks = tokio::time::interval(match kind {
        Kind::Silent | Kind::Oversized => Duration::from_secs(1) / kind.per_second(),
        _ => BEAT,
    });
    loop {
        ticks.tick().await;
        if !going.load(Ordering::Relaxed) {
            player = None;
            continue;
        }
        match kind {
            Kind::Silent | Kind::Oversized => {
                let connecting = endpoint.connect(gateway, "localhost")?;
                tokio::spawn(nuisance(kind, connecting));
            }
            _ => {
                if player.as_ref().is_none_or(|(connection, _): &(Connection, _)| connection.close_reason().is_some()) {
                    player = enter(&endpoint, gateway, &key).await.ok();
                }
                let Some((connection, send)) = &mut player else { continue };
                for _ in 0..per_beat(kind) {
                    if kind == Kind::Datagrams {
                        let position = game::Position { x: 1, y: 2, sequence: 1, sent_us: 0 };
                        let _ = connection.send_datagram(Bytes::from(position.encode_to_vec()));
                    } else if kind == Kind::Packets {
                        let _ = connection.send_datagram(Bytes::from_static(&[0; 1_100]));
                    } else if send.write_all(&ping()).await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

/// One connection that is up to no good, until the gateway closes it.
async fn nuisance(kind: Kind, connecting: quinn::Connecting) -> anyhow::Result<()> {
    let connection = connecting.await?;
    if kind == Kind::Oversized {
        let (mut send, _receive) = connection.open_bi().await?;
        let mut head = BytesMut::new();
        varint::put(&mut head, player::HELLO);
        varint::put(&mut head, 1 << 40);
        send.write_all(&head).await?;
        connection.closed().await;
    } else {
        connection.closed().await;
    }
    Ok(())
}

/// Logs one player in, and reads whatever it is told.
async fn enter(
    endpoint: &Endpoint,
    gateway: SocketAddr,
    key: &LoginKey,
) -> anyhow::Result<(Connection, quinn::SendStream)> {
    let connection = endpoint.connect(gateway, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let hello = v1::Hello {
        realm: "eu-1".to_owned(),
        login_ticket: ticket(key, "reckless")?,
        client_version: "2.0.0".to_owned(),
        ..Default::default()
    };
    let mut out = BytesMut::new();
    frame::put_message(&mut out, player::HELLO, &hello);
    send.write_all(&out).await?;
    // Until the Welcome, which is the first that is longer than a Hold.
    receive.read_chunk(64 * 1024, true).await?;
    tokio::spawn(async move { while let Ok(Some(_)) = receive.read_chunk(64 * 1024, true).await {} });
    Ok((connection, send))
}

/// A frame that the world answers, out of order as it is.
fn ping() -> BytesMut {
    let kind = Some(game::action::Kind::Ping(game::Ping::default()));
    let mut out = BytesMut::new();
    frame::put(&mut out, player::GAME, &game::Action { sequence: 0, again: false, kind }.encode_to_vec());
    out
}

fn tls(ca: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in tidegate_link::pki::load_certs(ca)? {
        roots.add(certificate)?;
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![PLAYER_ALPN.to_vec()];
    Ok(tls)
}

fn first_packet(tls: &rustls::ClientConfig, gateway: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let crypto = Arc::new(QuicClientConfig::try_from(tls.clone())?);
    let config = Arc::new(quinn_proto::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(config, None, false, None);
    let now = Instant::now();
    let (_, mut connection) = endpoint.connect(now, quinn_proto::ClientConfig::new(crypto), gateway, "localhost")?;
    let mut packet = Vec::new();
    let sent = connection.poll_transmit(now, 1, &mut packet);
    anyhow::ensure!(sent.is_some(), "nothing to send");
    Ok(packet)
}

/// Congestion control that lets everything through.
#[derive(Debug, Clone)]
struct Reckless;

impl ControllerFactory for Reckless {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}

impl Controller for Reckless {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        64 * 1024 * 1024
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
