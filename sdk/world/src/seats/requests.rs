//! What gateways ask for. A request that cannot be carried out is answered with the reason; one that overtakes the world's
//! answer to an earlier one waits for it.

use tidegate_types::{Cause, Epoch, SessionId};

use super::{After, At, Channel, MAX_HANDLE, Owed, Phase, Request, Run, Said, Seats, Slot, Step, Tell, Who};
use crate::world::{Arrival, Frozen, LeaveReason, Place, Refusal, Seat};

/// `Attach`, as the machine takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttachRequest {
    pub(crate) who: Who,
    pub(crate) epoch: Epoch,
    pub(crate) place: Option<Place>,
    pub(crate) cause: Cause,
    pub(crate) channel: Channel,
    /// Go on with the session that is held at a lower epoch.
    pub(crate) take_over: bool,
    /// With `take_over`: not if the player is connected on another link.
    pub(crate) refuse_connected: bool,
    /// What the database must have.
    pub(crate) from: Option<Epoch>,
}

/// `Prepare`, as the machine takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrepareRequest {
    pub(crate) who: Who,
    pub(crate) epoch: Epoch,
    pub(crate) place: Option<Place>,
    pub(crate) cause: Cause,
    pub(crate) channel: Channel,
    /// What the database must have when it is activated.
    pub(crate) from: Option<Epoch>,
    pub(crate) state: Frozen,
    /// The digest matched.
    pub(crate) intact: bool,
}

impl Seats {
    /// `ready`: the server takes players now.
    pub(crate) fn attach(&mut self, at: At, request: AttachRequest, ready: bool, out: &mut Vec<Step>) {
        let refuse = |refusal, out: &mut Vec<Step>| out.push(Step::Say { at, what: Said::AttachRefused(refusal) });
        self.begins_anew(at);
        if request.take_over {
            return self.take_over(at, request, ready, out);
        }
        let existing = self.players.get(&request.who.player).copied();
        if let Some((seat, slot)) = existing.and_then(|seat| Some((seat, self.slot(seat)?))) {
            if slot.who.session == request.who.session && slot.epoch == request.epoch {
                if slot.run == self.run_of(at) {
                    return self.rebind(seat, at, request.channel, out);
                }
                return refuse(slot.of_another(), out);
            }
            if self.is_stale(request.epoch, slot.epoch) {
                let highest = self.epochs.highest(&request.who.player).max(slot.epoch);
                return refuse(stale(highest), out);
            }
            match slot.phase {
                // It is being saved under its old epoch; loading it now might read what was before.
                Phase::Leaving => return refuse(Refusal::NotReady, out),
                // A claim from another epoch than is held here will be refused: nobody is to be dropped for it.
                Phase::Playing | Phase::Freezing | Phase::Frozen(_)
                    if request.from.is_some_and(|from| from != slot.epoch) =>
                {
                    return refuse(stale(self.epochs.highest(&request.who.player).max(slot.epoch)), out);
                }
                // The database is being asked which epoch it has.
                Phase::Attaching | Phase::Activating | Phase::Reclaiming(_) if request.from.is_some() => {
                    return refuse(Refusal::NotReady, out);
                }
                Phase::Playing
                | Phase::Freezing
                | Phase::Frozen(_)
                | Phase::Attaching
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Preparing
                | Phase::Prepared
                | Phase::Gone(_) => {}
            }
        }
        let highest = self.epochs.highest(&request.who.player);
        if self.is_stale(request.epoch, highest) {
            return refuse(stale(highest), out);
        }
        if self.is_taken(at) {
            return refuse(Refusal::Unknown, out);
        }
        if !ready {
            return refuse(Refusal::NotReady, out);
        }
        if existing.is_none() && self.occupied_count() >= self.capacity {
            return refuse(Refusal::Full, out);
        }
        if let Some(seat) = existing {
            self.fence(seat, out);
        }
        let AttachRequest { who, epoch, place, cause, channel, from, take_over: _, refuse_connected: _ } = request;
        let seat = self.occupy(slot(who.clone(), epoch, Phase::Attaching));
        self.bind(seat, at);
        out.push(Step::Open { seat, channel });
        let arrival = arrival(seat, who, epoch, from, place, cause);
        self.ask(seat, Phase::Attaching, Request::Attach(arrival), out);
    }

