//! The one task that owns what is known of all world servers' processes, and acts on it.
//!
//! It turns every message and every exit into changed knowledge, then plans ([`plan`]) and does what the plan says.
//! Starting a process blocks for a few milliseconds (two fsyncs, fork): starts are rare, and reports can wait that long.

mod barriers;
mod deeds;
mod desired;
mod launch;
mod publish;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::{Clock as _, EnvironmentId, Mono, Now, ServerId, SystemClock};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::barrier::Barrier;
use super::messages::Message;
use super::plan::{self, KillReason, Limits};
use super::process;
use super::record::{Records, file_stem};
use super::server::{Live, Server};
use super::silence::{Kills, LATE, TICK};
use super::spec::EnvironmentServers;
use super::view::{ServerDead, ServersView};
use super::{Options, ServersError};
use crate::pki::Pki;
use launch::{save, watch_adopted};

/// A registered server that does not serve (it loads, saves for a snapshot, or lost its stream) is replaced when it has
/// missed its reports for this many report time-outs.
const SILENT_TIMEOUTS: u32 = 3;
/// How long a retiring server must be closed and empty before it stops: a hand-over's steps (5 s) and then some.
const SETTLE: Duration = Duration::from_secs(6);
/// Figures (players, ticks) are published at most this often; changes of state at once.
const FIGURES_EVERY: Duration = Duration::from_millis(100);
/// Most messages taken before the consequences are drawn: bounds how stale the view gets in a flood of reports.
const BATCH: usize = 256;
/// Deaths kept for gateways that connect late.
const DEATHS_KEPT: usize = 256;

/// The task's state.
#[derive(Debug)]
pub struct Supervisor {
    options: Options,
    limits: Limits,
    report_timeout: Duration,
    pki: Pki,
    records: Records,
    logs: PathBuf,
    inbox: mpsc::Receiver<Message>,
    exits: mpsc::Receiver<Exit>,
    exits_in: mpsc::Sender<Exit>,
    running: BTreeMap<EnvironmentId, Arc<EnvironmentServers>>,
    stopped: BTreeMap<EnvironmentId, Stop>,
    servers: BTreeMap<ServerId, Server>,
    barriers: BTreeMap<EnvironmentId, Barrier>,
    next_stream: u64,
    last_tick: Mono,
    kills: Kills,
    published: Mono,
    urgent: bool,
    view: watch::Sender<Arc<ServersView>>,
    deaths: broadcast::Sender<ServerDead>,
    recent_deaths: VecDeque<ServerDead>,
}

/// An environment that was told to stop.
#[derive(Debug)]
struct Stop {
    within: Duration,
    waiters: Vec<oneshot::Sender<Result<(), ServersError>>>,
}

/// A process has ended.
#[derive(Debug)]
struct Exit {
    server: ServerId,
    pid: u32,
    how: String,
}

impl Supervisor {
    /// Reads what an earlier manager has left.
    pub(super) fn open(
        options: Options,
        pki: Pki,
        inbox: mpsc::Receiver<Message>,
        deaths: broadcast::Sender<ServerDead>,
    ) -> Result<(Self, watch::Receiver<Arc<ServersView>>), ServersError> {
        let io_at = |path: &Path| {
            let path = path.to_owned();
            move |source| ServersError::Io { path, source }
        };
        let data_dir = std::path::absolute(&options.data_dir).map_err(io_at(&options.data_dir))?;
        let options = Options { data_dir: data_dir.clone(), ..options };
        let logs = data_dir.join("logs");
        std::fs::create_dir_all(&logs).map_err(io_at(&logs))?;
        let dir = data_dir.join("servers");
        let records = Records::open(dir.clone()).map_err(io_at(&dir))?;
        let known = records.load().map_err(|(path, source)| ServersError::Io { path, source })?;
        let report_timeout = Duration::from_millis(options.config.report_timeout_ms);
        let limits = Limits {
            restart_min: Duration::from_millis(options.config.restart_min_ms),
            restart_max: Duration::from_millis(options.config.restart_max_ms),
            start_timeout: Duration::from_millis(options.config.start_timeout_ms),
            settle: SETTLE,
            stop_within: Duration::from_millis(options.config.stop_within_ms),
        };
        let servers = known
            .into_iter()
            .map(|record| {
                let log = process::log_path(&logs, &file_stem(&record.server));
                (record.server.clone(), Server::new(record, log))
            })
            .collect();
        // One message a process, and a process ends once: as many as may run at once.
        let (exits_in, exits) = mpsc::channel(options.config.limit.max(1) as usize);
        let (view, seen) = watch::channel(Arc::new(ServersView::default()));
        let mut supervisor = Self {
            options,
            limits,
            report_timeout,
            pki,
            records,
            logs,
            inbox,
            exits,
            exits_in,
            running: BTreeMap::new(),
            stopped: BTreeMap::new(),
            servers,
            barriers: BTreeMap::new(),
            next_stream: 1,
            last_tick: SystemClock.now().mono,
            kills: Kills::default(),
            published: Mono(0),
            urgent: true,
            view,
            deaths,
            recent_deaths: VecDeque::new(),
        };
        supervisor.adopt(SystemClock.now())?;
        Ok((supervisor, seen))
    }

