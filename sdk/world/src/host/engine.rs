//! The loop's state: it owns the world, the seats and the links, carries out what the seat machine decides, and lets nothing
//! happen for a player outside the lease. What moves it stands in `events`, `requests`, `commands` and `directives`.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_proto::CloseCode;
use tidegate_types::{Clock, Mono, SystemClock};

use super::channel::Counted;
use super::directives::Duties;
use super::links::{Links, Outgoing};
use super::sessions::{Kept, Sessions};
use crate::config::Config;
use crate::convert;
use crate::cx::{Cx, Leases, Outbox, Question, Reply};
use crate::seats::{At, LinkKey, Outward, Request, Said, Seats, Step, Tell};
use crate::world::{Seat, World};

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
            Step::Open { seat, channel } => self.sessions.open(seat, Counted::open(&channel)),
            Step::Resume { seat, channel } => self.sessions.get_mut(seat).channel.resume(channel),
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
            Request::Reclaim(epoch) => world.reclaim(cx, seat, epoch, Reply::new(&queue, question)),
        });
    }

    pub(super) fn say(&mut self, at: At, what: Said) {
        let channel = match &what {
            Said::Attached { .. } => self.seats.seat_at(at).map(|seat| self.sessions.get_mut(seat).channel.attached()),
            Said::TakenOver { .. } | Said::Eject(_) => {
                if let Some(link) = self.links.get_mut(at.0).filter(|_| self.seats.seat_at(at).is_none()) {
                    link.forget_frames(at.1);
                }
                None
            }
            _ => None,
        };
        self.emit(at, Outgoing::Control(convert::said(at.1, what, channel)));
    }

    pub(super) fn emit(&mut self, (link, handle): At, outgoing: Outgoing) {
        let now = self.now();
        if let Some(link) = self.links.get_mut(link) {
            link.emit(handle, outgoing, now);
        }
    }

    /// The player is in play, perhaps on another link: what waited may flow.
    fn flush(&mut self, seat: Seat) {
        self.send_all(seat);
        self.sessions.get_mut(seat).forget_sent();
        self.tell_status(seat, true);
        while self.may_act(seat)
            && let Some(body) = self.sessions.get_mut(seat).to_world.pop()
        {
            self.with(|world, cx| world.message(cx, seat, body));
        }
    }

    /// Sends what waits for the player, if it may go now.
    pub(super) fn send_all(&mut self, seat: Seat) {
        let Outward::Send(at) = self.seats.outward(seat) else { return };
        let channel = &mut self.sessions.get_mut(seat).channel;
        let frames = channel.send_all();
        if channel.breaks() {
            return self.decide_eject(seat);
        }
        for body in frames {
            self.emit(at, Outgoing::Game(body));
        }
    }

    /// True while the player may be simulated.
    pub(super) fn may_act(&self, seat: Seat) -> bool {
        let until = self.seats.link_of(seat).and_then(|(link, _)| self.links.until(link));
        self.seats.is_live(seat) && until.is_some_and(|until| self.now() < until)
    }

    pub(super) fn hold_inward(&mut self, seat: Seat, body: Bytes) {
        match self.sessions.get_mut(seat).to_world.push(body) {
            Kept::Yes => self.sessions.received(seat),
            Kept::No => self.decide_eject(seat),
            Kept::Never => {}
        }
    }

    /// A stream with a hole in it must end. By way of the queue, so that a decision being carried out is not disturbed.
    pub(super) fn decide_eject(&self, seat: Seat) {
        tracing::warn!(seat = seat.0, "too many frames wait for a player; the session is ended");
        self.outbox.eject(seat, "too_many_frames_wait");
    }

    pub(super) fn close(&mut self, key: LinkKey, code: CloseCode, reason: &str) {
        if let Some(link) = self.links.get_mut(key) {
            link.close(code, reason);
        }
    }
}
