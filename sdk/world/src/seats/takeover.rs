//! A player is taken over: another link, usually another gateway's, goes on with a session that is held here already. The
//! player stays in memory; what changes is who speaks for them, and the epoch.
//!
//! ```text
//!   attach{take_over, e+1}
//!        |-- not held, or inert: UNKNOWN     |-- e+1 is not above: STALE_EPOCH    |-- an answer is owed: NOT_READY
//!        |-- in a hand-over whose link lives: NOT_READY
//!        v
//!   old link: TakenOver    world: park, then claim e+1 from exactly e
//!        |-- yes: thawed if frozen, in play at e+1; new link: Attached
//!        |-- STALE_EPOCH: another home has them; forgotten unsaved
//!        \-- any other no: held as before at e, on no link; refused with the reason
//! ```

#[cfg(test)]
mod tests;

use super::answers::instead;
use super::requests::stale;
use super::{After, At, AttachRequest, Phase, Reclaim, Request, Said, Seats, Step, Tell};
use crate::world::{Place, Refusal, Seat};

impl Seats {
    /// `ready`: the server takes players now.
    pub(super) fn take_over(&mut self, at: At, request: AttachRequest, ready: bool, out: &mut Vec<Step>) {
        match self.may_take_over(at, &request, ready) {
            Ok(seat) => self.begin_take_over(seat, at, request, out),
            Err(refusal) => out.push(Step::Say { at, what: Said::AttachRefused(refusal) }),
        }
    }

    fn may_take_over(&self, at: At, request: &AttachRequest, ready: bool) -> Result<Seat, Refusal> {
        let player = &request.who.player;
        let Some(seat) = self.players.get(player).copied() else {
            return Err(if self.is_ending(player) { Refusal::NotReady } else { Refusal::Unknown });
        };
        let slot = self.slot(seat).filter(|slot| slot.who.session == request.who.session).ok_or(Refusal::Unknown)?;
        let highest = self.epochs.highest(player).max(slot.epoch);
        if self.is_stale(request.epoch, highest) {
            return Err(stale(highest));
        }
        if self.is_taken(at) {
            return Err(Refusal::Unknown);
        }
        if !ready {
            return Err(Refusal::NotReady);
        }
        let reachable = self.is_reachable(slot);
        let elsewhere = slot.at.is_some_and(|(link, _)| link != at.0);
        let inert = matches!(slot.phase, Phase::Preparing | Phase::Prepared);
        if request.refuse_connected && elsewhere && reachable && !slot.detached && !inert {
            return Err(Refusal::PlayerOnline);
        }
        match slot.phase {
            Phase::Playing => Ok(seat),
            // Whoever began the hand-over will not end it.
            Phase::Frozen(_) if !reachable => Ok(seat),
            // Inert: the player is in play elsewhere, and what is here is to be forgotten.
            Phase::Preparing | Phase::Prepared if !reachable => Err(Refusal::Unknown),
            // Soon decided by the world's answer, or by the gateway whose link lives.
            Phase::Frozen(_)
            | Phase::Preparing
            | Phase::Prepared
            | Phase::Attaching
            | Phase::Freezing
            | Phase::Activating
            | Phase::Reclaiming(_)
            | Phase::Leaving
            | Phase::Gone(_) => Err(Refusal::NotReady),
        }
    }

    fn begin_take_over(&mut self, seat: Seat, at: At, request: AttachRequest, out: &mut Vec<Step>) {
        let AttachRequest { who, epoch, channel, .. } = request;
        if let Some(old) = self.slot(seat).and_then(|slot| slot.at) {
            self.mark_taken_over(old);
            out.push(Step::Say { at: old, what: Said::TakenOver { epoch } });
        }
        self.bind(seat, at);
        let channel_restart = channel.restart;
        out.push(Step::Resume { seat, channel });
        // The world may be claiming it from now on, whatever it answers.
        self.epochs.raise(&who.player, epoch);
        let Some(slot) = self.slot_mut(seat) else { return };
        slot.detached = false;
        slot.attached_again = true;
        slot.taken = true;
        slot.retell = channel_restart;
        let from = std::mem::replace(&mut slot.epoch, epoch);
        let frozen = match std::mem::replace(&mut slot.phase, Phase::Playing) {
            Phase::Frozen(frozen) => Some(frozen),
            _ => None,
        };
        // Nothing of the player may change between the old epoch's last save and the claim.
        if frozen.is_none() && !slot.parked {
            slot.parked = true;
            out.push(Step::Tell { seat, what: Tell::Park });
        }
        self.ask(seat, Phase::Reclaiming(Reclaim { from, frozen }), Request::Reclaim(epoch), out);
    }

    /// The world's answer.
    pub(super) fn reclaimed(
        &mut self,
        seat: Seat,
        answer: Result<Place, Refusal>,
        after: Option<After>,
        out: &mut Vec<Step>,
    ) {
        let Some(slot) = self.slot_mut(seat) else { return };
        let Phase::Reclaiming(Reclaim { from, frozen }) = std::mem::replace(&mut slot.phase, Phase::Playing) else {
            return debug_assert!(false, "a claim is answered that was not asked for");
        };
        let refused = match answer {
            Ok(place) => {
                slot.zone = Some(place.zone.clone());
                slot.place = Some(place);
                None
            }
            Err(refusal @ Refusal::StaleEpoch { highest, .. }) => {
                let player = slot.who.player.clone();
                self.epochs.raise(&player, highest);
                let said = instead(after, Said::AttachRefused(refusal));
                return self.end(seat, Some(Tell::Release), said, out);
            }
            Err(refusal) => {
                slot.epoch = from;
                Some(refusal)
            }
        };
        match (after, refused) {
            (Some(After::Leave(reason)), _) => self.ask(seat, Phase::Leaving, Request::Leave(reason), out),
            (Some(After::Release), _) => self.end(seat, Some(Tell::Release), Said::Released, out),
            (Some(After::Thaw | After::Abort | After::Attached) | None, None) => {
                if frozen.is_some() {
                    out.push(Step::Tell { seat, what: Tell::Thaw });
                }
                self.play(seat, None, out);
            }
            (Some(After::Thaw | After::Abort | After::Attached) | None, Some(refusal)) => {
                if let Some(frozen) = frozen {
                    slot.phase = Phase::Frozen(frozen);
                }
                slot.attached_again = false;
                slot.taken = false;
                slot.retell = false;
                if let Some(at) = slot.at {
                    out.push(Step::Say { at, what: Said::AttachRefused(refusal) });
                    self.unbind(seat);
                }
            }
        }
    }
}
