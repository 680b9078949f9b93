//! One connection to a gateway: the handshake, `Hello`, the first answer, and the session stream's two halves.
//!
//! ```text
//!   Line::dial ──handshake──> Line ──Hello──> Wire ──first frame──> played by the driver
//! ```
//!
//! A `Line` may be thrown away: nothing was said on it. A `Wire` has told the gateway of a session.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tidegate_proto::frame::{self, Frame, player};
use tidegate_proto::{CloseCode, v1};
use tidegate_types::{Clock as _, SystemClock, Timestamp};
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::endpoint::PlayerEndpoint;
use crate::gateways::Gateway;
use crate::silence::{Look, Silence};

/// Longest frame that a gateway may send: the longer of its two kinds.
const MAX_BODY: usize =
    if frame::MAX_GAME_BODY > frame::MAX_PLAYER_BODY { frame::MAX_GAME_BODY } else { frame::MAX_PLAYER_BODY };
/// Bytes taken from the connection at once.
const CHUNK: usize = 32 * 1024;
/// How long the end of the connection may take after the end of the session stream.
const CLOSE_AFTER_END: Duration = Duration::from_millis(500);

/// A connection on which nothing was said yet.
pub(crate) struct Line {
    gateway: Gateway,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

/// A connection on which `Hello` was sent.
pub(crate) struct Wire {
    pub(crate) gateway: Gateway,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    /// Received and not yet understood. Bounded by one frame and one chunk.
    pub(crate) input: BytesMut,
    /// Framed and not yet taken by the stream; the driver keeps it short.
    pub(crate) output: BytesMut,
    /// Just before `Hello` was sent.
    pub(crate) hello_sent: Timestamp,
    pub(crate) silence: Silence,
}

/// Why a connection is of no use (any more).
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It broke, or never was. Another one may do better.
    Lost(String),
    /// Nothing is heard of the gateway any more: it is gone, or this client's way to the network is.
    Silent(String),
    /// The gateway stops, or has given the session to another one: its own word. Any other gateway will do better.
    Leaving(String),
    /// The gateway closed it with this code.
    ClosedByGateway { code: u64, message: String },
    /// What came is not the protocol.
    Protocol { code: CloseCode, why: String },
}

impl Fault {
    pub(crate) fn bad_message(why: impl ToString) -> Self {
        Self::Protocol { code: CloseCode::BadMessage, why: why.to_string() }
    }

    pub(crate) fn bad_frame(why: impl ToString) -> Self {
        Self::Protocol { code: CloseCode::BadFrame, why: why.to_string() }
    }

    /// For logs and for a person.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Lost(why) | Self::Silent(why) | Self::Leaving(why) => why.clone(),
            Self::ClosedByGateway { code, message } => format!("closed by the gateway with code {code}: {message}"),
            Self::Protocol { why, .. } => why.clone(),
        }
    }
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let (code, message) =
                    (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned());
                if code == CloseCode::Shutdown as u64 {
                    Self::Leaving("the gateway shuts down".into())
                } else {
                    Self::ClosedByGateway { code, message }
                }
            }
            ConnectionError::TimedOut => Self::Silent("the connection timed out".into()),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl Line {
    /// Connects and opens the session stream.
    pub(crate) async fn dial(
        endpoint: &PlayerEndpoint,
        gateway: Gateway,
        config: &ClientConfig,
    ) -> Result<Self, Fault> {
        let handshake = async {
            let address = gateway.resolve().await.map_err(|e| Fault::Lost(format!("look up {gateway}: {e}")))?;
            let connection = endpoint.dial(address, config).map_err(|e| Fault::Lost(e.to_string()))?.await?;
            let (send, recv) = connection.open_bi().await?;
            Ok::<_, Fault>((connection, send, recv))
        };
        let (connection, send, recv) = within(config.handshake_timeout, "the handshake", handshake).await?;
        Ok(Self { gateway, connection, send, recv })
    }

    /// Where it leads.
    pub(crate) const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Says `Hello`.
    pub(crate) async fn hello(self, config: &ClientConfig, hello: &v1::Hello) -> Result<Wire, Fault> {
        let Self { gateway, connection, mut send, recv } = self;
        let mut output = BytesMut::with_capacity(1024);
        frame::put_message(&mut output, player::HELLO, hello);
        let hello_sent = SystemClock.now().wall;
        let written = async { send.write_all(&output).await.map_err(|e| write_fault(&e)) };
        within(config.answer_timeout, "sending Hello", written).await?;
        output.clear();
        let silence = Silence::new(config.silence, Instant::now());
        Ok(Wire { gateway, connection, send, recv, input: BytesMut::new(), output, hello_sent, silence })
    }
}

impl Wire {
    /// The next frame that is already received in full.
    pub(crate) fn take(&mut self) -> Result<Option<Frame>, Fault> {
        frame::take(&mut self.input, MAX_BODY)
            .map_err(|e| Fault::Protocol { code: CloseCode::FrameTooLong, why: e.to_string() })
    }

    /// Waits for more bytes. May be cancelled without loss.
    pub(crate) async fn receive(
        connection: &Connection,
        recv: &mut RecvStream,
        input: &mut BytesMut,
    ) -> Result<(), Fault> {
        match recv.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => {
                input.extend_from_slice(&chunk.bytes);
                Ok(())
            }
            // The close that follows says why.
            Ok(None) => match tokio::time::timeout(CLOSE_AFTER_END, connection.closed()).await {
                Ok(error) => Err(error.into()),
                Err(_) => Err(Fault::Lost("the gateway ended the session stream".into())),
            },
            Err(quinn::ReadError::ConnectionLost(e)) => Err(e.into()),
            Err(e) => Err(Fault::Lost(e.to_string())),
        }
    }

    /// Looks whether the gateway still answers, if it is time to; the endpoint learns what was heard.
    pub(crate) fn look(&mut self, endpoint: &PlayerEndpoint) -> Result<(), Fault> {
        let now = Instant::now();
        if now < self.silence.next() {
            return Ok(());
        }
        match self.silence.look(&self.connection.stats(), now) {
            Look::Early | Look::Nothing => Ok(()),
            Look::Heard => {
                endpoint.heard(now);
                Ok(())
            }
            Look::Silent => Err(Fault::Silent("the gateway does not answer any more".into())),
        }
    }

    /// The gateway's next frame, while nothing else is to be done on this connection.
    pub(crate) async fn answer(&mut self, endpoint: &PlayerEndpoint, timeout: Duration) -> Result<Frame, Fault> {
        let answer = async {
            loop {
                if let Some(frame) = self.take()? {
                    return Ok(frame);
                }
                self.look(endpoint)?;
                tokio::select! {
                    received = Self::receive(&self.connection, &mut self.recv, &mut self.input) => received?,
                    () = tokio::time::sleep_until(self.silence.next()) => {}
                }
            }
        };
        within(timeout, "the answer to Hello", answer).await
    }

    /// Closes the connection.
    pub(crate) fn close(&self, code: CloseCode, why: &str) {
        self.connection.close(quinn::VarInt::from_u32(code as u32), why.as_bytes());
    }
}

pub(crate) fn write_fault(error: &quinn::WriteError) -> Fault {
    match error {
        quinn::WriteError::ConnectionLost(e) => e.clone().into(),
        other => Fault::Lost(other.to_string()),
    }
}

async fn within<T>(timeout: Duration, what: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Lost(format!("{what} took longer than {} ms", timeout.as_millis()))),
    }
}
