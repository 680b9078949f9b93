//! What `/metrics` says. Declared here together: name, help, labels. Read from the registries when it is asked for, so
//! that no figure can be stale; ids of players and sessions are never labels.

use std::fmt::Write as _;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use tidegate_proto::v1;

use crate::manager::Manager;
use crate::servers::ServerState;

/// The content type of the Prometheus text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The HTTP service that answers `/metrics`.
pub fn router(manager: Manager) -> Router {
    Router::new().route("/metrics", get(move || respond(manager.clone())))
}

async fn respond(manager: Manager) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, TEXT)], render(&manager))
}

/// The figures in Prometheus' text format.
#[must_use]
pub fn render(manager: &Manager) -> String {
    let mut page = Page(String::new());
    let surroundings = manager.surroundings();
    let realms: Vec<_> = manager.list().iter().map(|handle| handle.realm()).collect();

    page.gauge("tidegate_realms", "Realms.");
    page.value("tidegate_realms", &[], realms.len() as f64);

    page.gauge("tidegate_route_generation", "Generation of a realm's routing table.");
    for realm in &realms {
        let labels = [("realm", realm.rows.id.as_str())];
        page.value("tidegate_route_generation", &labels, realm.rows.routing.generation.0 as f64);
    }

    page.gauge("tidegate_sessions", "Sessions pinned to an environment, as the gateways report them.");
    for realm in &realms {
        for environment in realm.rows.environments.values().filter(|e| e.is_routed()) {
            let labels = [
                ("realm", realm.rows.id.as_str()),
                ("environment", environment.id.as_str()),
                ("phase", environment.phase.kind().as_str()),
            ];
            page.value("tidegate_sessions", &labels, f64::from(realm.observed.session_count(&environment.id)));
        }
    }

    page.gauge("tidegate_drains_running", "Drains that have not ended.");
    page.gauge("tidegate_rollouts_running", "Rollouts that have not ended.");
    for realm in &realms {
        let labels = [("realm", realm.rows.id.as_str())];
        let drains = realm.rows.drains.values().filter(|d| d.state.is_live()).count();
        let rollouts = realm.rows.rollouts.values().filter(|r| !r.state.is_terminal()).count();
        page.value("tidegate_drains_running", &labels, drains as f64);
        page.value("tidegate_rollouts_running", &labels, rollouts as f64);
    }

    let view = surroundings.servers.view();
    let view = std::sync::Arc::clone(&view.borrow());
    page.gauge("tidegate_servers", "World servers by state.");
    for (state, word) in [
        (ServerState::Starting, "starting"),
        (ServerState::Loading, "loading"),
        (ServerState::Loaded, "loaded"),
        (ServerState::Ready, "ready"),
        (ServerState::Unreachable, "unreachable"),
        (ServerState::Exited, "exited"),
        (ServerState::Stopping, "stopping"),
    ] {
        let count = view.servers.values().filter(|server| server.state == state).count();
        page.value("tidegate_servers", &[("state", word)], count as f64);
    }
    page.gauge("tidegate_server_restarts", "How often the servers that exist now were started again.");
    let restarts: u32 = view.servers.values().map(|server| server.restarts).sum();
    page.value("tidegate_server_restarts", &[], f64::from(restarts));

    gateways(&mut page, &surroundings.gateways.list(), surroundings.sessions.unknown().len());
    page.0
}

fn gateways(page: &mut Page, gateways: &[v1::Gateway], unknown: usize) {
    page.gauge("tidegate_gateways_connected", "Gateways with an open stream.");
    let connected = gateways.iter().filter(|gateway| gateway.connected).count();
    page.value("tidegate_gateways_connected", &[], connected as f64);
    page.gauge("tidegate_gateways_unknown", "Gateways whose full list of sessions has not arrived.");
    page.value("tidegate_gateways_unknown", &[], unknown as f64);
    page.counter("tidegate_handovers_completed_total", "Hand-overs that completed, as the gateways count them.");
    page.counter(
        "tidegate_handovers_kept_in_place_total",
        "Hand-overs that failed and left the player where they were.",
    );
    for gateway in gateways {
        let labels = [("gateway", gateway.id.as_str())];
        page.value("tidegate_handovers_completed_total", &labels, gateway.handovers_completed as f64);
        page.value("tidegate_handovers_kept_in_place_total", &labels, gateway.handovers_kept_in_place as f64);
    }
}

/// A page of Prometheus' text format.
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        self.declare(name, help, "gauge");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.declare(name, help, "counter");
    }

    fn declare(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{braces} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_the_format() {
        let mut page = Page(String::new());
        page.gauge("g", "Help.");
        page.value("g", &[("a", "x\"y\\z")], 1.0);
        page.value("g", &[], 2.5);
        assert_eq!(page.0, "# HELP g Help.\n# TYPE g gauge\ng{a=\"x\\\"y\\\\z\"} 1\ng 2.5\n");
    }
}
