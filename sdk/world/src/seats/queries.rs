//! What is: who is held, and where frames are to go.

use tidegate_types::{CharacterId, Epoch, PlayerId, ZoneId};

use super::{At, LinkKey, Phase, Seats, Slot, Who};
use crate::world::Seat;

/// Where a frame of a player, sent by the world, is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outward {
    Send(At),
    Hold,
    Drop,
}

/// What to do with a player's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inward {
    Deliver(Seat),
    Hold(Seat),
    Drop,
}

/// One line of the roster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held<'a> {
    pub(crate) seat: Seat,
    pub(crate) who: &'a Who,
    pub(crate) epoch: Epoch,
    pub(crate) zone: Option<&'a ZoneId>,
    pub(crate) frozen: bool,
    pub(crate) prepared: bool,
    /// Which living link holds the player.
    pub(crate) link: Option<LinkKey>,
}

/// How many players are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Population {
    pub(crate) players: u32,
    pub(crate) parked: u32,
    pub(crate) in_handover: u32,
}

impl Seats {
    pub(crate) fn is_live(&self, seat: Seat) -> bool {
        self.slot(seat).is_some_and(|slot| slot.phase == Phase::Playing && !slot.parked)
    }

    pub(crate) fn link_of(&self, seat: Seat) -> Option<At> {
        self.slot(seat)?.at
    }

    pub(crate) fn outward(&self, seat: Seat) -> Outward {
        let Some(slot) = self.slot(seat) else { return Outward::Drop };
        if slot.attached_again && slot.phase != Phase::Leaving {
            // First comes `Attached`, which says how what follows is counted.
            return Outward::Hold;
        }
        match (&slot.phase, slot.at) {
            (Phase::Playing | Phase::Freezing | Phase::Leaving, Some(at)) => Outward::Send(at),
            (Phase::Leaving | Phase::Gone(_), _) => Outward::Drop,
            (
                Phase::Attaching
                | Phase::Playing
                | Phase::Freezing
                | Phase::Frozen(_)
                | Phase::Preparing
                | Phase::Prepared
                | Phase::Activating
                | Phase::Reclaiming(_),
                _,
            ) => Outward::Hold,
        }
    }

    pub(crate) fn inward(&self, at: At) -> Inward {
        let Some((seat, slot)) = self.seat_at(at).and_then(|seat| Some((seat, self.slot(seat)?))) else {
            return Inward::Drop;
        };
        match slot.phase {
            Phase::Playing => Inward::Deliver(seat),
            // The gateway may forward what waited right behind its `Activate`.
            Phase::Attaching | Phase::Activating | Phase::Reclaiming(_) => Inward::Hold(seat),
            Phase::Freezing
            | Phase::Frozen(_)
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Leaving
            | Phase::Gone(_) => Inward::Drop,
        }
    }

    pub(crate) fn seat_at(&self, (link, handle): At) -> Option<Seat> {
        *self.links.get(&link)?.handles.get(handle as usize)?
    }

    pub(crate) fn roster(&self) -> impl Iterator<Item = Held<'_>> {
        self.occupied()
            .filter(|(_, slot)| !matches!(slot.phase, Phase::Leaving | Phase::Gone(_)))
            .map(|(seat, slot)| self.held(seat, slot))
    }

    /// The seat that holds this character, were it only until the world has answered: what is being saved is not for another
    /// home to load.
    pub(crate) fn find(&self, player: &PlayerId, character: &CharacterId) -> Option<Held<'_>> {
        let settled = self.players.get(player).and_then(|seat| Some((*seat, self.slot(*seat)?)));
        let found = settled.or_else(|| self.ending(player));
        found.filter(|(_, slot)| slot.who.character == *character).map(|(seat, slot)| self.held(seat, slot))
    }

    /// True while a fenced-off seat of the player waits for the world.
    pub(super) fn is_ending(&self, player: &PlayerId) -> bool {
        self.ending(player).is_some()
    }

    fn ending(&self, player: &PlayerId) -> Option<(Seat, &Slot)> {
        // Every seat but those fenced off is its player's.
        let fenced_off = self.occupied_count() as usize - self.players.len();
        (fenced_off > 0).then(|| self.occupied().find(|(_, slot)| slot.who.player == *player)).flatten()
    }

    /// True once the gateway that holds the player knows how the channel's frames are counted.
    pub(crate) fn is_counted(&self, seat: Seat) -> Option<At> {
        let slot = self.slot(seat)?;
        let settled = matches!(slot.phase, Phase::Playing | Phase::Freezing | Phase::Frozen(_));
        slot.at.filter(|_| settled && !slot.attached_again)
    }

    /// Players in a hand-over whose gateway's link is gone: nobody here knows how it ended.
    pub(crate) fn unresolved(&self) -> impl Iterator<Item = Held<'_>> {
        self.occupied()
            .filter(|(_, slot)| slot.at.is_none() && matches!(slot.phase, Phase::Frozen(_) | Phase::Prepared))
            .map(|(seat, slot)| self.held(seat, slot))
    }

    pub(crate) fn highest_epoch(&self) -> Epoch {
        self.occupied().map(|(_, slot)| self.epochs.highest(&slot.who.player)).max().unwrap_or_default()
    }

    pub(crate) fn population(&self) -> Population {
        let mut sum = Population::default();
        for (_, slot) in self.occupied() {
            sum.players += 1;
            match slot.phase {
                Phase::Frozen(_) | Phase::Freezing | Phase::Preparing | Phase::Prepared | Phase::Activating => {
                    sum.in_handover += 1;
                }
                Phase::Playing if slot.parked => sum.parked += 1,
                Phase::Attaching | Phase::Playing | Phase::Reclaiming(_) | Phase::Leaving | Phase::Gone(_) => {}
            }
        }
        sum
    }

    /// Zone of each player that is in one.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &ZoneId> {
        self.occupied().filter_map(|(_, slot)| slot.zone.as_ref())
    }

    fn held<'a>(&self, seat: Seat, slot: &'a Slot) -> Held<'a> {
        Held {
            seat,
            who: &slot.who,
            epoch: slot.epoch,
            zone: slot.zone.as_ref(),
            frozen: matches!(slot.phase, Phase::Freezing | Phase::Frozen(_)),
            prepared: matches!(slot.phase, Phase::Preparing | Phase::Prepared),
            link: slot.at.filter(|_| self.is_reachable(slot)).map(|(link, _)| link),
        }
    }
}
