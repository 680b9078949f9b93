//! Every way in which a call can fail, and the one place where that becomes a gRPC status.
//!
//! Each status carries an `ErrorInfo` with a stable reason in upper case, the domain `tidegate`, and in its metadata
//! `what_to_do` where something can be done. Internal failures keep their cause to the log.

use std::collections::HashMap;

use fleet_core::Reason;
use serde::{Deserialize, Serialize};
use tidegate_proto::convert::BadField;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::store::StoreError;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "tidegate";

/// A call was understood and is refused. Remembered with its request id, so that a retry is refused alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, in upper case.
    pub reason: String,
    /// What is the matter, with the ids.
    pub message: String,
    /// What to do instead; empty: nothing helps.
    pub what_to_do: String,
    /// Which class of status it becomes.
    pub kind: Kind,
}

/// The class of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The state of things does not allow it: `FAILED_PRECONDITION`.
    Precondition,
    /// Somebody was faster (`if_generation`): `ABORTED`.
    Aborted,
    /// No such thing: `NOT_FOUND`.
    NotFound,
    /// The id is taken: `ALREADY_EXISTS`.
    AlreadyExists,
    /// An argument cannot be: `INVALID_ARGUMENT`.
    Invalid,
}

impl Refusal {
    /// A refusal by the state of things.
    pub fn precondition(reason: impl Into<String>, message: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), what_to_do: what_to_do.into(), kind: Kind::Precondition }
    }
}

impl From<fleet_core::Refused> for Refusal {
    fn from(refused: fleet_core::Refused) -> Self {
        let kind = match refused.reason {
            Reason::GenerationMismatch => Kind::Aborted,
            Reason::NotFound => Kind::NotFound,
            Reason::AlreadyExists => Kind::AlreadyExists,
            Reason::Invalid => Kind::Invalid,
            Reason::FlipInProgress
            | Reason::AlreadyAccepting
            | Reason::Draining
            | Reason::NotDraining
            | Reason::DrainRunning
            | Reason::NotReady
            | Reason::NotActive
            | Reason::WrongPhase
            | Reason::Occupied
            | Reason::Retired
            | Reason::Failed
            | Reason::StateFormatUnreadable
            | Reason::SchemaIncompatible
            | Reason::NoCapacity
            | Reason::FreezeWindow
            | Reason::Frozen
            | Reason::RolloutRunning
            | Reason::RolloutEnded
            | Reason::NothingToRollBack
            | Reason::NothingAccepting
            | Reason::SnapshotRunning
            | Reason::SnapshotNotVerified
            | Reason::InUse
            | Reason::RealmNotEmpty
            | Reason::TooMany => Kind::Precondition,
        };
        Self { reason: refused.reason.to_string(), message: refused.message, what_to_do: refused.what_to_do, kind }
    }
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request cannot be.
    #[error(transparent)]
    Field(#[from] BadField),
    /// No such thing.
    #[error("{kind} \"{id}\" does not exist")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// By which id.
        id: String,
    },
    /// Understood and refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The request id was used for another request.
    #[error("request id \"{id}\" was used for another request ({rpc}); choose a new one")]
    RequestReused {
        /// The id.
        id: String,
        /// What it was used for.
        rpc: String,
    },
    /// It goes on, but the call has waited long enough.
    #[error("{what} {id} is still under way")]
    TimedOut {
        /// What goes on.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Something outside failed, such as a disk or an object store.
    #[error("{what} failed: {why}")]
    Failed {
        /// What failed.
        what: &'static str,
        /// How.
        why: String,
    },
    /// The store failed; nothing was changed.
    #[error("nothing was changed")]
    Store(#[from] StoreError),
    /// The manager stops.
    #[error("the manager is stopping")]
    Stopping,
}

impl Error {
    /// Nothing is known by this id.
    pub fn not_found(kind: &'static str, id: impl ToString) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}

impl From<fleet_core::Refused> for Error {
    fn from(refused: fleet_core::Refused) -> Self {
        Self::Refused(refused.into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Field(bad) => {
                let mut details = info("INVALID", [("field", bad.field.to_owned())]);
                details.set_bad_request(vec![tonic_types::FieldViolation::new(bad.field, bad.why)]);
                Self::with_error_details(Code::InvalidArgument, message, details)
            }
            Error::NotFound { kind, id } => {
                let details = info("NOT_FOUND", [("kind", kind.to_owned()), ("id", id)]);
                Self::with_error_details(Code::NotFound, message, details)
            }
            Error::Refused(refusal) => {
                let code = match refusal.kind {
                    Kind::Precondition => Code::FailedPrecondition,
                    Kind::Aborted => Code::Aborted,
                    Kind::NotFound => Code::NotFound,
                    Kind::AlreadyExists => Code::AlreadyExists,
                    Kind::Invalid => Code::InvalidArgument,
                };
                let details = info(&refusal.reason, [("what_to_do", refusal.what_to_do)]);
                Self::with_error_details(code, message, details)
            }
            Error::RequestReused { id, .. } => {
                let details = info("REQUEST_ID_REUSED", [("request_id", id)]);
                Self::with_error_details(Code::InvalidArgument, message, details)
            }
            Error::TimedOut { what, id } => {
                let details = info("STILL_RUNNING", [("what", what.to_owned()), ("id", id)]);
                Self::with_error_details(Code::DeadlineExceeded, message, details)
            }
            Error::Failed { .. } => {
                Self::with_error_details(Code::Unavailable, message, info("FAILED", [("what_to_do", String::new())]))
            }
            Error::Store(cause) => {
                // Logged here because the caller only learns that nothing was changed.
                tracing::error!(error = &cause as &dyn std::error::Error, "the store failed");
                Self::with_error_details(Code::Internal, message, info("STORE", [("what_to_do", String::new())]))
            }
            Error::Stopping => {
                let wait = "try again when it is back".to_owned();
                Self::with_error_details(Code::Unavailable, message, info("STOPPING", [("what_to_do", wait)]))
            }
        }
    }
}

fn info<const N: usize>(reason: &str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_core_keeps_its_word_and_its_advice() {
        for reason in Reason::ALL {
            let status = Status::from(Error::from(fleet_core::Refused::new(*reason, "no", "do this")));
            let details = status.get_details_error_info().unwrap();
            assert_eq!((details.reason.as_str(), details.domain.as_str()), (reason.as_str(), DOMAIN));
            assert_eq!(details.metadata["what_to_do"], "do this");
            assert!(!matches!(status.code(), Code::Internal | Code::Unknown | Code::Ok));
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        let status = Status::from(Error::from(BadField::new("realm.id", "is empty")));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "realm.id");
    }

    #[test]
    fn a_refusal_survives_the_store() {
        let refusal = Refusal::from(fleet_core::Refused::new(Reason::NotReady, "no", "wait"));
        let text = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&text).unwrap(), refusal);
    }
}
