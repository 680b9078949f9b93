//! Names and ids. Text ids are shared (`Arc<str>`), so a clone costs a counter and no allocation.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// A text that cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// Which kind of id it should have been.
    pub kind: &'static str,
    /// What was given (cut at 80 characters).
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" {}", self.kind, self.given, self.why)
    }
}

impl std::error::Error for InvalidId {}

/// Longest text id, in bytes: ids travel in every control message and log line.
const MAX_LEN: usize = 80;

fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    let why = if text.is_empty() {
        "is empty"
    } else if text.len() > MAX_LEN {
        "is longer than 80 bytes"
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "has a space or control character"
    } else {
        return Ok(());
    };
    Err(InvalidId { kind, given: text.chars().take(MAX_LEN).collect(), why })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes the text: 1 to 80 bytes without spaces or control characters.
            ///
            /// # Errors
            /// [`InvalidId`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// One world that players choose, for example `eu-1`.
    RealmId, "realm id"
}
text_id! {
    /// One deployment of a realm at one build.
    EnvironmentId, "environment id"
}
text_id! {
    /// A group of like servers within an environment.
    FleetName, "fleet name"
}
text_id! {
    /// A registered build, named by its version (a semver).
    BuildVersion, "build version"
}
text_id! {
    /// One world server; a restart keeps the id and gets a new [`InstanceId`].
    ServerId, "server id"
}
text_id! {
    /// One gateway.
    GatewayId, "gateway id"
}
text_id! {
    /// A shared zone's name, or an instance's kind.
    ZoneId, "zone id"
}
text_id! {
    /// A player's account.
    PlayerId, "player id"
}
text_id! {
    /// One character of a player.
    CharacterId, "character id"
}
text_id! {
    /// Players who must not be split.
    PartyId, "party id"
}
text_id! {
    /// One rollout.
    RolloutId, "rollout id"
}
text_id! {
    /// One snapshot.
    SnapshotId, "snapshot id"
}
text_id! {
    /// Chosen by the caller of a mutating call; the same id has one effect and one answer.
    RequestId, "request id"
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// From 16 bytes, as on the wire; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes, as on the wire.
            #[must_use]
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id! {
    /// One player's stay in the world, from login to logout.
    SessionId
}
uuid_id! {
    /// One run of one process; a restart gets a new one.
    InstanceId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_would_break_a_log_line() {
        assert_eq!(RealmId::new("").unwrap_err().to_string(), "realm id \"\" is empty");
        assert!(RealmId::new("eu 1").is_err());
        assert!(RealmId::new("eu\n1").is_err());
        assert!(RealmId::new(&"x".repeat(81)).is_err());
        assert_eq!(RealmId::new("eu-1").unwrap().as_str(), "eu-1");
    }

    #[test]
    fn a_session_id_survives_the_wire() {
        let id = SessionId(Uuid::from_u128(7));
        assert_eq!(SessionId::from_slice(&id.to_vec()), Some(id));
        assert_eq!(SessionId::from_slice(b"short"), None);
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
    }
}
