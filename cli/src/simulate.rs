//! `tidegate simulate`: players against any gateway, live figures on stderr, the report on stdout.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use simulated_players::{Config, Live, Report, Simulation};
use tidegate_config::{Layers, Loaded, Origin};
use tidegate_types::RealmId;
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};
use crate::operator::Options;
use crate::output::{Format, Printer, facts, note, say};
use crate::words;

/// Flags win over the file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A simulation as TOML; every key may be left out.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The gateway's address (repeatable).
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<SocketAddr>,
    /// The fleet-manager's data folder, for its certificate authority and development ticket key.
    #[arg(long, default_value = "tidegate-data", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// The realm to play in.
    #[arg(long)]
    realm: Option<RealmId>,
    /// How many players are in the world at once.
    #[arg(long)]
    players: Option<u32>,
    /// Position datagrams a second and player.
    #[arg(long)]
    hz: Option<f64>,
    /// Everything that is random comes from it.
    #[arg(long)]
    seed: Option<u64>,
    /// Logins a second.
    #[arg(long, value_name = "PER_SECOND")]
    arrivals: Option<f64>,
    /// Profiles as TOML instead of the embedded ones.
    #[arg(long, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Divides every stay and pause.
    #[arg(long)]
    pace: Option<f64>,
    /// How long; without it, until Ctrl-C.
    #[arg(long = "for", value_parser = words::parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
}

pub(crate) async fn run(args: Args, options: &Options) -> Result<(), Failure> {
    let (duration, players) = (args.duration, config(args)?);
    let simulation = Simulation::new(players).map_err(usage)?;
    let (control, shutdown) = (simulation.control(), CancellationToken::new());
    let show = tokio::spawn(show(control.live()));
    let running = simulation.run(shutdown.clone());
    let until = async {
        let over = async {
            match duration {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            _ = tokio::signal::ctrl_c() => note("logging everybody out"),
        }
        control.finish();
        std::future::pending::<()>().await;
    };
    let report = tokio::select! {
        report = running => report,
        () = until => unreachable!("waits for ever"),
    };
    show.abort();
    print(&report, options.output)?;
    let broken = report.broken();
    if broken.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = broken.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Err(Failure::new(Code::Failure, format!("promises were broken: {}", list.join(", "))))
}

/// What keeps a simulation from beginning is a matter of its configuration.
pub(crate) fn usage(error: simulated_players::SimulationError) -> Failure {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::usage(format!("failed to {error}{cause}"))
}

fn config(args: Args) -> Result<Config, Failure> {
    let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    let gateways: Vec<String> = args.gateway.iter().map(SocketAddr::to_string).collect();
    let loaded: Loaded<Config> = Layers::new()
        .file(args.config.as_deref())
        .variables(std::env::vars_os())
        .flag("--gateway", "gateway", (!gateways.is_empty()).then(|| gateways.join(",")))
        .flag("--realm", "realm", args.realm)
        .flag("--players", "players", args.players)
        .flag("--hz", "hz", args.hz)
        .flag("--seed", "seed", args.seed)
        .flag("--arrivals", "arrival_per_s", args.arrivals)
        .flag("--profiles", "profiles", path(args.profiles))
        .flag("--pace", "pace", args.pace)
        .load()?;
    let said = |key: &str| loaded.origin(key) != Origin::Default;
    let (ca, login_key) = (said("ca"), said("login_key"));
    let mut config = loaded.config;
    // A manager on the same machine keeps both in its folder.
    if !ca {
        config.ca = args.data_dir.join("pki/ca.pem");
    }
    if !login_key {
        config.login_key = args.data_dir.join("tickets/login.key");
    }
    Ok(config)
}

/// One line a second on stderr; on a terminal always the same one.
async fn show(mut live: tokio::sync::watch::Receiver<Live>) {
    let same_line = std::io::stderr().is_terminal();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let line = line(&live.borrow_and_update());
        if same_line {
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        } else {
            note(&line);
        }
    }
}

fn line(live: &Live) -> String {
    let by_environment: Vec<String> = live.playing.iter().map(|(env, n)| format!("{env} {n}")).collect();
    format!(
        "{} in the world ({}), {} logging in, {} holding, {} moves, {}/{} actions, p50 {} p99 {}, broken promises {}",
        live.population,
        by_environment.join(", "),
        live.connecting,
        live.holding,
        live.moved,
        live.actions_answered,
        live.actions_sent,
        words::span(live.action_p50_us / 1_000),
        words::span(live.action_p99_us / 1_000),
        live.broken_promises,
    )
}

fn print(report: &Report, format: Format) -> Result<(), Failure> {
    if format != Format::Table {
        let value = serde_json::to_value(report).map_err(anyhow::Error::from)?;
        return Printer::new(format).print_value(&value);
    }
    let moves: Vec<String> = report.moved_by.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
    let ends: Vec<String> = report.ended_by.iter().map(|(word, n)| format!("{word} {n}")).collect();
    say(&facts(&[
        ("sessions", format!("{} started; ended by {}", report.sessions_started, ends.join(", "))),
        ("moves", moves.join(", ")),
        (
            "reliable frames",
            format!(
                "{} sent, {} lost, {} duplicated, {} reordered",
                report.frames_sent, report.frames_lost, report.frames_duplicated, report.frames_reordered
            ),
        ),
        ("datagrams", format!("{} sent, {} received", report.datagrams_sent, report.datagrams_received)),
        ("lost", report.lost.to_string()),
        ("double homed", report.double_homed.to_string()),
        ("moved without cause", report.moved_without_cause.to_string()),
        ("gold", format!("{} seen, {} expected", report.gold_seen, report.gold_expected)),
        (
            "hand-over",
            format!(
                "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                report.handover_ms.p50, report.handover_ms.p99, report.handover_ms.max
            ),
        ),
    ]))
}
