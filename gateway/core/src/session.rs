//! One player's stay in the world, as its gateway knows it.
//!
//! ```text
//! Waiting <--> Claiming --> Attaching --> Playing <--> Moving (handover.rs)
//!    ^            ^             |            |            |
//!    |            +--refused----+--link down-+--link down-+--> Lost --lease over, or server dead--> Claiming
//!    |                          |            |
//!    +---re-decided-------------+--> Leaving <--logout, kick, grace over
//!                                       |
//!                                      gone
//! ```
//!
//! Whether the player's connection is there is a second, independent fact (`conn`): a session is *detached* in any state.

use tidegate_types::{Epoch, Generation, InstanceId, Mono, PartyId, SessionId, Timestamp};

use crate::action::{RowState, SessionRow};
use crate::decide::RoutePermit;
use crate::handover::{Handover, Seat};
use crate::input::VerifiedHello;
use crate::key::{ConnKey, ServerKey};
use crate::message::{HoldReason, Identity, Pin, Place, Who};
use crate::window::Window;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub who: Who,
    /// The party, if any.
    pub party: Option<PartyId>,
    /// The client's version.
    pub client_version: String,
    /// When it began.
    pub since: Timestamp,
    /// The player's connection; `None`: detached.
    pub conn: Option<ConnKey>,
    /// The present connection has had its `Welcome`.
    pub greeted: bool,
    /// The present connection was told to stop sending.
    pub paused: bool,
    /// The home was told to park the player.
    pub parked: bool,
    /// It has been in play: what follows a lost home is a restoration, not a login.
    pub in_play: bool,
    /// It came from a roster: the player's counts are to be taken over.
    pub adopted: bool,
    /// Since when the player has had no home that answers; for `Moved.gap_us`.
    pub homeless: Option<Mono>,
    /// The frames on their way.
    pub window: Window,
    /// Where in the world it is, once known.
    pub place: Option<Place>,
    /// What the world server says it is doing.
    pub doing: Doing,
    /// The highest epoch known for this character.
    pub epoch: Epoch,
    /// Where it is pinned.
    pub pin: Option<Pin>,
    /// By which table its home was chosen.
    pub generation: Generation,
    /// What it is doing.
    pub state: State,
    /// It is to end as soon as its state allows.
    pub ending: Option<Ending>,
    /// Who comes when it has ended.
    pub next: Option<(ConnKey, VerifiedHello)>,
    /// When the grace time ends.
    pub grace_at: Option<Mono>,
    /// When the present step has taken too long.
    pub step_at: Option<Mono>,
}

/// What the world server said about the player.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doing {
    /// The zone's or instance's id.
    pub zone: String,
    /// "shared", or the instance's kind.
    pub zone_kind: String,
    /// Not to be cut short.
    pub busy: bool,
    /// When the player last did anything.
    pub active: Timestamp,
}

/// What a session is doing.
#[derive(Debug)]
pub enum State {
    /// In line.
    Waiting {
        /// For what.
        reason: HoldReason,
        /// The place the player was told.
        told: u32,
        /// The search so far.
        search: Search,
        /// The home that was lost; should it come back before another is claimed, the session simply goes on there.
        lost: Option<(ServerKey, InstanceId)>,
    },
    /// The directory is asked for the new home.
    Claiming {
        /// The request's id.
        request: u64,
        /// The epoch asked for.
        to: Epoch,
        /// By whose word.
        permit: RoutePermit,
        /// The run of the server.
        instance: InstanceId,
        /// The search so far.
        search: Search,
    },
    /// The world server is asked to take the player.
    Attaching {
        /// Where.
        seat: Seat,
        /// By whose word.
        permit: Option<RoutePermit>,
        /// The search so far.
        search: Search,
    },
    /// In play.
    Playing {
        /// The home.
        seat: Seat,
        /// An earlier hand-over was undone and `Thawed` has not come; another cannot begin.
        thawing: bool,
    },
    /// In a hand-over.
    Moving(Box<Handover>),
    /// The home's link is down, and it may still be simulating.
    Lost {
        /// The home.
        server: ServerKey,
        /// The run of it.
        instance: InstanceId,
        /// The search so far.
        search: Search,
    },
    /// `Leave` was sent.
    Leaving {
        /// Where.
        seat: Seat,
        /// What comes after.
        then: Then,
        /// It was asked twice already.
        again: bool,
    },
}

