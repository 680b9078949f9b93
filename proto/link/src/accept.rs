//! The listening end: a world server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TokioRuntime};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{GatewayToWorld, LinkHello, WorldHello, WorldToGateway, gateway_to_world, world_to_gateway};

use crate::error::LinkError;
use crate::pki::Identity;
use crate::{HANDSHAKE_DEADLINE, Link, MAX_STREAMS, hello, receiver, sender, tls, transport};

/// Links that may be in their handshake at once: gateways are few, so more than this is not a gateway.
const MAX_HANDSHAKES: usize = 64;
/// Bytes that a handshake may bring before it is looked at.
const HANDSHAKE_BYTES: u64 = 64 * 1024;

/// Accepts links.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    local_addr: SocketAddr,
}

/// A connection that has begun; nothing is known of it but its address.
pub struct Incoming {
    inner: quinn::Incoming,
}

/// A link whose dialler is known to hold a gateway's certificate and has said hello.
pub struct Introduced {
    connection: Connection,
    sending: Vec<SendStream>,
    receiving: Vec<(RecvStream, BytesMut)>,
    hello: LinkHello,
}

impl Listener {
    /// Binds `addr` (port 0: any). Must be called within a tokio runtime; the links live on that runtime.
    ///
    /// # Errors
    /// The address is taken or not ours, or the identity's key does not fit its certificate.
    pub fn bind(identity: &Identity, addr: SocketAddr) -> io::Result<Self> {
        let mut config = ServerConfig::with_crypto(Arc::new(tls::server(identity).map_err(io::Error::other)?));
        config
            .transport_config(transport::transport())
            .migration(false)
            .max_incoming(MAX_HANDSHAKES)
            .incoming_buffer_size(HANDSHAKE_BYTES)
            .incoming_buffer_size_total(HANDSHAKE_BYTES * MAX_HANDSHAKES as u64);
        let socket = transport::socket(addr)?;
        let endpoint = Endpoint::new(transport::endpoint_config(), Some(config), socket, Arc::new(TokioRuntime))?;
        let local_addr = endpoint.local_addr()?;
        Ok(Self { endpoint, local_addr })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection; `None` after [`Listener::close`]. Cancel-safe. Go on with it in a task of its own: its
    /// handshake may take [`HANDSHAKE_DEADLINE`].
    pub async fn accept(&self) -> Option<Incoming> {
        self.endpoint.accept().await.map(|inner| Incoming { inner })
    }

    /// Closes all its links at once and accepts no more.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint.close((code as u32).into(), reason.as_bytes());
    }

    /// Waits until the ends of all links have reached their peers (or were given up).
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Incoming {
    /// Does the handshake and reads the hellos.
    ///
    /// # Errors
    /// [`LinkError`]; a client without a gateway's certificate is refused here.
    pub async fn introduce(self) -> Result<Introduced, LinkError> {
        tokio::time::timeout(HANDSHAKE_DEADLINE, introduce(self.inner)).await.map_err(|_| LinkError::Timeout)?
    }

    /// Does the handshake and answers with `answer`, whoever the gateway is.
    ///
    /// # Errors
    /// As [`Incoming::introduce`] and [`Introduced::accept`].
    pub async fn accept(
        self,
        answer: WorldHello,
    ) -> Result<(Link<WorldToGateway, GatewayToWorld>, LinkHello), LinkError> {
        self.introduce().await?.accept(answer).await
    }

    /// Refuses it without a word.
    pub fn ignore(self) {
        self.inner.ignore();
    }
}

impl Introduced {
    /// What the gateway said on stream 0.
    #[must_use]
    pub fn hello(&self) -> &LinkHello {
        &self.hello
    }

    /// Answers and opens the link.
    ///
    /// # Errors
    /// [`LinkError::Lost`] when the gateway is gone.
    pub async fn accept(
        mut self,
        answer: WorldHello,
    ) -> Result<(Link<WorldToGateway, GatewayToWorld>, LinkHello), LinkError> {
        let message = WorldToGateway { message: Some(world_to_gateway::Message::Hello(answer)) };
        hello::write(&self.connection, &mut self.sending[0], &message).await?;
        let link = Link {
            sender: sender::start(self.connection.clone(), self.sending),
            receiver: receiver::start(self.connection, self.receiving),
        };
        Ok((link, self.hello))
    }

    /// Closes it; the gateway sees the code and the reason.
    pub fn refuse(self, code: CloseCode, reason: &str) {
        hello::close(&self.connection, code, reason);
    }
}

async fn introduce(incoming: quinn::Incoming) -> Result<Introduced, LinkError> {
    let connection = incoming.await?;
    match hellos(&connection).await {
        Ok((sending, receiving, hello)) => Ok(Introduced { connection, sending, receiving, hello }),
        Err(error) => {
            if let LinkError::BadHello(why) = error {
                hello::close(&connection, CloseCode::BadMessage, why);
            }
            Err(error)
        }
    }
}

type Streams = (Vec<SendStream>, Vec<(RecvStream, BytesMut)>, LinkHello);

async fn hellos(connection: &Connection) -> Result<Streams, LinkError> {
    let (mut sending, mut receiving) = (Vec::new(), Vec::new());
    let mut first: Option<LinkHello> = None;
    // Streams are accepted in the order in which they were opened, so the first hello is stream 0's.
    loop {
        let (send, mut receive) = connection.accept_bi().await?;
        let mut buffer = BytesMut::new();
        let hello = match hello::read::<GatewayToWorld>(&mut receive, &mut buffer).await?.message {
            Some(gateway_to_world::Message::Hello(hello)) => hello,
            _ => return Err(LinkError::BadHello("it is another message")),
        };
        if hello.streams == 0 || hello.streams > MAX_STREAMS {
            return Err(LinkError::BadHello("it has no legal number of streams"));
        }
        if hello.stream as usize != sending.len() {
            return Err(LinkError::BadHello("its stream number is not the next"));
        }
        sending.push(send);
        receiving.push((receive, buffer));
        let first = first.get_or_insert(hello);
        if sending.len() == first.streams as usize {
            return Ok((sending, receiving, first.clone()));
        }
    }
}
