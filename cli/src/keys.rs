//! `tidegate ticket …` and `tidegate pki …`: keys for trying things out, and certificates for gateways elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use tidegate_link::pki::Authority;
use tidegate_ticket::{LoginClaims, LoginKey};
use tidegate_types::{CharacterId, Clock as _, GatewayId, InvalidId, PartyId, PlayerId, RealmId, SystemClock};

use crate::exit::Failure;
use crate::output::say;
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum TicketCommand {
    /// Mint a login ticket with the development key.
    Mint {
        /// The realm.
        #[arg(long)]
        realm: RealmId,
        /// The player's account.
        #[arg(long)]
        player: PlayerId,
        /// The character; by default named as the player.
        #[arg(long)]
        character: Option<CharacterId>,
        /// The party, if any.
        #[arg(long)]
        party: Option<PartyId>,
        /// The client's version.
        #[arg(long, default_value = "1.0.0")]
        client_version: String,
        /// How long it is valid.
        #[arg(long, default_value = "60s", value_parser = words::parse_duration)]
        life: Duration,
        /// The login service's secret key.
        #[arg(long, default_value = "tidegate-data/tickets/login.key", value_name = "FILE")]
        key: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Issue a gateway's certificate from the manager's authority.
    Issue {
        /// The gateway's id.
        #[arg(long)]
        gateway: GatewayId,
        /// Names and addresses by which players reach it (repeatable).
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// The manager's data folder.
        #[arg(long, default_value = "tidegate-data", value_name = "FOLDER")]
        data_dir: PathBuf,
        /// Where to write ca.pem, gateway.pem and gateway.key.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

pub(crate) fn ticket(command: TicketCommand) -> Result<(), Failure> {
    let TicketCommand::Mint { realm, player, character, party, client_version, life, key } = command;
    let secret = LoginKey::load(&key).map_err(|error| {
        Failure::usage(format!("--key {}: {error}", key.display()))
            .hint("a fleet-manager makes a development key at its first start, in <data_dir>/tickets")
    })?;
    let character = match character {
        Some(character) => character,
        None => CharacterId::new(player.as_str()).map_err(|error: InvalidId| Failure::usage(error.to_string()))?,
    };
    let now = SystemClock.now().wall;
    let claims = LoginClaims {
        id: uuid::Uuid::new_v4(),
        realm,
        player,
        character,
        party,
        client_version,
        issued: now,
        expires: now + life,
        cohorts: Vec::new(),
    };
    say(&secret.mint(&claims))
}

pub(crate) fn pki(command: PkiCommand) -> Result<(), Failure> {
    let PkiCommand::Issue { gateway, names, data_dir, out } = command;
    let folder = data_dir.join("pki");
    if !folder.join("ca.pem").exists() {
        return Err(Failure::usage(format!("--data-dir {}: there is no pki/ca.pem", data_dir.display()))
            .hint("name the fleet-manager's data_dir; it makes the authority at its first start"));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::new(crate::exit::Code::Failure, error.to_string());
    let authority = Authority::open_or_create(&folder).map_err(|error| failed(&error))?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let issued = authority.issue(&format!("{gateway}.gateway.tidegate"), &names).map_err(|error| failed(&error))?;
    std::fs::create_dir_all(&out)?;
    std::fs::copy(folder.join("ca.pem"), out.join("ca.pem"))?;
    issued.write(&out, "gateway").map_err(|error| failed(&error))?;
    say(&out.display().to_string())
}
