//! The one task that owns what is known of all world servers' processes, and acts on it.
//!
//! It turns every message and every exit into changed knowledge, then plans ([`super::plan`]) and does what the plan says.
//! Starting a process blocks for a few milliseconds (two fsyncs, fork): starts are rare, and reports can wait that long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tidegate_proto::v1::{self, world_directive};
use tidegate_types::{Clock as _, EnvironmentId, Mono, Now, ServerId, SnapshotId, SystemClock};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::barrier::Barrier;
use super::messages::{Message, Registration, RegistrationRefused, Report};
use super::plan::{self, Action, Ending, KillReason, Limits, Occupancy, Wanted};
use super::process::{self, Launch};
use super::record::{self, Record, Records, file_stem};
use super::server::{Live, Server};
use super::spec::{EnvironmentServers, SavedZone, Slot};
use super::view::{EnvironmentView, ServerDead, ServerState, ServersView};
use super::{BarrierZones, Options, ServersError};
use crate::pki::Pki;

/// How often silence is measured.
const TICK: Duration = Duration::from_millis(250);
/// Most silence that one tick adds: a manager that was itself suspended has not been listening.
const TICK_COUNTS_AT_MOST: Duration = Duration::from_millis(500);
/// A registered server that has missed its reports for this many report time-outs is replaced: it hangs.
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
    waiters: Vec<oneshot::Sender<()>>,
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
            silent: report_timeout * SILENT_TIMEOUTS,
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
                server.record.process = None;
                let instance = server.record.registered.take().map(|registered| registered.instance);
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

    fn ensure(&mut self, mut servers: EnvironmentServers) -> Result<(), ServersError> {
        servers.database = std::path::absolute(&servers.database)
            .map_err(|source| ServersError::Io { path: servers.database.clone(), source })?;
        if let Some(assets) = &mut servers.assets {
            assets.path = std::path::absolute(&assets.path)
                .map_err(|source| ServersError::Io { path: assets.path.clone(), source })?;
        }
        self.check(&servers)?;
        let environment = servers.environment.clone();
        if let Some(stop) = self.stopped.remove(&environment) {
            // Those who wait for its end wait no longer: it is wanted again.
            drop(stop);
        }
        let servers = Arc::new(servers);
        let before = self.running.insert(environment.clone(), Arc::clone(&servers));
        if before.as_ref() != Some(&servers) {
            self.urgent = true;
        }
        for server in self.servers.values_mut().filter(|server| server.record.environment == environment) {
            if before.is_none() {
                server.stage(Some(&servers));
            } else {
                server.serve(servers.serve);
            }
        }
        Ok(())
    }

    /// Refuses what cannot be run, before anything of it is.
    fn check(&self, servers: &EnvironmentServers) -> Result<(), ServersError> {
        let invalid = |field, why: String| ServersError::Invalid { field, why };
        if servers.command.is_empty() {
            return Err(invalid("command", "is empty".to_owned()));
        }
        let mut ids: BTreeMap<ServerId, Slot> = BTreeMap::new();
        let others = self.running.values().filter(|other| other.environment != servers.environment);
        for environment in others.map(|other| &**other).chain([servers]) {
            for fleet in &environment.fleets {
                for ordinal in 1..=fleet.replicas {
                    let slot =
                        Slot { environment: environment.environment.clone(), fleet: fleet.name.clone(), ordinal };
                    let id = slot.server_id().map_err(|e| invalid("fleets", e.to_string()))?;
                    if ids.len() >= self.options.config.limit as usize {
                        let wanted = ids.len() + 1;
                        return Err(ServersError::TooMany { wanted, limit: self.options.config.limit });
                    }
                    if let Some(other) = ids.insert(id.clone(), slot) {
                        let why =
                            format!("server id \"{id}\" is taken by fleet {} of {}", other.fleet, other.environment);
                        return Err(invalid("fleets", why));
                    }
                }
            }
        }
        Ok(())
    }

    fn register(&mut self, registration: Registration) -> Result<u64, RegistrationRefused> {
        let id = registration.server.clone();
        let Some(server) = self.servers.get_mut(&id) else {
            return Err(RegistrationRefused::UnknownServer(id));
        };
        server.check(&registration)?;
        let token = self.next_stream;
        self.next_stream += 1;
        let wanted = self.running.get(&server.record.environment).cloned();
        let before = server.record.registered.clone();
        tracing::info!(server_id = %id, instance = %registration.instance, build = %registration.build, "world server registered");
        server.register(registration, token, wanted.as_deref(), SystemClock.now());
        if server.record.registered != before {
            save(&self.records, &server.record);
        }
        self.urgent = true;
        Ok(token)
    }

    fn report(&mut self, id: &ServerId, stream: u64, report: Report) {
        let now = SystemClock.now();
        let Some(server) = self.servers.get_mut(id) else { return };
        let environment = server.record.environment.clone();
        let Some(live) = &mut server.process else { return };
        if live.stream.as_ref().is_none_or(|open| open.token != stream) {
            return;
        }
        live.heard(now);
        match report {
            Report::Status(status) => self.urgent |= live.status(status, now),
            Report::AssetsLoaded { digest, error } => {
                let wanted = self.running.get(&environment).cloned();
                server.assets_loaded(&digest, &error, wanted.as_deref());
                self.urgent = true;
            }
            Report::ZonesLoaded { error } => {
                let serve = self.running.get(&environment).is_some_and(|wanted| wanted.serve);
                server.zones_loaded(&error, serve);
                self.urgent = true;
            }
            Report::BarrierReached { snapshot, zones } => {
                let zones = zones
                    .into_iter()
                    .map(|(zone, state, format)| SavedZone { server: id.clone(), zone, state, format })
                    .collect();
                match self.barriers.get_mut(&environment) {
                    Some(barrier) if barrier.snapshot == snapshot => barrier.reached(id, zones),
                    // A barrier that has been given up: it must not stand still until its time-out.
                    _ => release_one(server, &snapshot),
                }
            }
            Report::BarrierFailed { snapshot, error } => {
                if self.barriers.get(&environment).is_some_and(|barrier| barrier.snapshot == snapshot) {
                    self.break_barrier(&environment, id, &format!("could not stand still: {error}"));
                }
            }
        }
    }

    fn stream_ended(&mut self, id: &ServerId, stream: u64) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let environment = server.record.environment.clone();
        let Some(live) = &mut server.process else { return };
        if live.stream.as_ref().is_some_and(|open| open.token == stream) {
            live.stream = None;
            self.urgent = true;
            self.break_barrier(&environment, id, "lost its stream to the manager");
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
                format!("reported nothing for {} ms and was killed", self.limits.silent.as_millis())
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
        let record = server.record.clone();
        if let Some(registered) = died {
            self.announce(ServerDead { server: exit.server.clone(), instance: registered.instance });
        }
        if live.told_to_end {
            tracing::info!(server_id = %exit.server, pid = exit.pid, reason, "world server stopped");
        } else {
            tracing::warn!(server_id = %exit.server, pid = exit.pid, reason, "world server died");
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

    fn barrier(
        &mut self,
        environment: EnvironmentId,
        snapshot: SnapshotId,
        timeout: Duration,
        reply: oneshot::Sender<Result<Vec<BarrierZones>, ServersError>>,
    ) {
        let now = SystemClock.now().mono;
        let members = || self.servers.values().filter(|server| server.record.environment == environment);
        let away = members().find(|server| server.process.as_ref().is_none_or(|live| live.stream.is_none()));
        let why = if let Some(barrier) = self.barriers.get(&environment) {
            Some(format!("{} is being taken of this environment", barrier.snapshot))
        } else if let Some(away) = away {
            Some(format!("{} is not connected", away.record.server))
        } else if members().next().is_none() {
            Some("the environment has no running servers".to_owned())
        } else {
            None
        };
        if let Some(why) = why {
            let _ = reply.send(Err(ServersError::Barrier { why }));
            return;
        }
        let ids: BTreeSet<ServerId> = members().map(|server| server.record.server.clone()).collect();
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let barrier = Barrier::new(snapshot.clone(), now + timeout, ids.clone(), reply);
        self.barriers.insert(environment.clone(), barrier);
        for id in &ids {
            let directive = v1::Barrier { snapshot_id: snapshot.to_string(), timeout_ms };
            let live = self.servers.get_mut(id).and_then(|server| server.process.as_mut());
            let sent = live.is_some_and(|live| live.direct(world_directive::Message::Barrier(directive)));
            if !sent {
                self.break_barrier(&environment, id, "does not read its stream");
                return;
            }
        }
    }

    /// A server of the environment does not stand still (any more).
    fn break_barrier(&mut self, environment: &EnvironmentId, server: &ServerId, why: &str) {
        if let Some(barrier) = self.barriers.get_mut(environment)
            && barrier.broken_by(server, why)
        {
            self.drop_barrier(environment);
        }
    }

    fn release(&mut self, environment: &EnvironmentId, snapshot: &SnapshotId) -> bool {
        match self.barriers.get(environment) {
            Some(barrier) if barrier.snapshot == *snapshot => {
                let held = barrier.held(SystemClock.now().mono);
                self.drop_barrier(environment);
                held
            }
            _ => false,
        }
    }

    fn drop_barrier(&mut self, environment: &EnvironmentId) {
        let Some(barrier) = self.barriers.remove(environment) else { return };
        for id in barrier.servers() {
            if let Some(server) = self.servers.get_mut(id) {
                release_one(server, &barrier.snapshot);
            }
        }
    }

    /// Measures silence, and ends barriers whose time is up.
    fn tick(&mut self) {
        let now = SystemClock.now().mono;
        let passed = now.since(self.last_tick).min(TICK_COUNTS_AT_MOST);
        self.last_tick = now;
        for live in self.servers.values_mut().filter_map(|server| server.process.as_mut()) {
            // One that this manager has never heard may know it by another address: it is left alone.
            if live.heard.is_some_and(|heard| now.since(heard.mono) > passed) {
                live.silent += passed;
            }
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
                    let _ = waiter.send(());
                }
            }
            left
        });
        self.publish();
        wake
    }

    fn wanted(&self) -> Wanted {
        let fleets = self.running.values().flat_map(|servers| {
            servers.fleets.iter().map(|fleet| ((servers.environment.clone(), fleet.name.clone()), fleet.replicas))
        });
        let stopped = self.stopped.iter().map(|(environment, stop)| (environment.clone(), stop.within));
        Wanted { fleets: fleets.collect(), stopped: stopped.collect() }
    }

    /// The one place where a plan becomes deeds.
    fn act(&mut self, action: Action, now: Mono) {
        match action {
            Action::Start(slot) => self.start(&slot, now),
            Action::Retire(slot) => self.with_live(&slot, |live| live.retiring = Some(now)),
            Action::Keep(slot) => self.with_live(&slot, |live| live.retiring = None),
            Action::Ask { slot, within } => self.with_live(&slot, |live| {
                let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                live.told_to_end = true;
                // Without a stream the next plan sends a signal.
                if live.direct(world_directive::Message::Stop(v1::Stop { within_ms })) {
                    live.ending = Some(Ending::Asked { until: now + within });
                }
            }),
            Action::Terminate(slot) => self.with_live(&slot, |live| {
                live.told_to_end = true;
                live.ending = Some(Ending::Terminated { at: now });
                signal(live, Signal::TERM);
            }),
            Action::Kill { slot, why } => self.with_live(&slot, |live| {
                live.killed_because = Some(why);
                live.ending = Some(Ending::Killed);
                signal(live, Signal::KILL);
            }),
            Action::Forget(slot) => {
                let Ok(id) = slot.server_id() else { return };
                if let Err(error) = self.records.remove(&id) {
                    tracing::warn!(server_id = %id, %error, "record could not be removed");
                }
                self.servers.remove(&id);
            }
        }
    }

    fn with_live(&mut self, slot: &Slot, deed: impl FnOnce(&mut Live)) {
        let server = self.servers.values_mut().find(|server| server.slot == *slot);
        if let Some(live) = server.and_then(|server| server.process.as_mut()) {
            deed(live);
        }
    }

    fn start(&mut self, slot: &Slot, now: Mono) {
        let Some(wanted) = self.running.get(&slot.environment).cloned() else { return };
        let (Some(fleet), Ok(id)) = (wanted.fleet(&slot.fleet), slot.server_id()) else { return };
        let restarts = self.servers.get(&id).map_or(0, |server| server.record.restarts + 1);
        let record = Record {
            version: record::VERSION,
            server: id.clone(),
            realm: wanted.realm.clone(),
            environment: slot.environment.clone(),
            fleet: slot.fleet.clone(),
            ordinal: slot.ordinal,
            build: wanted.build.clone(),
            spawn: Uuid::new_v4(),
            process: None,
            zones: fleet.zones.clone(),
            instance_kinds: fleet.instance_kinds.clone(),
            capacity: fleet.capacity,
            registered: None,
            restarts,
        };
        let log = process::log_path(&self.logs, &file_stem(&id));
        let server = self.servers.entry(id.clone()).or_insert_with(|| Server::new(record.clone(), log));
        server.record = record;
        let started = launch(&self.options, &self.pki, &self.records, &wanted, server);
        match started {
            Ok((child, process)) => {
                tracing::info!(server_id = %id, pid = process.id.pid, restarts, "world server started");
                server.not_started = false;
                server.record.process = Some(process.id.clone());
                save(&self.records, &server.record);
                watch_child(id, process.id.pid, child, self.exits_in.clone());
                server.process = Some(Live::new(process, now, false));
            }
            Err(why) => {
                tracing::warn!(server_id = %id, reason = why, "world server could not be started");
                server.last_end = why;
                server.not_started = true;
                server.exits.record_not_started(now, &self.limits);
            }
        }
    }

    fn publish(&mut self) {
        let now = SystemClock.now();
        if !self.urgent && now.mono.since(self.published) < FIGURES_EVERY {
            return;
        }
        self.urgent = false;
        self.published = now.mono;
        let (running, report_timeout) = (&self.running, self.report_timeout);
        let servers: BTreeMap<_, _> = self
            .servers
            .iter_mut()
            .map(|(id, server)| {
                let wanted = running.get(&server.record.environment).map(|wanted| &**wanted);
                (id.clone(), server.view(wanted, now, report_timeout))
            })
            .collect();
        let mut view = ServersView {
            servers,
            recent_deaths: self.recent_deaths.iter().cloned().collect(),
            ..ServersView::default()
        };
        let environments: BTreeSet<EnvironmentId> = running
            .keys()
            .chain(self.stopped.keys())
            .cloned()
            .chain(self.servers.values().map(|server| server.record.environment.clone()))
            .collect();
        for environment in environments {
            if let Some(summary) = self.summary(&environment, &view, now.mono) {
                view.environments.insert(environment, summary);
            }
        }
        self.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }

    fn summary(&self, environment: &EnvironmentId, view: &ServersView, now: Mono) -> Option<EnvironmentView> {
        let wanted = self.running.get(environment);
        let members = || view.servers.values().filter(|server| server.environment == *environment);
        let realm =
            wanted.map(|wanted| &wanted.realm).or_else(|| members().next().map(|server| &server.realm))?.clone();
        let desired = wanted.map_or(0, |wanted| wanted.fleets.iter().map(|fleet| fleet.replicas).sum());
        let ready = members().filter(|server| server.state == ServerState::Ready && !server.retiring).count();
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        let loaded =
            members().filter(|server| matches!(server.state, ServerState::Loaded | ServerState::Ready)).count();
        let problem = members().find_map(|server| {
            let is_wrong = server.build_ok == Some(false) || server.digest_ok == Some(false);
            let failing =
                || self.servers.get(&server.id).is_some_and(|known| known.exits.failing(now) || known.not_started);
            (wanted.is_some() && (is_wrong || failing())).then(|| format!("{} {}", server.id, server.reason))
        });
        let occupancy = members().fold(Occupancy::Empty, |sum, server| match (sum, server.occupancy) {
            (Occupancy::Unknown, _) | (_, Occupancy::Unknown) => Occupancy::Unknown,
            (sum, Occupancy::Empty) => sum,
            (Occupancy::Empty, more) => more,
            (Occupancy::Occupied(a), Occupancy::Occupied(b)) => Occupancy::Occupied(a.saturating_add(b)),
        });
        let stopping = self.stopped.contains_key(environment);
        Some(EnvironmentView {
            realm,
            desired,
            ready,
            loaded: u32::try_from(loaded).unwrap_or(u32::MAX),
            complete: wanted.is_some() && ready >= desired && problem.is_none(),
            problem,
            occupancy,
            stopping,
        })
    }
}

