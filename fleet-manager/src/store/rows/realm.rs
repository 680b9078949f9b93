//! Rows of a realm, its routing and its builds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_core::routing::{FlipRecord, FlipState, Freeze};
use fleet_core::spec::{BoundaryPolicy, FreezeWindow, Limits};
use fleet_core::{BuildInfo, RealmSpec, Routing};
use serde::{Deserialize, Serialize};
use tidegate_types::{BuildVersion, EnvironmentId, GatewayId, Generation, Timestamp, ZoneId};

use super::stored::{RowError, Stored, row};
use crate::builds::Build;
use crate::gateways::Remembered;

row!(BuildInfoRow for BuildInfo {
    version: BuildVersion,
    assets_digest: Option<[u8; 32]>,
    state_formats_read: Vec<u32>,
    state_format_write: u32,
    schema_versions: Vec<u32>,
    client_versions: String,
});

row!(BuildRow for Build {
    info: BuildInfo,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    assets_path: String,
    created: Timestamp,
});

row!(BoundaryPolicyRow for BoundaryPolicy { zone: bool, instance: bool, respawn: bool });

row!(FreezeWindowRow for FreezeWindow { from: Timestamp, to: Timestamp, reason: String });

row!(LimitsRow for Limits {
    stage: Duration,
    verify: Duration,
    flip_wait: Duration,
    confirm: Duration,
    retry: Duration,
    attempts: u32,
    move_retry: Duration,
});

row!(RealmRow for RealmSpec {
    display_name: String,
    entry_zone: ZoneId,
    boundaries: BoundaryPolicy,
    party_follow: bool,
    grace: Duration,
    retain_drained: u32,
    database: String,
    freeze_windows: Vec<FreezeWindow>,
    limits: Limits,
    created: Timestamp,
});

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::store::rows) enum FlipStateRow {
    Awaiting { deadline: Timestamp },
    Confirmed { at: Timestamp, confirm_us: u64 },
    Unconfirmed { missing: Vec<GatewayId>, deadline: Timestamp },
}

impl Stored for FlipState {
    type Row = FlipStateRow;
    fn to_row(&self) -> FlipStateRow {
        match self.clone() {
            Self::Awaiting { deadline } => FlipStateRow::Awaiting { deadline },
            Self::Confirmed { at, confirm_us } => FlipStateRow::Confirmed { at, confirm_us },
            Self::Unconfirmed { missing, deadline } => FlipStateRow::Unconfirmed { missing, deadline },
        }
    }
    fn from_row(row: FlipStateRow) -> Result<Self, RowError> {
        Ok(match row {
            FlipStateRow::Awaiting { deadline } => Self::Awaiting { deadline },
            FlipStateRow::Confirmed { at, confirm_us } => Self::Confirmed { at, confirm_us },
            FlipStateRow::Unconfirmed { missing, deadline } => Self::Unconfirmed { missing, deadline },
        })
    }
}

row!(FlipRow for FlipRecord {
    generation: Generation,
    from: Option<EnvironmentId>,
    to: EnvironmentId,
    at: Timestamp,
    confirm: Duration,
    state: FlipState,
    reason: String,
});

row!(FreezeRow for Freeze { since: Timestamp, reason: String });

row!(RoutingRow for Routing {
    generation: Generation,
    accepting: Option<EnvironmentId>,
    previous: Option<EnvironmentId>,
    frozen: Option<Freeze>,
    hold_pins: bool,
    leave_at_boundary: BTreeSet<EnvironmentId>,
    flip: Option<FlipRecord>,
});

row!(GatewayRow for Remembered { id: GatewayId, directory: String });
