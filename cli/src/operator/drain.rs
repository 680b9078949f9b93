//! `tidegate drain …`: emptying an environment, and why it is not empty yet.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, ended, next, pages};
use crate::exit::{Code, Failure};
use crate::output::{Format, facts, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start draining an environment that no longer takes new sessions.
    Start {
        /// The environment's id.
        environment: String,
        #[command(flatten)]
        policy: Policy,
    },
    /// Show a drain.
    Get {
        /// The environment's id.
        environment: String,
    },
    /// List the drains.
    List {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
    },
    /// Follow a drain to its end.
    Watch {
        /// The environment's id.
        environment: String,
    },
    /// Why is it not empty yet? One line per session.
    Explain {
        /// The environment's id.
        environment: String,
    },
    /// Bring the deadline forward.
    Force {
        /// The environment's id.
        environment: String,
        /// Time left from now.
        #[arg(long = "in", default_value = "0s", value_parser = words::parse_duration)]
        within: Duration,
        /// Those with an extension too.
        #[arg(long)]
        ignore_extensions: bool,
    },
}

/// How an environment is emptied.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Policy {
    /// When the last ones go, counted from the start; without it, natural attrition for ever.
    #[arg(long, value_parser = words::parse_duration)]
    deadline: Option<Duration>,
    /// What happens to the last ones then.
    #[arg(long, value_enum, default_value = "move")]
    at_deadline: AtDeadline,
    /// Warn when this much time remains (repeat it, or separate by commas).
    #[arg(long, value_delimiter = ',', value_parser = words::parse_duration)]
    notices: Vec<Duration>,
    /// What the warning says; {remaining} is replaced.
    #[arg(long, default_value = "")]
    notice_text: String,
    /// How much longer a busy session may stay, by zone kind: raid=30m.
    #[arg(long = "extend", value_parser = parse_extension, value_name = "KIND=TIME")]
    extensions: Vec<(String, u64)>,
    /// Most hand-overs a second when moving the last ones.
    #[arg(long, default_value_t = 200)]
    moves_per_second: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AtDeadline {
    /// Hand them over.
    Move,
    /// End their sessions with a message.
    Kick,
    /// Let them stay.
    Stay,
}

fn parse_extension(text: &str) -> Result<(String, u64), String> {
    let (kind, time) = words::parse_pair(text)?;
    Ok((kind, words::ms(words::parse_duration(&time)?)))
}

impl From<Policy> for v1::DrainPolicy {
    fn from(policy: Policy) -> Self {
        let at_deadline = match policy.at_deadline {
            AtDeadline::Move => v1::AtDeadline::Move,
            AtDeadline::Kick => v1::AtDeadline::Kick,
            AtDeadline::Stay => v1::AtDeadline::Stay,
        };
        Self {
            deadline_ms: policy.deadline.map(words::ms),
            at_deadline: at_deadline as i32,
            notices_ms: policy.notices.into_iter().map(words::ms).collect(),
            notice_text: policy.notice_text,
            extensions_ms: policy.extensions.into_iter().collect(),
            moves_per_second: policy.moves_per_second,
        }
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Start { environment, policy } => {
            let request = v1::StartDrainRequest {
                request_id: context.request_id(),
                environment_id: environment.clone(),
                policy: Some(policy.into()),
            };
            let drain =
                context.find(&[(Kind::Environment, &environment)], context.drains().start_drain(request)).await?;
            context.printer.print("Drain", &drain, show)
        }
        Command::Get { environment } => {
            let request = v1::GetDrainRequest { environment_id: environment.clone() };
            let drain = context
                .find(
                    &[(Kind::Drain, &environment), (Kind::Environment, &environment)],
                    context.drains().get_drain(request),
                )
                .await?;
            context.printer.print("Drain", &drain, show)
        }
        Command::List { realm } => {
            let list = {
                let request = v1::ListDrainsRequest { realm: realm.clone() };
                context.find(&[(Kind::Realm, &realm)], context.drains().list_drains(request)).await?
            };
            let now = words::now_ms();
            context.printer.print("ListDrainsResponse", &list, |list| {
                table(
                    &["environment", "realm", "state", "remaining", "of", "started", "deadline", "estimated end"],
                    list.drains.iter().map(|d| {
                        vec![
                            d.environment_id.clone(),
                            d.realm.clone(),
                            words::drain_state(d.state),
                            remaining(d),
                            d.initial.to_string(),
                            words::ago(d.started_ms, now),
                            until(d.deadline_at_ms, now),
                            until(d.estimated_end_ms, now),
                        ]
                    }),
                )
            })
        }
        Command::Watch { environment } => watch(context, environment).await,
        Command::Explain { environment } => explain(context, environment).await,
        Command::Force { environment, within, ignore_extensions } => {
            let request = v1::ForceDrainRequest {
                request_id: context.request_id(),
                environment_id: environment.clone(),
                deadline_ms: words::ms(within),
                ignore_extensions,
            };
            let drain = context
                .find(
                    &[(Kind::Drain, &environment), (Kind::Environment, &environment)],
                    context.drains().force_drain(request),
                )
                .await?;
            context.printer.print("Drain", &drain, show)
        }
    }
}

