//! `tidegate route …`: who gets the new players.

use clap::{Subcommand, ValueEnum};
use tidegate_proto::v1;

use super::Context;
use super::known::Kind;
use crate::exit::{Code, Failure};
use crate::output::{facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a realm's routing table.
    Show {
        /// The realm.
        realm: String,
    },
    /// Send new sessions to another environment from now on.
    Flip {
        /// The realm.
        realm: String,
        /// The environment that shall take new sessions.
        #[arg(long)]
        to: String,
        /// Only if the realm's generation is still this.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        if_generation: u64,
        /// How long to wait for the gateways' word. The flip stands either way.
        #[arg(long, default_value = "5s", value_parser = words::parse_duration)]
        confirm: std::time::Duration,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Send new sessions back to the older environment.
    Rollback {
        /// The realm.
        realm: String,
        /// Back to this environment; by default the one before.
        #[arg(long, default_value = "")]
        to: String,
        /// What happens to players who are already on the newer one.
        #[arg(long, value_enum, default_value = "next-boundary")]
        players: Choice,
        /// With `--players force`: how long they have.
        #[arg(long, default_value = "0s", value_parser = words::parse_duration)]
        deadline: std::time::Duration,
        /// Only if the realm's generation is still this.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        if_generation: u64,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take no new sessions at all (they wait in line); nobody is moved.
    Freeze {
        /// The realm.
        realm: String,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take new sessions again.
    Unfreeze {
        /// The realm.
        realm: String,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Follow the realm's table, generation by generation.
    Watch {
        /// The realm.
        realm: String,
        /// Only generations above this.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// List the gateways (as `tidegate gateway list`).
    Gateways,
}

/// `RollbackChoice`, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Choice {
    /// They stay until they log out.
    Finish,
    /// They go back at their next boundary.
    NextBoundary,
    /// They are moved, all by the deadline.
    Force,
    /// Nobody new on it and nobody moved.
    Freeze,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { realm } => {
            let table = {
                let request = v1::GetRouteTableRequest { realm: realm.clone() };
                context.find(&[(Kind::Realm, &realm)], context.routes().get_route_table(request)).await?
            };
            context.printer.print("RouteTable", &table, show)
        }
        Command::Flip { realm, to, if_generation, confirm, reason } => {
            let request = v1::FlipRequest {
                request_id: context.request_id(),
                realm: realm.clone(),
                to: to.clone(),
                if_generation,
                confirm_timeout_ms: u32::try_from(words::ms(confirm)).unwrap_or(u32::MAX),
                reason,
            };
            let answer = context
                .find(&[(Kind::Realm, &realm), (Kind::Environment, &to)], context.routes().flip(request))
                .await?;
            flipped(context, &answer)
        }
        Command::Rollback { realm, to, players, deadline, if_generation, reason } => {
            let choice = match players {
                Choice::Finish => v1::RollbackChoice::Finish,
                Choice::NextBoundary => v1::RollbackChoice::NextBoundary,
                Choice::Force => v1::RollbackChoice::Force,
                Choice::Freeze => v1::RollbackChoice::Freeze,
            };
            let request = v1::RollbackRequest {
                request_id: context.request_id(),
                realm: realm.clone(),
                to: to.clone(),
                choice: choice as i32,
                deadline_ms: words::ms(deadline),
                if_generation,
                reason,
            };
            let answer = context
                .find(&[(Kind::Realm, &realm), (Kind::Environment, &to)], context.routes().rollback(request))
                .await?;
            flipped(context, &answer)
        }
        Command::Freeze { realm, reason } => freeze(context, realm, true, reason).await,
        Command::Unfreeze { realm, reason } => freeze(context, realm, false, reason).await,
        Command::Watch { realm, after } => {
            let request = v1::WatchRoutesRequest { realm: realm.clone(), after_generation: after };
            let tables = context.find(&[(Kind::Realm, &realm)], context.routes().watch_routes(request)).await?;
            let show = |table: v1::RouteTable| {
                context.printer.print_step("RouteTable", &table, |t| {
                    let servers: usize = t.environments.iter().map(|e| e.servers.len()).sum();
                    format!(
                        "generation {}  accepting {}  {} environments, {servers} servers",
                        t.generation,
                        or_none(&t.accepting),
                        t.environments.len()
                    )
                })
            };
            context.follow(tables, show).await
        }
        Command::Gateways => super::gateway::list(context).await,
    }
}

async fn freeze(context: &Context, realm: String, frozen: bool, reason: String) -> Result<(), Failure> {
    let request = v1::FreezeRequest { request_id: context.request_id(), realm: realm.clone(), frozen, reason };
    let answer = context.find(&[(Kind::Realm, &realm)], context.routes().freeze(request)).await?;
    flipped(context, &answer)
}

/// Prints the answer; an unconfirmed flip is a time-out, because some gateway may still send players the old way.
fn flipped(context: &Context, answer: &v1::FlipResponse) -> Result<(), Failure> {
    context.printer.print("FlipResponse", answer, |a| {
        facts(&[
            ("generation", a.generation.to_string()),
            ("from", or_none(&a.from)),
            ("to", or_none(&a.to)),
            (
                "confirmed",
                if a.confirmed { format!("in {:.1} ms", a.confirm_us as f64 / 1_000.0) } else { "NO".to_owned() },
            ),
        ])
    })?;
    if answer.confirmed {
        return Ok(());
    }
    Err(Failure::new(Code::TimedOut, format!("not acknowledged by {}", answer.unconfirmed_gateways.join(", ")))
        .hint("the flip stands; those gateways may still send new players the old way: see `tidegate gateway list`"))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "(none)".to_owned() } else { text.to_owned() }
}

fn show(route: &v1::RouteTable) -> String {
    let head = facts(&[
        ("realm", route.realm.clone()),
        ("generation", route.generation.to_string()),
        ("accepting", or_none(&route.accepting)),
        ("entry zone", route.entry_zone.clone()),
        ("pins held", route.hold_pins.to_string()),
    ]);
    let rows = route.environments.iter().flat_map(|e| {
        e.servers.iter().map(|s| {
            vec![
                e.environment_id.clone(),
                words::label(e.label),
                e.build.clone(),
                words::phase(e.phase),
                s.server_id.clone(),
                if s.ready { "ready" } else { "not ready" }.to_owned(),
                s.zones.iter().chain(&s.instance_kinds).cloned().collect::<Vec<_>>().join(","),
                s.capacity.to_string(),
                s.address.clone(),
            ]
        })
    });
    let servers =
        table(&["environment", "label", "build", "phase", "server", "state", "serves", "capacity", "address"], rows);
    format!("{head}\n\n{servers}")
}
