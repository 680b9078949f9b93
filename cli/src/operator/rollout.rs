//! `tidegate rollout …`: bring a build to the players.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Subcommand;
use tidegate_proto::v1;

use super::known::Kind;
use super::{Context, drain, ended, next};
use crate::exit::{Code, Failure};
use crate::output::{Format, facts, say, table};
use crate::words;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A dry run: the steps, who is affected, what can be undone.
    Plan(Spec),
    /// Start a rollout.
    Start {
        #[command(flatten)]
        spec: Spec,
        /// Follow it to its end.
        #[arg(long)]
        watch: bool,
    },
    /// Show a rollout.
    Get {
        /// The rollout's id.
        id: String,
    },
    /// List rollouts.
    List {
        /// Only this realm's.
        #[arg(long, default_value = "")]
        realm: String,
    },
    /// Stop before the next step begins.
    Pause {
        /// The rollout's id.
        id: String,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Go on.
    Resume {
        /// The rollout's id.
        id: String,
    },
    /// Take it back: before the flip green is retired, after it traffic goes back to blue.
    Abort {
        /// The rollout's id.
        id: String,
        /// Goes into the audit record.
        #[arg(long, default_value = "")]
        reason: String,
        /// What happens to players on green.
        #[arg(long, value_parser = ["finish", "next-boundary", "force"], default_value = "next-boundary")]
        players: String,
    },
    /// Follow a rollout to its end. Ctrl-C stops the watching, not the rollout.
    Watch {
        /// The rollout's id.
        id: String,
    },
}

/// What to bring to whom, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Spec {
    /// The realm.
    realm: String,
    /// The version to bring to the players.
    build: String,
    #[command(flatten)]
    drain: drain::Policy,
    /// How long green must stand without a crash, after the drain, before it becomes blue.
    #[arg(long, default_value = "10s", value_parser = words::parse_duration)]
    stable: Duration,
    /// How long green may take until all its servers are loaded; by default the realm's limit, 2 minutes.
    #[arg(long, value_parser = words::parse_duration, value_name = "TIME")]
    stage_timeout: Option<Duration>,
    /// The version to stage on the next green; by default the same again.
    #[arg(long, default_value = "")]
    next_build: String,
    /// Do not clone and stage the next green.
    #[arg(long)]
    skip_clone: bool,
    /// Goes into the audit record.
    #[arg(long = "why", default_value = "")]
    reason: String,
}

impl Spec {
    /// What it names that must exist.
    fn names(&self) -> [(Kind, String); 3] {
        [(Kind::Realm, self.realm.clone()), (Kind::Build, self.build.clone()), (Kind::Build, self.next_build.clone())]
    }
}

fn ids(names: &[(Kind, String); 3]) -> [(Kind, &str); 3] {
    names.each_ref().map(|(kind, name)| (*kind, name.as_str()))
}