/// Follows a drain: a bar on a terminal, one line a change otherwise. Ends when the drain does.
async fn watch(context: &Context, environment: String) -> Result<(), Failure> {
    let request = v1::WatchDrainRequest { environment_id: environment.clone() };
    let mut drains = context
        .find(&[(Kind::Drain, &environment), (Kind::Environment, &environment)], context.drains().watch_drain(request))
        .await?;
    let bar = (context.printer.format() == Format::Table && std::io::stderr().is_terminal()).then(|| {
        ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{prefix} [{wide_bar}] {pos}/{len} gone  {msg}")
                .expect("the template is constant")
                .progress_chars("=> "),
        )
    });
    let follow = async {
        while let Some(drain) = next(&mut drains).await? {
            match &bar {
                Some(bar) => {
                    bar.set_length(u64::from(drain.initial));
                    bar.set_position(u64::from(drain.initial.saturating_sub(drain.remaining)));
                    bar.set_prefix(drain.environment_id.clone());
                    bar.set_message(progress(&drain));
                }
                None => context.printer.print_step("Drain", &drain, |d| {
                    let state = words::drain_state(d.state);
                    format!("{}  {state}  {} left  {}", d.environment_id, remaining(d), progress(d))
                })?,
            }
            match v1::DrainState::try_from(drain.state) {
                Ok(v1::DrainState::Completed) => return Ok(()),
                Ok(v1::DrainState::Cancelled) => {
                    let message = "the drain was cancelled: the environment takes players again";
                    return Err(Failure::new(Code::RolledBack, message));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Err(ended("the drain"))
    };
    let outcome = context.within(&format!("the drain of {environment}"), follow).await;
    if let Some(bar) = bar {
        bar.abandon();
    }
    outcome
}

async fn explain(context: &Context, environment: String) -> Result<(), Failure> {
    let answer = pages::all(async |page| {
        let request = v1::ExplainDrainRequest { environment_id: environment.clone(), page };
        context
            .find(
                &[(Kind::Drain, &environment), (Kind::Environment, &environment)],
                context.drains().explain_drain(request),
            )
            .await
    })
    .await?;
    context.printer.print("ExplainDrainResponse", &answer, |answer| {
        let holders = table(
            &["player", "server", "zone", "kind", "busy", "idle", "will leave"],
            answer.holders.iter().map(|h| {
                vec![
                    h.player.clone(),
                    h.server_id.clone(),
                    h.zone.clone(),
                    h.zone_kind.clone(),
                    if h.busy { "busy" } else { "" }.to_owned(),
                    words::span(h.idle_ms),
                    h.will_leave.clone(),
                ]
            }),
        );
        let mut text = if answer.holders.is_empty() { "no session is left".to_owned() } else { holders };
        for reason in &answer.waiting_for {
            text.push_str("\nwaiting for ");
            text.push_str(reason);
        }
        text
    })
}

fn remaining(drain: &v1::Drain) -> String {
    if drain.known { drain.remaining.to_string() } else { format!("{}+?", drain.remaining) }
}

fn until(at_ms: i64, now: i64) -> String {
    if at_ms == 0 { String::new() } else { format!("in {}", words::span(u64::try_from(at_ms - now).unwrap_or(0))) }
}

/// Rate, estimate, deadline and what is waited for, on one line.
pub(crate) fn progress(drain: &v1::Drain) -> String {
    let now = words::now_ms();
    let mut parts = Vec::new();
    if drain.departures_per_minute > 0.0 {
        parts.push(format!("{:.0}/min", drain.departures_per_minute));
    }
    if drain.estimated_end_ms > 0 {
        parts.push(format!("end {}", until(drain.estimated_end_ms, now)));
    }
    if drain.deadline_at_ms > 0 && drain.ended_ms == 0 {
        parts.push(format!("deadline {}", until(drain.deadline_at_ms, now)));
    }
    // While players are left, what is waited for is them.
    if drain.remaining == 0 {
        parts.extend(drain.waiting_for.iter().map(|w| format!("waiting for {w}")));
    }
    parts.join(", ")
}

fn show(drain: &v1::Drain) -> String {
    let map = |map: &std::collections::HashMap<String, u32>| {
        let mut rows: Vec<_> = map.iter().collect();
        rows.sort();
        rows.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", ")
    };
    facts(&[
        ("environment", drain.environment_id.clone()),
        ("state", words::drain_state(drain.state)),
        ("remaining", format!("{} of {}", remaining(drain), drain.initial)),
        ("by zone", map(&drain.remaining_by_zone)),
        ("by kind", map(&drain.remaining_by_kind)),
        (
            "idle",
            format!(
                "under 1m {}, under 10m {}, longer {}",
                drain.idle_under_1m, drain.idle_under_10m, drain.idle_longer
            ),
        ),
        ("departed", map(&drain.departed)),
        ("started", words::time(drain.started_ms)),
        ("deadline", words::time(drain.deadline_at_ms)),
        ("estimated end", words::time(drain.estimated_end_ms)),
        ("ended", words::time(drain.ended_ms)),
        ("waiting for", drain.waiting_for.join("; ")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_as_it_is_typed() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            policy: Policy,
        }
        use clap::Parser as _;
        let line = Line::parse_from(["x", "--deadline", "1h", "--notices", "10m,1m", "--extend", "raid=30m"]);
        let policy = v1::DrainPolicy::from(line.policy);
        assert_eq!(policy.deadline_ms, Some(3_600_000));
        assert_eq!(policy.notices_ms, [600_000, 60_000]);
        assert_eq!(policy.extensions_ms["raid"], 1_800_000);
        assert_eq!(policy.at_deadline, v1::AtDeadline::Move as i32);
    }
}
