//! The core of one realm: inputs in, actions out. Wiring only; each family of inputs has its own file beside this one.

mod announce;
mod attach;
mod commands;
mod finding;
mod greeting;
mod groups;
mod hot;
mod leaving;
mod links;
mod login;
mod moves;
mod report;
mod roster;
mod servers;
mod tables;
mod timers;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use slab::Slab;
use tidegate_types::{GatewayId, Generation, Mono, Now, PartyId, RealmId, SessionId};

use self::commands::Commands;
use self::groups::Group;
use self::servers::Servers;
use self::timers::{Timer, Timers};
use crate::action::Action;
use crate::counters::Counters;
use crate::directory::{DirectoryAnswer, DirectoryOp, DirectoryRequest};
use crate::handover::Seat;
use crate::input::{Input, VerifiedHello};
use crate::key::{ConnKey, ServerKey, SessionKey};
use crate::line::Line;
use crate::message::{FromWorld, Resident, ToWorld, Who};
use crate::session::{Finding, Session, State};
use crate::table::RealmTable;

pub use self::finding::{SecondLogin, UnknownHome};
pub use self::hot::{Confirmed, Downstream, Upstream};

/// Limits and times.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// This gateway's name, as the directory knows it.
    pub gateway: GatewayId,
    /// Other gateways hold sessions of the realm too: what to do while it cannot be known where a character lives. `None`:
    /// there is only this gateway.
    pub shared: Option<UnknownHome>,
    /// What a second login of a connected character does.
    pub second_login: SecondLogin,
    /// How long an answered heartbeat lets a world server simulate.
    pub lease: Duration,
    /// How long a step of a hand-over, an attach or a leave may take.
    pub step_timeout: Duration,
    /// Most sessions and hellos that wait in line; more are refused.
    pub max_line: usize,
    /// Upstream frames kept for one session while its home changes: count.
    pub max_queued_frames: usize,
    /// Upstream frames kept for one session while its home changes: bytes.
    pub max_queued_bytes: usize,
    /// Unacknowledged downstream frames kept for one session: count.
    pub max_window_frames: usize,
    /// Unacknowledged downstream frames kept for one session: bytes.
    pub max_window_bytes: usize,
    /// Rules to break on purpose, to see that the tests notice.
    #[cfg(feature = "model")]
    pub sabotage: Sabotage,
}

/// Rules to break on purpose, to see that the tests notice.
#[cfg(feature = "model")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// A resident of an older epoch is taken for the player's home.
    pub skip_epoch_check: bool,
    /// A table is acknowledged while attaches by an older one are on their way.
    pub ack_without_waiting: bool,
    /// The source of a hand-over is thawed after the commit.
    pub thaw_after_commit: bool,
    /// A lost home is replaced without waiting for its lease.
    pub skip_lease: bool,
    /// What the directory says is believed although a world server has contradicted it.
    pub trust_directory: bool,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            gateway: GatewayId::new("gw-1").expect("a constant that is an id"),
            shared: None,
            second_login: SecondLogin::NewestWins,
            lease: Duration::from_secs(3),
            step_timeout: Duration::from_secs(5),
            max_line: 100_000,
            max_queued_frames: 256,
            max_queued_bytes: 64 * 1024,
            max_window_frames: 256,
            max_window_bytes: 64 * 1024,
            #[cfg(feature = "model")]
            sabotage: Sabotage::default(),
        }
    }
}

/// One realm's sessions on one gateway.
#[derive(Debug)]
pub struct Core {
    realm: RealmId,
    config: CoreConfig,
    counters: Counters,
    table: Option<RealmTable>,
    warm: Warm,
    servers: Servers,
    sessions: Slab<Session>,
    by_who: BTreeMap<Who, SessionKey>,
    by_id: BTreeMap<SessionId, SessionKey>,
    parties: BTreeMap<PartyId, BTreeSet<SessionKey>>,
    conns: Vec<ConnUse>,
    line: Line,
    groups: Slab<Group>,
    commands: Commands,
    asks: BTreeMap<u64, (SessionKey, DirectoryRequest)>,
    next_ask: u64,
    /// Whom world servers are asked for, by the question's id.
    searching: BTreeMap<u64, SessionKey>,
    /// Sessions whose home is to be told how many frames their player has received.
    acks: Vec<SessionKey>,
    announce_at: Option<Mono>,
    announcing: bool,
    /// The next announcement begins at this place of the slab.
    announce_from: usize,
    timers: Timers,
    sweep_at: Option<Mono>,
    /// Sessions whose attach by an older table is being taken back.
    rerouting: BTreeSet<SessionKey>,
    /// Sessions on their way to an environment that the table in force has stop accepting.
    crossing: BTreeSet<SessionKey>,
    /// The table in force waits to be acknowledged.
    unacknowledged: bool,
    /// Somebody may have got room.
    serve: bool,
    /// Sessions whose row may have changed.
    dirty: BTreeSet<SessionKey>,
}

