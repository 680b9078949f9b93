//! What `/metrics` says. Declared here together: name, help, labels. Read from the registries when it is asked for, so
//! that no figure can be stale. Ids are never labels, but for the names that operators choose once: realms and gateways.
//!
//! "Must stay 0" marks what shows a rule of the design broken, where the manager can know it: one accepting environment
//! (rule 4), and nobody in an environment that was found empty (rule 9). The gateways have the other ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use fleet_core::Realm;
use fleet_core::environment::PhaseKind;
use fleet_core::rollout::RolloutState;
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

    let routing: Vec<_> = realms.iter().map(Arc::as_ref).collect();
    of_realms(&mut page, &routing);
    page.gauge(
        "tidegate_gateways_behind",
        "Live gateways that have not acknowledged the realm's newest routing table.",
    );
    for realm in &realms {
        let behind = surroundings.gateways.missing(&realm.rows.id, realm.rows.routing.generation.0);
        page.value("tidegate_gateways_behind", &[("realm", realm.rows.id.as_str())], behind.len() as f64);
    }

    let view = surroundings.servers.view();
    let view = Arc::clone(&view.borrow());
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

/// What is decided and observed of the realms.
fn of_realms(page: &mut Page, realms: &[&Realm]) {
    page.gauge("tidegate_route_generation", "Generation of a realm's routing table.");
    for realm in realms {
        let labels = [("realm", realm.rows.id.as_str())];
        page.value("tidegate_route_generation", &labels, realm.rows.routing.generation.0 as f64);
    }

    page.gauge("tidegate_sessions", "Sessions by build and phase of their environment, as the gateways report them.");
    for realm in realms {
        let mut sessions: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for environment in realm.rows.environments.values().filter(|e| e.is_routed()) {
            let key = (environment.build.version.as_str(), environment.phase.kind().as_str());
            *sessions.entry(key).or_default() += realm.observed.session_count(&environment.id);
        }
        for ((build, phase), count) in sessions {
            let labels = [("realm", realm.rows.id.as_str()), ("build", build), ("phase", phase)];
            page.value("tidegate_sessions", &labels, f64::from(count));
        }
    }

    page.gauge("tidegate_drains_running", "Drains that have not ended.");
    for realm in realms {
        let drains = realm.rows.drains.values().filter(|d| d.state.is_live()).count();
        page.value("tidegate_drains_running", &[("realm", realm.rows.id.as_str())], drains as f64);
    }
    page.gauge("tidegate_rollouts_running", "Rollouts that have not ended, the paused ones included.");
    for realm in realms {
        let rollouts = realm.rows.rollouts.values().filter(|r| !r.state.is_terminal()).count();
        page.value("tidegate_rollouts_running", &[("realm", realm.rows.id.as_str())], rollouts as f64);
    }
    page.gauge("tidegate_rollouts_paused", "Rollouts that wait for an operator.");
    for realm in realms {
        let paused = realm.rows.rollouts.values().filter(|r| r.state == RolloutState::Paused).count();
        page.value("tidegate_rollouts_paused", &[("realm", realm.rows.id.as_str())], paused as f64);
    }

    page.gauge(
        "tidegate_accepting_mismatches",
        "Environments that are active and not the accepting one, or accepting and not active: must stay 0.",
    );
    for realm in realms {
        let labels = [("realm", realm.rows.id.as_str())];
        page.value("tidegate_accepting_mismatches", &labels, accepting_mismatches(realm) as f64);
    }
    page.gauge(
        "tidegate_players_in_emptied_environments",
        "Players in environments that were found empty (drained, retired), by whose word: must stay 0.",
    );
    for realm in realms {
        let (gateways, servers) = players_in_emptied(realm);
        for (word, players) in [("gateways", gateways), ("servers", servers)] {
            let labels = [("realm", realm.rows.id.as_str()), ("word", word)];
            page.value("tidegate_players_in_emptied_environments", &labels, players as f64);
        }
    }
}

/// How many environments the phases and the routing disagree about.
fn accepting_mismatches(realm: &Realm) -> usize {
    let accepting = realm.rows.routing.accepting.as_ref();
    let active = |id| realm.rows.environments.get(id).is_some_and(|e| e.phase.kind() == PhaseKind::Active);
    let others = realm.rows.environments.values().filter(|e| e.phase.kind() == PhaseKind::Active);
    others.filter(|e| accepting != Some(&e.id)).count() + usize::from(accepting.is_some_and(|id| !active(id)))
}

/// Players where nobody may be: by the word of the gateways, and by that of the servers.
fn players_in_emptied(realm: &Realm) -> (u64, u64) {
    let emptied = realm.rows.environments.values().filter(|e| {
        // One that never took players may hold the smoke tests' own.
        e.was_active && matches!(e.phase.kind(), PhaseKind::Drained | PhaseKind::Retired)
    });
    emptied.fold((0, 0), |(gateways, servers), environment| {
        let held = realm.observed.servers.get(&environment.id);
        let held = held.into_iter().flat_map(|e| &e.servers).filter_map(|s| s.report.map(|r| u64::from(r.players)));
        (gateways + u64::from(realm.observed.session_count(&environment.id)), servers + held.sum::<u64>())
    })
}

