//! The key ring's files: what is in them, and what is revoked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};
use tidegate_ticket::{KeyRing, ResumeKeys, Revocation, Rules, Subject, revoke as add_to_list};
use tidegate_types::{Clock as _, PlayerId, SystemClock, Timestamp};
use uuid::Uuid;

use super::key_failure;
use crate::exit::{Code, Failure};
use crate::operator::Options;
use crate::output::{Format, Printer, note, say, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// The keys, and how each stands now. Exit code 1 if a file cannot be used.
    List {
        /// The ring: a folder, or one key file.
        #[arg(long, default_value = "tidegate-data/tickets/keys", value_name = "PATH")]
        keys: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("subject").required(true).args(["key", "ticket", "player"])))]
pub(crate) struct RevokeArgs {
    /// All tickets of this key, by kid or PASERK id.
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// One ticket, by its id (`jti`).
    #[arg(long, value_name = "ID")]
    ticket: Option<Uuid>,
    /// All tickets of this player, resume tickets too.
    #[arg(long)]
    player: Option<PlayerId>,
    /// For how long; by default for good.
    #[arg(long = "for", value_name = "DURATION", value_parser = words::parse_duration)]
    lasts: Option<Duration>,
    /// Why, for whoever reads the list.
    #[arg(long, default_value = "")]
    note: String,
    /// Also a key that is not in the ring.
    #[arg(long)]
    force: bool,
    /// The ring: a folder, or one key file.
    #[arg(long, default_value = "tidegate-data/tickets/keys", value_name = "PATH")]
    keys: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// The gateways' resume key file.
    #[arg(long, default_value = "tidegate-data/tickets/resume.key", value_name = "FILE")]
    key: PathBuf,
    /// When the new key begins to seal: as long as it takes until every gateway has the file.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = words::parse_duration)]
    after: Duration,
    /// How long a key that was replaced still opens: as long as a resume ticket lives.
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = words::parse_duration)]
    keep: Duration,
}

pub(crate) fn keys(command: KeysCommand, options: &Options) -> Result<(), Failure> {
    let KeysCommand::List { keys: path } = command;
    let ring = KeyRing::open_lenient(&path, Rules::default()).map_err(|error| key_failure("--keys", &error))?;
    let now = SystemClock.now().wall;
    let rows: Vec<Value> = ring
        .keys()
        .iter()
        .map(|key| {
            let (not_before, not_after) = key.period();
            json!({
                "kid": key.kid(),
                "id": key.id(),
                "algorithm": key.algorithm().to_string(),
                "standing": ring.standing(key.id(), now).map(|standing| standing.to_string()),
                "not_before": not_before.map(moment),
                "not_after": not_after.map(moment),
                "file": key.file().display().to_string(),
            })
        })
        .collect();
    let problems = ring.problems();
    let columns = ["kid", "algorithm", "standing", "not_before", "not_after", "id", "file"];
    let printer = Printer::new(options.output);
    match printer.format() {
        Format::Table => {
            let text = |row: &Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
            say(&table(&columns, rows.iter().map(|row| columns.map(|column| text(row, column)).to_vec())))?;
            problems.iter().for_each(|problem| note(problem));
        }
        Format::Json | Format::Yaml => printer.print_value(&json!({ "keys": rows, "problems": problems }))?,
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Code::Failure, "one file of the ring cannot be used")),
        n => Err(Failure::new(Code::Failure, format!("{n} files of the ring cannot be used"))),
    }
}

pub(crate) fn revoke(args: RevokeArgs) -> Result<(), Failure> {
    let now = SystemClock.now().wall;
    let ring = KeyRing::open_lenient(&args.keys, Rules::default()).map_err(|error| key_failure("--keys", &error))?;
    let subject = match (args.key, args.ticket, args.player) {
        (Some(key), _, _) => {
            // A slip of the finger in an emergency must not look like a revocation.
            if ring.standing(&key, now).is_none() && !args.force {
                let kids: Vec<String> = ring.keys().iter().map(|key| key.kid().to_owned()).collect();
                return Err(Failure::new(Code::NotFound, format!("there is no key \"{key}\" in the ring"))
                    .hint(format!("there is: {}; --force revokes one that is not there", kids.join(", "))));
            }
            Subject::Key(key)
        }
        (_, Some(ticket), _) => Subject::Ticket(ticket),
        (_, _, Some(player)) => Subject::Player(player),
        (None, None, None) => return Err(Failure::usage("one of --key, --ticket and --player is needed")),
    };
    let not_after = args.lasts.map(|lasts| now + lasts);
    let entry = Revocation { subject, not_after, note: args.note };
    let list = add_to_list(&args.keys, &entry).map_err(|error| key_failure("--keys", &error))?;
    note("gateways that read this ring refuse it within a second; sessions in play go on");
    say(&list.display().to_string())
}

pub(crate) fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let now = SystemClock.now().wall;
    let seals = ResumeKeys::rotate(&args.key, args.after, args.keep, now).map_err(|e| key_failure("--key", &e))?;
    note("every gateway must have this file before the new key begins to seal");
    say(&moment(seals))
}

pub(super) fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX).to_string()
}
