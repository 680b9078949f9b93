//! One player on this server.
//!
//! ```text
//!   Prepared --activate--> Activating --claimed--> Seated --freeze--> Frozen --release--> (gone)
//!                                                  ^   |                |
//!                                     attach ------+   +--leave--> (gone)
//!                                                  +------- thaw -------+
//! ```
//! While `Seated` a player may be *parked* (connection lost: nothing changes), *locked* (a trade with somebody is on its
//! way to the database: nothing of theirs may change until it is there) and *claimed anew* (another gateway takes them over:
//! nothing may be written until the new epoch is theirs).

use std::collections::VecDeque;

use tidegate_proto::stub::v1::{Action, CharacterState};
use tidegate_types::{Cause, Mono};

use super::area::Place;

/// Actions that may wait for a trade, a parked player or a snapshot. The gateway sends at most 256 at once after a
/// hand-over; more than twice that means nobody is reading the answers.
pub(super) const MAX_WAITING: usize = 512;

/// Who a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The player's id.
    pub player: String,
    /// The character's id.
    pub character: String,
    /// The party that the login ticket named.
    pub party: Option<String>,
}

impl Who {
    /// A smoke test's player, which owns nothing and leaves nothing behind.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.player.starts_with("probe:")
    }
}

/// Where a player is in the life drawn above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Prepared,
    Activating,
    Seated,
    Frozen,
}

/// What is to happen to a player once the last of their actions is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Freeze,
    Leave,
}

/// A boundary that was asked of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) to: Place,
    pub(super) cause: Cause,
    pub(super) at: Mono,
}

/// What to echo in the next position snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) sent_us: u64,
    pub(super) sequence: u64,
}

#[derive(Debug)]
pub(super) struct Player {
    /// Names this stay on this seat: what the database answers about an earlier one must not touch it.
    pub(super) life: u64,
    pub(super) who: Who,
    pub(super) epoch: u64,
    /// While `Prepared`: the epoch that the claim must be from.
    pub(super) from: Option<u64>,
    pub(super) state: CharacterState,
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) parked: bool,
    /// The trade that holds this player still.
    pub(super) lock: Option<u64>,
    /// The epoch that is being claimed for a player who is here already.
    pub(super) claims: Option<u64>,
    pub(super) ending: Option<Ending>,
    /// The database refused a write: another home has this player, and nothing done here counts any more.
    pub(super) lost: bool,
    pub(super) waiting: VecDeque<Action>,
    pub(super) asked: Option<Asked>,
    /// Restored after a crash: actions sent before the player knew of it will be sent again.
    pub(super) recovering: bool,
    /// Changed since the last save.
    pub(super) dirty: bool,
    pub(super) save_at: Mono,
    /// In combat.
    pub(super) busy: bool,
    pub(super) active_at: Mono,
    pub(super) status_at: Mono,
    /// When this server last acted for the player, the lease being good.
    pub(super) acted_at: Mono,
    /// An interval of the homes ledger is open.
    pub(super) home_open: bool,
    pub(super) moved: Option<Echo>,
}

impl Player {
    pub(super) fn new(life: u64, who: Who, epoch: u64, state: CharacterState, place: Place, now: Mono) -> Self {
        Self {
            life,
            who,
            epoch,
            from: None,
            state,
            place,
            phase: Phase::Prepared,
            parked: false,
            lock: None,
            claims: None,
            ending: None,
            lost: false,
            waiting: VecDeque::new(),
            asked: None,
            recovering: false,
            dirty: false,
            save_at: now,
            busy: false,
            active_at: now,
            status_at: now,
            acted_at: now,
            home_open: false,
            moved: None,
        }
    }

    /// In play, and nothing is about to end that.
    pub(super) fn is_playing(&self) -> bool {
        self.phase == Phase::Seated && !self.parked && !self.lost && self.ending.is_none()
    }

    /// Whether the next action may be applied, as far as this player is concerned.
    pub(super) fn may_act(&self) -> bool {
        self.phase == Phase::Seated
            && !self.lost
            && self.lock.is_none()
            && self.claims.is_none()
            && (!self.parked || self.ending.is_some())
    }

    /// Whether there is something to save, and it may be saved now.
    pub(super) fn may_save(&self) -> bool {
        self.phase == Phase::Seated && self.dirty && self.lock.is_none() && self.claims.is_none() && !self.lost
    }
}
