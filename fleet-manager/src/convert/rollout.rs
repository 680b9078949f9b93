//! Rollouts, their steps and checks.

use std::time::Duration;

use fleet_core::Check;
use fleet_core::plan::Plan;
use fleet_core::rollback::Choice;
use fleet_core::rollout::{Rollout, RolloutSpec, RolloutState, Step, StepState};
use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_types::RealmId;

use super::{drain, millis, moment};

/// How long green must be without a crash when the request does not say.
const STABLE: Duration = Duration::from_secs(10);

/// A rollout with its steps.
#[must_use]
pub fn message(realm: &RealmId, rollout: &Rollout) -> v1::Rollout {
    let state = match rollout.state {
        RolloutState::Running => v1::RolloutState::Running,
        RolloutState::Paused => v1::RolloutState::Paused,
        RolloutState::Completed => v1::RolloutState::Completed,
        RolloutState::Failed => v1::RolloutState::Failed,
        RolloutState::RolledBack => v1::RolloutState::RolledBack,
        RolloutState::Aborting { .. } => v1::RolloutState::Aborting,
    };
    // Ids are reserved from the beginning, but name nothing before their step has begun, or when it is not needed.
    let begun = |name: &str| {
        rollout.steps.iter().any(|s| s.name.as_str() == name && s.started.is_some() && s.state != StepState::Skipped)
    };
    let when = |begun: bool, id: String| if begun { id } else { String::new() };
    v1::Rollout {
        id: rollout.id.to_string(),
        spec: Some(spec(realm, &rollout.spec)),
        state: state.into(),
        steps: rollout.steps.iter().map(step).collect(),
        blue: rollout.blue.as_ref().map(ToString::to_string).unwrap_or_default(),
        green: when(begun("stage"), rollout.green.to_string()),
        next_green: when(begun("clone"), rollout.next_green.to_string()),
        snapshot_id: when(begun("snapshot"), rollout.snapshot.to_string()),
        reason: rollout.reason.clone(),
        started_ms: rollout.started.0,
        ended_ms: moment(rollout.ended),
        generation: rollout.generation.0,
        flip_confirm_us: rollout.flip_confirm_us.unwrap_or(0),
        flip_confirmed_at_ms: moment(rollout.flip_confirmed),
    }
}

fn spec(realm: &RealmId, spec: &RolloutSpec) -> v1::RolloutSpec {
    v1::RolloutSpec {
        realm: realm.to_string(),
        build: spec.build.version.to_string(),
        drain: Some(drain::policy(&spec.drain)),
        stable_ms: millis(spec.stable),
        next_build: spec.next_build.as_ref().map(|b| b.version.to_string()).unwrap_or_default(),
        skip_clone: spec.skip_clone,
        reason: spec.reason.clone(),
        stage_timeout_ms: spec.stage_timeout.map_or(0, millis),
    }
}

fn step(step: &Step) -> v1::RolloutStep {
    let state = match step.state {
        StepState::Pending => v1::StepState::Pending,
        StepState::Running => v1::StepState::Running,
        StepState::Done => v1::StepState::Done,
        StepState::Failed => v1::StepState::Failed,
        StepState::Skipped => v1::StepState::Skipped,
        StepState::Undone => v1::StepState::Undone,
    };
    v1::RolloutStep {
        name: step.name.as_str().to_owned(),
        state: state.into(),
        started_ms: moment(step.started),
        ended_ms: moment(step.ended),
        outcome: step.outcome.clone(),
        checks: step.checks.iter().map(check).collect(),
        attempts: step.attempts,
    }
}

/// One line of a checklist.
#[must_use]
pub fn check(check: &Check) -> v1::Check {
    v1::Check { name: check.name.clone(), ok: check.ok, warning: check.warning, why: check.why.clone() }
}

/// How long green must be without a crash.
#[must_use]
pub const fn stable(ms: u64) -> Duration {
    if ms == 0 { STABLE } else { Duration::from_millis(ms) }
}

/// What happens to players on the environment that is rolled back.
///
/// # Errors
/// Not set, or an unknown value.
pub fn read_choice(value: i32, deadline_ms: u64) -> Result<Choice, BadField> {
    match v1::RollbackChoice::try_from(value) {
        Ok(v1::RollbackChoice::Finish) => Ok(Choice::Finish),
        Ok(v1::RollbackChoice::NextBoundary) => Ok(Choice::NextBoundary),
        Ok(v1::RollbackChoice::Force) => Ok(Choice::Force { deadline: Duration::from_millis(deadline_ms) }),
        Ok(v1::RollbackChoice::Freeze) => Ok(Choice::Freeze),
        Ok(v1::RollbackChoice::Unspecified) => {
            Err(BadField::new("choice", "is not set: finish, next-boundary, force or freeze"))
        }
        Err(_) => Err(BadField::new("choice", format!("has the unknown value {value}"))),
    }
}

/// The choice of an abort, as a word.
///
/// # Errors
/// An unknown word.
pub fn read_abort_choice(word: &str) -> Result<Choice, BadField> {
    match word {
        "" | "next-boundary" => Ok(Choice::NextBoundary),
        "finish" => Ok(Choice::Finish),
        "force" => Ok(Choice::Force { deadline: Duration::ZERO }),
        _ => Err(BadField::new("choice", format!("\"{word}\" is none of finish, next-boundary, force"))),
    }
}

/// The dry run of a rollout.
#[must_use]
pub fn plan(plan: &Plan) -> v1::RolloutPlan {
    let steps = plan.steps.iter().map(|step| v1::PlannedStep {
        name: step.name.as_str().to_owned(),
        what: step.what.clone(),
        undo: step.undo.clone(),
    });
    v1::RolloutPlan {
        steps: steps.collect(),
        checks: plan.checks.iter().map(check).collect(),
        sessions_affected: plan.sessions_affected,
        blue: plan.blue.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
