//! Small tables for tests: environments "blue" and "green", servers named after them.

use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, Generation, InstanceId, RealmId, ServerId, ZoneId};
use uuid::Uuid;

use crate::message::Place;
use crate::table::{Boundaries, Environment, RealmTable, Rules, Server};

pub(crate) fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).unwrap()
}

pub(crate) fn environment_id(name: &str) -> EnvironmentId {
    EnvironmentId::new(name).unwrap()
}

pub(crate) fn shared(name: &str) -> Place {
    Place { zone: zone(name), instance: None }
}

pub(crate) fn dungeon(key: &str) -> Place {
    Place { zone: zone("dungeon"), instance: Some(key.to_owned()) }
}

pub(crate) fn run(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

/// Serves the entry zone and `zones`, hosts dungeons, takes ten.
pub(crate) fn server(id: &str, zones: &[&str]) -> Server {
    Server {
        id: ServerId::new(id).unwrap(),
        instance: run(1),
        address: "127.0.0.1:1".to_owned(),
        tls_name: format!("{id}.world.tidegate"),
        zones: std::iter::once("entry").chain(zones.iter().copied()).map(zone).collect(),
        instance_kinds: vec![zone("dungeon")],
        capacity: 10,
        ready: true,
    }
}

pub(crate) fn environment(id: &str, servers: Vec<Server>) -> Environment {
    Environment {
        id: environment_id(id),
        build: BuildVersion::new("1.0.0").unwrap(),
        draining: false,
        leave_at_boundary: false,
        formats_read: Vec::new(),
        clients: None,
        servers,
    }
}

pub(crate) fn rules() -> Rules {
    Rules {
        boundaries: Boundaries { zone: true, instance: true, respawn: true },
        entry_zone: zone("entry"),
        party_follow: false,
        grace: Duration::from_secs(60),
        hold_pins: false,
    }
}

pub(crate) fn realm() -> RealmId {
    RealmId::new("test").unwrap()
}

pub(crate) fn table(
    generation: u64,
    accepting: Option<&str>,
    environments: Vec<Environment>,
    rules: Rules,
) -> RealmTable {
    RealmTable::new(realm(), Generation(generation), accepting.map(environment_id), environments, rules).unwrap()
}
