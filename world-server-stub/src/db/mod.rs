//! The realm database: one SQLite file that all world servers of a realm share, whatever their build.
//!
//! Every write of a character says `WHERE epoch = mine`, so a world server whose player was given another home changes
//! nothing any more, however late its writes come. The epoch is claimed inside the same file, so it can only grow.
//!
//! [`work`] are the transactions, as functions on a connection; [`Store`] runs them on the one writer thread of the process.

mod schema;
#[cfg(test)]
mod tests;
pub(crate) mod witness;
pub mod work;
mod writer;

pub use schema::{BANK_GOLD, OpenError, open};
pub use writer::{Failure, Store, WriterThread};
