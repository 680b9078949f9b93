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
//! With several gateways a session begins with *finding* out where its character lives (`core/finding.rs`).
//!
//! Whether the player's connection is there is a second, independent fact (`conn`): a session is *detached* in any state.

use std::collections::BTreeSet;

use tidegate_types::{EnvironmentId, Epoch, Generation, InstanceId, Mono, PartyId, SessionId, Timestamp};

use crate::action::{RowState, SessionRow};
use crate::decide::RoutePermit;
use crate::handover::{Handover, Seat};
use crate::input::VerifiedHello;
use crate::key::{ConnKey, ServerKey};
use crate::message::{HoldReason, Identity, Pin, Place, Resident, Who};
use crate::window::Window;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its id.
    pub(crate) id: SessionId,
    /// Whose.
    pub(crate) who: Who,
    /// The party, if any.
    pub(crate) party: Option<PartyId>,
    /// The client's version.
    pub(crate) client_version: String,
    /// When it began.
    pub(crate) since: Timestamp,
    /// The player's connection; `None`: detached.
    pub(crate) conn: Option<ConnKey>,
    /// The present connection has had its `Welcome`.
    pub(crate) greeted: bool,
    /// The present connection was told to stop sending.
    pub(crate) paused: bool,
    /// The home was told to park the player.
    pub(crate) parked: bool,
    /// It has been in play: what follows a lost home is a restoration, not a login.
    pub(crate) in_play: bool,
    /// What this gateway is to it.
    pub(crate) standing: Standing,
    /// Where the character lives is known, or it is known that it lives nowhere.
    pub(crate) known: bool,
    /// Its home is another gateway's, from which it is being taken over.
    pub(crate) foreign: bool,
    /// Nothing is known of the frames so far: the player's counts are to be taken over.
    pub(crate) uncounted: bool,
    /// The server that holds it under another gateway's epoch, and is to go on with it rather than load it.
    pub(crate) held_at: Option<ServerKey>,
    /// What the present connection's `Hello` counted: frames received, frames sent. `None`: it knows nothing.
    pub(crate) counts: Option<(u64, u64)>,
    /// The channel is to begin anew at these counts (up, down) once there is a home that plays.
    pub(crate) restart: Option<(u64, u64)>,
    /// The home was told to begin the channel anew; what comes before its answer is of the old one.
    pub(crate) restarting: bool,
    /// Frames that the present connection will send again although they are here already.
    pub(crate) again: u64,
    /// The home is to be told how many frames the player has received.
    pub(crate) ack_due: bool,
    /// The present connection came with a resume ticket.
    pub(crate) resuming: bool,
    /// The present connection lacks frames that are gone.
    pub(crate) gap: bool,
    /// A server in whose roster it was found while it had no home here, and the session that the server holds it by.
    pub(crate) leftover: Option<(ServerKey, SessionId)>,
    /// Since when the player has had no home that answers; for `Moved.gap_us`.
    pub(crate) homeless: Option<Mono>,
    /// The frames on their way.
    pub(crate) window: Window,
    /// Where in the world it is, once known.
    pub(crate) place: Option<Place>,
    /// What the world server says it is doing.
    pub(crate) doing: Doing,
    /// The highest epoch known for this character.
    pub(crate) epoch: Epoch,
    /// The epoch that the directory last gave, or was last seen to have, for this character.
    pub(crate) claimed: Epoch,
    /// The epoch that the realm database is known to have granted, and of whose holder it is certain that they play no more
    /// once this session looks for a home: the character rests, or this gateway was told that it was taken in at it. A claim
    /// goes on from exactly this one. Never an epoch that was only asked for: another gateway may have got the same number.
    pub(crate) granted: Option<Epoch>,
    /// The epoch at which a world server last took the player in for this gateway. What it knows of the channel's frames is
    /// of that stay.
    pub(crate) stayed: Option<Epoch>,
    /// Epochs that world servers were asked to take the player in at since, and have not refused.
    pub(crate) asked: Vec<Epoch>,
    /// The epoch that the realm database said it has.
    pub(crate) learnt: Option<Epoch>,
    /// Where it is pinned.
    pub(crate) pin: Option<Pin>,
    /// The environment that the player was last told.
    pub(crate) told: Option<EnvironmentId>,
    /// By which table its home was chosen.
    pub(crate) generation: Generation,
    /// What it is doing.
    pub(crate) state: State,
    /// The instances it is in or on its way to.
    pub(crate) instances: Vec<InstanceKey>,
    /// Its row as last reported; `None`: not yet.
    pub(crate) reported: Option<Box<SessionRow>>,
    /// It is to end as soon as its state allows.
    pub(crate) ending: Option<Ending>,
    /// Who comes when it has ended.
    pub(crate) next: Option<(ConnKey, VerifiedHello)>,
    /// When the grace time ends.
    pub(crate) grace_at: Option<Mono>,
    /// When the present step has taken too long.
    pub(crate) step_at: Option<Mono>,
}