/// A search for a home, across several tries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Servers that refused just now.
    pub avoid: Vec<ServerKey>,
    /// Tries so far.
    pub tries: u32,
}

/// What comes after `Left`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// The session is over.
    End(Ending),
    /// Another home is looked for.
    Replace {
        /// A newer table demands it: its acknowledgement waits.
        rerouted: bool,
        /// The search so far.
        search: Search,
    },
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The stable word.
    pub reason: &'static str,
    /// For the player.
    pub message: String,
}

impl Session {
    /// True if it may be moved now.
    #[must_use]
    pub const fn home_at_rest(&self) -> Option<Seat> {
        match &self.state {
            State::Playing { seat, thawing: false } if self.ending.is_none() => Some(*seat),
            State::Playing { .. }
            | State::Waiting { .. }
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => None,
        }
    }

    /// The home's server, while there is one (it may be out of reach).
    #[must_use]
    pub fn server(&self) -> Option<ServerKey> {
        match &self.state {
            State::Waiting { .. } | State::Claiming { .. } => None,
            State::Attaching { seat, .. } | State::Playing { seat, .. } | State::Leaving { seat, .. } => {
                Some(seat.server)
            }
            State::Moving(h) => Some(if h.is_committed() { h.target.server } else { h.source.server }),
            State::Lost { server, .. } => Some(*server),
        }
    }

    /// The word of the report.
    #[must_use]
    pub const fn row_state(&self) -> RowState {
        match &self.state {
            State::Waiting { .. } | State::Claiming { .. } | State::Lost { .. } if !self.in_play => RowState::Holding,
            State::Attaching { .. } if !self.in_play => RowState::Attaching,
            _ if self.conn.is_none() => RowState::Detached,
            State::Waiting { .. } | State::Claiming { .. } | State::Lost { .. } => RowState::Holding,
            State::Attaching { .. } => RowState::Attaching,
            State::Playing { .. } | State::Leaving { .. } => RowState::Playing,
            State::Moving(_) => RowState::Moving,
        }
    }

    /// Who it is, as told to a world server to which it goes under `pin`.
    #[must_use]
    pub fn identity(&self, pin: Pin) -> Identity {
        Identity {
            session: self.id,
            who: self.who.clone(),
            party: self.party.clone(),
            client_version: self.client_version.clone(),
            pin,
        }
    }

    /// The pin it has after going by `permit`: the old one within an environment, a new one with its cause across.
    #[must_use]
    pub fn pin_by(&self, permit: &RoutePermit, now: Timestamp) -> Pin {
        match &self.pin {
            Some(pin) if pin.environment == *permit.environment() => pin.clone(),
            Some(_) | None => {
                Pin { environment: permit.environment().clone(), since: now, cause: permit.cause(), until: None }
            }
        }
    }

    /// Its row; the server's id is the caller's to fill in.
    #[must_use]
    pub fn row(&self) -> SessionRow {
        SessionRow {
            session: self.id,
            who: self.who.clone(),
            party: self.party.clone(),
            server: None,
            zone: self.doing.zone.clone(),
            zone_kind: self.doing.zone_kind.clone(),
            busy: self.doing.busy,
            active: self.doing.active,
            epoch: self.epoch,
            pin: self.pin.clone(),
            state: self.row_state(),
            since: self.since,
            client_version: self.client_version.clone(),
        }
    }
}
