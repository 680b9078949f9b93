//! The way of a registered world server to serving: the right build, the right assets, its zones, then `Serve`.
//!
//! ```text
//!   registered --LoadAssets--> assets --LoadZones--> zones --> loaded --Serve--> told --status: serving--> serving
//!        \--------- wrong build, wrong digest, could not load: wrong (it stays so; the reason is shown)
//! ```
//!
//! No I/O: facts in, directives out.

use tidegate_proto::v1::{self, world_directive};
use tidegate_types::BuildVersion;

use super::spec::{EnvironmentServers, SavedZone, Slot};

/// Most bytes of zone state that a server can be given: they go in one message, and world servers take 64 MiB.
const MAX_ZONES_BYTES: usize = 60 * 1024 * 1024;

/// How far a server has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Staging {
    /// Not registered.
    #[default]
    Away,
    /// Registered, but its environment has not been wanted yet by this manager: nothing is asked of it.
    Waiting,
    /// Told to load its assets.
    Assets,
    /// Given its zones.
    Zones,
    /// Everything is loaded; it is not to serve yet.
    Loaded,
    /// Told to serve.
    Told,
    /// Serves.
    Serving,
    /// It will not serve: it is not what it should be.
    Wrong(String),
}

/// What a registration says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) build: BuildVersion,
    pub(crate) assets_digest: Option<[u8; 32]>,
    pub(crate) serving: bool,
}

impl Staging {
    /// The server has registered, or what is wanted of a registered one has become known.
    pub(crate) fn begin(
        facts: &Facts,
        expected: &BuildVersion,
        wanted: Option<&EnvironmentServers>,
        slot: &Slot,
    ) -> (Self, Vec<world_directive::Message>) {
        if facts.build != *expected {
            return (Self::Wrong(format!("reports build {}, expected {expected}", facts.build)), Vec::new());
        }
        let Some(wanted) = wanted else {
            return (if facts.serving { Self::Serving } else { Self::Waiting }, Vec::new());
        };
        match (&wanted.assets, facts.assets_digest) {
            (Some(assets), Some(digest)) if assets.digest != digest => {
                (Self::wrong_digest(&digest, assets.digest), Vec::new())
            }
            (Some(assets), None) => {
                let load =
                    v1::LoadAssets { path: assets.path.to_string_lossy().into_owned(), digest: assets.digest.to_vec() };
                (Self::Assets, vec![world_directive::Message::LoadAssets(load)])
            }
            _ if facts.serving => (Self::Serving, Vec::new()),
            _ => Self::load_zones(wanted, slot),
        }
    }

    /// The server has answered `LoadAssets`.
    pub(crate) fn assets_loaded(
        &mut self,
        digest: &[u8],
        error: &str,
        wanted: Option<&EnvironmentServers>,
        slot: &Slot,
    ) -> Vec<world_directive::Message> {
        if *self != Self::Assets {
            return Vec::new();
        }
        let Some(wanted) = wanted else { return Vec::new() };
        let expected = wanted.assets.as_ref().map_or([0; 32], |assets| assets.digest);
        let (next, directives) = if !error.is_empty() {
            (Self::Wrong(format!("could not load its assets: {error}")), Vec::new())
        } else if digest != expected {
            (Self::wrong_digest(digest, expected), Vec::new())
        } else {
            Self::load_zones(wanted, slot)
        };
        *self = next;
        directives
    }

    /// The server has answered one `LoadZones`.
    pub(crate) fn zones_loaded(&mut self, error: &str, serve: bool) -> Vec<world_directive::Message> {
        if *self != Self::Zones {
            return Vec::new();
        }
        if !error.is_empty() {
            *self = Self::Wrong(format!("could not load its zones: {error}"));
            return Vec::new();
        }
        *self = Self::Loaded;
        self.serve(serve)
    }

    /// A loaded server is wanted to serve (or not yet).
    pub(crate) fn serve(&mut self, serve: bool) -> Vec<world_directive::Message> {
        if *self != Self::Loaded || !serve {
            return Vec::new();
        }
        *self = Self::Told;
        vec![world_directive::Message::Serve(v1::Serve {})]
    }

    /// The server says whether it serves.
    pub(crate) fn status(&mut self, serving: bool) {
        match (&*self, serving) {
            (Self::Told | Self::Waiting, true) => *self = Self::Serving,
            (Self::Serving, false) => *self = Self::Told,
            (Self::Away | Self::Waiting | Self::Assets | Self::Zones | Self::Loaded | Self::Wrong(_), _)
            | (Self::Told, false)
            | (Self::Serving, true) => {}
        }
    }

    /// What keeps it from serving, for people; empty: nothing.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Away | Self::Serving => "",
            Self::Waiting => "waits to be told what to load",
            Self::Assets => "loads its assets",
            Self::Zones => "loads its zones",
            Self::Loaded => "has loaded everything and is not wanted to serve yet",
            Self::Told => "does not serve yet",
            Self::Wrong(why) => why,
        }
    }

    fn wrong_digest(digest: &[u8], expected: [u8; 32]) -> Self {
        Self::Wrong(format!("reports assets {}, expected {}", hex(digest), hex(&expected)))
    }

    fn load_zones(wanted: &EnvironmentServers, slot: &Slot) -> (Self, Vec<world_directive::Message>) {
        let zones = wanted.zones_for(slot);
        let bytes: usize = zones.iter().map(|zone| zone.state.len()).sum();
        if bytes > MAX_ZONES_BYTES {
            let why =
                format!("cannot be given {bytes} bytes of zones, at most {MAX_ZONES_BYTES} (serve fewer zones each)");
            return (Self::Wrong(why), Vec::new());
        }
        if zones.is_empty() {
            let mut loaded = Self::Loaded;
            let directives = loaded.serve(wanted.serve);
            return (loaded, directives);
        }
        let blob = |zone: &SavedZone| v1::ZoneBlob {
            zone: zone.zone.to_string(),
            state: zone.state.to_vec(),
            format: zone.format,
        };
        let zones = zones.into_iter().map(blob).collect();
        (Self::Zones, vec![world_directive::Message::LoadZones(v1::LoadZones { zones })])
    }
}

