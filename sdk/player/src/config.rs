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
    /// Gateways, tried in turn from the first; a reconnect goes on with the next.
    pub gateway: Vec<SocketAddr>,
    /// The name that the gateway's certificate must carry.
    pub server_name: String,
    /// The realm the player chose; must match the ticket.
    pub realm: RealmId,
    /// This client's version, a semver.
    pub client_version: String,
    /// How long one QUIC handshake may take before the next gateway is tried. Default 3 s.
    pub handshake_timeout: Duration,
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
            handshake_timeout: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(10),
            logout_timeout: Duration::from_secs(5),
        }
    }
}
