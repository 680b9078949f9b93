//! What a client must be told before it can connect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tidegate_types::RealmId;

/// The certificate authorities that a gateway's certificate must come from.
#[derive(Debug, Clone)]
pub enum Roots {
    /// A file of PEM certificates, for example the fleet-manager's `pki/ca.pem` in development.
    PemFile(PathBuf),
    /// Certificates that the program carries itself.
    Certificates(Vec<CertificateDer<'static>>),
}

/// Where to connect, and as what.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Gateways, tried in turn from the first. A session that lost its connection also tries those that a gateway told it
    /// of (at most 16, see [`Self::learn_gateways`]). All must carry `server_name` in their certificates.
    pub gateway: Vec<SocketAddr>,
    /// The name that the gateway's certificate must carry.
    pub server_name: String,
    /// The realm the player chose; must match the ticket.
    pub realm: RealmId,
    /// This client's version, a semver.
    pub client_version: String,
    /// True: the gateways that a gateway names are tried, too. False for clients that only reach the configured addresses,
    /// for example through a relay. Default true.
    pub learn_gateways: bool,
    /// How long one QUIC handshake may take. Default 3 s: room for two lost packets.
    pub handshake_timeout: Duration,
    /// While other gateways are known, the next is tried after this time, and the first handshake that is done wins: a dead
    /// gateway costs this and not `handshake_timeout`. Default 300 ms: three round trips of a far player, so that the living
    /// seldom do a handshake for nothing.
    pub next_gateway_after: Duration,
    /// A quiet client asks this often whether the gateway is there. Default 1 s: a dead gateway is noticed soon although
    /// nobody plays, for 40 bytes a second.
    pub keep_alive: Duration,
    /// The connection is lost when nothing was heard for this long. Default 4 s. A gateway may say less. Keep it at several
    /// times `keep_alive`, so that one lost packet ends nothing.
    pub idle_timeout: Duration,
    /// The connection is given up when a question (a frame, a datagram, a keep-alive and QUIC's repetitions of them) stays
    /// without any answer for this long; on slow paths for eight probe timeouts. Default 2 s: longer than a mobile network
    /// takes to hand a phone from cell to cell. Keep it above `keep_alive`.
    pub silence: Duration,
    /// How long a gateway may take to answer `Hello` with anything at all. Default 10 s.
    pub answer_timeout: Duration,
    /// How long a logout may take until the session is closed without the gateway's word. Default 5 s.
    pub logout_timeout: Duration,
}

impl ClientConfig {
    /// A configuration with the default timeouts.
    #[must_use]
    pub fn new(gateway: Vec<SocketAddr>, server_name: &str, realm: RealmId, client_version: &str) -> Self {
        Self {
            gateway,
            server_name: server_name.to_owned(),
            realm,
            client_version: client_version.to_owned(),
            learn_gateways: true,
            handshake_timeout: Duration::from_secs(3),
            next_gateway_after: Duration::from_millis(300),
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            silence: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(10),
            logout_timeout: Duration::from_secs(5),
        }
    }
}
