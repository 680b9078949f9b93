//! `tidegate env …`: what exists, and its life.

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, ended, next, pages};
use crate::exit::{Code, Failure};
use crate::output::{facts, note, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an environment of a build. Nothing runs until it is staged.
    Create {
        /// The realm.
        #[arg(long)]
        realm: String,
        /// The build's version.
        #[arg(long)]
        build: String,
        /// A fleet: name=NAME,replicas=N,zones=a+b,instances=c+d,capacity=N. None given: as the realm's blue has.
        #[arg(long = "fleet", value_parser = parse_fleet, value_name = "FLEET")]
        fleets: Vec<v1::Fleet>,
        /// Label it blue (a realm's first environment) or green.
        #[arg(long, value_parser = ["blue", "green"])]
        label: Option<String>,
    },
    /// Show one environment with its fleets and servers.
    Get {
        /// Its id.
        id: String,
    },
    /// List environments.
    List {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
        /// Retired ones too.
        #[arg(long)]
        all: bool,
    },
    /// Start its servers and load assets and zones; waits until it is staged.
    Stage(Change),
    /// Run the smoke tests; waits until it is ready.
    Verify(Change),
    /// Take a consistent, verified snapshot.
    Snapshot(Change),
    /// Make it blue, the stable one.
    Relabel(Change),
    /// Stop its servers for good.
    Retire(Change),
    /// Create an environment from a snapshot.
    Clone {
        /// The snapshot's id.
        snapshot: String,
        /// Into this realm (with a restored copy of the database); by default the snapshot's own.
        #[arg(long, default_value = "")]
        realm: String,
        /// With this build; by default the snapshot's own.
        #[arg(long, default_value = "")]
        build: String,
    },
    /// Follow changes.
    Watch {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
    },
}

/// A change of one environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// The environment's id.
    id: String,
    /// Only if its generation is still this.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    if_generation: u64,
    /// Return at once; do not wait for the end.
    #[arg(long)]
    no_wait: bool,
}

/// Reads `name=open,replicas=2,zones=harbor+meadow,instances=dungeon,capacity=500`.
pub(crate) fn parse_fleet(text: &str) -> Result<v1::Fleet, String> {
    let mut fleet = v1::Fleet { replicas: 1, capacity: 500, ..Default::default() };
    for part in text.split(',') {
        let (key, value) = words::parse_pair(part)?;
        let number = |value: &str| value.parse::<u32>().map_err(|_| format!("{key}=\"{value}\" is not a number"));
        let list = |value: &str| value.split('+').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        match key.as_str() {
            "name" => fleet.name = value,
            "replicas" => fleet.replicas = number(&value)?,
            "capacity" => fleet.capacity = number(&value)?,
            "zones" => fleet.zones = list(&value),
            "instances" => fleet.instance_kinds = list(&value),
            other => {
                let known = ["name", "replicas", "capacity", "zones", "instances"];
                let hint = tidegate_config::did_you_mean(other, known).map(|w| format!("; did you mean \"{w}\"?"));
                return Err(format!("unknown key \"{other}\"{}", hint.unwrap_or_default()));
            }
        }
    }
    if fleet.name.is_empty() {
        return Err("a fleet needs name=…".to_owned());
    }
    Ok(fleet)
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { realm, build, fleets, label } => {
            let label = match label.as_deref() {
                Some("blue") => v1::Label::Blue,
                Some("green") => v1::Label::Green,
                _ => v1::Label::Unspecified,
            };
            let request = v1::CreateEnvironmentRequest {
                request_id: context.request_id(),
                realm: realm.clone(),
                build: build.clone(),
                fleets,
                label: label as i32,
            };
            let environment = context
                .find(
                    &[(Kind::Realm, &realm), (Kind::Build, &build)],
                    context.environments().create_environment(request),
                )
                .await?;
            context.printer.print("Environment", &environment, show)
        }
        Command::Get { id } => get(context, id).await,
        Command::List { realm, all } => {
            let list = pages::all(async |page| {
                let request = v1::ListEnvironmentsRequest { page, realm: realm.clone(), include_retired: all };
                context.find(&[(Kind::Realm, &realm)], context.environments().list_environments(request)).await
            })
            .await?;
            context.printer.print("ListEnvironmentsResponse", &list, |list| rows(&list.environments))
        }
        Command::Stage(change) => {
            let request = v1::StageEnvironmentRequest {
                request_id: context.request_id(),
                id: change.id.clone(),
                if_generation: change.if_generation,
            };
            let environment = context
                .find(&[(Kind::Environment, &change.id)], context.environments().stage_environment(request))
                .await?;
            settle(context, environment, &change, &[v1::Phase::Staged, v1::Phase::Ready, v1::Phase::Active]).await
        }
        Command::Verify(change) => {
            let request = v1::VerifyEnvironmentRequest {
                request_id: context.request_id(),
                id: change.id.clone(),
                if_generation: change.if_generation,
            };
            let environment = context
                .find(&[(Kind::Environment, &change.id)], context.environments().verify_environment(request))
                .await?;
            settle(context, environment, &change, &[v1::Phase::Ready, v1::Phase::Active]).await
        }
        Command::Snapshot(change) => {
            let request = v1::SnapshotEnvironmentRequest {
                request_id: context.request_id(),
                id: change.id.clone(),
                if_generation: change.if_generation,
            };
            let snapshot = context
                .find(&[(Kind::Environment, &change.id)], context.environments().snapshot_environment(request))
                .await?;
            context.printer.print("Snapshot", &snapshot, super::snapshot::show)
        }
        Command::Relabel(change) => {
            let request = v1::RelabelEnvironmentRequest {
                request_id: context.request_id(),
                id: change.id.clone(),
                if_generation: change.if_generation,
            };
            let environment = context
                .find(&[(Kind::Environment, &change.id)], context.environments().relabel_environment(request))
                .await?;
            context.printer.print("Environment", &environment, show)
        }
        Command::Retire(change) => {
            let request = v1::RetireEnvironmentRequest {
                request_id: context.request_id(),
                id: change.id.clone(),
                if_generation: change.if_generation,
            };
            let environment = context
                .find(&[(Kind::Environment, &change.id)], context.environments().retire_environment(request))
                .await?;
            settle(context, environment, &change, &[v1::Phase::Retired]).await
        }
        Command::Clone { snapshot, realm, build } => {
            let request = v1::CloneEnvironmentRequest {
                request_id: context.request_id(),
                snapshot_id: snapshot.clone(),
                target_realm: realm.clone(),
                build: build.clone(),
            };
            let environment = context
                .find(
                    &[(Kind::Snapshot, &snapshot), (Kind::Realm, &realm), (Kind::Build, &build)],
                    context.environments().clone_environment(request),
                )
                .await?;
            context.printer.print("Environment", &environment, show)
        }
        Command::Watch { realm } => watch(context, realm).await,
    }
}

