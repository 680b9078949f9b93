//! The session directory that several gateways share, in Redis.
//!
//! It is a cache of who lives where: the arbiter of a character's epoch is the realm database. What is written here is only
//! ever changed by compare-and-set, in one script on one key; when Redis cannot answer, that is said (`Unavailable`) and
//! never guessed. It knows nothing of sessions, players' connections or world servers; it does what `gateway-core`'s
//! [`EmbeddedDirectory`](gateway_core::EmbeddedDirectory) does, and answers the same.
//!
//! ```text
//!  gateway ── DirectoryHandle ──▶ driver ──▶ one connection: server | master that Sentinels name | cluster
//!     ▲                             │
//!     └──────── DirectoryEvent ◀────┘   Answer, Ticket, Up { wiped }, Down { why }
//! ```

pub mod check;
mod config;
mod driver;
mod figures;
mod handle;
mod incarnation;
mod link;
mod scripts;
mod sentinel;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod url;

pub use config::DirectoryConfig;
pub use figures::{Figures, ROUND_TRIP_BOUNDS_US, State};
pub use handle::{DirectoryEvent, DirectoryHandle, TicketOutcome, start};
pub use tls::BadCaFile;
pub use url::{BadUrl, DirectoryUrl, SharedUrl};
