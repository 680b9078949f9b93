//! What world servers say on their streams, and what they are answered.

use tidegate_types::{Clock as _, ServerId, SystemClock};

use super::{Supervisor, launch};
use crate::servers::messages::{Registration, RegistrationRefused, Report};
use crate::servers::spec::SavedZone;

impl Supervisor {
    pub(super) fn register(&mut self, registration: Registration) -> Result<u64, RegistrationRefused> {
        let id = registration.server.clone();
        let Some(server) = self.servers.get_mut(&id) else {
            return Err(RegistrationRefused::UnknownServer(id));
        };
        server.check(&registration)?;
        let token = self.next_stream;
        self.next_stream += 1;
        let wanted = self.running.get(&server.record.environment).cloned();
        let before = server.record.registered.clone();
        tracing::info!(server_id = %id, instance = %registration.instance, build = %registration.build, "world server registered");
        server.register(registration, token, wanted.as_deref(), SystemClock.now());
        if server.record.registered != before {
            launch::save(&self.records, &server.record);
        }
        self.urgent = true;
        Ok(token)
    }

    pub(super) fn report(&mut self, id: &ServerId, stream: u64, report: Report) {
        let now = SystemClock.now();
        let Some(server) = self.servers.get_mut(id) else { return };
        let environment = server.record.environment.clone();
        let Some(live) = &mut server.process else { return };
        if live.stream.as_ref().is_none_or(|open| open.token != stream) {
            return;
        }
        live.heard(now);
        match report {
            Report::Status(status) => {
                self.urgent |= live.status(status, now);
                if live.serves()
                    && let Some((died, silent)) = server.out.take()
                {
                    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                    let (silent_ms, out_ms) = (ms(silent), ms(silent + now.mono.since(died)));
                    tracing::info!(server_id = %id, silent_ms, out_ms, "world server serves again");
                }
            }
            Report::AssetsLoaded { digest, error } => {
                let wanted = self.running.get(&environment).cloned();
                server.assets_loaded(&digest, &error, wanted.as_deref());
                self.urgent = true;
            }
            Report::ZonesLoaded { error } => {
                let serve = self.running.get(&environment).is_some_and(|wanted| wanted.serve);
                server.zones_loaded(&error, serve);
                self.urgent = true;
            }
            Report::BarrierReached { snapshot, zones } => {
                let zones = zones
                    .into_iter()
                    .map(|(zone, state, format)| SavedZone { server: id.clone(), zone, state, format })
                    .collect();
                match self.barriers.get_mut(&environment) {
                    Some(barrier) if barrier.snapshot == snapshot => barrier.reached(id, zones),
                    // A barrier that has been given up: it must not stand still until its time-out.
                    _ => super::barriers::release_one(server, &snapshot),
                }
            }
            Report::BarrierFailed { snapshot, error } => {
                if self.barriers.get(&environment).is_some_and(|barrier| barrier.snapshot == snapshot) {
                    self.break_barrier(&environment, id, &format!("could not stand still: {error}"));
                }
            }
        }
    }

    pub(super) fn stream_ended(&mut self, id: &ServerId, stream: u64) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let environment = server.record.environment.clone();
        let Some(live) = &mut server.process else { return };
        if live.stream.as_ref().is_some_and(|open| open.token == stream) {
            live.stream = None;
            self.urgent = true;
            self.break_barrier(&environment, id, "lost its stream to the manager");
        }
    }
}
