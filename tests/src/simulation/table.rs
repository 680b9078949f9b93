//! The manager's table as the gateway reads it: what the wire and the gateway's conversion do between them.

use fleet_core::PhaseKind;
use fleet_core::routing::{RouteEnvironment, RouteTable};
use gateway_core::table::{Boundaries, Environment, RealmTable, Rules, Server};

/// The gateway's form of a table.
///
/// # Panics
/// When the manager's table is none that a gateway accepts.
pub(super) fn table(from: &RouteTable) -> RealmTable {
    let rules = Rules {
        boundaries: Boundaries {
            zone: from.boundaries.zone,
            instance: from.boundaries.instance,
            respawn: from.boundaries.respawn,
        },
        entry_zone: from.entry_zone.clone(),
        party_follow: from.party_follow,
        grace: from.grace,
        hold_pins: from.hold_pins,
    };
    let environments = from.environments.iter().map(environment).collect();
    RealmTable::new(from.realm.clone(), from.generation, from.accepting.clone(), environments, rules)
        .expect("the manager's tables are valid")
}

fn environment(from: &RouteEnvironment) -> Environment {
    Environment {
        id: from.id.clone(),
        build: from.build.clone(),
        draining: matches!(from.phase, PhaseKind::Draining | PhaseKind::Drained),
        leave_at_boundary: from.leave_at_boundary,
        formats_read: from.state_formats_read.clone(),
        clients: None,
        servers: from
            .servers
            .iter()
            .map(|server| Server {
                id: server.id.clone(),
                instance: server.instance,
                address: server.address.clone(),
                tls_name: server.tls_name.clone(),
                zones: server.zones.clone(),
                instance_kinds: server.instance_kinds.clone(),
                capacity: server.capacity,
                ready: server.ready,
            })
            .collect(),
    }
}
