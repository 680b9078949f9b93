//! What the SDK asks, one callback each: what the database did is learnt first, then the game is told, then what it says is
//! carried out.

use bytes::Bytes;
use prost::Message;
use tidegate_proto::stub::v1::{Action, Position};
use tidegate_types::{Epoch, Now};
use tidegate_world::{Arrival, Cx, Frozen, LeaveReason, Place as WorldPlace, Refusal, Reply, Seat, World, Zone};
use tracing::{debug, info, warn};

use super::words::{claimed, greet, our_place, stale, who, world_place};
use super::{Arrived, Done, Stub, ledger_written, tell};
use crate::character::BadState;
use crate::db::work::{self, Attach, ClaimRefused};
use crate::db::{Failure, witness};
use crate::faults::Step;
use crate::game::{Place, Reclaiming, ZONE_FORMAT, entered};

impl World for Stub {
    fn formats(&self) -> tidegate_world::Formats {
        let formats = &self.game.rules().formats;
        tidegate_world::Formats { read: formats.read.clone(), write: formats.write }
    }

    fn load_zones(&mut self, zones: Vec<Zone>) -> Result<(), String> {
        for zone in zones {
            if zone.format != ZONE_FORMAT {
                return Err(format!("zone {} is in format {}, not {ZONE_FORMAT}", zone.zone, zone.format));
            }
            self.game.load_zone(&zone.state).map_err(|e| format!("zone {} does not parse: {e}", zone.zone))?;
        }
        Ok(())
    }

    fn attach(&mut self, cx: &mut Cx<'_>, arrival: Arrival, reply: Reply<Result<WorldPlace, Refusal>>) {
        self.drain(cx);
        let seat = arrival.seat.0;
        let place = arrival.place.as_ref().map(our_place);
        if let (Some(ours), Some(theirs)) = (&place, &arrival.place)
            && !self.game.serves(ours)
        {
            reply.send(Err(Refusal::WrongZone(theirs.clone())));
            return;
        }
        let who = who(&arrival);
        let life = self.game.next_life();
        let rules = self.game.rules().clone();
        let request = Attach {
            claim: self.claim(&who, arrival.from.map(|from| from.0), arrival.epoch.0, cx.now()),
            placed: place.is_some(),
            zones: rules.zones.clone(),
            entry: match &place {
                Some(place) if place.instance.is_none() => Some(place.zone.clone()),
                _ => self.entry.clone(),
            },
            endowed: !who.is_probe(),
            formats: rules.formats.clone(),
        };
        let (inbox, outbox) = (self.inbox.0.clone(), cx.outbox());
        let (epoch, cause) = (arrival.epoch.0, arrival.cause);
        self.store.submit(
            move |db| witness::claim(db, &request.claim, || work::attach(db, &request)),
            move |outcome| match claimed(outcome, &rules) {
                Ok(state) => {
                    let place = place.unwrap_or_else(|| Place::shared(&state.zone));
                    let hello = entered(&rules, &place, epoch, &state);
                    let answer = world_place(&place).ok_or_else(|| Refusal::Game("its zone has no name".to_owned()));
                    let arrived = Box::new(Arrived { who, epoch, state, place, cause });
                    tell(&inbox, Done::Attached { seat, life, arrived });
                    greet(answer, reply, &outbox, seat, &hello);
                }
                Err(refusal) => reply.send(Err(refusal)),
            },
        );
    }

    fn message(&mut self, cx: &mut Cx<'_>, seat: Seat, body: Bytes) {
        self.drain(cx);
        match Action::decode(body) {
            Ok(action) => self.game.action(seat.0, action, cx.now(), &mut self.out),
            Err(_) => self.game.garbage(seat.0, &mut self.out),
        }
        self.act(cx);
    }

