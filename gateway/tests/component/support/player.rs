//! A player's client written by hand, frame by frame, so that it can also do what no client of ours would.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tidegate_proto::frame::{self, Frame, player};
use tidegate_proto::{CloseCode, PLAYER_ALPN, v1};

use super::gateway::TestGateway;
use super::patient;

pub(crate) struct TestPlayer {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    receive: RecvStream,
    buffer: BytesMut,
    /// What `Welcome` and `Moved` gave last.
    pub(crate) resume_ticket: String,
    _endpoint: Endpoint,
}

/// A client's TLS that trusts the gateway's authority.
pub(crate) fn client_tls(gateway: &TestGateway) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for cert in tidegate_link::pki::load_certs(&gateway.ca()).unwrap() {
        roots.add(cert).unwrap();
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![PLAYER_ALPN.to_vec()];
    tls
}

/// A client endpoint that trusts the gateway's authority.
pub(crate) fn endpoint(gateway: &TestGateway) -> Endpoint {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls(gateway)).unwrap()));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(std::time::Duration::from_secs(2)));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

impl TestPlayer {
    /// Connects and opens the session stream; says nothing yet.
    pub(crate) async fn connect(gateway: &TestGateway) -> Self {
        Self::connect_with(gateway, endpoint(gateway)).await
    }

    /// As [`Self::connect`], from this endpoint.
    pub(crate) async fn connect_with(gateway: &TestGateway, endpoint: Endpoint) -> Self {
        let connecting = endpoint.connect(gateway.address(), "localhost").unwrap();
        let connection = patient("the handshake", connecting).await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        let (buffer, resume_ticket) = (BytesMut::new(), String::new());
        Self { connection, send, receive, buffer, resume_ticket, _endpoint: endpoint }
    }

    /// Connects and logs in; the Welcome.
    pub(crate) async fn login(gateway: &TestGateway, player: &str) -> (Self, v1::Welcome) {
        let mut this = Self::connect(gateway).await;
        this.hello(login(gateway.ticket(player))).await;
        let welcome = this.welcome().await;
        (this, welcome)
    }

    pub(crate) async fn hello(&mut self, hello: v1::Hello) {
        self.frame(player::HELLO, &hello.encode_to_vec()).await;
    }

    pub(crate) async fn frame(&mut self, kind: u64, body: &[u8]) {
        let mut out = BytesMut::new();
        frame::put(&mut out, kind, body);
        self.bytes(&out).await;
    }

    /// Whatever bytes. A connection that is closed meanwhile is what the test looks at next.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    pub(crate) async fn game(&mut self, text: &str) {
        self.frame(player::GAME, text.as_bytes()).await;
    }

    /// The next frame, or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, ConnectionError> {
        patient("a frame", async {
            loop {
                if let Some(frame) = frame::take(&mut self.buffer, 1 << 20).unwrap() {
                    return Ok(frame);
                }
                match self.receive.read_chunk(64 * 1024, true).await {
                    Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(_) => return Err(self.connection.closed().await),
                }
            }
        })
        .await
    }

    /// The body of the next frame that is not an `Ack`; it must be of this kind.
    pub(crate) async fn expect(&mut self, kind: u64) -> Bytes {
        loop {
            match self.next().await {
                Ok(frame) if frame.kind == kind => return frame.body,
                Ok(frame) if frame.kind == player::ACK => (),
                other => panic!("expected a frame of kind {kind}, got {other:?}"),
            }
        }
    }

    /// Waits through `Hold`s for the Welcome.
    pub(crate) async fn welcome(&mut self) -> v1::Welcome {
        loop {
            match self.next().await.unwrap() {
                Frame { kind: player::WELCOME, body } => {
                    let welcome = v1::Welcome::decode(body).unwrap();
                    self.resume_ticket = welcome.resume_ticket.clone();
                    return welcome;
                }
                Frame { kind: player::HOLD, .. } => (),
                other => panic!("expected Welcome, got {other:?}"),
            }
        }
    }

    /// Waits through `Hold`s for the Welcome, or for the word why not.
    pub(crate) async fn welcome_or_refused(&mut self) -> Result<v1::Welcome, v1::Refused> {
        loop {
            match self.next().await.unwrap() {
                Frame { kind: player::WELCOME, body } => return Ok(v1::Welcome::decode(body).unwrap()),
                Frame { kind: player::REFUSED, body } => return Err(v1::Refused::decode(body).unwrap()),
                Frame { kind: player::HOLD, .. } => (),
                other => panic!("expected Welcome or Refused, got {other:?}"),
            }
        }
    }

    /// The text of the next `Game` frame.
    pub(crate) async fn echo(&mut self) -> String {
        String::from_utf8(self.expect(player::GAME).await.to_vec()).unwrap()
    }

    pub(crate) async fn moved(&mut self) -> v1::Moved {
        v1::Moved::decode(self.expect(player::MOVED).await).unwrap()
    }

    pub(crate) async fn refused(&mut self) -> v1::Refused {
        v1::Refused::decode(self.expect(player::REFUSED).await).unwrap()
    }

    /// The code with which the gateway closes the connection.
    pub(crate) async fn closed(&self) -> u64 {
        match patient("the close", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("not closed by the gateway: {other}"),
        }
    }

    pub(crate) async fn assert_closed(&self, code: CloseCode) {
        assert_eq!(self.closed().await, code as u64);
    }
}

/// A Hello with a login ticket.
pub(crate) fn login(ticket: String) -> v1::Hello {
    v1::Hello { realm: "eu-1".into(), login_ticket: ticket, client_version: "1.0.0".into(), ..Default::default() }
}

/// A Hello with a resume ticket.
pub(crate) fn resume(ticket: &str, received_frames: u64, sent_frames: u64) -> v1::Hello {
    v1::Hello {
        realm: "eu-1".into(),
        resume_ticket: ticket.into(),
        client_version: "1.0.0".into(),
        received_frames,
        sent_frames,
        ..Default::default()
    }
}
