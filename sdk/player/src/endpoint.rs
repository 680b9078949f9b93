//! The UDP socket and TLS configuration that any number of sessions share.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::time::Instant;

use crate::config::{ClientConfig, Roots};
use crate::error::{ConnectError, EndpointError};
use crate::session::{Events, Session};

/// Asked of the system for each socket: 500 connections at 20 messages a second fit while the process is busy for a moment.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Assumed until it is measured: a game's gateways are near. A first packet that is lost is sent again after three of these,
/// and a second one after nine, well within the handshake's time.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// What a gateway may send ahead of a slow reader, a stream: some frames of the longest kind.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Unread and unsent datagrams that are kept; older ones are worth nothing to a game.
const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;

/// One UDP socket for many sessions. Cheap to clone. Must be made and used within a tokio runtime.
#[derive(Clone)]
pub struct PlayerEndpoint {
    quinn: quinn::Endpoint,
    tls: Arc<QuicClientConfig>,
    line: Arc<Hearing>,
}

/// Whether anything arrives at the socket, over all its connections.
#[derive(Debug)]
struct Hearing {
    since: Instant,
    /// When something arrived last, or the socket was new; in milliseconds after `since`.
    last_ms: AtomicU64,
}

impl fmt::Debug for PlayerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlayerEndpoint").field("quinn", &self.quinn).field("line", &self.line).finish_non_exhaustive()
    }
}

impl PlayerEndpoint {
    /// Opens a socket on any free port, trusting gateways whose certificates come from `roots`.
    ///
    /// # Errors
    /// [`EndpointError`] says whether the certificates, TLS or the socket is the matter.
    pub fn new(roots: &Roots) -> Result<Self, EndpointError> {
        let tls = tls(roots)?;
        let quinn = open_socket()
            .and_then(|socket| {
                quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))
            })
            .map_err(EndpointError::Socket)?;
        let line = Arc::new(Hearing { since: Instant::now(), last_ms: AtomicU64::new(0) });
        Ok(Self { quinn, tls, line })
    }

    /// Goes on with a new socket, on another port: for a host whose network changed. The sessions of this endpoint go on;
    /// QUIC moves their connections to the new address, and what was on its way to the old one is sent again. A connection
    /// that cannot be moved is lost, and its session comes back by itself.
    ///
    /// # Errors
    /// [`EndpointError::Socket`]; the old socket is kept.
    pub fn rebind(&self) -> Result<(), EndpointError> {
        open_socket().and_then(|socket| self.quinn.rebind(socket)).map_err(EndpointError::Socket)
    }

    /// A connection was lost for want of any answer. If nothing at all arrived for `silence`, on any connection, the socket
    /// may be at fault (it belongs to a network that is gone, or a router forgot it), and a new one is opened.
    pub(crate) fn rebind_if_deaf(&self, silence: Duration) {
        let now = self.ms(Instant::now());
        let last = self.line.last_ms.load(Ordering::Relaxed);
        let deaf = u128::from(now.saturating_sub(last)) >= silence.as_millis();
        // Many sessions find out at once; one of them acts.
        if deaf && self.line.last_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            match self.rebind() {
                Ok(()) => tracing::debug!("nothing arrives: went on with a new socket"),
                Err(error) => tracing::debug!(%error, "nothing arrives, and there is no new socket"),
            }
        }
    }

    /// Something arrived.
    pub(crate) fn heard(&self, now: Instant) {
        self.line.last_ms.fetch_max(self.ms(now), Ordering::Relaxed);
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from((at - self.line.since).as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins a handshake.
    pub(crate) fn dial(
        &self,
        gateway: SocketAddr,
        config: &ClientConfig,
    ) -> Result<quinn::Connecting, quinn::ConnectError> {
        let mut client = quinn::ClientConfig::new(self.tls.clone());
        client.transport_config(Arc::new(transport(config)));
        self.quinn.connect_with(client, gateway, &config.server_name)
    }

    /// Logs in through the first gateway that can be reached, and returns when it has answered: the first event is then
    /// [`crate::Event::Welcome`], or [`crate::Event::Hold`] while there is no room.
    ///
    /// # Errors
    /// [`ConnectError`]; its `advice()` says what to do.
    pub async fn connect(
        &self,
        config: Arc<ClientConfig>,
        login_ticket: String,
    ) -> Result<(Session, Events), ConnectError> {
        crate::driver::login(self.clone(), config, login_ticket).await
    }

    /// Waits until every connection of this endpoint has said its last word.
    pub async fn wait_idle(&self) {
        self.quinn.wait_idle().await;
    }
}

/// For programs with one session.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// As [`PlayerEndpoint::connect`], with an endpoint of its own.
    ///
    /// # Errors
    /// [`ConnectError`]; its `advice()` says what to do.
    pub async fn connect(
        roots: &Roots,
        config: ClientConfig,
        login_ticket: String,
    ) -> Result<(Session, Events), ConnectError> {
        PlayerEndpoint::new(roots)?.connect(Arc::new(config), login_ticket).await
    }
}

fn open_socket() -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // Best effort: the system cuts them to its own limit.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    Ok(socket.into())
}

fn certificates(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    match roots {
        Roots::Certificates(certificates) => Ok(certificates.clone()),
        Roots::PemFile(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| EndpointError::Roots { path: path.display().to_string(), why: e.to_string() }),
    }
}

fn tls(roots: &Roots) -> Result<Arc<QuicClientConfig>, EndpointError> {
    let path = match roots {
        Roots::PemFile(path) => path.display().to_string(),
        Roots::Certificates(_) => "the given certificates".to_owned(),
    };
    let wrong = |why: String| EndpointError::Roots { path: path.clone(), why };
    let mut store = rustls::RootCertStore::empty();
    for certificate in certificates(roots)? {
        store.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("there are none".into()));
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(EndpointError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    tls.alpn_protocols = vec![tidegate_proto::PLAYER_ALPN.to_vec()];
    // A replayed `Hello` would be a second login.
    tls.enable_early_data = false;
    let tls = QuicClientConfig::try_from(tls)
        .map_err(|_| EndpointError::Tls(rustls::Error::General("no cipher suite for QUIC".into())))?;
    Ok(Arc::new(tls))
}

fn transport(config: &ClientConfig) -> TransportConfig {
    // A time beyond what the wire can say is as good as the longest it can.
    let idle = IdleTimeout::try_from(config.idle_timeout).unwrap_or(IdleTimeout::from(VarInt::MAX));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        .initial_rtt(FIRST_RTT)
        // The gateway opens no streams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(u64::from(STREAM_WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    transport
}
