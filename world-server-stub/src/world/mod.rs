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

mod callbacks;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidegate_proto::stub::v1::CharacterState;
use tidegate_types::{Cause, Mono, ZoneId};
use tidegate_world::{Cx, Frozen, PlayerStatus, Refusal, Reply, Seat, Zone};
use tracing::{debug, warn};

use crate::db::work::{self, Claim, HomeMark, Saved, Traded, Written};
use crate::db::{Failure, Store, witness};
use crate::faults::{GameFaults, Step};
use crate::game::{Game, Out, Place, Rules, SaveFor, Who, ZONE_FORMAT};
use words::{bytes_of, world_place};

/// How often this process says in the homes ledger that it lives. A kill -9 is known to that much.
const SEEN_EVERY: Duration = Duration::from_millis(250);
/// How often changed zones are saved; they are scenery, a crash may take some seconds of it back.
const ZONES_EVERY: Duration = Duration::from_secs(2);

/// What a job of the database came to, for the game.
enum Done {
    Attached { seat: u32, life: u64, arrived: Box<Arrived> },
    Activated { seat: u32, life: u64, state: Box<CharacterState> },
    Reclaimed { seat: u32, life: u64, outcome: Result<(), bool> },
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
            Done::Reclaimed { seat, life, outcome } => self.game.reclaimed(seat, life, outcome),
            Done::Saved { seat, life, why, outcome } => {
                self.game.saved(seat, life, why, &outcome, now, &mut self.out);
            }
            Done::Traded { id, outcome } => self.game.traded(id, &outcome, now, &mut self.out),
        }
    }

    /// Carries out what the game said, in order.
    fn act(&mut self, cx: &mut Cx<'_>) {
        let mut said = std::mem::take(&mut self.out);
        for out in said.drain(..) {
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
                        move |db| {
                            let (giver, receiver) = (&giver.saved, &receiver.saved);
                            witness::trade(db, [giver, receiver], || work::trade(db, giver, receiver))
                        },
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
        // Nothing was said meanwhile; the buffer is used again.
        self.out = said;
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
                let written = witness::save(db, &saved, || work::save(db, &saved))?;
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

    fn claim(&self, who: &Who, from: Option<u64>, epoch: u64, at: Mono) -> Claim {
        Claim {
            player: who.player.clone(),
            character: who.character.clone(),
            epoch,
            from,
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
