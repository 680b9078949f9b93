//! The model world without its own manager, for a simulation that brings the real one: tables and commands come from
//! outside, processes start and die at its word, and what only the world itself can know is told.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_types::{EnvironmentId, InstanceId, ServerId, SessionId, ZoneId};

use super::servers::{Mode, Process};
use super::{Setup, World};
use crate::input::{CommandAction, Input, SessionCommand};
use crate::message::Who;
use crate::table::RealmTable;

/// What a world without its own manager keeps for the one outside.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The gateway's last table, on its disk.
    disk: Option<RealmTable>,
    landed: Vec<Landed>,
    refused: Vec<SessionId>,
}

/// A new session has reached a world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    /// Who.
    pub who: Who,
    /// Where.
    pub environment: EnvironmentId,
}

/// A run of a world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProcess {
    /// The server.
    pub id: ServerId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// The run.
    pub instance: InstanceId,
    /// Shared zones it serves. Every server of the model hosts dungeons.
    pub zones: Vec<ZoneId>,
    /// Most players it takes.
    pub capacity: u32,
}

/// A world server's own word about who is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// Held in whatever way.
    pub players: u32,
    /// Of these, parked.
    pub parked: u32,
    /// Of these, frozen or prepared.
    pub in_handover: u32,
}

impl World {
    /// A world without a manager and without processes.
    #[must_use]
    pub fn apart(setup: &Setup) -> Self {
        Self { apart: Some(Apart::default()), ..Self::empty(setup, 1, BTreeMap::new()) }
    }

    /// A table comes from the manager; the gateway keeps the newest on its disk.
    pub fn table_comes(&mut self, table: RealmTable) {
        if let Some(apart) = &mut self.apart
            && apart.disk.as_ref().is_none_or(|disk| disk.generation() < table.generation())
        {
            apart.disk = Some(table.clone());
        }
        self.input(Input::Table(table));
    }

    /// True when the world has no manager: the table on the gateway's disk was given to it, if there is one.
    pub(super) fn table_from_disk(&mut self) -> bool {
        let Some(apart) = &self.apart else { return false };
        if let Some(table) = apart.disk.clone() {
            self.input(Input::Table(table));
        }
        true
    }

    /// A command comes from the manager. What it names may happen to these sessions from now on.
    pub fn command_comes(&mut self, command: SessionCommand) {
        let cause = match &command.action {
            CommandAction::Move { cause, .. } => Some(*cause),
            CommandAction::Kick { .. } | CommandAction::Notify { .. } => None,
        };
        if let Some(cause) = cause {
            let rows = self.core().rows();
            for row in rows.into_iter().filter(|row| command.sessions.contains(&row.session)) {
                self.allow_boundary(&row.who, cause);
            }
        }
        self.input(Input::Command(command));
    }

    /// A process starts; a run of it that still lives dies first.
    pub fn start_process(&mut self, new: NewProcess) {
        self.kill(&new.id);
        let unreported = self.processes.get_mut(&new.id).map(|old| std::mem::take(&mut old.unreported));
        let NewProcess { id, environment, instance, zones, capacity } = new;
        let mut process = Process::new(id.clone(), environment, 0, zones, capacity);
        process.run = instance;
        process.unreported = unreported.unwrap_or_default();
        self.processes.insert(id, process);
    }

    /// A process dies.
    pub fn kill_process(&mut self, server: &ServerId) {
        self.note(|| format!("* {server} dies"));
        self.kill(server);
    }

    /// The run of a server that lives.
    #[must_use]
    pub fn running(&self, server: &ServerId) -> Option<InstanceId> {
        self.processes.get(server).filter(|p| p.alive).map(|p| p.run)
    }

    /// The servers that live.
    #[must_use]
    pub fn servers(&self) -> Vec<(ServerId, EnvironmentId)> {
        self.processes.values().filter(|p| p.alive).map(|p| (p.id.clone(), p.environment.clone())).collect()
    }

    /// Runs that have died since the last call.
    pub fn take_deaths(&mut self) -> Vec<(ServerId, InstanceId)> {
        let processes = self.processes.values_mut();
        processes.flat_map(|p| std::mem::take(&mut p.unreported).into_iter().map(|run| (p.id.clone(), run))).collect()
    }

    /// What a server says of itself; `None`: it does not live.
    #[must_use]
    pub fn presence(&self, server: &ServerId) -> Option<Presence> {
        let process = self.processes.get(server).filter(|p| p.alive)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Presence {
            players: count(process.held.len()),
            parked: count(process.held.values().filter(|h| h.parked).count()),
            in_handover: count(process.held.values().filter(|h| h.mode != Mode::Live).count()),
        })
    }

    /// Who is truly in each environment: on one of its servers, or at the gateway with a pin to it.
    #[must_use]
    pub fn inside(&self) -> BTreeMap<EnvironmentId, BTreeSet<Who>> {
        let mut inside: BTreeMap<EnvironmentId, BTreeSet<Who>> = BTreeMap::new();
        for process in self.processes.values().filter(|p| p.alive && !p.held.is_empty()) {
            inside.entry(process.environment.clone()).or_default().extend(process.held.keys().cloned());
        }
        for row in self.core().rows() {
            if let Some(pin) = row.pin {
                inside.entry(pin.environment).or_default().insert(row.who);
            }
        }
        inside
    }

    /// New sessions that have reached a world server since the last call.
    pub fn take_landed(&mut self) -> Vec<Landed> {
        self.apart.as_mut().map(|apart| std::mem::take(&mut apart.landed)).unwrap_or_default()
    }

    /// Sessions whose players have been refused since the last call, while they believed to be in them.
    pub fn take_refused(&mut self) -> Vec<SessionId> {
        self.apart.as_mut().map(|apart| std::mem::take(&mut apart.refused)).unwrap_or_default()
    }

    pub(super) fn lands_new(&mut self, environment: &EnvironmentId, who: &Who) {
        if let Some(apart) = &mut self.apart {
            apart.landed.push(Landed { who: who.clone(), environment: environment.clone() });
        }
    }

    pub(super) fn is_refused(&mut self, session: Option<SessionId>) {
        if let Some(apart) = &mut self.apart {
            apart.refused.extend(session);
        }
    }

    /// Every process does what it is asked from now on.
    pub fn relent(&mut self) {
        for process in self.processes.values_mut() {
            process.refuse = None;
        }
    }

    /// Links and connections that are broken are noticed at both ends; everything that is on its way arrives.
    pub fn mend(&mut self) {
        self.mend_links();
        self.drain_wires();
        self.check_one_home();
    }

    /// At rest, all that was begun has ended, and every player who is connected is in play.
    pub fn check_rest(&mut self) {
        self.check_core_at_rest();
        self.check_players_at_rest();
    }
}
