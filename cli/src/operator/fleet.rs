//! `tidegate fleet …`: how many servers, and which.

use clap::Subcommand;
use tidegate_proto::v1;

use super::Context;
use super::known::Kind;
use crate::exit::Failure;
use crate::output::{facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List an environment's fleets.
    List {
        /// The environment's id.
        environment: String,
    },
    /// List an environment's world servers.
    Servers {
        /// The environment's id.
        environment: String,
    },
    /// Set how many servers a fleet has.
    Scale {
        /// The environment's id.
        environment: String,
        /// The fleet's name.
        fleet: String,
        /// How many servers.
        replicas: u32,
        /// Only if the environment's generation is still this.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        if_generation: u64,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { environment } => {
            let request = v1::ListFleetsRequest { environment_id: environment.clone() };
            let list =
                context.find(&[(Kind::Environment, &environment)], context.fleets().list_fleets(request)).await?;
            context.printer.print("ListFleetsResponse", &list, |list| {
                table(
                    &["fleet", "ready", "zones", "instances", "capacity"],
                    list.fleets.iter().map(|f| {
                        vec![
                            f.name.clone(),
                            format!("{}/{}", f.ready, f.replicas),
                            f.zones.join(","),
                            f.instance_kinds.join(","),
                            f.capacity.to_string(),
                        ]
                    }),
                )
            })
        }
        Command::Servers { environment } => {
            let request = v1::ListServersRequest { environment_id: environment.clone() };
            let list =
                context.find(&[(Kind::Environment, &environment)], context.fleets().list_servers(request)).await?;
            context.printer.print("ListServersResponse", &list, |list| server_rows(&list.servers))
        }
        Command::Scale { environment, fleet, replicas, if_generation } => {
            let request = v1::ScaleFleetRequest {
                request_id: context.request_id(),
                environment_id: environment.clone(),
                fleet,
                replicas,
                if_generation,
            };
            let fleet =
                context.find(&[(Kind::Environment, &environment)], context.fleets().scale_fleet(request)).await?;
            context.printer.print("Fleet", &fleet, |f| {
                facts(&[
                    ("fleet", f.name.clone()),
                    ("replicas", f.replicas.to_string()),
                    ("ready", f.ready.to_string()),
                ])
            })
        }
    }
}

/// Servers as a table.
pub(crate) fn server_rows(servers: &[v1::Server]) -> String {
    let now = words::now_ms();
    table(
        &["server", "fleet", "state", "since", "players", "build", "pid", "link", "restarts", "reason"],
        servers.iter().map(|s| {
            vec![
                s.id.clone(),
                s.fleet.clone(),
                words::server_state(s.state),
                words::ago(s.since_ms, now),
                format!("{}/{}", s.players, s.capacity),
                s.build.clone(),
                s.pid.to_string(),
                s.link_address.clone(),
                s.restarts.to_string(),
                s.reason.clone(),
            ]
        }),
    )
}