    /// The gateway knows this very session at this very epoch, and that it is at home here: it is taken up again under the
    /// new handle, in play, with nothing loaded. Frozen is thawed, prepared is activated, parked is unparked.
    fn rebind(&mut self, seat: Seat, at: At, channel: Channel, out: &mut Vec<Step>) {
        let here = self.seat_at(at);
        if here.is_some_and(|other| other != seat) || at.1 > MAX_HANDLE {
            return out.push(Step::Say { at, what: Said::AttachRefused(Refusal::Unknown) });
        }
        let Some(slot) = self.slot_mut(seat) else { return };
        // On its way out, by the word of a gateway that still listens.
        let leaving = slot.at.is_some() && matches!(slot.after, Some(After::Leave(_) | After::Release | After::Abort));
        match slot.phase {
            _ if leaving => return out.push(Step::Say { at, what: Said::AttachRefused(Refusal::NotReady) }),
            Phase::Leaving | Phase::Gone(_) => {
                return out.push(Step::Say { at, what: Said::AttachRefused(Refusal::NotReady) });
            }
            Phase::Attaching
            | Phase::Playing
            | Phase::Freezing
            | Phase::Frozen(_)
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Activating
            | Phase::Reclaiming(_) => {}
        }
        slot.detached = false;
        slot.attached_again = true;
        slot.retell = channel.restart;
        if let Some(elsewhere) = slot.at.filter(|elsewhere| *elsewhere != at) {
            out.push(Step::Say { at: elsewhere, what: Said::Eject("fenced".to_owned()) });
        }
        self.bind(seat, at);
        out.push(Step::Resume { seat, channel });
        let Some(slot) = self.slot_mut(seat) else { return };
        match slot.phase {
            // Answered when the world has answered, whatever else was asked for on the link that is gone.
            Phase::Attaching | Phase::Activating | Phase::Reclaiming(_) => slot.after = None,
            Phase::Freezing | Phase::Preparing => slot.after = Some(After::Attached),
            Phase::Playing => self.play(seat, None, out),
            Phase::Frozen(_) => {
                out.push(Step::Tell { seat, what: Tell::Thaw });
                self.play(seat, None, out);
            }
            Phase::Prepared => self.commit(seat, out),
            Phase::Leaving | Phase::Gone(_) => {}
        }
    }

    /// A prepared player is at home here from now on, whatever the world answers.
    pub(super) fn commit(&mut self, seat: Seat, out: &mut Vec<Step>) {
        let Some(slot) = self.slot(seat) else { return };
        let (player, epoch) = (slot.who.player.clone(), slot.epoch);
        self.epochs.raise(&player, epoch);
        self.ask(seat, Phase::Activating, Request::Activate(epoch), out);
    }

    pub(crate) fn park(&mut self, at: At, detached: bool, out: &mut Vec<Step>) {
        let Some(seat) = self.seat_at(at) else { return };
        if let Some(slot) = self.slot_mut(seat) {
            slot.detached = detached;
        }
        self.settle(seat, out);
    }

    pub(crate) fn leave(&mut self, at: At, reason: LeaveReason, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        let Some((seat, slot)) = self.bound(at) else {
            return out.push(Step::Say { at, what: Said::Left });
        };
        match slot.phase {
            Phase::Attaching | Phase::Freezing | Phase::Preparing | Phase::Activating | Phase::Reclaiming(_) => {
                slot.overtake(After::Leave(reason));
            }
            Phase::Playing | Phase::Frozen(_) => self.ask(seat, Phase::Leaving, Request::Leave(reason), out),
            Phase::Prepared => self.end(seat, Some(Tell::Abort), Said::Left, out),
            Phase::Leaving | Phase::Gone(_) => {}
        }
    }

    pub(crate) fn freeze(&mut self, at: At, epoch: Epoch, ready: bool, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        let refuse = |refusal, out: &mut Vec<Step>| out.push(Step::Say { at, what: Said::FreezeRefused(refusal) });
        let Some((seat, slot)) = self.bound(at).filter(|(_, slot)| slot.epoch == epoch) else {
            return refuse(Refusal::Unknown, out);
        };
        match &slot.phase {
            Phase::Playing if ready => self.ask(seat, Phase::Freezing, Request::Freeze, out),
            // Repeated: one answer is enough.
            Phase::Freezing if slot.after.is_none() => slot.asked = Some(at),
            Phase::Frozen(frozen) => {
                let what = Said::Frozen { epoch, frozen: frozen.clone() };
                out.push(Step::Say { at, what });
            }
            Phase::Playing
            | Phase::Freezing
            | Phase::Attaching
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Activating
            | Phase::Reclaiming(_)
            | Phase::Leaving
            | Phase::Gone(_) => refuse(Refusal::NotReady, out),
        }
    }

    pub(crate) fn thaw(&mut self, at: At, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        match self.bound(at) {
            Some((_, slot)) if slot.phase == Phase::Freezing => slot.overtake(After::Thaw),
            Some((seat, slot)) if matches!(slot.phase, Phase::Frozen(_)) => {
                out.push(Step::Tell { seat, what: Tell::Thaw });
                self.play(seat, Some(Said::Thawed), out);
            }
            Some(_) | None => out.push(Step::Say { at, what: Said::Thawed }),
        }
    }

