//! The link between a gateway (or the manager's smoke test) and a world server: one QUIC connection with mutual TLS, a few
//! shared ordered streams that carry frames of many sessions, and datagrams that carry several sessions' messages each.
//!
//! ```text
//!  callers --control/game--> lane buffers --one write a wake-up--> streams --> readers --> inbox --recv--> the loop
//!          --datagram------> packed buffer --few datagrams-------> datagrams -->/
//! ```
//!
//! Everything is bounded: what waits to be sent ([`SEND_LIMIT`]), what waits to be received ([`RECEIVE_LIMIT`]), a frame
//! (`frame::MAX_LINK_BODY`), a handshake ([`HANDSHAKE_DEADLINE`]). Refuses to know what the messages mean: sessions, leases
//! and hand-overs are the business of the two ends.

pub mod accept;
pub mod connect;
mod error;
mod hello;
pub mod pki;
mod receiver;
mod sender;
mod tls;
mod transport;

pub use error::{Closed, LinkError, SendError};
pub use receiver::{Event, Receiver};
pub use sender::{LinkStats, Sender};

use std::time::Duration;

/// How many streams a link has, unless its dialler asks for another number. Enough that one session's large state does not
/// hold up all others; few enough that writes stay batched.
pub const DEFAULT_STREAMS: u32 = 4;
/// Most streams a link may have.
pub const MAX_STREAMS: u32 = 8;
/// Longest time from dialling to the end of the hellos.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);
/// Most bytes that wait to be sent on one link before [`SendError::Full`]: some 200 ms of a busy link, or a dozen of the
/// largest player states. More than that waiting means that the peer has stopped reading.
pub const SEND_LIMIT: usize = 16 * 1024 * 1024;
/// Bytes that wait to be received on one link before its streams are no longer read (QUIC's flow control then holds the
/// peer back): the connection's own window once more.
pub const RECEIVE_LIMIT: usize = 8 * 1024 * 1024;
/// Most events that one [`Receiver::recv`] hands out, so that a busy link cannot starve its owner's other work.
pub const RECEIVE_BATCH: usize = 256;

/// Both halves of one open link. `Out` is what this side sends as control messages, `In` what it receives.
#[derive(Debug)]
pub struct Link<Out, In> {
    /// Sends; may be cloned and used from any thread.
    pub sender: Sender<Out>,
    /// Receives; dropping it closes the link.
    pub receiver: Receiver<In>,
}
