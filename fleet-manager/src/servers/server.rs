//! One world server as the supervisor knows it: its process, its stream, how far it has come, and what it says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_proto::v1::{self, world_directive};
use tidegate_types::{Mono, Now, Timestamp};
use tokio::sync::mpsc;

use super::messages::{Registration, RegistrationRefused, Status};
use super::plan::{self, Ending, Exits, KillReason, Occupancy};
use super::process;
use super::record::{Record, Registered};
use super::silence::{self, Quiet};
use super::spec::{EnvironmentServers, Slot, tls_name};
use super::staging::{Facts, Staging};
use super::view::{ServerState, ServerView};

/// A world server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) record: Record,
    pub(crate) slot: Slot,
    pub(crate) log: PathBuf,
    pub(crate) process: Option<Live>,
    pub(crate) exits: Exits,
    /// Why it last ended or could not be started.
    pub(crate) last_end: String,
    /// The last attempt did not even make a process.
    pub(crate) not_started: bool,
    /// When its players were left without it, until it serves again: when it died, and how long it had been silent then.
    pub(crate) out: Option<(Mono, Duration)>,
    shown: Option<(ServerState, Timestamp)>,
}

/// A process that lives, and all that is known of this run.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) process: process::Process,
    pub(crate) since: Mono,
    pub(crate) adopted: bool,
    pub(crate) stream: Option<Stream>,
    pub(crate) staging: Staging,
    facts: Option<Facts>,
    status: Option<Status>,
    /// When it last said anything to this manager.
    pub(crate) heard: Option<Now>,
    /// How long it has said nothing.
    pub(crate) quiet: Quiet,
    /// It counts as hung.
    pub(crate) hung: bool,
    /// It counts as hung and is not killed yet: so many others were of late.
    pub(crate) held_back: bool,
    /// How often it says how it is, by its own word.
    status_every: Duration,
    /// The process that speaks: the one that was started, or (under a script) one of its group.
    pub(crate) speaker: u32,
    empty_since: Option<Mono>,
    pub(crate) retiring: Option<Mono>,
    pub(crate) ending: Option<Ending>,
    /// It was told to end because it is not wanted: its end is no failure.
    pub(crate) told_to_end: bool,
    pub(crate) killed_because: Option<KillReason>,
}

/// The way to a server that has registered.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) token: u64,
    directives: mpsc::Sender<v1::WorldDirective>,
}

impl Live {
    pub(crate) fn new(process: process::Process, since: Mono, adopted: bool) -> Self {
        let speaker = process.id.pid;
        Self {
            process,
            since,
            adopted,
            stream: None,
            staging: Staging::Away,
            facts: None,
            status: None,
            heard: None,
            quiet: Quiet::default(),
            hung: false,
            held_back: false,
            status_every: Duration::ZERO,
            speaker,
            empty_since: None,
            retiring: None,
            ending: None,
            told_to_end: false,
            killed_because: None,
        }
    }

    /// Sends a directive. A server that does not read its stream has as good as none.
    pub(crate) fn direct(&mut self, message: world_directive::Message) -> bool {
        let Some(stream) = &self.stream else { return false };
        let sent = stream.directives.try_send(v1::WorldDirective { message: Some(message) }).is_ok();
        if !sent {
            self.stream = None;
        }
        sent
    }

    /// It has said something.
    pub(crate) fn heard(&mut self, now: Now) {
        self.heard = Some(now);
        self.quiet.over();
        (self.hung, self.held_back) = (false, false);
    }

    /// Takes a status report. True when something changed that others act on at once.
    pub(crate) fn status(&mut self, status: Status, now: Now) -> bool {
        let before = (self.staging.clone(), self.status.as_ref().map(|s| (s.players, s.in_handover)));
        self.staging.status(status.serving);
        if status.players == 0 && status.in_handover == 0 {
            self.empty_since.get_or_insert(now.mono);
        } else {
            self.empty_since = None;
        }
        let after = (self.staging.clone(), Some((status.players, status.in_handover)));
        self.status = Some(status);
        before != after
    }

    /// It says that it serves, and is wanted to.
    pub(crate) fn serves(&self) -> bool {
        self.staging == Staging::Serving
    }

    fn late(&self, now: Mono, report_timeout: Duration) -> bool {
        self.held_back || self.heard.is_none_or(|heard| now.since(heard.mono) > report_timeout)
    }

    /// How long it may be silent before it counts as hung: a short time while it serves, because players wait. Before that
    /// it may be busy loading, during a `barrier` busy saving, and without a stream on its way back: then it has `long`.
    pub(crate) fn deadline(&self, hang: Duration, long: Duration, barrier: bool) -> Duration {
        if self.stream.is_some() && self.staging == Staging::Serving && !barrier {
            silence::deadline(hang, self.status_every).min(long)
        } else {
            long
        }
    }
}

