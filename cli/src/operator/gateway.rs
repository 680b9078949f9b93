//! `tidegate gateway list`: the gateways as the manager knows them. (Without a word after it, `tidegate gateway` is one.)

use clap::Subcommand;
use tidegate_proto::v1;

use super::Context;
use crate::exit::Failure;
use crate::output::table;
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the gateways: who is connected, what they hold, and whether their session directory answers.
    List,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => list(context).await,
    }
}

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let list = context.call(context.routes().list_gateways(v1::ListGatewaysRequest {})).await?;
    let now = words::now_ms();
    context.printer.print("ListGatewaysResponse", &list, |list| rows(&list.gateways, now))
}

fn rows(gateways: &[v1::Gateway], now: i64) -> String {
    table(
        &[
            "gateway",
            "state",
            "since",
            "address",
            "instance",
            "sessions",
            "detached",
            "holding",
            "orphans",
            "directory",
            "hand-overs",
            "kept",
            "tables",
        ],
        gateways.iter().map(|g| {
            let tables = g.tables.iter().map(|t| format!("{}@{}", t.realm, t.generation));
            vec![
                g.id.clone(),
                state(g).to_owned(),
                words::ago(g.since_ms, now),
                g.player_address.clone(),
                uuid::Uuid::from_slice(&g.instance).map(|id| id.to_string()[..8].to_owned()).unwrap_or_default(),
                g.sessions.to_string(),
                g.detached.to_string(),
                g.holding.to_string(),
                g.orphans.to_string(),
                directory(g).to_owned(),
                g.handovers_completed.to_string(),
                g.handovers_kept_in_place.to_string(),
                tables.collect::<Vec<_>>().join(","),
            ]
        }),
    )
}

/// What it is doing, in one word; what wants a look is in capitals.
fn state(gateway: &v1::Gateway) -> &'static str {
    match (gateway.connected, gateway.stopping, gateway.live) {
        (true, false, _) => "connected",
        (true, true, _) => "stopping",
        (false, _, true) => "AWAY",
        (false, _, false) => "GONE",
    }
}

fn directory(gateway: &v1::Gateway) -> &'static str {
    match gateway.directory_state() {
        v1::DirectoryState::Ok => "shared",
        v1::DirectoryState::Degraded => "DEGRADED",
        v1::DirectoryState::Unspecified if gateway.directory == "embedded" => "embedded",
        v1::DirectoryState::Unspecified => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wants_a_look_stands_out() {
        let well = v1::Gateway {
            id: "gw-1".into(),
            connected: true,
            live: true,
            instance: vec![0xab; 16],
            directory: "redis://cache".into(),
            directory_state: v1::DirectoryState::Ok.into(),
            tables: vec![v1::KnownTable { realm: "eu-1".into(), generation: 7 }],
            ..v1::Gateway::default()
        };
        let degraded = v1::Gateway {
            id: "gw-2".into(),
            stopping: true,
            directory_state: v1::DirectoryState::Degraded.into(),
            ..well.clone()
        };
        let gone = v1::Gateway { id: "gw-3".into(), connected: false, live: false, orphans: 4, ..well.clone() };
        let away = v1::Gateway { connected: false, ..well.clone() };
        assert_eq!(state(&away), "AWAY");
        let text = rows(&[well, degraded, gone], 0);
        let line = |id: &str| text.lines().find(|line| line.contains(id)).unwrap_or_default().to_owned();
        assert!(line("gw-1").contains("connected") && line("gw-1").contains("shared"), "{text}");
        assert!(line("gw-1").contains("abababab") && line("gw-1").contains("eu-1@7"), "{text}");
        assert!(line("gw-2").contains("stopping") && line("gw-2").contains("DEGRADED"), "{text}");
        assert!(line("gw-3").contains("GONE") && line("gw-3").contains('4'), "{text}");
    }
}
