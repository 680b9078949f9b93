//! The subcommands that are processes: load the configuration, build the service, run it until a signal.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failure};

/// `tidegate fleet-manager`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManagerArgs {
    /// Configuration file (TOML). Without one, the defaults.
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
    /// Configuration file (TOML). Without one, the defaults.
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
    let mut config = fleet_manager::Config::load(args.config.as_deref()).map_err(wrong)?;
    config.data_dir = args.data_dir.unwrap_or(config.data_dir);
    config.listen = args.listen.unwrap_or(config.listen);
    config.metrics_listen = args.metrics_listen.unwrap_or(config.metrics_listen);
    let service = fleet_manager::Service::new(config).await.map_err(wrong)?;
    service.run(until_signal()?).await.map_err(broken)
}

pub(crate) async fn gateway(args: GatewayArgs) -> Result<(), Failure> {
    let mut config = tidegate_gateway::Config::load(args.config.as_deref()).map_err(wrong)?;
    config.data_dir = args.data_dir.unwrap_or(config.data_dir);
    config.listen = args.listen.unwrap_or(config.listen);
    config.metrics_listen = args.metrics_listen.unwrap_or(config.metrics_listen);
    let service = tidegate_gateway::Service::new(config).map_err(wrong)?;
    service.run(until_signal()?).await.map_err(broken)
}

pub(crate) async fn world_server_stub(args: world_server_stub::Args) -> Result<(), Failure> {
    world_server_stub::run(args, until_signal()?).await.map_err(wrong)
}

/// What keeps a process from starting is a matter of its configuration: exit code 2, one line.
fn wrong(error: impl std::error::Error) -> Failure {
    Failure::new(Code::Usage, chain(&error))
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
