//! The manager's side, as its shell does it: the stream's messages, the machines' word, the gateway's acknowledgements, and
//! the effects that are for the gateway.

use std::time::Duration;

use fleet_core::environment::PhaseKind;
use fleet_core::observe::{OccupancyReport, ServerReport, ServerState};
use fleet_core::routing::FlipState;
use fleet_core::{Effect, Event};
use gateway_core::model::NewProcess;
use gateway_core::{CommandAction, Input, SessionCommand};
use tidegate_types::{InstanceId, ServerId, Timestamp};

use super::joint::Joint;
use super::registry::Registry;
use super::stream::{Directive, Report, Way};
use super::table::table;

/// Between two looks at the machines.
const LOOK: Duration = Duration::from_millis(200);

/// What did not change is said again after this.
const AGAIN: Duration = Duration::from_secs(2);

/// Between two reports of who is where, when it changes.
const COUNT: Duration = Duration::from_millis(300);

/// Deaths that are remembered for a gateway that was away.
const DEATHS: usize = 64;

impl Joint {
    /// Everything that is due at the manager, and on the way to and from it.
    pub(super) fn manage(&mut self) {
        self.carry();
        self.look();
        self.count_guests();
        let now = self.now();
        self.run.pass(now);
        self.carry_out();
        while let Some(event) = self.heard.arrived(now) {
            self.tell(event);
        }
        self.acknowledgements();
        self.report_occupancy();
        self.run.check_empty();
    }

    /// Who is where, as far as the manager was told: when it changes, and again and again.
    fn report_occupancy(&mut self) {
        let now = self.now();
        if now < self.counted.0 + COUNT {
            return;
        }
        let report = self.registry.occupancy(&self.run.realm);
        if report != self.counted.1 || self.counted.0 + AGAIN <= now {
            let said = OccupancyReport { departures: Vec::new(), ..report.clone() };
            self.counted = (now, said);
            self.tell(Event::Occupancy(report));
        }
    }

    /// What is on the stream and has arrived.
    fn carry(&mut self) {
        let now = self.now();
        let eager = if self.weather.faults { 15 } else { 100 };
        if !self.stream.is_open() && self.chance(eager) {
            self.open_stream();
        }
        while let Some(report) = self.stream.next_report(now) {
            self.registry.hear(now, report);
        }
        while let Some(directive) = self.stream.next_directive(now) {
            match directive {
                Directive::Table(from) => self.edge.table_comes(table(&from)),
                Directive::Dead(server, instance) => self.edge.input(Input::ServerDead { server, instance }),
                Directive::Command(command) => self.edge.command_comes(command),
            }
            self.gather();
        }
    }

    /// The gateway opens a stream: each side says everything.
    pub(super) fn open_stream(&mut self) {
        self.edge.note(|| "* the stream between gateway and manager is opened".to_owned());
        self.gather();
        self.stream.open();
        let (now, dice) = (self.now(), &mut self.dice);
        self.stream.report(now, dice, Report::Hello(self.acknowledged));
        for row in self.edge.core().rows() {
            self.stream.report(now, dice, Report::Row(Box::new(row)));
        }
        self.stream.report(now, dice, Report::RowsEnd);
        let table = self.run.realm.table();
        if table.generation.0 > 0 {
            self.stream.direct(now, dice, Directive::Table(Box::new(table)));
        }
        for (server, instance) in &self.deaths {
            self.stream.direct(now, dice, Directive::Dead(server.clone(), *instance));
        }
    }

    pub(super) fn report_death(&mut self, server: ServerId, instance: InstanceId) {
        if self.deaths.len() == DEATHS {
            self.deaths.pop_front();
        }
        self.deaths.push_back((server.clone(), instance));
        let now = self.now();
        self.stream.direct(now, &mut self.dice, Directive::Dead(server, instance));
    }

    /// The machines do their work; processes follow them, and what they say is on its way.
    fn look(&mut self) {
        let now = self.now();
        if now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        let edge = &self.edge;
        let events = self.run.world.machines(now, |server| {
            let presence = edge.presence(&server.id)?;
            Some(ServerReport { players: presence.players, parked: presence.parked, in_handover: presence.in_handover })
        });
        let mut deployed = Vec::new();
        for event in events {
            if let Event::ServersObserved(seen) = &event {
                deployed.push(seen.environment.clone());
                for server in &seen.servers {
                    let up = matches!(server.state, ServerState::Loading | ServerState::Loaded | ServerState::Serving);
                    if let Some(instance) = server.instance.filter(|_| up)
                        && self.edge.running(&server.id) != Some(instance)
                    {
                        self.edge.start_process(NewProcess {
                            id: server.id.clone(),
                            environment: seen.environment.clone(),
                            instance,
                            zones: server.zones.clone(),
                            capacity: server.capacity,
                        });
                    }
                }
                let said = self.observed.get(&seen.environment);
                if said.is_some_and(|(at, said)| said == seen && now < *at + AGAIN) {
                    continue;
                }
                self.observed.insert(seen.environment.clone(), (now, seen.clone()));
            }
            self.heard.send(now, &mut self.dice, event);
        }
        for (server, environment) in self.edge.servers() {
            if !deployed.contains(&environment) {
                self.edge.kill_process(&server);
            }
        }
        self.gather();
    }

