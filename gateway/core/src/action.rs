//! What the core wants done. A closed enum: the shell has exactly one `match` on it.

use bytes::Bytes;
use tidegate_types::{Cause, EnvironmentId, Epoch, Generation, InstanceId, PartyId, ServerId, SessionId, Timestamp};

use crate::directory::DirectoryRequest;
use crate::key::{ConnKey, ServerKey, SessionKey};
use crate::message::{Pin, PlayerMessage, ToWorld, Who};

/// One thing to do. To be done in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// From now on this connection's frames are `session`'s: use the key with [`crate::Core::upstream`] and the like.
    Bind {
        /// The connection.
        conn: ConnKey,
        /// The session.
        session: SessionKey,
    },
    /// Say this to the player.
    ToPlayer {
        /// The connection.
        conn: ConnKey,
        /// What.
        message: PlayerMessage,
    },
    /// `Game` frames for the player, in order: those that waited, or that the player lacks after a resume.
    ResendToPlayer {
        /// The connection.
        conn: ConnKey,
        /// The bodies.
        frames: Vec<Bytes>,
    },
    /// Close the connection once what was said is flushed. The core has forgotten it: nothing more is to be told about it.
    ClosePlayer {
        /// The connection.
        conn: ConnKey,
        /// How.
        code: Close,
    },
    /// Stop reading this player's stream: its frames have nowhere to go.
    PauseReading {
        /// The connection.
        conn: ConnKey,
    },
    /// Read again.
    ResumeReading {
        /// The connection.
        conn: ConnKey,
    },
    /// Say this to the world server, on the stream of `handle`.
    ToWorld {
        /// The server.
        server: ServerKey,
        /// The session's handle on that link; also chooses the stream.
        handle: u32,
        /// What.
        message: ToWorld,
    },
    /// `Game` frames that waited in the gateway, in order, on the stream of `handle`.
    ForwardQueued {
        /// The server.
        server: ServerKey,
        /// The session's handle on that link.
        handle: u32,
        /// The bodies.
        frames: Vec<Bytes>,
    },
    /// Open a link, again and again with back-off until it is up (`Input::LinkUp`) or `Hangup`. After `Input::LinkDown` the
    /// core dials anew if it wants to.
    Dial {
        /// The core's key for it.
        server: ServerKey,
        /// Where it is.
        target: DialTarget,
    },
    /// Close the link, or stop dialling. The core has forgotten the link: nothing more is to be told about it.
    Hangup {
        /// The server.
        server: ServerKey,
        /// The key is free: a later `Dial` may give it to another server.
        forget: bool,
    },
    /// The table is in force: see the rule at `TableAck`.
    AckTable {
        /// Its generation.
        generation: Generation,
    },
    /// A session's row changed, or the session is gone.
    Report(SessionReport),
    /// What became of one session of a command.
    CommandResult {
        /// The command's id.
        command: String,
        /// The session.
        session: SessionId,
        /// What.
        outcome: CommandOutcome,
        /// For a person.
        message: String,
    },
    /// Ask the directory; answer with `Input::Directory`.
    Directory(DirectoryRequest),
}

/// Where a world server's link listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    /// The server.
    pub id: ServerId,
    /// The run that the table names; another run may answer.
    pub instance: InstanceId,
    /// "host:port".
    pub address: String,
    /// The certificate name to expect.
    pub tls_name: String,
}

/// How a player's connection is closed; the shell maps it to the wire's close codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The session ended as agreed.
    Done,
    /// `Refused` was sent.
    Refused,
    /// Another connection took the session over.
    Replaced,
    /// The client is to resume: its count of frames cannot be right any more.
    Resume,
}

/// What became of one session of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// No such session here.
    UnknownSession,
    /// It is there.
    AlreadyThere,
    /// Not now: it is being placed, moved or ended. Ask again.
    Busy,
    /// The hand-over failed; it plays on where it was.
    KeptInPlace,
    /// No server there serves its place and has room.
    NoRoom,
}

impl CommandOutcome {
    /// The stable word of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::UnknownSession => "unknown_session",
            Self::AlreadyThere => "already_there",
            Self::Busy => "busy",
            Self::KeptInPlace => "kept_in_place",
            Self::NoRoom => "no_room",
        }
    }
}

/// For the manager's list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionReport {
    /// The row is now this.
    Row(Box<SessionRow>),
    /// The session is over.
    Gone {
        /// The session.
        session: SessionId,
        /// "logout", "kicked", "grace_over", "replaced", "ejected", "lost".
        reason: &'static str,
        /// The environment it left; `None` when it never had one.
        environment: Option<EnvironmentId>,
        /// Why it had come to be there.
        cause: Option<Cause>,
    },
}

/// One session, as its gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub session: SessionId,
    /// The player and character.
    pub who: Who,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// The home; `None` while there is none.
    pub server: Option<ServerId>,
    /// The zone's or instance's id, as the world server says it; empty while not known.
    pub zone: String,
    /// "shared", or the instance's kind; empty while not known.
    pub zone_kind: String,
    /// In something that should not be cut short.
    pub busy: bool,
    /// When the player last did anything.
    pub active: Timestamp,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The pin (and with it the environment); `None` while not placed.
    pub pin: Option<Pin>,
    /// What it is doing.
    pub state: RowState,
    /// When the session began.
    pub since: Timestamp,
    /// The client's version.
    pub client_version: String,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowState {
    /// Waiting for room, or for its home to be replaced.
    Holding,
    /// On its way into a world server.
    Attaching,
    /// In play.
    Playing,
    /// In a hand-over.
    Moving,
    /// Connection lost, within its grace time.
    Detached,
}