/// Records the intent, makes what the process needs, and starts it. The error is one line for people.
fn launch(
    options: &Options,
    pki: &Pki,
    records: &Records,
    wanted: &EnvironmentServers,
    server: &Server,
) -> Result<(tokio::process::Child, process::Process), String> {
    let record = &server.record;
    let files = pki.server_files(&record.server).map_err(|e| describe_chain("make its certificate", &e))?;
    if let Some(parent) = wanted.database.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("cannot make {}: {e}", parent.display()))?;
    }
    records.save(record).map_err(|e| format!("cannot write its record: {e}"))?;
    let command = Launch {
        command: &wanted.command,
        environment: variables(options, wanted, record, &files),
        server: &record.server,
        spawn: record.spawn,
        log: &server.log,
    };
    process::start(&command).map_err(|e| format!("cannot start {}: {e}", wanted.command[0]))
}

/// The environment variables of a world server; later ones win.
fn variables(
    options: &Options,
    wanted: &EnvironmentServers,
    record: &Record,
    files: &crate::pki::ServerFiles,
) -> Vec<(OsString, OsString)> {
    let list = |ids: &[tidegate_types::ZoneId]| {
        OsString::from(ids.iter().map(tidegate_types::ZoneId::as_str).collect::<Vec<_>>().join(","))
    };
    let fleet = wanted.fleet(&record.fleet).map(|fleet| &fleet.environment);
    let given = wanted.command_environment.iter().chain(fleet.into_iter().flatten());
    let ours: [(&str, OsString); 13] = [
        ("TIDEGATE_MANAGER", options.manager_url.clone().into()),
        ("TIDEGATE_REALM", record.realm.as_str().into()),
        ("TIDEGATE_ENVIRONMENT", record.environment.as_str().into()),
        ("TIDEGATE_FLEET", record.fleet.as_str().into()),
        ("TIDEGATE_BUILD", record.build.as_str().into()),
        ("TIDEGATE_LINK_LISTEN", "127.0.0.1:0".into()),
        ("TIDEGATE_LINK_CA", files.ca.clone().into()),
        ("TIDEGATE_LINK_CERT", files.cert.clone().into()),
        ("TIDEGATE_LINK_KEY", files.key.clone().into()),
        ("TIDEGATE_ZONES", list(&record.zones)),
        ("TIDEGATE_INSTANCE_KINDS", list(&record.instance_kinds)),
        ("TIDEGATE_CAPACITY", record.capacity.to_string().into()),
        ("TIDEGATE_DATABASE", wanted.database.clone().into()),
    ];
    given
        .map(|(name, value)| (name.into(), value.into()))
        .chain(ours.map(|(name, value)| (name.into(), value)))
        .collect()
}

