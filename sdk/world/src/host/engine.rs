//! The loop's state and its moves: it owns the world, the seats and the links, carries out what the seat machine decides,
//! and lets nothing happen for a player outside the lease.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_link::Event;
use tidegate_proto::CloseCode;
use tidegate_proto::convert::BadField;
use tidegate_proto::v1::{self, GatewayToWorld, gateway_to_world, world_to_gateway};
use tidegate_types::{Clock, Epoch, Mono, SessionId, SystemClock};

use super::directives::Duties;
use super::links::{Arrived, Links, Outgoing};
use super::sessions::Sessions;
use crate::config::Config;
use crate::convert;
use crate::cx::{Command, Cx, Leases, Outbox, Question, Reply};
use crate::seats::{At, Inward, LinkKey, MAX_HANDLE, Outward, Request, Said, Seats, Step, Tell};
use crate::world::{LeaveReason, Place, Refusal, Seat, World};

/// Most players of one transfer (the protocol's limit).
const MAX_TRANSFER: usize = 64;
/// Commands of the world carried out before the loop looks at its other sources again.
const COMMANDS: usize = 4096;

pub(super) struct Engine<W> {
    pub(super) config: Arc<Config>,
    pub(super) world: W,
    pub(super) seats: Seats,
    pub(super) links: Links,
    pub(super) sessions: Sessions,
    pub(super) outbox: Outbox,
    pub(super) duties: Duties,
    /// Kept to spare allocations.
    steps: Vec<Step>,
}

impl<W: World> Engine<W> {
    pub(super) fn new(config: Arc<Config>, world: W, seats: Seats, links: Links, duties: Duties) -> Self {
        let outbox = Outbox { queue: Arc::default() };
        Self { config, world, seats, links, sessions: Sessions::default(), outbox, duties, steps: Vec::new() }
    }

    /// The time now. Read anew for every callback: a process may be paused between any two.
    pub(super) fn now(&self) -> Mono {
        SystemClock.now().mono
    }

    /// Calls the world.
    pub(super) fn with<R>(&mut self, call: impl FnOnce(&mut W, &mut Cx<'_>) -> R) -> R {
        let now = self.now();
        let mut cx = Cx { outbox: &self.outbox, seats: &self.seats, leases: &self.links, now };
        call(&mut self.world, &mut cx)
    }

    // Links.

    pub(super) fn arrived(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Up { link, hello } => {
                let gateway = hello.gateway_id.clone();
                let now = self.now();
                if let Some(key) = self.links.add(link, hello, now) {
                    tracing::info!(%gateway, link = key.0, "link is up");
                    self.seats.link_up(key);
                    let seats = &self.seats;
                    self.links.heartbeats(now, || seats.population().players);
                    self.tell_roster(key);
                }
            }
            Arrived::Events { key, events } => {
                for event in events {
                    self.event(key, event);
                }
            }
            Arrived::Down { key } => self.link_down(key),
        }
    }

    fn tell_roster(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        for held in self.seats.roster() {
            let _ = link.say(0, world_to_gateway::Message::Resident(convert::resident(&held)));
        }
        let highest_epoch = self.seats.highest_epoch().0;
        let _ = link.say(0, world_to_gateway::Message::RosterEnd(v1::RosterEnd { highest_epoch }));
        self.ask_owners(key);
    }

    /// Asks about players who are frozen or prepared and whose gateway is gone.
    pub(super) fn ask_owners(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        for held in self.seats.unresolved() {
            let _ = link.say(0, world_to_gateway::Message::WhoOwns(convert::who_owns(&held)));
        }
    }

