//! What a session tells its owner.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidegate_types::{BuildVersion, Cause, EnvironmentId, Epoch, Generation, ServerId, SessionId, Timestamp, ZoneId};

/// One thing that happened to a session, in the order in which the gateway said it. Only datagrams have no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session is in play. Once, before any [`Event::Game`].
    Welcome(Box<Welcome>),
    /// A reliable frame from the world.
    Game(Bytes),
    /// An unreliable message from the world.
    Datagram(Bytes),
    /// There is no room yet, or the home is being replaced; said again whenever it changes. It ends with
    /// [`Event::Welcome`], [`Event::Resumed`], [`Event::Moved`] or [`Event::Closed`].
    Hold(Hold),
    /// A message for the player.
    Notice(Notice),
    /// The player's home changed; the connection did not. Before any frame of the new home.
    Moved(Box<Moved>),
    /// The gateway is about to stop; the session is looking for another one and plays on meanwhile. Ends with
    /// [`Event::Relocated`], [`Event::Reconnecting`] or [`Event::Closed`].
    Relocating {
        /// How long the gateway still serves.
        within: Duration,
    },
    /// The session plays through another gateway now. Nothing was lost, unless [`Welcome::gap`] says so.
    Relocated(Box<Welcome>),
    /// The connection is lost; the session is trying to come back. Ends with [`Event::Resumed`] or [`Event::Closed`].
    Reconnecting {
        /// What happened to the connection, for logs.
        why: String,
    },
    /// The session is back, in the same home unless [`Welcome::home`] says otherwise.
    Resumed(Box<Welcome>),
    /// The session is over. The last event.
    Closed(Closed),
}

/// Where a player's home is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Grows by one with every change of home.
    pub epoch: Epoch,
    /// The environment the session is pinned to.
    pub environment: EnvironmentId,
    /// That environment's build.
    pub build: BuildVersion,
    /// The world server. For display and ledgers only.
    pub server: ServerId,
    /// The zone the player is in, if the gateway said.
    pub zone: Option<ZoneId>,
    /// The route generation by which the home was chosen.
    pub generation: Generation,
}

/// The gateway's word that the session is in play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session's id.
    pub session: SessionId,
    /// Where it plays.
    pub home: Home,
    /// [`Cause::Login`] or [`Cause::Resume`].
    pub cause: Cause,
    /// Frames were lost beyond repair during a long absence: a bounded window overflowed, or a new gateway did not know
    /// what the old one had received.
    pub gap: bool,
    /// How long the session keeps its place after a lost connection.
    pub grace: Duration,
    /// Read from this machine's clock just before the `Hello` that this answers was sent.
    pub hello_sent: Timestamp,
    /// The gateway that serves the session now.
    pub gateway: SocketAddr,
    /// All gateways that it knows of, "host:port"; empty: it did not say.
    pub gateways: Vec<String>,
    /// How long it took. [`Event::Welcome`]: since [`crate::PlayerEndpoint::connect`] was called, the wait in line included.
    /// [`Event::Resumed`]: since the loss was noticed. [`Event::Relocated`]: how long play stood still, from the `Hello` on.
    pub took: Duration,
}

/// Why the session has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Place in line, 1 is next; `None` where a place has no meaning.
    pub place: Option<u32>,
    /// A stable word: "full", "home_lost", "warming", "admission", "directory".
    pub reason: String,
}

/// A message for the player, for example a drain's warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// For a person.
    pub text: String,
    /// How long until the thing announced happens; `None` where it has no time.
    pub remaining: Option<Duration>,
}

/// The player's home changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The new home.
    pub home: Home,
    /// Why.
    pub cause: Cause,
    /// How long the player was between two homes, as the gateway measured it.
    pub between: Duration,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The application error code with which the gateway closed the connection (`tidegate_proto::CloseCode`), if it did.
    pub code: Option<u64>,
    /// Whose word it was.
    pub reason: CloseReason,
    /// For a person; may be empty.
    pub message: String,
}

/// Whose word the end of a session was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// This client logged out.
    LoggedOut,
    /// An operator or the game ended the session.
    Kicked,
    /// The player's newer connection took the session over.
    Replaced,
    /// The gateway forgot the session: it was away for longer than the grace time.
    GraceOver,
    /// The gateway refused to have the session (back), with its stable word.
    Refused(String),
    /// The connection was lost and no gateway could be reached within the grace time.
    Unreachable,
    /// The connection was lost before the session was in play; log in anew, with a new ticket.
    NotAdmitted,
    /// The two sides do not understand each other: a fault of one of them.
    Protocol,
    /// The gateway ended the session for a reason this client does not know, named by its word.
    Other(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoggedOut => "logged out",
            Self::Kicked => "kicked",
            Self::Replaced => "replaced by a newer connection",
            Self::GraceOver => "away for too long",
            Self::Refused(word) => return write!(f, "refused ({word})"),
            Self::Unreachable => "no gateway could be reached in time",
            Self::NotAdmitted => "connection lost before the session began",
            Self::Protocol => "protocol error",
            Self::Other(word) => return write!(f, "ended by the gateway ({word})"),
        })
    }
}
