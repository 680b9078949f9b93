//! What is said between the gateway, its players and its world servers, as types. The shell turns them into the wire's
//! messages and back; nothing here knows bytes on a wire.

use bytes::Bytes;
use tidegate_types::{
    BuildVersion, Cause, CharacterId, EnvironmentId, Epoch, GatewayId, Generation, PartyId, PlayerId, ServerId,
    SessionId, Timestamp, ZoneId,
};

/// Whose home it is: one character of one player. The directory is keyed by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The account.
    pub player: PlayerId,
    /// The character.
    pub character: CharacterId,
}

/// A place in the world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A shared zone's id, or an instance's kind.
    pub zone: ZoneId,
    /// Names a private instance; `None` is the shared zone.
    pub instance: Option<String>,
}

/// The durable fact "this session lives in that environment".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The environment.
    pub environment: EnvironmentId,
    /// Since when.
    pub since: Timestamp,
    /// Why it came there.
    pub cause: Cause,
    /// When it ends at the latest.
    pub until: Option<Timestamp>,
}

/// Who a session is, as told to a world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The session.
    pub session: SessionId,
    /// The player and character.
    pub who: Who,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// The client's version, as it said it.
    pub client_version: String,
    /// Where it is (to be) pinned.
    pub pin: Pin,
}

/// A player's state on its way between two world servers. Opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBlob {
    /// The bytes, at most 1 MiB.
    pub state: Bytes,
    /// The format's number, compared with what the target's build reads.
    pub format: u32,
    /// BLAKE3 of `state`.
    pub digest: Bytes,
}

/// Where a session's reliable channel stands. Frames are counted in each direction since the session began; the world
/// server's numbers count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// The player's frames that homes have received.
    pub up: u64,
    /// To a new home: the number of the first of `frames`. To one that is taken up again: how many downstream frames need
    /// not be sent again. From a world server: the number of the first frame that follows.
    pub down: u64,
    /// To a new home: what earlier homes sent and the player has not acknowledged.
    pub frames: Vec<Bytes>,
    /// To one that is taken up again: the counts become these, and nothing is kept.
    pub restart: bool,
    /// From a world server: frames that should have followed are gone.
    pub gap: bool,
}

/// Gateway to world server, about one handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToWorld {
    /// Take this player, or, when it holds this session at this very epoch already (after a link break): take it up again
    /// under the new handle, unparked, thawed and activated.
    Attach {
        /// Who.
        identity: Identity,
        /// The claim.
        epoch: Epoch,
        /// From exactly which epoch it is claimed; `None`: from any lower one.
        from: Option<Epoch>,
        /// Where; `None` is wherever the character was saved.
        place: Option<Place>,
        /// Why.
        cause: Cause,
        /// If the server holds this session at a lower epoch, whoever's it is there: go on with it, under the new epoch.
        take_over: bool,
        /// With `take_over`: not if the player is connected through another gateway.
        refuse_connected: bool,
        /// Where the reliable channel stands.
        channel: Channel,
    },
    /// The connection is lost: hold the player in place.
    Park,
    /// The player is back.
    Unpark,
    /// The session ends: save, forget, answer `Left` (also for a handle that is not known).
    Leave {
        /// The home's epoch.
        epoch: Epoch,
        /// "logout", "kicked", "grace_over", "replaced", "rerouted", "ejected".
        reason: &'static str,
    },
    /// Hand-over step 1.
    Freeze {
        /// The home's epoch.
        epoch: Epoch,
    },
    /// Hand-over failed before its commit: play on.
    Thaw {
        /// The home's epoch.
        epoch: Epoch,
    },
    /// Hand-over committed elsewhere: forget the player.
    Release {
        /// The epoch that ended.
        epoch: Epoch,
    },
    /// Hand-over step 2.
    Prepare {
        /// Who.
        identity: Identity,
        /// Above the one at the source.
        epoch: Epoch,
        /// The one at the source, from exactly which it is claimed; `None`: from any lower one.
        from: Option<Epoch>,
        /// What the source froze.
        blob: StateBlob,
        /// Where to; `None` is where the state says.
        place: Option<Place>,
        /// Why.
        cause: Cause,
        /// Where the reliable channel stands.
        channel: Channel,
    },
    /// Hand-over, after the commit.
    Activate {
        /// The new home's epoch.
        epoch: Epoch,
    },
    /// Hand-over failed: forget what was prepared.
    Abort,
    /// For the player's eyes; the game may want to know.
    Notice {
        /// For a person.
        text: String,
        /// Until the thing announced, in milliseconds; 0 is no such time.
        remaining_ms: u64,
    },
    /// Who owns a session: the answer to `WhoOwns`, and sent unasked to a server whose roster holds a session that lives
    /// elsewhere. The handle of the action is the one asked under (0 when unasked).
    Owner {
        /// The session.
        session: SessionId,
        /// The owner's epoch; 0: not known here.
        epoch: Epoch,
        /// The owner.
        server: Option<ServerId>,
    },
    /// The transfer did not happen for this player.
    TransferRefused {
        /// "no_room", "no_server", "prepare_refused", "timed_out", "busy", or "here": the decision is that the player stays
        /// on this server, which serves the place itself.
        reason: &'static str,
    },
    /// Does the server hold this character? About no handle.
    Find {
        /// Comes back in the answer.
        id: u64,
        /// Whom.
        who: Who,
    },
}

