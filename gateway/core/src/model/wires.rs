//! What lies between the processes: links and connections. In order within a stream, late at will, and they break: from
//! that moment nothing more arrives, and each end notices when it does.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate_types::{Mono, ServerId};

use super::{LEASE, World};
use crate::core::{Downstream, Upstream};
use crate::input::Input;
use crate::key::{ConnKey, ServerKey, SessionKey};
use crate::message::{FromWorld, PlayerMessage, Resident, ToWorld};

/// Ordered streams of a link.
const STREAMS: usize = 2;

/// A link between the gateway and one run of a world server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: ServerId,
    /// Whose it is: index of the gateway.
    pub(super) of: usize,
    /// The gateway's end; `None`: closed or noticed broken.
    pub(super) gateway: Option<ServerKey>,
    /// The world server's end is open.
    pub(super) world: bool,
    pub(super) broken: bool,
    pub(super) to_world: [VecDeque<Down>; STREAMS],
    pub(super) to_gateway: [VecDeque<Up>; STREAMS],
}

#[derive(Debug, Clone)]
pub(super) enum Down {
    Control(u32, Box<ToWorld>),
    Game(u32, Bytes),
    /// The answer to a heartbeat sent then.
    Beat(Mono),
    /// The player at that handle has received so many frames.
    Acked(u32, u64),
}

#[derive(Debug, Clone)]
pub(super) enum Up {
    Control(Box<FromWorld>),
    Game(u32, Bytes),
    Beat(Mono),
    /// So many frames of the player at that handle have taken effect.
    Acked(u32, u64),
    Resident(Resident),
    RosterEnd,
}

/// A player's connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) player: usize,
    /// Index of the gateway.
    pub(super) gateway: usize,
    /// The player is trying another gateway, and does not listen.
    pub(super) held: bool,
    pub(super) session: Option<SessionKey>,
    /// The gateway has closed it: what is in `to_player` still arrives.
    pub(super) closed: bool,
    pub(super) paused: bool,
    pub(super) to_player: VecDeque<Said>,
    pub(super) to_gateway: VecDeque<Say>,
}

#[derive(Debug, Clone)]
pub(super) enum Said {
    Message(PlayerMessage),
    Game(Bytes),
    Close,
}

#[derive(Debug, Clone)]
pub(super) enum Say {
    Game(u64),
    Ack(u64),
    Logout,
}

pub(super) fn number(body: &Bytes) -> u64 {
    body.as_ref().try_into().map_or(0, u64::from_le_bytes)
}

/// A frame of a world server's: lineage and number within it.
pub(super) fn reply(lineage: u64, number: u64) -> Bytes {
    let mut bytes = lineage.to_le_bytes().to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    Bytes::from(bytes)
}

pub(super) fn read_reply(body: &Bytes) -> (u64, u64) {
    let half = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    (half(&body[..8]), half(&body[8..]))
}

