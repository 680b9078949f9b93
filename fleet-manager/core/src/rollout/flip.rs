//! Step 4: new sessions go to green. A server that restarts just now, or a freeze window, is waited for a while; what
//! cannot change by waiting fails at once.

use std::time::Duration;

use tidegate_types::{RolloutId, Timestamp};

use crate::drain::run::human;
use crate::environment::Phase;
use crate::flip::Direction;
use crate::outcome::Outcome;
use crate::realm::Realm;
use crate::refused::Reason;
use crate::rollout::{Progress, RolloutState};
use crate::routing::FlipState;

/// Green must have stood in the table for this long, so that the gateways' links to its servers are up when players come.
const LEAD: Duration = Duration::from_millis(500);

/// What the step says meanwhile.
const LEADING: &str = "the gateways make their links to green";

impl Realm {
    pub(super) fn step_flip(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        match rollout.flip {
            None => self.try_flip(now, id, out),
            Some(generation) => match &self.rows.routing.flip {
                Some(flip) if flip.generation == generation => match &flip.state {
                    FlipState::Awaiting { .. } => Progress::wait("the gateways have been told"),
                    FlipState::Confirmed { confirm_us, .. } => {
                        Progress::Done(format!("confirmed by every gateway in {confirm_us} µs"))
                    }
                    // It stands. The drain cannot end before these have spoken, so going on loses nothing.
                    FlipState::Unconfirmed { missing, .. } => {
                        let missing: Vec<&str> = missing.iter().map(AsRef::as_ref).collect();
                        Progress::Done(format!("not confirmed by {}; they are asked on", missing.join(", ")))
                    }
                },
                Some(_) | None => Progress::Done("another flip came after it".to_owned()),
            },
        }
    }

    fn try_flip(&mut self, now: Timestamp, id: &RolloutId, out: &mut Outcome) -> Progress {
        let rollout = &self.rows.rollouts[id];
        if rollout.blue != self.rows.routing.accepting {
            return Progress::Fail("the accepting environment has changed since the rollout began".to_owned());
        }
        if rollout.state == RolloutState::Paused {
            return Progress::wait("paused before the flip");
        }
        let green = rollout.green.clone();
        let waited_until = rollout.current().filter(|s| s.outcome != LEADING).and_then(|s| s.until);
        if let Some(environment) = self.rows.environments.get(&green)
            && environment.phase == Phase::Ready
            && now < environment.since + LEAD
        {
            return Progress::Wait { outcome: LEADING.to_owned(), until: Some(environment.since + LEAD) };
        }
        let reason = format!("rollout {id}: {}", rollout.spec.reason);
        match self.may_flip(now, &green, Direction::Forward) {
            Ok(permit) => {
                let generation = self.apply_flip(now, permit, None, reason, Some(id), out);
                self.edit_rollout(id, out, |r| r.flip = Some(generation));
                Progress::wait("the gateways have been told")
            }
            Err(refused) => {
                let passes = matches!(
                    refused.reason,
                    Reason::NotReady
                        | Reason::FlipInProgress
                        | Reason::FreezeWindow
                        | Reason::Frozen
                        | Reason::NoCapacity
                );
                let limit = self.rows.spec.limits.flip_wait;
                // Time in which nobody watched does not count.
                let awake = self.observed.awake.unwrap_or(now);
                let until = waited_until.unwrap_or(now + limit).max(awake + limit);
                if passes && now < until {
                    return Progress::Wait { outcome: refused.message, until: Some(until) };
                }
                let waited = if passes { format!(" (for {})", human(limit)) } else { String::new() };
                Progress::Fail(format!("{}{waited}; {}", refused.message, refused.what_to_do))
            }
        }
    }
}
