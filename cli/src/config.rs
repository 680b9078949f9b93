//! `tidegate config explain …`: every key of a process, its value, and who said so.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use tidegate_config::{Layers, Loaded, Settings};

use crate::exit::Failure;
use crate::operator::Options;
use crate::output::{Format, Printer, say};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every key with its value, where that came from, and what it is for. The output is a valid configuration file.
    Explain {
        /// Whose configuration.
        process: Process,
        /// Configuration file (TOML). Without one, the defaults and the environment.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// The processes that have a configuration file.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Process {
    /// The control plane.
    FleetManager,
    /// The edge that players connect to.
    Gateway,
    /// Simulated players.
    Simulate,
}

pub(crate) fn run(command: Command, options: &Options) -> Result<(), Failure> {
    let Command::Explain { process, config } = command;
    let layers = Layers::new().file(config.as_deref()).variables(std::env::vars_os());
    match process {
        Process::FleetManager => explain::<fleet_manager::Config>(layers, options),
        Process::Gateway => explain::<tidegate_gateway::Config>(layers, options),
        Process::Simulate => explain::<simulated_players::Config>(layers, options),
    }
}

fn explain<C: Settings>(layers: Layers, options: &Options) -> Result<(), Failure> {
    let loaded: Loaded<C> = layers.load()?;
    if options.output == Format::Table {
        return say(&loaded.to_toml());
    }
    let keys = serde_json::to_value(loaded.explain()).map_err(anyhow::Error::from)?;
    Printer::new(options.output).print_value(&keys)
}
