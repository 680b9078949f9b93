//! Things to begin a test with.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{EnvironmentId, RealmId, RolloutId, SnapshotId, Timestamp};

use crate::drain::{AtDeadline, Policy};
use crate::environment::{Fleet, Label};
use crate::input::{Command, StartRollout};
use crate::realm::Rows;
use crate::rollout::RolloutSpec;
use crate::spec::{BuildInfo, RealmSpec};

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the ids of tests are ids")
}

/// An environment's id.
#[must_use]
pub fn environment_id(name: &str) -> EnvironmentId {
    id(name)
}

/// A build of this version that reads these formats and writes the last of them.
#[must_use]
pub fn build(version: &str, formats: &[u32]) -> BuildInfo {
    let digest = version.bytes().fold([7_u8; 32], |mut digest, byte| {
        digest.rotate_left(1);
        digest[0] ^= byte;
        digest
    });
    BuildInfo {
        version: id(version),
        assets_digest: Some(digest),
        state_formats_read: formats.to_vec(),
        state_format_write: formats.last().copied().unwrap_or(1),
        schema_versions: Vec::new(),
        client_versions: String::new(),
    }
}

/// A fleet of two servers with a town, a field and dungeons.
#[must_use]
pub fn fleet(capacity: u32) -> Fleet {
    Fleet {
        name: id("main"),
        replicas: 2,
        zones: vec![id("town"), id("field")],
        instance_kinds: vec![id("dungeon")],
        capacity,
        environment: BTreeMap::new(),
    }
}

/// A realm without environments.
#[must_use]
pub fn new_rows() -> Rows {
    Rows::new(id::<RealmId>("eu-1"), RealmSpec::new(id("town"), "world.db".to_owned(), Timestamp(0)))
}

/// The command that creates an environment.
#[must_use]
pub fn create(name: &str, build: BuildInfo, label: Option<Label>) -> Command {
    Command::CreateEnvironment { id: id(name), build, fleets: vec![fleet(200)], label }
}

/// A drain with a deadline after which the last ones are moved.
#[must_use]
pub fn policy(deadline: Duration) -> Policy {
    Policy {
        deadline: Some(deadline),
        at_deadline: AtDeadline::Move,
        notices: vec![deadline / 2, deadline / 4],
        extensions: BTreeMap::from([("dungeon".to_owned(), Duration::from_secs(5))]),
        ..Policy::natural()
    }
}

/// A rollout `r<n>` of `build` to `green-<n>`, with a short drain and a short watch.
#[must_use]
pub fn green_start(n: u32, build: BuildInfo) -> StartRollout {
    StartRollout {
        id: id::<RolloutId>(&format!("r{n}")),
        spec: RolloutSpec {
            build,
            drain: policy(Duration::from_secs(20)),
            stable: Duration::from_secs(3),
            stage_timeout: None,
            next_build: None,
            skip_clone: false,
            reason: "test".to_owned(),
        },
        green: id(&format!("green-{n}")),
        snapshot: id::<SnapshotId>(&format!("s{n}")),
        next_green: id(&format!("next-{n}")),
    }
}
