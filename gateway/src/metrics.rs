//! Every metric of the gateway: its name, its help and its labels, and the page they are read from.
//!
//! The serving thread publishes its plain counters once a second; a scrape turns the last ones into metrics. Ids are never
//! labels, but for the realm's, which operators choose once.
//!
//! "Must stay 0" marks what shows a rule of the design broken, where a gateway can know it: rule 3 (no new session on an
//! environment that does not accept) and rule 2 (nobody is moved without a cause).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use gateway_core::Counters;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use tidegate_proto::CloseCode;
use tidegate_ticket::TicketError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reports::Figures;

/// Names and helps. One place, so that nothing is exported twice or without a word.
const COUNTERS: &[(&str, &str)] = &[
    ("tidegate_gateway_connections_accepted_total", "QUIC connections begun"),
    ("tidegate_gateway_connections_established_total", "QUIC handshakes completed"),
    ("tidegate_gateway_connections_turned_away_total", "connections refused because a limit was reached"),
    ("tidegate_gateway_connections_retried_total", "addresses asked to prove themselves before a handshake"),
    ("tidegate_gateway_connections_closed_total", "connections the gateway closed, by close code"),
    ("tidegate_gateway_connections_lost_total", "connections ended by the client or the network"),
    ("tidegate_gateway_packets_received_total", "UDP packets received"),
    ("tidegate_gateway_bytes_received_total", "bytes of UDP packets received"),
    ("tidegate_gateway_transmits_total", "sends to the system, each of one or several packets"),
    ("tidegate_gateway_bytes_sent_total", "bytes of UDP packets sent"),
    ("tidegate_gateway_datagrams_dropped_total", "unreliable messages that a connection could not take"),
    (
        "tidegate_gateway_over_rate_total",
        "what clients brought beyond their rate, by kind: dropped, refused or read later",
    ),
    ("tidegate_gateway_connections_shed_total", "connections closed because all buffers together held too much"),
    ("tidegate_gateway_tickets_reused_total", "login tickets refused because they were used before"),
    ("tidegate_gateway_login_tickets_refused_total", "login tickets refused, by what is wrong with them"),
    ("tidegate_gateway_resume_tickets_refused_total", "resume tickets refused, by what is wrong with them"),
    ("tidegate_gateway_reports_dropped_total", "reports to the manager lost in an overflow"),
    ("tidegate_gateway_passes_total", "passes of the serving loop"),
    ("tidegate_gateway_sessions_total", "sessions by what happened to them"),
    ("tidegate_gateway_holds_total", "waits begun, by reason"),
    ("tidegate_gateway_attach_retries_total", "placements tried again, by reason"),
    ("tidegate_gateway_handovers_started_total", "hand-overs begun"),
    ("tidegate_gateway_handovers_completed_total", "hand-overs that ended at their target"),
    ("tidegate_gateway_handovers_kept_in_place_total", "hand-overs that left the player where they were, by reason"),
    ("tidegate_gateway_handovers_restored_total", "hand-overs whose target was lost after the commit"),
    ("tidegate_gateway_boundary_fallbacks_total", "boundaries at which the wanted environment could not serve"),
    ("tidegate_gateway_transfers_refused_total", "transfers refused"),
    ("tidegate_gateway_homes_total", "homes lost, regained and replaced"),
    ("tidegate_gateway_frames_total", "game frames relayed, by direction"),
    ("tidegate_gateway_unresponsive_links_total", "world servers hung up because they did not answer"),
    ("tidegate_gateway_tables_refused_total", "routing tables refused for being older"),
    ("tidegate_gateway_stale_residents_total", "players on a world server that live elsewhere, told to be forgotten"),
    ("tidegate_gateway_strays_total", "messages about a hand-over or handle that is no more"),
    ("tidegate_gateway_searches_total", "characters looked for on every world server"),
    (
        "tidegate_gateway_link_gaps_total",
        "sessions whose frames fell out of a world server's window behind a broken link",
    ),
    ("tidegate_gateway_directory_requests_total", "requests to the shared directory, by what became of them"),
    (
        "tidegate_gateway_directory_events_total",
        "connections, wipes, fail-overs and unreadable entries of the shared directory",
    ),
    (
        "tidegate_gateway_directory_round_trip_us_total",
        "the sum of the shared directory's round trips, in microseconds",
    ),
    ("tidegate_gateway_misroutes_total", "new sessions in play on an environment that did not accept: must stay 0"),
    (
        "tidegate_gateway_moved_without_cause_total",
        "changes of environment without a cause that allows it: must stay 0",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("tidegate_gateway_directory_degraded", "1 while the shared directory is out of reach"),
    ("tidegate_gateway_directory_in_flight", "requests to the shared directory that wait for their answers"),
    ("tidegate_gateway_connections", "QUIC connections, in any phase"),
    ("tidegate_gateway_buffered_bytes", "bytes in all connections' buffers, which limits.memory_bytes bounds"),
    ("tidegate_gateway_tracked_prefixes", "address prefixes whose handshakes are counted"),
    ("tidegate_gateway_sessions", "sessions by state"),
    ("tidegate_gateway_links", "open links to world servers"),
];

/// Words for the close codes, in the order of their numbers.
const CODES: [(&str, CloseCode); 12] = [
    ("done", CloseCode::Done),
    ("bad_frame", CloseCode::BadFrame),
    ("frame_too_long", CloseCode::FrameTooLong),
    ("bad_message", CloseCode::BadMessage),
    ("hello_timeout", CloseCode::HelloTimeout),
    ("refused", CloseCode::Refused),
    ("too_slow", CloseCode::TooSlow),
    ("replaced", CloseCode::Replaced),
    ("shutdown", CloseCode::Shutdown),
    ("too_many_streams", CloseCode::TooManyStreams),
    ("internal", CloseCode::Internal),
    ("too_fast", CloseCode::TooFast),
];

/// Serves `/metrics` until `shutdown`.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    figures: watch::Receiver<Arc<Figures>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let page = move || {
        let page = render(&figures.borrow().clone());
        async move { page }
    };
    axum::serve(listener, Router::new().route("/metrics", get(page)))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// The page. A recorder of its own each time: several gateways may live in one process.