    fn datagram(&mut self, cx: &mut Cx<'_>, seat: Seat, payload: Bytes) {
        self.drain(cx);
        // What is no position is dropped, as any datagram may be.
        if let Ok(position) = Position::decode(payload) {
            self.game.position(seat.0, &position, cx.now());
        }
    }

    fn park(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        self.drain(cx);
        self.game.park(seat.0, &mut self.out);
        self.act(cx);
    }

    fn unpark(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        self.drain(cx);
        self.game.unpark(seat.0, cx.now(), &mut self.out);
        self.act(cx);
    }

    fn leave(&mut self, cx: &mut Cx<'_>, seat: Seat, reason: LeaveReason, reply: Reply<()>) {
        self.drain(cx);
        debug!(seat = seat.0, %reason, "a player leaves");
        // Refuses the hand-over that was waiting, if one was.
        self.freezes.remove(&seat.0);
        self.leaves.insert(seat.0, reply);
        self.game.leave(seat.0, cx.now(), &mut self.out);
        self.act(cx);
    }

    fn freeze(&mut self, cx: &mut Cx<'_>, seat: Seat, reply: Reply<Result<Frozen, Refusal>>) {
        self.drain(cx);
        self.die_if_asked(Step::Freeze);
        self.freezes.insert(seat.0, reply);
        if !self.game.freeze(seat.0, cx.now(), &mut self.out)
            && let Some(reply) = self.freezes.remove(&seat.0)
        {
            reply.send(Err(Refusal::Unknown));
        }
        self.act(cx);
    }

    fn thaw(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        self.drain(cx);
        self.freezes.remove(&seat.0);
        self.game.thaw(seat.0, cx.now(), &mut self.out);
        self.act(cx);
    }

    fn release(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        self.drain(cx);
        self.freezes.remove(&seat.0);
        self.game.release(seat.0, &mut self.out);
        self.act(cx);
    }

    fn prepare(&mut self, cx: &mut Cx<'_>, arrival: Arrival, state: Frozen, reply: Reply<Result<(), Refusal>>) {
        self.drain(cx);
        self.die_if_asked(Step::Prepare);
        if self.faults.refuses_prepare() {
            reply.send(Err(Refusal::Game("refused as asked".to_owned())));
            return;
        }
        let read = self.game.rules().formats.decode(state.format, &state.state);
        let state = match read {
            Ok(state) => state,
            Err(BadState::Format(_)) => return reply.send(Err(Refusal::Format)),
            Err(e) => return reply.send(Err(Refusal::Game(e.to_string()))),
        };
        let who = who(&arrival);
        if state.character != who.character {
            return reply.send(Err(Refusal::Game(format!("the state is that of {}", state.character))));
        }
        let place = arrival.place.as_ref().map_or_else(|| Place::shared(&state.zone), our_place);
        if !self.game.serves(&place) {
            let refusal = world_place(&place).map_or(Refusal::Unknown, Refusal::WrongZone);
            return reply.send(Err(refusal));
        }
        let from = arrival.from.map(|from| from.0);
        self.game.prepare(arrival.seat.0, who, from, arrival.epoch.0, state, place, cx.now());
        reply.send(Ok(()));
    }

    fn activate(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<WorldPlace, Refusal>>) {
        self.drain(cx);
        self.die_if_asked(Step::Activate);
        let Some((life, who, from, place, carried)) = self.game.activating(seat.0, epoch.0) else {
            reply.send(Err(Refusal::Unknown));
            return;
        };
        let claim = self.claim(&who, from, epoch.0, cx.now());
        let rules = self.game.rules().clone();
        let formats = rules.formats.clone();
        let (inbox, outbox) = (self.inbox.0.clone(), cx.outbox());
        self.store.submit(
            move |db| witness::claim(db, &claim, || work::activate(db, &claim, &carried, &formats)),
            move |outcome| match claimed(outcome, &rules) {
                Ok(state) => {
                    let hello = entered(&rules, &place, epoch.0, &state);
                    let answer = world_place(&place).ok_or(Refusal::Unknown);
                    tell(&inbox, Done::Activated { seat: seat.0, life, state: Box::new(state) });
                    greet(answer, reply, &outbox, seat.0, &hello);
                }
                Err(refusal) => reply.send(Err(refusal)),
            },
        );
    }