/// The first 16 hex digits: enough to tell two digests apart by eye.
fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use bytes::Bytes;

    use super::super::spec::{Assets, FleetSpec};
    use super::*;

    fn wanted(zone_bytes: &[usize]) -> EnvironmentServers {
        let names: Vec<_> = (0..zone_bytes.len()).map(|i| format!("z{i}").parse().unwrap()).collect();
        let saved = |(i, bytes): (usize, &usize)| SavedZone {
            server: "e1-town-1".parse().unwrap(),
            zone: format!("z{i}").parse().unwrap(),
            state: Bytes::from(vec![0; *bytes]),
            format: 1,
        };
        EnvironmentServers {
            environment: "e2".parse().unwrap(),
            realm: "eu-1".parse().unwrap(),
            build: "2.0.0".parse().unwrap(),
            command: vec!["true".into()],
            command_environment: BTreeMap::new(),
            assets: Some(Assets { path: PathBuf::from("/assets/2"), digest: [2; 32] }),
            fleets: vec![FleetSpec {
                name: "town".parse().unwrap(),
                replicas: 1,
                zones: names,
                instance_kinds: Vec::new(),
                capacity: 10,
                environment: BTreeMap::new(),
            }],
            database: PathBuf::from("world.db"),
            zones: zone_bytes.iter().enumerate().map(saved).collect(),
            serve: true,
        }
    }

    fn slot() -> Slot {
        Slot { environment: "e2".parse().unwrap(), fleet: "town".parse().unwrap(), ordinal: 1 }
    }

    fn begin(build: &str, digest: Option<[u8; 32]>, serving: bool, wanted: &EnvironmentServers) -> (Staging, usize) {
        let facts = Facts { build: build.parse().unwrap(), assets_digest: digest, serving };
        let (staging, directives) = Staging::begin(&facts, &wanted.build, Some(wanted), &slot());
        (staging, directives.len())
    }

    #[test]
    fn assets_then_zones_then_serve() {
        let wanted = wanted(&[7, 5]);
        let (mut staging, directives) = begin("2.0.0", None, false, &wanted);
        assert_eq!((&staging, directives), (&Staging::Assets, 1));
        staging.status(true);
        assert_eq!(staging, Staging::Assets, "nobody serves before it was told to");
        let zones = staging.assets_loaded(&[2; 32], "", Some(&wanted), &slot());
        assert!(matches!(&zones[..], [world_directive::Message::LoadZones(load)] if load.zones.len() == 2));
        assert_eq!(staging, Staging::Zones);
        assert!(matches!(staging.zones_loaded("", true)[..], [world_directive::Message::Serve(_)]));
        assert_eq!(staging, Staging::Told);
        staging.status(true);
        assert_eq!(staging, Staging::Serving);
        staging.status(false);
        assert_eq!(staging, Staging::Told);
    }

    #[test]
    fn whatever_is_wrong_is_named_and_never_serves() {
        let wanted = wanted(&[1]);
        let (build, _) = begin("1.9.0", None, true, &wanted);
        assert_eq!(build.reason(), "reports build 1.9.0, expected 2.0.0");
        let (digest, _) = begin("2.0.0", Some([3; 32]), true, &wanted);
        assert!(digest.reason().starts_with("reports assets 0303"), "{}", digest.reason());
        let (mut loaded, _) = begin("2.0.0", None, false, &wanted);
        assert!(loaded.assets_loaded(&[9; 32], "", Some(&wanted), &slot()).is_empty());
        assert!(loaded.reason().starts_with("reports assets 0909"), "{}", loaded.reason());
        let (mut failed, _) = begin("2.0.0", None, false, &wanted);
        failed.assets_loaded(&[], "disk", Some(&wanted), &slot());
        assert_eq!(failed.reason(), "could not load its assets: disk");
        let (mut zones, _) = begin("2.0.0", Some([2; 32]), false, &wanted);
        assert!(zones.zones_loaded("bad format", true).is_empty());
        assert_eq!(zones.reason(), "could not load its zones: bad format");
        let (too_large, _) = begin("2.0.0", Some([2; 32]), false, &self::wanted(&[MAX_ZONES_BYTES, 1]));
        assert!(too_large.reason().starts_with("cannot be given"), "{}", too_large.reason());
        for mut wrong in [build, digest, loaded, failed, zones, too_large] {
            wrong.status(true);
            assert!(matches!(wrong, Staging::Wrong(_)));
        }
    }

    #[test]
    fn a_loaded_server_waits_until_it_is_wanted() {
        let waiting = EnvironmentServers { serve: false, ..wanted(&[]) };
        let (mut staging, directives) = begin("2.0.0", Some([2; 32]), false, &waiting);
        assert_eq!((&staging, directives), (&Staging::Loaded, 0));
        staging.status(true);
        assert_eq!(staging, Staging::Loaded);
        assert_eq!(staging.serve(true).len(), 1);
        assert!(staging.serve(true).is_empty(), "once");
    }

    #[test]
    fn one_that_serves_and_registers_again_is_left_alone() {
        assert_eq!(begin("2.0.0", Some([2; 32]), true, &wanted(&[1])), (Staging::Serving, 0));
    }
}