fn render(figures: &Figures) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for (name, help) in COUNTERS {
            describe_counter!(*name, *help);
        }
        for (name, help) in GAUGES {
            describe_gauge!(*name, *help);
        }
        record_edge(figures);
        for (realm, counters) in &figures.realms {
            record_realm(realm.as_str(), counters);
        }
    });
    recorder.handle().render()
}

fn record_edge(figures: &Figures) {
    let edge = &figures.edge;
    for (name, value) in [
        ("tidegate_gateway_connections_accepted_total", edge.accepted),
        ("tidegate_gateway_connections_established_total", edge.connected),
        ("tidegate_gateway_connections_turned_away_total", edge.turned_away),
        ("tidegate_gateway_connections_retried_total", edge.retried),
        ("tidegate_gateway_connections_lost_total", edge.lost),
        ("tidegate_gateway_packets_received_total", edge.packets_in),
        ("tidegate_gateway_bytes_received_total", edge.bytes_in),
        ("tidegate_gateway_transmits_total", edge.transmits),
        ("tidegate_gateway_bytes_sent_total", edge.bytes_out),
        ("tidegate_gateway_datagrams_dropped_total", edge.datagrams_dropped),
        ("tidegate_gateway_connections_shed_total", edge.shed),
        ("tidegate_gateway_tickets_reused_total", figures.tickets_refused.used),
        ("tidegate_gateway_reports_dropped_total", figures.reports_dropped),
        ("tidegate_gateway_passes_total", figures.passes),
    ] {
        counter!(name).absolute(value);
    }
    for (word, code) in CODES {
        counter!("tidegate_gateway_connections_closed_total", "code" => word).absolute(edge.closed[code as usize]);
    }
    for (kind, value) in [
        ("initials", edge.initials_over_rate),
        ("prefix", edge.prefix_refused),
        ("packets", edge.packets_over_rate),
        ("datagrams", edge.datagrams_over_rate),
        ("early_datagrams", edge.datagrams_before_welcome),
        ("frames", edge.frames_over_rate),
    ] {
        counter!("tidegate_gateway_over_rate_total", "kind" => kind).absolute(value);
    }
    for reason in TicketError::LABELS {
        let count = |counts: &BTreeMap<&'static str, u64>| counts.get(reason).copied().unwrap_or(0);
        counter!("tidegate_gateway_login_tickets_refused_total", "reason" => reason)
            .absolute(count(&figures.tickets_refused.login));
        counter!("tidegate_gateway_resume_tickets_refused_total", "reason" => reason)
            .absolute(count(&figures.tickets_refused.resume));
    }
    gauge!("tidegate_gateway_connections").set(figures.connections);
    gauge!("tidegate_gateway_buffered_bytes").set(edge.buffered as f64);
    gauge!("tidegate_gateway_tracked_prefixes").set(edge.tracked_prefixes as f64);
    gauge!("tidegate_gateway_links").set(figures.links.len() as f64);
    record_directory(figures.directory.as_ref());
}

