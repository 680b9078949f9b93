//! Routing tables and flips.

use fleet_core::environment::RouteServer;
use fleet_core::routing::{FlipRecord, FlipState, RouteEnvironment, RouteTable};
use tidegate_proto::v1;

use super::environment::{label, phase};
use super::{millis32, realm};

/// The table as gateways get it.
#[must_use]
pub fn table(table: &RouteTable) -> v1::RouteTable {
    v1::RouteTable {
        realm: table.realm.to_string(),
        generation: table.generation.0,
        accepting: table.accepting.as_ref().map(ToString::to_string).unwrap_or_default(),
        environments: table.environments.iter().map(environment).collect(),
        boundaries: Some(realm::boundaries(table.boundaries)),
        entry_zone: table.entry_zone.to_string(),
        party_follow: table.party_follow,
        grace_ms: millis32(table.grace),
        hold_pins: table.hold_pins,
    }
}

fn environment(environment: &RouteEnvironment) -> v1::RouteEnvironment {
    v1::RouteEnvironment {
        environment_id: environment.id.to_string(),
        build: environment.build.to_string(),
        label: label(environment.label).into(),
        phase: phase(environment.phase).into(),
        servers: environment.servers.iter().map(server).collect(),
        state_formats_read: environment.state_formats_read.clone(),
        state_format_write: environment.state_format_write,
        client_versions: environment.client_versions.clone(),
        leave_at_boundary: environment.leave_at_boundary,
    }
}

fn server(server: &RouteServer) -> v1::RouteServer {
    v1::RouteServer {
        server_id: server.id.to_string(),
        instance: server.instance.to_vec(),
        address: server.address.clone(),
        tls_name: server.tls_name.clone(),
        zones: server.zones.iter().map(ToString::to_string).collect(),
        instance_kinds: server.instance_kinds.iter().map(ToString::to_string).collect(),
        capacity: server.capacity,
        ready: server.ready,
    }
}

/// What became of a flip; `None`: it still waits for the gateways.
#[must_use]
pub fn flip(flip: &FlipRecord) -> Option<v1::FlipResponse> {
    let begun = v1::FlipResponse {
        generation: flip.generation.0,
        from: flip.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        to: flip.to.to_string(),
        ..v1::FlipResponse::default()
    };
    match &flip.state {
        FlipState::Awaiting { .. } => None,
        FlipState::Confirmed { at, confirm_us } => {
            Some(v1::FlipResponse { confirmed: true, confirm_us: *confirm_us, confirmed_at_ms: at.0, ..begun })
        }
        FlipState::Unconfirmed { missing, .. } => {
            Some(v1::FlipResponse { unconfirmed_gateways: missing.iter().map(ToString::to_string).collect(), ..begun })
        }
    }
}