impl From<Spec> for v1::RolloutSpec {
    fn from(spec: Spec) -> Self {
        Self {
            realm: spec.realm,
            build: spec.build,
            drain: Some(spec.drain.into()),
            stable_ms: words::ms(spec.stable),
            next_build: spec.next_build,
            skip_clone: spec.skip_clone,
            reason: spec.reason,
            stage_timeout_ms: spec.stage_timeout.map_or(0, words::ms),
        }
    }
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Plan(spec) => {
            let names = spec.names();
            let request = v1::PlanRolloutRequest { spec: Some(spec.into()) };
            let plan = context.find(&ids(&names), context.rollouts().plan_rollout(request)).await?;
            context.printer.print("RolloutPlan", &plan, show_plan)?;
            if plan.checks.iter().any(|check| !check.ok && !check.warning) {
                return Err(Failure::new(Code::Refused, "this rollout would be refused: see the checks that failed"));
            }
            Ok(())
        }
        Command::Start { spec, watch: follow } => {
            let names = spec.names();
            let request = v1::StartRolloutRequest { request_id: context.request_id(), spec: Some(spec.into()) };
            let rollout = context.find(&ids(&names), context.rollouts().start_rollout(request)).await?;
            if follow {
                return watch(context, rollout.id).await;
            }
            context.printer.print("Rollout", &rollout, show)
        }
        Command::Get { id } => {
            let rollout = context
                .find(&[(Kind::Rollout, &id)], context.rollouts().get_rollout(v1::GetRolloutRequest { id: id.clone() }))
                .await?;
            context.printer.print("Rollout", &rollout, show)
        }
        Command::List { realm } => {
            let request = v1::ListRolloutsRequest { realm: realm.clone() };
            let list = context.find(&[(Kind::Realm, &realm)], context.rollouts().list_rollouts(request)).await?;
            context.printer.print("ListRolloutsResponse", &list, |list| {
                table(
                    &["id", "realm", "build", "state", "step", "started", "ended", "reason"],
                    list.rollouts.iter().map(|r| {
                        let spec = r.spec.clone().unwrap_or_default();
                        vec![
                            r.id.clone(),
                            spec.realm,
                            spec.build,
                            words::rollout_state(r.state),
                            current(r).map(|s| s.name.clone()).unwrap_or_default(),
                            words::time(r.started_ms),
                            words::time(r.ended_ms),
                            r.reason.clone(),
                        ]
                    }),
                )
            })
        }
        Command::Pause { id, reason } => {
            let request = v1::PauseRolloutRequest { request_id: context.request_id(), id: id.clone(), reason };
            let rollout = context.find(&[(Kind::Rollout, &id)], context.rollouts().pause_rollout(request)).await?;
            context.printer.print("Rollout", &rollout, show)
        }
        Command::Resume { id } => {
            let request = v1::ResumeRolloutRequest { request_id: context.request_id(), id: id.clone() };
            let rollout = context.find(&[(Kind::Rollout, &id)], context.rollouts().resume_rollout(request)).await?;
            context.printer.print("Rollout", &rollout, show)
        }
        Command::Abort { id, reason, players } => {
            let request =
                v1::AbortRolloutRequest { request_id: context.request_id(), id: id.clone(), reason, choice: players };
            let rollout = context.find(&[(Kind::Rollout, &id)], context.rollouts().abort_rollout(request)).await?;
            context.printer.print("Rollout", &rollout, show)
        }
        Command::Watch { id } => watch(context, id).await,
    }
}

/// Follows a rollout: a step tree that is redrawn on a terminal, one line a change otherwise.
async fn watch(context: &Context, id: String) -> Result<(), Failure> {
    let request = v1::WatchRolloutRequest { id: id.clone() };
    let mut stream = context.find(&[(Kind::Rollout, &id)], context.rollouts().watch_rollout(request)).await?;
    let redraw = context.printer.format() == Format::Table && std::io::stdout().is_terminal();
    let follow = async {
        let (mut last, mut drawn, mut lines) = (None, 0, Vec::new());
        while let Some(rollout) = next(&mut stream).await? {
            if redraw {
                let text = show(&rollout);
                // Back over what was drawn, then clear to the end of the screen.
                let back = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
                say(&format!("{back}{text}"))?;
                drawn = text.lines().count();
            } else if context.printer.format() == Format::Table {
                for step in &rollout.steps {
                    let line = format!(
                        "{}  {:14} {:8} {}",
                        rollout.id,
                        step.name,
                        words::step_state(step.state),
                        step.outcome
                    );
                    if step.state != v1::StepState::Pending as i32 && !lines.contains(&line) {
                        say(line.trim_end())?;
                        lines.push(line);
                    }
                }
            } else {
                context.printer.print_step("Rollout", &rollout, show)?;
            }
            last = Some(rollout);
        }
        match last {
            Some(rollout) => verdict(&rollout),
            None => Err(ended(&id)),
        }
    };
    context.within(&id, follow).await
}

/// The exit code that a rollout's end deserves.
pub(crate) fn verdict(rollout: &v1::Rollout) -> Result<(), Failure> {
    match v1::RolloutState::try_from(rollout.state) {
        Ok(v1::RolloutState::Completed) => Ok(()),
        Ok(v1::RolloutState::RolledBack) => {
            Err(Failure::new(Code::RolledBack, format!("{} was rolled back: {}", rollout.id, rollout.reason)))
        }
        Ok(v1::RolloutState::Failed) => {
            Err(Failure::new(Code::Failure, format!("{} failed: {}", rollout.id, rollout.reason)))
        }
        Ok(
            v1::RolloutState::Running
            | v1::RolloutState::Paused
            | v1::RolloutState::Aborting
            | v1::RolloutState::Unspecified,
        )
        | Err(_) => Err(ended(&rollout.id)),
    }
}

