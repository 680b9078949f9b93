//! The trait that a game implements, and the words it is spoken to in.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tidegate_types::{Cause, CharacterId, EnvironmentId, Epoch, Now, PartyId, PlayerId, SessionId, Timestamp, ZoneId};

use crate::assets::Bundle;
use crate::cx::{Cx, Reply};

/// A player's place on this server: a small dense number, the same from `attach` or `prepare` until the player has left or
/// was released. Good as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u32);

/// Where in the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// A shared zone's id, or an instance's kind.
    pub zone: ZoneId,
    /// Names a private instance: all who come with the same key are in the same one. `None`: a shared zone.
    pub instance: Option<String>,
}

/// The fact "this session lives in that environment".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which environment.
    pub environment: EnvironmentId,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub cause: Cause,
    /// When it ends at the latest.
    pub until: Option<Timestamp>,
}

/// A player who comes to this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The place on this server that the player gets.
    pub seat: Seat,
    /// The player's stay in the world.
    pub session: SessionId,
    /// The account.
    pub player: PlayerId,
    /// The character.
    pub character: CharacterId,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// The client's version; empty when it told none.
    pub client_version: String,
    /// The epoch under which this server may save the character.
    pub epoch: Epoch,
    /// The epoch that the database must have for the claim to be made (0: there is no such character yet); else the answer
    /// is [`Refusal::StaleEpoch`]. `None`: any lower than `epoch`.
    pub from: Option<Epoch>,
    /// Where to; `None`: wherever the character was saved.
    pub place: Option<Place>,
    /// Why the player comes here.
    pub cause: Cause,
    /// Which environment the session is pinned to, if the gateway said.
    pub pin: Option<Pin>,
}

/// A player's state, to be handed over. Opaque to everyone but world servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// At most 1 MiB.
    pub state: Bytes,
    /// The number of its format.
    pub format: u32,
}

/// A zone's state, for snapshots. Opaque to everyone but world servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Which zone.
    pub zone: ZoneId,
    /// At most 1 MiB.
    pub state: Bytes,
    /// The number of its format.
    pub format: u32,
}

/// Formats of player state that this build understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// All it can read.
    pub read: Vec<u32>,
    /// The one it writes.
    pub write: u32,
}

/// Why a world will not take a player, or do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The claim is not the next one: a higher or equal epoch is known for this player, or the database has another than the
    /// claim must be from. (The database says so; the host checks what it has seen itself.)
    StaleEpoch {
        /// The highest epoch known: the next claim must be above it.
        highest: Epoch,
        /// What the database has; `None`: it was not asked.
        saved: Option<Epoch>,
    },
    /// The character is in a place that this server does not serve.
    WrongZone(Place),
    /// No room.
    Full,
    /// The state's format cannot be read.
    Format,
    /// The state's digest does not match.
    Digest,
    /// Not serving players now.
    NotReady,
    /// Not known here, or not in the state that the request needs.
    Unknown,
    /// The player is connected through another gateway (said by the host; a world has no use for it).
    PlayerOnline,
    /// The game says no, and why (for a person).
    Game(String),
}

/// Why a player leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaveReason {
    /// The player logged out.
    Logout,
    /// An operator or the game ended the session.
    Kicked,
    /// The connection was lost and the player did not come back in time.
    GraceOver,
    /// Another session of the same player took over.
    Replaced,
    /// The gateway decided anew before the player was in play.
    Rerouted,
    /// Another word.
    Other(String),
}

impl LeaveReason {
    /// From the stable word on the wire.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "logout" => Self::Logout,
            "kicked" => Self::Kicked,
            "grace_over" => Self::GraceOver,
            "replaced" => Self::Replaced,
            "rerouted" => Self::Rerouted,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logout => "logout",
            Self::Kicked => "kicked",
            Self::GraceOver => "grace_over",
            Self::Replaced => "replaced",
            Self::Rerouted => "rerouted",
            Self::Other(word) => word,
        })
    }
}

/// What a player is doing: what a drain's measure and its deadline's extensions go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayerStatus {
    /// The zone's or instance's id.
    pub zone: ZoneId,
    /// `shared`, or the instance's kind: `dungeon`, `raid`.
    pub zone_kind: String,
    /// In something that should not be cut short (combat).
    pub busy: bool,
    /// Since the player last did anything.
    pub idle: Duration,
}

