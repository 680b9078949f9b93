//! Step 6: green runs without a crash for a while. A crash starts the watch again; too many ask for an operator. After a
//! restart of the manager the watch begins anew, because nobody watched meanwhile.

use tidegate_types::{RolloutId, Timestamp};

use crate::observe::{ServerState, StableWatch};
use crate::realm::Realm;
use crate::rollout::Progress;

/// More crashes than this in one watch are not an accident.
const MOST_CRASHES: u32 = 3;

impl Realm {
    pub(super) fn step_verify_stable(&mut self, now: Timestamp, id: &RolloutId) -> Progress {
        let rollout = &self.rows.rollouts[id];
        let (green, stable) = (&rollout.green, rollout.spec.stable);
        let Some(seen) = self.observed.servers.get(green) else {
            return Progress::wait(format!("the servers of environment {green} have not been seen yet"));
        };
        let restarts: u32 = seen.servers.iter().map(|s| s.restarts).sum();
        let down = seen.servers.iter().find(|s| matches!(s.state, ServerState::Exited | ServerState::Starting));
        let down = down.map(|s| s.id.clone());
        let watch = self.observed.stable.entry(id.clone()).or_insert(StableWatch { since: now, restarts, crashes: 0 });
        if restarts > watch.restarts {
            watch.crashes += restarts - watch.restarts;
        }
        if restarts != watch.restarts || down.is_some() {
            watch.since = now;
        }
        watch.restarts = restarts;
        if watch.crashes > MOST_CRASHES {
            return Progress::Fail(format!("environment {green}: {} crashes since its drain ended", watch.crashes));
        }
        let until = watch.since + stable;
        if let Some(down) = down {
            return Progress::wait(format!("server {down} is down"));
        }
        if until <= now {
            return Progress::Done(format!("no crash for {}", crate::drain::run::human(stable)));
        }
        Progress::Wait { outcome: format!("watching environment {green} for crashes"), until: Some(until) }
    }
}