impl Server {
    pub(crate) fn new(record: Record, log: PathBuf) -> Self {
        let slot = record.slot();
        Self {
            record,
            slot,
            log,
            process: None,
            exits: Exits::default(),
            last_end: String::new(),
            not_started: false,
            out: None,
            shown: None,
        }
    }

    /// Checks a registration against what was started.
    pub(crate) fn check(&self, registration: &Registration) -> Result<(), RegistrationRefused> {
        let pairs = [
            ("environment", registration.environment.as_str(), self.record.environment.as_str()),
            ("realm", registration.realm.as_str(), self.record.realm.as_str()),
            ("fleet", registration.fleet.as_str(), self.record.fleet.as_str()),
        ];
        for (field, given, expected) in pairs {
            if given != expected {
                return Err(RegistrationRefused::Mismatch {
                    server: registration.server.clone(),
                    field,
                    given: given.to_owned(),
                    expected: expected.to_owned(),
                });
            }
        }
        match &self.process {
            Some(live) if live.process.includes(registration.pid) => Ok(()),
            live => Err(RegistrationRefused::OtherProcess {
                server: registration.server.clone(),
                given: registration.pid,
                expected: live.as_ref().map(|live| live.process.id.pid),
            }),
        }
    }

    /// Takes a registration that was checked: the stream, the facts, and the first directives.
    pub(crate) fn register(
        &mut self,
        registration: Registration,
        token: u64,
        wanted: Option<&EnvironmentServers>,
        now: Now,
    ) {
        let Some(live) = &mut self.process else { return };
        live.heard(now);
        live.facts = Some(Facts {
            build: registration.build.clone(),
            assets_digest: registration.assets_digest,
            serving: registration.serving,
        });
        live.stream = Some(Stream { token, directives: registration.directives });
        (live.status_every, live.speaker) = (registration.status_every, registration.pid);
        self.record.registered = Some(Registered {
            instance: registration.instance,
            build: registration.build,
            link_address: registration.link_address,
            state_formats_read: registration.state_formats_read,
            state_format_write: registration.state_format_write,
        });
        live.direct(world_directive::Message::Registered(v1::Registered {}));
        if let Some(Ending::Asked { until }) = live.ending {
            let within_ms = u32::try_from(until.since(now.mono).as_millis()).unwrap_or(u32::MAX);
            live.direct(world_directive::Message::Stop(v1::Stop { within_ms }));
        }
        self.stage(wanted);
    }

    /// Sends a registered server on its way to serving (again).
    pub(crate) fn stage(&mut self, wanted: Option<&EnvironmentServers>) {
        let Some(live) = &mut self.process else { return };
        let Some(facts) = &live.facts else { return };
        let (staging, directives) = Staging::begin(facts, &self.record.build, wanted, &self.slot);
        live.staging = staging;
        for directive in directives {
            live.direct(directive);
        }
    }

    /// Its assets are there, or not.
    pub(crate) fn assets_loaded(&mut self, digest: &[u8], error: &str, wanted: Option<&EnvironmentServers>) {
        let Some(live) = &mut self.process else { return };
        if let (Some(facts), Ok(digest)) = (&mut live.facts, digest.try_into())
            && error.is_empty()
        {
            facts.assets_digest = Some(digest);
        }
        for directive in live.staging.assets_loaded(digest, error, wanted, &self.slot) {
            live.direct(directive);
        }
    }

    /// Its zones are there, or not.
    pub(crate) fn zones_loaded(&mut self, error: &str, serve: bool) {
        let Some(live) = &mut self.process else { return };
        for directive in live.staging.zones_loaded(error, serve) {
            live.direct(directive);
        }
    }

    /// A loaded server is wanted to serve (or not yet).
    pub(crate) fn serve(&mut self, serve: bool) {
        let Some(live) = &mut self.process else { return };
        for directive in live.staging.serve(serve) {
            live.direct(directive);
        }
    }

    /// Whether it can be called empty.
    pub(crate) fn occupancy(&self, now: Mono, report_timeout: Duration) -> Occupancy {
        let Some(live) = &self.process else { return Occupancy::Empty };
        if self.record.registered.is_none() && !live.adopted {
            // Nobody was ever told where it is.
            return Occupancy::Empty;
        }
        match &live.status {
            Some(status) if live.stream.is_some() && !live.late(now, report_timeout) => {
                match status.players.max(status.in_handover) {
                    0 => Occupancy::Empty,
                    players => Occupancy::Occupied(players),
                }
            }
            _ => Occupancy::Unknown,
        }
    }