    fn link_down(&mut self, key: LinkKey) {
        let Some(mut link) = self.links.remove(key) else { return };
        tracing::info!(gateway = %link.gateway, link = key.0, "link is down; its players are parked");
        // What never went out, or was never looked at, stays with the player. Requests die with their link: the gateway
        // knows that it lost them.
        for (handle, outgoing) in link.take_held() {
            if let (Outgoing::Game(body), Some(seat)) = (outgoing, self.seats.seat_at((key, handle))) {
                self.hold_outward(seat, body);
            }
        }
        while let Some(event) = link.next_deferred() {
            if let Event::Game { handle, body } = event
                && let Some(seat) = self.seats.seat_at((key, handle))
            {
                self.hold_inward(seat, body);
            }
        }
        self.decide(|seats, steps| seats.link_down(key, steps));
    }

    /// Tells the seats where a lease has ended or is valid again. Called before anything that a lease allows.
    pub(super) fn check_leases(&mut self) {
        let now = self.now();
        while let Some((key, lapsed)) = self.links.changed_lease(now) {
            let Some(link) = self.links.get_mut(key) else { return };
            link.lapsed = lapsed;
            if lapsed {
                tracing::warn!(gateway = %link.gateway, "lease is over; its players are parked");
            } else {
                // First what was said before, then what is said from now on.
                link.flush(now);
            }
            self.decide(|seats, steps| seats.lease(key, lapsed, steps));
            if !lapsed {
                self.catch_up(key);
            }
        }
    }

    /// Handles what waited while nothing could be done for the link's players.
    pub(super) fn catch_up(&mut self, key: LinkKey) {
        while self.is_open(key)
            && let Some(event) = self.links.get_mut(key).and_then(super::links::OpenLink::next_deferred)
        {
            self.handle(key, event);
        }
    }

    fn is_open(&mut self, key: LinkKey) -> bool {
        let now = self.now();
        let standing_still = self.duties.standing_still();
        !standing_still && self.links.get_mut(key).is_some_and(|link| !link.lapsed && link.lease_is_valid(now))
    }

    fn event(&mut self, key: LinkKey, event: Event<GatewayToWorld>) {
        if let Event::Control { message: GatewayToWorld { message: Some(message) }, .. } = &event {
            if let gateway_to_world::Message::HeartbeatAck(ack) = message {
                if let Some(link) = self.links.get_mut(key) {
                    link.answered(ack.sequence);
                }
                return self.check_leases();
            }
            if self.duties.standing_still() && self.refuse_now(key, message) {
                return;
            }
        }
        self.check_leases();
        let waiting = self.links.get_mut(key).is_some_and(|link| !link.deferred.is_empty());
        if waiting || !self.is_open(key) {
            if !matches!(event, Event::Datagram { .. })
                && let Some(link) = self.links.get_mut(key)
            {
                link.defer(event);
            }
        } else {
            self.handle(key, event);
        }
    }

    /// While the world stands still new players and hand-overs are refused at once, so that nobody waits in vain.
    fn refuse_now(&mut self, key: LinkKey, message: &gateway_to_world::Message) -> bool {
        use gateway_to_world::Message;
        let (handle, what) = match message {
            Message::Attach(attach) if !self.is_known(attach) => {
                (attach.handle, Said::AttachRefused(Refusal::NotReady))
            }
            Message::Prepare(prepare) => (prepare.handle, Said::PrepareRefused(Refusal::NotReady)),
            Message::Freeze(freeze) => (freeze.handle, Said::FreezeRefused(Refusal::NotReady)),
            _ => return false,
        };
        self.say((key, handle), what);
        true
    }

    /// True for a session that is held here: its `Attach` only binds it again.
    fn is_known(&self, attach: &v1::Attach) -> bool {
        let session = attach.identity.as_ref().and_then(|identity| SessionId::from_slice(&identity.session_id));
        self.seats.roster().any(|held| Some(held.who.session) == session && held.epoch.0 == attach.epoch)
    }

    // What gateways say.

