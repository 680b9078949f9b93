//! Sessions going from one world server to another: gives `handover.rs` its events and does what it orders.

use tidegate_types::{Cause, Epoch};

use super::servers::Role;
use super::{Core, Cx};
use crate::action::CommandOutcome;
use crate::decide::RoutePermit;
use crate::directory::{DirectoryOp, DirectoryOutcome};
use crate::handover::{End, Event, Handover, Kept, Order, Outcome, Reason, Seat, Step};
use crate::key::SessionKey;
use crate::message::{Place, Refusal, StateBlob, ToWorld};
use crate::session::{Search, State};

impl Core {
    pub(super) fn start_handover(
        &mut self,
        key: SessionKey,
        source: Seat,
        permit: RoutePermit,
        reason: Reason,
        cx: &mut Cx<'_>,
    ) {
        let instances = (self.servers.ready_instance(source.server), self.servers.ready_instance(permit.server()));
        let (Some(source_instance), Some(target_instance)) = instances else {
            // Both links are up: a home at rest is behind one, and permits are given for the other.
            self.counters.strays += 1;
            return;
        };
        self.counters.handovers_started += 1;
        let target = self.servers.seat(permit.server(), key, Role::Target);
        self.enter_instance(key, &permit);
        let session = &mut self.sessions[key.index()];
        cx.tell_world(source, ToWorld::Freeze { epoch: session.epoch });
        let epochs = (session.epoch, session.epoch.max(session.claimed).next());
        let (from, to) = ((source, source_instance), (target, target_instance));
        let handover = Handover::new(from, to, epochs, permit, reason, cx.now.mono);
        session.state = State::Moving(Box::new(handover));
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.dirty.insert(key);
    }

    fn enter_instance(&mut self, key: SessionKey, permit: &RoutePermit) {
        if let Some(place) = permit.place().filter(|p| p.instance.is_some()) {
            let instance = (permit.environment().clone(), place.clone());
            self.servers.enter_instance(&instance, permit.server(), key);
            self.sessions[key.index()].instances.push(instance);
        }
    }

    /// The session is there now: remembers the place, and which instances it is in.
    pub(super) fn note_place(&mut self, key: SessionKey, seat: Seat, place: Place) {
        let session = &mut self.sessions[key.index()];
        for instance in std::mem::take(&mut session.instances) {
            self.servers.leave_instance(&instance, key);
        }
        if let (Some(pin), Some(_)) = (&session.pin, &place.instance) {
            let instance = (pin.environment.clone(), place.clone());
            self.servers.enter_instance(&instance, seat.server, key);
            session.instances.push(instance);
        }
        session.doing.zone = place.zone.as_str().to_owned();
        let kind = if place.instance.is_some() { place.zone.as_str() } else { "shared" };
        session.doing.zone_kind = kind.to_owned();
        session.place = Some(place);
    }

    /// The world server says where the player is: it may have moved within the server. The name of an instance is not said;
    /// it is known if the gateway was asked for it, else the place is not known.
    pub(super) fn note_whereabouts(&mut self, key: SessionKey, seat: Seat) {
        let session = &self.sessions[key.index()];
        if !matches!(session.state, State::Playing { seat: home, .. } if home == seat) {
            return;
        }
        let Ok(zone) = tidegate_types::ZoneId::new(&session.doing.zone) else { return };
        let is_shared = session.doing.zone_kind == "shared";
        let in_kind = |place: &Place| place.instance.is_some() && place.zone.as_str() == session.doing.zone_kind;
        match &session.place {
            Some(place) if is_shared && place.instance.is_none() && place.zone == zone => {}
            Some(place) if !is_shared && in_kind(place) => {}
            Some(_) | None if is_shared => self.note_place(key, seat, Place { zone, instance: None }),
            Some(_) | None => {
                let session = &mut self.sessions[key.index()];
                session.place = None;
                for instance in std::mem::take(&mut session.instances) {
                    self.servers.leave_instance(&instance, key);
                }
            }
        }
    }

