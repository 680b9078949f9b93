//! From what the supervisor and the gateways report to what the core observes of one realm.

use std::collections::BTreeMap;

use fleet_core::Realm;
use fleet_core::drain::Departure;
use fleet_core::environment::{Environment, PhaseKind};
use fleet_core::observe::{
    Assets, Departed, EnvironmentObservation, GatewayObservation, OccupancyReport, ServerObservation, ServerReport,
    ServerState, SessionObservation,
};
use tidegate_proto::v1;
use tidegate_types::{Cause, Generation, PartyId, ServerId, SessionId, Timestamp, ZoneId};

use crate::gateways::Gateways;
use crate::servers::plan::Occupancy;
use crate::servers::{self, ServerView, ServersView};
use crate::sessions::{self, Sessions};

/// The servers of one environment, as the core sees them.
#[must_use]
pub fn environment(environment: &Environment, view: &ServersView) -> EnvironmentObservation {
    let servers = view.servers.values().filter(|server| server.environment == environment.id);
    EnvironmentObservation {
        environment: environment.id.clone(),
        servers: servers.map(|server| self::server(environment, server)).collect(),
    }
}

fn server(environment: &Environment, server: &ServerView) -> ServerObservation {
    let state = match server.state {
        servers::ServerState::Starting => ServerState::Starting,
        servers::ServerState::Loading => ServerState::Loading,
        servers::ServerState::Loaded => ServerState::Loaded,
        // One that will be stopped once it is empty keeps who is there, and gets nobody new.
        servers::ServerState::Ready if server.retiring => ServerState::Stopping,
        servers::ServerState::Ready => ServerState::Serving,
        servers::ServerState::Unreachable => ServerState::Unreachable,
        servers::ServerState::Exited => ServerState::Exited,
        servers::ServerState::Stopping => ServerState::Stopping,
    };
    let assets = match (server.digest_ok, environment.build.assets_digest) {
        (Some(true), Some(digest)) => Assets::Loaded(digest),
        (Some(false), _) => Assets::Failed(server.reason.clone()),
        (Some(true), None) | (None, _) => Assets::NotLoaded,
    };
    let report = match server.occupancy {
        Occupancy::Unknown => None,
        Occupancy::Empty | Occupancy::Occupied(_) => {
            Some(ServerReport { players: server.players, parked: server.parked, in_handover: server.in_handover })
        }
    };
    ServerObservation {
        id: server.id.clone(),
        fleet: server.fleet.clone(),
        state,
        instance: server.instance,
        address: (!server.link_address.is_empty()).then(|| server.link_address.clone()),
        tls_name: server.tls_name.clone(),
        build: server.build_reported.clone(),
        assets,
        zones: server.zones.clone(),
        instance_kinds: server.instance_kinds.clone(),
        capacity: server.capacity,
        restarts: server.restarts,
        report,
        reason: server.reason.clone(),
    }
}

/// Who is where in the realm, by the gateways' word. Takes the departures: each call must be told to the core.
#[must_use]
pub fn occupancy(realm: &Realm, gateways: &Gateways, sessions: &Sessions) -> OccupancyReport {
    let mut counts = BTreeMap::new();
    let mut lists = BTreeMap::new();
    for (id, environment) in &realm.rows.environments {
        let rows = sessions.of_environment(id);
        if rows.is_empty() {
            continue;
        }
        counts.insert(id.clone(), u32::try_from(rows.len()).unwrap_or(u32::MAX));
        // Only what drains is asked about session by session; the active environment's may be tens of thousands.
        if matches!(environment.phase.kind(), PhaseKind::Draining | PhaseKind::Drained) {
            lists.insert(id.clone(), rows.iter().filter_map(|row| session(row)).collect());
        }
    }
    let gateways = gateways.observe(&realm.rows.id).into_iter().map(|gateway| GatewayObservation {
        id: gateway.id,
        connected: gateway.connected,
        complete: gateway.complete,
        generation: Generation(gateway.generation),
    });
    let departures = sessions.take_departures(&realm.rows.id).into_iter().map(departed);
    OccupancyReport { gateways: gateways.collect(), counts, sessions: lists, departures: departures.collect() }
}

/// Ids that a row may lack (a session that waits for a server has none) are replaced by a dash: it must still be counted.
fn session(row: &v1::SessionRow) -> Option<SessionObservation> {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    Some(SessionObservation {
        session: SessionId::from_slice(&row.session_id)?,
        player: row.player.parse().ok()?,
        party: row.party.parse::<PartyId>().ok(),
        server: dash(&row.server_id).parse::<ServerId>().ok()?,
        zone: dash(&row.zone).parse::<ZoneId>().ok()?,
        zone_kind: row.zone_kind.clone(),
        busy: row.busy,
        active: Timestamp(row.active_ms),
        moving: row.state() == v1::SessionState::Moving,
    })
}

fn departed(departed: sessions::Departed) -> Departed {
    let how = match departed.how.as_str() {
        "logout" => Departure::Logout,
        "grace_over" => Departure::GraceOver,
        "kicked" => Departure::Kicked,
        word => Cause::ALL.into_iter().find(|cause| cause.as_str() == word).map_or(Departure::Other, Departure::Moved),
    };
    Departed { environment: departed.environment, at: departed.at, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(word: &str) -> Departure {
        departed(sessions::Departed { environment: "blue".parse().unwrap(), at: Timestamp(1), how: word.to_owned() })
            .how
    }

    #[test]
    fn every_cause_and_every_end_of_a_session_is_a_departure_of_its_own() {
        for cause in Cause::ALL {
            assert_eq!(how(cause.as_str()), Departure::Moved(cause));
        }
        assert_eq!(how("logout"), Departure::Logout);
        assert_eq!(how("kicked"), Departure::Kicked);
        assert_eq!(how("grace_over"), Departure::GraceOver);
        for word in ["lost", "unreported", "replaced", "ejected", ""] {
            assert_eq!(how(word), Departure::Other, "{word}");
        }
    }

    #[test]
    fn a_session_without_a_server_is_still_counted() {
        let row = v1::SessionRow { session_id: vec![1; 16], player: "p".into(), ..v1::SessionRow::default() };
        let seen = session(&row).expect("is seen");
        assert_eq!((seen.server.as_str(), seen.zone.as_str(), seen.party), ("-", "-", None));
    }
}
