//! Gateways of the model: each has its core, its links and what is on its way to it from the manager and the directory.
//! They die and start anew, knowing nothing but the last table.

use std::collections::{BTreeMap, VecDeque};

use tidegate_types::{GatewayId, Generation, RealmId, ServerId};

use super::World;
use crate::core::{Core, CoreConfig};
use crate::directory::{DirectoryRequest, EmbeddedDirectory};
use crate::input::Input;
use crate::key::ServerKey;
use crate::table::RealmTable;

/// One gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) id: GatewayId,
    pub(super) core: Core,
    config: CoreConfig,
    pub(super) alive: bool,
    /// Of its process.
    pub(super) run: u64,
    pub(super) questions: VecDeque<DirectoryRequest>,
    pub(super) answers: VecDeque<Input>,
    /// The manager's word, on its way.
    pub(super) news: VecDeque<Input>,
    disk: Option<RealmTable>,
    pub(super) acknowledged: Option<Generation>,
    pub(super) by_server: BTreeMap<ServerKey, u32>,
    pub(super) dialing: BTreeMap<ServerKey, ServerId>,
}

fn core(config: &CoreConfig) -> Core {
    Core::new(RealmId::new("model").expect("an id"), config.clone())
}

impl Gateway {
    pub(super) fn new(index: usize, config: &CoreConfig) -> Self {
        let id = GatewayId::new(&format!("gw-{}", index + 1)).expect("an id");
        let config = CoreConfig { gateway: id.clone(), ..config.clone() };
        Self {
            id,
            core: core(&config),
            config,
            alive: true,
            run: index as u64 + 1,
            questions: VecDeque::new(),
            answers: VecDeque::new(),
            news: VecDeque::new(),
            disk: None,
            acknowledged: None,
            by_server: BTreeMap::new(),
            dialing: BTreeMap::new(),
        }
    }
}

impl World {
    /// One of those that live, for a player to go to.
    pub(super) fn living_gateway(&self, n: usize) -> Option<usize> {
        let living: Vec<usize> = (0..self.gateways.len()).filter(|index| self.gateways[*index].alive).collect();
        (!living.is_empty()).then(|| living[n % living.len()])
    }

    /// The manager's word to every gateway: one alone hears it at once, several each in its time.
    pub(super) fn tell_gateways(&mut self, news: &Input) {
        if !self.is_shared() {
            return self.input_to(0, news.clone());
        }
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.alive) {
            gateway.news.push_back(news.clone());
        }
    }

    pub(super) fn hear_news(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        let Some(news) = gateway.news.pop_front() else { return };
        if let Input::Table(table) = &news {
            gateway.disk = Some(table.clone());
        }
        self.input_to(index, news);
    }

    pub(super) fn hear_all_news(&mut self) {
        for index in 0..self.gateways.len() {
            while !self.gateways[index].news.is_empty() {
                self.hear_news(index);
            }
        }
    }

    /// The gateway dies; world servers and players notice in their time.
    pub(super) fn kill_gateway(&mut self, index: usize) {
        self.note(|| format!("* gateway {index} dies"));
        let gateway = &mut self.gateways[index];
        let fresh = core(&gateway.config);
        let dead = std::mem::replace(&mut gateway.core, fresh);
        self.buried.push(dead.counters().clone());
        gateway.alive = false;
        gateway.acknowledged = None;
        gateway.dialing.clear();
        gateway.by_server.clear();
        gateway.answers.clear();
        gateway.news.clear();
        let asked: Vec<DirectoryRequest> = gateway.questions.drain(..).collect();
        if self.is_shared() {
            // What it has sent may be done yet.
            self.weather.delay(asked);
        } else {
            self.directory = EmbeddedDirectory::default();
        }
        for link in self.links.values_mut().filter(|link| link.of == index) {
            link.gateway = None;
            link.cut();
        }
        self.links.retain(|_, link| link.world || link.gateway.is_some());
        self.drop_connections(index);
    }

    /// A new run of a gateway that has died.
    pub(super) fn start_gateway(&mut self, index: usize) {
        let run = self.next_id;
        let gateway = &mut self.gateways[index];
        if gateway.alive {
            return;
        }
        self.next_id += 1;
        gateway.alive = true;
        gateway.run = u64::try_from(run).unwrap_or(u64::MAX);
        if !self.is_shared() {
            return self.publish();
        }
        self.note(|| format!("* gateway {index} starts"));
        let disk = self.gateways[index].disk.clone();
        if let Some(table) = disk {
            self.input_to(index, Input::Table(table));
        }
        let table = self.table();
        self.gateways[index].news.push_back(Input::Table(table));
    }

    pub(super) fn restart(&mut self, index: usize) {
        self.kill_gateway(index);
        self.start_gateway(index);
    }
}