    pub(super) fn on_frozen(&mut self, seat: Seat, epoch: Epoch, blob: StateBlob, cx: &mut Cx<'_>) {
        let Some(key) = self.session_at(seat) else { return };
        let session = &self.sessions[key.index()];
        let State::Moving(h) = &session.state else {
            self.counters.strays += 1;
            return;
        };
        if h.source != seat || epoch != session.epoch {
            self.counters.strays += 1;
            return;
        }
        let environment = self.table.as_ref().and_then(|t| t.environment(h.permit.environment()));
        let readable = environment.is_none_or(|e| e.formats_read.is_empty() || e.formats_read.contains(&blob.format));
        let session = &mut self.sessions[key.index()];
        session.homeless = Some(cx.now.mono);
        // It comes after all that was sent before the freeze.
        session.window.settle_up();
        self.handover_event(key, Event::Frozen { blob, readable }, cx);
    }

    pub(super) fn on_freeze_refused(&mut self, seat: Seat, cx: &mut Cx<'_>) {
        if let Some(key) = self.moving_from(seat) {
            self.handover_event(key, Event::FreezeRefused, cx);
        }
    }

    pub(super) fn on_thawed(&mut self, seat: Seat) {
        let Some(key) = self.session_at(seat) else { return };
        if let State::Playing { seat: here, thawing } = &mut self.sessions[key.index()].state
            && *here == seat
        {
            *thawing = false;
        }
    }

    pub(super) fn on_prepared(&mut self, seat: Seat, cx: &mut Cx<'_>) {
        if let Some(key) = self.moving_to(seat) {
            self.handover_event(key, Event::Prepared, cx);
        }
    }

    pub(super) fn on_prepare_refused(&mut self, seat: Seat, reason: Refusal, cx: &mut Cx<'_>) {
        // After an `Abort` that crossed it, `Aborted` follows and frees the handle.
        if let Some(key) = self.moving_to(seat) {
            self.handover_event(key, Event::PrepareRefused(reason), cx);
        }
    }

    pub(super) fn on_activated(&mut self, seat: Seat, epoch: Epoch, place: Place, cx: &mut Cx<'_>) {
        let Some(key) = self.moving_to(seat) else { return };
        if epoch != self.sessions[key.index()].epoch {
            self.counters.strays += 1;
            return;
        }
        // The place is noted before the hand-over ends, for `Moved` to tell.
        self.sessions[key.index()].place = Some(place);
        self.handover_event(key, Event::Activated, cx);
    }

    /// The server has answered for good: the handle is free.
    pub(super) fn on_closed(&mut self, seat: Seat) {
        match self.servers.usage(seat.server, seat.handle) {
            Some(usage) if usage.role == Role::Closing => {
                self.servers.free(seat);
                self.serve = true;
            }
            Some(_) | None => self.counters.strays += 1,
        }
    }

