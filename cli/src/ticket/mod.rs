//! `tidegate ticket …`: login tickets for trying things out, and the key ring that a gateway checks them with.

mod inspect;
mod mint;
mod ring;

use clap::Subcommand;

use crate::exit::{Code, Failure};
use crate::operator::Options;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mint a login ticket with the development key.
    Mint(mint::MintArgs),
    /// Make a login service's key pair: the secret for it, the public key for the gateways' ring.
    Keygen(mint::KeygenArgs),
    /// The gateways' key ring.
    #[command(subcommand)]
    Keys(ring::KeysCommand),
    /// Revoke a key, a ticket or a player; counts at every gateway that reads this ring within a second.
    Revoke(ring::RevokeArgs),
    /// Say what a login ticket says, and whether a gateway would let its bearer in (exit code 4 if not).
    Inspect(inspect::Args),
    /// Add a fresh key to the gateways' resume key file; the older ones go on opening what they sealed.
    RotateResumeKey(ring::RotateArgs),
}

pub(crate) fn run(command: Command, options: &Options) -> Result<(), Failure> {
    match command {
        Command::Mint(args) => mint::mint(args),
        Command::Keygen(args) => mint::keygen(&args),
        Command::Keys(command) => ring::keys(command, options),
        Command::Revoke(args) => ring::revoke(args),
        Command::Inspect(args) => inspect::run(&args, options),
        Command::RotateResumeKey(args) => ring::rotate(&args),
    }
}

/// A key file's error, as the command line's: a missing or wrong file is what was typed.
fn key_failure(flag: &str, error: &tidegate_ticket::KeyError) -> Failure {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(Code::Usage, format!("{flag}: {error}{cause}"))
}
