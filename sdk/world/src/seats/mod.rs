//! Which players this server holds and in which state each is: the machine that decides what a gateway's request, a
//! world's answer or a link's end means.
//!
//! ```text
//!            attach                      freeze            answered
//!   (free) ---------> Attaching --ok--> Playing ---------> Freezing ------> Frozen --release--> (free)
//!      |                                ^  ^  |  <---------------------------/ thaw
//!      |   prepare            activate  |  |  | leave
//!      \-> Preparing --ok--> Prepared --/  |  \--> Leaving --answered--> (free)
//!                               \--abort--> (free)    Playing <=> parked: detached, no link, or lease over
//!
//!   Playing, Frozen --taken over by another link--> Reclaiming --ok--> Playing, under the new epoch
//! ```
//!
//! No I/O and no clock; where time matters it is given. Requests go in, [`Step`]s come out, to be carried out in their order. Three rules hold whatever
//! happens: a player has at most one seat that is or will be in play; every question put to the world is answered once
//! before its seat is used again; a request with an epoch that was already lived is refused.

mod answers;
mod epochs;
mod links;
mod queries;
mod requests;
mod takeover;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tidegate_types::{CharacterId, Epoch, Mono, PartyId, PlayerId, SessionId, ZoneId};

use crate::world::{Arrival, Formats, Frozen, LeaveReason, Pin, Place, Refusal, Seat};
use links::LinkState;
pub(crate) use queries::{Held, Inward, Outward, Population};
pub(crate) use requests::{AttachRequest, PrepareRequest};

/// One link. Never used again within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkKey(pub(crate) u32);

/// One run of a gateway's process. Each run is another gateway: what it has asked for it alone knows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run(pub(crate) u128);

/// A session's number on a link.
pub(crate) type At = (LinkKey, u32);

/// Handles are dense, so that both sides can use them as indexes; a gateway that goes beyond is broken.
pub(crate) const MAX_HANDLE: u32 = 65_535;
/// Longest state that may be handed over, in bytes.
pub(crate) const MAX_STATE: usize = 1024 * 1024;

/// What the host must do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Ask the world; it owes an answer for `turn`.
    Ask { seat: Seat, turn: u64, request: Request },
    /// Tell the world.
    Tell { seat: Seat, what: Tell },
    /// Tell the gateway, in order with the session's frames.
    Say { at: At, what: Said },
    /// A stay begins: its channel starts where this one stands.
    Open { seat: Seat, channel: Channel },
    /// The stay is taken up again: its channel goes on as this one says, from the `Attached` that follows.
    Resume { seat: Seat, channel: Channel },
    /// Frames that were held in either direction may flow now.
    Flush(Seat),
    /// The seat is free: forget all that is kept for it.
    Vacated(Seat),
}

/// What the world can be asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    Attach(Arrival),
    Leave(LeaveReason),
    Freeze,
    Prepare(Arrival, Frozen),
    Activate(Epoch),
    Reclaim(Epoch),
}

/// What the world can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Park,
    Unpark,
    Thaw,
    Release,
    Abort,
}

/// What a gateway can be told about a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Attached {
        epoch: Epoch,
        place: Option<Place>,
        /// After a take-over: what the gateway cannot know.
        taken: Option<Taken>,
    },
    AttachRefused(Refusal),
    Left,
    Frozen {
        epoch: Epoch,
        frozen: Frozen,
    },
    FreezeRefused(Refusal),
    Thawed,
    Released,
    Prepared,
    PrepareRefused(Refusal),
    Activated {
        epoch: Epoch,
        place: Place,
    },
    Aborted,
    Eject(String),
    TakenOver {
        epoch: Epoch,
    },
}

/// What a gateway learns of a session that it has taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) pin: Option<Pin>,
    pub(crate) party: Option<PartyId>,
}

/// Where a session's reliable channel stands, as a gateway says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    /// To a new home: how many frames of the player earlier homes have received.
    pub(crate) up: u64,
    /// To a new home: the number of the first of `frames`. To one that is taken up again: what need not be sent again.
    pub(crate) down: u64,
    /// What earlier homes sent and the player has not acknowledged.
    pub(crate) frames: Vec<Vec<u8>>,
    /// The counts become these, and nothing is kept: another client, or one that must be told everything.
    pub(crate) restart: bool,
}

