//! The trait between a core type and its row, for the types that hold others, and the macros that write it for the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_types::{
    BuildVersion, EnvironmentId, FleetName, GatewayId, Generation, InstanceId, RealmId, RolloutId, ServerId,
    SnapshotId, Timestamp, ZoneId,
};

/// A row that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not the JSON of this row.
    #[error("not a row of {kind}: {why}")]
    Json {
        /// Which kind of row.
        kind: &'static str,
        /// What the parser said.
        why: String,
    },
    /// A word that nobody writes.
    #[error("unknown {kind} \"{word}\"")]
    Word {
        /// Which kind of word.
        kind: &'static str,
        /// The word.
        word: String,
    },
}

/// A type of the core with a row that stands for it in the database.
pub(super) trait Stored: Sized {
    /// What is written.
    type Row: Serialize + DeserializeOwned;
    fn to_row(&self) -> Self::Row;
    fn from_row(row: Self::Row) -> Result<Self, RowError>;
}

macro_rules! itself {
    ($($ty:ty),* $(,)?) => {$(
        impl Stored for $ty {
            type Row = Self;
            fn to_row(&self) -> Self {
                self.clone()
            }
            fn from_row(row: Self) -> Result<Self, RowError> {
                Ok(row)
            }
        }
    )*};
}

itself!(
    bool,
    u32,
    u64,
    String,
    BuildVersion,
    EnvironmentId,
    FleetName,
    GatewayId,
    Generation,
    InstanceId,
    RealmId,
    RolloutId,
    ServerId,
    SnapshotId,
    Timestamp,
    ZoneId
);

/// Durations are stored in milliseconds, which is what every policy is given in.
impl Stored for Duration {
    type Row = u64;
    fn to_row(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
    fn from_row(row: u64) -> Result<Self, RowError> {
        Ok(Self::from_millis(row))
    }
}

/// Digests are stored as hex, as everywhere people see them.
impl Stored for [u8; 32] {
    type Row = String;
    fn to_row(&self) -> String {
        blake3::Hash::from_bytes(*self).to_hex().to_string()
    }
    fn from_row(row: String) -> Result<Self, RowError> {
        let hash = blake3::Hash::from_hex(&row).map_err(|_| RowError::Word { kind: "digest", word: row })?;
        Ok(*hash.as_bytes())
    }
}

impl<T: Stored> Stored for Option<T> {
    type Row = Option<T::Row>;
    fn to_row(&self) -> Self::Row {
        self.as_ref().map(T::to_row)
    }
    fn from_row(row: Self::Row) -> Result<Self, RowError> {
        row.map(T::from_row).transpose()
    }
}

impl<T: Stored> Stored for Vec<T> {
    type Row = Vec<T::Row>;
    fn to_row(&self) -> Self::Row {
        self.iter().map(T::to_row).collect()
    }
    fn from_row(row: Self::Row) -> Result<Self, RowError> {
        row.into_iter().map(T::from_row).collect()
    }
}

impl<T: Stored + Ord> Stored for BTreeSet<T> {
    type Row = Vec<T::Row>;
    fn to_row(&self) -> Self::Row {
        self.iter().map(T::to_row).collect()
    }
    fn from_row(row: Self::Row) -> Result<Self, RowError> {
        row.into_iter().map(T::from_row).collect()
    }
}

impl<K: Stored<Row: Ord> + Ord, V: Stored> Stored for BTreeMap<K, V> {
    type Row = BTreeMap<K::Row, V::Row>;
    fn to_row(&self) -> Self::Row {
        self.iter().map(|(k, v)| (k.to_row(), v.to_row())).collect()
    }
    fn from_row(row: Self::Row) -> Result<Self, RowError> {
        row.into_iter().map(|(k, v)| Ok((K::from_row(k)?, V::from_row(v)?))).collect()
    }
}

/// A struct of the core: its row has the same fields. A field that the core gains does not compile until it is here.
macro_rules! row {
    ($row:ident for $core:ty { $($field:ident: $ty:ty),* $(,)? }) => {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::store::rows) struct $row {
            $($field: <$ty as $crate::store::rows::stored::Stored>::Row),*
        }

        impl $crate::store::rows::stored::Stored for $core {
            type Row = $row;
            fn to_row(&self) -> $row {
                $row { $($field: $crate::store::rows::stored::Stored::to_row(&self.$field)),* }
            }
            fn from_row(row: $row) -> Result<Self, $crate::store::rows::stored::RowError> {
                Ok(Self { $($field: $crate::store::rows::stored::Stored::from_row(row.$field)?),* })
            }
        }
    };
}

/// An enum of the core without data: a word each. A case that the core gains does not compile until it is here.
macro_rules! words {
    ($kind:literal for $core:ty { $($name:ident = $word:literal),* $(,)? }) => {
        impl $crate::store::rows::stored::Stored for $core {
            type Row = String;
            fn to_row(&self) -> String {
                match self { $(<$core>::$name => $word,)* }.to_owned()
            }
            fn from_row(row: String) -> Result<Self, $crate::store::rows::stored::RowError> {
                match row.as_str() {
                    $($word => Ok(<$core>::$name),)*
                    _ => Err($crate::store::rows::stored::RowError::Word { kind: $kind, word: row }),
                }
            }
        }
    };
}

pub(super) use {row, words};
