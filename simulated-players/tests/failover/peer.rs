//! A gateway of its own runtime: it can be killed in the middle of whatever it does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{Connection, Incoming, RecvStream, SendStream};
use tidegate_proto::frame::{self, Frame, player};
use tidegate_proto::v1;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::world::{Coming, World};

/// See the module's text.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    certificate: String,
    runtime: Option<Runtime>,
    /// Where players are sent when it stops.
    elsewhere: watch::Sender<Option<SocketAddr>>,
}

impl Peer {
    pub(crate) fn start(world: &Arc<World>) -> Self {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![tidegate_proto::PLAYER_ALPN.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = runtime.enter();
        let server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap();
        drop(inside);
        let address = endpoint.local_addr().unwrap();
        let (elsewhere, stops) = watch::channel(None);
        let world = world.clone();
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve(world.clone(), incoming, stops.clone()));
            }
        });
        Self { address, certificate: issued.cert.pem(), runtime: Some(runtime), elsewhere }
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.clone()
    }

    /// Ends all of its tasks where they stand.
    pub(crate) fn kill(mut self) {
        self.runtime.take().expect("it lives").shutdown_background();
    }

    /// Asks its players to go elsewhere.
    pub(crate) fn stop(&self, elsewhere: SocketAddr) {
        self.elsewhere.send_replace(Some(elsewhere));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connections of all peers, to tell them apart.
static OWNERS: AtomicUsize = AtomicUsize::new(0);

/// One player's connection, until it or the player goes.
async fn serve(world: Arc<World>, incoming: Incoming, mut stops: watch::Receiver<Option<SocketAddr>>) -> Option<()> {
    let connection = incoming.await.ok()?;
    let (mut send, recv) = connection.accept_bi().await.ok()?;
    let mut reader = Reader { recv, input: BytesMut::new() };
    let hello = v1::Hello::decode(reader.next().await?.body).ok()?;
    let owner = OWNERS.fetch_add(1, Ordering::Relaxed);
    let coming = match hello.resume_ticket.parse() {
        Ok(session) => world.take_over(session, hello.received_frames, owner),
        Err(_) => world.log_in(owner),
    };
    let session = coming.session;
    welcome(&mut send, &hello, coming).await?;
    stops.mark_unchanged();
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame?,
            Ok(()) = stops.changed() => {
                let elsewhere = stops.borrow_and_update().map(|address| address.to_string());
                let message = v1::Relocate { gateways: elsewhere.into_iter().collect(), within_ms: 60_000 };
                say(&mut send, player::RELOCATE, &message).await?;
                continue;
            }
        };
        match frame.kind {
            player::GAME => {
                let (said, received) = world.act(session, owner, &frame.body)?;
                games(&mut send, &said).await?;
                say(&mut send, player::ACK, &v1::Ack { received_frames: received }).await?;
            }
            player::ACK => world.acknowledged(session, owner, v1::Ack::decode(frame.body).ok()?.received_frames),
            player::GOODBYE => return logged_out(&connection, &mut send).await,
            other => panic!("frame type {other:#x} from a player"),
        }
    }
}

async fn welcome(send: &mut SendStream, hello: &v1::Hello, coming: Coming) -> Option<()> {
    let login = !hello.login_ticket.is_empty();
    let cause = if login { v1::Cause::Login } else { v1::Cause::Resume };
    let message = v1::Welcome {
        session_id: u128::from(coming.session).to_be_bytes().to_vec(),
        epoch: coming.epoch,
        environment_id: "eu-1-a".into(),
        build: "1.0.0".into(),
        server_id: "w-1".into(),
        zone: "harbor".into(),
        generation: 1,
        resume_ticket: coming.session.to_string(),
        received_frames: coming.received,
        cause: cause.into(),
        grace_ms: 30_000,
        next_frame: hello.received_frames,
        ..v1::Welcome::default()
    };
    say(send, player::WELCOME, &message).await?;
    games(send, &coming.frames).await
}

async fn logged_out(connection: &Connection, send: &mut SendStream) -> Option<()> {
    say(send, player::GOODBYE, &v1::Goodbye { reason: "logout".into(), message: String::new() }).await?;
    send.finish().ok()?;
    connection.closed().await;
    None
}

async fn say(send: &mut SendStream, kind: u64, message: &impl Message) -> Option<()> {
    let mut out = BytesMut::new();
    frame::put_message(&mut out, kind, message);
    send.write_all(&out).await.ok()
}

async fn games(send: &mut SendStream, bodies: &[Bytes]) -> Option<()> {
    let mut out = BytesMut::new();
    for body in bodies {
        frame::put(&mut out, player::GAME, body);
    }
    send.write_all(&out).await.ok()
}

struct Reader {
    recv: RecvStream,
    input: BytesMut,
}

impl Reader {
    /// The next frame; may be cancelled without loss.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::take(&mut self.input, frame::MAX_GAME_BODY).unwrap() {
                return Some(frame);
            }
            let chunk = self.recv.read_chunk(65_536, true).await.ok()??;
            self.input.extend_from_slice(&chunk.bytes);
        }
    }
}
