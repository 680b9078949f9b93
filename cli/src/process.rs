//! The subcommands that are processes: load the configuration, build the service, run it until a signal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidegate_config::{Layers, Loaded, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};

/// `tidegate fleet-manager`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManagerArgs {
    /// Configuration file (TOML). Without one, the defaults and the environment: see `tidegate config explain`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides `data_dir`.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Overrides `listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Overrides `metrics_listen`.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

/// `tidegate gateway`.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// Asks the manager about gateways instead of running one.
    #[command(subcommand)]
    pub(crate) asks: Option<crate::operator::gateway::Command>,
    /// Configuration file (TOML). Without one, the defaults and the environment: see `tidegate config explain`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides `data_dir`.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Overrides `listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Overrides `metrics_listen`.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

pub(crate) async fn fleet_manager(args: ManagerArgs) -> Result<(), Failure> {
    let layers = layers(args.config.as_deref(), args.data_dir, args.listen, args.metrics_listen);
    let loaded: Loaded<fleet_manager::Config> = layers.load()?;
    let service = fleet_manager::Service::new(loaded.config.clone()).await.map_err(|e| match &e {
        fleet_manager::ServiceError::Damaged { .. } => Failure { code: Code::Damaged, ..wrong(&loaded, &e) },
        _ => wrong(&loaded, &e),
    })?;
    service.run(until_signal()?).await.map_err(broken)
}

pub(crate) async fn gateway(args: GatewayArgs) -> Result<(), Failure> {
    let layers = layers(args.config.as_deref(), args.data_dir, args.listen, args.metrics_listen);
    let loaded: Loaded<tidegate_gateway::Config> = layers.load()?;
    let service = tidegate_gateway::Service::new(loaded.config.clone()).map_err(|e| wrong(&loaded, &e))?;
    service.run(until_signal()?).await.map_err(broken)
}

/// Defaults < file < variables < the flags that both processes have.
fn layers(
    file: Option<&Path>,
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    metrics_listen: Option<SocketAddr>,
) -> Layers {
    Layers::new()
        .file(file)
        .variables(std::env::vars_os())
        .flag("--data-dir", "data_dir", data_dir.map(|path| path.display().to_string()))
        .flag("--listen", "listen", listen)
        .flag("--metrics-listen", "metrics_listen", metrics_listen)
}

pub(crate) async fn world_server_stub(args: world_server_stub::Args) -> Result<(), Failure> {
    world_server_stub::run(args, until_signal()?).await.map_err(|error| Failure::usage(chain(&error)))
}

/// What keeps a process from starting is a matter of its configuration: exit code 2, one line that names who said so.
fn wrong<C: Settings>(loaded: &Loaded<C>, error: &dyn std::error::Error) -> Failure {
    Failure::usage(loaded.blame(&chain(error)))
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failure, error.to_string())
}

/// The error and its causes on one line. A cause whose text stands in the line already is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

/// Cancelled by Ctrl-C or SIGTERM.
fn until_signal() -> Result<CancellationToken, Failure> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        cancel.cancel();
    });
    Ok(token)
}
