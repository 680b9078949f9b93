//! The world server: what each message does to the seat, and what the realm database says to claims and saves.

use crate::spec::Rules;
use crate::state::{Held, Link, Phase, Refusal, Seat, State, ToGateway, ToServer};

impl State {
    /// Takes the oldest message of a link. `None`: it has to wait.
    pub(crate) fn server_takes(&mut self, g: usize, s: usize, rules: &Rules) -> Option<()> {
        let message = *self.to_server[g][s].first()?;
        let seat = self.servers[s].seat.clone();
        if matches!(message, ToServer::Find { .. }) && seat.as_ref().is_some_and(is_leaving) {
            // "Nothing" would be wrong until the last save is made.
            return None;
        }
        self.to_server[g][s].remove(0);
        let mine = |epoch: u8| seat.clone().filter(|seat| seat.epoch == epoch && seat.link == Some(g));
        match message {
            ToServer::Attach { epoch, from } => self.attach(g, s, epoch, from, rules),
            ToServer::TakeOver { epoch } => self.take_over(g, s, epoch, rules),
            ToServer::Freeze { epoch } => match mine(epoch) {
                Some(seat) if matches!(seat.phase, Phase::Playing | Phase::Frozen) => {
                    self.put(s, Seat { phase: Phase::Frozen, ..seat });
                    self.answer(Some(g), s, ToGateway::Frozen { epoch });
                }
                _ => self.answer(Some(g), s, ToGateway::FreezeRefused { epoch }),
            },
            ToServer::Thaw { epoch } => {
                if let Some(seat) = mine(epoch).filter(|seat| seat.phase == Phase::Frozen) {
                    self.put(s, Seat { phase: Phase::Playing, ..seat });
                }
            }
            ToServer::Release { epoch } => {
                if mine(epoch).is_some_and(|seat| matches!(seat.phase, Phase::Playing | Phase::Frozen)) {
                    self.servers[s].seat = None;
                }
            }
            ToServer::Prepare { epoch, from } => {
                // Who is in play here for a gateway may not be prepared over.
                let free = seat.is_none_or(|seat| {
                    matches!(seat.phase, Phase::Prepared { .. })
                        || (seat.link.is_none()
                            && seat.epoch < epoch
                            && matches!(seat.phase, Phase::Playing | Phase::Frozen))
                });
                if free {
                    self.put(s, Seat { epoch, link: Some(g), owner: Some(g), phase: Phase::Prepared { from } });
                    self.answer(Some(g), s, ToGateway::Prepared { epoch });
                } else {
                    self.answer(Some(g), s, ToGateway::PrepareRefused { epoch });
                }
            }
            ToServer::Activate { epoch } => match mine(epoch).map(|seat| (seat.phase.clone(), seat)) {
                Some((Phase::Prepared { from }, seat)) => self.put(s, Seat { phase: Phase::Claiming { from }, ..seat }),
                _ => self.refuse(g, s, epoch, Refusal::Unknown),
            },
            ToServer::Abort { epoch } => {
                if mine(epoch).is_some_and(|seat| matches!(seat.phase, Phase::Prepared { .. })) {
                    self.servers[s].seat = None;
                }
            }
            ToServer::Leave { epoch } => match mine(epoch) {
                Some(seat) if matches!(seat.phase, Phase::Playing | Phase::Frozen) => {
                    let unsaved = self.simulates(s).is_some();
                    self.put(s, Seat { phase: Phase::Leaving { unsaved }, ..seat });
                }
                _ => self.answer(Some(g), s, ToGateway::Left { epoch }),
            },
            ToServer::Find { round } => {
                let held = self.held(s);
                self.answer(Some(g), s, ToGateway::Found { round, held });
            }
        }
        Some(())
    }

