//! Environments, fleets and servers.

use fleet_core::Realm;
use fleet_core::environment::{Environment, Fleet, Label, PhaseKind};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{EnvironmentId, ZoneId};

use crate::servers::{ServerState, ServerView, ServersView};

/// Most fleets of one environment.
const MOST_FLEETS: usize = 100;

/// Most servers of one fleet, as the API says.
const MOST_REPLICAS: u32 = 1000;

/// A label; none is `LABEL_UNSPECIFIED`.
#[must_use]
pub const fn label(label: Option<Label>) -> v1::Label {
    match label {
        None => v1::Label::Unspecified,
        Some(Label::Blue) => v1::Label::Blue,
        Some(Label::Green) => v1::Label::Green,
    }
}

/// A label of a request.
///
/// # Errors
/// An unknown value.
pub fn read_label(field: &'static str, value: i32) -> Result<Option<Label>, BadField> {
    match v1::Label::try_from(value) {
        Ok(v1::Label::Unspecified) => Ok(None),
        Ok(v1::Label::Blue) => Ok(Some(Label::Blue)),
        Ok(v1::Label::Green) => Ok(Some(Label::Green)),
        Err(_) => Err(BadField::new(field, format!("has the unknown value {value}"))),
    }
}

/// A phase.
#[must_use]
pub const fn phase(phase: PhaseKind) -> v1::Phase {
    match phase {
        PhaseKind::Provisioning => v1::Phase::Provisioning,
        PhaseKind::Staging => v1::Phase::Staging,
        PhaseKind::Staged => v1::Phase::Staged,
        PhaseKind::Verifying => v1::Phase::Verifying,
        PhaseKind::Ready => v1::Phase::Ready,
        PhaseKind::Active => v1::Phase::Active,
        PhaseKind::Draining => v1::Phase::Draining,
        PhaseKind::Drained => v1::Phase::Drained,
        PhaseKind::Retired => v1::Phase::Retired,
        PhaseKind::Failed => v1::Phase::Failed,
    }
}

/// An environment with its fleets, populations and readiness.
#[must_use]
pub fn message(realm: &Realm, environment: &Environment, view: &ServersView) -> v1::Environment {
    v1::Environment {
        id: environment.id.to_string(),
        realm: realm.rows.id.to_string(),
        build: environment.build.version.to_string(),
        label: label(environment.label).into(),
        phase: phase(environment.phase.kind()).into(),
        phase_since_ms: environment.since.0,
        reason: environment.reason.clone(),
        fleets: environment.fleets.iter().map(|f| fleet(&environment.id, f, view)).collect(),
        sessions: realm.observed.session_count(&environment.id),
        sessions_known: realm.observed.sessions_known(),
        from_snapshot: environment.source.snapshot().map(ToString::to_string).unwrap_or_default(),
        created_ms: environment.created.0,
        generation: environment.generation.0,
        accepting: realm.rows.routing.frozen.is_none()
            && realm.rows.routing.accepting.as_ref() == Some(&environment.id),
    }
}

/// A fleet, with how many of its servers are ready now.
#[must_use]
pub fn fleet(environment: &EnvironmentId, fleet: &Fleet, view: &ServersView) -> v1::Fleet {
    let ready = view
        .servers
        .values()
        .filter(|s| s.environment == *environment && s.fleet == fleet.name && s.state == ServerState::Ready)
        .count();
    let words = |zones: &[ZoneId]| zones.iter().map(ToString::to_string).collect();
    v1::Fleet {
        name: fleet.name.to_string(),
        environment_id: environment.to_string(),
        replicas: fleet.replicas,
        zones: words(&fleet.zones),
        instance_kinds: words(&fleet.instance_kinds),
        capacity: fleet.capacity,
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        environment: fleet.environment.clone(),
    }
}

/// Fleets of a request.
///
/// # Errors
/// The field that cannot be.
pub fn read_fleets(fleets: Vec<v1::Fleet>) -> Result<Vec<Fleet>, BadField> {
    if fleets.len() > MOST_FLEETS {
        return Err(BadField::new("fleets", format!("has {} fleets, at most {MOST_FLEETS} are taken", fleets.len())));
    }
    fleets.into_iter().map(read_fleet).collect()
}

fn read_fleet(fleet: v1::Fleet) -> Result<Fleet, BadField> {
    let zones = |field: &'static str, zones: &[String]| -> Result<Vec<ZoneId>, BadField> {
        zones.iter().map(|zone| convert::id(field, zone)).collect()
    };
    if fleet.replicas == 0 || fleet.replicas > MOST_REPLICAS {
        return Err(BadField::new("fleets.replicas", format!("is {}, must be 1 to {MOST_REPLICAS}", fleet.replicas)));
    }
    if fleet.capacity == 0 {
        return Err(BadField::new("fleets.capacity", "is 0: no player would fit"));
    }
    if fleet.zones.is_empty() && fleet.instance_kinds.is_empty() {
        return Err(BadField::new("fleets.zones", "a fleet must serve a zone or an instance kind"));
    }
    Ok(Fleet {
        name: convert::id("fleets.name", &fleet.name)?,
        replicas: fleet.replicas,
        zones: zones("fleets.zones", &fleet.zones)?,
        instance_kinds: zones("fleets.instance_kinds", &fleet.instance_kinds)?,
        capacity: fleet.capacity,
        environment: fleet.environment,
    })
}

/// A world server.
#[must_use]
pub fn server(server: &ServerView) -> v1::Server {
    let state = match server.state {
        ServerState::Starting => v1::ServerState::Starting,
        // "Loaded" is of no interest to an operator beside "loading": neither takes players yet.
        ServerState::Loading | ServerState::Loaded => v1::ServerState::Loading,
        ServerState::Ready => v1::ServerState::Ready,
        ServerState::Unreachable => v1::ServerState::Unreachable,
        ServerState::Exited => v1::ServerState::Exited,
        ServerState::Stopping => v1::ServerState::Stopping,
    };
    v1::Server {
        id: server.id.to_string(),
        environment_id: server.environment.to_string(),
        fleet: server.fleet.to_string(),
        state: state.into(),
        pid: server.pid.unwrap_or(0),
        link_address: server.link_address.clone(),
        build: server.build_reported.as_ref().map(ToString::to_string).unwrap_or_default(),
        players: server.players,
        capacity: server.capacity,
        restarts: server.restarts,
        reason: server.reason.clone(),
        log_path: server.log_path.display().to_string(),
        since_ms: server.since.0,
    }
}
