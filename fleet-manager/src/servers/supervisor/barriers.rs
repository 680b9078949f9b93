//! Bringing an environment's servers to stand still, and letting them go on.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_proto::v1::{self, world_directive};
use tidegate_types::{Clock as _, EnvironmentId, ServerId, SnapshotId, SystemClock};
use tokio::sync::oneshot;

use super::Supervisor;
use crate::servers::barrier::Barrier;
use crate::servers::server::Server;
use crate::servers::{BarrierZones, ServersError};

impl Supervisor {
    pub(super) fn barrier(
        &mut self,
        environment: EnvironmentId,
        snapshot: SnapshotId,
        timeout: Duration,
        reply: oneshot::Sender<Result<Vec<BarrierZones>, ServersError>>,
    ) {
        let now = SystemClock.now().mono;
        let members = || self.servers.values().filter(|server| server.record.environment == environment);
        let away = members().find(|server| server.process.as_ref().is_none_or(|live| live.stream.is_none()));
        let why = if let Some(barrier) = self.barriers.get(&environment) {
            Some(format!("{} is being taken of this environment", barrier.snapshot))
        } else if let Some(away) = away {
            Some(format!("{} is not connected", away.record.server))
        } else if members().next().is_none() {
            Some("the environment has no running servers".to_owned())
        } else {
            None
        };
        if let Some(why) = why {
            let _ = reply.send(Err(ServersError::Barrier { why }));
            return;
        }
        let ids: BTreeSet<ServerId> = members().map(|server| server.record.server.clone()).collect();
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let barrier = Barrier::new(snapshot.clone(), now + timeout, ids.clone(), reply);
        self.barriers.insert(environment.clone(), barrier);
        for id in &ids {
            let directive = v1::Barrier { snapshot_id: snapshot.to_string(), timeout_ms };
            let live = self.servers.get_mut(id).and_then(|server| server.process.as_mut());
            let sent = live.is_some_and(|live| live.direct(world_directive::Message::Barrier(directive)));
            if !sent {
                self.break_barrier(&environment, id, "does not read its stream");
                return;
            }
        }
    }

    /// A server of the environment does not stand still (any more).
    pub(super) fn break_barrier(&mut self, environment: &EnvironmentId, server: &ServerId, why: &str) {
        if let Some(barrier) = self.barriers.get_mut(environment)
            && barrier.broken_by(server, why)
        {
            self.drop_barrier(environment);
        }
    }

    pub(super) fn release(&mut self, environment: &EnvironmentId, snapshot: &SnapshotId) -> bool {
        match self.barriers.get(environment) {
            Some(barrier) if barrier.snapshot == *snapshot => {
                let held = barrier.held(SystemClock.now().mono);
                self.drop_barrier(environment);
                held
            }
            _ => false,
        }
    }

    pub(super) fn drop_barrier(&mut self, environment: &EnvironmentId) {
        let Some(barrier) = self.barriers.remove(environment) else { return };
        for id in barrier.servers() {
            if let Some(server) = self.servers.get_mut(id) {
                release_one(server, &barrier.snapshot);
            }
        }
    }
}

/// Lets one server go on.
pub(super) fn release_one(server: &mut Server, snapshot: &SnapshotId) {
    if let Some(live) = &mut server.process {
        // It may have been too busy saving to speak.
        live.quiet.over();
        live.direct(world_directive::Message::BarrierRelease(v1::BarrierRelease { snapshot_id: snapshot.to_string() }));
    }
}
