//! `tidegate realm …`

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, pages};
use crate::exit::Failure;
use crate::output::{facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a realm: one world that players choose.
    Create {
        /// Its id: 1 to 40 of a-z, 0-9 and "-".
        id: String,
        /// The name that players see.
        #[arg(long)]
        name: Option<String>,
        /// Where a new character begins.
        #[arg(long, default_value = "harbor")]
        entry_zone: String,
        /// A zone change does not let a session change environment.
        #[arg(long)]
        no_zone_boundary: bool,
        /// Entering or leaving an instance does not let a session change environment.
        #[arg(long)]
        no_instance_boundary: bool,
        /// A respawn does not let a session change environment.
        #[arg(long)]
        no_respawn_boundary: bool,
        /// Members who log in join their party's environment.
        #[arg(long)]
        party_follow: bool,
        /// How long a detached session keeps its place.
        #[arg(long, default_value = "60s", value_parser = words::parse_duration)]
        grace: std::time::Duration,
        /// How many drained environments are kept warm as rollbacks.
        #[arg(long, default_value_t = 1)]
        retain_drained: u32,
    },
    /// Show one realm.
    Get {
        /// The realm's id.
        id: String,
    },
    /// List the realms.
    List,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create {
            id,
            name,
            entry_zone,
            no_zone_boundary,
            no_instance_boundary,
            no_respawn_boundary,
            party_follow,
            grace,
            retain_drained,
        } => {
            let realm = v1::Realm {
                display_name: name.unwrap_or_else(|| id.clone()),
                id,
                entry_zone,
                boundaries: Some(v1::BoundaryPolicy {
                    zone: !no_zone_boundary,
                    instance: !no_instance_boundary,
                    respawn: !no_respawn_boundary,
                }),
                party_follow,
                grace_ms: u32::try_from(words::ms(grace)).unwrap_or(u32::MAX),
                retain_drained: Some(retain_drained),
                ..Default::default()
            };
            let request = v1::CreateRealmRequest { request_id: context.request_id(), realm: Some(realm) };
            let realm = context.call(context.realms().create_realm(request)).await?;
            context.printer.print("Realm", &realm, show)
        }
        Command::Get { id } => {
            let realm = context
                .find(&[(Kind::Realm, &id)], context.realms().get_realm(v1::GetRealmRequest { id: id.clone() }))
                .await?;
            context.printer.print("Realm", &realm, show)
        }
        Command::List => {
            let list = pages::all(async |page| {
                context.call(context.realms().list_realms(v1::ListRealmsRequest { page })).await
            })
            .await?;
            context.printer.print("ListRealmsResponse", &list, |list| {
                table(
                    &["id", "name", "entry zone", "generation", "created"],
                    list.realms.iter().map(|r| {
                        vec![
                            r.id.clone(),
                            r.display_name.clone(),
                            r.entry_zone.clone(),
                            r.generation.to_string(),
                            words::time(r.created_ms),
                        ]
                    }),
                )
            })
        }
    }
}

fn show(realm: &v1::Realm) -> String {
    let boundaries = realm.boundaries.unwrap_or_default();
    let allowed: Vec<&str> =
        [("zone", boundaries.zone), ("instance", boundaries.instance), ("respawn", boundaries.respawn)]
            .into_iter()
            .filter_map(|(name, on)| on.then_some(name))
            .collect();
    facts(&[
        ("id", realm.id.clone()),
        ("name", realm.display_name.clone()),
        ("entry zone", realm.entry_zone.clone()),
        ("boundaries", allowed.join(", ")),
        ("party follow", realm.party_follow.to_string()),
        ("grace", words::span(u64::from(realm.grace_ms))),
        ("retain drained", realm.retain_drained.map(|n| n.to_string()).unwrap_or_default()),
        ("database", realm.database.clone()),
        ("generation", realm.generation.to_string()),
        ("created", words::time(realm.created_ms)),
    ])
}