fn gateways(page: &mut Page, gateways: &[v1::Gateway], unknown: usize) {
    page.gauge("tidegate_gateways_connected", "Gateways with an open stream.");
    let connected = gateways.iter().filter(|gateway| gateway.connected).count();
    page.value("tidegate_gateways_connected", &[], connected as f64);
    page.gauge("tidegate_gateways_unknown", "Gateways whose full list of sessions has not arrived.");
    page.value("tidegate_gateways_unknown", &[], unknown as f64);
    page.gauge("tidegate_gateways_stopping", "Gateways that are about to stop.");
    page.value("tidegate_gateways_stopping", &[], gateways.iter().filter(|g| g.stopping).count() as f64);
    page.gauge(
        "tidegate_gateways_directory_degraded",
        "Gateways whose shared directory does not answer: players whose home is not known wait.",
    );
    let degraded = gateways.iter().filter(|g| g.directory_state() == v1::DirectoryState::Degraded).count();
    page.value("tidegate_gateways_directory_degraded", &[], degraded as f64);
    page.gauge("tidegate_sessions_orphaned", "Sessions whose gateway is gone, and that no other has taken up yet.");
    let orphans: u32 = gateways.iter().map(|g| g.orphans).sum();
    page.value("tidegate_sessions_orphaned", &[], f64::from(orphans));
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

    use std::collections::{BTreeSet, HashMap};

    use fleet_core::environment::{Environment, Phase, Source};
    use fleet_core::observe::OccupancyReport;
    use fleet_core::{BuildInfo, RealmSpec, realm::Rows};
    use tidegate_types::{EnvironmentId, RealmId, Timestamp, ZoneId};

    /// A realm with environments of these phases, that once took players; the first one is the accepting one.
    fn realm(phases: &[(&str, Phase)], sessions: &[(&str, u32)]) -> Realm {
        let spec = RealmSpec::new(ZoneId::new("harbor").unwrap(), "world.db".into(), Timestamp(1));
        let mut rows = Rows::new(RealmId::new("eu-1").unwrap(), spec);
        for (id, phase) in phases {
            let id = EnvironmentId::new(id).unwrap();
            let build = BuildInfo {
                version: "1.9.0".parse().unwrap(),
                assets_digest: None,
                state_formats_read: vec![1],
                state_format_write: 1,
                schema_versions: Vec::new(),
                client_versions: String::new(),
            };
            let made = Environment::new(id.clone(), build, Vec::new(), Source::Empty, Timestamp(1));
            let made = Environment { phase: phase.clone(), was_active: true, ..made };
            rows.routing.accepting.get_or_insert_with(|| id.clone());
            rows.environments.insert(id, made);
        }
        let mut realm = Realm::load(rows);
        let counts = sessions.iter().map(|(id, count)| (EnvironmentId::new(id).unwrap(), *count)).collect();
        realm.observed.occupancy = Some(OccupancyReport { counts, ..OccupancyReport::default() });
        realm
    }

    fn samples(realm: &Realm) -> HashMap<String, String> {
        let mut page = Page(String::new());
        of_realms(&mut page, &[realm]);
        let declared: BTreeSet<&str> =
            page.0.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let lines = page.0.lines().filter(|line| !line.starts_with('#'));
        let samples: HashMap<_, _> =
            lines.filter_map(|l| l.rsplit_once(' ')).map(|(k, v)| (k.into(), v.into())).collect();
        for name in samples.keys().map(|k: &String| k.split('{').next().unwrap()) {
            assert!(declared.contains(name), "{name} has no help");
        }
        for name in declared {
            assert!(samples.keys().any(|k| k.split('{').next() == Some(name)), "{name} is never exported");
        }
        samples
    }

    #[test]
    fn what_must_stay_0_is_0_in_a_realm_that_is_well() {
        let phases = [("e1", Phase::Active), ("e2", Phase::Drained), ("e3", Phase::Draining)];
        let samples = samples(&realm(&phases, &[("e1", 7), ("e3", 2)]));
        assert_eq!(samples["tidegate_accepting_mismatches{realm=\"eu-1\"}"], "0");
        for word in ["gateways", "servers"] {
            let name = format!("tidegate_players_in_emptied_environments{{realm=\"eu-1\",word=\"{word}\"}}");
            assert_eq!(samples[&name], "0");
        }
        assert_eq!(samples["tidegate_sessions{realm=\"eu-1\",build=\"1.9.0\",phase=\"active\"}"], "7");
        assert!(samples.keys().all(|k| !k.contains("e1") && !k.contains("e3")), "{samples:?}");
    }

    #[test]
    fn what_must_stay_0_shows_what_is_wrong() {
        let phases = [("e1", Phase::Ready), ("e2", Phase::Active), ("e3", Phase::Retired { stopped: true })];
        let samples = samples(&realm(&phases, &[("e3", 4)]));
        assert_eq!(samples["tidegate_accepting_mismatches{realm=\"eu-1\"}"], "2");
        let name = "tidegate_players_in_emptied_environments{realm=\"eu-1\",word=\"gateways\"}";
        assert_eq!(samples[name], "4");
    }

    #[test]
    fn labels_cannot_break_the_format() {
        let mut page = Page(String::new());
        page.gauge("g", "Help.");
        page.value("g", &[("a", "x\"y\\z")], 1.0);
        page.value("g", &[], 2.5);
        assert_eq!(page.0, "# HELP g Help.\n# TYPE g gauge\ng{a=\"x\\\"y\\\\z\"} 1\ng 2.5\n");
    }
}
