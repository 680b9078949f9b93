//! The manifest of a snapshot: everything it consists of, each part by its digest. Sorted JSON, so that the same content
//! has the same bytes; its own BLAKE3 digest is the snapshot's digest and stands in its name, so that a torn or changed
//! one cannot pass for whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_types::{BuildVersion, EnvironmentId, RealmId, ServerId, SnapshotId, Timestamp, ZoneId};

use super::Facts;

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of this document.
    pub version: u32,
    /// The snapshot.
    pub id: SnapshotId,
    /// The realm it was taken of.
    pub realm: RealmId,
    /// The environment it was taken of.
    pub environment: EnvironmentId,
    /// The environment's build.
    pub build: BuildVersion,
    /// When.
    pub taken: Timestamp,
    /// How long the world stood still for it, in milliseconds.
    pub paused_ms: u32,
    /// What the environment was made from, in the words of the one who asked for the snapshot.
    pub spec: Value,
    /// Content flags by name.
    pub flags: BTreeMap<String, Value>,
    /// Digest of the asset bundle, in hex.
    pub assets: Option<String>,
    /// The realm database.
    pub database: BlobRef,
    /// The zones' states, sorted by zone and server.
    pub zones: Vec<ZoneRef>,
}

/// A blob by its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// BLAKE3, in hex: its name.
    pub digest: String,
    /// Its length.
    pub bytes: u64,
}

/// A zone's state as one server had it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRef {
    /// The zone.
    pub zone: ZoneId,
    /// The server.
    pub server: ServerId,
    /// The format's number.
    pub format: u32,
    /// The state.
    pub blob: BlobRef,
}

impl Manifest {
    /// The bytes that are stored.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(&sorted(serde_json::to_value(self)?))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if manifest.version != VERSION {
            return Err(format!("version {}, this manager knows {VERSION}", manifest.version));
        }
        Ok(manifest)
    }

    /// Every blob, each once.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        let mut blobs: Vec<&BlobRef> = self.zones.iter().map(|zone| &zone.blob).chain([&self.database]).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs.into_iter()
    }

    /// The summary of a snapshot whose manifest has this digest.
    #[must_use]
    pub fn facts(&self, digest: &str) -> Facts {
        Facts {
            id: self.id.clone(),
            realm: self.realm.clone(),
            environment: self.environment.clone(),
            build: self.build.clone(),
            taken: self.taken,
            digest: digest.to_owned(),
            // A manifest is only as honest as whoever wrote it.
            bytes: self.blobs().map(|blob| blob.bytes).fold(0, u64::saturating_add),
            blobs: u32::try_from(self.blobs().count()).unwrap_or(u32::MAX),
            paused_ms: self.paused_ms,
        }
    }
}

/// The same value with the keys of every object in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(spec: &str) -> Manifest {
        let blob = |digest: &str, bytes| BlobRef { digest: digest.into(), bytes };
        Manifest {
            version: VERSION,
            id: "s1".parse().unwrap(),
            realm: "eu-1".parse().unwrap(),
            environment: "e1".parse().unwrap(),
            build: "2.0.0".parse().unwrap(),
            taken: Timestamp(1),
            paused_ms: 12,
            spec: serde_json::from_str(spec).unwrap(),
            flags: BTreeMap::new(),
            assets: None,
            database: blob("aa", 10),
            zones: vec![
                ZoneRef { zone: "a".parse().unwrap(), server: "x".parse().unwrap(), format: 1, blob: blob("bb", 3) },
                ZoneRef { zone: "b".parse().unwrap(), server: "x".parse().unwrap(), format: 1, blob: blob("bb", 3) },
            ],
        }
    }

    #[test]
    fn the_order_of_keys_does_not_change_the_bytes() {
        let one = manifest(r#"{"b": [{"y": 1, "x": 2}], "a": null}"#);
        let other = manifest(r#"{"a": null, "b": [{"x": 2, "y": 1}]}"#);
        assert_eq!(one.encode().unwrap(), other.encode().unwrap());
        assert_eq!(Manifest::decode(&one.encode().unwrap()).unwrap(), one);
    }

    #[test]
    fn a_blob_that_is_used_twice_counts_once() {
        let facts = manifest("{}").facts("d");
        assert_eq!((facts.blobs, facts.bytes), (2, 13));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = manifest("{}").encode().unwrap();
        for length in 0..bytes.len() - 1 {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let other = Manifest { version: 2, ..manifest("{}") };
        assert!(Manifest::decode(&other.encode().unwrap()).unwrap_err().contains("version 2"));
    }
}