/// Whether it is known who lives where.
#[derive(Debug)]
enum Warm {
    /// No: some world server has not told its roster, and another gateway's lease may run.
    Not {
        /// When all leases of before are over; `None` before the first table.
        until: Option<Mono>,
        /// What rosters said so far.
        found: Vec<(ServerKey, Resident)>,
        /// Who came meanwhile.
        hellos: VecDeque<(ConnKey, VerifiedHello)>,
    },
    /// Yes.
    Done,
}

/// What a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnUse {
    /// Not there.
    Free,
    /// A session's.
    Session(SessionKey),
    /// Waiting until that session of the same character has ended.
    Behind(SessionKey),
    /// Waiting until the gateway knows who lives where.
    Warming,
}

/// The time, and where actions go.
struct Cx<'a> {
    now: Now,
    out: &'a mut Vec<Action>,
}

impl Cx<'_> {
    fn tell_world(&mut self, seat: Seat, message: ToWorld) {
        self.out.push(Action::ToWorld { server: seat.server, handle: seat.handle, message });
    }
}

impl Core {
    /// A core that knows nothing yet.
    #[must_use]
    pub fn new(realm: RealmId, config: CoreConfig) -> Self {
        Self {
            realm,
            config,
            counters: Counters::default(),
            table: None,
            warm: Warm::Not { until: None, found: Vec::new(), hellos: VecDeque::new() },
            servers: Servers::default(),
            sessions: Slab::new(),
            by_who: BTreeMap::new(),
            by_id: BTreeMap::new(),
            parties: BTreeMap::new(),
            conns: Vec::new(),
            line: Line::default(),
            groups: Slab::new(),
            commands: Commands::default(),
            asks: BTreeMap::new(),
            next_ask: 1,
            searching: BTreeMap::new(),
            acks: Vec::new(),
            announce_at: None,
            announcing: false,
            announce_from: 0,
            timers: Timers::default(),
            sweep_at: None,
            rerouting: BTreeSet::new(),
            crossing: BTreeSet::new(),
            unacknowledged: false,
            serve: false,
            dirty: BTreeSet::new(),
        }
    }

