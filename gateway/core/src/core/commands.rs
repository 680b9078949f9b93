//! The manager's word about sessions: move, kick, notify. A command that comes again has no second effect; what became of
//! its sessions is told again.

use std::collections::{BTreeMap, VecDeque};

use tidegate_types::{Cause, EnvironmentId, ServerId, SessionId};

use super::{Core, Cx};
use crate::action::{Action, CommandOutcome};
use crate::decide::{Decision, MoveAsk, Refuse, decide_move};
use crate::handover::Reason;
use crate::input::{CommandAction, SessionCommand};
use crate::key::SessionKey;
use crate::message::{PlayerMessage, ToWorld};
use crate::session::{Ending, State};

/// Commands remembered: what a manager may repeat after a reconnect, several drains' worth.
const MAX_COMMANDS: usize = 1_024;
/// Sessions of one command.
const MAX_SESSIONS: usize = 1_024;

/// Commands seen, and what became of their sessions (`None`: not known yet).
#[derive(Debug, Default)]
pub(super) struct Commands {
    seen: BTreeMap<String, BTreeMap<SessionId, Option<(CommandOutcome, String)>>>,
    order: VecDeque<String>,
}

impl Core {
    pub(super) fn on_command(&mut self, command: SessionCommand, cx: &mut Cx<'_>) {
        let SessionCommand { id, sessions, action } = command;
        if let Some(results) = self.commands.seen.get(&id) {
            for (session, result) in results {
                if let Some((outcome, message)) = result {
                    cx.out.push(result_action(&id, *session, *outcome, message));
                }
            }
            return;
        }
        let results = sessions.iter().take(MAX_SESSIONS).map(|session| (*session, None)).collect();
        self.commands.seen.insert(id.clone(), results);
        self.commands.order.push_back(id.clone());
        while self.commands.order.len() > MAX_COMMANDS {
            if let Some(oldest) = self.commands.order.pop_front() {
                self.commands.seen.remove(&oldest);
            }
        }
        for session in sessions.into_iter().take(MAX_SESSIONS) {
            let Some(key) = self.by_id.get(&session).copied() else {
                self.command_done(&id, session, CommandOutcome::UnknownSession, "", cx);
                continue;
            };
            match &action {
                CommandAction::Move { environment, server, cause } => {
                    self.command_move(&id, key, (environment, server.as_ref()), *cause, cx);
                }
                CommandAction::Kick { message, .. } => {
                    self.counters.kicked += 1;
                    self.command_done(&id, session, CommandOutcome::Done, "", cx);
                    self.end(key, Ending { reason: "kicked", message: message.clone() }, cx);
                }
                CommandAction::Notify { text, remaining_ms } => {
                    self.notify(key, text, *remaining_ms, cx);
                    self.command_done(&id, session, CommandOutcome::Done, "", cx);
                }
            }
        }
    }

    fn command_move(
        &mut self,
        id: &str,
        key: SessionKey,
        (target, target_server): (&EnvironmentId, Option<&ServerId>),
        cause: Cause,
        cx: &mut Cx<'_>,
    ) {
        let session = &self.sessions[key.index()];
        let sid = session.id;
        let (Some(seat), Some(pin), Some(table)) = (session.home_at_rest(), &session.pin, &self.table) else {
            self.command_done(id, sid, CommandOutcome::Busy, "", cx);
            return;
        };
        let ask = MoveAsk {
            environment: &pin.environment,
            server: seat.server,
            target,
            target_server,
            place: session.place.as_ref(),
            cause,
        };
        match decide_move(table, &self.servers, &ask) {
            Decision::Route(permit) => {
                self.start_handover(key, seat, permit, Reason::Command { id: id.to_owned() }, cx);
            }
            Decision::Refuse(Refuse::AlreadyThere | Refuse::Here) => {
                self.command_done(id, sid, CommandOutcome::AlreadyThere, "", cx);
            }
            Decision::Refuse(Refuse::NoServer) => {
                self.command_done(id, sid, CommandOutcome::NoRoom, "no server there serves its place", cx);
            }
            Decision::Refuse(Refuse::NoRoom | Refuse::ClientTooOld) | Decision::Hold(_) => {
                self.command_done(id, sid, CommandOutcome::NoRoom, "", cx);
            }
        }
    }

    fn notify(&mut self, key: SessionKey, text: &str, remaining_ms: u64, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        if let Some(conn) = session.conn {
            let message = PlayerMessage::Notice { text: text.to_owned(), remaining_ms };
            cx.out.push(Action::ToPlayer { conn, message });
        }
        if let State::Playing { seat, .. } = &session.state {
            cx.tell_world(*seat, ToWorld::Notice { text: text.to_owned(), remaining_ms });
        }
    }

    pub(super) fn command_done(
        &mut self,
        id: &str,
        session: SessionId,
        outcome: CommandOutcome,
        message: &str,
        cx: &mut Cx<'_>,
    ) {
        if let Some(result) = self.commands.seen.get_mut(id).and_then(|results| results.get_mut(&session)) {
            *result = Some((outcome, message.to_owned()));
        }
        cx.out.push(result_action(id, session, outcome, message));
    }
}

fn result_action(id: &str, session: SessionId, outcome: CommandOutcome, message: &str) -> Action {
    Action::CommandResult { command: id.to_owned(), session, outcome, message: message.to_owned() }
}
