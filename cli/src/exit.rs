//! Exit codes: what a script can tell without reading the text.

use std::fmt;

use tonic_types::StatusExt as _;

/// How a command ended. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Something failed.
    Failure = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// The fleet-manager's database is damaged; the message says how to restore it.
    Damaged = 3,
    /// The server refused: the state does not allow it.
    Refused = 4,
    /// Still running when the time was over.
    TimedOut = 5,
    /// No such thing.
    NotFound = 6,
    /// It exists already, or somebody else changed it first.
    Conflict = 7,
    /// Not allowed.
    Unauthorised = 8,
    /// The rollout was rolled back.
    RolledBack = 9,
    /// Stopped by Ctrl-C, as shells number it (128 + SIGINT). What runs on the server goes on.
    Interrupted = 130,
    /// Whoever read the output has gone (128 + SIGPIPE): nothing to say, and nobody to say it to.
    PipeClosed = 141,
}

/// A command's failure: one line for a person, what to do next, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code as Grpc;
        let code = match status.code() {
            Grpc::NotFound => Code::NotFound,
            Grpc::AlreadyExists | Grpc::Aborted => Code::Conflict,
            Grpc::FailedPrecondition => Code::Refused,
            Grpc::InvalidArgument | Grpc::OutOfRange => Code::Usage,
            Grpc::DeadlineExceeded => Code::TimedOut,
            Grpc::PermissionDenied | Grpc::Unauthenticated => Code::Unauthorised,
            Grpc::Ok
            | Grpc::Cancelled
            | Grpc::Unknown
            | Grpc::ResourceExhausted
            | Grpc::Unimplemented
            | Grpc::Internal
            | Grpc::Unavailable
            | Grpc::DataLoss => Code::Failure,
        };
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).filter(|r| !r.is_empty());
        let message = match &reason {
            // The sentence says it already.
            Some(reason) if reason == "NOT_FOUND" => status.message().to_owned(),
            Some(reason) => format!("{} ({reason})", status.message()),
            None if status.message().is_empty() => format!("the manager answered {}", status.code()),
            None => status.message().to_owned(),
        };
        let hint = details.error_info().and_then(|info| info.metadata.get("what_to_do").cloned()).or_else(|| {
            (status.code() == Grpc::Unavailable)
                .then(|| "is the fleet-manager running? Its address is --manager or TIDEGATE_MANAGER".to_owned())
        });
        Self { code, message, hint }
    }
}

impl From<tidegate_config::ConfigError> for Failure {
    fn from(error: tidegate_config::ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Code::PipeClosed, "the output was closed");
        }
        Self::new(Code::Failure, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Code::Failure, format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managers_answers_have_stable_exit_codes() {
        for (status, code) in [
            (tonic::Code::NotFound, 6),
            (tonic::Code::AlreadyExists, 7),
            (tonic::Code::Aborted, 7),
            (tonic::Code::FailedPrecondition, 4),
            (tonic::Code::InvalidArgument, 2),
            (tonic::Code::DeadlineExceeded, 5),
            (tonic::Code::PermissionDenied, 8),
            (tonic::Code::Unauthenticated, 8),
            (tonic::Code::Internal, 1),
            (tonic::Code::Unavailable, 1),
        ] {
            assert_eq!(Failure::from(tonic::Status::new(status, "so")).code as u8, code, "{status:?}");
        }
        assert_eq!((Code::RolledBack as u8, Code::Interrupted as u8, Code::PipeClosed as u8), (9, 130, 141));
    }

    #[test]
    fn a_refusal_says_its_reason_and_what_to_do() {
        let metadata = std::collections::HashMap::from([("what_to_do".to_owned(), "wait".to_owned())]);
        let details = tonic_types::ErrorDetails::with_error_info("ENV_BUSY", "tidegate", metadata);
        let status = tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "env-1 is busy", details);
        assert_eq!(Failure::from(status).to_string(), "env-1 is busy (ENV_BUSY)\n  wait");
    }

    #[test]
    fn a_closed_pipe_is_no_failure_of_its_own() {
        let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::from(closed).code, Code::PipeClosed);
        assert_eq!(Failure::from(std::io::Error::other("disk full")).code, Code::Failure);
    }
}
