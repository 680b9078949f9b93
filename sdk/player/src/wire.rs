//! One connection to a gateway: the handshake, `Hello`, the first answer, and the session stream's two halves.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tidegate_proto::frame::{self, Frame, player};
use tidegate_proto::{CloseCode, v1};
use tidegate_types::{Clock as _, SystemClock, Timestamp};

use crate::config::ClientConfig;
use crate::endpoint::PlayerEndpoint;

/// Longest frame that a gateway may send: the longer of its two kinds.
const MAX_BODY: usize =
    if frame::MAX_GAME_BODY > frame::MAX_PLAYER_BODY { frame::MAX_GAME_BODY } else { frame::MAX_PLAYER_BODY };
/// Bytes taken from the connection at once.
const CHUNK: usize = 32 * 1024;
/// How long the end of the connection may take after the end of the session stream.
const CLOSE_AFTER_END: Duration = Duration::from_millis(500);

/// A connection on which `Hello` was sent.
pub(crate) struct Wire {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    /// Received and not yet understood. Bounded by one frame and one chunk.
    pub(crate) input: BytesMut,
    /// Framed and not yet taken by the stream; the driver keeps it short.
    pub(crate) output: BytesMut,
    /// Just before `Hello` was sent.
    pub(crate) hello_sent: Timestamp,
}

/// Why a connection is of no use (any more).
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It broke, or never was. Another one may do better.
    Lost(String),
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
            Self::Lost(why) => why.clone(),
            Self::ClosedByGateway { code, message } => format!("closed by the gateway with code {code}: {message}"),
            Self::Protocol { why, .. } => why.clone(),
        }
    }
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ClosedByGateway {
                code: close.error_code.into_inner(),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => Self::Lost(other.to_string()),
        }
    }
}

impl Wire {
    /// Connects, opens the session stream and says `Hello`.
    pub(crate) async fn open(
        endpoint: &PlayerEndpoint,
        gateway: SocketAddr,
        config: &ClientConfig,
        hello: &v1::Hello,
    ) -> Result<Self, Fault> {
        let handshake = async {
            let connecting =
                endpoint.quinn.connect(gateway, &config.server_name).map_err(|e| Fault::Lost(e.to_string()))?;
            let connection = connecting.await?;
            let (send, recv) = connection.open_bi().await?;
            Ok::<_, Fault>((connection, send, recv))
        };
        let (connection, mut send, recv) = within(config.handshake_timeout, "the handshake", handshake).await?;
        let mut output = BytesMut::with_capacity(1024);
        frame::put_message(&mut output, player::HELLO, hello);
        let hello_sent = SystemClock.now().wall;
        let written = async { send.write_all(&output).await.map_err(|e| write_fault(&e)) };
        within(config.answer_timeout, "sending Hello", written).await?;
        output.clear();
        Ok(Self { connection, send, recv, input: BytesMut::new(), output, hello_sent })
    }

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

    /// The gateway's first frame.
    pub(crate) async fn first_frame(&mut self, timeout: Duration) -> Result<Frame, Fault> {
        let first = async {
            loop {
                if let Some(frame) = self.take()? {
                    return Ok(frame);
                }
                Self::receive(&self.connection, &mut self.recv, &mut self.input).await?;
            }
        };
        within(timeout, "the answer to Hello", first).await
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
