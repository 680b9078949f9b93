//! What others see: the view of all servers, and each environment summed up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_types::{Clock as _, EnvironmentId, Mono, SystemClock};

use super::{FIGURES_EVERY, Supervisor};
use crate::servers::plan::Occupancy;
use crate::servers::view::{EnvironmentView, ServerState, ServersView};

impl Supervisor {
    pub(super) fn publish(&mut self) {
        let now = SystemClock.now();
        if !self.urgent && now.mono.since(self.published) < FIGURES_EVERY {
            return;
        }
        self.urgent = false;
        self.published = now.mono;
        let (running, report_timeout) = (&self.running, self.report_timeout);
        let servers: BTreeMap<_, _> = self
            .servers
            .iter_mut()
            .map(|(id, server)| {
                let wanted = running.get(&server.record.environment).map(|wanted| &**wanted);
                (id.clone(), server.view(wanted, now, report_timeout))
            })
            .collect();
        let mut view = ServersView {
            servers,
            recent_deaths: self.recent_deaths.iter().cloned().collect(),
            ..ServersView::default()
        };
        let environments: BTreeSet<EnvironmentId> = running
            .keys()
            .chain(self.stopped.keys())
            .cloned()
            .chain(self.servers.values().map(|server| server.record.environment.clone()))
            .collect();
        for environment in environments {
            if let Some(summary) = self.summary(&environment, &view, now.mono) {
                view.environments.insert(environment, summary);
            }
        }
        self.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }

    fn summary(&self, environment: &EnvironmentId, view: &ServersView, now: Mono) -> Option<EnvironmentView> {
        let wanted = self.running.get(environment);
        let members = || view.servers.values().filter(|server| server.environment == *environment);
        let realm =
            wanted.map(|wanted| &wanted.realm).or_else(|| members().next().map(|server| &server.realm))?.clone();
        let desired = wanted.map_or(0, |wanted| wanted.fleets.iter().map(|fleet| fleet.replicas).sum());
        let ready = members().filter(|server| server.state == ServerState::Ready && !server.retiring).count();
        let ready = u32::try_from(ready).unwrap_or(u32::MAX);
        let loaded =
            members().filter(|server| matches!(server.state, ServerState::Loaded | ServerState::Ready)).count();
        let problem = members().find_map(|server| {
            let is_wrong = server.build_ok == Some(false) || server.digest_ok == Some(false);
            let failing =
                || self.servers.get(&server.id).is_some_and(|known| known.exits.failing(now) || known.not_started);
            (wanted.is_some() && (is_wrong || failing())).then(|| format!("{} {}", server.id, server.reason))
        });
        let occupancy = members().fold(Occupancy::Empty, |sum, server| match (sum, server.occupancy) {
            (Occupancy::Unknown, _) | (_, Occupancy::Unknown) => Occupancy::Unknown,
            (sum, Occupancy::Empty) => sum,
            (Occupancy::Empty, more) => more,
            (Occupancy::Occupied(a), Occupancy::Occupied(b)) => Occupancy::Occupied(a.saturating_add(b)),
        });
        let stopping = self.stopped.contains_key(environment);
        Some(EnvironmentView {
            realm,
            desired,
            ready,
            loaded: u32::try_from(loaded).unwrap_or(u32::MAX),
            complete: wanted.is_some() && ready >= desired && problem.is_none(),
            problem,
            occupancy,
            stopping,
        })
    }
}
