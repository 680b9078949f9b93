//! A small honest game world, and faults on demand.
//!
//! One process serves shared zones and hosts private instances for the players whose home it is. It stands on
//! `tidegate-world` as any game server would, and knows nothing of environments, routing or rollouts.
//!
//! - [`character`]: a character's state in its formats;
//! - [`db`]: the realm database, where characters outlive processes;
//! - [`faults`]: how it misbehaves when asked to;
//! - [`ledger`]: what the realm database proves about the rules that are never broken.

mod args;
pub mod character;
pub mod db;
pub mod faults;
pub mod game;
pub mod ledger;
mod world;

pub use args::Args;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::{Clock, SystemClock};
use tidegate_world::{Config, Host};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use faults::{Fault, GameFaults};

/// The last saves after the world has stopped take no longer than this; what hangs longer would hang for ever.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// The world server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// What the manager should have told is missing or wrong.
    #[error(transparent)]
    Config(#[from] tidegate_world::ConfigError),
    /// The realm database cannot be opened.
    #[error(transparent)]
    Open(#[from] db::OpenError),
    /// The realm database cannot be used.
    #[error("use the realm database")]
    Database(#[from] rusqlite::Error),
    /// The writer thread cannot be started.
    #[error("start the realm database's writer")]
    Writer(#[source] std::io::Error),
    /// The host cannot start or go on.
    #[error(transparent)]
    Host(#[from] tidegate_world::HostError),
}

/// Serves with the environment variables that the manager set, until told to stop by it or by `shutdown`; then everything
/// is saved.
///
/// # Errors
/// [`Error`], each a line for the operator.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    let config = Config::from_env(args.build.clone())?;
    serve(config, args, shutdown).await
}

/// As [`run`], with the manager's word from elsewhere.
///
/// # Errors
/// [`Error`], each a line for the operator.
pub async fn serve(mut config: Config, args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    let formats = character::Formats::of_build(args.major(), args.write_format).map_err(Error::Arguments)?;
    config.faults = host_faults(&args.faults);
    if !args.faults.is_empty() {
        warn!(faults = ?args.faults, "this server misbehaves as asked");
    }

    tidegate_events::start(config.server.as_str());
    tidegate_events::event!("world_started", environment = %config.environment, build = %args.build, pid = std::process::id());
    let connection = db::open(&config.database)?;
    let instance = uuid::Uuid::new_v4().to_string();
    let now = SystemClock.now().mono;
    db::work::register(&connection, &instance, config.server.as_str(), args.build.as_str(), &boot_id(), now)?;
    let zones = db::work::load_zones(&connection, config.server.as_str())?;
    let (store, writer) = db::Store::start(connection).map_err(Error::Writer)?;

    let rules = game::Rules {
        server_id: config.server.to_string(),
        environment_id: config.environment.to_string(),
        zones: Arc::new(config.zones.iter().map(ToString::to_string).collect::<BTreeSet<_>>()),
        kinds: config.instance_kinds.iter().map(ToString::to_string).collect(),
        formats,
        save_every: args.save_every(),
    };
    let entry = config.zones.first().map(ToString::to_string);
    let faults = GameFaults::of(&args.faults);
    let world = world::Stub::new(rules, entry, store, &instance, &zones, faults);
    let host = Host::new(config, world)?;
    info!(build = %args.build, instance, link = %host.link_addr(), "world server ready to register");
    let outcome = host.run(shutdown).await;
    // The world is dropped, and with it the last way to submit a job: the writer ends when it has done the rest.
    let last = tokio::task::spawn_blocking(move || writer.join());
    if tokio::time::timeout(LAST_WRITES, last).await.is_err() {
        warn!("the realm database does not finish its writes");
    }
    Ok(outcome?)
}

/// The faults that the SDK itself has to show.
fn host_faults(faults: &[Fault]) -> tidegate_world::Faults {
    let mut host = tidegate_world::Faults::default();
    for fault in faults {
        match fault {
            Fault::SlowStart(time) => host.slow_start = Some(*time),
            Fault::NeverReady => host.never_ready = true,
            Fault::WrongDigest => host.wrong_digest = true,
            Fault::WrongBuild(build) => host.wrong_build = Some(build.clone()),
            Fault::LiePopulation(by) => host.population_lie = Some(*by),
            Fault::RefusePrepare { .. } | Fault::DieIn(..) | Fault::Hang(_) => {}
        }
    }
    host
}

/// Names this run of the machine: CLOCK_BOOTTIME begins anew with it. Where the system does not say, one name for all is
/// right as long as the machine is not restarted.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}
