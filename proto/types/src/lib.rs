//! The words of Tidegate as types: ids, counters and time. Every other crate speaks in these.
//!
//! Knows nothing of storage, wire or I/O; depends on std, serde and uuid only.

mod id;
pub mod sabotage;
mod time;

pub use id::{
    BuildVersion, CharacterId, EnvironmentId, FleetName, GatewayId, InstanceId, InvalidId, PartyId, PlayerId, RealmId,
    RequestId, RolloutId, ServerId, SessionId, SnapshotId, ZoneId,
};
pub use time::{Clock, Mono, Now, SystemClock, Timestamp};

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value that follows this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Counter of a player's home. Every change of home takes the next one; whoever holds an older one is fenced off.
    /// Zero means "never had a home".
    Epoch
}
counter! {
    /// Counter of a realm's routing table (or of another versioned row). Older is refused.
    Generation
}

/// Why a session's home is what it is (invariant 2 of ARCHITECTURE.md: nobody is moved without one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A new session came in by the accepting environment.
    Login,
    /// The player walked into another zone.
    Zone,
    /// The player entered or left a private instance.
    Instance,
    /// The player died and was put back into the world.
    Respawn,
    /// A drain's deadline passed.
    Drain,
    /// An operator's word.
    Operator,
    /// The home died; the session was restored from its last save.
    Crash,
    /// Back after a lost connection; the home did not change.
    Resume,
}

impl Cause {
    /// Every cause, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Login,
        Self::Zone,
        Self::Instance,
        Self::Respawn,
        Self::Drain,
        Self::Operator,
        Self::Crash,
        Self::Resume,
    ];

    /// The stable lower-case word used in reports and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Zone => "zone",
            Self::Instance => "instance",
            Self::Respawn => "respawn",
            Self::Drain => "drain",
            Self::Operator => "operator",
            Self::Crash => "crash",
            Self::Resume => "resume",
        }
    }

    /// True for the causes that are a boundary of the game's own making (zone, instance, respawn).
    #[must_use]
    pub const fn is_boundary(self) -> bool {
        matches!(self, Self::Zone | Self::Instance | Self::Respawn)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
