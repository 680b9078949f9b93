//! The game as the SDK wants it: callbacks in, and what the rules say carried out. The one place where [`Out`] is acted on.
//!
//! ```text
//!   gateway -> SDK -> callback -> Game -> Out --+--> frames, transfers, status (SDK)
//!                        ^                      +--> jobs of the realm database
//!                        |   inbox                        |
//!                        +------------- Done <------------+--> the answer to the gateway, at once
//! ```
//! A job's outcome goes two ways after its commit: the gateway's answer leaves from the writer thread without waiting for
//! this task, and the game learns of it before its next callback does anything else. The SDK asks nothing more of a seat
//! until its last question is answered, so what is about a seat comes in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidegate_proto::stub::v1::{Action, CharacterState, Event, Position};
use tidegate_types::{Cause, Epoch, Mono, Now, ZoneId};
use tidegate_world::{
    Arrival, Cx, Frozen, LeaveReason, Outbox, Place as WorldPlace, PlayerStatus, Refusal, Reply, Seat, World, Zone,
};
use tracing::{debug, info, warn};

use crate::db::work::{self, Attach, Claim, ClaimRefused, HomeMark, Saved, Traded, Written};
use crate::db::{Failure, Store};
use crate::faults::{GameFaults, Step};
use crate::game::{Game, Out, Place, Rules, SaveFor, Who, ZONE_FORMAT, entered};

/// How often this process says in the homes ledger that it lives. A kill -9 is known to that much.
const SEEN_EVERY: Duration = Duration::from_millis(250);
/// How often changed zones are saved; they are scenery, a crash may take some seconds of it back.
const ZONES_EVERY: Duration = Duration::from_secs(2);

/// What a job of the database came to, for the game.
enum Done {
    Attached { seat: u32, life: u64, arrived: Box<Arrived> },
    Activated { seat: u32, life: u64, state: Box<CharacterState> },
    Saved { seat: u32, life: u64, why: SaveFor, outcome: Result<Written, Failure> },
    Traded { id: u64, outcome: Result<Traded, Failure> },
}

struct Arrived {
    who: Who,
    epoch: u64,
    state: CharacterState,
    place: Place,
    cause: Cause,
}

/// The stub's world.
pub(crate) struct Stub {
    game: Game,
    store: Store,
    /// Names this process in the homes ledger.
    instance: Arc<str>,
    faults: GameFaults,
    entry: Option<String>,
    freezes: HashMap<u32, Reply<Result<Frozen, Refusal>>>,
    leaves: HashMap<u32, Reply<()>>,
    /// Unbounded, but fed only by jobs, whose number is bounded.
    inbox: (Sender<Done>, Receiver<Done>),
    /// Saves that failed, so that a snapshot knows whether it has everything.
    failed_saves: Arc<AtomicU64>,
    out: Vec<Out>,
    first_tick: Option<Mono>,
    seen_at: Mono,
    zones_at: Mono,
    out_of_order_told: u64,
}

impl Stub {
    /// A world whose process is registered in the database as `instance`, with the zones that an earlier run of this
    /// server saved. `entry`: where new characters begin, unless the gateway says.
    pub(crate) fn new(
        rules: Rules,
        entry: Option<String>,
        store: Store,
        instance: &str,
        zones: &[(String, Vec<u8>)],
        faults: GameFaults,
    ) -> Self {
        let mut game = Game::new(rules);
        for (zone, state) in zones {
            if let Err(e) = game.load_zone(state) {
                warn!(zone, error = %e, "a saved zone does not parse; it begins anew");
            }
        }
        Self {
            game,
            store,
            instance: Arc::from(instance),
            faults,
            entry,
            freezes: HashMap::new(),
            leaves: HashMap::new(),
            inbox: channel(),
            failed_saves: Arc::default(),
            out: Vec::new(),
            first_tick: None,
            seen_at: Mono(0),
            zones_at: Mono(0),
            out_of_order_told: 0,
        }
    }

    /// Lets the game know what the database did since the last callback.
    fn drain(&mut self, cx: &mut Cx<'_>) {
        while let Ok(done) = self.inbox.1.try_recv() {
            self.learn(done, cx);
            self.act(cx);
        }
    }

    fn learn(&mut self, done: Done, cx: &Cx<'_>) {
        let now = cx.now();
        match done {
            Done::Attached { seat, life, arrived } => {
                let Arrived { who, epoch, state, place, cause } = *arrived;
                self.game.arrive(seat, life, who, epoch, state, place, cause, now, &mut self.out);
            }
            Done::Activated { seat, life, state } => self.game.activated(seat, life, *state, now, &mut self.out),
            Done::Saved { seat, life, why, outcome } => {
                self.game.saved(seat, life, why, &outcome, now, &mut self.out);
            }
            Done::Traded { id, outcome } => self.game.traded(id, &outcome, now, &mut self.out),
        }
    }