/// Why a world server will not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A higher or equal epoch is known for this player.
    StaleEpoch,
    /// The character is in a zone that this server does not serve.
    WrongZone,
    /// No room.
    Full,
    /// The state's format cannot be read.
    Format,
    /// The state's digest does not match.
    Digest,
    /// Not serving players now.
    NotReady,
    /// The handle or session is not known, or not in the state that the request needs.
    Unknown,
    /// The game said no.
    Game,
    /// The player is connected through another gateway.
    PlayerOnline,
}

/// World server to gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromWorld {
    /// `Attach` done.
    Attached {
        /// The session's handle.
        handle: u32,
        /// The claim that holds now.
        epoch: Epoch,
        /// Where the player is.
        place: Place,
        /// Where the reliable channel stands.
        channel: Channel,
        /// After a take-over: the pin, as the server was last told.
        pin: Option<Pin>,
        /// After a take-over: the party.
        party: Option<PartyId>,
    },
    /// `Attach` not done; the handle is free again.
    AttachRefused {
        /// The session's handle.
        handle: u32,
        /// Why.
        reason: Refusal,
        /// For a person.
        message: String,
        /// With `StaleEpoch`: the highest known.
        highest_epoch: Epoch,
        /// With `StaleEpoch`: the one in the realm database; 0 if it was not asked.
        saved_epoch: Epoch,
        /// With `WrongZone`: where the character is.
        place: Option<Place>,
    },
    /// `Leave` done; the handle is free again.
    Left {
        /// The session's handle.
        handle: u32,
    },
    /// `Freeze` done.
    Frozen {
        /// The session's handle.
        handle: u32,
        /// The epoch it was frozen at.
        epoch: Epoch,
        /// The state.
        blob: StateBlob,
    },
    /// `Freeze` not done; the player plays on.
    FreezeRefused {
        /// The session's handle.
        handle: u32,
        /// Why.
        reason: Refusal,
        /// For a person.
        message: String,
    },
    /// `Thaw` done.
    Thawed {
        /// The session's handle.
        handle: u32,
    },
    /// `Release` done; the handle is free again.
    Released {
        /// The session's handle.
        handle: u32,
    },
    /// `Prepare` done.
    Prepared {
        /// The session's handle.
        handle: u32,
    },
    /// `Prepare` not done; the handle is free again.
    PrepareRefused {
        /// The session's handle.
        handle: u32,
        /// Why.
        reason: Refusal,
        /// For a person.
        message: String,
    },
    /// `Activate` done.
    Activated {
        /// The session's handle.
        handle: u32,
        /// The home's epoch.
        epoch: Epoch,
        /// Where the player is.
        place: Place,
    },
    /// `Abort` done; the handle is free again.
    Aborted {
        /// The session's handle.
        handle: u32,
    },
    /// These players cross a boundary, together.
    Transfer {
        /// At most 64.
        handles: Vec<u32>,
        /// Where to.
        to: Place,
        /// Zone, instance or respawn.
        cause: Cause,
    },
    /// What a player is doing.
    Status {
        /// The session's handle.
        handle: u32,
        /// The zone's or instance's id.
        zone: String,
        /// "shared", or the instance's kind.
        zone_kind: String,
        /// In something that should not be cut short.
        busy: bool,
        /// Since the player last did anything, in milliseconds.
        idle_ms: u64,
    },
    /// The question of a server left frozen or prepared.
    WhoOwns {
        /// The session.
        session: SessionId,
        /// The epoch it holds it at.
        epoch: Epoch,
        /// Under which handle.
        handle: u32,
    },
    /// End this session.
    Eject {
        /// The session's handle.
        handle: u32,
        /// Why.
        reason: String,
    },
    /// Another gateway has the player now; the handle is free.
    TakenOver {
        /// The session's handle.
        handle: u32,
        /// The epoch at which the other gateway has it.
        epoch: Epoch,
    },
    /// The answer to `Find`.
    Found {
        /// The question's.
        id: u64,
        /// What the server holds, if anything.
        resident: Option<Resident>,
    },
}

