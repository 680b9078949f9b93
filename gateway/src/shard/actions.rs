//! The executor: the one place where what a core wants is done.

use gateway_core::{Action, Close, Input, PlayerMessage, SessionReport, ToWorld};
use tidegate_events::event;
use tidegate_proto::frame::{self, player};
use tidegate_proto::{CloseCode, v1};

use super::Shard;
use crate::convert;
use crate::reports::Report;

impl Shard {
    /// Does what the realm's core has asked for, in order, until it asks for nothing more.
    pub(super) fn execute(&mut self, realm: u32) {
        // The embedded directory answers at once; each answer may bring further actions, after those that stand here.
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            let mut answers = Vec::new();
            for action in actions.drain(..) {
                if let Action::Directory(request) = action {
                    let state = &mut self.realms[realm as usize];
                    match &self.shared {
                        Some(shared) => {
                            self.unanswered_tellings += u32::from(request.id == 0);
                            shared.handle.ask(&state.id, u64::from(realm), request);
                        }
                        None => answers.push(state.directory.answer(request)),
                    }
                } else {
                    self.perform(realm, action);
                }
            }
            // Empty now; its memory is used again.
            self.actions = actions;
            for answer in answers {
                let core = &mut self.realms[realm as usize].core;
                core.handle(self.now, Input::Directory(answer), &mut self.actions);
            }
        }
    }

    fn perform(&mut self, realm: u32, action: Action) {
        match action {
            Action::Bind { conn, session } => self.players.bind(conn.0, session),
            Action::ToPlayer { conn, message } => {
                match &message {
                    PlayerMessage::Welcome { .. } => {
                        self.players.welcomed(conn.0);
                        self.edge.admit(conn.0);
                    }
                    PlayerMessage::Refused { retry_after_ms, .. } if *retry_after_ms > 0 => {
                        self.give_ticket_back(conn.0);
                    }
                    PlayerMessage::Refused { .. }
                    | PlayerMessage::Hold { .. }
                    | PlayerMessage::Notice { .. }
                    | PlayerMessage::Moved { .. }
                    | PlayerMessage::Goodbye { .. } => (),
                }
                let (players, realm, now) = (&self.players, &self.realms[realm as usize].id, self.now.wall);
                let gateways = &self.gateways;
                self.edge.send(conn.0, |out| {
                    convert::put_player_message(out, message, gateways, |at| players.seal(realm, at, now));
                });
            }
            Action::ResendToPlayer { conn, frames } => self.edge.send(conn.0, |out| {
                for body in &frames {
                    frame::put(out, player::GAME, body);
                }
            }),
            Action::ClosePlayer { conn, code } => {
                self.players.leave(conn.0);
                let code = match code {
                    Close::Done => CloseCode::Done,
                    Close::Refused => CloseCode::Refused,
                    Close::Replaced => CloseCode::Replaced,
                    // Any code that does not end the session for its client.
                    Close::Resume => CloseCode::Internal,
                };
                self.edge.close_after_flush(conn.0, code);
            }
            Action::PauseReading { conn } => self.edge.pause_reading(conn.0),
            Action::ResumeReading { conn } => self.edge.resume_reading(conn.0),
            Action::ToWorld { server, handle, message } => {
                if let ToWorld::Attach { identity, epoch, take_over: true, .. } = &message {
                    event!("takeover", player = %identity.who.player, epoch = epoch.0);
                }
                if let Some(sender) = self.links.sender(realm, server.0) {
                    let sent = sender.control(handle, convert::to_link(handle, message));
                    self.check_sent(realm, server.0, sent);
                }
            }
            Action::ForwardQueued { server, handle, frames } => {
                if let Some(sender) = self.links.sender(realm, server.0) {
                    let sent = frames.iter().try_for_each(|body| sender.game(handle, body));
                    self.check_sent(realm, server.0, sent);
                }
            }
            Action::Dial { server, target } => {
                let id = self.realms[realm as usize].id.as_str();
                self.links.dial(realm, id, server.0, target);
            }
            // The link's slot is keyed by the server's index, so a key that is free again needs nothing more.
            Action::Hangup { server, forget: _ } => self.links.hang_up(realm, server.0),
            Action::AckTable { generation } => {
                let realm = self.realms[realm as usize].id.to_string();
                tracing::info!(realm, %generation, "routing table in force");
                event!("generation", realm = realm, generation = generation.0);
                self.reporter.tell(Report::TableAck(v1::TableAck { realm, generation: generation.0 }));
            }
            Action::Report(SessionReport::Row(row)) => {
                let row = convert::report_row(&self.realms[realm as usize].id, &row);
                self.reporter.tell(Report::Row(Box::new(row)));
            }
            Action::Report(SessionReport::Gone { session, reason, environment, cause }) => {
                let gone = convert::report_gone(session, reason, environment.as_ref(), cause);
                self.reporter.tell(Report::Gone(gone));
            }
            Action::CommandResult { command, session, outcome, message } => {
                let result = convert::command_result(command, session, outcome, message);
                self.reporter.tell(Report::CommandResult(result));
            }
            // Answered in `execute`, which never hands it here.
            Action::Directory(request) => tracing::error!(?request, "a directory request reached the executor"),
        }
    }

    /// A link whose queue is full has a peer that does not read: it is closed, and its end is then told as any other.
    pub(super) fn check_sent(&mut self, realm: u32, server: u32, sent: Result<(), tidegate_link::SendError>) {
        match sent {
            // A closed link tells of itself.
            Ok(()) | Err(tidegate_link::SendError::Closed) => (),
            Err(tidegate_link::SendError::Full) => {
                if let Some(sender) = self.links.sender(realm, server) {
                    tracing::warn!(realm = %self.realms[realm as usize].id, server, "a world server has stopped reading");
                    sender.close(CloseCode::TooSlow, "reads too slowly");
                }
            }
        }
    }
}
