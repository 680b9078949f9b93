//! How a world speaks: [`Cx`] inside a callback, [`Outbox`] from any thread, [`Reply`] for an answer it owes. All three
//! write to one queue, so that what a world says is carried out in the order in which it said it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate_types::{Cause, Mono};
use tokio::sync::Notify;

use crate::seats::Seats;
use crate::world::{Frozen, Place, PlayerStatus, Refusal, Seat, Zone};

/// Bytes that may wait in the queue: what a world of thousands of players says in a second or two. A world that gets so
/// far ahead of its host has lost control of its own threads.
const QUEUE_LIMIT: usize = 64 * 1024 * 1024;
/// What a command costs beyond its bytes, for the limit.
const COMMAND_OVERHEAD: usize = 64;

/// Something a world said.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Seat, Bytes),
    Datagram(Seat, Bytes),
    Transfer(Vec<Seat>, Place, Cause),
    Status(Seat, PlayerStatus),
    Eject(Seat, String),
    Answer(Question, Answer),
}

/// What an answer is for. `turn` names the very request, for seats are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Seat { seat: Seat, turn: u64 },
    Barrier { turn: u64 },
    Stopping,
}

mod sealed {
    use crate::world::{Frozen, Place, Refusal, Zone};

    /// The answers there are.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Answer {
        Placed(Result<Place, Refusal>),
        State(Result<Frozen, Refusal>),
        Prepared(Result<(), Refusal>),
        Zones(Result<Vec<Zone>, String>),
        Done,
    }

    pub trait Sealed {
        fn into_answer(self) -> Answer;
        fn dropped() -> Answer;
    }
}
pub(crate) use sealed::Answer;

/// What a [`Reply`] may carry.
pub trait Answerable: sealed::Sealed {}

fn dropped_refusal() -> Refusal {
    Refusal::Game("dropped".to_owned())
}

macro_rules! answerable {
    ($type:ty, $variant:expr, $dropped:expr) => {
        impl Answerable for $type {}
        impl sealed::Sealed for $type {
            fn into_answer(self) -> Answer {
                $variant(self)
            }
            fn dropped() -> Answer {
                $variant($dropped)
            }
        }
    };
}

answerable!(Result<Place, Refusal>, Answer::Placed, Err(dropped_refusal()));
answerable!(Result<Frozen, Refusal>, Answer::State, Err(dropped_refusal()));
answerable!(Result<(), Refusal>, Answer::Prepared, Err(dropped_refusal()));
answerable!(Result<Vec<Zone>, String>, Answer::Zones, Err("dropped".to_owned()));
answerable!((), |()| Answer::Done, ());

/// An answer that the world owes. May be sent from any thread; dropping it refuses.
#[derive(Debug)]
pub struct Reply<T: Answerable> {
    queue: Arc<Queue>,
    question: Option<Question>,
    answer: std::marker::PhantomData<fn(T)>,
}

impl<T: Answerable> Reply<T> {
    pub(crate) fn new(queue: &Arc<Queue>, question: Question) -> Self {
        Self { queue: queue.clone(), question: Some(question), answer: std::marker::PhantomData }
    }

    /// Answers.
    pub fn send(mut self, answer: T) {
        if let Some(question) = self.question.take() {
            self.queue.push_always(Command::Answer(question, answer.into_answer()));
        }
    }
}

impl<T: Answerable> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(question) = self.question.take() {
            self.queue.push_always(Command::Answer(question, T::dropped()));
        }
    }
}

/// What a world said and its host has not carried out yet.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    pub(crate) ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<(Command, usize)>,
    bytes: usize,
    /// Players for whom a frame could not be taken; their stream has a hole, so their session must end.
    broken: Vec<Seat>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers are few (one a request) and must not be lost, so they pass the limit.
    fn push_always(&self, command: Command) {
        self.lock().commands.push_back((command, 0));
        self.ready.notify_one();
    }

    fn push(&self, command: Command, bytes: usize, breaks: Option<Seat>) {
        let cost = bytes + COMMAND_OVERHEAD;
        {
            let mut state = self.lock();
            if state.bytes + cost > QUEUE_LIMIT {
                if let Some(seat) = breaks
                    && !state.broken.contains(&seat)
                {
                    state.broken.push(seat);
                }
                return;
            }
            state.bytes += cost;
            state.commands.push_back((command, cost));
        }
        self.ready.notify_one();
    }

    pub(crate) fn pop(&self) -> Option<Command> {
        let mut state = self.lock();
        if let Some((command, cost)) = state.commands.pop_front() {
            state.bytes -= cost;
            return Some(command);
        }
        state.broken.pop().map(|seat| Command::Eject(seat, "outbox_full".to_owned()))
    }
}

