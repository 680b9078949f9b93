//! When an environment counts as empty (invariant 9 of ARCHITECTURE.md): the directory says nobody, every gateway has
//! spoken and is at the flip's generation, and every server says nobody, in a hand-over neither. Whatever is unknown
//! counts as occupied.
//!
//! "Empty" is a permit: only this file makes it, and draining cannot end without one.

use tidegate_types::{EnvironmentId, Generation};

use crate::environment::Environment;
use crate::observe::ServerState;
use crate::realm::Realm;

/// Proof that an environment was found empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Empty {
    environment: EnvironmentId,
}

impl Empty {
    /// What was found empty.
    #[must_use]
    pub const fn environment(&self) -> &EnvironmentId {
        &self.environment
    }
}

/// Whether someone is in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupancy {
    /// Nobody, for certain.
    Empty(Empty),
    /// Someone, or nobody knows.
    Occupied {
        /// Sessions that are known of.
        sessions: u32,
        /// Reasons that are not sessions: who has not spoken, who says otherwise.
        waiting_for: Vec<String>,
    },
}

impl Realm {
    /// Whether someone is in `id`.
    #[must_use]
    pub fn occupancy_of(&self, id: &EnvironmentId) -> Occupancy {
        let empty = || Occupancy::Empty(Empty { environment: id.clone() });
        #[cfg(any(test, feature = "model"))]
        if self.sabotage.skip_drain_gate {
            return empty();
        }
        let sessions = self.observed.session_count(id);
        let Some(environment) = self.rows.environments.get(id) else { return empty() };
        let mut waiting_for = Vec::new();
        if environment.was_active {
            let generation = self.rows.drains.get(id).map_or(self.rows.routing.generation, |d| d.generation);
            self.ask_gateways(generation, &mut waiting_for);
        }
        self.ask_servers(environment, &mut waiting_for);
        if sessions == 0 && waiting_for.is_empty() {
            return empty();
        }
        Occupancy::Occupied { sessions, waiting_for }
    }

    fn ask_gateways(&self, generation: Generation, waiting_for: &mut Vec<String>) {
        #[cfg(any(test, feature = "model"))]
        if self.sabotage.skip_ack_wait {
            return;
        }
        let Some(report) = &self.observed.occupancy else {
            waiting_for.push("no gateway has reported".to_owned());
            return;
        };
        for gateway in &report.gateways {
            if !gateway.connected {
                waiting_for.push(format!("gateway {} is not connected", gateway.id));
            } else if !gateway.complete {
                waiting_for.push(format!("gateway {} has not reported all its sessions", gateway.id));
            } else if gateway.generation < generation {
                waiting_for.push(format!(
                    "gateway {} is at generation {}, not yet at {generation}",
                    gateway.id, gateway.generation
                ));
            }
        }
    }

    /// An environment that never took players needs no word of every server, but a word that someone is there counts.
    fn ask_servers(&self, environment: &Environment, waiting_for: &mut Vec<String>) {
        let Some(seen) = self.observed.servers.get(&environment.id) else {
            if environment.was_active {
                waiting_for.push("its servers have not been seen".to_owned());
            }
            return;
        };
        for server in &seen.servers {
            match (server.state, server.report) {
                // Its process was reaped: it holds nobody. Who was on it is still in the directory.
                (ServerState::Exited, _) => {}
                (_, Some(report)) if report.players == 0 && report.in_handover == 0 => {}
                (_, Some(report)) => waiting_for.push(format!(
                    "server {} says it holds {} players, {} in a hand-over",
                    server.id, report.players, report.in_handover
                )),
                (_, None) if environment.was_active => {
                    waiting_for.push(format!("server {} has not said how many players it holds", server.id));
                }
                (_, None) => {}
            }
        }
    }
}
