//! Commands for sessions that have not been answered. One whose session turns up at another gateway is sent there as
//! well: the first gateway has lost the session, or has died.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tidegate_proto::v1;
use tidegate_types::{GatewayId, SessionId};
use tokio::sync::mpsc;

use super::Gateways;

/// How long a session may take to turn up elsewhere: its connection must be missed and its player come back.
const KEPT: Duration = Duration::from_secs(30);

/// Most commands that are kept; beyond that the oldest are not sent again. A drain sends one a second.
const MOST: usize = 1024;

/// Results of one command that wait for its issuer: a command names at most 1,024 sessions.
const RESULTS: usize = 2048;

/// What a gateway answers that does not hold the session.
pub(crate) const UNKNOWN: &str = "unknown_session";

/// Results of a command as they come in. They stop being collected when this is dropped.
#[derive(Debug)]
pub struct Results {
    command: String,
    gateways: Gateways,
    results: mpsc::Receiver<v1::CommandResult>,
    /// How many sessions the command went to.
    pub sent: usize,
}

impl Results {
    /// The command shall not be sent on to wherever its sessions turn up.
    pub fn cancel(self) {
        self.gateways.lock().commands.forget(&self.command);
    }

    /// The next result; `None` cannot happen before this is dropped, so the caller sets its own time limit.
    pub async fn next(&mut self) -> Option<v1::CommandResult> {
        self.results.recv().await
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.gateways.lock().commands.unheard(&self.command);
    }
}

impl Gateways {
    /// Sends a command to the gateways that hold its sessions, and collects the results. Sessions that no connected
    /// gateway holds are not sent (see [`Results::sent`]) before another gateway reports them.
    #[must_use]
    pub fn command(&self, command: &v1::SessionCommand) -> Results {
        let mut by_gateway: BTreeMap<GatewayId, Vec<SessionId>> = BTreeMap::new();
        for id in command.session_ids.iter().filter_map(|id| SessionId::from_slice(id)) {
            if let Some(gateway) = self.sessions.get(id).and_then(|row| row.gateway_id.parse().ok()) {
                by_gateway.entry(gateway).or_default().push(id);
            }
        }
        let (results, receiver) = mpsc::channel(RESULTS);
        let mut sent = 0;
        let mut state = self.lock();
        let mut asked = BTreeMap::new();
        for (gateway, sessions) in by_gateway {
            let session_ids = sessions.iter().map(|id| id.to_vec()).collect();
            let part = v1::SessionCommand { session_ids, ..command.clone() };
            let reached = state.send(&gateway, v1::gateway_directive::Message::Command(part));
            if reached {
                sent += sessions.len();
            }
            asked.extend(sessions.into_iter().map(|id| (id, reached.then(|| gateway.clone()))));
        }
        state.commands.begin(command, asked, results);
        drop(state);
        Results { command: command.command_id.clone(), gateways: self.clone(), results: receiver, sent }
    }

    /// A gateway has answered a command for one session.
    pub fn result(&self, id: &GatewayId, result: v1::CommandResult) {
        self.lock().commands.answered(id, result);
    }

    /// A gateway holds a session that another one held: what that one was told and has not answered for, it is told too.
    pub fn taken(&self, id: &GatewayId, session: SessionId) {
        let mut state = self.lock();
        for command in state.commands.taken(session, id) {
            tracing::info!(gateway_id = %id, %session, command_id = command.command_id, "command sent on to the new holder");
            state.send(id, v1::gateway_directive::Message::Command(command));
        }
    }
}

