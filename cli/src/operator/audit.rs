//! `tidegate audit …`: who changed what, and why.

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, pages};
use crate::exit::Failure;
use crate::output::table;
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records, newest first.
    List {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
        /// Only about this environment, rollout or snapshot.
        #[arg(long, default_value = "")]
        subject: String,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Follow new records.
    Watch {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
        /// Only records above this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { realm, subject, limit } => {
            let list = pages::up_to(limit as usize, async |page| {
                let request = v1::ListAuditRequest { page, realm: realm.clone(), subject: subject.clone() };
                context.find(&[(Kind::Realm, &realm)], context.audit().list_audit(request)).await
            })
            .await?;
            context.printer.print("ListAuditResponse", &list, |list| {
                table(
                    &["#", "at", "who", "what", "realm", "subject", "before", "after", "why"],
                    list.records.iter().map(cells),
                )
            })
        }
        Command::Watch { realm, after } => {
            let request = v1::WatchAuditRequest { after_sequence: after, realm: realm.clone() };
            let records = context.find(&[(Kind::Realm, &realm)], context.audit().watch_audit(request)).await?;
            let show = |record: v1::AuditRecord| context.printer.print_step("AuditRecord", &record, line);
            context.follow(records, show).await
        }
    }
}

/// One record on one line, for a feed.
fn line(record: &v1::AuditRecord) -> String {
    let (before, after) = (&record.before, &record.after);
    let change = match (before.is_empty(), after.is_empty()) {
        (true, _) => after.clone(),
        (false, true) => format!("{before} -> (nothing)"),
        (false, false) => format!("{before} -> {after}"),
    };
    let at = words::time(record.at_ms);
    let why = if record.why.is_empty() { String::new() } else { format!("  ({})", record.why) };
    format!("{:>5}  {at}  {:12} {:18} {:18} {change}{why}", record.sequence, record.who, record.what, record.subject)
}

fn cells(record: &v1::AuditRecord) -> Vec<String> {
    vec![
        record.sequence.to_string(),
        words::time(record.at_ms),
        record.who.clone(),
        record.what.clone(),
        record.realm.clone(),
        record.subject.clone(),
        record.before.clone(),
        record.after.clone(),
        record.why.clone(),
    ]
}
