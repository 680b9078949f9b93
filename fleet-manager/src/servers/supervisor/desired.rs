//! Taking what is wanted, after checking that it can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_types::ServerId;

use super::Supervisor;
use crate::servers::ServersError;
use crate::servers::plan::Wanted;
use crate::servers::spec::{EnvironmentServers, Slot};

impl Supervisor {
    pub(super) fn ensure(&mut self, mut servers: EnvironmentServers) -> Result<(), ServersError> {
        servers.database = std::path::absolute(&servers.database)
            .map_err(|source| ServersError::Io { path: servers.database.clone(), source })?;
        if let Some(assets) = &mut servers.assets {
            assets.path = std::path::absolute(&assets.path)
                .map_err(|source| ServersError::Io { path: assets.path.clone(), source })?;
        }
        self.check(&servers)?;
        let environment = servers.environment.clone();
        if let Some(stop) = self.stopped.remove(&environment) {
            for waiter in stop.waiters {
                let _ = waiter.send(Err(ServersError::WantedAgain));
            }
        }
        let servers = Arc::new(servers);
        let before = self.running.insert(environment.clone(), Arc::clone(&servers));
        if before.as_ref() != Some(&servers) {
            self.urgent = true;
        }
        for server in self.servers.values_mut().filter(|server| server.record.environment == environment) {
            if before.is_none() {
                server.stage(Some(&servers));
            } else {
                server.serve(servers.serve);
            }
        }
        Ok(())
    }

    /// Refuses what cannot be run, before anything of it is.
    fn check(&self, servers: &EnvironmentServers) -> Result<(), ServersError> {
        let invalid = |field, why: String| ServersError::Invalid { field, why };
        if servers.command.is_empty() {
            return Err(invalid("command", "is empty".to_owned()));
        }
        let mut ids: BTreeMap<ServerId, Slot> = BTreeMap::new();
        let others = self.running.values().filter(|other| other.environment != servers.environment);
        for environment in others.map(|other| &**other).chain([servers]) {
            for fleet in &environment.fleets {
                for ordinal in 1..=fleet.replicas {
                    let slot =
                        Slot { environment: environment.environment.clone(), fleet: fleet.name.clone(), ordinal };
                    let id = slot.server_id().map_err(|e| invalid("fleets", e.to_string()))?;
                    if ids.len() >= self.options.config.limit as usize {
                        let wanted = ids.len() + 1;
                        return Err(ServersError::TooMany { wanted, limit: self.options.config.limit });
                    }
                    if let Some(other) = ids.insert(id.clone(), slot) {
                        let why =
                            format!("server id \"{id}\" is taken by fleet {} of {}", other.fleet, other.environment);
                        return Err(invalid("fleets", why));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the plan compares with.
    pub(super) fn wanted(&self) -> Wanted {
        let fleets = self.running.values().flat_map(|servers| {
            servers.fleets.iter().map(|fleet| ((servers.environment.clone(), fleet.name.clone()), fleet.replicas))
        });
        let stopped = self.stopped.iter().map(|(environment, stop)| (environment.clone(), stop.within));
        Wanted { fleets: fleets.collect(), stopped: stopped.collect() }
    }
}
