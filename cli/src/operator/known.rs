//! Ids that exist: "did you mean" for those that do not.

use tidegate_proto::v1;

use super::Context;
use crate::exit::{Code, Failure};

/// Kinds of things that have ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Realm,
    Build,
    Environment,
    Rollout,
    Drain,
    Session,
    Snapshot,
}

impl Kind {
    /// Where to look for what exists.
    const fn list(self) -> &'static str {
        match self {
            Self::Realm => "tidegate realm list",
            Self::Build => "tidegate build list",
            Self::Environment => "tidegate env list --all",
            Self::Rollout => "tidegate rollout list",
            Self::Drain => "tidegate drain list",
            Self::Session => "tidegate session list",
            Self::Snapshot => "tidegate snapshot list",
        }
    }
}

/// As [`Context::call`], and an id that does not exist is answered with the closest one that does.
pub(crate) async fn call<T>(
    context: &Context,
    ids: &[(Kind, &str)],
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failure> {
    match context.call(call).await {
        Err(failure) if failure.code == Code::NotFound => Err(suggest(context, ids, failure).await),
        answer => answer,
    }
}

/// Adds to a failure what was probably meant. When the manager cannot be asked, the failure says enough.
async fn suggest(context: &Context, ids: &[(Kind, &str)], failure: Failure) -> Failure {
    let mut list = None;
    for (kind, typed) in ids.iter().filter(|(_, typed)| !typed.is_empty()) {
        let Ok(known) = known(context, *kind).await else { continue };
        if known.iter().any(|id| id == typed) {
            continue;
        }
        if let Some(word) = tidegate_config::did_you_mean(typed, known.iter().map(String::as_str)) {
            return failure.hint(format!("did you mean \"{word}\"?"));
        }
        list.get_or_insert(kind.list());
    }
    match list {
        Some(list) => failure.hint(format!("`{list}` says what there is")),
        None => failure,
    }
}

/// The ids of one kind: one page of them, which is more than a person can mean.
async fn known(context: &Context, kind: Kind) -> Result<Vec<String>, Failure> {
    let page = Some(v1::PageRequest { page_size: 1_000, page_token: String::new() });
    let realm = String::new;
    Ok(match kind {
        Kind::Realm => {
            let list = context.call(context.realms().list_realms(v1::ListRealmsRequest { page })).await?;
            list.realms.into_iter().map(|r| r.id).collect()
        }
        Kind::Build => {
            let list = context.call(context.builds().list_builds(v1::ListBuildsRequest { page })).await?;
            list.builds.into_iter().map(|b| b.version).collect()
        }
        Kind::Environment => {
            let request = v1::ListEnvironmentsRequest { page, realm: realm(), include_retired: true };
            let list = context.call(context.environments().list_environments(request)).await?;
            list.environments.into_iter().map(|e| e.id).collect()
        }
        Kind::Rollout => {
            let list =
                context.call(context.rollouts().list_rollouts(v1::ListRolloutsRequest { realm: realm() })).await?;
            list.rollouts.into_iter().map(|r| r.id).collect()
        }
        Kind::Drain => {
            let list = context.call(context.drains().list_drains(v1::ListDrainsRequest { realm: realm() })).await?;
            list.drains.into_iter().map(|d| d.environment_id).collect()
        }
        Kind::Session => {
            let list =
                context.call(context.sessions().list_sessions(v1::ListSessionsRequest { page, filter: None })).await?;
            let both = |row: v1::SessionRow| [super::session::id(&row), format!("player:{}", row.player)];
            list.sessions.into_iter().flat_map(both).collect()
        }
        Kind::Snapshot => {
            let request = v1::ListSnapshotsRequest { page, realm: realm() };
            let list = context.call(context.snapshots().list_snapshots(request)).await?;
            list.snapshots.into_iter().map(|s| s.id).collect()
        }
    })
}
