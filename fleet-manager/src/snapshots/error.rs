//! What can go wrong with a snapshot.

use std::io;
use std::path::PathBuf;

use tidegate_types::SnapshotId;

/// Why a snapshot could not be taken, read, restored or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The configured store cannot be used.
    #[error("snapshot_store: {0}")]
    Store(String),
    /// There is no snapshot of that id: it was never taken to the end, or is deleted.
    #[error("snapshot \"{0}\" does not exist")]
    NotFound(SnapshotId),
    /// The world did not stand still, or not long enough.
    #[error("the world did not stand still: {0}")]
    Barrier(String),
    /// A zone's state is longer than any may be.
    #[error("zone {zone} of {server} is {bytes} bytes long; at most {limit} are allowed")]
    ZoneTooLong {
        /// The zone.
        zone: String,
        /// Its server.
        server: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The manifest is not what it should be.
    #[error("the manifest of \"{id}\" is damaged: {why}")]
    Manifest {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong with it.
        why: String,
    },
    /// A blob is not there.
    #[error("blob {0} is missing")]
    MissingBlob(String),
    /// A blob's content is not what its name says.
    #[error("blob {expected} is damaged: its content is {found}")]
    DamagedBlob {
        /// The digest it must have.
        expected: String,
        /// The digest it has.
        found: String,
    },
    /// The copy of the database does not pass SQLite's own check.
    #[error("the database copy is damaged: {0}")]
    DamagedDatabase(String),
    /// The database to restore into is open elsewhere.
    #[error("{} is in use", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// SQLite could not do it.
    #[error("{doing} {}", path.display())]
    Database {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A local file cannot be used.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The object store could not do it.
    #[error("the snapshot store failed")]
    Objects(#[from] object_store::Error),
    /// A task was cancelled: the manager is stopping.
    #[error("the manager is stopping")]
    Stopping,
}
