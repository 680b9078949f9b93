//! One session as a task: log in, do what the behaviour says, write everything into the ledger, log out.

mod login;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::RngExt as _;
use tidegate_player::{ClientConfig, CloseReason, Closed, Event, Events, PlayerEndpoint, Session, Welcome};
use tidegate_proto::stub::v1 as game;
use tidegate_proto::stub::v1::action::Kind;
use tidegate_ticket::LoginKey;
use tidegate_types::{Cause, Clock as _, EnvironmentId, PartyId, SystemClock, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, Role};
use crate::books::Books;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::report::{End, Move, SessionRecord, record_time};
use crate::roster::Person;

/// A player who hears nothing of where it is for this long (a connection that was taken over had heard it) comes again.
const ARRIVAL: Duration = Duration::from_secs(10);

/// What all sessions of a simulation share.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) login_key: LoginKey,
    pub(crate) books: Books,
    pub(crate) begin: Instant,
    pub(crate) partners: Arc<[String]>,
    /// Everybody shall come to rest …
    pub(crate) finish: CancellationToken,
    /// … how many have …
    pub(crate) resting: AtomicUsize,
    /// … and now all ask for their last word and log out.
    pub(crate) last_words: CancellationToken,
}

impl World {
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// What the members of a party know of each other.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) id: PartyId,
    /// How often the leader has taken it through an instance's door.
    entries: AtomicU64,
}

impl Party {
    pub(crate) const fn new(id: PartyId) -> Self {
        Self { id, entries: AtomicU64::new(0) }
    }
}

/// What the simulation's conductor and one session share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leash {
    /// The player shall log out.
    pub(crate) leave: CancellationToken,
    environment: Arc<Mutex<Option<EnvironmentId>>>,
}

