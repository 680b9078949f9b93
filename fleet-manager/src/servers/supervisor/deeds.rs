//! Doing what the plan says.

use rustix::process::Signal;
use tidegate_proto::v1::{self, world_directive};
use tidegate_types::Mono;
use uuid::Uuid;

use super::Supervisor;
use super::launch::{launch, save, signal, watch_child};
use crate::servers::plan::{Action, Ending};
use crate::servers::process;
use crate::servers::record::{self, Record, file_stem};
use crate::servers::server::{Live, Server};
use crate::servers::spec::Slot;

impl Supervisor {
    /// The one place where a plan becomes deeds.
    pub(super) fn act(&mut self, action: Action, now: Mono) {
        match action {
            Action::Start(slot) => self.start(&slot, now),
            Action::Retire(slot) => self.with_live(&slot, |live| live.retiring = Some(now)),
            Action::Keep(slot) => self.with_live(&slot, |live| live.retiring = None),
            Action::Ask { slot, within } => self.with_live(&slot, |live| {
                let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                live.told_to_end = true;
                // Without a stream the next plan sends a signal.
                if live.direct(world_directive::Message::Stop(v1::Stop { within_ms })) {
                    live.ending = Some(Ending::Asked { until: now + within });
                }
            }),
            Action::Terminate(slot) => self.with_live(&slot, |live| {
                live.told_to_end = true;
                live.ending = Some(Ending::Terminated { at: now });
                signal(live, Signal::TERM);
            }),
            Action::Kill { slot, why } => self.with_live(&slot, |live| {
                live.killed_because = Some(why);
                live.ending = Some(Ending::Killed);
                signal(live, Signal::KILL);
            }),
            Action::Forget(slot) => {
                let Ok(id) = slot.server_id() else { return };
                if let Err(error) = self.records.remove(&id) {
                    tracing::warn!(server_id = %id, %error, "record could not be removed");
                }
                self.servers.remove(&id);
            }
        }
    }

    fn with_live(&mut self, slot: &Slot, deed: impl FnOnce(&mut Live)) {
        let server = self.servers.values_mut().find(|server| server.slot == *slot);
        if let Some(live) = server.and_then(|server| server.process.as_mut()) {
            deed(live);
        }
    }

    fn start(&mut self, slot: &Slot, now: Mono) {
        let Some(wanted) = self.running.get(&slot.environment).cloned() else { return };
        let (Some(fleet), Ok(id)) = (wanted.fleet(&slot.fleet), slot.server_id()) else { return };
        let restarts = self.servers.get(&id).map_or(0, |server| server.record.restarts + 1);
        let record = Record {
            version: record::VERSION,
            server: id.clone(),
            realm: wanted.realm.clone(),
            environment: slot.environment.clone(),
            fleet: slot.fleet.clone(),
            ordinal: slot.ordinal,
            build: wanted.build.clone(),
            spawn: Uuid::new_v4(),
            process: None,
            zones: fleet.zones.clone(),
            instance_kinds: fleet.instance_kinds.clone(),
            capacity: fleet.capacity,
            registered: None,
            restarts,
        };
        let log = process::log_path(&self.logs, &file_stem(&id));
        let server = self.servers.entry(id.clone()).or_insert_with(|| Server::new(record.clone(), log));
        server.record = record;
        let started = launch(&self.options, &self.pki, &self.records, &wanted, server);
        match started {
            Ok((child, process)) => {
                tracing::info!(server_id = %id, pid = process.id.pid, restarts, "world server started");
                tidegate_events::event!("server_started", server = %id, environment = %slot.environment, pid = process.id.pid);
                server.not_started = false;
                server.record.process = Some(process.id.clone());
                save(&self.records, &server.record);
                watch_child(id, process.id.pid, child, self.exits_in.clone());
                server.process = Some(Live::new(process, now, false));
            }
            Err(why) => {
                tracing::warn!(server_id = %id, reason = why, "world server could not be started");
                server.last_end = why;
                server.not_started = true;
                server.exits.record_not_started(now, &self.limits);
            }
        }
    }
}
