//! Realms.

use std::time::Duration;

use fleet_core::RealmSpec;
use fleet_core::realm::Rows;
use fleet_core::spec::{BoundaryPolicy, FreezeWindow};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{RealmId, Timestamp};

use super::millis32;

/// Longest id of a realm: ids of its environments and servers are made of it, and those stand in host names.
const LONGEST_ID: usize = 40;

/// The realm's row.
#[must_use]
pub fn message(rows: &Rows) -> v1::Realm {
    let spec = &rows.spec;
    v1::Realm {
        id: rows.id.to_string(),
        display_name: spec.display_name.clone(),
        entry_zone: spec.entry_zone.to_string(),
        boundaries: Some(boundaries(spec.boundaries)),
        party_follow: spec.party_follow,
        grace_ms: millis32(spec.grace),
        retain_drained: Some(spec.retain_drained),
        database: spec.database.clone(),
        freeze_windows: spec
            .freeze_windows
            .iter()
            .map(|w| v1::FreezeWindow { from_ms: w.from.0, to_ms: w.to.0, reason: w.reason.clone() })
            .collect(),
        created_ms: spec.created.0,
        generation: rows.routing.generation.0,
    }
}

/// The boundary policy.
#[must_use]
pub const fn boundaries(policy: BoundaryPolicy) -> v1::BoundaryPolicy {
    v1::BoundaryPolicy { zone: policy.zone, instance: policy.instance, respawn: policy.respawn }
}

/// What an operator says about a new realm; `database` is what it uses when the request does not say.
///
/// # Errors
/// The field that cannot be.
pub fn spec(
    realm: v1::Realm,
    created: Timestamp,
    database: impl FnOnce(&RealmId) -> String,
) -> Result<(RealmId, RealmSpec), BadField> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let id: RealmId = convert::id("realm.id", &realm.id)?;
    if realm.id.len() > LONGEST_ID || !realm.id.bytes().all(plain) || realm.id.starts_with('-') {
        let why = format!("\"{id}\" is not 1 to {LONGEST_ID} of a-z, 0-9 and \"-\" (not first)");
        return Err(BadField::new("realm.id", why));
    }
    let entry_zone = convert::id("realm.entry_zone", &realm.entry_zone)?;
    let database = if realm.database.is_empty() { database(&id) } else { realm.database };
    let mut spec = RealmSpec::new(entry_zone, database, created);
    spec.display_name = if realm.display_name.is_empty() { id.to_string() } else { realm.display_name };
    if let Some(policy) = realm.boundaries {
        spec.boundaries = BoundaryPolicy { zone: policy.zone, instance: policy.instance, respawn: policy.respawn };
    }
    spec.party_follow = realm.party_follow;
    if realm.grace_ms > 0 {
        spec.grace = Duration::from_millis(u64::from(realm.grace_ms));
    }
    if let Some(retain) = realm.retain_drained {
        spec.retain_drained = retain;
    }
    for window in realm.freeze_windows {
        if window.to_ms <= window.from_ms {
            return Err(BadField::new("realm.freeze_windows", "a window ends before it begins"));
        }
        spec.freeze_windows.push(FreezeWindow {
            from: Timestamp(window.from_ms),
            to: Timestamp(window.to_ms),
            reason: window.reason,
        });
    }
    Ok((id, spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &str) -> v1::Realm {
        v1::Realm { id: id.into(), entry_zone: "harbour".into(), ..v1::Realm::default() }
    }

    fn read(realm: v1::Realm) -> Result<(RealmId, RealmSpec), BadField> {
        spec(realm, Timestamp(7), |id| format!("/data/{id}.db"))
    }

    #[test]
    fn what_is_unset_gets_its_documented_default() {
        let (id, spec) = read(given("eu-1")).unwrap();
        assert_eq!(id.as_str(), "eu-1");
        assert_eq!(spec.database, "/data/eu-1.db");
        assert_eq!((spec.grace, spec.retain_drained), (Duration::from_secs(60), 1));
        assert!(spec.boundaries.zone && spec.boundaries.instance && spec.boundaries.respawn);
    }

    #[test]
    fn bad_fields_are_named() {
        for (realm, field) in [
            (given(""), "realm.id"),
            (given("EU"), "realm.id"),
            (given("-eu"), "realm.id"),
            (given(&"x".repeat(41)), "realm.id"),
            (v1::Realm { entry_zone: String::new(), ..given("eu") }, "realm.entry_zone"),
            (
                v1::Realm {
                    freeze_windows: vec![v1::FreezeWindow { from_ms: 2, to_ms: 1, ..Default::default() }],
                    ..given("eu")
                },
                "realm.freeze_windows",
            ),
        ] {
            assert_eq!(read(realm).unwrap_err().field, field);
        }
    }
}