fn describe_chain(doing: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("cannot {doing}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Lets one server go on.
fn release_one(server: &mut Server, snapshot: &SnapshotId) {
    if let Some(live) = &mut server.process {
        live.direct(world_directive::Message::BarrierRelease(v1::BarrierRelease { snapshot_id: snapshot.to_string() }));
    }
}

fn save(records: &Records, record: &Record) {
    if let Err(error) = records.save(record) {
        // The process is found again by its spawn id even so.
        tracing::warn!(server_id = %record.server, %error, "record could not be written");
    }
}

fn signal(live: &Live, signal: Signal) {
    if let Err(error) = live.process.signal(signal) {
        tracing::warn!(pid = live.process.id.pid, %error, "world server could not be signalled");
    }
}

/// Waits for the end of our own child.
fn watch_child(server: ServerId, pid: u32, mut child: tokio::process::Child, exits: mpsc::Sender<Exit>) {
    tokio::spawn(async move {
        let how = match child.wait().await {
            Ok(status) => process::describe(status),
            Err(error) => format!("ended ({error})"),
        };
        let _ = exits.send(Exit { server, pid, how }).await;
    });
}

/// Waits for the ends of the processes that an earlier manager started.
fn watch_adopted(adopted: Vec<(ServerId, process::Process)>, exits: mpsc::Sender<Exit>) {
    let listens = exits.clone();
    let tell = move |server: ServerId, process: process::Process| {
        let how = "ended (its exit code went to an earlier manager)".to_owned();
        exits.blocking_send(Exit { server, pid: process.id.pid, how }).is_ok()
    };
    tokio::task::spawn_blocking(move || process::watch_ends(adopted, tell, || !listens.is_closed()));
}