    /// Takes one input; what is to be done for it is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Action>) {
        let cx = &mut Cx { now, out };
        match input {
            Input::Table(table) => self.on_table(table, cx),
            Input::Hello { conn, hello } => self.on_hello(conn, hello, cx),
            Input::Logout { conn } => self.on_logout(conn, cx),
            Input::ConnectionLost { conn } => self.on_connection_lost(conn, cx),
            Input::LinkUp { server, instance } => self.on_link_up(server, instance, cx),
            Input::Resident { server, resident } => self.servers.resident(server, resident),
            Input::RosterEnd { server } => self.on_roster_end(server, cx),
            Input::LinkDown { server } => self.on_link_down(server, cx),
            Input::HeartbeatAnswered { server } => self.on_heartbeat(server, cx),
            Input::World { server, message } => self.on_world(server, message, cx),
            Input::ServerDead { server, instance } => self.on_server_dead(&server, instance, cx),
            Input::Command(command) => self.on_command(command, cx),
            Input::Directory(answer) => self.on_directory(answer, cx),
            Input::DirectoryUp => self.on_directory_up(cx),
        }
        self.settle(cx);
    }

    /// When [`Core::handle_timeout`] wants to be called next; `None`: not before another input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Action>) {
        let cx = &mut Cx { now, out };
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::Warm => self.become_warm(cx),
                Timer::Sweep => self.sweep(cx),
                Timer::Announce => self.announce(cx),
                Timer::Step(key) => self.on_step_timeout(key, cx),
                Timer::Grace(key) => self.on_grace_over(key, cx),
            }
        }
        self.settle(cx);
    }

    /// The table in force; `None` before the first.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.table.as_ref().map(RealmTable::generation)
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The realm.
    #[must_use]
    pub const fn realm(&self) -> &RealmId {
        &self.realm
    }

    fn on_world(&mut self, server: ServerKey, message: FromWorld, cx: &mut Cx<'_>) {
        match message {
            FromWorld::Attached { handle, epoch, place, channel, pin, party } => {
                self.on_attached(Seat { server, handle }, epoch, place, (&channel, pin, party), cx);
            }
            FromWorld::AttachRefused { handle, reason, message, highest_epoch, saved_epoch, place } => {
                let epochs = (highest_epoch, saved_epoch);
                self.on_attach_refused(Seat { server, handle }, (reason, message), epochs, place, cx);
            }
            FromWorld::Left { handle } => self.on_left(Seat { server, handle }, cx),
            FromWorld::Frozen { handle, epoch, blob } => self.on_frozen(Seat { server, handle }, epoch, blob, cx),
            FromWorld::FreezeRefused { handle, .. } => self.on_freeze_refused(Seat { server, handle }, cx),
            FromWorld::Thawed { handle } => self.on_thawed(Seat { server, handle }),
            FromWorld::Prepared { handle } => self.on_prepared(Seat { server, handle }, cx),
            FromWorld::PrepareRefused { handle, reason, .. } => {
                self.on_prepare_refused(Seat { server, handle }, reason, cx);
            }
            FromWorld::Activated { handle, epoch, place } => {
                self.on_activated(Seat { server, handle }, epoch, place, cx);
            }
            FromWorld::Released { handle } | FromWorld::Aborted { handle } => self.on_closed(Seat { server, handle }),
            FromWorld::Transfer { handles, to, cause } => self.on_transfer(server, &handles, &to, cause, cx),
            FromWorld::Status { handle, zone, zone_kind, busy, idle_ms } => {
                let doing = crate::session::Doing {
                    zone,
                    zone_kind,
                    busy,
                    active: cx.now.wall - Duration::from_millis(idle_ms),
                };
                self.on_status(Seat { server, handle }, doing);
            }
            FromWorld::WhoOwns { session, handle, .. } => self.on_who_owns(Seat { server, handle }, session, cx),
            FromWorld::Eject { handle, .. } => self.on_eject(Seat { server, handle }, cx),
            FromWorld::TakenOver { handle, .. } => self.on_taken_over(Seat { server, handle }, cx),
            FromWorld::Found { id, resident } => self.on_answered(server, id, resident, cx),
        }
    }

    fn on_directory(&mut self, answer: DirectoryAnswer, cx: &mut Cx<'_>) {
        let Some((key, _)) = self.asks.remove(&answer.id) else { return };
        let Some(session) = self.sessions.get(key.index()) else { return };
        match &session.state {
            State::Finding(Finding::Asking { request }) if *request == answer.id => {
                self.on_found(key, answer.outcome, cx);
            }
            State::Claiming { request, .. } if *request == answer.id => self.on_claim_answer(key, answer.outcome, cx),
            State::Moving(h) if h.ask == Some(answer.id) => self.on_commit_answer(key, answer.outcome, cx),
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => self.counters.strays += 1,
        }
    }

    /// Asks the directory; the answer is `key`'s.
    fn ask(&mut self, key: SessionKey, op: DirectoryOp, cx: &mut Cx<'_>) -> u64 {
        let id = self.next_ask;
        self.next_ask += 1;
        let request = DirectoryRequest { id, who: self.sessions[key.index()].who.clone(), op };
        self.asks.insert(id, (key, request.clone()));
        cx.out.push(Action::Directory(request));
        id
    }

    /// Asks again what was not answered in time.
    fn ask_again(&mut self, id: u64, cx: &mut Cx<'_>) {
        if let Some((_, request)) = self.asks.get(&id) {
            cx.out.push(Action::Directory(request.clone()));
        }
    }

    /// Tells the directory something whose answer changes nothing.
    fn tell_directory(&mut self, who: Who, op: DirectoryOp, cx: &mut Cx<'_>) {
        cx.out.push(Action::Directory(DirectoryRequest { id: 0, who, op }));
    }

    fn set_step(&mut self, key: SessionKey, at: Option<Mono>) {
        let session = &mut self.sessions[key.index()];
        self.timers.set(Timer::Step(key), session.step_at, at);
        session.step_at = at;
    }

    fn set_grace(&mut self, key: SessionKey, at: Option<Mono>) {
        let session = &mut self.sessions[key.index()];
        self.timers.set(Timer::Grace(key), session.grace_at, at);
        session.grace_at = at;
    }

    fn on_step_timeout(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let Some(session) = self.sessions.get_mut(key.index()) else { return };
        session.step_at = None;
        match &session.state {
            State::Waiting { .. } | State::Playing { .. } => {}
            State::Finding(_) => self.on_finding_timeout(key, cx),
            State::Claiming { request, .. } => {
                let request = *request;
                self.ask_again(request, cx);
                self.set_step(key, Some(cx.now.mono + self.config.step_timeout));
            }
            State::Attaching { .. } => self.on_attach_timeout(key, cx),
            State::Moving(_) => self.on_handover_timeout(key, cx),
            State::Lost { .. } => self.on_home_freed(key, cx),
            State::Leaving { .. } => self.on_leave_timeout(key, cx),
        }
    }

    /// What one input has made possible for others, and what is to be told of it.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if std::mem::take(&mut self.serve) {
            self.serve_line(cx);
        }
        self.arm_sweep(cx);
        // The rows first: an acknowledgement says that nothing older comes after it.
        self.report(cx);
        self.acknowledge_if_due(cx);
    }
}