#[derive(Debug)]
struct Command {
    /// Without its sessions.
    command: v1::SessionCommand,
    /// The sessions that have no result, and the gateway that was asked last; `None`: nobody has it to be asked.
    unanswered: BTreeMap<SessionId, Option<GatewayId>>,
    waiting: Option<mpsc::Sender<v1::CommandResult>>,
    since: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Commands {
    by_id: HashMap<String, Command>,
    by_session: HashMap<SessionId, BTreeSet<String>>,
}

impl Commands {
    /// A command goes out: which gateway was asked for which session.
    pub(super) fn begin(
        &mut self,
        command: &v1::SessionCommand,
        asked: BTreeMap<SessionId, Option<GatewayId>>,
        waiting: mpsc::Sender<v1::CommandResult>,
    ) {
        self.tidy();
        let id = command.command_id.clone();
        self.forget(&id);
        for session in asked.keys() {
            self.by_session.entry(*session).or_default().insert(id.clone());
        }
        let command = v1::SessionCommand { session_ids: Vec::new(), ..command.clone() };
        let command = Command { command, unanswered: asked, waiting: Some(waiting), since: Instant::now() };
        self.by_id.insert(id, command);
    }

    /// A session is held by another gateway now: the commands that it must be told.
    pub(super) fn taken(&mut self, session: SessionId, by: &GatewayId) -> Vec<v1::SessionCommand> {
        let ids = self.by_session.get(&session).cloned().unwrap_or_default();
        let mut again = Vec::new();
        for id in ids {
            let Some(command) = self.by_id.get_mut(&id).filter(|command| command.since.elapsed() < KEPT) else {
                continue;
            };
            let Some(asked) = command.unanswered.get_mut(&session).filter(|asked| asked.as_ref() != Some(by)) else {
                continue;
            };
            *asked = Some(by.clone());
            again.push(v1::SessionCommand { session_ids: vec![session.to_vec()], ..command.command.clone() });
        }
        again
    }

    /// A gateway has answered for one session. An answer that it does not hold the session leaves the command open, in case
    /// the session turns up elsewhere; one that is not from whom was asked last is old news.
    pub(super) fn answered(&mut self, from: &GatewayId, result: v1::CommandResult) {
        let Some(command) = self.by_id.get_mut(&result.command_id) else { return };
        if let Some(session) = SessionId::from_slice(&result.session_id) {
            let unknown = result.outcome == UNKNOWN;
            match command.unanswered.get_mut(&session) {
                Some(asked) if unknown && asked.as_ref() == Some(from) => *asked = None,
                Some(_) if unknown => return,
                Some(_) => {
                    command.unanswered.remove(&session);
                    unlist(&mut self.by_session, session, &result.command_id);
                }
                None => {}
            }
        }
        let over = command.unanswered.is_empty().then(|| result.command_id.clone());
        if let Some(waiting) = &command.waiting {
            // A full queue means nobody reads any more; the issuer has its own time limit.
            drop(waiting.try_send(result));
        }
        if let Some(id) = over {
            self.forget(&id);
        }
    }

    /// Nobody waits for its results any more. It is sent on all the same.
    pub(super) fn unheard(&mut self, id: &str) {
        if let Some(command) = self.by_id.get_mut(id) {
            command.waiting = None;
        }
    }

    /// It shall have no effect any more.
    pub(super) fn forget(&mut self, id: &str) {
        let Some(command) = self.by_id.remove(id) else { return };
        for session in command.unanswered.into_keys() {
            unlist(&mut self.by_session, session, id);
        }
    }

    fn tidy(&mut self) {
        let old = |command: &Command| command.waiting.is_none() && command.since.elapsed() >= KEPT;
        let mut over: Vec<String> =
            self.by_id.iter().filter(|(_, command)| old(command)).map(|(id, _)| id.clone()).collect();
        if self.by_id.len() - over.len() >= MOST {
            let eldest = self.by_id.iter().min_by_key(|(_, command)| command.since).map(|(id, _)| id.clone());
            over.extend(eldest);
        }
        over.iter().for_each(|id| self.forget(id));
    }
}

fn unlist(by_session: &mut HashMap<SessionId, BTreeSet<String>>, session: SessionId, id: &str) {
    if let Some(ids) = by_session.get_mut(&session) {
        ids.remove(id);
        if ids.is_empty() {
            by_session.remove(&session);
        }
    }
}