    fn attach(&mut self, g: usize, s: usize, epoch: u8, from: u8, rules: &Rules) {
        if let Some(seat) = self.servers[s].seat.clone() {
            if is_leaving(&seat) {
                return self.refuse(g, s, epoch, Refusal::NotReady);
            }
            // Only who says so and had it takes a seat up again: two gateways may have asked for the same number.
            let again = from == epoch;
            if again && seat.epoch == epoch && seat.owner == Some(g) {
                return self.rebind(g, s, seat);
            }
            match seat.phase {
                // Nothing is granted yet that could be told.
                Phase::Claiming { .. } | Phase::Reclaiming { .. } => {
                    return self.refuse(g, s, epoch, Refusal::NotReady);
                }
                Phase::Prepared { .. } if again => return self.refuse(g, s, epoch, Refusal::Unknown),
                Phase::Prepared { .. } if seat.link.is_some() => return self.refuse(g, s, epoch, Refusal::NotReady),
                Phase::Prepared { .. } | Phase::Playing | Phase::Frozen | Phase::Leaving { .. } => {}
            }
            let inert = matches!(seat.phase, Phase::Prepared { .. });
            // Who is held for a living link at another epoch than the claim's is not what the claim believes they are. Dropping
            // them before the realm database has granted anything would lose them to a claim that fails.
            let other = if rules.claim_exactly {
                again || seat.epoch > from || (seat.epoch < from && seat.link.is_some())
            } else {
                seat.epoch > epoch
            };
            if other && !inert && !rules.skip_epoch_check {
                return self.refuse(g, s, epoch, Refusal::Stale { saved: seat.epoch });
            }
            if self.simulates(s).is_some() {
                self.dropped = true;
            }
            self.answer(seat.link.filter(|link| *link != g), s, ToGateway::TakenOver { epoch: seat.epoch });
        } else if from == epoch {
            // It has left meanwhile; what was lived once is not lived again.
            return self.refuse(g, s, epoch, Refusal::Unknown);
        }
        self.put(s, Seat { epoch, link: Some(g), owner: Some(g), phase: Phase::Claiming { from } });
    }

    /// The same gateway at the same epoch, after its link broke.
    fn rebind(&mut self, g: usize, s: usize, seat: Seat) {
        let epoch = seat.epoch;
        let phase = match seat.phase {
            Phase::Playing | Phase::Frozen => Phase::Playing,
            Phase::Prepared { from } => Phase::Claiming { from },
            Phase::Claiming { .. } => seat.phase,
            Phase::Reclaiming { .. } | Phase::Leaving { .. } => return self.refuse(g, s, epoch, Refusal::NotReady),
        };
        let plays = phase == Phase::Playing;
        self.put(s, Seat { epoch, link: Some(g), owner: Some(g), phase });
        if plays {
            self.answer(Some(g), s, ToGateway::Attached { epoch });
        }
    }

    fn take_over(&mut self, g: usize, s: usize, epoch: u8, rules: &Rules) {
        let Some(seat) = self.servers[s].seat.clone() else { return self.refuse(g, s, epoch, Refusal::Unknown) };
        match seat.phase {
            Phase::Prepared { .. } => self.refuse(g, s, epoch, Refusal::Unknown),
            Phase::Claiming { .. } | Phase::Reclaiming { .. } | Phase::Leaving { .. } => {
                self.refuse(g, s, epoch, Refusal::NotReady);
            }
            Phase::Frozen if seat.link.is_some_and(|link| link != g) && !rules.take_over_frozen => {
                self.refuse(g, s, epoch, Refusal::NotReady);
            }
            Phase::Playing | Phase::Frozen if epoch <= seat.epoch && !rules.skip_epoch_check => {
                self.refuse(g, s, epoch, Refusal::Stale { saved: seat.epoch });
            }
            Phase::Playing | Phase::Frozen => {
                self.put(s, Seat { phase: Phase::Reclaiming { to: epoch, by: Some(g), taker: Some(g) }, ..seat });
            }
        }
    }

