//! What a ticket says, and what a ring says to it.

use std::io::Read as _;
use std::path::PathBuf;

use serde_json::json;
use tidegate_ticket::{Format as TicketFormat, KeyRing, MAX_TICKET_BYTES, Rules};
use tidegate_types::{Clock as _, RealmId, SystemClock};

use super::key_failure;
use super::ring::moment;
use crate::exit::{Code, Failure};
use crate::operator::Options;
use crate::output::{Format, Printer, facts, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The ticket, or `-` to read it from stdin: a ticket on a command line stands in the shell's history.
    ticket: String,
    /// The realm that the player wants; by default the ticket's own.
    #[arg(long)]
    realm: Option<RealmId>,
    /// The ring: a folder, or one key file.
    #[arg(long, default_value = "tidegate-data/tickets/keys", value_name = "PATH")]
    keys: PathBuf,
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<(), Failure> {
    let ring = KeyRing::open_lenient(&args.keys, Rules::default()).map_err(|error| key_failure("--keys", &error))?;
    let mut ticket = args.ticket.clone();
    if ticket == "-" {
        ticket.clear();
        std::io::stdin().take(2 * MAX_TICKET_BYTES as u64).read_to_string(&mut ticket)?;
    }
    let told = ring.inspect(ticket.trim_end_matches(['\r', '\n']), args.realm.as_ref(), SystemClock.now().wall);
    let format = match told.format {
        Some(TicketFormat::Paseto) => "PASETO v4.public",
        Some(TicketFormat::Jwt) => "JWT EdDSA",
        None if ticket.starts_with("v4.local.") => {
            "PASETO v4.local (a resume ticket is one; only gateways can open it)"
        }
        None => "",
    };
    let mut rows = vec![("format", format.to_owned()), ("kid", told.kid.clone().unwrap_or_default())];
    if let Some(claims) = &told.claims {
        rows.extend([
            ("id", claims.id.to_string()),
            ("realm", claims.realm.to_string()),
            ("player", claims.player.to_string()),
            ("character", claims.character.to_string()),
            ("party", claims.party.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("client_version", claims.client_version.clone()),
            ("issued", moment(claims.issued)),
            ("expires", moment(claims.expires)),
            ("cohorts", claims.cohorts.join(", ")),
        ]);
    }
    let (verdict, cause) = match &told.verdict {
        Ok(()) => ("good, unless it was used before", String::new()),
        Err(error) => (error.reason(), error.to_string()),
    };
    rows.extend([("verdict", verdict.to_owned()), ("cause", cause.clone())]);
    let printer = Printer::new(options.output);
    match printer.format() {
        Format::Table => say(&facts(&rows))?,
        Format::Json | Format::Yaml => {
            let fields = rows.into_iter().map(|(name, text)| (name.to_owned(), json!(text)));
            printer.print_value(&serde_json::Value::Object(fields.collect()))?;
        }
    }
    match told.verdict {
        Ok(()) => Ok(()),
        Err(_) => Err(Failure::new(Code::Refused, format!("a gateway with this ring refuses it: {cause}"))),
    }
}
