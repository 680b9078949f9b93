//! The control stream to the manager: registers, reports, brings directives; opens again for ever when it breaks. The world
//! plays on with or without it.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::v1::world_control_client::WorldControlClient;
use tidegate_proto::v1::{WorldDirective, WorldRegister, WorldReport, WorldStatus, world_report};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;

/// First pause before opening the stream again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause: how late a restarted manager learns of its servers.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Dialling the manager takes no longer than this.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);
/// A manager that does not take a report for so long is treated as gone.
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// Answers that wait for a manager: a few for each of its directives.
const REPORTS: usize = 64;
/// Directives that wait for the loop.
const DIRECTIVES: usize = 16;
/// Largest message: a snapshot of sixty zones of 1 MiB each.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What a registration tells beyond the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Digest of the loaded assets, as it is to be told; empty: none.
    pub(super) assets: Vec<u8>,
    pub(super) serving: bool,
}

/// The loop's end of the control stream.
pub(super) struct Control {
    pub(super) standing: watch::Sender<Standing>,
    pub(super) status: watch::Sender<Option<WorldStatus>>,
    reports: mpsc::Sender<WorldReport>,
    pub(super) directives: mpsc::Receiver<WorldDirective>,
}

impl Control {
    /// Tells the manager something once. Dropped when very much waits already: the manager asks again.
    pub(super) fn report(&self, message: world_report::Message) {
        if self.reports.try_send(WorldReport { message: Some(message) }).is_err() {
            tracing::warn!("a report to the manager is dropped: too many wait");
        }
    }
}

/// The task's end.
struct Client {
    config: Arc<Config>,
    /// All of it but the standing.
    register: WorldRegister,
    standing: watch::Receiver<Standing>,
    status: watch::Receiver<Option<WorldStatus>>,
    reports: mpsc::Receiver<WorldReport>,
    directives: mpsc::Sender<WorldDirective>,
}

/// Starts the client; it ends when `stop` is cancelled.
pub(super) fn start(config: Arc<Config>, register: WorldRegister, stop: CancellationToken) -> Control {
    let (standing, standing_rx) = watch::channel(Standing::default());
    let (status, status_rx) = watch::channel(None);
    let (reports, reports_rx) = mpsc::channel(REPORTS);
    let (directives_tx, directives) = mpsc::channel(DIRECTIVES);
    let client = Client {
        config,
        register,
        standing: standing_rx,
        status: status_rx,
        reports: reports_rx,
        directives: directives_tx,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = client.keep_open() => {}
            () = stop.cancelled() => {}
        }
    });
    Control { standing, status, reports, directives }
}

/// How one stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("dial the manager")]
    Dial(#[from] tonic::transport::Error),
    #[error("keep the stream: {}", .0.message())]
    Stream(#[from] tonic::Status),
    #[error("keep the stream: the manager ended it")]
    Ended,
    #[error("keep the stream: the manager takes no reports")]
    Stuck,
}

impl Client {
    async fn keep_open(mut self) {
        if let Some(delay) = self.config.faults.slow_start {
            tokio::time::sleep(delay).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let mut registered = false;
            match self.one_stream(&mut registered).await {
                Ok(()) => return,
                Err(error) => {
                    if registered {
                        pause = FIRST_PAUSE;
                        tracing::info!(%error, "control stream is broken");
                    } else {
                        tracing::debug!(%error, pause_ms = pause.as_millis() as u64, "manager is not reachable");
                    }
                }
            }
            tokio::time::sleep(self.spread(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Servers that lost the same manager do not all come back in the same moment: up to a quarter more, by the instance.
    fn spread(&self, pause: Duration) -> Duration {
        let share = self.register.instance.first().copied().unwrap_or(0);
        pause + pause * u32::from(share) / 1024
    }

    /// Opens a stream and serves it to its end; `Ok` when the loop is gone.
    async fn one_stream(&mut self, registered: &mut bool) -> Result<(), Broken> {
        let channel: Channel = Endpoint::from_shared(self.config.manager.clone())?
            .connect_timeout(DIAL_DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(4))
            .keep_alive_while_idle(true)
            .connect()
            .await?;
        let mut client = WorldControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        // A stream's own queue is short: what matters waits in `reports`, and a status is only ever the newest.
        let (out, stream) = mpsc::channel(4);
        let standing = self.standing.borrow_and_update().clone();
        let register =
            WorldRegister { assets_digest: standing.assets, serving: standing.serving, ..self.register.clone() };
        send(&out, world_report::Message::Register(register)).await?;
        self.status.mark_changed();
        let mut directives = client.connect(ReceiverStream::new(stream)).await?.into_inner();
        *registered = true;
        tracing::info!(manager = %self.config.manager, "registered with the manager");
        loop {
            tokio::select! {
                directive = directives.message() => match directive? {
                    Some(directive) => {
                        if self.directives.send(directive).await.is_err() {
                            return Ok(());
                        }
                    }
                    None => return Err(Broken::Ended),
                },
                report = self.reports.recv() => match report.and_then(|report| report.message) {
                    Some(message) => send(&out, message).await?,
                    None => return Ok(()),
                },
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let status = self.status.borrow_and_update().clone();
                    if let Some(status) = status {
                        send(&out, world_report::Message::Status(status)).await?;
                    }
                }
            }
        }
    }
}

async fn send(out: &mpsc::Sender<WorldReport>, message: world_report::Message) -> Result<(), Broken> {
    let report = WorldReport { message: Some(message) };
    match tokio::time::timeout(SEND_DEADLINE, out.send(report)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Broken::Ended),
        Err(_) => Err(Broken::Stuck),
    }
}
