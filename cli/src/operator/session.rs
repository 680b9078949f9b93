//! `tidegate session …`: one player's stay in the world.

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, pages};
use crate::exit::{Code, Failure};
use crate::output::{facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List sessions.
    List(Filter),
    /// Show one session. An id is the session's UUID, or player:ID.
    Get {
        /// The session.
        id: String,
    },
    /// Where it is, why, since when, and what would make it leave.
    Explain {
        /// The session.
        id: String,
    },
    /// Hand a live session over to another environment.
    Move {
        /// The session.
        id: String,
        /// Where to.
        #[arg(long)]
        to: String,
        /// Exactly this server.
        #[arg(long, default_value = "")]
        server: String,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// End a session.
    Kick {
        /// The session.
        id: String,
        /// The player sees it.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Send a message to all matching players.
    Notify {
        /// The text.
        text: String,
        #[command(flatten)]
        filter: Filter,
    },
    /// Follow the matching sessions.
    Watch(Filter),
}

/// All that are given must match.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Filter {
    /// Of this realm.
    #[arg(long, default_value = "")]
    realm: String,
    /// Pinned to this environment.
    #[arg(long, default_value = "")]
    env: String,
    /// At home on this server.
    #[arg(long, default_value = "")]
    server: String,
    /// In this zone.
    #[arg(long, default_value = "")]
    zone: String,
    /// Of this player.
    #[arg(long, default_value = "")]
    player: String,
}

impl From<Filter> for v1::SessionFilter {
    fn from(filter: Filter) -> Self {
        Self {
            realm: filter.realm,
            environment_id: filter.env,
            server_id: filter.server,
            zone: filter.zone,
            player: filter.player,
        }
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(filter) => {
            let ids = [(Kind::Realm, filter.realm.as_str()), (Kind::Environment, filter.env.as_str())];
            let list = pages::all(async |page| {
                let request = v1::ListSessionsRequest { page, filter: Some(filter.clone().into()) };
                context.find(&ids, context.sessions().list_sessions(request)).await
            })
            .await?;
            context.printer.print("ListSessionsResponse", &list, |list| {
                let mut text = rows(&list.sessions);
                text.push_str(&format!("\n{} of {}", list.sessions.len(), list.total));
                if !list.unknown_gateways.is_empty() {
                    text.push_str(&format!("; not known: those of {}", list.unknown_gateways.join(", ")));
                }
                text
            })
        }
        Command::Get { id } => {
            let row = context
                .find(&[(Kind::Session, &id)], context.sessions().get_session(v1::GetSessionRequest { id: id.clone() }))
                .await?;
            context.printer.print("SessionRow", &row, show)
        }
        Command::Explain { id } => {
            let request = v1::ExplainSessionRequest { id: id.clone() };
            let answer = context.find(&[(Kind::Session, &id)], context.sessions().explain_session(request)).await?;
            context.printer.print("ExplainSessionResponse", &answer, |a| a.lines.join("\n"))
        }
        Command::Move { id, to, server, reason } => {
            let request = v1::MoveSessionRequest {
                request_id: context.request_id(),
                id: id.clone(),
                environment_id: to.clone(),
                server_id: server,
                reason,
            };
            let answer = context
                .find(&[(Kind::Session, &id), (Kind::Environment, &to)], context.sessions().move_session(request))
                .await?;
            commanded(context, &answer)
        }
        Command::Kick { id, reason } => {
            let request = v1::KickSessionRequest { request_id: context.request_id(), id: id.clone(), reason };
            let answer = context.find(&[(Kind::Session, &id)], context.sessions().kick_session(request)).await?;
            commanded(context, &answer)
        }
        Command::Notify { text, filter } => {
            let request =
                v1::NotifySessionsRequest { request_id: context.request_id(), filter: Some(filter.into()), text };
            let answer = context.call(context.sessions().notify_sessions(request)).await?;
            context.printer.print("NotifySessionsResponse", &answer, |a| format!("sent to {} sessions", a.sessions))
        }
        Command::Watch(filter) => {
            let request = v1::WatchSessionsRequest { filter: Some(filter.into()) };
            let events = context.call(context.sessions().watch_sessions(request)).await?;
            let show = |event: v1::SessionEvent| {
                context.printer.print_step("SessionEvent", &event, |event| {
                    let gone = event.gone.iter().map(|id| format!("gone {id}"));
                    let mut lines: Vec<String> = gone.collect();
                    if !event.sessions.is_empty() {
                        lines.insert(0, rows(&event.sessions));
                    }
                    lines.join("\n")
                })
            };
            context.follow(events, show).await
        }
    }
}

fn commanded(context: &Context, answer: &v1::SessionCommandResponse) -> Result<(), Failure> {
    context.printer.print("SessionCommandResponse", answer, |a| a.outcome.clone())?;
    if answer.outcome == "done" || answer.outcome == "already_there" {
        return Ok(());
    }
    Err(Failure::new(Code::Refused, format!("not done: {} {}", answer.outcome, answer.message)))
}

pub(super) fn id(row: &v1::SessionRow) -> String {
    uuid::Uuid::from_slice(&row.session_id).map(|id| id.to_string()).unwrap_or_default()
}

fn rows(sessions: &[v1::SessionRow]) -> String {
    let now = words::now_ms();
    table(
        &["session", "player", "state", "environment", "server", "zone", "epoch", "cause", "pinned", "idle"],
        sessions.iter().map(|s| {
            let pin = s.pin.clone().unwrap_or_default();
            vec![
                id(s),
                s.player.clone(),
                words::session_state(s.state),
                s.environment_id.clone(),
                s.server_id.clone(),
                s.zone.clone(),
                s.epoch.to_string(),
                words::cause(pin.cause),
                words::ago(pin.since_ms, now),
                words::ago(s.active_ms, now),
            ]
        }),
    )
}

fn show(row: &v1::SessionRow) -> String {
    let pin = row.pin.clone().unwrap_or_default();
    facts(&[
        ("session", id(row)),
        ("realm", row.realm.clone()),
        ("player", row.player.clone()),
        ("character", row.character.clone()),
        ("party", row.party.clone()),
        ("state", words::session_state(row.state)),
        ("environment", row.environment_id.clone()),
        ("server", row.server_id.clone()),
        ("zone", format!("{} ({})", row.zone, row.zone_kind)),
        ("busy", row.busy.to_string()),
        ("epoch", row.epoch.to_string()),
        ("pinned", format!("since {} because of {}", words::time(pin.since_ms), words::cause(pin.cause))),
        ("until", words::time(pin.until_ms)),
        ("began", words::time(row.since_ms)),
        ("client", row.client_version.clone()),
        ("gateway", row.gateway_id.clone()),
    ])
}