    /// Keeps what is wanted running until `shutdown` is cancelled or every handle is gone. The
    /// processes are left as they are: players are on them.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.last_tick = SystemClock.now().mono;
        let adopted =
            self.servers.iter().filter_map(|(id, server)| Some((id.clone(), server.process.as_ref()?.process.clone())));
        watch_adopted(adopted.collect(), self.exits_in.clone());
        let mut wake = self.settle();
        loop {
            let sleep = wake.map_or(TICK, |wake| wake.since(SystemClock.now().mono)).min(TICK);
            // Exits first: a message about a process that has ended must not be believed after its end is known.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(exit) = self.exits.recv() => self.exited(exit),
                message = self.inbox.recv() => {
                    let Some(message) = message else { return };
                    self.handle(message);
                    for _ in 1..BATCH {
                        let Ok(message) = self.inbox.try_recv() else { break };
                        self.handle(message);
                    }
                }
                () = tokio::time::sleep(sleep) => {}
            }
            while let Ok(exit) = self.exits.try_recv() {
                self.exited(exit);
            }
            self.tick();
            wake = self.settle();
        }
    }

    /// Takes the processes of an earlier manager, and tells of those that ended while nobody watched. Not to know whether
    /// one lives is an error: whoever took its place could put a player in two.
    fn adopt(&mut self, now: Now) -> Result<(), ServersError> {
        let mut died = Vec::new();
        for (id, server) in &mut self.servers {
            let found = match &server.record.process {
                Some(process) => process::Process::adopt(process, id, server.record.spawn),
                None => process::Process::find(id, server.record.spawn),
            };
            let found = found.map_err(|source| ServersError::Io { path: PathBuf::from("/proc"), source })?;
            if let Some(process) = found {
                tracing::info!(server_id = %id, pid = process.id.pid, "world server adopted");
                server.record.process = Some(process.id.clone());
                server.process = Some(Live::new(process, now.mono, true));
            } else {
                "ended while no manager was watching".clone_into(&mut server.last_end);
                let process = server.record.process.take();
                let is_gone = process.is_none_or(|process| nothing_left(id, server.record.spawn, process.pid));
                let instance =
                    server.record.registered.take().map(|registered| registered.instance).filter(|_| is_gone);
                died.extend(instance.map(|instance| ServerDead { server: id.clone(), instance }));
            }
            save(&self.records, &server.record);
        }
        for death in died {
            self.announce(death);
        }
        Ok(())
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Ensure { servers, reply } => {
                let outcome = self.ensure(*servers);
                // Whoever asked may have gone; what was asked for stands.
                let _ = reply.send(outcome);
            }
            Message::StopEnvironment { environment, within, reply } => {
                self.running.remove(&environment);
                let stop = self.stopped.entry(environment).or_insert_with(|| Stop { within, waiters: Vec::new() });
                stop.within = stop.within.min(within);
                stop.waiters.push(reply);
                self.urgent = true;
            }
            Message::Barrier { environment, snapshot, timeout, reply } => {
                self.barrier(environment, snapshot, timeout, reply);
            }
            Message::BarrierRelease { environment, snapshot, reply } => {
                let _ = reply.send(self.release(&environment, &snapshot));
            }
            Message::Register { registration, reply } => {
                let _ = reply.send(self.register(*registration));
            }
            Message::Report { server, stream, report } => self.report(&server, stream, report),
            Message::StreamEnded { server, stream } => self.stream_ended(&server, stream),
        }
    }

    /// The moment a process is reaped: tell the gateways first, then see about another one.
    fn exited(&mut self, exit: Exit) {
        let Some(server) = self.servers.get_mut(&exit.server) else { return };
        let Some(live) = server.process.take_if(|live| live.process.id.pid == exit.pid) else { return };
        let now = SystemClock.now().mono;
        let environment = server.record.environment.clone();
        let died = server.record.registered.take();
        let why = match live.killed_because {
            Some(KillReason::NeverRegistered) => {
                format!("did not register within {} ms and was killed", self.limits.start_timeout.as_millis())
            }
            Some(KillReason::Silent) => {
                format!("reported nothing for {} ms and was killed", live.quiet.lasts().as_millis())
            }
            Some(KillReason::DidNotEnd) | None => exit.how,
        };
        server.last_end = match process::last_line(&server.log) {
            Some(line) if !live.told_to_end => format!("{why}; its log ends with: {line}"),
            _ => why,
        };
        server.record.process = None;
        if !live.told_to_end {
            server.exits.record(now, now.since(live.since), &self.limits);
        }
        let reason = server.last_end.clone();
        let hung = live.killed_because == Some(KillReason::Silent);
        // Players were left without it when it fell silent; the gateways hear of it now.
        let silent = if hung { live.quiet.lasts() } else { Duration::ZERO };
        if !live.told_to_end {
            server.out = Some((now, silent));
        }
        let record = server.record.clone();
        // Certainly dead is only what has left nothing behind; of another the gateways wait for the lease.
        if nothing_left(&exit.server, record.spawn, exit.pid)
            && let Some(registered) = died
        {
            self.announce(ServerDead { server: exit.server.clone(), instance: registered.instance });
        }
        if live.told_to_end {
            tracing::info!(server_id = %exit.server, pid = exit.pid, reason, "world server stopped");
        } else {
            let how = if hung { "hang" } else { "exit" };
            let lived_ms = u64::try_from(now.since(live.since).as_millis()).unwrap_or(u64::MAX);
            let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(server_id = %exit.server, pid = exit.pid, reason, how, lived_ms, silent_ms, "world server died");
            tidegate_events::event!("server_died", server = %exit.server, pid = exit.pid, how = how, silent_ms = silent_ms);
        }
        save(&self.records, &record);
        self.break_barrier(&environment, &exit.server, "died");
        self.urgent = true;
    }

    fn announce(&mut self, death: ServerDead) {
        if self.recent_deaths.len() >= DEATHS_KEPT {
            self.recent_deaths.pop_front();
        }
        self.recent_deaths.push_back(death.clone());
        // Nobody listening is no fault: who comes later finds it in the view.
        let _ = self.deaths.send(death);
    }

    /// Measures silence, and ends barriers whose time is up.
    fn tick(&mut self) {
        let now = SystemClock.now().mono;
        let passed = now.since(self.last_tick);
        self.last_tick = now;
        if passed > LATE {
            let late_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(late_ms, "this manager was not run for a while; no world server's silence counts up to now");
            self.servers.values_mut().filter_map(|server| server.process.as_mut()).for_each(|live| live.quiet.over());
        } else {
            self.silence(now, passed);
        }
        let over: Vec<EnvironmentId> =
            self.barriers.iter().filter(|(_, barrier)| now >= barrier.until).map(|(id, _)| id.clone()).collect();
        for environment in over {
            if let Some(barrier) = self.barriers.get_mut(&environment) {
                barrier.timed_out();
            }
            self.drop_barrier(&environment);
        }
    }

    /// Finds who hangs. What is done about it is the plan's.
    fn silence(&mut self, now: Mono, passed: Duration) {
        let hang = Duration::from_millis(self.options.config.hang_ms);
        let long = self.report_timeout * SILENT_TIMEOUTS;
        let running = self.servers.values().filter(|server| server.process.is_some()).count();
        for (id, server) in &mut self.servers {
            let barrier = self.barriers.contains_key(&server.record.environment);
            let Some(live) = server.process.as_mut().filter(|live| live.ending.is_none()) else { continue };
            let deadline = match live.heard {
                Some(_) => live.deadline(hang, long, barrier),
                // One that this manager has never heard may know it by another address: it is left alone, unless it
                // certainly does nothing.
                None if live.adopted && process::is_stopped(live.speaker) => hang,
                None => continue,
            };
            let speaker = live.speaker;
            if !live.hung && live.quiet.goes_on(passed, deadline, || process::waited_for_cpu(speaker)) {
                live.hung = true;
                live.held_back = true;
            }
            if live.hung && live.held_back {
                let silent_ms = u64::try_from(live.quiet.lasts().as_millis()).unwrap_or(u64::MAX);
                live.held_back = !self.kills.one_more(running, self.options.config.hang_share_percent, now);
                self.urgent = true;
                if live.held_back {
                    tracing::debug!(server_id = %id, silent_ms, "world server hangs; not killed yet, too many others were");
                } else {
                    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                    let pid = live.process.id.pid;
                    tracing::warn!(server_id = %id, pid, silent_ms, deadline_ms, "world server hangs; killing it");
                }
            }
        }
    }

    /// Plans and acts until there is nothing to do, then publishes. Says when to look again at the latest.
    fn settle(&mut self) -> Option<Mono> {
        // Every round changes what is observed, so that the next plan is shorter: start, ask, terminate, kill and forget
        // at most once each.
        const ROUNDS: usize = 6;
        let mut wake = None;
        for _ in 0..ROUNDS {
            let now = SystemClock.now().mono;
            let wanted = self.wanted();
            let observed = self
                .servers
                .values()
                .map(|server| (server.slot.clone(), server.observe(now, self.report_timeout)))
                .collect();
            let plan = plan::plan(&wanted, &observed, now, &self.limits);
            wake = plan.wake;
            if plan.actions.is_empty() {
                break;
            }
            self.urgent = true;
            for action in plan.actions {
                self.act(action, now);
            }
        }
        let servers = &self.servers;
        self.stopped.retain(|environment, stop| {
            let left = servers.values().any(|server| server.record.environment == *environment);
            if !left {
                for waiter in stop.waiters.drain(..) {
                    let _ = waiter.send(Ok(()));
                }
            }
            left
        });
        self.publish();
        wake
    }
}

/// Ends what a server's process has left behind; false if something of it may still live.
fn nothing_left(server: &ServerId, spawn: uuid::Uuid, leader: u32) -> bool {
    match process::end_left_behind(server, spawn, leader) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(server_id = %server, %error, "it is not known whether a world server left anything behind");
            false
        }
    }
}
