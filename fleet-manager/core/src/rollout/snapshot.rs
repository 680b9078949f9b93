//! Step 8: a consistent cut of the new blue, read back. Tried a few times before it asks for an operator.

use tidegate_types::{RolloutId, Timestamp};

use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::refused::Reason;
use crate::rollout::{Progress, Rollout, StepName};
use crate::snapshot::SnapshotState;

impl Realm {
    pub(super) fn step_snapshot(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        let snapshot = rollout.snapshot.clone();
        match self.rows.snapshots.get(&snapshot).map(|s| &s.state) {
            None => self.try_snapshot(now, id, out),
            Some(SnapshotState::Taking { .. }) => Progress::wait(format!("taking snapshot {snapshot}")),
            Some(SnapshotState::Stored(facts)) if facts.verified => {
                Progress::Done(format!("snapshot {snapshot}, {} blobs, {} bytes", facts.blobs, facts.bytes))
            }
            Some(SnapshotState::Stored(facts)) => {
                Progress::Fail(format!("snapshot {snapshot} could not be read back: {}", facts.problem))
            }
            Some(SnapshotState::Deleted) => Progress::Done(format!("snapshot {snapshot} was taken, and deleted since")),
            Some(SnapshotState::Failed { attempt, reason }) => {
                let (attempt, reason) = (*attempt, reason.clone());
                match rollout.retry(StepName::Snapshot, now, attempt, &self.rows.spec.limits, &reason) {
                    Some(progress) => progress,
                    None => self.try_snapshot(now, id, out),
                }
            }
        }
    }

    fn try_snapshot(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        let (green, snapshot) = (rollout.green.clone(), rollout.snapshot.clone());
        match self.take_snapshot(now, &green, snapshot.clone(), Some(id), out) {
            Ok(()) => Progress::wait(format!("taking snapshot {snapshot}")),
            // Someone else's cut of the same world; ours comes after it.
            Err(refused) if refused.reason == Reason::SnapshotRunning => Progress::wait(refused.message),
            Err(refused) => Progress::Fail(refused.message),
        }
    }
}

impl Rollout {
    /// What to do about an attempt that failed: wait, give up, or (`None`) try again now.
    ///
    /// `attempt` counts all attempts ever; an operator's resume gives as many again.
    pub(super) fn retry(
        &self,
        name: StepName,
        now: Timestamp,
        attempt: u32,
        limits: &crate::spec::Limits,
        reason: &str,
    ) -> Option<Progress> {
        let step = self.step(name)?;
        if attempt >= step.attempts.saturating_mul(limits.attempts) {
            return Some(Progress::Fail(format!("{reason} ({attempt} attempts)")));
        }
        let outcome = format!("attempt {attempt} failed: {reason}");
        match step.until {
            Some(until) if step.outcome == outcome && until <= now => None,
            Some(until) if step.outcome == outcome => Some(Progress::Wait { outcome, until: Some(until) }),
            Some(_) | None => Some(Progress::Wait { outcome, until: Some(now + limits.retry) }),
        }
    }
}
