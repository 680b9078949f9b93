//! `tidegate snapshot …`

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, pages};
use crate::exit::{Code, Failure};
use crate::output::{facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List snapshots. They are taken by `env snapshot` and by rollouts.
    List {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
    },
    /// Show one snapshot.
    Get {
        /// Its id.
        id: String,
    },
    /// Read every blob back and compare.
    Verify {
        /// Its id.
        id: String,
    },
    /// Restore into a realm that has no live environment.
    Restore {
        /// Its id.
        id: String,
        /// Into this realm.
        #[arg(long)]
        realm: String,
    },
    /// Delete a snapshot.
    Delete {
        /// Its id.
        id: String,
        /// Even though a living environment came from it.
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { realm } => {
            let list = pages::all(async |page| {
                let request = v1::ListSnapshotsRequest { page, realm: realm.clone() };
                context.find(&[(Kind::Realm, &realm)], context.snapshots().list_snapshots(request)).await
            })
            .await?;
            context.printer.print("ListSnapshotsResponse", &list, |list| {
                table(
                    &["id", "realm", "environment", "build", "taken", "bytes", "verified", "paused"],
                    list.snapshots.iter().map(|s| {
                        vec![
                            s.id.clone(),
                            s.realm.clone(),
                            s.environment_id.clone(),
                            s.build.clone(),
                            words::time(s.taken_ms),
                            s.bytes.to_string(),
                            if s.verified { "yes" } else { "NO" }.to_owned(),
                            words::span(u64::from(s.paused_ms)),
                        ]
                    }),
                )
            })
        }
        Command::Get { id } => {
            let snapshot = {
                let request = v1::GetSnapshotRequest { id: id.clone() };
                context.find(&[(Kind::Snapshot, &id)], context.snapshots().get_snapshot(request)).await?
            };
            context.printer.print("Snapshot", &snapshot, show)
        }
        Command::Verify { id } => {
            let request = v1::VerifySnapshotRequest { request_id: context.request_id(), id: id.clone() };
            let snapshot = context.find(&[(Kind::Snapshot, &id)], context.snapshots().verify_snapshot(request)).await?;
            context.printer.print("Snapshot", &snapshot, show)?;
            if snapshot.verified {
                return Ok(());
            }
            Err(Failure::new(Code::Failure, format!("{} is damaged: {}", snapshot.id, snapshot.problem)))
        }
        Command::Restore { id, realm } => {
            let request = v1::RestoreSnapshotRequest {
                request_id: context.request_id(),
                id: id.clone(),
                target_realm: realm.clone(),
            };
            let answer = context
                .find(&[(Kind::Snapshot, &id), (Kind::Realm, &realm)], context.snapshots().restore_snapshot(request))
                .await?;
            context.printer.print("RestoreSnapshotResponse", &answer, |a| {
                format!("restored as {}; next: tidegate env stage {}", a.environment_id, a.environment_id)
            })
        }
        Command::Delete { id, force } => {
            let request = v1::DeleteSnapshotRequest { request_id: context.request_id(), id: id.clone(), force };
            let answer = context.find(&[(Kind::Snapshot, &id)], context.snapshots().delete_snapshot(request)).await?;
            context.printer.print("DeleteSnapshotResponse", &answer, |_| "deleted".to_owned())
        }
    }
}

/// One snapshot for people.
pub(crate) fn show(snapshot: &v1::Snapshot) -> String {
    facts(&[
        ("id", snapshot.id.clone()),
        ("realm", snapshot.realm.clone()),
        ("environment", snapshot.environment_id.clone()),
        ("build", snapshot.build.clone()),
        ("taken", words::time(snapshot.taken_ms)),
        ("digest", snapshot.digest.clone()),
        ("blobs", format!("{} ({} bytes)", snapshot.blobs, snapshot.bytes)),
        ("world paused", words::span(u64::from(snapshot.paused_ms))),
        ("verified", if snapshot.verified { words::time(snapshot.verified_ms) } else { "NO".to_owned() }),
        ("problem", snapshot.problem.clone()),
    ])
}
