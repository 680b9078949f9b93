//! Why a ticket is refused, and why a key cannot be had.

use std::path::PathBuf;

use tidegate_types::{RealmId, Timestamp};

/// A ticket that does not let its bearer in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket of the expected kind at all.
    #[error("not a ticket of this kind")]
    Malformed,
    /// The signature (or seal) is not that of the key.
    #[error("ticket is not signed by the known key")]
    BadSignature,
    /// Genuine, but a claim is missing or cannot be what it says.
    #[error("claim {claim}: {why}")]
    BadClaim {
        /// The claim's name in the ticket.
        claim: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Its time is over.
    #[error("ticket expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Issued in the future, further than clocks may differ.
    #[error("ticket is issued in the future, at {at}")]
    NotYet {
        /// When it says it was issued.
        at: Timestamp,
    },
    /// It would live longer than tickets may; used ones could not be remembered for so long.
    #[error("ticket lives longer than allowed")]
    TooLongLived,
    /// It is for another realm.
    #[error("ticket is for realm {ticket}, not {asked}")]
    WrongRealm {
        /// The ticket's realm.
        ticket: RealmId,
        /// The realm that was asked for.
        asked: RealmId,
    },
}

impl TicketError {
    /// The stable word that the player is told (`Refused.reason`).
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed | Self::BadSignature | Self::BadClaim { .. } | Self::NotYet { .. } | Self::TooLongLived => {
                "ticket_invalid"
            }
            Self::Expired { .. } => "ticket_expired",
            Self::WrongRealm { .. } => "wrong_realm",
        }
    }
}

/// A key that cannot be read, written or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: cannot {action} the key", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a key of this kind.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system gives no randomness.
    #[error("no randomness for a new key")]
    Generate,
}
