//! Between the core's structs and the store's rows: the core knows no storage, the store knows no meaning.
//!
//! A row that cannot be read stops the manager at its start, named by table and key: going on without a part of the
//! truth would be worse.

mod environment;
mod realm;
mod rollout;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use fleet_core::drain::Drain;
use fleet_core::environment::{Environment, Fleet};
use fleet_core::rollout::Rollout;
use fleet_core::snapshot::Snapshot;
use fleet_core::{Change, Realm, RealmSpec, Routing, realm::Rows};
use tidegate_types::RealmId;

pub use stored::RowError;
use stored::Stored;

use super::{RawRow, RowWrite, Table};
use crate::builds::Build;
use crate::gateways::Remembered;

/// A row that cannot be read, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, key \"{key}\"")]
pub struct BadRow {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub why: RowError,
}

/// Everything that was stored, as the core's structs.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By id.
    pub realms: BTreeMap<RealmId, Rows>,
    /// Every registered build.
    pub builds: Vec<Build>,
    /// Every gateway that was ever connected and has not been given up.
    pub gateways: Vec<Remembered>,
}

/// Reads all rows.
///
/// # Errors
/// The first row that cannot be read.
pub fn load(rows: &[RawRow]) -> Result<Loaded, BadRow> {
    let mut loaded = Loaded::default();
    let in_table = |table: Table| rows.iter().filter(move |row| row.table == table);
    for row in in_table(Table::Realms) {
        let id: RealmId =
            row.key.parse().map_err(|_| bad(row, RowError::Word { kind: "realm id", word: row.key.clone() }))?;
        loaded.realms.insert(id.clone(), Rows::new(id, parse::<RealmSpec>(row)?));
    }
    for row in in_table(Table::Builds) {
        loaded.builds.push(parse(row)?);
    }
    for row in in_table(Table::Gateways) {
        loaded.gateways.push(parse(row)?);
    }
    for row in in_table(Table::Routing) {
        realm_of(&mut loaded, row)?.routing = parse(row)?;
    }
    for row in in_table(Table::Environments) {
        let environment: Environment = parse(row)?;
        realm_of(&mut loaded, row)?.environments.insert(environment.id.clone(), environment);
    }
    for row in in_table(Table::Fleets) {
        let fleet: Fleet = parse(row)?;
        let environment = row.key.split_once(' ').map_or("", |(environment, _)| environment);
        let realm = realm_of(&mut loaded, row)?;
        let Some(environment) = realm.environments.get_mut(environment) else {
            return Err(bad(row, RowError::Word { kind: "environment", word: environment.to_owned() }));
        };
        environment.fleets.push(fleet);
    }
    for row in in_table(Table::Drains) {
        let drain: Drain = parse(row)?;
        realm_of(&mut loaded, row)?.drains.insert(drain.environment.clone(), drain);
    }
    for row in in_table(Table::Rollouts) {
        let rollout: Rollout = parse(row)?;
        realm_of(&mut loaded, row)?.rollouts.insert(rollout.id.clone(), rollout);
    }
    for row in in_table(Table::Snapshots) {
        let snapshot: Snapshot = parse(row)?;
        realm_of(&mut loaded, row)?.snapshots.insert(snapshot.id.clone(), snapshot);
    }
    Ok(loaded)
}

fn bad(row: &RawRow, why: RowError) -> BadRow {
    BadRow { table: row.table.name(), key: row.key.clone(), why }
}

fn realm_of<'a>(loaded: &'a mut Loaded, row: &RawRow) -> Result<&'a mut Rows, BadRow> {
    let realm = loaded.realms.get_mut(row.realm.as_str());
    realm.ok_or_else(|| bad(row, RowError::Word { kind: "realm", word: row.realm.clone() }))
}

fn parse<T: Stored>(row: &RawRow) -> Result<T, BadRow> {
    let json = |e: serde_json::Error| RowError::Json { kind: row.table.name(), why: e.to_string() };
    let parsed: T::Row = serde_json::from_str(&row.body).map_err(|e| bad(row, json(e)))?;
    T::from_row(parsed).map_err(|e| bad(row, e))
}

fn body<T: Stored>(value: &T) -> String {
    // Rows have string keys and no floats: they always have a JSON form.
    serde_json::to_string(&value.to_row()).unwrap_or_default()
}

/// The rows to write for one change of a realm.
#[must_use]
pub fn writes(realm: &Realm, change: &Change) -> Vec<RowWrite> {
    let rows = &realm.rows;
    let id = &rows.id;
    let one = |table, key: &str, body: Option<String>| {
        vec![RowWrite { table, key: key.to_owned(), realm: id.to_string(), body }]
    };
    match change {
        Change::Realm => vec![realm_row(id, &rows.spec)],
        Change::Routing => one(Table::Routing, id.as_str(), Some(body::<Routing>(&rows.routing))),
        Change::Environment(key) => environment_rows(id, key.as_str(), rows.environments.get(key)),
        Change::Drain(key) => one(Table::Drains, key.as_str(), rows.drains.get(key).map(body)),
        Change::Rollout(key) => one(Table::Rollouts, key.as_str(), rows.rollouts.get(key).map(body)),
        Change::Snapshot(key) => one(Table::Snapshots, key.as_str(), rows.snapshots.get(key).map(body)),
    }
}

/// Fleets have rows of their own (key: both ids with a space between, which no id can contain); the environment's row holds the rest. A fleet is
/// never taken away from an environment, so none has to be deleted.
fn environment_rows(realm: &RealmId, key: &str, environment: Option<&Environment>) -> Vec<RowWrite> {
    let realm = realm.to_string();
    let Some(environment) = environment else {
        return vec![RowWrite { table: Table::Environments, key: key.to_owned(), realm, body: None }];
    };
    let fleets = environment.fleets.iter().map(|fleet| RowWrite {
        table: Table::Fleets,
        key: format!("{key} {}", fleet.name),
        realm: realm.clone(),
        body: Some(body(fleet)),
    });
    let mut rows: Vec<RowWrite> = fleets.collect();
    let without = Environment { fleets: Vec::new(), ..environment.clone() };
    rows.push(RowWrite {
        table: Table::Environments,
        key: key.to_owned(),
        realm: realm.clone(),
        body: Some(body(&without)),
    });
    rows
}

/// The row of a realm.
#[must_use]
pub fn realm_row(id: &RealmId, spec: &RealmSpec) -> RowWrite {
    RowWrite { table: Table::Realms, key: id.to_string(), realm: id.to_string(), body: Some(body(spec)) }
}

/// The row of a build.
#[must_use]
pub fn build_row(build: &Build) -> RowWrite {
    let key = build.info.version.to_string();
    RowWrite { table: Table::Builds, key, realm: String::new(), body: Some(body(build)) }
}

/// The row of a gateway; `None` deletes it.
#[must_use]
pub fn gateway_row(id: &tidegate_types::GatewayId, known: Option<&Remembered>) -> RowWrite {
    RowWrite { table: Table::Gateways, key: id.to_string(), realm: String::new(), body: known.map(body) }
}