/// Who a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) session: SessionId,
    pub(crate) player: PlayerId,
    pub(crate) character: CharacterId,
    pub(crate) party: Option<PartyId>,
    pub(crate) client_version: String,
    pub(crate) pin: Option<Pin>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Attaching,
    Playing,
    Freezing,
    Frozen(Frozen),
    Preparing,
    Prepared,
    Activating,
    Reclaiming(Reclaim),
    Leaving,
    /// Fenced off while the world owed an answer, which decides what the world is told last.
    Gone(Owed),
}

/// A claim of a new epoch for a player who is held already; the slot has the new one.
#[derive(Debug, Clone, PartialEq)]
struct Reclaim {
    /// What is held until the claim is answered.
    from: Epoch,
    /// The player stands still in a hand-over that nobody will end.
    frozen: Option<Frozen>,
}

/// What a fenced-off seat still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// An answer after which the world holds the player only if it said yes.
    Entry(Tell),
    /// An answer after which the world holds the player anyway.
    Stay,
}

/// A request that overtook the answer to an earlier one; it is carried out, and answered, in the earlier one's stead.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    Thaw,
    Release,
    Abort,
    /// The session was taken up again: what was frozen or prepared is to be in play.
    Attached,
    Leave(LeaveReason),
}

#[derive(Debug, Clone)]
struct Slot {
    who: Who,
    epoch: Epoch,
    /// Whose epoch that is: only this run of a gateway may take the session up again without a claim, for another one may
    /// have asked for the same number.
    run: Run,
    at: Option<At>,
    /// On which link and under which handle the pending question was asked.
    asked: Option<At>,
    /// The gateway said `Park`.
    detached: bool,
    /// As the world was last told.
    parked: bool,
    phase: Phase,
    after: Option<After>,
    turn: u64,
    place: Option<Place>,
    zone: Option<ZoneId>,
    /// An `Attach` took the session up again; it is answered as soon as the player is in play.
    attached_again: bool,
    /// The `Attach` to be answered was a take-over.
    taken: bool,
    /// Another client has the player: the world is to park and unpark them, and so learns of it.
    retell: bool,
    /// How long the last link wants its player kept without one; `None`: for ever.
    orphan_after: Option<Duration>,
    /// On no link, as `drop_orphans` has noticed: until when the player is kept.
    kept_until: Option<Mono>,
    /// The world wants the session ended; told once there is a link.
    eject: Option<String>,
}

impl Slot {
    /// What a gateway is told that knows the epoch, and is not the one that has it.
    fn of_another(&self) -> Refusal {
        match self.phase {
            Phase::Playing | Phase::Freezing | Phase::Frozen(_) => {
                Refusal::StaleEpoch { highest: self.epoch, saved: Some(self.epoch) }
            }
            Phase::Preparing | Phase::Prepared => Refusal::Unknown,
            Phase::Attaching | Phase::Activating | Phase::Reclaiming(_) | Phase::Leaving | Phase::Gone(_) => {
                Refusal::NotReady
            }
        }
    }

    /// Notes a request that must wait for an answer. Of several the one that ends the stay wins; its answer is the answer to
    /// all of them.
    fn overtake(&mut self, after: After) {
        let ends = matches!(self.after, Some(After::Leave(_) | After::Release | After::Abort));
        if !ends || matches!(after, After::Leave(_)) {
            self.after = Some(after);
        }
    }
}

/// All seats of a server.
#[derive(Debug)]
pub(crate) struct Seats {
    capacity: u32,
    formats: Formats,
    slots: Vec<Option<Slot>>,
    free: BTreeSet<u32>,
    players: HashMap<PlayerId, Seat>,
    links: HashMap<LinkKey, LinkState>,
    epochs: epochs::Epochs,
    turn: u64,
    /// Sabotage: an epoch that was lived already may be lived again.
    lenient: bool,
}

impl Seats {
    pub(crate) fn new(capacity: u32, formats: Formats) -> Self {
        Self {
            capacity,
            formats,
            slots: Vec::new(),
            free: BTreeSet::new(),
            players: HashMap::new(),
            links: HashMap::new(),
            epochs: epochs::Epochs::default(),
            turn: 0,
            lenient: tidegate_types::sabotage::on("skip_epoch_check"),
        }
    }

