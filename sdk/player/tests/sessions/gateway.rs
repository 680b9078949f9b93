//! A gateway that does what a test tells it to: quinn as a server, and the session stream's frames by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::VarInt;
use rustls_pki_types::CertificateDer;
use tidegate_player::{ClientConfig, PlayerEndpoint, Roots};
use tidegate_proto::frame::{self, Frame, player};
use tidegate_proto::{CloseCode, v1};

/// Listens, with a certificate of its own.
pub(crate) struct Gateway {
    endpoint: quinn::Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
}

/// One client's connection, after its `Hello`.
pub(crate) struct Connection {
    pub(crate) hello: v1::Hello,
    pub(crate) quinn: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    input: BytesMut,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let key = rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![tidegate_proto::PLAYER_ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let endpoint =
            quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(tls)), ([127, 0, 0, 1], 0).into())
                .unwrap();
        let address = endpoint.local_addr().unwrap();
        Self { endpoint, address, certificate }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig::new(vec![self.address], "localhost", "eu-1".parse().unwrap(), "1.0.0")
    }

    pub(crate) fn client(&self) -> PlayerEndpoint {
        client_of(&[self])
    }

    /// Goes through handshakes that must not succeed, for ever.
    pub(crate) async fn refuse_handshakes(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            assert!(incoming.await.is_err(), "a session without trust");
        }
    }

    /// The next client that connects goes away without a word.
    pub(crate) async fn hears_no_hello(&self) {
        if let Ok(connection) = self.endpoint.accept().await.unwrap().await {
            assert!(connection.accept_bi().await.is_err(), "a second Hello");
        }
    }

    /// The next client that says `Hello`.
    pub(crate) async fn accept(&self) -> Connection {
        let quinn = self.endpoint.accept().await.unwrap().await.unwrap();
        let (send, recv) = quinn.accept_bi().await.unwrap();
        let mut connection = Connection { hello: v1::Hello::default(), quinn, send, recv, input: BytesMut::new() };
        let first = connection.next().await.unwrap();
        assert_eq!(first.kind, player::HELLO);
        connection.hello = v1::Hello::decode(first.body).unwrap();
        connection
    }
}

/// A client that trusts all of these.
pub(crate) fn client_of(gateways: &[&Gateway]) -> PlayerEndpoint {
    let certificates = gateways.iter().map(|gateway| gateway.certificate.clone()).collect();
    PlayerEndpoint::new(&Roots::Certificates(certificates)).unwrap()
}

/// As a gateway would name them.
pub(crate) fn names_of(gateways: &[&Gateway]) -> Vec<String> {
    gateways.iter().map(|gateway| gateway.address.to_string()).collect()
}

impl Connection {
    /// The client's next frame; `None` when there is none any more.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::take(&mut self.input, frame::MAX_GAME_BODY).unwrap() {
                return Some(frame);
            }
            let chunk = self.recv.read_chunk(65_536, true).await.ok().flatten()?;
            self.input.extend_from_slice(&chunk.bytes);
        }
    }

    /// The client's next frame other than `Ack`.
    pub(crate) async fn next_but_ack(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind != player::ACK {
                return Some(frame);
            }
        }
    }

    /// The bodies of the client's next `Game` frames.
    pub(crate) async fn games(&mut self, count: usize) -> Vec<Bytes> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let frame = self.next_but_ack().await.unwrap();
            assert_eq!(frame.kind, player::GAME);
            bodies.push(frame.body);
        }
        bodies
    }

    /// The client's next `Ack`, whatever else comes before it.
    pub(crate) async fn ack(&mut self) -> u64 {
        loop {
            let frame = self.next().await.unwrap();
            if frame.kind == player::ACK {
                return v1::Ack::decode(frame.body).unwrap().received_frames;
            }
        }
    }

    pub(crate) async fn say(&mut self, kind: u64, message: &impl Message) {
        let mut out = BytesMut::new();
        frame::put_message(&mut out, kind, message);
        self.raw(&out).await;
    }

    pub(crate) async fn game(&mut self, body: &[u8]) {
        let mut out = BytesMut::new();
        frame::put(&mut out, player::GAME, body);
        self.raw(&out).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    /// Says `Welcome`: to a login if the client came with a login ticket, else to a resume.
    pub(crate) async fn welcome(&mut self, received_frames: u64, gap: bool, resume_ticket: &str) {
        let message = self.welcome_message(received_frames, gap, resume_ticket);
        self.say(player::WELCOME, &message).await;
    }

    /// As [`Self::welcome`], and tells of other gateways.
    pub(crate) async fn welcome_naming(&mut self, gateways: &[&Gateway], received_frames: u64, resume_ticket: &str) {
        let message = self.welcome_message(received_frames, false, resume_ticket);
        self.say(player::WELCOME, &v1::Welcome { gateways: names_of(gateways), ..message }).await;
    }

    pub(crate) fn welcome_message(&self, received_frames: u64, gap: bool, resume_ticket: &str) -> v1::Welcome {
        let login = !self.hello.login_ticket.is_empty();
        let cause = if login { v1::Cause::Login } else { v1::Cause::Resume };
        v1::Welcome {
            session_id: vec![7; 16],
            epoch: 1,
            environment_id: "eu-1-a".into(),
            build: "1.9.0".into(),
            server_id: "a-1".into(),
            zone: "harbor".into(),
            generation: 3,
            resume_ticket: resume_ticket.into(),
            received_frames,
            cause: cause.into(),
            gap,
            grace_ms: 10_000,
            max_frame_bytes: 1_000,
            gateways: Vec::new(),
            next_frame: self.hello.received_frames,
        }
    }

    /// This gateway is about to stop.
    pub(crate) async fn relocate(&mut self, gateways: &[&Gateway], within_ms: u32) {
        self.say(player::RELOCATE, &v1::Relocate { gateways: names_of(gateways), within_ms }).await;
    }

    pub(crate) async fn refuse(&mut self, reason: &str, retry_after_ms: u32) {
        let refused = v1::Refused { reason: reason.into(), message: String::new(), retry_after_ms };
        self.say(player::REFUSED, &refused).await;
    }

    pub(crate) async fn moved(&mut self, epoch: u64, resume_ticket: &str) {
        let message = v1::Moved {
            epoch,
            environment_id: "eu-1-b".into(),
            build: "2.0.0".into(),
            server_id: "b-1".into(),
            zone: "meadow".into(),
            cause: v1::Cause::Zone.into(),
            generation: 4,
            gap_us: 1_500,
            resume_ticket: resume_ticket.into(),
        };
        self.say(player::MOVED, &message).await;
    }

    pub(crate) async fn goodbye(&mut self, reason: &str) {
        self.say(player::GOODBYE, &v1::Goodbye { reason: reason.into(), message: String::new() }).await;
    }

    /// Ends the stream, and waits until the client has all of it.
    pub(crate) async fn finish(&mut self) {
        self.send.finish().unwrap();
        let _ = self.send.stopped().await;
    }

    /// Breaks the connection without a word about the session.
    pub(crate) fn break_off(&self) {
        self.quinn.close(VarInt::from_u32(CloseCode::Internal as u32), b"test");
    }

    /// The code with which the client closed.
    pub(crate) async fn closed_with(&self) -> u64 {
        match self.quinn.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("the client did not close: {other}"),
        }
    }
}
