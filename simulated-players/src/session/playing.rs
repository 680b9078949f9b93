//! One player in play: what it does and when, until it logs out.

mod hearing;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::RngExt as _;
use tidegate_player::{Event, Events, Session, Welcome};
use tidegate_proto::stub::v1 as game;
use tidegate_proto::stub::v1::action::Kind;
use tidegate_types::{Clock as _, EnvironmentId, ServerId, SystemClock};
use tokio::time::Instant;

use super::witness::Place;
use super::{Leash, World};
use crate::behaviour::Behaviour;
use crate::ledger::Ledger;
use crate::report::SessionRecord;
use crate::roster::Person;

/// A player who hears nothing of where it is for this long (a connection that was taken over had heard it) comes again.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A session in play.
pub(super) struct Playing<'a> {
    world: &'a World,
    person: &'a mut Person,
    behaviour: Behaviour,
    ledger: Ledger,
    record: SessionRecord,
    session: Session,
    began: Instant,
    leash: Leash,
    environment: EnvironmentId,
    /// The session and its gateway, for whoever judges the run.
    place: Place,
    /// The world server that was the home last.
    server: ServerId,
    /// Between two positions; `None`: it sends none.
    position_every: Option<Duration>,
    next_position: Instant,
    positions: u64,
    holding: bool,
    reconnecting: bool,
    /// It wants to log out, since then; it waits for its last answers.
    leaving: Option<Instant>,
    /// The logout was sent.
    logging_out: bool,
    /// It leaves because the simulation ends.
    rest: Option<Rest>,
    /// Broken promises that the live figures know of.
    broken: u64,
    party_entries: u64,
}

/// How far a player has come at the simulation's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Some answers are missing.
    Coming,
    /// None are; others are still trading.
    Resting,
    /// Nobody is; what do I own?
    Asking,
}

/// What the player itself has to do next.
enum Due {
    Act,
    Position,
    Leave,
    SettleOver,
}

