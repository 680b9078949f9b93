//! Why a simulation cannot begin.

use std::path::PathBuf;

/// Found before the first player arrives.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A file cannot be read.
    #[error("read {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// A file's content is wrong; the text names the key.
    #[error("understand {path}: {why}")]
    Parse {
        /// The file, or "the embedded profiles".
        path: String,
        /// The key and what is wrong with it, in one line.
        why: String,
    },
    /// A value is wrong.
    #[error("use the configuration: {key} {why}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The login key cannot be used.
    #[error("load the login key {path}: {why}")]
    LoginKey {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// No QUIC endpoint could be made.
    #[error("open an endpoint")]
    Endpoint(#[from] tidegate_player::EndpointError),
}
