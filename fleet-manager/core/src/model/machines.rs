//! The machines of the model: world server processes that start, load, serve, die and come back, and the answers to what
//! takes a while.

use std::time::Duration;

use tidegate_types::{InstanceId, ServerId, Timestamp};

use crate::effect::ServersWanted;
use crate::input::Event;
use crate::model::world::{Deployment, Process, World};
use crate::observe::{Assets, EnvironmentObservation, ServerObservation, ServerReport, ServerState};

impl World {
    /// The machines alone, for a simulation that brings gateways and players of its own: world servers, smoke tests,
    /// snapshots, clones. `report` is the word of a server that serves.
    pub fn machines(
        &mut self,
        now: Timestamp,
        mut report: impl FnMut(&ServerObservation) -> Option<ServerReport>,
    ) -> Vec<Event> {
        self.run_processes(now);
        let mut events = Vec::new();
        let due: Vec<(Timestamp, Event)> = std::mem::take(&mut self.due);
        for (at, event) in due {
            if now < at {
                self.due.push((at, event));
                continue;
            }
            // Now and then an answer comes twice.
            if self.dice.per_mille(100) {
                events.push(event.clone());
            }
            events.push(event);
        }
        for (environment, deployment) in &self.deployments {
            let mut servers = Vec::new();
            for process in &deployment.processes {
                let mut seen = process.seen.clone();
                let silent = self.dice.per_mille(self.faults.silent);
                seen.report = if seen.state == ServerState::Serving && !silent { report(&seen) } else { None };
                servers.push(seen);
            }
            events.push(Event::ServersObserved(EnvironmentObservation { environment: environment.clone(), servers }));
        }
        events
    }

    /// A server's process dies, and will be started again; nothing happens when there is none.
    pub fn crash_server(&mut self, now: Timestamp, server: &ServerId) {
        let Self { deployments, count, .. } = self;
        let mut processes = deployments.values_mut().flat_map(|d| &mut d.processes);
        if let Some(process) = processes.find(|p| p.seen.id == *server && p.seen.state != ServerState::Exited) {
            process.die(now, count);
        }
    }

    pub(super) fn ensure(&mut self, now: Timestamp, wanted: ServersWanted) {
        let faulty = self.faults.build.as_ref() == Some(&wanted.build.version);
        let old = self.deployments.remove(&wanted.environment);
        let mut processes = old.map(|d| d.processes).unwrap_or_default();
        for fleet in &wanted.fleets {
            for n in 0..fleet.replicas {
                let name: ServerId =
                    format!("{}-{}-{n}", wanted.environment, fleet.name).parse().expect("a server's id");
                if processes.iter().any(|p| p.seen.id == name) {
                    continue;
                }
                let first = n == 0 && faulty;
                self.count += 1;
                let version = if first && self.faults.wrong_build { "0.0.1".parse().ok() } else { None };
                let digest = wanted.build.assets_digest.unwrap_or_default();
                processes.push(Process {
                    next: if first && self.faults.never_ready {
                        Timestamp(i64::MAX)
                    } else {
                        now + Duration::from_millis(500 + self.dice.below(1500))
                    },
                    seen: ServerObservation {
                        id: name.clone(),
                        fleet: fleet.name.clone(),
                        state: ServerState::Starting,
                        instance: Some(instance(self.count)),
                        address: Some(format!("127.0.0.1:{}", 1000 + self.count)),
                        tls_name: format!("{name}.world.tidegate"),
                        build: version.or_else(|| Some(wanted.build.version.clone())),
                        assets: if first && self.faults.wrong_digest {
                            Assets::Loaded([0; 32])
                        } else {
                            Assets::Loaded(digest)
                        },
                        zones: fleet.zones.clone(),
                        instance_kinds: fleet.instance_kinds.clone(),
                        capacity: fleet.capacity,
                        restarts: 0,
                        report: None,
                        reason: String::new(),
                    },
                });
            }
        }
        self.deployments.insert(wanted.environment.clone(), Deployment { wanted, processes });
    }

    fn run_processes(&mut self, now: Timestamp) {
        for deployment in self.deployments.values_mut() {
            for process in &mut deployment.processes {
                if process.seen.state == ServerState::Serving && self.dice.per_mille(self.faults.crashes) {
                    process.die(now, &mut self.count);
                } else if process.next <= now {
                    process.next = now + Duration::from_millis(200);
                    let seen = &mut process.seen;
                    seen.state = match seen.state {
                        ServerState::Exited => ServerState::Starting,
                        ServerState::Starting => ServerState::Loading,
                        ServerState::Loading => ServerState::Loaded,
                        ServerState::Loaded if deployment.wanted.serve => ServerState::Serving,
                        other @ (ServerState::Loaded
                        | ServerState::Serving
                        | ServerState::Unreachable
                        | ServerState::Stopping) => other,
                    };
                }
            }
        }
    }
}

impl Process {
    /// The next run of it will come in half a second.
    fn die(&mut self, now: Timestamp, count: &mut u128) {
        let seen = &mut self.seen;
        seen.state = ServerState::Exited;
        seen.report = None;
        seen.restarts += 1;
        *count += 1;
        seen.instance = Some(instance(*count));
        seen.address = Some(format!("127.0.0.1:{}", 1000 + *count));
        self.next = now + Duration::from_millis(500);
    }
}

/// A process's name from a count. The uuid crate is not one of this crate's, so it goes by the bytes.
fn instance(count: u128) -> InstanceId {
    InstanceId::from_slice(&count.to_be_bytes()).expect("16 bytes")
}
