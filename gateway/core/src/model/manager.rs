//! The manager of the model: tables, commands, the death and birth of processes, and a gateway's restart.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_types::{BuildVersion, Cause, EnvironmentId, Generation, InstanceId, RealmId, ServerId};
use uuid::Uuid;

use super::{World, zone};
use crate::action::Action;
use crate::input::{CommandAction, Input, SessionCommand};
use crate::message::Who;
use crate::table::{Boundaries, Environment, RealmTable, Rules, Server};

/// What the manager has decided.
#[derive(Debug)]
pub(super) struct Manager {
    generation: u64,
    /// Index of the accepting environment; `None`: frozen.
    accepting: Option<usize>,
    /// The generation that every living gateway has in force, and what it accepts.
    acknowledged: Option<(u64, Option<usize>)>,
    hold_pins: bool,
    commands: u64,
    runs: u128,
    last_command: Option<SessionCommand>,
}

const ENVIRONMENTS: [&str; 2] = ["blue", "green"];

pub(super) fn run(n: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(n))
}

fn environment(index: usize) -> EnvironmentId {
    EnvironmentId::new(ENVIRONMENTS[index]).expect("an id")
}

impl Manager {
    pub(super) const fn new() -> Self {
        Self {
            generation: 0,
            accepting: Some(0),
            acknowledged: None,
            hold_pins: false,
            commands: 0,
            runs: 10_000,
            last_command: None,
        }
    }
}

impl World {
    /// A new table for the gateway.
    pub(super) fn publish(&mut self) {
        if self.table_from_disk() {
            return;
        }
        self.manager.generation += 1;
        self.tell_gateways(&Input::Table(self.table()));
    }

    pub(super) fn table(&self) -> RealmTable {
        let environments = (0..2)
            .map(|index| Environment {
                id: environment(index),
                build: BuildVersion::new(&format!("{}.0.0", index + 1)).expect("an id"),
                draining: self.manager.accepting.is_some_and(|a| a != index),
                leave_at_boundary: false,
                formats_read: vec![1],
                clients: None,
                servers: self
                    .processes
                    .values()
                    .filter(|p| p.environment == environment(index))
                    .map(|p| Server {
                        id: p.id.clone(),
                        instance: p.run,
                        address: String::new(),
                        tls_name: String::new(),
                        zones: p.zones.clone(),
                        instance_kinds: vec![zone("dungeon")],
                        capacity: p.capacity,
                        ready: true,
                    })
                    .collect(),
            })
            .collect();
        let rules = Rules {
            boundaries: Boundaries { zone: true, instance: true, respawn: true },
            entry_zone: zone("entry"),
            party_follow: false,
            grace: Duration::from_secs(20),
            hold_pins: self.manager.hold_pins,
        };
        RealmTable::new(
            RealmId::new("model").expect("an id"),
            Generation(self.manager.generation),
            self.manager.accepting.map(environment),
            environments,
            rules,
        )
        .expect("the model's tables are valid")
    }

    pub(super) fn manager_hears(&mut self, gateway: usize, generation: Generation) {
        self.gateways[gateway].acknowledged = Some(generation);
        let mut living = self.gateways.iter().filter(|gateway| gateway.alive);
        if generation.0 == self.manager.generation && living.all(|gateway| gateway.acknowledged == Some(generation)) {
            self.manager.acknowledged = Some((generation.0, self.manager.accepting));
        }
        self.told.push(Action::AckTable { generation });
    }

    /// Rule 3: no new session reaches a world server of an environment that does not accept, once that is acknowledged.
    pub(super) fn check_rule_3(&mut self, at: &EnvironmentId, who: &Who) {
        self.lands_new(at, who);
        let Some((generation, accepting)) = self.manager.acknowledged else { return };
        let forgotten = self.gateways.iter().any(|g| g.alive && g.acknowledged != Some(Generation(generation)));
        if generation == self.manager.generation && !forgotten && accepting.map(environment).as_ref() != Some(at) {
            self.violation(format!("{} logs in at {at}, which was acknowledged not to accept", who.player));
        }
    }