    pub(super) fn on_handover_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        self.handover_event(key, Event::Timeout, cx);
    }

    pub(super) fn on_commit_answer(&mut self, key: SessionKey, outcome: DirectoryOutcome, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        match outcome {
            DirectoryOutcome::Found(_) => self.counters.strays += 1,
            DirectoryOutcome::Done(_) | DirectoryOutcome::Unavailable => {
                // Out of reach: this gateway holds the session, so its word is enough; the directory is told later.
                let State::Moving(h) = &session.state else { return };
                session.epoch = h.epochs.1;
                session.claimed = session.epoch;
                self.handover_event(key, Event::Committed, cx);
            }
            DirectoryOutcome::Conflict(entry) => {
                session.claimed = entry.epoch;
                let State::Moving(h) = &mut session.state else { return };
                if entry.epoch < h.epochs.1 && entry.epoch <= h.epochs.0 {
                    // The directory forgot: this gateway knows better. It goes upward from what is there.
                    h.ask = None;
                    self.commit(key, cx);
                } else {
                    // Somebody else tried for the player. Nobody can have it: the source holds it, frozen at this gateway's word.
                    self.handover_event(key, Event::Conflict, cx);
                }
            }
        }
    }

    fn moving_from(&mut self, seat: Seat) -> Option<SessionKey> {
        let key = self.session_at(seat)?;
        match &self.sessions[key.index()].state {
            State::Moving(h) if h.source == seat => Some(key),
            _ => {
                self.counters.strays += 1;
                None
            }
        }
    }

    fn moving_to(&mut self, seat: Seat) -> Option<SessionKey> {
        let key = self.session_at(seat)?;
        match &self.sessions[key.index()].state {
            State::Moving(h) if h.target == seat => Some(key),
            _ => {
                self.counters.strays += 1;
                None
            }
        }
    }

    /// Gives the hand-over an event and does what it orders.
    pub(super) fn handover_event(&mut self, key: SessionKey, event: Event, cx: &mut Cx<'_>) {
        let Some(session) = self.sessions.get_mut(key.index()) else { return };
        let State::Moving(handover) = &mut session.state else { return };
        let before = handover.step();
        let Outcome { orders, end, stray } = handover.on(event);
        if stray {
            self.counters.strays += 1;
            return;
        }
        if handover.step() != before {
            self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
        }
        let mut announce = false;
        for order in orders {
            if order == Order::AnnounceReady {
                announce = true;
            } else {
                self.obey(key, order, cx);
            }
        }
        match end {
            Some(end) => self.handover_ended(key, end, cx),
            None if announce => self.announce_ready(key, cx),
            None => {}
        }
    }

    fn obey(&mut self, key: SessionKey, order: Order, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let State::Moving(h) = &session.state else { return };
        let (source, target) = (h.source, h.target);
        match order {
            Order::Prepare(blob) => {
                let prepare = ToWorld::Prepare {
                    identity: session.identity(session.pin_by(&h.permit, cx.now.wall)),
                    epoch: h.epochs.1,
                    from: self.is_shared().then_some(h.epochs.0),
                    blob,
                    place: h.permit.place().cloned(),
                    cause: h.permit.cause(),
                    channel: session.window.channel(),
                };
                cx.tell_world(target, prepare);
            }
            Order::Commit => self.commit(key, cx),
            Order::Activate => {
                cx.tell_world(target, ToWorld::Activate { epoch: session.epoch });
                #[cfg(feature = "model")]
                if self.config.sabotage.thaw_after_commit {
                    cx.tell_world(source, ToWorld::Thaw { epoch: h.epochs.0 });
                }
            }
            Order::ReleaseSource => {
                #[cfg(feature = "model")]
                if self.config.sabotage.thaw_after_commit {
                    return;
                }
                cx.tell_world(source, ToWorld::Release { epoch: h.epochs.0 });
                self.servers.close(source);
            }
            Order::ThawSource => cx.tell_world(source, ToWorld::Thaw { epoch: session.epoch }),
            Order::AbortTarget => {
                cx.tell_world(target, ToWorld::Abort);
                self.servers.close(target);
            }
            Order::FreeTarget => {
                self.servers.free(target);
                self.serve = true;
            }
            Order::HangUpTarget => self.hang_up_unresponsive(target.server, cx),
            Order::AnnounceReady => self.announce_ready(key, cx),
        }
    }

    fn commit(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let State::Moving(h) = &session.state else { return };
        if let Some(ask) = h.ask {
            self.ask_again(ask, cx);
            return;
        }
        let (expected, to) = (session.claimed, h.epochs.1);
        let (server, environment) = (h.permit.server_id().clone(), h.permit.environment().clone());
        let home = self.home(key, server, h.target_instance, environment);
        let op = DirectoryOp::CompareAndSet { expected, to, home };
        let ask = self.ask(key, op, cx);
        let session = &mut self.sessions[key.index()];
        session.asked.push(to);
        if let State::Moving(h) = &mut session.state {
            h.ask = Some(ask);
        }
    }

    fn handover_ended(&mut self, key: SessionKey, end: End, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Moving(h) = &session.state else { return };
        let h = h.clone();
        self.dirty.insert(key);
        self.set_step(key, None);
        match end {
            End::Arrived => {
                self.counters.handovers_completed += 1;
                self.servers.set_role(h.target, Role::Home);
                let place = self.take_home(key, &h, cx);
                let session = &mut self.sessions[key.index()];
                (session.granted, session.stayed) = (Some(h.epochs.1), Some(h.epochs.1));
                session.asked.clear();
                self.tell_command(key, &h, CommandOutcome::Done, "", cx);
                if let Some(place) = place {
                    self.arrived(key, h.target, place, Some(h.permit.cause()), cx);
                }
            }
            End::Kept { why, thawing } => {
                self.sessions[key.index()].asked.retain(|asked| *asked != h.epochs.1);
                self.sessions[key.index()].state = State::Playing { seat: h.source, thawing };
                self.kept(key, &h, why, cx);
                if let Reason::Boundary { .. } = h.reason {
                    self.refuse_transfer(h.source, why.transfer_word(), cx);
                }
                self.stay(key, h.source, cx);
            }
            End::SourceGone(why) => {
                self.kept(key, &h, why, cx);
                self.lose(key, h.source.server, h.source_instance, Search::default(), cx);
            }
            End::TargetGone => {
                self.counters.handovers_restored += 1;
                self.take_home(key, &h, cx);
                self.doubt(key);
                self.tell_command(key, &h, CommandOutcome::Done, "the target was lost; restored from the save", cx);
                self.lose(key, h.target.server, h.target_instance, Search::default(), cx);
            }
            End::TargetRefused => {
                self.counters.handovers_restored += 1;
                self.take_home(key, &h, cx);
                self.doubt(key);
                self.tell_command(key, &h, CommandOutcome::Done, "the target would not; restored from the save", cx);
                let (server, instance) = (h.target.server, h.target_instance);
                let session = &mut self.sessions[key.index()];
                session.homeless.get_or_insert(cx.now.mono);
                // Not avoided: what it would not do with the state at hand it may well do with the saved one.
                session.state = State::Lost { server, instance, search: Search::default() };
                // By its own word it has the player no more: there is no lease to wait for.
                self.on_home_freed(key, cx);
            }
        }
    }

    /// The target is the home: pin and generation follow. Gives the place.
    fn take_home(&mut self, key: SessionKey, h: &Handover, cx: &Cx<'_>) -> Option<Place> {
        let session = &mut self.sessions[key.index()];
        let pin = session.pin_by(&h.permit, cx.now.wall);
        let crossed = session.pin.as_ref().is_some_and(|old| old.environment != pin.environment);
        let cause = h.permit.cause();
        if crossed && !(cause.is_boundary() || matches!(cause, Cause::Drain | Cause::Operator)) {
            self.counters.moved_without_cause += 1;
        }
        session.pin = Some(pin);
        session.generation = h.permit.generation();
        session.parked = false;
        session.state = State::Playing { seat: h.target, thawing: false };
        if matches!(h.step(), Step::Activating { .. }) && session.place.is_none() {
            session.place = h.permit.place().cloned();
        }
        session.place.clone()
    }

    /// The player plays on where it was.
    fn stay(&mut self, key: SessionKey, seat: Seat, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        session.homeless = None;
        let (pin, place) = (session.pin.clone(), session.place.clone());
        let going = std::mem::take(&mut session.instances);
        for instance in going {
            let here = pin.as_ref().is_some_and(|p| p.environment == instance.0) && place.as_ref() == Some(&instance.1);
            if here {
                self.sessions[key.index()].instances.push(instance);
            } else {
                self.servers.leave_instance(&instance, key);
            }
        }
        if self.sessions[key.index()].restart.is_some() {
            self.begin_restart(key, seat, cx);
            return;
        }
        self.forward_queued(key, seat, cx);
        self.sync_parking(key, cx);
        if let Some(ending) = self.sessions[key.index()].ending.take() {
            self.end(key, ending, cx);
        }
    }

    fn kept(&mut self, key: SessionKey, h: &Handover, why: Kept, cx: &mut Cx<'_>) {
        self.counters.handovers_kept_in_place += 1;
        let counter = match why {
            Kept::FreezeRefused => &mut self.counters.kept_freeze_refused,
            Kept::PrepareRefused => &mut self.counters.kept_prepare_refused,
            Kept::Format => &mut self.counters.kept_format,
            Kept::TimedOut => &mut self.counters.kept_timed_out,
            Kept::SourceLost => &mut self.counters.kept_source_lost,
            Kept::TargetLost => &mut self.counters.kept_target_lost,
            Kept::Group => &mut self.counters.kept_group,
            Kept::Ended => &mut self.counters.kept_ended,
            Kept::Conflict => &mut self.counters.kept_conflict,
        };
        *counter += 1;
        self.tell_command(key, h, CommandOutcome::KeptInPlace, why.as_str(), cx);
        if let Reason::Boundary { group } = h.reason {
            self.group_failed(key, group, cx);
        }
    }

    fn tell_command(&mut self, key: SessionKey, h: &Handover, outcome: CommandOutcome, why: &str, cx: &mut Cx<'_>) {
        if let Reason::Command { id } = &h.reason {
            let session = self.sessions[key.index()].id;
            self.command_done(id, session, outcome, why, cx);
        }
    }
}