async fn get(context: &Context, id: String) -> Result<(), Failure> {
    let request = v1::GetEnvironmentRequest { id: id.clone() };
    let environment =
        context.find(&[(Kind::Environment, &id)], context.environments().get_environment(request)).await?;
    let servers =
        context.call(context.fleets().list_servers(v1::ListServersRequest { environment_id: id })).await?.servers;
    context.printer.print("Environment", &environment, |environment| {
        let fleets = table(
            &["fleet", "ready", "zones", "instances", "capacity"],
            environment.fleets.iter().map(|f| {
                vec![
                    f.name.clone(),
                    format!("{}/{}", f.ready, f.replicas),
                    f.zones.join(","),
                    f.instance_kinds.join(","),
                    f.capacity.to_string(),
                ]
            }),
        );
        format!("{}\n\n{fleets}\n\n{}", show(environment), super::fleet::server_rows(&servers))
    })
}

/// Waits until the environment reaches one of the phases, or fails.
async fn settle(
    context: &Context,
    environment: v1::Environment,
    change: &Change,
    wanted: &[v1::Phase],
) -> Result<(), Failure> {
    let arrived = |environment: &v1::Environment| wanted.iter().any(|phase| *phase as i32 == environment.phase);
    if change.no_wait || arrived(&environment) {
        return context.printer.print("Environment", &environment, show);
    }
    let request = v1::WatchEnvironmentsRequest { realm: environment.realm.clone() };
    let mut events = context.call(context.environments().watch_environments(request)).await?;
    let wait = async {
        let mut last = environment.phase;
        while let Some(event) = next(&mut events).await? {
            let Some(now) = event.environments.into_iter().find(|e| e.id == change.id) else { continue };
            if now.phase != last {
                note(&format!("{}  {}", now.id, words::phase(now.phase)));
                last = now.phase;
            }
            if arrived(&now) {
                return context.printer.print("Environment", &now, show);
            }
            if now.phase == v1::Phase::Failed as i32 {
                return Err(Failure::new(Code::Failure, format!("{} failed: {}", now.id, now.reason)));
            }
        }
        Err(ended(&change.id))
    };
    context.within(&change.id, wait).await
}

async fn watch(context: &Context, realm: String) -> Result<(), Failure> {
    let request = v1::WatchEnvironmentsRequest { realm: realm.clone() };
    let events = context.find(&[(Kind::Realm, &realm)], context.environments().watch_environments(request)).await?;
    context
        .follow(events, |event: v1::EnvironmentEvent| {
            context.printer.print_step("EnvironmentEvent", &event, |event| rows(&event.environments))
        })
        .await
}

fn rows(environments: &[v1::Environment]) -> String {
    let now = words::now_ms();
    table(
        &["id", "realm", "label", "build", "phase", "since", "sessions", "accepting", "reason"],
        environments.iter().map(|e| {
            vec![
                e.id.clone(),
                e.realm.clone(),
                words::label(e.label),
                e.build.clone(),
                words::phase(e.phase),
                words::ago(e.phase_since_ms, now),
                if e.sessions_known { e.sessions.to_string() } else { format!("{}+?", e.sessions) },
                if e.accepting { "yes".to_owned() } else { String::new() },
                e.reason.clone(),
            ]
        }),
    )
}

fn show(environment: &v1::Environment) -> String {
    facts(&[
        ("id", environment.id.clone()),
        ("realm", environment.realm.clone()),
        ("label", words::label(environment.label)),
        ("build", environment.build.clone()),
        ("phase", words::phase(environment.phase)),
        ("reason", environment.reason.clone()),
        ("accepting", environment.accepting.to_string()),
        (
            "sessions",
            if environment.sessions_known {
                environment.sessions.to_string()
            } else {
                format!("at least {} (a gateway has not reported)", environment.sessions)
            },
        ),
        ("from snapshot", environment.from_snapshot.clone()),
        ("generation", environment.generation.to_string()),
        ("created", words::time(environment.created_ms)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_read_and_a_typo_is_named() {
        let fleet = parse_fleet("name=open,replicas=2,zones=harbor+meadow,instances=dungeon,capacity=300").unwrap();
        assert_eq!((fleet.name.as_str(), fleet.replicas, fleet.capacity), ("open", 2, 300));
        assert_eq!(fleet.zones, ["harbor", "meadow"]);
        assert_eq!(parse_fleet("name=x,zone=a").unwrap_err(), "unknown key \"zone\"; did you mean \"zones\"?");
        assert!(parse_fleet("name=x,replicas=many").unwrap_err().contains("not a number"));
        assert!(parse_fleet("replicas=1").is_err());
    }
}
