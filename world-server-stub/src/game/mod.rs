//! The game's rules. Inputs are method calls with the time as an argument; what the shell must do comes out as [`Out`]s,
//! in order. No I/O, clock or randomness in here.
//!
//! Every action has a sequence number and is applied once: the state remembers the highest applied and the latest answers,
//! both of which travel with it through hand-overs, saves and crashes.

mod actions;
mod area;
#[cfg(test)]
mod conservation;
mod lifecycle;
mod player;
#[cfg(test)]
mod tests;
mod tick;
mod trade;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::stub::v1::{CharacterState, Entered, Event, Snapshot, event};
use tidegate_types::{Cause, Mono};

use crate::character::Formats;
use crate::db::work::{HomeMark, Saved};

use area::Areas;
pub use area::{Place, ZONE_FORMAT};
pub use lifecycle::Reclaiming;
pub use player::Who;
use player::{Phase, Player};

/// What this server is and serves.
#[derive(Debug, Clone)]
pub struct Rules {
    /// This server's id, told in every answer.
    pub server_id: String,
    /// Its environment's id, told in every answer.
    pub environment_id: String,
    /// The shared zones it serves.
    pub zones: Arc<BTreeSet<String>>,
    /// The kinds of private instance it hosts.
    pub kinds: BTreeSet<String>,
    /// The state formats of its build.
    pub formats: Formats,
    /// How often a changed character is saved.
    pub save_every: Duration,
}

/// Why a character is written, so that the shell knows whose answer waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFor {
    /// It changed some time ago.
    Upkeep,
    /// Its hand-over waits for it.
    Freeze,
    /// Its session ends.
    Leave,
}

/// One side of a trade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its seat.
    pub seat: u32,
    /// Its row as it will be.
    pub saved: Saved,
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// Send a reliable message.
    Event {
        /// To whom.
        seat: u32,
        /// What.
        event: Event,
    },
    /// Send a position snapshot as a datagram.
    Snapshot {
        /// To whom.
        seat: u32,
        /// What.
        snapshot: Snapshot,
    },
    /// Ask the gateway to move these players across a boundary, all or none.
    Transfer {
        /// Who.
        seats: Vec<u32>,
        /// Where to.
        to: Place,
        /// The boundary.
        cause: Cause,
    },
    /// Tell the gateway what a player is doing.
    Status {
        /// Who.
        seat: u32,
        /// The zone's or instance's id.
        zone: String,
        /// "shared", or the instance's kind.
        kind: String,
        /// In combat.
        busy: bool,
        /// Since the player last did anything.
        idle: Duration,
    },
    /// Write a character.
    Save {
        /// Whose.
        seat: u32,
        /// Which stay on that seat; answer [`Game::saved`] with it.
        life: u64,
        /// The row.
        saved: Saved,
        /// The interval of life that ends with it.
        ends: Option<HomeMark>,
        /// What waits for it.
        why: SaveFor,
        /// Remove the row instead of keeping it: a probe leaves.
        forget: bool,
    },
    /// Write both sides of a trade or none; answer [`Game::traded`].
    Trade {
        /// The trade's number.
        id: u64,
        /// Who gives.
        giver: Side,
        /// Who receives.
        receiver: Side,
    },
    /// An interval of life begins.
    HomeBegins(HomeMark),
    /// An interval of life ends.
    HomeEnds(HomeMark),
    /// The session's end needs no write: answer it.
    Left {
        /// Whose.
        seat: u32,
    },
    /// End this session.
    Eject {
        /// Whose.
        seat: u32,
        /// A stable word.
        reason: &'static str,
    },
}

/// What happened so far. Plain numbers, for logs and tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Actions applied.
    pub applied: u64,
    /// Actions answered again, not applied again.
    pub repeated: u64,
    /// Actions whose sequence did not follow: a frame was lost, doubled or reordered.
    pub out_of_order: u64,
    /// Actions that a player sent before knowing of a crash; sent again afterwards.
    pub overtaken_by_crash: u64,
    /// Frames for a seat that is not in play, or that are no action.
    pub ignored: u64,
    /// Players lost to another home: the database refused a write.
    pub stale: u64,
    /// Trades committed.
    pub trades: u64,
}

