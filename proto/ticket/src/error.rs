//! Why a ticket is refused, and why a key cannot be had.
//!
//! A refusal has three audiences. The player gets [`TicketError::reason`] and [`TicketError::message`]: a word that says
//! what helps, and whoever forges tickets learns nothing from it. Metrics get [`TicketError::label`], which knows the
//! cause. The log gets the error itself, with its values.

use std::path::PathBuf;

use tidegate_types::{RealmId, Timestamp};

/// A ticket that does not let its bearer in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Longer than any ticket; it was not looked at.
    #[error("longer than any ticket")]
    TooLong,
    /// Not a ticket of an expected kind at all.
    #[error("not a ticket of this kind")]
    Malformed,
    /// It names a key that is not in the ring.
    #[error("signed by key \"{kid}\", which is not in the ring")]
    UnknownKey {
        /// The key that it names.
        kid: String,
    },
    /// It names no key, and not exactly one key could have signed it.
    #[error("it names no key, and {candidates} keys could have signed it")]
    NoKeyNamed {
        /// How many could have.
        candidates: usize,
    },
    /// Its key is not for tickets of this format.
    #[error("key \"{kid}\" does not sign tickets of this format")]
    WrongAlgorithm {
        /// The key that it names.
        kid: String,
    },
    /// Its key may not be used at this time.
    #[error("key \"{kid}\" is not in use at this time")]
    KeyNotInUse {
        /// The key that it names.
        kid: String,
    },
    /// Its key was revoked.
    #[error("key \"{kid}\" is revoked")]
    KeyRevoked {
        /// The key that it names.
        kid: String,
    },
    /// The signature (or seal) is not that of the key.
    #[error("not signed by the key that it names")]
    BadSignature,
    /// Genuine, but a claim is missing or cannot be what it says.
    #[error("claim {claim}: {why}")]
    BadClaim {
        /// The claim's name in the ticket.
        claim: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It would live longer than tickets may; used ones could not be remembered for so long.
    #[error("it lives longer than tickets may")]
    TooLongLived,
    /// The ticket, or its player, was revoked.
    #[error("the ticket or its player is revoked")]
    Revoked,
    /// Its time is over.
    #[error("it expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Its time has not come, further ahead than clocks may differ.
    #[error("it is valid from {at} only")]
    NotYet {
        /// When it will be.
        at: Timestamp,
    },
    /// It is for another realm.
    #[error("it is for realm {ticket}, not {asked}")]
    WrongRealm {
        /// The ticket's realm.
        ticket: RealmId,
        /// The realm that was asked for.
        asked: RealmId,
    },
}

impl TicketError {
    /// Every [`Self::label`].
    pub const LABELS: [&'static str; 14] = [
        "too_long",
        "malformed",
        "unknown_key",
        "no_key_named",
        "wrong_algorithm",
        "key_not_in_use",
        "key_revoked",
        "bad_signature",
        "bad_claim",
        "too_long_lived",
        "revoked",
        "expired",
        "not_yet",
        "wrong_realm",
    ];

    /// The cause as a word, for metrics and operators. Never for the player.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::UnknownKey { .. } => "unknown_key",
            Self::NoKeyNamed { .. } => "no_key_named",
            Self::WrongAlgorithm { .. } => "wrong_algorithm",
            Self::KeyNotInUse { .. } => "key_not_in_use",
            Self::KeyRevoked { .. } => "key_revoked",
            Self::BadSignature => "bad_signature",
            Self::BadClaim { .. } => "bad_claim",
            Self::TooLongLived => "too_long_lived",
            Self::Revoked => "revoked",
            Self::Expired { .. } => "expired",
            Self::NotYet { .. } => "not_yet",
            Self::WrongRealm { .. } => "wrong_realm",
        }
    }

    /// The stable word that the player is told (`Refused.reason`). Only what a genuine ticket says of itself is told
    /// apart; whatever concerns keys, signatures and formats is one word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong
            | Self::Malformed
            | Self::UnknownKey { .. }
            | Self::NoKeyNamed { .. }
            | Self::WrongAlgorithm { .. }
            | Self::KeyNotInUse { .. }
            | Self::KeyRevoked { .. }
            | Self::BadSignature
            | Self::BadClaim { .. }
            | Self::TooLongLived
            | Self::Revoked => "ticket_invalid",
            Self::Expired { .. } => "ticket_expired",
            Self::NotYet { .. } => "ticket_not_yet",
            Self::WrongRealm { .. } => "wrong_realm",
        }
    }

    /// The sentence that the player is told (`Refused.message`): one for each [`Self::reason`], without a value.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self.reason() {
            "ticket_expired" => "the ticket has expired; get a new one",
            "ticket_not_yet" => "the ticket is not valid yet; try again in a moment",
            "wrong_realm" => "the ticket is for another realm",
            _ => "the ticket is not valid here; get a new one",
        }
    }
}

/// A key that cannot be read, written or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: cannot {action} it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system gives no randomness.
    #[error("no randomness for a new key")]
    Generate,
}

impl KeyError {
    pub(crate) fn malformed(path: &std::path::Path, why: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), why: why.into() }
    }
}