/// One private instance: environment, kind and name.
pub(crate) type InstanceKey = (EnvironmentId, Place);

/// What the world server said about the player.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Doing {
    /// The zone's or instance's id.
    pub(crate) zone: String,
    /// "shared", or the instance's kind.
    pub(crate) zone_kind: String,
    /// Not to be cut short.
    pub(crate) busy: bool,
    /// When the player last did anything.
    pub(crate) active: Timestamp,
}

/// What a gateway is to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It holds it: no other gateway does.
    Held,
    /// Its player came with a login ticket; whether the character is in the world already is being found out.
    Login,
    /// Its player came with a resume ticket; where the session lives is being found out.
    Resume,
}

/// Finding out where a character lives.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The directory is asked.
    Asking {
        /// The request's id.
        request: u64,
    },
    /// The world servers are asked.
    Searching {
        /// The question's id.
        id: u64,
        /// Who has answered.
        answered: BTreeSet<ServerKey>,
        /// Who holds it at the highest epoch.
        best: Option<(ServerKey, Resident)>,
        /// The highest epoch that anybody has seen.
        highest: Epoch,
    },
    /// It could not be taken over just now; the directory is asked again soon.
    Pausing,
}

/// What a session is doing.
#[derive(Debug)]
pub(crate) enum State {
    /// It is not known where the character lives.
    Finding(Finding),
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
        /// The seat that is kept for it there.
        seat: Seat,
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
pub(crate) struct Search {
    /// Servers that refused just now.
    pub(crate) avoid: Vec<ServerKey>,
    /// Tries so far.
    pub(crate) tries: u32,
}

/// What comes after `Left`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// The session is over.
    End(Ending),
    /// Another home is looked for.
    Replace {
        /// The search so far.
        search: Search,
    },
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The stable word.
    pub(crate) reason: &'static str,
    /// For the player.
    pub(crate) message: String,
}

impl Session {
    /// The player was in play at this epoch for another gateway: what is known here of the session is of before that.
    pub(crate) fn is_anothers(&self, epoch: Epoch) -> bool {
        self.stayed.is_some_and(|stayed| stayed != epoch) && !self.asked.contains(&epoch)
    }

    /// True if it may be moved now.
    #[must_use]
    pub(crate) const fn home_at_rest(&self) -> Option<Seat> {
        match &self.state {
            State::Playing { seat, thawing: false } if self.ending.is_none() => Some(*seat),
            State::Playing { .. }
            | State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => None,
        }
    }

    /// The home's server, while there is one (it may be out of reach).
    #[must_use]
    pub(crate) fn server(&self) -> Option<ServerKey> {
        match &self.state {
            State::Waiting { .. } | State::Finding(_) | State::Claiming { .. } => None,
            State::Attaching { seat, .. } | State::Playing { seat, .. } | State::Leaving { seat, .. } => {
                Some(seat.server)
            }
            State::Moving(h) => Some(if h.is_committed() { h.target.server } else { h.source.server }),
            State::Lost { server, .. } => Some(*server),
        }
    }

    /// The word of the report.
    #[must_use]
    pub(crate) const fn row_state(&self) -> RowState {
        match &self.state {
            State::Waiting { .. } | State::Finding(_) | State::Claiming { .. } | State::Lost { .. }
                if !self.in_play =>
            {
                RowState::Holding
            }
            State::Attaching { .. } if !self.in_play => RowState::Attaching,
            _ if self.conn.is_none() => RowState::Detached,
            State::Waiting { .. } | State::Finding(_) | State::Claiming { .. } | State::Lost { .. } => {
                RowState::Holding
            }
            State::Attaching { .. } => RowState::Attaching,
            State::Playing { .. } | State::Leaving { .. } => RowState::Playing,
            State::Moving(_) => RowState::Moving,
        }
    }

    /// Who it is, as told to a world server to which it goes under `pin`.
    #[must_use]
    pub(crate) fn identity(&self, pin: Pin) -> Identity {
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
    pub(crate) fn pin_by(&self, permit: &RoutePermit, now: Timestamp) -> Pin {
        match &self.pin {
            Some(pin) if pin.environment == *permit.environment() => pin.clone(),
            Some(_) | None => {
                Pin { environment: permit.environment().clone(), since: now, cause: permit.cause(), until: None }
            }
        }
    }

    /// Its row; the server's id is the caller's to fill in.
    #[must_use]
    pub(crate) fn row(&self) -> SessionRow {
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