    /// The realm database answers what the server asked it.
    pub(crate) fn database_answers(&mut self, s: usize, rules: &Rules) -> Option<()> {
        let seat = self.servers[s].seat.clone()?;
        match seat.phase {
            Phase::Claiming { from } => {
                let granted = if rules.claim_exactly { self.saved == from } else { self.saved < seat.epoch };
                if granted || rules.skip_epoch_check {
                    self.saved = seat.epoch;
                    self.answer(seat.link, s, ToGateway::Attached { epoch: seat.epoch });
                    self.put(s, Seat { phase: Phase::Playing, ..seat });
                } else {
                    self.servers[s].seat = None;
                    let why = Refusal::Stale { saved: self.saved };
                    self.answer(seat.link, s, ToGateway::AttachRefused { epoch: seat.epoch, why });
                }
            }
            Phase::Reclaiming { to, by, taker: seat_owner } => {
                let elsewhere = seat.link.filter(|link| Some(*link) != by);
                self.answer(elsewhere, s, ToGateway::TakenOver { epoch: seat.epoch });
                if self.saved == seat.epoch || rules.skip_epoch_check {
                    self.saved = to;
                    self.put(s, Seat { epoch: to, link: by, owner: seat_owner, phase: Phase::Playing });
                    self.answer(by, s, ToGateway::Attached { epoch: to });
                } else {
                    self.servers[s].seat = None;
                    let why = Refusal::Stale { saved: self.saved };
                    self.answer(by, s, ToGateway::AttachRefused { epoch: to, why });
                }
            }
            Phase::Leaving { unsaved } => {
                if self.saved != seat.epoch {
                    self.stale_write |= rules.skip_epoch_check;
                    self.dropped |= unsaved;
                }
                self.servers[s].seat = None;
                self.answer(seat.link, s, ToGateway::Left { epoch: seat.epoch });
            }
            Phase::Playing | Phase::Frozen | Phase::Prepared { .. } => return None,
        }
        Some(())
    }

    /// Nobody has come back for a player on no link: saved, and gone.
    pub(crate) fn orphan_leaves(&mut self, s: usize) -> Option<()> {
        let seat = self.servers[s].seat.clone().filter(|seat| seat.link.is_none())?;
        match seat.phase {
            Phase::Playing | Phase::Frozen => self.put(s, Seat { phase: Phase::Leaving { unsaved: false }, ..seat }),
            Phase::Prepared { .. } => self.servers[s].seat = None,
            Phase::Claiming { .. } | Phase::Reclaiming { .. } | Phase::Leaving { .. } => return None,
        }
        Some(())
    }

    /// The server's end of a link is gone: its players are parked.
    pub(crate) fn server_loses(&mut self, g: usize, s: usize) {
        if let Some(seat) = &mut self.servers[s].seat {
            if seat.link == Some(g) {
                seat.link = None;
            }
            if let Phase::Reclaiming { by, .. } = &mut seat.phase
                && *by == Some(g)
            {
                *by = None;
            }
        }
    }

    /// A new link: the server tells whom it holds. The gateway's old link is gone by that.
    pub(crate) fn connect(&mut self, g: usize, s: usize) {
        self.server_loses(g, s);
        self.links[g][s] = Link::Up;
        let held = self.held(s);
        self.answer(Some(g), s, ToGateway::Roster { held });
    }

    fn held(&self, s: usize) -> Option<Held> {
        let seat = self.servers[s].seat.as_ref()?;
        let inert = matches!(seat.phase, Phase::Prepared { .. });
        let granted = !inert && !matches!(seat.phase, Phase::Claiming { .. });
        (!is_leaving(seat)).then_some(Held { epoch: seat.epoch, inert, granted })
    }

    fn put(&mut self, s: usize, seat: Seat) {
        self.servers[s].seat = Some(seat);
    }

    fn refuse(&mut self, g: usize, s: usize, epoch: u8, why: Refusal) {
        self.answer(Some(g), s, ToGateway::AttachRefused { epoch, why });
    }
}

fn is_leaving(seat: &Seat) -> bool {
    matches!(seat.phase, Phase::Leaving { .. })
}
