//! The one binary: every process, and the operator's tool. Parses, starts telemetry, runs, maps the result to an exit code.

mod config;
mod demo;
mod doctor;
mod exit;
mod guard;
mod keys;
mod operator;
mod output;
mod process;
mod simulate;
mod telemetry;
mod ticket;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit::{Code, Failure};
use crate::operator::{Context, Options};
use crate::telemetry::LogFormat;

/// Updates a living online world without sending a single player home.
///
/// A QUIC gateway sends new players to the green environment while everyone who is already in stays on blue until they log
/// out, leave an instance or change zone; the fleet-manager watches blue drain, moves the last ones over, and prepares the
/// next green. Begin with `tidegate demo`.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 damaged data, 4 refused, 5 timed out (still running), 6 not found, \
7 conflict, 8 unauthorised, 9 rolled back, 130 interrupted, 141 output closed.\nLogs go to stderr; TIDEGATE_LOG is their filter (for example debug)."
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// The form of log lines on stderr.
    #[arg(long, global = true, default_value = "text", value_name = "FORM")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole update of a populated world on this machine, with nothing to configure.
    Demo(demo::Args),
    /// Run the control plane.
    FleetManager(process::ManagerArgs),
    /// Run a gateway that players connect to; with `list`, ask the manager about all of them.
    Gateway(process::GatewayArgs),
    /// Run one world server of the example game (a fleet-manager starts these).
    WorldServerStub(world_server_stub::Args),
    /// Run simulated players against a gateway.
    Simulate(simulate::Args),
    /// Realms: the worlds that players choose.
    #[command(subcommand)]
    Realm(operator::realm::Command),
    /// Builds: registered versions of the world server.
    #[command(subcommand)]
    Build(operator::build::Command),
    /// Environments: what runs, and its life.
    #[command(subcommand)]
    Env(operator::env::Command),
    /// Fleets and world servers of an environment.
    #[command(subcommand)]
    Fleet(operator::fleet::Command),
    /// Routing: who gets the new players. Flip, roll back, freeze.
    #[command(subcommand)]
    Route(operator::route::Command),
    /// Rollouts: bring a build to the players.
    #[command(subcommand)]
    Rollout(operator::rollout::Command),
    /// Drains: emptying an environment.
    #[command(subcommand)]
    Drain(operator::drain::Command),
    /// Sessions: players in the world.
    #[command(subcommand)]
    Session(operator::session::Command),
    /// Snapshots of environments.
    #[command(subcommand)]
    Snapshot(operator::snapshot::Command),
    /// Who changed what, and why.
    #[command(subcommand)]
    Audit(operator::audit::Command),
    /// Login tickets for trying things out, and the keys that sign them.
    #[command(subcommand)]
    Ticket(ticket::Command),
    /// Certificates for gateways on other machines.
    #[command(subcommand)]
    Pki(keys::PkiCommand),
    /// What a process is told: every key, its value, and who said so.
    #[command(subcommand)]
    Config(config::Command),
    /// Check this machine, its processes' configuration, the session directory and the manager: say what is in the way.
    ///
    /// Looks at socket buffers, file limits, clocks, ports, certificates, ticket keys and Redis, and changes nothing. Exit
    /// code 1 if a check failed; a warning is no failure.
    Doctor(doctor::Args),
    /// Print the completion script of a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Runs until it is told to end.
    const fn is_process(&self) -> bool {
        match self {
            Self::Gateway(args) => args.asks.is_none(),
            _ => matches!(self, Self::FleetManager(_) | Self::WorldServerStub(_)),
        }
    }

    /// Processes and crowds that hear Ctrl-C themselves, because they have something to finish.
    const fn ends_by_itself(&self) -> bool {
        self.is_process() || matches!(self, Self::Demo(_) | Self::Simulate(_))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.code != Code::PipeClosed {
                output::note(&format!("tidegate: {failure}"));
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    guard::start()?;
    // An operator's command prints its own answer; logs of its libraries would only stand in the way.
    telemetry::start(cli.log_format, if cli.command.is_process() { "info" } else { "warn" })?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::WorldServerStub(_) = cli.command {
        // A world server is one loop and a database thread; many of them share a machine.
        runtime.worker_threads(1);
    }
    let runtime = runtime.enable_all().build()?;
    let done = if cli.command.ends_by_itself() {
        runtime.block_on(run(cli))
    } else {
        runtime.block_on(async {
            tokio::select! {
                done = run(cli) => done,
                _ = tokio::signal::ctrl_c() => Err(Failure::new(
                    Code::Interrupted,
                    "stopped by Ctrl-C; what was asked of the fleet-manager goes on",
                )),
            }
        })
    };
    // A terminal read or a watch must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let options = cli.options;
    match cli.command {
        Command::Demo(args) => demo::run(args, &options).await,
        Command::FleetManager(args) => process::fleet_manager(args).await,
        Command::Gateway(process::GatewayArgs { asks: Some(command), .. }) => {
            operator::gateway::run(&Context::connect(&options).await?, command).await
        }
        Command::Gateway(args) => Box::pin(process::gateway(args)).await,
        Command::WorldServerStub(args) => process::world_server_stub(args).await,
        Command::Simulate(args) => simulate::run(args, &options).await,
        Command::Realm(command) => operator::realm::run(&Context::connect(&options).await?, command).await,
        Command::Build(command) => operator::build::run(&Context::connect(&options).await?, command).await,
        Command::Env(command) => operator::env::run(&Context::connect(&options).await?, command).await,
        Command::Fleet(command) => operator::fleet::run(&Context::connect(&options).await?, command).await,
        Command::Route(command) => operator::route::run(&Context::connect(&options).await?, command).await,
        Command::Rollout(command) => operator::rollout::run(&Context::connect(&options).await?, command).await,
        Command::Drain(command) => operator::drain::run(&Context::connect(&options).await?, command).await,
        Command::Session(command) => operator::session::run(&Context::connect(&options).await?, command).await,
        Command::Snapshot(command) => operator::snapshot::run(&Context::connect(&options).await?, command).await,
        Command::Audit(command) => operator::audit::run(&Context::connect(&options).await?, command).await,
        Command::Ticket(command) => ticket::run(command, &options),
        Command::Pki(command) => keys::pki(command),
        Command::Config(command) => config::run(command, &options),
        Command::Doctor(args) => Box::pin(doctor::run(args, &options)).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