    fn handle(&mut self, key: LinkKey, event: Event<GatewayToWorld>) {
        match event {
            Event::Game { handle, body } => self.game((key, handle), body),
            Event::Datagram { handle, payload } => {
                if let Inward::Deliver(seat) = self.seats.inward((key, handle))
                    && self.may_act(seat)
                {
                    self.with(|world, cx| world.datagram(cx, seat, payload));
                }
            }
            Event::Control { message: GatewayToWorld { message: Some(message) }, .. } => self.request(key, message),
            Event::Control { message: GatewayToWorld { message: None }, .. } => {
                self.close(key, CloseCode::BadMessage, "empty message");
            }
        }
        self.drain();
    }

    fn game(&mut self, at: At, body: Bytes) {
        match self.seats.inward(at) {
            Inward::Deliver(seat) if self.may_act(seat) && self.sessions.get_mut(seat).to_world.is_empty() => {
                self.with(|world, cx| world.message(cx, seat, body));
            }
            Inward::Deliver(seat) | Inward::Hold(seat) => self.hold_inward(seat, body),
            Inward::Drop => tracing::debug!(handle = at.1, "frame for nobody in play here"),
        }
    }

    fn request(&mut self, key: LinkKey, message: gateway_to_world::Message) {
        use gateway_to_world::Message;
        let ready = self.duties.ready();
        match message {
            Message::Attach(attach) => {
                let at = (key, attach.handle);
                if attach.handle > MAX_HANDLE {
                    return self.close(key, CloseCode::BadMessage, "handle too large");
                }
                match convert::attach(attach) {
                    Ok(request) => self.decide(|seats, steps| seats.attach(at, request, ready, steps)),
                    Err(bad) => self.bad_request(at, &bad, Said::AttachRefused),
                }
            }
            Message::Prepare(prepare) => {
                let at = (key, prepare.handle);
                if prepare.handle > MAX_HANDLE {
                    return self.close(key, CloseCode::BadMessage, "handle too large");
                }
                match convert::prepare(prepare) {
                    Ok(request) => self.decide(|seats, steps| seats.prepare(at, request, ready, steps)),
                    Err(bad) => self.bad_request(at, &bad, Said::PrepareRefused),
                }
            }
            Message::Park(m) => self.decide(|seats, steps| seats.park((key, m.handle), true, steps)),
            Message::Unpark(m) => self.decide(|seats, steps| seats.park((key, m.handle), false, steps)),
            Message::Leave(m) => {
                let reason = LeaveReason::from_word(&m.reason);
                self.decide(|seats, steps| seats.leave((key, m.handle), reason, steps));
            }
            Message::Freeze(m) => {
                self.decide(|seats, steps| seats.freeze((key, m.handle), Epoch(m.epoch), ready, steps));
            }
            Message::Thaw(m) => self.decide(|seats, steps| seats.thaw((key, m.handle), steps)),
            Message::Release(m) => self.decide(|seats, steps| seats.release((key, m.handle), steps)),
            Message::Activate(m) => {
                self.decide(|seats, steps| seats.activate((key, m.handle), Epoch(m.epoch), steps));
            }
            Message::Abort(m) => self.decide(|seats, steps| seats.abort((key, m.handle), steps)),
            Message::Notice(m) => {
                if let Some(seat) = self.seats.seat_at((key, m.handle)) {
                    let remaining = std::time::Duration::from_millis(m.remaining_ms);
                    self.with(|world, cx| world.notice(cx, seat, &m.text, remaining));
                }
            }
            Message::TransferRefused(m) => {
                if let Some(seat) = self.seats.seat_at((key, m.handle)) {
                    self.with(|world, cx| world.transfer_refused(cx, seat, &m.reason));
                }
            }
            Message::Owner(m) => {
                let mine = m.server_id == self.config.server.as_str();
                if let Some(session) = SessionId::from_slice(&m.session_id) {
                    let at = (key, m.handle);
                    self.decide(|seats, steps| seats.owner(at, session, Epoch(m.epoch), mine, steps));
                }
            }
            // Answered where events come in; a second hello has no meaning.
            Message::HeartbeatAck(_) | Message::Hello(_) => {}
        }
    }

