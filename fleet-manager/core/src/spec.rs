//! What an operator says about a realm and a build. Facts and policies only; nothing here changes by itself.

use std::time::Duration;

use tidegate_types::{BuildVersion, Timestamp, ZoneId};

/// A registered build, as far as deciding needs it. The command that starts it is the supervisor's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version (a semver), and the build's id.
    pub version: BuildVersion,
    /// BLAKE3 of its asset bundle; `None`: it has no assets.
    pub assets_digest: Option<[u8; 32]>,
    /// Formats of player state it reads.
    pub state_formats_read: Vec<u32>,
    /// The format of player state it writes.
    pub state_format_write: u32,
    /// Realm database schema versions it can work with; empty: any.
    pub schema_versions: Vec<u32>,
    /// Client versions it admits (a semver requirement); empty: all.
    pub client_versions: String,
}

impl BuildInfo {
    /// True when this build can load what `other` saves.
    #[must_use]
    pub fn reads_state_of(&self, other: &Self) -> bool {
        self.state_formats_read.contains(&other.state_format_write)
    }

    /// True when some schema version suits both builds (an empty list suits any).
    #[must_use]
    pub fn shares_schema_with(&self, other: &Self) -> bool {
        self.schema_versions.is_empty()
            || other.schema_versions.is_empty()
            || self.schema_versions.iter().any(|v| other.schema_versions.contains(v))
    }
}

/// Which boundaries let a pinned session change environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundaryPolicy {
    /// A zone change is a boundary.
    pub zone: bool,
    /// Entering or leaving a private instance is a boundary.
    pub instance: bool,
    /// A respawn is a boundary.
    pub respawn: bool,
}

impl Default for BoundaryPolicy {
    fn default() -> Self {
        Self { zone: true, instance: true, respawn: true }
    }
}

/// A time in which nothing may flip; `from` is inside, `to` is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeWindow {
    /// First moment of it.
    pub from: Timestamp,
    /// First moment after it.
    pub to: Timestamp,
    /// Shown with the refusal.
    pub reason: String,
}

/// How long steps may take before they count as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All servers loaded, from the start of staging.
    pub stage: Duration,
    /// Smoke tests answered, from the start of verifying.
    pub verify: Duration,
    /// A rollout waits this long for its flip to become possible (a restarting server, a freeze window).
    pub flip_wait: Duration,
    /// Gateways acknowledge a table within this, unless the flip says otherwise.
    pub confirm: Duration,
    /// Between two attempts of a snapshot or clone that failed inside a rollout.
    pub retry: Duration,
    /// Attempts of one step inside a rollout before it pauses and asks for an operator.
    pub attempts: u32,
    /// A session that was told to move and is still there is told again after this.
    pub move_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stage: Duration::from_secs(120),
            verify: Duration::from_secs(60),
            flip_wait: Duration::from_secs(60),
            confirm: Duration::from_secs(5),
            retry: Duration::from_secs(2),
            attempts: 3,
            // One in a hand-over is not told again; one that is not, was kept where it is, and may go now.
            move_retry: Duration::from_secs(3),
        }
    }
}

/// What an operator says about a realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmSpec {
    /// For people.
    pub display_name: String,
    /// Where a new character begins.
    pub entry_zone: ZoneId,
    /// Which boundaries let a pinned session change environment.
    pub boundaries: BoundaryPolicy,
    /// A member who logs in joins the party's environment (invariant 10 of ARCHITECTURE.md).
    pub party_follow: bool,
    /// How long a detached session keeps its place.
    pub grace: Duration,
    /// How many drained environments are kept as rollbacks.
    pub retain_drained: u32,
    /// The world database that the realm's environments share.
    pub database: String,
    /// Flips are refused while now is inside one of these.
    pub freeze_windows: Vec<FreezeWindow>,
    /// How long steps may take.
    pub limits: Limits,
    /// When the realm was made.
    pub created: Timestamp,
}

impl RealmSpec {
    /// A realm with the documented defaults.
    #[must_use]
    pub fn new(entry_zone: ZoneId, database: String, created: Timestamp) -> Self {
        Self {
            display_name: String::new(),
            entry_zone,
            boundaries: BoundaryPolicy::default(),
            party_follow: false,
            grace: Duration::from_secs(60),
            retain_drained: 1,
            database,
            freeze_windows: Vec::new(),
            limits: Limits::default(),
            created,
        }
    }

    /// The freeze window that `now` is inside of.
    #[must_use]
    pub fn freeze_window(&self, now: Timestamp) -> Option<&FreezeWindow> {
        self.freeze_windows.iter().find(|w| w.from <= now && now < w.to)
    }
}
