//! Making keys and tickets.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tidegate_ticket::{Algorithm, Format, LoginClaims, LoginKey};
use tidegate_types::{CharacterId, Clock as _, InvalidId, PartyId, PlayerId, RealmId, SystemClock};

use super::key_failure;
use crate::exit::{Code, Failure};
use crate::output::{note, say};
use crate::words;

/// A ticket's format.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TicketFormat {
    /// PASETO v4.public.
    Paseto,
    /// JWT with EdDSA.
    Jwt,
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyAlgorithm {
    /// PASETO v4.public alone.
    PasetoV4,
    /// JWT with EdDSA alone.
    JwtEddsa,
    /// Either.
    Both,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MintArgs {
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
    /// A canary cohort (repeatable).
    #[arg(long = "cohort", value_name = "COHORT")]
    cohorts: Vec<String>,
    /// How long it is valid.
    #[arg(long, default_value = "60s", value_parser = words::parse_duration)]
    life: Duration,
    /// The format.
    #[arg(long, default_value = "paseto")]
    format: TicketFormat,
    /// The login service's secret key.
    #[arg(long, default_value = "tidegate-data/tickets/login.key", value_name = "FILE")]
    key: PathBuf,
    /// What the ticket calls its key; by default the key's PASERK id, by which every ring knows it.
    #[arg(long)]
    kid: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeygenArgs {
    /// The key's name: tickets may call it so, and so are its files.
    #[arg(long)]
    kid: String,
    /// What it may sign.
    #[arg(long, default_value = "paseto-v4")]
    algorithm: KeyAlgorithm,
    /// Where the secret key goes, as KID.key. It belongs to the login service alone.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The gateways' ring, where the public key goes, as KID.toml.
    #[arg(long, default_value = "tidegate-data/tickets/keys", value_name = "FOLDER")]
    keys: PathBuf,
}

pub(crate) fn mint(args: MintArgs) -> Result<(), Failure> {
    let mut key = LoginKey::load(&args.key).map_err(|error| {
        key_failure("--key", &error)
            .hint("a fleet-manager makes a development key at its first start, in <data_dir>/tickets")
    })?;
    if let Some(kid) = args.kid {
        key = key.with_kid(kid);
    }
    let character = match args.character {
        Some(character) => character,
        None => CharacterId::new(args.player.as_str()).map_err(|error: InvalidId| Failure::usage(error.to_string()))?,
    };
    let now = SystemClock.now().wall;
    let claims = LoginClaims {
        id: uuid::Uuid::new_v4(),
        realm: args.realm,
        player: args.player,
        character,
        party: args.party,
        client_version: args.client_version,
        issued: now,
        expires: now + args.life,
        cohorts: args.cohorts,
    };
    let format = match args.format {
        TicketFormat::Paseto => Format::Paseto,
        TicketFormat::Jwt => Format::Jwt,
    };
    say(&key.mint_as(format, &claims))
}

pub(crate) fn keygen(args: &KeygenArgs) -> Result<(), Failure> {
    // It becomes two files' names.
    if args.kid.is_empty() || !args.kid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Failure::usage("--kid: only letters, digits, '-', '_' and '.'"));
    }
    let (secret, public) = (args.out.join(format!("{}.key", args.kid)), args.keys.join(format!("{}.toml", args.kid)));
    let algorithm = match args.algorithm {
        KeyAlgorithm::PasetoV4 => Algorithm::PasetoV4,
        KeyAlgorithm::JwtEddsa => Algorithm::JwtEddsa,
        KeyAlgorithm::Both => Algorithm::Both,
    };
    let exists = |path: &PathBuf| {
        Failure::new(Code::Conflict, format!("{} exists already", path.display())).hint("choose another --kid")
    };
    if public.exists() {
        return Err(exists(&public));
    }
    let key = LoginKey::generate().map_err(|error| Failure::new(Code::Failure, error.to_string()))?;
    // The secret first: a ring must not trust a key that nobody has.
    if !key.save_new(&secret).map_err(|error| key_failure("--out", &error))? {
        return Err(exists(&secret));
    }
    if !key.public().save_to_ring(&public, &args.kid, algorithm).map_err(|error| key_failure("--keys", &error))? {
        return Err(exists(&public));
    }
    note(&format!("secret key: {} (for the login service alone)\npublic key: {}", secret.display(), public.display()));
    say(&key.public().id())
}