/// A game world. All callbacks come from one task, one at a time, and must not block: the heartbeats that keep the
/// players' leases alive come from the same task. Slow work (a database) goes to the world's own threads, which answer by
/// the [`Reply`] they were given.
///
/// A [`Reply`] is answered exactly once; dropping it refuses (or, where nothing can be refused, answers "done").
pub trait World: Send + 'static {
    /// Formats of player state; asked once, at the start.
    fn formats(&self) -> Formats;

    /// Loads the build's assets; their digest was checked. Called before any player comes.
    ///
    /// # Errors
    /// Why it failed, for an operator.
    fn load_assets(&mut self, bundle: &Bundle) -> Result<(), String> {
        let _ = bundle;
        Ok(())
    }

    /// Loads zones from a snapshot. Called before any player comes, if at all.
    ///
    /// # Errors
    /// Why it failed, for an operator.
    fn load_zones(&mut self, zones: Vec<Zone>) -> Result<(), String> {
        let _ = zones;
        Ok(())
    }

    /// Takes a player: load the character, claim it at `arrival.epoch` from `arrival.from`, put it into play, answer where it
    /// is.
    fn attach(&mut self, cx: &mut Cx<'_>, arrival: Arrival, reply: Reply<Result<Place, Refusal>>);

    /// A reliable frame of a player, each once and in order.
    fn message(&mut self, cx: &mut Cx<'_>, seat: Seat, body: Bytes);

    /// An unreliable message of a player.
    fn datagram(&mut self, cx: &mut Cx<'_>, seat: Seat, payload: Bytes) {
        let _ = (cx, seat, payload);
    }

    /// Holds a player in place, state not changing: the connection is lost, or the lease is over. Save the character.
    fn park(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        let _ = (cx, seat);
    }

    /// A parked player is back in play.
    fn unpark(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        let _ = (cx, seat);
    }

    /// Saves and forgets a player; the seat is free once answered.
    fn leave(&mut self, cx: &mut Cx<'_>, seat: Seat, reason: LeaveReason, reply: Reply<()>);

    /// Hand-over, source: stop simulating this player, save, answer with the state. Nothing of the player may change until
    /// `thaw`, `leave` or `release`.
    fn freeze(&mut self, cx: &mut Cx<'_>, seat: Seat, reply: Reply<Result<Frozen, Refusal>>);

    /// Hand-over failed: the frozen player plays on here.
    fn thaw(&mut self, cx: &mut Cx<'_>, seat: Seat);

    /// The player's home is elsewhere now: forget without saving. The seat is free.
    fn release(&mut self, cx: &mut Cx<'_>, seat: Seat);

    /// Hand-over, target: load and check the state, hold it inert. The digest was checked.
    fn prepare(&mut self, cx: &mut Cx<'_>, arrival: Arrival, state: Frozen, reply: Reply<Result<(), Refusal>>);

    /// Hand-over committed: claim the prepared player under `epoch`, from what `prepare` was told, put them into play, answer
    /// where.
    fn activate(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<Place, Refusal>>);

    /// Another gateway takes over a player who is held here: claim the character for `epoch` in the realm's database, from
    /// *exactly* the epoch held until now (compare and set), load nothing, answer where the player is. Later saves are made
    /// under `epoch`. Until this is answered the player is parked or frozen: nothing of them may change, and nothing be
    /// saved under the old epoch behind the claim.
    ///
    /// If the database says that the claim came too late, answer [`Refusal::StaleEpoch`]: another home has the player, and
    /// `release` follows. After any other refusal the player is held as before, under the old epoch.
    ///
    /// There is no default: only the game knows its database, and a claim that is not made is a player who lives twice.
    fn reclaim(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<Place, Refusal>>);

    /// Hand-over failed: forget what was prepared. The seat is free.
    fn abort(&mut self, cx: &mut Cx<'_>, seat: Seat);

    /// The player was shown this text; `remaining` is the time until what it announces.
    fn notice(&mut self, cx: &mut Cx<'_>, seat: Seat, text: &str, remaining: Duration) {
        let _ = (cx, seat, text, remaining);
    }

    /// A transfer did not happen for this player, who plays on here. `reason` is a stable word.
    fn transfer_refused(&mut self, cx: &mut Cx<'_>, seat: Seat, reason: &str) {
        let _ = (cx, seat, reason);
    }

    /// One step of the simulation, `Config::tick_hz` times a second. Parked and frozen players do not take part.
    fn tick(&mut self, cx: &mut Cx<'_>, now: Now) {
        let _ = (cx, now);
    }

    /// Snapshot: save everything and answer with the zones' states. No tick and no message comes until `barrier_release`.
    fn barrier(&mut self, cx: &mut Cx<'_>, reply: Reply<Result<Vec<Zone>, String>>) {
        let _ = cx;
        reply.send(Ok(Vec::new()));
    }

    /// The snapshot is done or was given up (then perhaps before `barrier` was answered): go on.
    fn barrier_release(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// The process is about to end: save everything. No other callback follows.
    fn stopping(&mut self, cx: &mut Cx<'_>, reply: Reply<()>) {
        let _ = cx;
        reply.send(());
    }
}
