//! Where the directory of homes is: in this process's memory, or shared with other gateways; and what the shared one says.

use gateway_core::Input;
use tidegate_directory::{DirectoryEvent, DirectoryHandle, State, TicketOutcome};
use tidegate_events::event;
use tidegate_proto::v1;
use tokio::sync::mpsc;

use super::Shard;
use crate::players::{CheckedLogin, HelloRefused};

/// Events of the directory taken in one pass: some hundred logins, or a portion of an announcement.
const EVENTS_PER_PASS: usize = 1_024;

/// The shared directory, as the shard holds it.
pub(crate) struct Shared {
    pub(crate) handle: DirectoryHandle,
    pub(crate) events: mpsc::UnboundedReceiver<DirectoryEvent>,
}

/// A login whose ticket the directory is asked about.
pub(super) struct AskedLogin {
    conn: u32,
    realm: u32,
    login: CheckedLogin,
}

/// How the directory is, for the manager.
pub(crate) fn wire_state(state: Option<&State>) -> v1::DirectoryState {
    match state {
        None => v1::DirectoryState::Unspecified,
        Some(State::Up) => v1::DirectoryState::Ok,
        Some(State::Connecting | State::Degraded { .. }) => v1::DirectoryState::Degraded,
    }
}

impl Shard {
    /// Takes what the directory has said. True: there may be more.
    pub(super) fn hear_directory(&mut self, first: Option<DirectoryEvent>) -> bool {
        if let Some(event) = first {
            self.directory_event(event);
        }
        for _ in 0..EVENTS_PER_PASS {
            let Some(event) = self.shared.as_mut().and_then(|shared| shared.events.try_recv().ok()) else {
                return false;
            };
            self.directory_event(event);
        }
        true
    }

    fn directory_event(&mut self, event: DirectoryEvent) {
        match event {
            DirectoryEvent::Answer { tag, answer } => {
                if answer.id == 0 {
                    self.unanswered_tellings = self.unanswered_tellings.saturating_sub(1);
                }
                if let Ok(realm) = u32::try_from(tag)
                    && (realm as usize) < self.realms.len()
                {
                    self.input(realm, Input::Directory(answer));
                }
            }
            DirectoryEvent::Ticket { token, outcome } => self.ticket_answered(token, outcome),
            DirectoryEvent::Up { wiped } => {
                tracing::info!(wiped, "the shared directory answers; announcing this gateway's sessions");
                event!("directory", state = if wiped { "wiped" } else { "up" });
                self.rebuilding = Some(self.instant);
                for realm in 0..self.realms.len() as u32 {
                    self.input(realm, Input::DirectoryUp);
                }
            }
            DirectoryEvent::Down { why } => {
                event!("directory", state = "down");
                self.rebuilding = None;
                tracing::warn!(why, "the shared directory is out of reach; players play on, logins may wait");
            }
        }
    }

    /// All of this gateway's sessions are in the directory again.
    pub(super) fn note_rebuilt(&mut self) {
        let Some(since) = self.rebuilding else { return };
        if self.unanswered_tellings > 0 || self.realms.iter().any(|realm| realm.core.is_announcing()) {
            return;
        }
        self.rebuilding = None;
        let sessions: u32 = self.realms.iter().map(|realm| realm.core.counters().sessions).sum();
        let took = self.instant.saturating_duration_since(since);
        tracing::info!(sessions, ?took, "the shared directory has all of this gateway's sessions");
        event!("directory_rebuilt", sessions = sessions, took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes a login's ticket: here, and in the shared directory if there is one; then the login goes on.
    pub(super) fn take_ticket(&mut self, conn: u32, realm: u32, login: CheckedLogin) -> Result<(), HelloRefused> {
        self.players.take(&login, self.now.wall)?;
        let Some(shared) = &self.shared else {
            self.admit(conn, realm, login);
            return Ok(());
        };
        self.next_token += 1;
        let token = self.next_token;
        let (id, expires) = (login.claims.id, login.claims.expires);
        shared.handle.take_ticket(token, &self.realms[realm as usize].id, id, expires, self.now.wall);
        self.players.ask_for(conn, token, login.claims.id);
        self.asked.insert(token, AskedLogin { conn, realm, login });
        Ok(())
    }

    fn ticket_answered(&mut self, token: u64, outcome: TicketOutcome) {
        let Some(AskedLogin { conn, realm, login }) = self.asked.remove(&token) else { return };
        if !self.players.asked(conn, token) {
            // Whoever brought it is gone, and may come again with it.
            if outcome == TicketOutcome::Fresh {
                self.give_back_shared(realm, login.claims.id);
            }
            return;
        }
        match outcome {
            // Out of reach: this gateway's own memory has to do.
            TicketOutcome::Fresh | TicketOutcome::Unavailable => self.admit(conn, realm, login),
            TicketOutcome::Used => {
                let refused = self.players.refuse_used();
                self.players.leave(conn);
                self.refuse_hello(conn, refused);
            }
        }
    }

    fn admit(&mut self, conn: u32, realm: u32, login: CheckedLogin) {
        let hello = self.players.admit(conn, login);
        self.players.enter(conn, realm);
        self.input(realm, Input::Hello { conn: gateway_core::ConnKey(conn), hello });
    }

    /// The connection's ticket let nobody in: it may be tried again, here and elsewhere.
    pub(super) fn give_ticket_back(&mut self, conn: u32) {
        let realm = self.players.realm(conn);
        if let (Some(id), Some(realm)) = (self.players.give_ticket_back(conn), realm) {
            self.give_back_shared(realm, id);
        }
    }

    fn give_back_shared(&self, realm: u32, id: uuid::Uuid) {
        if let Some(shared) = &self.shared {
            shared.handle.give_ticket_back(&self.realms[realm as usize].id, id);
        }
    }
}
