//! What shall run: the desired world servers of one environment, and the names derived from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_types::{BuildVersion, EnvironmentId, FleetName, RealmId, ServerId, ZoneId};

/// The desired world servers of one environment. Telling the same twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentServers {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its realm.
    pub realm: RealmId,
    /// The build that each server must report.
    pub build: BuildVersion,
    /// Program and arguments that start one world server.
    pub command: Vec<String>,
    /// Extra environment variables of the build.
    pub command_environment: BTreeMap<String, String>,
    /// The asset bundle that every server must load; `None`: the build has none.
    pub assets: Option<Assets>,
    /// Its fleets.
    pub fleets: Vec<FleetSpec>,
    /// The realm's database.
    pub database: PathBuf,
    /// World state that a fresh server is given before it serves (from a snapshot); empty: none.
    pub zones: Arc<[SavedZone]>,
    /// Servers that have loaded everything are told to serve, also those that are started again later. False: they wait,
    /// loaded, until this is told with true. True is not taken back.
    pub serve: bool,
}

/// An ingested asset bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The folder on this machine.
    pub path: PathBuf,
    /// Its BLAKE3 digest.
    pub digest: [u8; 32],
}

/// A fleet: like servers for one set of zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetSpec {
    /// Unique within the environment.
    pub name: FleetName,
    /// How many servers.
    pub replicas: u32,
    /// Shared zones that each of them serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance that each of them hosts.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players each of them takes.
    pub capacity: u32,
    /// Extra environment variables; they win over the build's.
    pub environment: BTreeMap<String, String>,
}

/// A zone's state as one server had it at a snapshot. Several servers may serve the same zone; each has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedZone {
    /// The server it was taken from; gives replicas of a zone their order.
    pub server: ServerId,
    /// The zone.
    pub zone: ZoneId,
    /// Opaque to everyone but world servers. At most 1 MiB.
    pub state: Bytes,
    /// The format's number.
    pub format: u32,
}

/// One place for a server process: a restart keeps it, and no two processes ever have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The environment.
    pub environment: EnvironmentId,
    /// The fleet within it.
    pub fleet: FleetName,
    /// From 1 to the fleet's number of replicas (or above, while a fleet shrinks).
    pub ordinal: u32,
}

impl Slot {
    /// The id of the server in this place.
    ///
    /// # Errors
    /// Environment and fleet names that are too long together.
    pub fn server_id(&self) -> Result<ServerId, tidegate_types::InvalidId> {
        ServerId::new(&format!("{}-{}-{}", self.environment, self.fleet, self.ordinal))
    }
}

/// The certificate name of a world server on its link: `<server id>.world.tidegate`, with the id replaced by a digest of
/// itself where it could not stand in a host name.
#[must_use]
pub fn tls_name(server: &ServerId) -> String {
    const SUFFIX: &str = "world.tidegate";
    let text = server.as_str();
    let plain = text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if plain {
        format!("{text}.{SUFFIX}")
    } else {
        let digest = blake3::hash(text.as_bytes()).to_hex();
        format!("s-{}.{SUFFIX}", &digest[..32])
    }
}

impl EnvironmentServers {
    /// The fleet of that name.
    #[must_use]
    pub fn fleet(&self, name: &FleetName) -> Option<&FleetSpec> {
        self.fleets.iter().find(|fleet| fleet.name == *name)
    }

    /// Which saved zones the server in `slot` is given: of each zone it serves, one copy. Where there were fewer copies
    /// than there are servers now, copies repeat; where there were more, the ones left over are not used by this slot.
    #[must_use]
    pub fn zones_for(&self, slot: &Slot) -> Vec<&SavedZone> {
        let Some(fleet) = self.fleet(&slot.fleet) else { return Vec::new() };
        let wanted = fleet.zones.iter().chain(&fleet.instance_kinds);
        wanted
            .filter_map(|zone| {
                let mut copies: Vec<&SavedZone> = self.zones.iter().filter(|saved| saved.zone == *zone).collect();
                copies.sort_by(|a, b| a.server.cmp(&b.server));
                let count = u32::try_from(copies.len()).ok().filter(|n| *n > 0)?;
                Some(copies[(slot.ordinal.saturating_sub(1) % count) as usize])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id<T: std::str::FromStr<Err = tidegate_types::InvalidId>>(text: &str) -> T {
        text.parse().unwrap()
    }

    #[test]
    fn a_tls_name_is_always_a_host_name() {
        assert_eq!(tls_name(&id("eu-1-town-1")), "eu-1-town-1.world.tidegate");
        for odd in ["EU_1-town-1", "-x", "a.b", &"x".repeat(80), "zoë"] {
            let name = tls_name(&id(odd));
            assert!(name.starts_with("s-") && name.split('.').all(|label| label.len() <= 63), "{name}");
        }
        assert_ne!(tls_name(&id("A")), tls_name(&id("B")));
    }

    #[test]
    fn each_replica_gets_its_own_copy_of_a_zone() {
        let saved = |server: &str, zone: &str, state: &'static [u8]| SavedZone {
            server: id(server),
            zone: id(zone),
            state: Bytes::from_static(state),
            format: 1,
        };
        let environment = EnvironmentServers {
            environment: id("e2"),
            realm: id("eu-1"),
            build: id("2.0.0"),
            command: vec!["true".into()],
            command_environment: BTreeMap::new(),
            assets: None,
            fleets: vec![FleetSpec {
                name: id("town"),
                replicas: 3,
                zones: vec![id("market")],
                instance_kinds: vec![],
                capacity: 10,
                environment: BTreeMap::new(),
            }],
            database: PathBuf::from("world.db"),
            zones: vec![
                saved("e1-town-2", "market", b"two"),
                saved("e1-town-1", "market", b"one"),
                saved("e1-x-1", "moor", b"moor"),
            ]
            .into(),
            serve: true,
        };
        let given = |ordinal| {
            let slot = Slot { environment: id("e2"), fleet: id("town"), ordinal };
            environment.zones_for(&slot).iter().map(|z| z.state.clone()).collect::<Vec<_>>()
        };
        assert_eq!(given(1), [Bytes::from_static(b"one")]);
        assert_eq!(given(2), [Bytes::from_static(b"two")]);
        assert_eq!(given(3), [Bytes::from_static(b"one")]);
    }
}