/// All zeros, and not degraded, where the directory is embedded.
fn record_directory(figures: Option<&tidegate_directory::Figures>) {
    let none = tidegate_directory::Figures { state: tidegate_directory::State::Up, ..Default::default() };
    let figures = figures.unwrap_or(&none);
    let degraded = figures.state != tidegate_directory::State::Up;
    gauge!("tidegate_gateway_directory_degraded").set(u32::from(degraded));
    gauge!("tidegate_gateway_directory_in_flight").set(figures.in_flight as f64);
    for (outcome, value) in [
        ("answered", figures.answered),
        ("timed_out", figures.timed_out),
        ("error", figures.errors),
        ("overflow", figures.overflowed),
        ("unavailable", figures.unavailable),
    ] {
        counter!("tidegate_gateway_directory_requests_total", "event" => outcome).absolute(value);
    }
    for (event, value) in [
        ("connect", figures.connects),
        ("wipe", figures.wipes),
        ("failover", figures.failovers),
        ("corrupt_entry", figures.corrupt),
    ] {
        counter!("tidegate_gateway_directory_events_total", "event" => event).absolute(value);
    }
    counter!("tidegate_gateway_directory_round_trip_us_total").absolute(figures.round_trips_sum_us);
}

fn record_realm(realm: &str, c: &Counters) {
    let labelled = |name: &'static str, label: &'static str, values: &[(&'static str, u64)]| {
        for (word, value) in values {
            counter!(name, "realm" => realm.to_owned(), label => *word).absolute(*value);
        }
    };
    labelled(
        "tidegate_gateway_sessions_total",
        "event",
        &[
            ("login", c.logins),
            ("takeover", c.takeovers),
            ("resume", c.resumes),
            ("resume_gap", c.resume_gaps),
            ("detached", c.detached),
            ("logout", c.logouts),
            ("grace_expired", c.grace_expired),
            ("kicked", c.kicked),
            ("refused", c.refused),
            ("adopted", c.adopted),
            ("taken_over", c.taken_over),
            ("replaced", c.replaced),
            ("party_follow", c.party_follows),
        ],
    );
    labelled(
        "tidegate_gateway_holds_total",
        "reason",
        &[
            ("full", c.holds_full),
            ("home_lost", c.holds_home_lost),
            ("warming", c.holds_warming),
            ("admission", c.holds_admission),
            ("directory", c.holds_directory),
        ],
    );
    labelled(
        "tidegate_gateway_attach_retries_total",
        "reason",
        &[
            ("stale_epoch", c.stale_epoch_retries),
            ("wrong_zone", c.wrong_zone_retries),
            ("refused", c.attach_refused),
            ("rerouted", c.rerouted),
        ],
    );
    labelled(
        "tidegate_gateway_handovers_kept_in_place_total",
        "reason",
        &[
            ("freeze_refused", c.kept_freeze_refused),
            ("prepare_refused", c.kept_prepare_refused),
            ("timed_out", c.kept_timed_out),
            ("target_lost", c.kept_target_lost),
            ("source_lost", c.kept_source_lost),
            ("conflict", c.kept_conflict),
            ("format", c.kept_format),
            ("group", c.kept_group),
            ("ended", c.kept_ended),
        ],
    );
    labelled(
        "tidegate_gateway_homes_total",
        "event",
        &[("lost", c.homes_lost), ("regained", c.homes_regained), ("replaced", c.homes_replaced)],
    );
    labelled("tidegate_gateway_frames_total", "direction", &[("up", c.frames_up), ("down", c.frames_down)]);
    for (name, value) in [
        ("tidegate_gateway_handovers_started_total", c.handovers_started),
        ("tidegate_gateway_handovers_completed_total", c.handovers_completed),
        ("tidegate_gateway_handovers_restored_total", c.handovers_restored),
        ("tidegate_gateway_boundary_fallbacks_total", c.boundary_fallbacks),
        ("tidegate_gateway_transfers_refused_total", c.transfers_refused),
        ("tidegate_gateway_unresponsive_links_total", c.unresponsive),
        ("tidegate_gateway_tables_refused_total", c.tables_refused),
        ("tidegate_gateway_stale_residents_total", c.stale_residents),
        ("tidegate_gateway_strays_total", c.strays),
        ("tidegate_gateway_searches_total", c.searches),
        ("tidegate_gateway_link_gaps_total", c.link_gaps),
        ("tidegate_gateway_misroutes_total", c.misroutes),
        ("tidegate_gateway_moved_without_cause_total", c.moved_without_cause),
    ] {
        counter!(name, "realm" => realm.to_owned()).absolute(value);
    }
    for (state, value) in
        [("all", c.sessions), ("detached", c.detached_now), ("holding", c.holding_now), ("moving", c.moving_now)]
    {
        gauge!("tidegate_gateway_sessions", "realm" => realm.to_owned(), "state" => state).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_types::RealmId;

    #[test]
    fn broken_rules_are_exported_with_their_realm_alone() {
        let counters = Counters { misroutes: 2, moved_without_cause: 3, stale_residents: 4, ..Counters::default() };
        let page = render(&Figures { realms: vec![(RealmId::new("eu-1").unwrap(), counters)], ..Default::default() });
        for line in [
            "tidegate_gateway_misroutes_total{realm=\"eu-1\"} 2",
            "tidegate_gateway_moved_without_cause_total{realm=\"eu-1\"} 3",
            "tidegate_gateway_stale_residents_total{realm=\"eu-1\"} 4",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in {page}");
        }
        let keys = ["realm", "event", "reason", "direction", "state", "code", "kind"];
        for label in page.lines().filter_map(|l| l.split_once('{')?.1.split_once('}')).flat_map(|(l, _)| l.split(',')) {
            assert!(keys.contains(&label.split('=').next().unwrap()), "{label} is a new label: is it an id?");
        }
    }

    #[test]
    fn everything_that_is_exported_has_a_help_and_everything_helped_is_exported() {
        let figures =
            Figures { realms: vec![(RealmId::new("eu-1").unwrap(), Counters::default())], ..Default::default() };
        let page = render(&figures);
        for (name, _) in COUNTERS.iter().chain(GAUGES) {
            assert!(page.contains(&format!("# HELP {name} ")), "{name} is never exported");
        }
        for line in page.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let name = line.split([' ', '{']).next().unwrap();
            assert!(COUNTERS.iter().chain(GAUGES).any(|(n, _)| *n == name), "{name} has no help");
        }
        for (number, (_, code)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, number);
        }
    }
}
