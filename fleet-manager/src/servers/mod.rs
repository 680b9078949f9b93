//! The world servers' processes: what shall run ([`spec`]), what does run ([`view`]), what to do about the difference
//! ([`plan`], pure), and the one task that does it ([`Supervisor`]).
//!
//! ```text
//!   Servers (handle) --ensure, stop, barrier--> supervisor --spawn, signal--> processes
//!   world_control ----register, reports-------->    |   <---exits (wait, pidfd)--+
//!                                                    \--> view (watch), deaths (broadcast), records on disk
//! ```
//!
//! World servers outlive the manager: they run in process groups of their own, and a record on disk lets the next
//! manager find and adopt them. Nothing here knows routing; who is drained or retired is decided elsewhere.

pub mod plan;
pub mod spec;
pub mod view;

mod barrier;
mod messages;
mod process;
mod record;
mod server;
mod silence;
mod staging;
mod supervisor;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::{EnvironmentId, ServerId, SnapshotId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use messages::{Registration, RegistrationRefused};
pub(crate) use messages::{Report, Status as ServerStatus};
pub use spec::{Assets, EnvironmentServers, FleetSpec, SavedZone, Slot, tls_name};
pub use supervisor::Supervisor;
pub use view::{EnvironmentView, ServerDead, ServerState, ServerView, ServersView};

use messages::Message;

use crate::config::ServersConfig;
use crate::pki::Pki;

/// Deaths that a slow subscriber may lag behind before it loses the oldest: more than the servers that one manager runs,
/// so that even all of them dying at once are heard of.
const DEATHS_KEPT: usize = 1024;

/// What the supervisor needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The manager's folder: `servers/` (records) and `logs/` are made in it.
    pub data_dir: PathBuf,
    /// The URL at which world servers reach this manager, such as `http://127.0.0.1:7400`.
    pub manager_url: String,
    /// Timings and limits.
    pub config: ServersConfig,
}

/// Why the supervisor cannot do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The desired state cannot be: the field and the reason.
    #[error("{field}: {why}")]
    Invalid {
        /// Which part of it.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// More servers than this manager may run.
    #[error("{wanted} world servers are wanted, this manager runs at most {limit} (servers.limit)")]
    TooMany {
        /// How many there would be.
        wanted: usize,
        /// The configured limit.
        limit: u32,
    },
    /// A folder or file of the supervisor's own cannot be used.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The barrier was not reached by all servers; everyone was released.
    #[error("the snapshot barrier was not reached: {why}")]
    Barrier {
        /// Who did not reach it, and why.
        why: String,
    },
    /// The environment was told to stop, and before it had stopped it was wanted again.
    #[error("the environment is wanted again")]
    WantedAgain,
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Stopped,
}

/// What one server handed over when it reached a barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierZones {
    /// The server.
    pub server: ServerId,
    /// Its zones.
    pub zones: Vec<SavedZone>,
}

/// Handle of the supervisor. Cheap to clone; the processes outlive it.
#[derive(Debug, Clone)]
pub struct Servers {
    messages: mpsc::Sender<Message>,
    view: watch::Receiver<Arc<ServersView>>,
    deaths: broadcast::Sender<ServerDead>,
}

impl Servers {
    /// Reads the records of what runs, and makes the supervisor of it. Processes that live are adopted when the
    /// supervisor runs; nothing is started before [`Servers::ensure`].
    ///
    /// # Errors
    /// The folders cannot be made or read.
    pub fn new(options: Options, pki: Pki) -> Result<(Self, Supervisor), ServersError> {
        // Every sender waits for room, and the supervisor never waits for a sender: 1024 is a burst of reports of every
        // server that a manager may run, and bounds memory.
        let (messages, inbox) = mpsc::channel(1024);
        let (deaths, _) = broadcast::channel(DEATHS_KEPT);
        let (supervisor, view) = Supervisor::open(options, pki, inbox, deaths.clone())?;
        Ok((Self { messages, view, deaths }, supervisor))
    }