impl Leash {
    /// Where the player is; `None`: not in play.
    pub(crate) fn environment(&self) -> Option<EnvironmentId> {
        self.environment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_environment(&self, environment: Option<EnvironmentId>) {
        *self.environment.lock().unwrap_or_else(PoisonError::into_inner) = environment;
    }
}

/// Plays one session; gives the character back.
pub(crate) async fn play(
    world: Arc<World>,
    endpoint: PlayerEndpoint,
    mut person: Person,
    intended: Instant,
    leash: Leash,
) -> Person {
    world.books.open().live.connecting += 1;
    let entered = login::log_in(&world, &endpoint, &person, intended).await;
    world.books.open().live.connecting -= 1;
    let Some((session, events, welcome)) = entered else { return person };
    let role = Role {
        zones: world.config.zones.clone().into(),
        partners: world.partners.clone(),
        leader: person.leader,
        pace: world.config.pace,
    };
    let behaviour = Behaviour::new(person.profile.clone(), role, person.next_seed());
    let mut playing = Playing::new(&world, &mut person, behaviour, session, &welcome, leash);
    playing.run(events).await;
    person
}

/// A session in play.
struct Playing<'a> {
    world: &'a World,
    person: &'a mut Person,
    behaviour: Behaviour,
    ledger: Ledger,
    record: SessionRecord,
    session: Session,
    began: Instant,
    leash: Leash,
    environment: EnvironmentId,
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
    fn new(
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

    async fn run(&mut self, mut events: Events) {
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

    fn happened(&mut self, event: Event) {
        match event {
            Event::Game(body) => self.game(&body),
            Event::Datagram(body) => self.snapshot(&body),
            Event::Moved(moved) => {
                self.hold(false);
                let entries = self.person.party.as_ref().map_or(0, |party| party.entries.load(Ordering::Relaxed));
                let party_moved = entries > self.party_entries;
                // Taken along, not on its own feet: that door is used up.
                if moved.cause == Cause::Instance && !self.ledger.at_boundary() {
                    self.party_entries = entries;
                }
                if !self.ledger.moved(moved.cause, moved.home.epoch, party_moved) {
                    tracing::warn!(player = %self.person.player, cause = %moved.cause, home = ?moved.home, "moved without a cause");
                }
                let mut books = self.world.books.open();
                books.moved(moved.cause);
                record_time(&mut books.latencies.handover, moved.between);
                drop(books);
                if moved.cause == Cause::Resume {
                    self.repeat_unanswered();
                }
                self.went(moved.home.environment, moved.cause);
            }
            Event::Hold(_) => self.hold(true),
            Event::Notice(_) => self.world.books.open().notices += 1,
            Event::Reconnecting { .. } => self.reconnect(true),
            Event::Resumed(welcome) => {
                self.reconnect(false);
                self.hold(false);
                let elsewhere = self.ledger.resumed(welcome.home.epoch);
                let mut books = self.world.books.open();
                books.resumed += 1;
                books.gaps += u64::from(welcome.gap);
                books.moved_while_away += u64::from(elsewhere);
                drop(books);
                if welcome.gap {
                    self.repeat_unanswered();
                }
                self.went(welcome.home.environment, Cause::Crash);
            }
            Event::Welcome(_) | Event::Closed(_) => {}
        }
    }

    /// Frames on their way may be lost although the home lives on: a link broke, or a gateway did.
    fn repeat_unanswered(&mut self) {
        for frame in self.ledger.repeat_unanswered() {
            self.send(frame);
        }
    }

    /// The live figures show broken promises at once.
    fn tell_broken(&mut self) {
        let broken = self.ledger.findings.broken();
        if broken > self.broken {
            self.world.books.open().live.broken_promises += broken - self.broken;
            self.broken = broken;
            tracing::warn!(
                player = %self.person.player, findings = ?self.ledger.findings, open = ?self.ledger.open(),
                "a promise is broken"
            );
        }
    }

    fn hold(&mut self, on: bool) {
        if self.holding != on {
            self.holding = on;
            let mut books = self.world.books.open();
            if on {
                books.holds += 1;
                books.live.holding += 1;
            } else {
                books.live.holding -= 1;
            }
        }
    }

    fn reconnect(&mut self, on: bool) {
        if self.reconnecting != on {
            self.reconnecting = on;
            let mut books = self.world.books.open();
            if on {
                books.live.reconnecting += 1;
            } else {
                books.live.reconnecting -= 1;
            }
        }
    }

    fn went(&mut self, to: EnvironmentId, cause: Cause) {
        if to == self.environment {
            return;
        }
        let from = std::mem::replace(&mut self.environment, to.clone());
        self.leash.set_environment(Some(to.clone()));
        self.world.books.open().went(&from, &to);
        self.record.moves.push(Move { at: SystemClock.now().wall, from, to, cause });
    }

    fn game(&mut self, body: &[u8]) {
        let Ok(game::Event { kind: Some(event) }) = game::Event::decode(body) else {
            tracing::warn!(player = %self.person.player, "the world said what cannot be understood");
            return;
        };
        match event {
            game::event::Kind::Answer(answer) => self.answered(&answer),
            game::event::Kind::Entered(entered) => {
                self.behaviour.entered(&entered.zone, &entered.instance, self.since_began());
                for frame in self.ledger.entered(&entered) {
                    self.send(frame);
                }
            }
            game::event::Kind::Chat(_) => {}
        }
    }

    fn answered(&mut self, answer: &game::Answer) {
        let Some(answered) = self.ledger.answer(answer) else {
            if !answer.refused.is_empty() {
                self.world.books.open().refused(&answer.refused);
            }
            return;
        };
        let now = self.since_began();
        let mut books = self.world.books.open();
        if let Some(intended) = answered.intended {
            books.answered(now.saturating_sub(intended));
        }
        if let Some(give) = answered.gave {
            books.gave(self.person.character.as_str(), &give.to, give.gold);
        }
        if let Some(word) = answered.refused {
            books.refused(&word);
        }
    }

    fn snapshot(&self, body: &[u8]) {
        let Ok(snapshot) = game::Snapshot::decode(body) else { return };
        let now = u64::try_from(self.world.now().as_micros()).unwrap_or(0);
        let mut books = self.world.books.open();
        books.live.datagrams_received += 1;
        if snapshot.echo_sent_us > 0 {
            let took = Duration::from_micros(now.saturating_sub(snapshot.echo_sent_us));
            record_time(&mut books.latencies.datagram, took);
        }
    }

    fn end(&mut self, closed: Option<Closed>) {
        self.hold(false);
        self.reconnect(false);
        let end = match closed.as_ref().map(|closed| &closed.reason) {
            Some(CloseReason::LoggedOut) => End::Logout,
            Some(CloseReason::Kicked) => End::Kicked,
            _ if self.logging_out => End::Logout,
            reason => {
                tracing::warn!(player = %self.person.player, ?reason, "session lost");
                End::Lost
            }
        };
        let at: Timestamp = SystemClock.now().wall;
        self.record.ended = Some((at, end));
        self.leash.set_environment(None);
        let (findings, memory) = self.ledger.close(end == End::Logout);
        self.ledger.findings = findings;
        self.tell_broken();
        self.person.memory = memory;
        self.world.books.open().ended(self.record.clone(), end, &findings);
    }
}