/// The step that runs, or the first that has not begun.
pub(crate) fn current(rollout: &v1::Rollout) -> Option<&v1::RolloutStep> {
    let is = |state: v1::StepState| move |step: &&v1::RolloutStep| step.state == state as i32;
    rollout
        .steps
        .iter()
        .find(is(v1::StepState::Running))
        .or_else(|| rollout.steps.iter().find(is(v1::StepState::Pending)))
}

/// The step tree.
pub(crate) fn show(rollout: &v1::Rollout) -> String {
    let spec = rollout.spec.clone().unwrap_or_default();
    let mut text = facts(&[
        ("rollout", rollout.id.clone()),
        ("realm", spec.realm),
        ("build", spec.build),
        ("state", words::rollout_state(rollout.state)),
        ("blue", rollout.blue.clone()),
        ("green", rollout.green.clone()),
        ("snapshot", rollout.snapshot_id.clone()),
        ("next green", rollout.next_green.clone()),
        ("reason", rollout.reason.clone()),
    ]);
    for (index, step) in rollout.steps.iter().enumerate() {
        let branch = if index + 1 == rollout.steps.len() { "└─" } else { "├─" };
        let took = match (step.started_ms, step.ended_ms) {
            (0, _) => String::new(),
            (started, 0) => words::ago(started, words::now_ms()),
            (started, ended) => words::ago(started, ended),
        };
        let line = format!("\n{branch} {} {:14} {took:>7}  {}", mark(step.state), step.name, step.outcome);
        text.push_str(line.trim_end());
        for check in &step.checks {
            let stem = if index + 1 == rollout.steps.len() { "   " } else { "│  " };
            text.push_str(&format!("\n{stem}    {} {}", check_mark(check), check_line(check)));
        }
    }
    text
}

fn mark(state: i32) -> &'static str {
    match v1::StepState::try_from(state) {
        Ok(v1::StepState::Running) => "▶",
        Ok(v1::StepState::Done) => "✔",
        Ok(v1::StepState::Failed) => "✘",
        Ok(v1::StepState::Skipped) => "-",
        Ok(v1::StepState::Undone) => "↶",
        Ok(v1::StepState::Pending | v1::StepState::Unspecified) | Err(_) => "·",
    }
}

fn check_mark(check: &v1::Check) -> &'static str {
    match (check.ok, check.warning) {
        (true, _) => "✔",
        (false, true) => "!",
        (false, false) => "✘",
    }
}

fn check_line(check: &v1::Check) -> String {
    if check.why.is_empty() { check.name.clone() } else { format!("{}: {}", check.name, check.why) }
}

fn show_plan(plan: &v1::RolloutPlan) -> String {
    let steps = table(
        &["step", "what happens", "can be undone"],
        plan.steps.iter().map(|s| vec![s.name.clone(), s.what.clone(), s.undo.clone()]),
    );
    let checks =
        plan.checks.iter().map(|c| format!("{} {}", check_mark(c), check_line(c))).collect::<Vec<_>>().join("\n");
    format!("blue              {}\nsessions affected {}\n\n{steps}\n\n{checks}", plan.blue, plan.sessions_affected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(state: v1::RolloutState) -> v1::Rollout {
        v1::Rollout { id: "ro-1".to_owned(), state: state as i32, ..Default::default() }
    }

    #[test]
    fn the_end_decides_the_exit_code() {
        assert!(verdict(&rollout(v1::RolloutState::Completed)).is_ok());
        assert_eq!(verdict(&rollout(v1::RolloutState::RolledBack)).unwrap_err().code, Code::RolledBack);
        assert_eq!(verdict(&rollout(v1::RolloutState::Failed)).unwrap_err().code, Code::Failure);
    }

    #[test]
    fn the_tree_shows_steps_and_their_checks() {
        let step = |name: &str, state: v1::StepState| v1::RolloutStep {
            name: name.to_owned(),
            state: state as i32,
            checks: vec![v1::Check { name: "capacity".to_owned(), ok: true, ..Default::default() }],
            ..Default::default()
        };
        let mut it = rollout(v1::RolloutState::Running);
        it.steps = vec![step("preflight", v1::StepState::Done), step("stage", v1::StepState::Running)];
        let text = show(&it);
        assert!(
            text.contains("├─ ✔ preflight") && text.contains("└─ ▶ stage") && text.contains("✔ capacity"),
            "{text}"
        );
        assert_eq!(current(&it).unwrap().name, "stage");
    }
}
