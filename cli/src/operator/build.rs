//! `tidegate build …`

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, pages};
use crate::exit::Failure;
use crate::output::{facts, hex, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a version of the world server. A registered build never changes.
    Register {
        /// Its version (semver), which is its id.
        version: String,
        /// A folder with the asset bundle.
        #[arg(long, value_name = "FOLDER")]
        assets: Option<std::path::PathBuf>,
        /// Player-state formats it reads.
        #[arg(long, value_delimiter = ',', default_value = "1")]
        reads: Vec<u32>,
        /// The player-state format it writes.
        #[arg(long, default_value_t = 1)]
        writes: u32,
        /// Realm database schema versions it works with (none given: any).
        #[arg(long, value_delimiter = ',')]
        schema: Vec<u32>,
        /// Client versions it admits, for example ">=2.0.0".
        #[arg(long, default_value = "")]
        clients: String,
        /// Environment variables of its processes.
        #[arg(long = "env", value_parser = words::parse_pair, value_name = "KEY=VALUE")]
        environment: Vec<(String, String)>,
        /// The program and its arguments.
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show one build.
    Get {
        /// Its version.
        version: String,
    },
    /// List the builds.
    List,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Register { version, assets, reads, writes, schema, clients, environment, command } => {
            let assets_path = match assets {
                Some(path) => std::path::absolute(path)?.to_string_lossy().into_owned(),
                None => String::new(),
            };
            let build = v1::Build {
                version,
                command,
                environment: environment.into_iter().collect(),
                assets_path,
                state_formats_read: reads,
                state_format_write: writes,
                schema_versions: schema,
                client_versions: clients,
                ..Default::default()
            };
            let request = v1::RegisterBuildRequest { request_id: context.request_id(), build: Some(build) };
            let build = context.call(context.builds().register_build(request)).await?;
            context.printer.print("Build", &build, show)
        }
        Command::Get { version } => {
            let request = v1::GetBuildRequest { version: version.clone() };
            let build = context.find(&[(Kind::Build, &version)], context.builds().get_build(request)).await?;
            context.printer.print("Build", &build, show)
        }
        Command::List => {
            let list = pages::all(async |page| {
                context.call(context.builds().list_builds(v1::ListBuildsRequest { page })).await
            })
            .await?;
            context.printer.print("ListBuildsResponse", &list, |list| {
                table(
                    &["version", "reads", "writes", "assets", "clients", "registered"],
                    list.builds.iter().map(|b| {
                        vec![
                            b.version.clone(),
                            join(&b.state_formats_read),
                            b.state_format_write.to_string(),
                            hex(&b.assets_digest).chars().take(12).collect(),
                            b.client_versions.clone(),
                            words::time(b.created_ms),
                        ]
                    }),
                )
            })
        }
    }
}

fn join(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn show(build: &v1::Build) -> String {
    facts(&[
        ("version", build.version.clone()),
        ("command", build.command.join(" ")),
        ("assets", hex(&build.assets_digest)),
        ("reads formats", join(&build.state_formats_read)),
        ("writes format", build.state_format_write.to_string()),
        ("schema", join(&build.schema_versions)),
        ("clients", build.client_versions.clone()),
        ("registered", words::time(build.created_ms)),
    ])
}
