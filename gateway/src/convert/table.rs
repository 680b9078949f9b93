//! The routing table.

use std::time::Duration;

use gateway_core::table::{Boundaries, Environment, RealmTable, Rules, Server};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{Generation, ZoneId};

use super::instance_id;

/// The grace time of a table that does not name one.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

/// Reads a table.
///
/// # Errors
/// The first field that cannot be what it should be.
pub(crate) fn table(wire: &v1::RouteTable) -> Result<RealmTable, BadField> {
    let boundaries = wire.boundaries.unwrap_or_default();
    let rules = Rules {
        boundaries: Boundaries { zone: boundaries.zone, instance: boundaries.instance, respawn: boundaries.respawn },
        entry_zone: convert::id("entry_zone", &wire.entry_zone)?,
        party_follow: wire.party_follow,
        grace: match wire.grace_ms {
            0 => DEFAULT_GRACE,
            ms => Duration::from_millis(ms.into()),
        },
        hold_pins: wire.hold_pins,
    };
    RealmTable::new(
        convert::id("realm", &wire.realm)?,
        Generation(wire.generation),
        convert::optional_id("accepting", &wire.accepting)?,
        wire.environments.iter().map(environment).collect::<Result<_, _>>()?,
        rules,
    )
    .map_err(|e| BadField::new("environments", e.to_string()))
}

fn environment(wire: &v1::RouteEnvironment) -> Result<Environment, BadField> {
    let clients = match wire.client_versions.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|e: semver::Error| BadField::new("client_versions", e.to_string()))?),
    };
    Ok(Environment {
        id: convert::id("environment_id", &wire.environment_id)?,
        build: convert::id("build", &wire.build)?,
        draining: matches!(wire.phase(), v1::Phase::Draining | v1::Phase::Drained),
        leave_at_boundary: wire.leave_at_boundary,
        formats_read: wire.state_formats_read.clone(),
        clients,
        servers: wire.servers.iter().map(server).collect::<Result<_, _>>()?,
    })
}

fn server(wire: &v1::RouteServer) -> Result<Server, BadField> {
    Ok(Server {
        id: convert::id("server_id", &wire.server_id)?,
        instance: instance_id("instance", &wire.instance)?,
        address: wire.address.clone(),
        tls_name: wire.tls_name.clone(),
        zones: zones("zones", &wire.zones)?,
        instance_kinds: zones("instance_kinds", &wire.instance_kinds)?,
        capacity: wire.capacity,
        ready: wire.ready,
    })
}

fn zones(field: &'static str, wire: &[String]) -> Result<Vec<ZoneId>, BadField> {
    wire.iter().map(|zone| convert::id(field, zone)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::RouteTable {
        v1::RouteTable {
            realm: "eu-1".into(),
            generation: 7,
            accepting: "blue".into(),
            environments: vec![v1::RouteEnvironment {
                environment_id: "blue".into(),
                build: "1.9.0".into(),
                phase: v1::Phase::Draining.into(),
                client_versions: ">=1.0.0".into(),
                servers: vec![v1::RouteServer {
                    server_id: "w1".into(),
                    instance: vec![1; 16],
                    zones: vec!["town".into()],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            entry_zone: "town".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_table_is_read_whole() {
        let table = table(&wire()).unwrap();
        assert_eq!((table.realm().as_str(), table.generation()), ("eu-1", Generation(7)));
        let environment = table.accepting().unwrap();
        assert!(environment.draining && environment.clients.is_some());
        assert_eq!(environment.servers[0].id.as_str(), "w1");
        assert_eq!(table.rules().grace, DEFAULT_GRACE);
    }

    #[test]
    fn wrong_fields_are_named() {
        type Change = fn(&mut v1::RouteTable);
        let cases: [(Change, &str); 7] = [
            (|t| t.realm.clear(), "realm"),
            (|t| t.entry_zone.clear(), "entry_zone"),
            (|t| t.accepting = "green".into(), "environments"),
            (|t| t.environments[0].build = "1 2".into(), "build"),
            (|t| t.environments[0].client_versions = "new".into(), "client_versions"),
            (|t| t.environments[0].servers[0].instance = vec![1], "instance"),
            (|t| t.environments[0].servers[0].zones = vec![String::new()], "zones"),
        ];
        for (change, field) in cases {
            let mut wire = wire();
            change(&mut wire);
            assert_eq!(table(&wire).unwrap_err().field, field);
        }
    }
}