impl<'a> Playing<'a> {
    pub(super) fn new(
        world: &'a World,
        person: &'a mut Person,
        behaviour: Behaviour,
        session: Session,
        welcome: &Welcome,
        leash: Leash,
    ) -> Self {
        let environment = welcome.home.environment.clone();
        let rate = world.config.hz * person.profile.positions;
        let position_every = (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate));
        let now = Instant::now();
        let first = position_every.unwrap_or_default().mul_f64(rand::rng().random_range(0.0..1.0));
        world.books.open().began(&environment);
        leash.set_environment(Some(environment.clone()));
        Self {
            ledger: Ledger::new(person.memory.clone(), welcome.home.epoch),
            record: SessionRecord {
                hello_sent: welcome.hello_sent,
                welcomed: SystemClock.now().wall,
                environment: environment.clone(),
                generation: welcome.home.generation,
                moves: Vec::new(),
                ended: None,
            },
            // The leader's latest door may still be open: it asked before this member came, and the world may answer after.
            party_entries: person
                .party
                .as_ref()
                .map_or(0, |party| party.entries.load(Ordering::Relaxed).saturating_sub(1)),
            world,
            person,
            behaviour,
            session,
            began: now,
            leash,
            environment,
            place: Place::of(welcome),
            server: welcome.home.server.clone(),
            position_every,
            next_position: now + first,
            positions: 0,
            holding: false,
            reconnecting: false,
            leaving: None,
            logging_out: false,
            rest: None,
            broken: 0,
        }
    }

    pub(super) async fn run(&mut self, mut events: Events) {
        let (leave, finish) = (self.leash.leave.clone(), self.world.finish.clone());
        let last_words = self.world.last_words.clone();
        let closed = loop {
            let (due, at) = self.next_due();
            // Events first: an answer that is here already must not be judged late because of a timer.
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::Closed(closed)) => break Some(closed),
                    Some(event) => {
                        self.happened(event);
                        self.tell_broken();
                    }
                    None => break None,
                },
                () = leave.cancelled(), if self.leaving.is_none() => self.leaving = Some(Instant::now()),
                () = finish.cancelled(), if self.leaving.is_none() => {
                    self.leaving = Some(Instant::now());
                    self.rest = Some(Rest::Coming);
                }
                () = last_words.cancelled(), if self.rest == Some(Rest::Resting) => self.ask_for_the_last_word(),
                () = tokio::time::sleep_until(at) => self.due(&due),
            }
            if self.is_settled() {
                self.come_to_rest();
            }
        };
        self.end(closed);
    }

    fn since_began(&self) -> Duration {
        self.began.elapsed()
    }

    /// Pipelines are full, or the player is about to leave: nothing new is begun.
    fn may_act(&self) -> bool {
        self.leaving.is_none()
            && !self.holding
            && self.ledger.has_arrived()
            && self.ledger.unanswered() < usize::from(self.person.profile.pipeline)
    }

    fn next_due(&self) -> (Due, Instant) {
        let far = Instant::now() + Duration::from_secs(3_600);
        let mut next = (Due::Leave, self.behaviour.leave_at().map_or(far, |at| self.began + at));
        if let Some(since) = self.leaving {
            next = (Due::SettleOver, since + Duration::from_millis(self.world.config.settle_ms));
        }
        if self.logging_out {
            return (Due::SettleOver, far);
        }
        if !self.ledger.has_arrived() && self.leaving.is_none() && self.began + ARRIVAL < next.1 {
            next = (Due::Leave, self.began + ARRIVAL);
        }
        if self.may_act() {
            let act = self.began + self.behaviour.next_at();
            if act < next.1 {
                next = (Due::Act, act);
            }
        }
        if self.position_every.is_some() && !self.reconnecting && self.next_position < next.1 {
            next = (Due::Position, self.next_position);
        }
        next
    }

    fn due(&mut self, due: &Due) {
        match due {
            Due::Act => self.act(),
            Due::Position => self.position(),
            Due::Leave => self.leaving = Some(Instant::now()),
            Due::SettleOver => {
                // The world did not answer in time; the logout goes on, and the ledger will call it lost.
                tracing::warn!(
                    player = %self.person.player, unanswered = self.ledger.unanswered(), holding = self.holding,
                    reconnecting = self.reconnecting, "gave up waiting for the last answers"
                );
                self.log_out();
            }
        }
    }

    fn log_out(&mut self) {
        self.logging_out = true;
        let session = self.session.clone();
        tokio::spawn(async move { session.logout().await });
    }

    /// Everything is answered. At the simulation's end a player asks what it owns when everybody has come that far.
    fn come_to_rest(&mut self) {
        match self.rest {
            // Who was told nothing has nothing to ask.
            Some(_) if !self.ledger.has_arrived() => self.log_out(),
            Some(Rest::Coming) => {
                self.rest = Some(Rest::Resting);
                self.world.resting.fetch_add(1, Ordering::Relaxed);
            }
            Some(Rest::Resting) => {}
            Some(Rest::Asking) => {
                self.ledger.character.settled = true;
                self.log_out();
            }
            None => self.log_out(),
        }
    }

    fn ask_for_the_last_word(&mut self) {
        self.rest = Some(Rest::Asking);
        let frame = self.ledger.send(Kind::Ping(game::Ping::default()), self.since_began());
        self.world.books.open().live.actions_sent += 1;
        self.send(frame);
    }

    fn is_settled(&self) -> bool {
        self.leaving.is_some()
            && !self.logging_out
            && self.ledger.unanswered() == 0
            && !self.reconnecting
            && !self.holding
    }

    fn act(&mut self) {
        let intended = self.behaviour.next_at();
        let kind = self.behaviour.act();
        if let (Kind::Enter(_), Some(party)) = (&kind, &self.person.party) {
            party.entries.fetch_add(1, Ordering::Relaxed);
        }
        let frame = self.ledger.send(kind, intended);
        self.world.books.open().live.actions_sent += 1;
        self.send(frame);
    }

    fn send(&self, frame: Bytes) {
        // The pipeline is at most 8 actions and a repetition at most 256: the window holds them. If it does not, the
        // ledger will find the action lost, as it should.
        if let Err(error) = self.session.try_send(frame) {
            tracing::warn!(player = %self.person.player, %error, "cannot send");
        }
    }

    fn position(&mut self) {
        let every = self.position_every.unwrap_or(Duration::MAX);
        self.next_position += every;
        let now = Instant::now();
        if self.next_position < now {
            // Positions that were missed while the process was busy are of no use to anybody.
            self.next_position = now + every;
        }
        self.positions += 1;
        let message = game::Position {
            x: (self.positions * 7 % 1_000) as u32,
            y: (self.person.index % 1_000) as u32,
            sequence: self.positions,
            sent_us: u64::try_from(self.world.now().as_micros()).unwrap_or(0),
        };
        if self.session.datagram(Bytes::from(message.encode_to_vec())).is_ok() {
            self.world.books.open().live.datagrams_sent += 1;
        }
    }
}
