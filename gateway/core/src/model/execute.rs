//! Does what the core wants done: the model's one match on [`Action`].

use super::World;
use super::wires::{Down, Said};
use crate::action::Action;
use crate::key::{ConnKey, ServerKey};

impl World {
    pub(super) fn execute(&mut self, gateway: usize, actions: Vec<Action>) {
        for action in actions {
            self.note(|| format!("    {action:?}"));
            match action {
                Action::Bind { conn, session } => match self.conns.get_mut(&conn.0) {
                    Some(state) => state.session = Some(session),
                    None => self.violation(format!("{conn:?} is bound and does not exist")),
                },
                Action::ToPlayer { conn, message } => self.say_to(conn, Said::Message(message)),
                Action::ResendToPlayer { conn, frames } => {
                    for frame in frames {
                        self.say_to(conn, Said::Game(frame));
                    }
                }
                Action::ClosePlayer { conn, .. } => {
                    self.say_to(conn, Said::Close);
                    if let Some(state) = self.conns.get_mut(&conn.0) {
                        state.closed = true;
                        state.to_gateway.clear();
                    }
                }
                Action::PauseReading { conn } => self.pause(conn, true),
                Action::ResumeReading { conn } => self.pause(conn, false),
                Action::ToWorld { server, handle, message } => {
                    self.send_down(gateway, server, handle, vec![Down::Control(handle, Box::new(message))]);
                }
                Action::ForwardQueued { server, handle, frames } => {
                    let frames = frames.into_iter().map(|frame| Down::Game(handle, frame)).collect();
                    self.send_down(gateway, server, handle, frames);
                }
                Action::Dial { server, target } => {
                    self.gateways[gateway].dialing.insert(server, target.id);
                }
                Action::Hangup { server, .. } => {
                    self.gateways[gateway].dialing.remove(&server);
                    if let Some(id) = self.gateways[gateway].by_server.remove(&server)
                        && let Some(link) = self.links.get_mut(&id)
                    {
                        link.gateway = None;
                        link.cut();
                        self.forget_link(id);
                    }
                }
                Action::AckTable { generation } => self.manager_hears(gateway, generation),
                Action::Directory(request) => self.gateways[gateway].questions.push_back(request),
                Action::Report(_) | Action::CommandResult { .. } => self.told.push(action),
            }
        }
    }

    fn say_to(&mut self, conn: ConnKey, said: Said) {
        match self.conns.get_mut(&conn.0) {
            Some(state) if !state.closed => {
                if state.player != usize::MAX || matches!(said, Said::Close) {
                    state.to_player.push_back(said);
                }
            }
            Some(_) | None => self.violation(format!("{conn:?} is closed, and told {said:?}")),
        }
    }

    fn pause(&mut self, conn: ConnKey, paused: bool) {
        if let Some(state) = self.conns.get_mut(&conn.0) {
            state.paused = paused;
        }
    }

    fn send_down(&mut self, gateway: usize, server: ServerKey, handle: u32, messages: Vec<Down>) {
        let link = self.gateways[gateway].by_server.get(&server).and_then(|id| self.links.get_mut(id));
        let Some(link) = link else {
            self.violation(format!("{server:?} has no link, and is told {messages:?}"));
            return;
        };
        if !link.broken {
            for message in messages {
                link.send_down(handle, message);
            }
        }
    }
}