    /// The manager's harness compares what the manager concludes with who is truly where.
    pub(super) fn count_guests(&mut self) {
        self.run.world.guests = self.edge.inside().into_iter().map(|(id, who)| (id, who.len())).collect();
    }

    fn tell(&mut self, event: Event) {
        if !matches!(event, Event::ServersObserved(_) | Event::Occupancy(_)) {
            self.edge.note(|| format!("* the manager hears {event:?}"));
        }
        self.run.event(event);
        self.carry_out();
    }

    /// Answers the waits for acknowledgements: all live gateways have the table, or the time is over.
    fn acknowledgements(&mut self) {
        let now = self.now();
        let known = self.registry.acknowledged();
        let due: Vec<_> = self.waits.iter().filter(|(g, at)| **g <= known || **at <= now).map(|(g, _)| *g).collect();
        for generation in due {
            self.waits.remove(&generation);
            let missing = if generation <= known { Vec::new() } else { vec![self.registry.gateway()] };
            self.tell(Event::TableAcked { generation, missing, confirm_us: 1_500 });
        }
    }

    /// What the manager wants of the gateway, and what may be concluded from what it knows.
    pub(super) fn carry_out(&mut self) {
        if self.run.crashes > self.seen.manager_deaths {
            self.manager_is_back();
        }
        let now = self.now();
        for effect in self.run.world.for_gateways.replace(Vec::new()).unwrap_or_default() {
            self.edge.note(|| format!("* the manager wants {effect:?}"));
            let command = match effect {
                Effect::PublishTable(table) => {
                    self.rules.published(now, &table);
                    self.stream.direct(now, &mut self.dice, Directive::Table(Box::new(table)));
                    continue;
                }
                Effect::AwaitAcks { generation, deadline } => {
                    self.waits.insert(generation, deadline);
                    continue;
                }
                Effect::Notify { command, sessions, text, remaining, .. } => {
                    let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
                    SessionCommand { id: command, sessions, action: CommandAction::Notify { text, remaining_ms } }
                }
                Effect::MoveSessions { command, environment, to, sessions, cause } => {
                    self.rules.moves(now, &environment, &to, cause);
                    self.seen.commanded_moves += sessions.len() as u64;
                    let action = CommandAction::Move { environment: to, server: None, cause };
                    SessionCommand { id: command, sessions, action }
                }
                Effect::KickSessions { command, environment, sessions, message } => {
                    self.rules.kicks(now, &environment, &sessions);
                    let action = CommandAction::Kick { reason: "drain".to_owned(), message };
                    SessionCommand { id: command, sessions, action }
                }
                other @ (Effect::EnsureServers(_)
                | Effect::StopServers { .. }
                | Effect::RunSmoke { .. }
                | Effect::TakeSnapshot { .. }
                | Effect::CloneFrom { .. }) => {
                    self.rules.break_rule(format!("{other:?} is not the gateway's to do"));
                    continue;
                }
            };
            self.stream.direct(now, &mut self.dice, Directive::Command(command));
        }
        self.conclude();
    }

    fn conclude(&mut self) {
        if let Some(flip) = &self.run.realm.rows.routing.flip
            && matches!(flip.state, FlipState::Confirmed { .. })
            && self.rules.confirmed(flip.generation, &flip.to)
        {
            self.seen.flips_confirmed += 1;
        }
    }

    /// It was dead: its memory is gone, and so is the stream.
    fn manager_is_back(&mut self) {
        self.edge.note(|| "* the manager died, and is back".to_owned());
        self.seen.manager_deaths = self.run.crashes;
        self.cut_stream();
        self.registry = Registry::new();
        self.waits.clear();
        self.heard = Way::new();
        self.observed.clear();
        self.counted = (Timestamp(0), OccupancyReport::default());
        self.deaths.clear();
    }

    /// True when an environment is in this phase.
    pub(super) fn is(&self, environment: &str, phase: PhaseKind) -> bool {
        self.run.phase(&environment.parse().expect("an id")) == Some(phase)
    }
}
