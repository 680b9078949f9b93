//! A small honest game world, and faults on demand.
//!
//! One process serves shared zones and hosts private instances for the players whose home it is. It stands on
//! `tidegate-world` as any game server would, and knows nothing of environments, routing or rollouts.
//!
//! - [`character`]: a character's state in its formats;
//! - [`db`]: the realm database, where characters outlive processes;
//! - [`faults`]: how it misbehaves when asked to;
//! - [`ledger`]: what the realm database proves about the rules that are never broken.

mod args;
pub mod character;
pub mod db;
pub mod faults;
pub mod ledger;

pub use args::Args;

use tokio_util::sync::CancellationToken;

/// The world server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// The realm database cannot be opened.
    #[error(transparent)]
    Database(#[from] db::OpenError),
}

/// Serves until told to stop.
///
/// # Errors
/// [`Error`], each a line for the operator.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Error> {
    character::Formats::of_build(args.major(), args.write_format).map_err(Error::Arguments)?;
    shutdown.cancelled().await;
    Ok(())
}