pub(super) fn body(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

#[derive(Debug, Clone, Copy)]
enum Queue {
    ToWorld(u32, usize),
    ToGateway(u32, usize),
    ToPlayer(u32),
    FromPlayer(u32),
    Directory(usize),
    Answer(usize),
    Late,
    News(usize),
}

impl Link {
    pub(super) fn new(server: ServerId, of: usize, gateway: ServerKey) -> Self {
        Self {
            server,
            of,
            gateway: Some(gateway),
            world: true,
            broken: false,
            to_world: Default::default(),
            to_gateway: Default::default(),
        }
    }

    pub(super) fn send_down(&mut self, handle: u32, message: Down) {
        self.to_world[handle as usize % STREAMS].push_back(message);
    }

    pub(super) fn send_up(&mut self, handle: u32, message: Up) {
        self.to_gateway[handle as usize % STREAMS].push_back(message);
    }

    pub(super) fn cut(&mut self) {
        self.broken = true;
        self.to_world = Default::default();
        self.to_gateway = Default::default();
    }
}

impl World {
    fn queues(&self) -> Vec<Queue> {
        let mut queues = Vec::new();
        for (id, link) in self.links.iter().filter(|(_, link)| !link.broken) {
            let listens = self.processes.get(&link.server).is_some_and(|process| !process.stopped);
            for stream in 0..STREAMS {
                if listens && !link.to_world[stream].is_empty() {
                    queues.push(Queue::ToWorld(*id, stream));
                }
                if !link.to_gateway[stream].is_empty() {
                    queues.push(Queue::ToGateway(*id, stream));
                }
            }
        }
        for (id, conn) in &self.conns {
            if !conn.to_player.is_empty() && !conn.held {
                queues.push(Queue::ToPlayer(*id));
            }
            if !conn.to_gateway.is_empty() && !conn.paused && !conn.closed {
                queues.push(Queue::FromPlayer(*id));
            }
        }
        for (index, gateway) in self.gateways.iter().enumerate() {
            if !gateway.questions.is_empty() {
                queues.push(Queue::Directory(index));
            }
            if !gateway.answers.is_empty() {
                queues.push(Queue::Answer(index));
            }
            if !gateway.news.is_empty() {
                queues.push(Queue::News(index));
            }
        }
        if self.weather.is_late() {
            queues.push(Queue::Late);
        }
        queues
    }

    /// One message arrives; `choice` says from which queue.
    pub(super) fn deliver(&mut self, choice: usize) -> bool {
        let queues = self.queues();
        if queues.is_empty() {
            return false;
        }
        match queues[choice % queues.len()] {
            Queue::ToWorld(link, stream) => self.serve(link, stream),
            Queue::ToGateway(link, stream) => self.report(link, stream),
            Queue::ToPlayer(conn) => self.hear(conn),
            Queue::FromPlayer(conn) => self.listen(conn),
            Queue::Directory(gateway) => self.ask_directory(gateway, choice),
            Queue::Answer(gateway) => {
                if let Some(answer) = self.gateways[gateway].answers.pop_front() {
                    self.input_to(gateway, answer);
                }
            }
            Queue::Late => self.do_late(),
            Queue::News(gateway) => self.hear_news(gateway),
        }
        true
    }

    /// Everything that is on its way arrives.
    pub(super) fn drain_wires(&mut self) {
        // Bounded: two ends that answer each other for ever are a defect to be seen, not a test that hangs.
        for turn in 0..20_000 {
            if !self.deliver(turn) {
                return;
            }
        }
        self.violation("messages breed messages without end".to_owned());
    }

    fn report(&mut self, id: u32, stream: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (of, Some(server), Some(message)) = (link.of, link.gateway, link.to_gateway[stream].pop_front()) else {
            return;
        };
        match message {
            Up::Control(message) => self.input_to(of, Input::World { server, message: *message }),
            Up::Acked(handle, count) => {
                if let Some(confirmed) = self.gateways[of].core.world_ack(server, handle, count)
                    && confirmed.resume
                    && let Some(conn) = self.conns.get_mut(&confirmed.conn.0)
                {
                    conn.paused = false;
                }
            }
            Up::Resident(resident) => self.input_to(of, Input::Resident { server, resident }),
            Up::RosterEnd => self.input_to(of, Input::RosterEnd { server }),
            Up::Beat(sent) => {
                link.send_down(0, Down::Beat(sent));
                self.input_to(of, Input::HeartbeatAnswered { server });
            }
            Up::Game(handle, body) => match self.gateways[of].core.downstream(self.now, server, handle, &body) {
                Downstream::Deliver { conn } => match self.conns.get_mut(&conn.0) {
                    Some(conn) if !conn.closed => conn.to_player.push_back(Said::Game(body)),
                    Some(_) | None => self.violation(format!("a frame is delivered to {conn:?}, which is closed")),
                },
                Downstream::Kept | Downstream::Unknown => {}
            },
        }
    }

    fn listen(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (of, session, Some(message)) = (conn.gateway, conn.session, conn.to_gateway.pop_front()) else { return };
        self.note(|| format!("> {id} says {message:?}"));
        match (message, session) {
            (Say::Logout, _) => self.input_to(of, Input::Logout { conn: ConnKey(id) }),
            (Say::Ack(received), Some(session)) => self.gateways[of].core.player_ack(session, received),
            (Say::Game(n), Some(session)) => match self.gateways[of].core.upstream(self.now, session, &body(n)) {
                Upstream::Forward { server, handle, pause } => match self.gateways[of].by_server.get(&server) {
                    Some(link) => {
                        let link = self.links.get_mut(link).expect("the gateway's links exist");
                        if !link.broken {
                            link.send_down(handle, Down::Game(handle, body(n)));
                        }
                        if let Some(conn) = self.conns.get_mut(&id) {
                            conn.paused |= pause;
                        }
                    }
                    None => self.violation(format!("a frame is forwarded to {server:?}, whose link is down")),
                },
                Upstream::Queued | Upstream::Ignore => {}
                Upstream::QueuedPause => {
                    if let Some(conn) = self.conns.get_mut(&id) {
                        conn.paused = true;
                    }
                }
                Upstream::Violation => self.violation(format!("frame {n} of a welcomed player is a violation")),
            },
            (Say::Ack(_) | Say::Game(_), None) => {
                self.violation("a player who was welcomed has no session".to_owned());
            }
        }
    }

    /// World servers send their heartbeats.
    pub(super) fn beat(&mut self) {
        let now = self.now.mono;
        for process in self.processes.values_mut().filter(|p| p.beats() && p.beat_at <= now) {
            process.beat_at = now + super::HEARTBEAT;
            for id in process.leases.keys() {
                if let Some(link) = self.links.get_mut(id).filter(|link| !link.broken) {
                    link.send_up(0, Up::Beat(now));
                }
            }
            for held in process.held.values() {
                let Some((id, handle)) = held.at else { continue };
                if let Some(link) = self.links.get_mut(&id).filter(|link| !link.broken) {
                    link.send_up(handle, Up::Acked(handle, held.up));
                }
            }
        }
        if self.is_shared() {
            self.drop_orphans();
        }
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.alive) {
            for (server, handle, count) in gateway.core.take_acks() {
                if let Some(link) = gateway.by_server.get(&server).and_then(|id| self.links.get_mut(id))
                    && !link.broken
                {
                    link.send_down(handle, Down::Acked(handle, count));
                }
            }
        }
    }

    pub(super) fn beat_answered(&mut self, server: &ServerId, link: u32, sent: Mono) {
        let lease = self.processes.get_mut(server).and_then(|process| process.leases.get_mut(&link));
        if let Some(lease) = lease {
            lease.until = lease.until.max(sent + LEASE);
        }
    }

    /// A link breaks, or one end notices.
    pub(super) fn link_acts(&mut self, n: usize) {
        let ids: Vec<u32> = self.links.keys().copied().collect();
        if ids.is_empty() {
            self.connect_all();
            return;
        }
        let id = ids[n / 4 % ids.len()];
        match n % 4 {
            0 => {
                self.note(|| format!("* link {id} breaks"));
                if let Some(link) = self.links.get_mut(&id) {
                    link.cut();
                }
            }
            1 => self.gateway_notices(id),
            2 => self.world_notices(id),
            _ => self.connect_all(),
        }
    }

    pub(super) fn gateway_notices(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.broken) else { return };
        if let Some(server) = link.gateway.take() {
            let of = link.of;
            self.gateways[of].by_server.remove(&server);
            self.input_to(of, Input::LinkDown { server });
        }
        self.forget_link(id);
    }

    pub(super) fn world_notices(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.broken && link.world) else { return };
        link.world = false;
        let server = link.server.clone();
        if let Some(process) = self.processes.get_mut(&server) {
            process.unlink(id);
        }
        self.forget_link(id);
    }

    pub(super) fn forget_link(&mut self, id: u32) {
        if self.links.get(&id).is_some_and(|link| link.gateway.is_none() && !link.world) {
            self.links.remove(&id);
        }
    }

    /// Every link that is being dialled comes up, where there is a process to answer.
    pub(super) fn connect_all(&mut self) {
        for of in 0..self.gateways.len() {
            let dialing = self.gateways[of].dialing.iter();
            let dialing: Vec<(ServerKey, ServerId)> = dialing.map(|(key, id)| (*key, id.clone())).collect();
            for (key, server) in dialing {
                self.connect(of, key, server);
            }
        }
    }

    fn connect(&mut self, of: usize, key: ServerKey, server: ServerId) {
        let Some(process) = self.processes.get_mut(&server).filter(|p| p.beats()) else { return };
        let gateway = &mut self.gateways[of];
        gateway.dialing.remove(&key);
        let id = self.next_link;
        self.next_link += 1;
        let instance = process.run;
        // A gateway's new link takes the place of its old one.
        let old: Vec<u32> =
            process.leases.iter().filter(|(_, lease)| lease.gateway == gateway.id).map(|(id, _)| *id).collect();
        for old in &old {
            process.unlink(*old);
        }
        let roster = process.relink(id, gateway.id.clone(), gateway.run, self.now.mono);
        for old in old {
            if let Some(link) = self.links.get_mut(&old) {
                link.cut();
                link.world = false;
                self.forget_link(old);
            }
        }
        let mut link = Link::new(server, of, key);
        for resident in roster {
            link.send_up(0, Up::Resident(resident));
        }
        link.send_up(0, Up::RosterEnd);
        self.links.insert(id, link);
        self.gateways[of].by_server.insert(key, id);
        self.input_to(of, Input::LinkUp { server: key, instance });
    }
}