    /// Makes this the desired state of the environment's servers. Telling the same again changes nothing; a smaller
    /// fleet loses its empty servers first and occupied ones only once they are empty.
    ///
    /// # Errors
    /// [`ServersError::Invalid`], [`ServersError::TooMany`], [`ServersError::Stopped`]. That a server cannot be started
    /// is not an error here: the view says so.
    pub async fn ensure(&self, servers: EnvironmentServers) -> Result<(), ServersError> {
        self.ask(|reply| Message::Ensure { servers: Box::new(servers), reply }).await?
    }

    /// Stops all servers of the environment for good: each is told to save and exit within that time, then is killed.
    /// Returns when no process of it is left. An environment without servers is stopped already.
    ///
    /// # Errors
    /// [`ServersError::WantedAgain`], [`ServersError::Stopped`].
    pub async fn stop_environment(&self, environment: EnvironmentId, within: Duration) -> Result<(), ServersError> {
        self.ask(|reply| Message::StopEnvironment { environment, within, reply }).await?
    }

    /// All servers, now and at each change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<ServersView>> {
        self.view.clone()
    }

    /// The environment's servers once all that are wanted are ready, or as they are when `within` is over.
    pub async fn when_complete(&self, environment: &EnvironmentId, within: Duration) -> Vec<ServerView> {
        let mut view = self.view.clone();
        let complete = view.wait_for(|view| view.environments.get(environment).is_some_and(|e| e.complete));
        // Late or never: whoever asked sees by the servers' states what is missing.
        let _ = tokio::time::timeout(within, complete).await;
        let view = Arc::clone(&self.view.borrow());
        view.servers.values().filter(|server| server.environment == *environment).cloned().collect()
    }

    /// Deaths from now on, each the moment the process was reaped.
    #[must_use]
    pub fn deaths(&self) -> broadcast::Receiver<ServerDead> {
        self.deaths.subscribe()
    }

    /// Brings every server of the environment to stand still, and returns their zones. They stand still until
    /// [`Servers::barrier_release`] or until `timeout` has passed, when they go on by themselves.
    ///
    /// # Errors
    /// [`ServersError::Barrier`] when one of them cannot or does not in time; everyone has then been released.
    pub async fn barrier(
        &self,
        environment: EnvironmentId,
        snapshot: SnapshotId,
        timeout: Duration,
    ) -> Result<Vec<BarrierZones>, ServersError> {
        self.ask(|reply| Message::Barrier { environment, snapshot, timeout, reply }).await?
    }

    /// Lets the environment's servers go on. True: the barrier held until now on every one of them, so that what was
    /// copied meanwhile is one consistent cut.
    ///
    /// # Errors
    /// [`ServersError::Stopped`].
    pub async fn barrier_release(
        &self,
        environment: EnvironmentId,
        snapshot: SnapshotId,
    ) -> Result<bool, ServersError> {
        self.ask(|reply| Message::BarrierRelease { environment, snapshot, reply }).await
    }

    /// A world server registers; see [`Registration`].
    pub(crate) async fn register(&self, registration: Registration) -> Result<u64, RegistrationRefused> {
        self.ask(|reply| Message::Register { registration: Box::new(registration), reply })
            .await
            .unwrap_or(Err(RegistrationRefused::Stopping))
    }

    /// A report on the stream that `register` answered with. Waits for room, so a flood of reports slows its sender.
    pub(crate) async fn report(
        &self,
        server: ServerId,
        stream: u64,
        report: messages::Report,
    ) -> Result<(), ServersError> {
        let message = Message::Report { server, stream, report };
        self.messages.send(message).await.map_err(|_| ServersError::Stopped)
    }

    /// The stream has ended.
    pub(crate) async fn stream_ended(&self, server: ServerId, stream: u64) {
        // Without a supervisor nobody needs to know.
        let _ = self.messages.send(Message::StreamEnded { server, stream }).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, ServersError> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.map_err(|_| ServersError::Stopped)?;
        answer.await.map_err(|_| ServersError::Stopped)
    }
}