/// One player that a world server holds, told when a link opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// The session.
    pub session: SessionId,
    /// The player and character.
    pub who: Who,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// At which epoch.
    pub epoch: Epoch,
    /// The shared zone's id or the instance's kind, if the server said it.
    pub zone: Option<ZoneId>,
    /// Frozen in a hand-over whose end the server does not know.
    pub frozen: bool,
    /// Held inert for an `Activate` that has not come.
    pub prepared: bool,
    /// The pin it came with, if any.
    pub pin: Option<Pin>,
    /// The gateway whose living link holds the player; `None`: none does.
    pub gateway: Option<GatewayId>,
}

/// Where a session is, as its player is told it. The shell seals a resume ticket for `who` and `epoch` into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The session.
    pub session: SessionId,
    /// The player and character.
    pub who: Who,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The environment it is pinned to.
    pub environment: EnvironmentId,
    /// That environment's build.
    pub build: BuildVersion,
    /// The home.
    pub server: ServerId,
    /// The zone.
    pub zone: ZoneId,
    /// The generation by which the home was chosen.
    pub generation: Generation,
    /// Why it is there.
    pub cause: Cause,
}

/// Gateway to player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlayerMessage {
    /// The session is in play.
    Welcome {
        /// Where.
        at: Whereabouts,
        /// `Game` frames of this session received so far.
        received_frames: u64,
        /// Frames were lost beyond repair.
        gap: bool,
        /// How long a detached session keeps its place, in milliseconds.
        grace_ms: u32,
        /// The number of the first `Game` frame that follows.
        next_frame: u64,
    },
    /// Not yet.
    Hold {
        /// Place in line, from 1; 0 where a place has no meaning.
        place: u32,
        /// Why.
        reason: HoldReason,
    },
    /// Not at all. The connection closes after it.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// For a person.
        message: String,
        /// When trying again may help, in milliseconds from now; 0 is never.
        retry_after_ms: u32,
    },
    /// A message for the player.
    Notice {
        /// For a person.
        text: String,
        /// Until the thing announced, in milliseconds; 0 is no such time.
        remaining_ms: u64,
    },
    /// The home changed; the connection did not.
    Moved {
        /// Where now.
        at: Whereabouts,
        /// How long the player was between two homes, in microseconds.
        gap_us: u64,
    },
    /// The session ends. The connection closes after it.
    Goodbye {
        /// "logout", "kicked", "replaced", "grace_over", "ejected".
        reason: &'static str,
        /// For a person.
        message: String,
    },
}

/// Why a player waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldReason {
    /// No room.
    Full,
    /// The home is being replaced.
    HomeLost,
    /// The gateway has just started and does not know yet who lives where.
    Warming,
    /// No environment takes new sessions now.
    Admission,
    /// It is not known where the character lives, and the shared directory is out of reach.
    Directory,
}

impl HoldReason {
    /// The stable word of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::HomeLost => "home_lost",
            Self::Warming => "warming",
            Self::Admission => "admission",
            Self::Directory => "directory",
        }
    }
}

/// Why a player is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedReason {
    /// The environment's build does not admit this client's version.
    ClientTooOld,
    /// The session of the resume ticket is over, or never was.
    ResumeUnknown,
    /// The line is full, or no server would take the player after many tries.
    Unavailable,
    /// The character is in the world already, and a second login is to be refused.
    AlreadyOnline,
}

impl RefusedReason {
    /// The stable word of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientTooOld => "client_too_old",
            Self::ResumeUnknown => "resume_unknown",
            Self::Unavailable => "unavailable",
            Self::AlreadyOnline => "already_online",
        }
    }
}