    pub(crate) fn release(&mut self, at: At, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        let Some((seat, slot)) = self.bound(at) else {
            return out.push(Step::Say { at, what: Said::Released });
        };
        match slot.phase {
            Phase::Attaching | Phase::Freezing | Phase::Preparing | Phase::Activating | Phase::Reclaiming(_) => {
                slot.overtake(After::Release);
            }
            Phase::Playing | Phase::Frozen(_) => self.end(seat, Some(Tell::Release), Said::Released, out),
            Phase::Prepared => self.end(seat, Some(Tell::Abort), Said::Released, out),
            Phase::Leaving | Phase::Gone(_) => {}
        }
    }

    /// `ready`: the server takes players now.
    pub(crate) fn prepare(&mut self, at: At, request: PrepareRequest, ready: bool, out: &mut Vec<Step>) {
        let refuse = |refusal, out: &mut Vec<Step>| out.push(Step::Say { at, what: Said::PrepareRefused(refusal) });
        self.begins_anew(at);
        let existing = self.players.get(&request.who.player).copied();
        let highest = self.epochs.highest(&request.who.player);
        if self.is_stale(request.epoch, highest) {
            return refuse(stale(highest), out);
        }
        if let Some(slot) = existing.and_then(|seat| self.slot(seat)) {
            let inert = matches!(slot.phase, Phase::Preparing | Phase::Prepared) && !slot.attached_again;
            let lived = request.epoch < slot.epoch || (!inert && request.epoch == slot.epoch);
            // The source has an older epoch than is held here: it is no source any more.
            let from_before = !inert && request.from.is_some_and(|from| from < slot.epoch);
            if (lived || from_before) && !self.lenient {
                return refuse(stale(slot.epoch), out);
            }
            // A preparation may be repeated; a player who is in play here for a gateway may not be prepared over.
            if !inert && (slot.at.is_some() || slot.phase == Phase::Leaving) {
                return refuse(Refusal::NotReady, out);
            }
        }
        let here = self.seat_at(at);
        if at.1 > MAX_HANDLE || here.is_some_and(|seat| Some(seat) != existing) {
            return refuse(Refusal::Unknown, out);
        }
        if !ready {
            return refuse(Refusal::NotReady, out);
        }
        if !request.intact {
            return refuse(Refusal::Digest, out);
        }
        if !self.formats.read.contains(&request.state.format) {
            return refuse(Refusal::Format, out);
        }
        if existing.is_none() && self.occupied_count() >= self.capacity {
            return refuse(Refusal::Full, out);
        }
        if let Some(seat) = existing {
            if here == Some(seat) {
                // Repeated: one answer is enough.
                self.unbind(seat);
            }
            self.fence(seat, out);
        }
        let PrepareRequest { who, epoch, place, cause, channel, from, state, intact: _ } = request;
        let mut new = slot(who.clone(), epoch, Phase::Preparing);
        new.zone = place.as_ref().map(|place| place.zone.clone());
        let seat = self.occupy(new);
        self.bind(seat, at);
        out.push(Step::Open { seat, channel });
        let arrival = arrival(seat, who, epoch, from, place, cause);
        self.ask(seat, Phase::Preparing, Request::Prepare(arrival, state), out);
    }

    pub(crate) fn activate(&mut self, at: At, epoch: Epoch, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        let refuse = |out: &mut Vec<Step>| out.push(Step::Say { at, what: Said::AttachRefused(Refusal::Unknown) });
        let Some((seat, slot)) = self.bound(at).filter(|(_, slot)| slot.epoch == epoch) else {
            return refuse(out);
        };
        match (&slot.phase, &slot.place) {
            (Phase::Prepared, _) => self.commit(seat, out),
            (Phase::Activating, _) => slot.asked = Some(at),
            (Phase::Playing, Some(place)) => {
                let what = Said::Activated { epoch, place: place.clone() };
                out.push(Step::Say { at, what });
            }
            (
                Phase::Playing
                | Phase::Attaching
                | Phase::Freezing
                | Phase::Frozen(_)
                | Phase::Preparing
                | Phase::Reclaiming(_)
                | Phase::Leaving
                | Phase::Gone(_),
                _,
            ) => refuse(out),
        }
    }

    pub(crate) fn abort(&mut self, at: At, out: &mut Vec<Step>) {
        if self.was_taken_over(at) {
            return;
        }
        match self.bound(at) {
            Some((_, slot)) if slot.phase == Phase::Preparing => slot.overtake(After::Abort),
            Some((seat, slot)) if slot.phase == Phase::Prepared => {
                self.end(seat, Some(Tell::Abort), Said::Aborted, out);
            }
            // Too late: it was activated. Saying "aborted" would be a lie; the gateway's next request tells it.
            Some(_) => {}
            None => out.push(Step::Say { at, what: Said::Aborted }),
        }
    }