    fn bad_request(&mut self, at: At, bad: &BadField, said: fn(Refusal) -> Said) {
        tracing::warn!(handle = at.1, field = bad.field, why = %bad.why, "gateway sent a bad request");
        self.say(at, said(Refusal::Game(bad.to_string())));
    }

    // What the world says.

    /// Carries out what the world has said; false when more waits.
    pub(super) fn drain(&mut self) -> bool {
        for _ in 0..COMMANDS {
            match self.outbox.queue.pop() {
                Some(command) => self.command(command),
                None => return true,
            }
        }
        false
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(seat, body) => self.send(seat, body),
            Command::Datagram(seat, payload) => {
                if let Outward::Send((link, handle)) = self.seats.outward(seat) {
                    let now = self.now();
                    if let Some(link) = self.links.get_mut(link) {
                        link.datagram(handle, &payload, now);
                    }
                }
            }
            Command::Transfer(seats, to, cause) => self.transfer(&seats, &to, cause),
            Command::Status(seat, status) => {
                if self.seats.link_of(seat).is_some() || self.seats.outward(seat) != Outward::Drop {
                    self.seats.set_zone(seat, status.zone.clone());
                    let now = self.now();
                    let news = self.sessions.get_mut(seat).set_status(status, now);
                    if news {
                        self.tell_status(seat, true);
                    }
                }
            }
            Command::Eject(seat, reason) => self.decide(|seats, steps| seats.eject(seat, reason, steps)),
            Command::Answer(Question::Seat { seat, turn }, answer) => {
                self.decide(|seats, steps| seats.answered(seat, turn, answer, steps));
            }
            Command::Answer(Question::Barrier { turn }, answer) => self.barrier_answered(turn, answer),
            Command::Answer(Question::Stopping, _) => self.duties.world_is_saved(),
        }
    }

    fn send(&mut self, seat: Seat, body: Bytes) {
        match self.seats.outward(seat) {
            Outward::Send((link, handle)) if self.sessions.get_mut(seat).to_player.is_empty() => {
                self.emit((link, handle), Outgoing::Game(body));
            }
            Outward::Send(_) | Outward::Hold => self.hold_outward(seat, body),
            Outward::Drop => tracing::debug!(seat = seat.0, "frame to a player who is not here"),
        }
    }

    fn transfer(&mut self, seats: &[Seat], to: &Place, cause: tidegate_types::Cause) {
        let mut by_link: Vec<(LinkKey, Vec<u32>)> = Vec::new();
        for seat in seats {
            let at = self.seats.link_of(*seat).filter(|_| self.seats.is_live(*seat));
            match at {
                Some((link, handle)) if seats.len() <= MAX_TRANSFER => {
                    match by_link.iter_mut().find(|(key, _)| *key == link) {
                        Some((_, handles)) => handles.push(handle),
                        None => by_link.push((link, vec![handle])),
                    }
                }
                Some(_) => self.with(|world, cx| world.transfer_refused(cx, *seat, "too_many")),
                None => self.with(|world, cx| world.transfer_refused(cx, *seat, "not_in_play")),
            }
        }
        for (link, handles) in by_link {
            // On the stream of the first; the gateway decides for all when it has read it.
            let first = handles[0];
            let to = Some(convert::place_out(to));
            let message = v1::Transfer { handles, to, cause: v1::Cause::from(cause).into() };
            self.emit((link, first), Outgoing::Control(world_to_gateway::Message::Transfer(message)));
        }
    }

    /// Tells the gateway what a player is doing, if it should hear it now.
    pub(super) fn tell_status(&mut self, seat: Seat, news: bool) {
        let Outward::Send(at) = self.seats.outward(seat) else {
            return self.sessions.get_mut(seat).forget_sent();
        };
        let now = self.now();
        if let Some(status) = self.sessions.get_mut(seat).due_status(now, news) {
            let message = world_to_gateway::Message::Status(convert::status(at.1, &status));
            self.emit(at, Outgoing::Control(message));
        }
    }

    // Carrying out.

    /// Lets the seat machine decide and carries it out.
    pub(super) fn decide(&mut self, decision: impl FnOnce(&mut Seats, &mut Vec<Step>)) {
        let mut steps = std::mem::take(&mut self.steps);
        decision(&mut self.seats, &mut steps);
        for step in steps.drain(..) {
            self.carry_out(step);
        }
        self.steps = steps;
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Ask { seat, turn, request } => self.ask(seat, turn, request),
            Step::Tell { seat, what } => self.with(|world, cx| match what {
                Tell::Park => world.park(cx, seat),
                Tell::Unpark => world.unpark(cx, seat),
                Tell::Thaw => world.thaw(cx, seat),
                Tell::Release => world.release(cx, seat),
                Tell::Abort => world.abort(cx, seat),
            }),
            Step::Say { at, what } => self.say(at, what),
            Step::Flush(seat) => self.flush(seat),
            Step::Vacated(seat) => self.sessions.forget(seat),
        }
    }

    fn ask(&mut self, seat: Seat, turn: u64, request: Request) {
        let queue = self.outbox.queue.clone();
        let question = Question::Seat { seat, turn };
        self.with(|world, cx| match request {
            Request::Attach(arrival) => world.attach(cx, arrival, Reply::new(&queue, question)),
            Request::Leave(reason) => world.leave(cx, seat, reason, Reply::new(&queue, question)),
            Request::Freeze => world.freeze(cx, seat, Reply::new(&queue, question)),
            Request::Prepare(arrival, state) => world.prepare(cx, arrival, state, Reply::new(&queue, question)),
            Request::Activate(epoch) => world.activate(cx, seat, epoch, Reply::new(&queue, question)),
        });
    }

    fn say(&mut self, at: At, what: Said) {
        self.emit(at, Outgoing::Control(convert::said(at.1, what)));
    }

    fn emit(&mut self, (link, handle): At, outgoing: Outgoing) {
        let now = self.now();
        if let Some(link) = self.links.get_mut(link) {
            link.emit(handle, outgoing, now);
        }
    }

    /// The player is in play, perhaps on another link: what waited may flow.
    fn flush(&mut self, seat: Seat) {
        while let Outward::Send(at) = self.seats.outward(seat)
            && let Some(body) = self.sessions.get_mut(seat).to_player.pop()
        {
            self.emit(at, Outgoing::Game(body));
        }
        self.sessions.get_mut(seat).forget_sent();
        self.tell_status(seat, true);
        while self.may_act(seat)
            && let Some(body) = self.sessions.get_mut(seat).to_world.pop()
        {
            self.with(|world, cx| world.message(cx, seat, body));
        }
    }

    /// True while the player may be simulated.
    fn may_act(&self, seat: Seat) -> bool {
        let until = self.seats.link_of(seat).and_then(|(link, _)| self.links.until(link));
        self.seats.is_live(seat) && until.is_some_and(|until| self.now() < until)
    }

    fn hold_outward(&mut self, seat: Seat, body: Bytes) {
        if !self.sessions.get_mut(seat).to_player.push(body) {
            self.decide_eject(seat);
        }
    }

    fn hold_inward(&mut self, seat: Seat, body: Bytes) {
        if !self.sessions.get_mut(seat).to_world.push(body) {
            self.decide_eject(seat);
        }
    }

    /// A stream with a hole in it must end. By way of the queue, so that a decision being carried out is not disturbed.
    fn decide_eject(&self, seat: Seat) {
        tracing::warn!(seat = seat.0, "too many frames wait for a player; the session is ended");
        self.outbox.eject(seat, "too_many_frames_wait");
    }

    pub(super) fn close(&mut self, key: LinkKey, code: CloseCode, reason: &str) {
        if let Some(link) = self.links.get_mut(key) {
            link.close(code, reason);
        }
    }
}