/// The world of one server.
#[derive(Debug)]
pub struct Game {
    rules: Rules,
    seats: Vec<Option<Box<Player>>>,
    /// Characters in play (seated or frozen), by name.
    by_name: HashMap<String, u32>,
    areas: Areas,
    trades: HashMap<u64, trade::Pending>,
    /// Nothing is applied while a snapshot is taken.
    standing_still: bool,
    tick: u64,
    lives: u64,
    counters: Counters,
}

impl Game {
    /// An empty world.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let areas = Areas::new(rules.zones.iter());
        Self {
            rules,
            seats: Vec::new(),
            by_name: HashMap::new(),
            areas,
            trades: HashMap::new(),
            standing_still: false,
            tick: 0,
            lives: 0,
            counters: Counters::default(),
        }
    }

    /// What this server is and serves.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether players can be in this place here.
    #[must_use]
    pub fn serves(&self, place: &Place) -> bool {
        match place.instance {
            None => self.rules.zones.contains(&place.zone),
            Some(_) => self.rules.kinds.contains(&place.zone),
        }
    }

    /// The seat where this character is in play.
    #[must_use]
    pub fn seat_of(&self, character: &str) -> Option<u32> {
        self.by_name.get(character).copied()
    }

    /// The shared zones' states, in the order of their names.
    #[must_use]
    pub fn zone_states(&self) -> Vec<(String, Vec<u8>)> {
        self.areas.states()
    }

    /// The shared zones that changed since this was last asked, with their states.
    pub fn take_changed_zones(&mut self) -> Vec<(String, Vec<u8>)> {
        self.areas.take_changed()
    }

    /// Replaces a shared zone's state.
    ///
    /// # Errors
    /// When the bytes are no zone's state.
    pub fn load_zone(&mut self, state: &[u8]) -> Result<(), prost::DecodeError> {
        self.areas.load(state)
    }

    /// From now on nothing is applied: what comes waits. Trades that are on their way still end.
    pub fn stand_still(&mut self) {
        self.standing_still = true;
    }

    /// Nothing is on its way to the database that would change a character.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.trades.is_empty()
    }

    /// The world goes on, with what has waited first.
    pub fn go_on(&mut self, now: Mono, out: &mut Vec<Out>) {
        self.standing_still = false;
        for seat in self.all_seats() {
            self.advance(seat, now, out);
        }
    }

    fn all_seats(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.seats.len()).unwrap_or(u32::MAX)
    }

    fn player(&self, seat: u32) -> Option<&Player> {
        self.seats.get(seat as usize)?.as_deref()
    }

    fn player_mut(&mut self, seat: u32) -> Option<&mut Player> {
        self.seats.get_mut(seat as usize)?.as_deref_mut()
    }

    fn sit(&mut self, seat: u32, player: Player) {
        let at = seat as usize;
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, || None);
        }
        self.seats[at] = Some(Box::new(player));
    }

    /// Takes a player off the seat and out of the world.
    fn stand_up(&mut self, seat: u32) -> Option<Box<Player>> {
        let player = self.seats.get_mut(seat as usize)?.take()?;
        if matches!(player.phase, Phase::Seated | Phase::Frozen) {
            self.areas.leave(&player.place, seat);
        }
        // After a hand-over within this server the name is the new seat's already.
        if self.by_name.get(&player.who.character) == Some(&seat) {
            self.by_name.remove(&player.who.character);
        }
        Some(player)
    }
}

/// What an arriving player is told first.
#[must_use]
pub fn entered(rules: &Rules, place: &Place, epoch: u64, state: &CharacterState) -> Event {
    Event {
        kind: Some(event::Kind::Entered(Entered {
            zone: place.zone.clone(),
            instance: place.instance.clone().unwrap_or_default(),
            gold: state.gold,
            items: state.items,
            applied: state.applied,
            server_id: rules.server_id.clone(),
            epoch,
        })),
    }
}
