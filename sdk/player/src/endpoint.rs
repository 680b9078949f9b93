//! The UDP socket and TLS configuration that any number of sessions share.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::{ClientConfig, Roots};
use crate::error::{ConnectError, EndpointError};
use crate::session::{Events, Session};

/// Asked of the system for each socket: 500 connections at 20 messages a second fit while the process is busy for a moment.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A connection that says nothing for this long is lost. Short, because a session is resumed at once elsewhere.
const IDLE: Duration = Duration::from_secs(8);
/// A quiet client says this often that it is there: twice within [`IDLE`], so that one lost packet does not end it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// What a gateway may send ahead of a slow reader, a stream: some frames of the longest kind.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Unread and unsent datagrams that are kept; older ones are worth nothing to a game.
const DATAGRAM_BUFFER_BYTES: usize = 64 * 1024;

/// One UDP socket for many sessions. Cheap to clone. Must be made and used within a tokio runtime.
#[derive(Debug, Clone)]
pub struct PlayerEndpoint {
    pub(crate) quinn: quinn::Endpoint,
}

impl PlayerEndpoint {
    /// Opens a socket on any free port, trusting gateways whose certificates come from `roots`.
    ///
    /// # Errors
    /// [`EndpointError`] says whether the certificates, TLS or the socket is the matter.
    pub fn new(roots: &Roots) -> Result<Self, EndpointError> {
        let mut quinn = open_socket()?;
        quinn.set_default_client_config(client_config(roots)?);
        Ok(Self { quinn })
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

fn open_socket() -> Result<quinn::Endpoint, EndpointError> {
    let bind = || -> std::io::Result<quinn::Endpoint> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        // Best effort: the system cuts them to its own limit.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket.into(), Arc::new(quinn::TokioRuntime))
    };
    bind().map_err(EndpointError::Socket)
}

fn certificates(roots: &Roots) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    match roots {
        Roots::Certificates(certificates) => Ok(certificates.clone()),
        Roots::PemFile(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| EndpointError::Roots { path: path.display().to_string(), why: e.to_string() }),
    }
}

fn client_config(roots: &Roots) -> Result<quinn::ClientConfig, EndpointError> {
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
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|_| EndpointError::Tls(rustls::Error::General("no cipher suite for QUIC".into())))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).expect("8 s fit in a varint")))
        .keep_alive_interval(Some(KEEP_ALIVE))
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
