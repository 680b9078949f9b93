//! The dialling end: a gateway, or the manager's smoke test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use quinn::{ClientConfig, Endpoint, TokioRuntime};
use tidegate_proto::CloseCode;
use tidegate_proto::v1::{GatewayToWorld, LinkHello, WorldHello, WorldToGateway, gateway_to_world, world_to_gateway};

use crate::error::LinkError;
use crate::pki::Identity;
use crate::{DEFAULT_STREAMS, HANDSHAKE_DEADLINE, Link, MAX_STREAMS, hello, receiver, sender, tls, transport};

/// Opens links. Cheap to clone; all clones share one UDP socket.
#[derive(Debug, Clone)]
pub struct Dialer {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Dialer {
    /// Binds a UDP socket on a free port. Must be called within a tokio runtime; the links live on that runtime.
    ///
    /// # Errors
    /// The socket cannot be bound, or the identity's key does not fit its certificate.
    pub fn new(identity: &Identity) -> io::Result<Self> {
        let mut config = ClientConfig::new(Arc::new(tls::client(identity).map_err(io::Error::other)?));
        config.transport_config(transport::transport());
        let socket = transport::socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let endpoint = Endpoint::new(transport::endpoint_config(), None, socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint, config })
    }

    /// Opens a link to the world server at `addr` whose certificate must be for `tls_name`. `streams` of `hello` 0 means
    /// [`DEFAULT_STREAMS`]; `stream` is filled in.
    ///
    /// # Errors
    /// [`LinkError`]; nothing stays open.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        tls_name: &str,
        hello: LinkHello,
    ) -> Result<(Link<GatewayToWorld, WorldToGateway>, WorldHello), LinkError> {
        let connecting = self.endpoint.connect_with(self.config.clone(), addr, tls_name).map_err(LinkError::Dial)?;
        tokio::time::timeout(HANDSHAKE_DEADLINE, open(connecting, hello)).await.map_err(|_| LinkError::Timeout)?
    }
}

async fn open(
    connecting: quinn::Connecting,
    mut hello: LinkHello,
) -> Result<(Link<GatewayToWorld, WorldToGateway>, WorldHello), LinkError> {
    let connection = connecting.await?;
    if hello.streams == 0 {
        hello.streams = DEFAULT_STREAMS;
    }
    hello.streams = hello.streams.min(MAX_STREAMS);
    let (mut sending, mut receiving) = (Vec::new(), Vec::new());
    for stream in 0..hello.streams {
        let (mut send, receive) = connection.open_bi().await?;
        let first = LinkHello { stream, ..hello.clone() };
        let message = GatewayToWorld { message: Some(gateway_to_world::Message::Hello(first)) };
        hello::write(&connection, &mut send, &message).await?;
        sending.push(send);
        receiving.push((receive, BytesMut::new()));
    }
    let (stream, buffer) = &mut receiving[0];
    let answer = match hello::read::<WorldToGateway>(stream, buffer).await?.message {
        Some(world_to_gateway::Message::Hello(answer)) => answer,
        _ => {
            hello::close(&connection, CloseCode::BadMessage, "expected a world hello");
            return Err(LinkError::BadHello("it is another message"));
        }
    };
    let link =
        Link { sender: sender::start(connection.clone(), sending), receiver: receiver::start(connection, receiving) };
    Ok((link, answer))
}