    // What the world says by itself.

    pub(crate) fn set_zone(&mut self, seat: Seat, zone: ZoneId) {
        if let Some(slot) = self.slot_mut(seat) {
            slot.zone = Some(zone);
        }
    }

    /// The world wants a session ended.
    pub(crate) fn eject(&mut self, seat: Seat, reason: String, out: &mut Vec<Step>) {
        if let Some(slot) = self.slot_mut(seat) {
            match slot.at {
                Some(at) => out.push(Step::Say { at, what: Said::Eject(reason) }),
                None => slot.eject = Some(reason),
            }
        }
    }

    // Inner workings.

    fn slot(&self, seat: Seat) -> Option<&Slot> {
        self.slots.get(seat.0 as usize)?.as_ref()
    }

    fn slot_mut(&mut self, seat: Seat) -> Option<&mut Slot> {
        self.slots.get_mut(seat.0 as usize)?.as_mut()
    }

    fn occupied(&self) -> impl Iterator<Item = (Seat, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| Some((Seat(i as u32), slot.as_ref()?)))
    }

    fn occupied_count(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    fn vacate(&mut self, seat: Seat, out: &mut Vec<Step>) {
        self.unbind(seat);
        if let Some(slot) = self.slots.get_mut(seat.0 as usize).and_then(Option::take) {
            if self.players.get(&slot.who.player) == Some(&seat) {
                self.players.remove(&slot.who.player);
            }
            self.free.insert(seat.0);
            out.push(Step::Vacated(seat));
        }
    }

    fn occupy(&mut self, slot: Slot) -> Seat {
        let seat = match self.free.pop_first() {
            Some(index) => Seat(index),
            None => {
                self.slots.push(None);
                Seat(self.slots.len() as u32 - 1)
            }
        };
        self.players.insert(slot.who.player.clone(), seat);
        self.slots[seat.0 as usize] = Some(slot);
        seat
    }

    /// Puts a question to the world.
    fn ask(&mut self, seat: Seat, phase: Phase, request: Request, out: &mut Vec<Step>) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(slot) = self.slot_mut(seat) {
            slot.phase = phase;
            slot.turn = turn;
            slot.asked = slot.at;
            slot.after = None;
            out.push(Step::Ask { seat, turn, request });
        }
    }

    /// Tells the world whether a player in play is parked, if that changed.
    fn settle(&mut self, seat: Seat, out: &mut Vec<Step>) {
        let Some(slot) = self.slot(seat) else { return };
        if slot.phase != Phase::Playing {
            return;
        }
        let park = slot.detached || !self.is_reachable(slot);
        if park != slot.parked {
            if let Some(slot) = self.slot_mut(seat) {
                slot.parked = park;
            }
            out.push(Step::Tell { seat, what: if park { Tell::Park } else { Tell::Unpark } });
            if !park {
                out.push(Step::Flush(seat));
            }
        }
    }

    /// The player is in play (again): says so, lets frames flow.
    fn play(&mut self, seat: Seat, said: Option<Said>, out: &mut Vec<Step>) {
        if let Some(slot) = self.slot_mut(seat) {
            slot.phase = Phase::Playing;
            slot.after = None;
            let of_taken = |slot: &Slot| Taken { pin: slot.who.pin.clone(), party: slot.who.party.clone() };
            let taken = std::mem::take(&mut slot.taken).then(|| of_taken(slot));
            let attached = Said::Attached { epoch: slot.epoch, place: slot.place.clone(), taken };
            let said = if std::mem::take(&mut slot.attached_again) { Some(attached) } else { said };
            if std::mem::take(&mut slot.retell) && !slot.parked {
                slot.parked = true;
                out.push(Step::Tell { seat, what: Tell::Park });
            }
            if let Some(at) = slot.at {
                out.extend(said.map(|what| Step::Say { at, what }));
                out.extend(slot.eject.take().map(|reason| Step::Say { at, what: Said::Eject(reason) }));
            }
        }
        self.settle(seat, out);
        out.push(Step::Flush(seat));
    }
}
