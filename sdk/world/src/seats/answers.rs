//! What the world answers. An answer is taken only for the question that is pending at its seat; what overtook it decides
//! what the gateway is told.

use super::{After, MAX_STATE, Owed, Phase, Request, Said, Seats, Step, Tell};
use crate::cx::Answer;
use crate::world::{Frozen, Place, Refusal, Seat};

impl Seats {
    /// The world's answer to question `turn`. Late and doubled ones change nothing.
    pub(crate) fn answered(&mut self, seat: Seat, turn: u64, answer: Answer, out: &mut Vec<Step>) {
        let Some(slot) = self.slot_mut(seat).filter(|slot| slot.turn == turn) else { return };
        // Each question is answered once.
        slot.turn = 0;
        let after = slot.after.take();
        match (&slot.phase, answer) {
            (Phase::Attaching, Answer::Placed(Ok(place))) => self.attached(seat, place, after, out),
            (Phase::Activating, Answer::Placed(Ok(place))) => self.activated(seat, place, after, out),
            (Phase::Attaching | Phase::Activating, Answer::Placed(Err(refusal))) => {
                if let Refusal::StaleEpoch { highest, .. } = refusal {
                    let player = slot.who.player.clone();
                    self.epochs.raise(&player, highest);
                }
                self.end(seat, None, instead(after, Said::AttachRefused(refusal)), out);
            }
            (Phase::Reclaiming(_), Answer::Placed(answer)) => self.reclaimed(seat, answer, after, out),
            (Phase::Freezing, Answer::State(Ok(frozen))) => self.froze(seat, frozen, after, out),
            (Phase::Freezing, Answer::State(Err(refusal))) => self.not_frozen(seat, refusal, after, out),
            (Phase::Preparing, Answer::Prepared(Ok(()))) => self.prepared(seat, after, out),
            (Phase::Preparing, Answer::Prepared(Err(refusal))) => {
                self.end(seat, None, instead(after, Said::PrepareRefused(refusal)), out);
            }
            (Phase::Leaving, Answer::Done) => self.end(seat, None, Said::Left, out),
            (Phase::Gone(owed), answer) => {
                let said_yes = matches!(answer, Answer::Placed(Ok(_)) | Answer::Prepared(Ok(())));
                let what = match owed {
                    Owed::Entry(tell) => said_yes.then_some(*tell),
                    Owed::Stay => Some(Tell::Release),
                };
                out.extend(what.map(|what| Step::Tell { seat, what }));
                self.vacate(seat, out);
            }
            // A reply has the type of its question, so nothing else can come.
            (
                Phase::Attaching
                | Phase::Playing
                | Phase::Freezing
                | Phase::Frozen(_)
                | Phase::Preparing
                | Phase::Prepared
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Leaving,
                _,
            ) => debug_assert!(false, "an answer of another kind than its question"),
        }
    }

    fn attached(&mut self, seat: Seat, place: Place, after: Option<After>, out: &mut Vec<Step>) {
        let Some(slot) = self.slot_mut(seat) else { return };
        slot.zone = Some(place.zone.clone());
        slot.place = Some(place.clone());
        let (player, epoch) = (slot.who.player.clone(), slot.epoch);
        self.epochs.raise(&player, epoch);
        self.entered(seat, Said::Attached { epoch, place: Some(place), taken: None }, after, out);
    }

    fn activated(&mut self, seat: Seat, place: Place, after: Option<After>, out: &mut Vec<Step>) {
        let Some(slot) = self.slot_mut(seat) else { return };
        slot.zone = Some(place.zone.clone());
        slot.place = Some(place.clone());
        let epoch = slot.epoch;
        self.entered(seat, Said::Activated { epoch, place }, after, out);
    }

    /// The world has put the player into play.
    fn entered(&mut self, seat: Seat, said: Said, after: Option<After>, out: &mut Vec<Step>) {
        match after {
            Some(After::Leave(reason)) => self.ask(seat, Phase::Leaving, Request::Leave(reason), out),
            Some(After::Release) => self.end(seat, Some(Tell::Release), Said::Released, out),
            Some(After::Thaw | After::Abort | After::Attached) | None => self.play(seat, Some(said), out),
        }
    }

    fn froze(&mut self, seat: Seat, frozen: Frozen, after: Option<After>, out: &mut Vec<Step>) {
        match after {
            Some(After::Thaw | After::Attached) => {
                out.push(Step::Tell { seat, what: Tell::Thaw });
                self.play(seat, Some(Said::Thawed), out);
            }
            Some(After::Release) => self.end(seat, Some(Tell::Release), Said::Released, out),
            Some(After::Leave(reason)) => self.ask(seat, Phase::Leaving, Request::Leave(reason), out),
            Some(After::Abort) | None if frozen.state.len() > MAX_STATE => {
                out.push(Step::Tell { seat, what: Tell::Thaw });
                let refusal = Refusal::Game(format!("the state is {} bytes long", frozen.state.len()));
                self.play(seat, Some(Said::FreezeRefused(refusal)), out);
            }
            Some(After::Abort) | None => {
                let Some(slot) = self.slot_mut(seat) else { return };
                let epoch = slot.epoch;
                // Another link than the one that asked has not asked.
                if let Some(at) = slot.at.filter(|_| slot.at == slot.asked) {
                    out.push(Step::Say { at, what: Said::Frozen { epoch, frozen: frozen.clone() } });
                }
                slot.phase = Phase::Frozen(frozen);
            }
        }
    }

    fn not_frozen(&mut self, seat: Seat, refusal: Refusal, after: Option<After>, out: &mut Vec<Step>) {
        match after {
            Some(After::Thaw | After::Attached) => self.play(seat, Some(Said::Thawed), out),
            Some(After::Release) => self.end(seat, Some(Tell::Release), Said::Released, out),
            Some(After::Leave(reason)) => self.ask(seat, Phase::Leaving, Request::Leave(reason), out),
            Some(After::Abort) | None => {
                let asked_here = self.slot(seat).is_some_and(|slot| slot.at == slot.asked);
                self.play(seat, asked_here.then_some(Said::FreezeRefused(refusal)), out);
            }
        }
    }

    fn prepared(&mut self, seat: Seat, after: Option<After>, out: &mut Vec<Step>) {
        if after == Some(After::Attached) {
            return self.commit(seat, out);
        }
        if after.is_some() {
            return self.end(seat, Some(Tell::Abort), instead(after, Said::Aborted), out);
        }
        let Some(slot) = self.slot_mut(seat) else { return };
        slot.phase = Phase::Prepared;
        if let Some(at) = slot.at.filter(|_| slot.at == slot.asked) {
            out.push(Step::Say { at, what: Said::Prepared });
        }
    }
}

/// What is said when a player is not here any more: the answer to what overtook, else `said`.
pub(super) fn instead(after: Option<After>, said: Said) -> Said {
    match after {
        Some(After::Leave(_)) => Said::Left,
        Some(After::Release) => Said::Released,
        Some(After::Abort) => Said::Aborted,
        Some(After::Thaw) => Said::Thawed,
        Some(After::Attached) => Said::AttachRefused(Refusal::Unknown),
        None => said,
    }
}