    /// Carries out what the game said, in order.
    fn act(&mut self, cx: &mut Cx<'_>) {
        for out in std::mem::take(&mut self.out) {
            match out {
                Out::Event { seat, event } => cx.send(Seat(seat), &bytes_of(&event)),
                Out::Snapshot { seat, snapshot } => cx.datagram(Seat(seat), &Bytes::from(snapshot.encode_to_vec())),
                Out::Transfer { seats, to, cause } => {
                    let seats: Vec<Seat> = seats.into_iter().map(Seat).collect();
                    match world_place(&to) {
                        Some(to) => cx.transfer(&seats, to, cause),
                        None => debug!(?to, "no such place can be"),
                    }
                }
                Out::Status { seat, zone, kind, busy, idle } => {
                    if let Ok(zone) = ZoneId::new(&zone) {
                        cx.status(Seat(seat), PlayerStatus { zone, zone_kind: kind, busy, idle });
                    }
                }
                Out::Save { seat, life, saved, ends, why, forget } => self.save(seat, life, saved, ends, why, forget),
                Out::Trade { id, giver, receiver } => {
                    let inbox = self.inbox.0.clone();
                    self.store.submit(
                        move |db| work::trade(db, &giver.saved, &receiver.saved),
                        move |outcome| tell(&inbox, Done::Traded { id, outcome }),
                    );
                }
                Out::HomeBegins(mark) => {
                    let instance = self.instance.clone();
                    self.store.submit(move |db| work::homes_begin(db, &instance, &mark), ledger_written);
                }
                Out::HomeEnds(mark) => {
                    let instance = self.instance.clone();
                    self.store.submit(move |db| work::homes_end(db, &instance, &mark), ledger_written);
                }
                Out::Left { seat } => {
                    if let Some(reply) = self.leaves.remove(&seat) {
                        reply.send(());
                    }
                }
                Out::Eject { seat, reason } => {
                    warn!(seat, reason, "a player is ejected");
                    cx.eject(Seat(seat), reason);
                }
            }
        }
    }

    fn save(&mut self, seat: u32, life: u64, saved: Saved, ends: Option<HomeMark>, why: SaveFor, forget: bool) {
        let instance = self.instance.clone();
        let inbox = self.inbox.0.clone();
        let failed = self.failed_saves.clone();
        let freeze = (why == SaveFor::Freeze).then(|| self.freezes.remove(&seat)).flatten();
        let leave = (why == SaveFor::Leave).then(|| self.leaves.remove(&seat)).flatten();
        let frozen = freeze.as_ref().map(|_| (Bytes::from(saved.state.clone()), saved.format));
        self.store.submit(
            move |db| {
                if let Some(mark) = &ends {
                    work::homes_end(db, &instance, mark)?;
                }
                let written = work::save(db, &saved)?;
                if forget {
                    work::forget(db, &saved.character, saved.epoch)?;
                }
                Ok(written)
            },
            move |outcome| {
                if let Err(e) = &outcome {
                    failed.fetch_add(1, Ordering::Relaxed);
                    warn!(seat, error = %e, "a character could not be saved");
                }
                tell(&inbox, Done::Saved { seat, life, why, outcome: outcome.clone() });
                if let Some((reply, (state, format))) = freeze.zip(frozen) {
                    reply.send(match outcome {
                        Ok(Written::Yes) => Ok(Frozen { state, format }),
                        Ok(Written::Stale) => Err(Refusal::Unknown),
                        Err(e) => Err(Refusal::Game(e.to_string())),
                    });
                }
                if let Some(reply) = leave {
                    reply.send(());
                }
            },
        );
    }

    /// Carries out the saves that were said, and calls `reached` once everything submitted so far is committed, with the
    /// number of saves that failed meanwhile.
    fn fence_after(&mut self, cx: &mut Cx<'_>, reached: impl FnOnce(Result<u64, Failure>) + Send + 'static) {
        let failed = self.failed_saves.clone();
        let before = failed.load(Ordering::Relaxed);
        self.act(cx);
        self.store.submit(
            |_| Ok(()),
            move |outcome| reached(outcome.map(|()| failed.load(Ordering::Relaxed).saturating_sub(before))),
        );
    }

    fn zones(&self) -> Vec<Zone> {
        let zones = self.game.zone_states().into_iter();
        zones
            .filter_map(|(zone, state)| {
                Some(Zone { zone: ZoneId::new(&zone).ok()?, state: state.into(), format: ZONE_FORMAT })
            })
            .collect()
    }

    fn claim(&self, who: &Who, epoch: u64, at: Mono) -> Claim {
        Claim {
            player: who.player.clone(),
            character: who.character.clone(),
            epoch,
            instance: self.instance.to_string(),
            at,
        }
    }