    /// What the plan needs to know.
    pub(crate) fn observe(&self, now: Mono, report_timeout: Duration) -> plan::Observed {
        let process = match &self.process {
            None => plan::Process::Absent,
            Some(live) => {
                let occupancy = self.occupancy(now, report_timeout);
                let never = self.record.registered.is_none() && !live.adopted;
                plan::Process::Running(plan::Running {
                    since: live.since,
                    registered: self.record.registered.is_some(),
                    connected: live.stream.is_some(),
                    hung: live.hung && !live.held_back,
                    occupancy,
                    empty_since: match occupancy {
                        Occupancy::Empty if never => Some(live.since),
                        Occupancy::Empty => live.empty_since,
                        Occupancy::Occupied(_) | Occupancy::Unknown => None,
                    },
                    retiring: live.retiring,
                    ending: live.ending,
                    told_to_end: live.told_to_end,
                })
            }
        };
        plan::Observed { process, exits: self.exits.clone() }
    }

    fn state(&self, now: Mono, report_timeout: Duration) -> ServerState {
        let Some(live) = &self.process else { return ServerState::Exited };
        if live.ending.is_some() {
            ServerState::Stopping
        } else if self.record.registered.is_none() {
            ServerState::Starting
        } else if live.stream.is_none() || live.late(now, report_timeout) {
            ServerState::Unreachable
        } else if live.staging == Staging::Serving {
            ServerState::Ready
        } else if matches!(live.staging, Staging::Loaded | Staging::Told) {
            ServerState::Loaded
        } else {
            ServerState::Loading
        }
    }

    /// Why it is as it is, for people.
    fn reason(&self, state: ServerState, report_timeout: Duration) -> String {
        match state {
            ServerState::Ready | ServerState::Stopping => String::new(),
            ServerState::Starting | ServerState::Exited => self.last_end.clone(),
            ServerState::Unreachable => match &self.process {
                Some(live) if live.held_back => {
                    "says nothing; not killed yet, because others were of late (servers.hang_share_percent)".to_owned()
                }
                Some(live) if live.stream.is_some() => format!("no report for {} ms", report_timeout.as_millis()),
                _ => "its stream to the manager is broken".to_owned(),
            },
            ServerState::Loading | ServerState::Loaded => {
                self.process.as_ref().map(|live| live.staging.reason().to_owned()).unwrap_or_default()
            }
        }
    }

    /// What others see of it.
    pub(crate) fn view(
        &mut self,
        wanted: Option<&EnvironmentServers>,
        now: Now,
        report_timeout: Duration,
    ) -> ServerView {
        let state = self.state(now.mono, report_timeout);
        let since = match self.shown {
            Some((shown, since)) if shown == state => since,
            _ => {
                self.shown = Some((state, now.wall));
                now.wall
            }
        };
        let live = self.process.as_ref();
        let registered = self.record.registered.as_ref();
        let status = live.and_then(|live| live.status.clone()).unwrap_or_default();
        let has_assets = wanted.is_none_or(|wanted| wanted.assets.is_some());
        let digest_ok = match live.map(|live| &live.staging) {
            Some(Staging::Zones | Staging::Loaded | Staging::Told | Staging::Serving) => Some(true),
            Some(Staging::Wrong(_)) if registered.is_some_and(|r| r.build == self.record.build) => Some(false),
            Some(_) if registered.is_some() && !has_assets => Some(true),
            _ => None,
        };
        ServerView {
            id: self.record.server.clone(),
            environment: self.record.environment.clone(),
            realm: self.record.realm.clone(),
            fleet: self.record.fleet.clone(),
            instance: registered.map(|registered| registered.instance),
            state,
            pid: live.map(|live| live.process.id.pid),
            link_address: registered.map(|registered| registered.link_address.clone()).unwrap_or_default(),
            tls_name: tls_name(&self.record.server),
            build_expected: self.record.build.clone(),
            build_reported: registered.map(|registered| registered.build.clone()),
            build_ok: registered.map(|registered| registered.build == self.record.build),
            digest_ok,
            zones: self.record.zones.clone(),
            instance_kinds: self.record.instance_kinds.clone(),
            capacity: self.record.capacity,
            state_formats_read: registered.map(|r| r.state_formats_read.clone()).unwrap_or_default(),
            state_format_write: registered.map_or(0, |r| r.state_format_write),
            players: status.players,
            parked: status.parked,
            in_handover: status.in_handover,
            population: status.population.into_iter().collect::<BTreeMap<_, _>>(),
            tick_us: status.tick_us,
            occupancy: self.occupancy(now.mono, report_timeout),
            restarts: self.record.restarts,
            reason: self.reason(state, report_timeout),
            log_path: self.log.clone(),
            since,
            last_report: live.and_then(|live| live.heard).map(|heard| heard.wall),
            retiring: live.is_some_and(|live| live.retiring.is_some()),
        }
    }
}
