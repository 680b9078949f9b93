//! What comes into the core: everything that can happen to a realm's players, as data.

use tidegate_types::{Cause, EnvironmentId, Epoch, InstanceId, PartyId, ServerId, SessionId};

use crate::directory::DirectoryAnswer;
use crate::key::{ConnKey, ServerKey};
use crate::message::{FromWorld, Resident, Who};
use crate::table::RealmTable;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A routing table, from the manager or from disk.
    Table(RealmTable),
    /// A player's first frame, its ticket checked.
    Hello {
        /// The connection.
        conn: ConnKey,
        /// What the ticket says.
        hello: VerifiedHello,
    },
    /// The player said goodbye.
    Logout {
        /// The connection, still open.
        conn: ConnKey,
    },
    /// The connection is gone. Not to be said of one that the core closed.
    ConnectionLost {
        /// The connection.
        conn: ConnKey,
    },
    /// The link that [`crate::Action::Dial`] asked for is open.
    LinkUp {
        /// The server.
        server: ServerKey,
        /// The run of it that answered.
        instance: InstanceId,
    },
    /// One line of the server's roster, right after `LinkUp`.
    Resident {
        /// The server.
        server: ServerKey,
        /// Whom it holds.
        resident: Resident,
    },
    /// The roster is complete.
    RosterEnd {
        /// The server.
        server: ServerKey,
    },
    /// The link broke. Not to be said of one that the core hung up.
    LinkDown {
        /// The server.
        server: ServerKey,
    },
    /// A heartbeat of this server was answered just now.
    HeartbeatAnswered {
        /// The server.
        server: ServerKey,
    },
    /// A message from a world server.
    World {
        /// The server.
        server: ServerKey,
        /// What it said.
        message: FromWorld,
    },
    /// The manager's word: that run of that server is certainly dead.
    ServerDead {
        /// The server.
        server: ServerId,
        /// The run.
        instance: InstanceId,
    },
    /// The manager's word about sessions.
    Command(SessionCommand),
    /// The answer to [`crate::Action::Directory`].
    Directory(DirectoryAnswer),
    /// The shared directory can be reached (again), and may have forgotten everything.
    DirectoryUp,
}

/// A `Hello` whose ticket the shell has checked (signature, realm, time, single use).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedHello {
    /// With a login ticket.
    Login {
        /// A fresh id; used unless the character is already in the world (then its session is taken over).
        session: SessionId,
        /// The player and character.
        who: Who,
        /// The party, if any.
        party: Option<PartyId>,
        /// The client's version (semver), as it said it.
        client_version: String,
    },
    /// With a resume ticket.
    Resume {
        /// The session.
        session: SessionId,
        /// The player and character.
        who: Who,
        /// The epoch the ticket was sealed at.
        epoch: Epoch,
        /// How many `Game` frames of this session the client has received.
        received_frames: u64,
        /// How many it has sent (`Hello.sent_frames`): a gateway that lost its memory counts on from there.
        sent_frames: u64,
        /// The client's version (semver), as it said it.
        client_version: String,
    },
}

impl VerifiedHello {
    /// Whose.
    #[must_use]
    pub const fn who(&self) -> &Who {
        match self {
            Self::Login { who, .. } | Self::Resume { who, .. } => who,
        }
    }
}

/// The manager's word about up to 1024 sessions. The same id again has no second effect; its answers are given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCommand {
    /// The command's id.
    pub id: String,
    /// Whom.
    pub sessions: Vec<SessionId>,
    /// What.
    pub action: CommandAction,
}

/// What to do with the sessions of a [`SessionCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandAction {
    /// Hand them over.
    Move {
        /// Where to.
        environment: EnvironmentId,
        /// Exactly this server, if set.
        server: Option<ServerId>,
        /// Drain or operator.
        cause: Cause,
    },
    /// End them.
    Kick {
        /// For the records.
        reason: String,
        /// For the player.
        message: String,
    },
    /// Tell them.
    Notify {
        /// For a person.
        text: String,
        /// Until the thing announced, in milliseconds; 0 is no such time.
        remaining_ms: u64,
    },
}