    fn reclaim(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<WorldPlace, Refusal>>) {
        self.drain(cx);
        let Some(Reclaiming { life, who, place, held }) = self.game.reclaiming(seat.0, epoch.0, &mut self.out) else {
            reply.send(Err(Refusal::StaleEpoch { highest: epoch, saved: None }));
            return;
        };
        self.act(cx);
        let claim = self.claim(&who, Some(held), epoch.0, cx.now());
        let inbox = self.inbox.0.clone();
        self.store.submit(
            move |db| witness::claim(db, &claim, || work::reclaim(db, &claim)),
            move |outcome| {
                let (done, answer) = match outcome {
                    Ok(Ok(())) => (Ok(()), world_place(&place).ok_or(Refusal::Unknown)),
                    Ok(Err(ClaimRefused::Stale { saved })) => (Err(true), Err(stale(saved))),
                    // The row is gone: nothing of the player can be saved here any more.
                    Ok(Err(_)) => (Err(true), Err(stale(0))),
                    Err(Failure::Behind | Failure::Closed) => (Err(false), Err(Refusal::NotReady)),
                    Err(e @ Failure::Sql(_)) => (Err(false), Err(Refusal::Game(e.to_string()))),
                };
                tell(&inbox, Done::Reclaimed { seat: seat.0, life, outcome: done });
                reply.send(answer);
            },
        );
    }

    fn abort(&mut self, cx: &mut Cx<'_>, seat: Seat) {
        self.drain(cx);
        self.game.release(seat.0, &mut self.out);
        self.act(cx);
    }

    fn transfer_refused(&mut self, cx: &mut Cx<'_>, seat: Seat, reason: &str) {
        self.drain(cx);
        self.game.transfer_refused(seat.0, reason, cx.now(), &mut self.out);
        self.act(cx);
    }

    fn tick(&mut self, cx: &mut Cx<'_>, now: Now) {
        let running = now.mono.since(*self.first_tick.get_or_insert(now.mono));
        if self.faults.hangs(running) {
            warn!("hanging as asked");
            loop {
                std::thread::park();
            }
        }
        self.drain(cx);
        self.game.step(now.mono, |seat| cx.is_live(Seat(seat)), &mut self.out);
        self.act(cx);
        self.keep_books(now.mono);
    }

    fn barrier(&mut self, cx: &mut Cx<'_>, reply: Reply<Result<Vec<Zone>, String>>) {
        self.drain(cx);
        self.game.stand_still();
        let zones = self.zones();
        let reached = move |outcome: Result<u64, Failure>| {
            reply.send(match outcome {
                Ok(0) => Ok(zones),
                Ok(failed) => Err(format!("{failed} characters could not be saved")),
                Err(e) => Err(e.to_string()),
            });
        };
        // Trades on their way carry both sides' whole state and come before the fence; everyone else is saved here.
        self.game.save_all(false, &mut self.out);
        self.fence_after(cx, reached);
    }

    fn barrier_release(&mut self, cx: &mut Cx<'_>) {
        self.drain(cx);
        self.game.go_on(cx.now(), &mut self.out);
        self.act(cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_>, reply: Reply<()>) {
        self.drain(cx);
        self.game.stand_still();
        info!(counters = ?self.game.counters(), "the world stops");
        self.game.save_all(true, &mut self.out);
        for (zone, state) in self.game.take_changed_zones() {
            let server = self.game.rules().server_id.clone();
            self.store.submit(move |db| work::save_zone(db, &server, &zone, &state), ledger_written);
        }
        self.fence_after(cx, move |_| reply.send(()));
    }
}
