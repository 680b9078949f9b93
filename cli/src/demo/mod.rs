//! `tidegate demo`: a whole update of a populated world on this machine, as real processes, in under a minute.
//!
//! Only the players' behaviour is compressed: their stays are short. The processes, the protocols and the code are those of
//! a deployment. What the report says of players comes from their own ledgers and from the world servers' save records.

mod fleet;
mod picture;
mod processes;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use simulated_players::{Config, Control, FlipFacts, Simulation};
use tidegate_proto::v1;
use tidegate_types::{EnvironmentId, InvalidId, RealmId, Timestamp};
use tokio_util::sync::CancellationToken;

use self::fleet::Fleet;
use self::picture::Picture;
use self::report::Outcome;
use crate::exit::{Code, Failure};
use crate::operator::Options;

/// The realm that the demo makes.
const REALM: &str = "demo";
/// The build that the players are on.
const OLD_BUILD: &str = "1.9.0";
/// The build that is brought to them.
const NEW_BUILD: &str = "2.0.0";
/// How long the world may take to fill: a login storm on one busy core.
const FILL_DEADLINE: Duration = Duration::from_secs(60);

/// What the demo can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many simulated players are in the world at once.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) players: u32,
    /// Position updates a second and player, each way.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) hz: f64,
    /// Everything that is random comes from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long after the flip the last players are moved.
    #[arg(long, default_value = "12s", value_parser = crate::words::parse_duration)]
    pub(crate) deadline: Duration,
    /// Keep logs, databases and snapshots in this folder (which must not exist or be empty).
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, options: &Options) -> Result<(), Failure> {
    let folder = Folder::make(args.keep.clone())?;
    let work = async {
        let picture = Picture::new();
        let fleet = Fleet::start(&folder.path, args.players, &picture).await?;
        let outcome = update(&args, &fleet, &picture).await;
        picture.end();
        fleet.stop().await;
        outcome
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "stopped by Ctrl-C")),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            let kept = folder.leave();
            return Err(Failure {
                hint: failure.hint.or(Some(format!("logs and databases: {}", kept.display()))),
                ..failure
            });
        }
    };
    outcome.print(options.output)?;
    let broken = outcome.broken();
    if broken.is_empty() {
        return Ok(());
    }
    let kept = folder.leave();
    Err(Failure::new(Code::Failure, format!("rules were broken: {}", broken.join(", ")))
        .hint(format!("logs and databases: {}", kept.display())))
}

/// Fills the world, rolls the new build out, and counts.
async fn update(args: &Args, fleet: &Fleet, picture: &Picture) -> Result<Outcome, Failure> {
    let config = Config {
        gateway: vec![fleet.gateway],
        server_name: "localhost".to_owned(),
        ca: fleet.data_dir.join("pki/ca.pem"),
        login_key: fleet.data_dir.join("tickets/login.key"),
        realm: RealmId::new(REALM).expect("a plain word is an id"),
        players: args.players,
        hz: args.hz,
        seed: args.seed,
        arrival_per_s: f64::from(args.players.max(500)) / 2.5,
        // Stays of some seconds instead of some minutes: this is all that is compressed.
        pace: 6.0,
        client_version: "2.0.0".to_owned(),
        name_prefix: "demo".to_owned(),
        settle_ms: 10_000,
        ..Config::default()
    };
    let simulation = Simulation::new(config).map_err(crate::simulate::usage)?;
    let (control, shutdown) = (simulation.control(), CancellationToken::new());
    let players = tokio::spawn(simulation.run(shutdown.clone()));
    let rollout = async {
        picture.step("players come in");
        filled(&control, args.players, picture).await?;
        let gold_before = fleet.audit()?.gold_total;
        picture.step(&format!("build {NEW_BUILD} is registered"));
        let rollout = fleet.rollout(args.deadline, &control, picture).await?;
        Ok::<_, Failure>((gold_before, rollout))
    }
    .await;
    picture.step("players say goodbye");
    control.finish();
    let report = players.await.map_err(anyhow::Error::from)?;
    let (gold_before, rollout) = rollout?;
    let id = |text: &str| {
        EnvironmentId::new(text).map_err(|error: InvalidId| Failure::new(Code::Failure, error.to_string()))
    };
    let drain = fleet.drain(&rollout.blue).await?;
    let facts = FlipFacts {
        blue: id(&rollout.blue)?,
        green: id(&rollout.green)?,
        confirmed_at_ms: Timestamp(rollout.flip_confirmed_at_ms),
        drain_deadline_ms: (drain.deadline_at_ms > 0).then_some(Timestamp(drain.deadline_at_ms)),
    };
    Ok(Outcome {
        players: report.with_flip(&facts),
        gold_before,
        homes: fleet.audit()?,
        environments: fleet.environments().await?,
        snapshot: fleet.snapshot(&rollout.snapshot_id).await?,
        gateways: fleet.gateways().await?,
        rollout,
        drain,
    })
}

/// Waits until the world is full.
async fn filled(control: &Control, players: u32, picture: &Picture) -> Result<(), Failure> {
    let mut live = control.live();
    let enough = players - players / 50;
    let wait = async {
        loop {
            let now = live.borrow_and_update().clone();
            picture.players(&now);
            if now.population >= enough || live.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(FILL_DEADLINE, wait).await.map_err(|_| {
        let live = control.live();
        let now = live.borrow();
        Failure::new(
            Code::Failure,
            format!(
                "after {} s only {} of {players} players are in ({} logging in, {} holding)",
                FILL_DEADLINE.as_secs(),
                now.population,
                now.connecting,
                now.holding
            ),
        )
    })
}

/// The demo's folder: removed at the end unless it is to be kept, or something went wrong.
struct Folder {
    path: PathBuf,
    remove: bool,
}

impl Folder {
    fn make(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let remove = keep.is_none();
        let path = keep
            .unwrap_or_else(|| std::env::temp_dir().join(format!("tidegate-demo-{}", uuid::Uuid::new_v4().simple())));
        let cannot = |error: std::io::Error| Failure::usage(format!("--keep {}: {error}", path.display()));
        std::fs::create_dir_all(&path).map_err(cannot)?;
        if std::fs::read_dir(&path).map_err(cannot)?.next().is_some() {
            return Err(Failure::usage(format!("--keep {}: the folder is not empty", path.display())));
        }
        let path = std::path::absolute(&path)?;
        Ok(Self { path, remove })
    }

    /// Leaves the folder for whoever wants to look into it.
    fn leave(mut self) -> PathBuf {
        self.remove = false;
        self.path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The first check that says no, for a message.
fn failed_check(rollout: &v1::Rollout) -> Option<String> {
    rollout.steps.iter().flat_map(|s| &s.checks).find(|c| !c.ok && !c.warning).map(|c| format!("{}: {}", c.name, c.why))
}
