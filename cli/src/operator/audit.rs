//! `tidegate audit …`: who changed what, and why.

use clap::Subcommand;
use tidegate_proto::v1;

use super::Context;
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
        #[arg(long, default_value_t = 50)]
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
            let page = Some(v1::PageRequest { page_size: limit, page_token: String::new() });
            let request = v1::ListAuditRequest { page, realm, subject };
            let list = context.call(context.audit().list_audit(request)).await?;
            context.printer.print("ListAuditResponse", &list, |list| {
                table(
                    &["#", "at", "who", "what", "realm", "subject", "before", "after", "why"],
                    list.records.iter().map(cells),
                )
            })
        }
        Command::Watch { realm, after } => {
            let request = v1::WatchAuditRequest { after_sequence: after, realm };
            let mut records = context.call(context.audit().watch_audit(request)).await?;
            while let Some(record) = records.message().await? {
                context.printer.print_step("AuditRecord", &record, |r| cells(r).join("  "))?;
            }
            Ok(())
        }
    }
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