    /// A gateway's word on who owns a session: its home has `epoch` (0: not known there), and is here if `mine`, then under
    /// `at` (handle 0: the gateway has no handle for it yet).
    pub(crate) fn owner(&mut self, at: At, session: SessionId, epoch: Epoch, mine: bool, out: &mut Vec<Step>) {
        let found = self.occupied().find(|(_, slot)| slot.who.session == session);
        let Some((seat, slot)) = found.filter(|_| epoch != Epoch(0)) else { return };
        if !mine {
            let inert = matches!(slot.phase, Phase::Preparing | Phase::Prepared);
            if inert || epoch > slot.epoch {
                self.fence(seat, out);
            }
        } else if epoch == slot.epoch
            && slot.run == self.run_of(at)
            && slot.at.is_none()
            && at.1 != 0
            && !self.is_taken(at)
        {
            match slot.phase {
                Phase::Frozen(_) => {
                    self.bind(seat, at);
                    out.push(Step::Tell { seat, what: Tell::Thaw });
                    self.play(seat, Some(Said::Thawed), out);
                }
                Phase::Prepared => self.bind(seat, at),
                // Nothing that this answer could decide.
                Phase::Attaching
                | Phase::Playing
                | Phase::Freezing
                | Phase::Preparing
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Leaving
                | Phase::Gone(_) => {}
            }
        }
    }

    fn bound(&mut self, at: At) -> Option<(Seat, &mut Slot)> {
        let seat = self.seat_at(at)?;
        self.slot_mut(seat).map(|slot| (seat, slot))
    }

    /// True for an epoch that must not be lived (again) by one who has lived `highest`.
    pub(super) fn is_stale(&self, epoch: Epoch, highest: Epoch) -> bool {
        epoch <= highest && !self.lenient
    }

    /// Last words about a seat, and it is free.
    pub(super) fn end(&mut self, seat: Seat, tell: Option<Tell>, said: Said, out: &mut Vec<Step>) {
        if let Some(what) = tell {
            out.push(Step::Tell { seat, what });
        }
        if let Some(at) = self.slot(seat).and_then(|slot| slot.at) {
            out.push(Step::Say { at, what: said });
        }
        self.vacate(seat, out);
    }

    /// A newer epoch takes the player: what is here is dropped unsaved, after the world has answered what it owes.
    fn fence(&mut self, seat: Seat, out: &mut Vec<Step>) {
        let Some(slot) = self.slot(seat) else { return };
        // One who leaves is only being saved, and the database refuses a save under an epoch that is over.
        if let Some(at) = slot.at.filter(|_| slot.phase != Phase::Leaving) {
            out.push(Step::Say { at, what: Said::Eject("fenced".to_owned()) });
        }
        let (player, epoch) = (slot.who.player.clone(), slot.epoch);
        let owed = match slot.phase {
            Phase::Playing | Phase::Frozen(_) => {
                out.push(Step::Tell { seat, what: Tell::Release });
                return self.vacate(seat, out);
            }
            Phase::Prepared => {
                out.push(Step::Tell { seat, what: Tell::Abort });
                return self.vacate(seat, out);
            }
            Phase::Attaching | Phase::Activating => {
                // The world may be claiming it at this moment.
                self.epochs.raise(&player, epoch);
                Owed::Entry(Tell::Release)
            }
            Phase::Preparing => Owed::Entry(Tell::Abort),
            Phase::Freezing | Phase::Reclaiming(_) => Owed::Stay,
            Phase::Leaving | Phase::Gone(_) => return,
        };
        self.unbind(seat);
        self.players.remove(&player);
        if let Some(slot) = self.slot_mut(seat) {
            slot.phase = Phase::Gone(owed);
        }
    }
}

fn slot(who: Who, epoch: Epoch, phase: Phase) -> Slot {
    Slot {
        who,
        epoch,
        run: Run::default(),
        at: None,
        asked: None,
        detached: false,
        parked: false,
        phase,
        after: None,
        turn: 0,
        place: None,
        zone: None,
        attached_again: false,
        taken: false,
        retell: false,
        orphan_after: None,
        kept_until: None,
        eject: None,
    }
}

/// The refusal of an epoch by what was seen here.
pub(super) fn stale(highest: Epoch) -> Refusal {
    Refusal::StaleEpoch { highest, saved: None }
}

fn arrival(seat: Seat, who: Who, epoch: Epoch, from: Option<Epoch>, place: Option<Place>, cause: Cause) -> Arrival {
    let Who { session, player, character, party, client_version, pin } = who;
    Arrival { seat, session, player, character, party, client_version, epoch, from, place, cause, pin }
}