    fn keep_books(&mut self, now: Mono) {
        if now.since(self.seen_at) >= SEEN_EVERY {
            self.seen_at = now;
            let instance = self.instance.clone();
            self.store.submit(move |db| work::seen(db, &instance, now), ledger_written);
        }
        if now.since(self.zones_at) >= ZONES_EVERY {
            self.zones_at = now;
            for (zone, state) in self.game.take_changed_zones() {
                let server = self.game.rules().server_id.clone();
                self.store.submit(move |db| work::save_zone(db, &server, &zone, &state), ledger_written);
            }
            let astray = self.game.counters().out_of_order;
            if astray > self.out_of_order_told {
                warn!(actions = astray - self.out_of_order_told, "actions came out of order: frames went astray");
                self.out_of_order_told = astray;
            }
        }
    }

    fn die_if_asked(&mut self, step: Step) {
        if self.faults.dies_in(step) {
            warn!(%step, "dying as asked");
            std::process::abort();
        }
    }
}

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
            claim: self.claim(&who, arrival.epoch.0, cx.now()),
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
            move |db| work::attach(db, &request),
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
            Err(crate::character::BadState::Format(_)) => return reply.send(Err(Refusal::Format)),
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
        self.game.prepare(arrival.seat.0, who, arrival.epoch.0, state, place, cx.now());
        reply.send(Ok(()));
    }

    fn activate(&mut self, cx: &mut Cx<'_>, seat: Seat, epoch: Epoch, reply: Reply<Result<WorldPlace, Refusal>>) {
        self.drain(cx);
        self.die_if_asked(Step::Activate);
        let Some((life, who, place, carried)) = self.game.activating(seat.0, epoch.0) else {
            reply.send(Err(Refusal::Unknown));
            return;
        };
        let claim = self.claim(&who, epoch.0, cx.now());
        let rules = self.game.rules().clone();
        let formats = rules.formats.clone();
        let (inbox, outbox) = (self.inbox.0.clone(), cx.outbox());
        self.store.submit(
            move |db| work::activate(db, &claim, &carried, &formats),
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

/// Answers the gateway, then greets the player: in this order, on the same queue, so the greeting is the first frame.
fn greet(
    answer: Result<WorldPlace, Refusal>,
    reply: Reply<Result<WorldPlace, Refusal>>,
    outbox: &Outbox,
    seat: u32,
    hello: &Event,
) {
    let welcome = answer.is_ok();
    reply.send(answer);
    if welcome {
        outbox.send(Seat(seat), &bytes_of(hello));
    }
}

/// The state that a claim came by, or the word for the gateway.
fn claimed(outcome: Result<Result<Saved, ClaimRefused>, Failure>, rules: &Rules) -> Result<CharacterState, Refusal> {
    match outcome {
        Ok(Ok(saved)) => rules.formats.decode(saved.format, &saved.state).map_err(|e| {
            warn!(character = saved.character, error = %e, "a saved character cannot be read");
            Refusal::Game(e.to_string())
        }),
        Ok(Err(ClaimRefused::Stale { highest })) => Err(Refusal::StaleEpoch(Epoch(highest))),
        Ok(Err(ClaimRefused::WrongZone { zone })) => {
            Err(world_place(&Place::shared(&zone)).map_or(Refusal::Unknown, Refusal::WrongZone))
        }
        Ok(Err(ClaimRefused::Format { found })) => {
            debug!(found, "a character's format is not ours");
            Err(Refusal::Format)
        }
        Ok(Err(ClaimRefused::Unknown)) => Err(Refusal::Game("no such character, and none is made here".to_owned())),
        Err(Failure::Behind | Failure::Closed) => Err(Refusal::NotReady),
        Err(e @ Failure::Sql(_)) => Err(Refusal::Game(e.to_string())),
    }
}

fn tell(inbox: &Sender<Done>, done: Done) {
    // The world is gone only when the process ends; nobody has to learn anything then.
    let _gone = inbox.send(done);
}

/// The ledger and the scenery are written on the side; what fails to be written is told and not tried again.
fn ledger_written(outcome: Result<(), Failure>) {
    if let Err(e) = outcome {
        warn!(error = %e, "a line of the ledger was not written");
    }
}

fn bytes_of(event: &Event) -> Bytes {
    Bytes::from(event.encode_to_vec())
}

fn who(arrival: &Arrival) -> Who {
    Who {
        player: arrival.player.to_string(),
        character: arrival.character.to_string(),
        party: arrival.party.as_ref().map(ToString::to_string),
    }
}

fn our_place(place: &WorldPlace) -> Place {
    Place { zone: place.zone.to_string(), instance: place.instance.clone() }
}

/// `None` where a saved zone is no zone id, which only a database written by something else can bring about.
fn world_place(place: &Place) -> Option<WorldPlace> {
    Some(WorldPlace { zone: ZoneId::new(&place.zone).ok()?, instance: place.instance.clone() })
}
