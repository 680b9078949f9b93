//! The links as the seats see them: which seat each handle stands for, whose lease is over, and how long players are kept
//! when their link is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_types::Mono;

use super::{At, LinkKey, MAX_HANDLE, Phase, Request, Run, Seats, Slot, Step, Tell};
use crate::world::{LeaveReason, Seat};

#[derive(Debug, Default)]
pub(super) struct LinkState {
    pub(super) handles: Vec<Option<Seat>>,
    pub(super) lapsed: bool,
    /// Handles whose player another link has taken over. What still comes under them was said before the gateway knew, and is
    /// not answered; its next `Attach` or `Prepare` begins anew.
    taken_over: BTreeSet<u32>,
    /// How long its players are kept when it is gone; `None`: for ever.
    orphan_after: Option<Duration>,
    /// Which run of which gateway it is.
    pub(super) run: Run,
}

impl Seats {
    /// `orphan_after`: how long the link's players are kept when it is gone; `None`: for ever.
    pub(crate) fn link_up(&mut self, link: LinkKey, run: Run, orphan_after: Option<Duration>) {
        // Until its first heartbeat is answered its lease is over.
        self.links.insert(link, LinkState { lapsed: true, orphan_after, run, ..LinkState::default() });
    }

    /// The link is gone: its players are parked, its hand-overs stay as they are.
    pub(crate) fn link_down(&mut self, link: LinkKey, out: &mut Vec<Step>) {
        let Some(state) = self.links.remove(&link) else { return };
        for seat in state.handles.into_iter().flatten() {
            if let Some(slot) = self.slot_mut(seat) {
                slot.at = None;
            }
            self.settle(seat, out);
        }
    }

    /// As [`Seats::link_down`], of a link whose players nobody will ever take up again: they leave.
    pub(crate) fn link_abandoned(&mut self, link: LinkKey, out: &mut Vec<Step>) {
        let handles = self.links.get(&link).map_or(0, |state| state.handles.len());
        for handle in 0..handles {
            let at = (link, u32::try_from(handle).unwrap_or(u32::MAX));
            if self.seat_at(at).is_some() {
                self.leave(at, LeaveReason::GraceOver, out);
            }
        }
        self.link_down(link, out);
    }

    /// The lease of a link is over, or valid again.
    pub(crate) fn lease(&mut self, link: LinkKey, lapsed: bool, out: &mut Vec<Step>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.lapsed == lapsed {
            return;
        }
        state.lapsed = lapsed;
        let seats: Vec<Seat> = state.handles.iter().copied().flatten().collect();
        for seat in seats {
            self.settle(seat, out);
        }
    }

    /// Lets go of players who were on no link for as long as their last one wanted them kept. One who waits for an answer of
    /// the world goes when it has come. To be called every moment: the time counts from the first call that sees no link.
    pub(crate) fn drop_orphans(&mut self, now: Mono, out: &mut Vec<Step>) {
        for index in 0..self.slots.len() {
            let seat = Seat(index as u32);
            let Some(slot) = self.slot_mut(seat).filter(|slot| slot.at.is_none()) else { continue };
            let Some(after) = slot.orphan_after else { continue };
            if now < *slot.kept_until.get_or_insert(now + after) {
                continue;
            }
            match slot.phase {
                Phase::Playing => {
                    self.ask(seat, Phase::Leaving, Request::Leave(LeaveReason::GraceOver), out);
                }
                // Saved as it was frozen; what became of it elsewhere is in the database.
                Phase::Frozen(_) => {
                    out.push(Step::Tell { seat, what: Tell::Release });
                    self.vacate(seat, out);
                }
                Phase::Prepared => {
                    out.push(Step::Tell { seat, what: Tell::Abort });
                    self.vacate(seat, out);
                }
                Phase::Attaching
                | Phase::Freezing
                | Phase::Preparing
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Leaving
                | Phase::Gone(_) => {}
            }
        }
    }

    /// Binds a seat to a handle, away from where it was bound before.
    pub(super) fn bind(&mut self, seat: Seat, at: At) {
        self.unbind(seat);
        if let Some(state) = self.links.get_mut(&at.0) {
            let index = at.1 as usize;
            if state.handles.len() <= index {
                state.handles.resize(index + 1, None);
            }
            state.handles[index] = Some(seat);
            state.taken_over.remove(&at.1);
            let (orphan_after, run) = (state.orphan_after, state.run);
            if let Some(slot) = self.slot_mut(seat) {
                slot.at = Some(at);
                slot.run = run;
                slot.orphan_after = orphan_after;
                slot.kept_until = None;
            }
        }
    }

    /// The gateway's run at the other end.
    pub(super) fn run_of(&self, at: At) -> Run {
        self.links.get(&at.0).map_or(Run::default(), |link| link.run)
    }

    pub(super) fn unbind(&mut self, seat: Seat) {
        let Some((link, handle)) = self.slot_mut(seat).and_then(|slot| slot.at.take()) else { return };
        if let Some(entry) = self.links.get_mut(&link).and_then(|state| state.handles.get_mut(handle as usize)) {
            *entry = None;
        }
    }

    pub(super) fn is_taken(&self, at: At) -> bool {
        at.1 > MAX_HANDLE || self.seat_at(at).is_some()
    }

    /// Notes that another link has the player of this handle now.
    pub(super) fn mark_taken_over(&mut self, at: At) {
        if let Some(state) = self.links.get_mut(&at.0) {
            state.taken_over.insert(at.1);
        }
    }

    /// True for a handle of which nothing more is said.
    pub(super) fn was_taken_over(&self, at: At) -> bool {
        self.links.get(&at.0).is_some_and(|state| state.taken_over.contains(&at.1))
    }

    /// The gateway uses the handle anew.
    pub(crate) fn begins_anew(&mut self, at: At) {
        if let Some(state) = self.links.get_mut(&at.0) {
            state.taken_over.remove(&at.1);
        }
    }

    /// True while a link holds the player under a valid lease.
    pub(super) fn is_reachable(&self, slot: &Slot) -> bool {
        slot.at.and_then(|(link, _)| self.links.get(&link)).is_some_and(|link| !link.lapsed)
    }
}