    pub(super) fn manager_acts(&mut self, n: usize) {
        match n % 8 {
            0 | 1 => {
                self.manager.accepting = Some(n / 8 % 2);
                self.publish();
            }
            2 => {
                self.manager.accepting = None;
                self.publish();
            }
            3 => {
                self.manager.hold_pins = !self.manager.hold_pins;
                self.publish();
            }
            4..=6 => self.move_some(n / 8),
            _ => {
                if let Some(command) = self.manager.last_command.clone() {
                    self.input_to(n / 8 % self.gateways.len(), Input::Command(command));
                }
            }
        }
    }

    fn move_some(&mut self, n: usize) {
        self.manager.commands += 1;
        let gateway = n / 7 % self.gateways.len();
        let rows = self.gateways[gateway].core.rows();
        let sessions: Vec<_> =
            rows.iter().filter(|row| n.is_multiple_of(2) || row.session.0.as_u128().is_multiple_of(2)).collect();
        let cause = if n.is_multiple_of(3) { Cause::Operator } else { Cause::Drain };
        let action = if n % 11 == 10 {
            CommandAction::Kick { reason: "test".to_owned(), message: "out".to_owned() }
        } else {
            CommandAction::Move { environment: environment(n / 2 % 2), server: None, cause }
        };
        let command = SessionCommand {
            id: format!("command-{}", self.manager.commands),
            sessions: sessions.iter().map(|row| row.session).collect(),
            action,
        };
        for who in sessions.iter().map(|row| row.who.clone()).collect::<Vec<_>>() {
            self.allow_boundary(&who, cause);
        }
        self.manager.last_command = Some(command.clone());
        self.input_to(gateway, Input::Command(command));
    }

    pub(super) fn process_acts(&mut self, n: usize) {
        let ids: Vec<ServerId> = self.processes.keys().cloned().collect();
        let id = ids[n / 4 % ids.len()].clone();
        match n % 4 {
            0 => self.kill(&id),
            1 => self.report_dead(&id),
            _ => self.start(&id),
        }
    }

    fn report_dead(&mut self, id: &ServerId) {
        let Some(process) = self.processes.get_mut(id) else { return };
        for instance in std::mem::take(&mut process.unreported) {
            self.tell_gateways(&Input::ServerDead { server: id.clone(), instance });
        }
    }

    /// A new run of a dead process, in a new table.
    fn start(&mut self, id: &ServerId) {
        self.manager.runs += 1;
        let Some(process) = self.processes.get_mut(id).filter(|p| !p.alive) else { return };
        process.alive = true;
        process.stopped = false;
        process.seen.clear();
        process.taken.clear();
        process.run = run(self.manager.runs);
        self.publish();
    }

    /// The first gateway dies and comes back, knowing nothing but the last table.
    pub fn restart_gateway(&mut self) {
        self.restart(0);
    }

    /// Everything that is broken is mended: deaths are reported, processes started, links noticed and dialled.
    pub(super) fn heal(&mut self) {
        self.calm();
        for id in self.processes.keys().cloned().collect::<Vec<_>>() {
            self.report_dead(&id);
            self.start(&id);
        }
        if self.manager.accepting.is_none() {
            self.manager.accepting = Some(0);
            self.publish();
        }
        self.mend_links();
    }

    pub(super) fn mend_links(&mut self) {
        let links: BTreeSet<u32> = self.links.keys().copied().collect();
        for id in links {
            self.gateway_notices(id);
            self.world_notices(id);
        }
        self.connect_all();
        self.notice_lost_connections();
    }

    pub(super) fn check_at_rest(&mut self) {
        if self.manager.acknowledged.map(|(generation, _)| generation) != Some(self.manager.generation) {
            self.violation("the table is not acknowledged".to_owned());
        }
        self.check_core_at_rest();
        self.check_players_at_rest();
    }

    pub(super) fn check_core_at_rest(&mut self) {
        let counted: Vec<(u64, u64)> = self.counted().map(|c| (c.misroutes, c.moved_without_cause)).collect();
        if self.gateways.iter().any(|gateway| gateway.core.counters().moving_now > 0) {
            self.violation("a hand-over does not end".to_owned());
        }
        for (misroutes, moved) in counted.into_iter().filter(|(misroutes, moved)| misroutes + moved > 0) {
            self.violation(format!("the core counts {misroutes} misroutes, {moved} moves without cause"));
        }
    }
}
