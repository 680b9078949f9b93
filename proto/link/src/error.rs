//! What can go wrong on a link, and how its end is told.

use std::fmt;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link is closed.
    #[error("link is closed")]
    Closed,
    /// Too much waits already: the peer has stopped reading. The caller should close the link.
    #[error("link's send queue is full")]
    Full,
}

/// Why a link did not come to be, or ended while it was being opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The handshake and the hellos did not end in time.
    #[error("open the link within its deadline")]
    Timeout,
    /// The local endpoint cannot dial this address or name.
    #[error("dial")]
    Dial(#[source] quinn::ConnectError),
    /// The connection failed or was closed; a refused certificate shows here.
    #[error("keep the connection: {0}")]
    Lost(Closed),
    /// The peer's first message is not what it must be.
    #[error("accept the peer's hello: {0}")]
    BadHello(&'static str),
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The application's code, when one side closed it on purpose (see `tidegate_proto::CloseCode`).
    pub code: Option<u64>,
    /// For a person.
    pub reason: String,
    /// True when the peer closed it, false when this side did or the network was lost.
    pub by_peer: bool,
}

impl Closed {
    pub(crate) fn from_quinn(error: &quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self {
                code: Some(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
                by_peer: true,
            },
            quinn::ConnectionError::ConnectionClosed(close) => {
                Self { code: None, reason: close.to_string(), by_peer: true }
            }
            other => Self { code: None, reason: other.to_string(), by_peer: false },
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.by_peer { "peer" } else { "this side or the network" };
        match self.code {
            Some(code) => write!(f, "closed by {who} with code {code}: {}", self.reason),
            None => write!(f, "closed by {who}: {}", self.reason),
        }
    }
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Lost(Closed::from_quinn(&error))
    }
}