/// Speaks for the world from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(crate) queue: Arc<Queue>,
}

impl Outbox {
    /// Sends a reliable frame. While the player's lease is over or the link is down it is held and sent later, in order.
    /// When more waits than a host may keep (64 MiB), the session is ended instead of losing a frame.
    pub fn send(&self, seat: Seat, body: &Bytes) {
        self.queue.push(Command::Send(seat, body.clone()), body.len(), Some(seat));
    }

    /// Sends an unreliable message; lost when the player cannot be reached now.
    pub fn datagram(&self, seat: Seat, payload: &Bytes) {
        self.queue.push(Command::Datagram(seat, payload.clone()), payload.len(), None);
    }

    /// Asks for these players (at most 64) to be moved over a boundary, all to one server. They go on playing here until
    /// they are frozen; `World::transfer_refused` is called for each who stays.
    pub fn transfer(&self, seats: &[Seat], to: Place, cause: Cause) {
        self.queue.push(Command::Transfer(seats.to_vec(), to, cause), seats.len() * 4, None);
    }

    /// Tells what a player is doing. Call it when it changes; the host repeats it as needed.
    pub fn status(&self, seat: Seat, status: PlayerStatus) {
        self.queue.push(Command::Status(seat, status), 64, None);
    }

    /// Asks for a session to be ended; `World::leave` follows.
    pub fn eject(&self, seat: Seat, reason: &str) {
        self.queue.push(Command::Eject(seat, reason.to_owned()), reason.len(), None);
    }
}

/// Speaks for the world inside a callback, and answers questions about its players.
#[derive(Debug)]
pub struct Cx<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) seats: &'a Seats,
    pub(crate) leases: &'a dyn Leases,
    pub(crate) now: Mono,
}

/// Until when the players of a link may be simulated.
pub(crate) trait Leases: std::fmt::Debug {
    fn until(&self, link: crate::seats::LinkKey) -> Option<Mono>;
}

impl Cx<'_> {
    /// As [`Outbox::send`].
    pub fn send(&mut self, seat: Seat, body: &Bytes) {
        self.outbox.send(seat, body);
    }

    /// As [`Outbox::datagram`].
    pub fn datagram(&mut self, seat: Seat, payload: &Bytes) {
        self.outbox.datagram(seat, payload);
    }

    /// As [`Outbox::transfer`].
    pub fn transfer(&mut self, seats: &[Seat], to: Place, cause: Cause) {
        self.outbox.transfer(seats, to, cause);
    }

    /// As [`Outbox::status`].
    pub fn status(&mut self, seat: Seat, status: PlayerStatus) {
        self.outbox.status(seat, status);
    }

    /// As [`Outbox::eject`].
    pub fn eject(&mut self, seat: Seat, reason: &str) {
        self.outbox.eject(seat, reason);
    }

    /// A way to say the same from any thread, later.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// True when the player may be simulated now: in play, not parked, lease valid.
    #[must_use]
    pub fn is_live(&self, seat: Seat) -> bool {
        self.seats.is_live(seat) && self.lease_end(seat).is_some_and(|until| self.now < until)
    }

    /// When the lease of the player's link ends or ended (it is renewed all the time); `None` while there is no link.
    /// Nothing may be done for the player after it.
    #[must_use]
    pub fn lease_end(&self, seat: Seat) -> Option<Mono> {
        self.seats.link_of(seat).and_then(|(link, _)| self.leases.until(link))
    }

    /// The time of this callback.
    #[must_use]
    pub fn now(&self) -> Mono {
        self.now
    }
}
