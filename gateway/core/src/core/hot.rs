//! The path of every game frame and datagram: array accesses only.

use bytes::Bytes;
use tidegate_types::Now;

use super::Core;
use super::servers::Role;
use crate::key::{ConnKey, ServerKey, SessionKey};
use crate::session::{State, Then};
use crate::window::Queued;

/// What to do with a `Game` frame from a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// Send it on, now, on the stream of `handle`.
    Forward {
        /// To this server.
        server: ServerKey,
        /// Under this handle.
        handle: u32,
    },
    /// The core keeps it.
    Queued,
    /// The core keeps it, and can keep no more: stop reading until `ResumeReading`.
    QueuedPause,
    /// The session is ending: drop it.
    Ignore,
    /// The player may not send frames now: close the connection.
    Violation,
}

/// What to do with a `Game` frame from a world server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downstream {
    /// Send it on, now.
    Deliver {
        /// To this connection.
        conn: ConnKey,
    },
    /// The core keeps it until the player can have it.
    Kept,
    /// Nobody's.
    Unknown,
}

impl Core {
    /// A `Game` frame from a player.
    pub fn upstream(&mut self, now: Now, session: SessionKey, body: &Bytes) -> Upstream {
        // Frames are not timed here; the time is part of the signature so that all entries to the core look alike.
        let _ = now;
        let Some(session) = self.sessions.get_mut(session.index()) else { return Upstream::Ignore };
        if !session.greeted {
            return Upstream::Violation;
        }
        match &session.state {
            State::Playing { seat, .. } => {
                session.window.forwarded();
                self.counters.frames_up += 1;
                Upstream::Forward { server: seat.server, handle: seat.handle }
            }
            State::Waiting { .. }
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { then: Then::Replace { .. }, .. } => match session.window.queue(body) {
                Queued::Kept => {
                    self.counters.frames_up += 1;
                    Upstream::Queued
                }
                Queued::KeptFull => {
                    self.counters.frames_up += 1;
                    session.paused = true;
                    Upstream::QueuedPause
                }
                Queued::TooMany => Upstream::Violation,
            },
            State::Leaving { then: Then::End(_), .. } => Upstream::Ignore,
        }
    }

    /// A `Game` frame from a world server.
    pub fn downstream(&mut self, now: Now, server: ServerKey, handle: u32, body: &Bytes) -> Downstream {
        let _ = now;
        let Some(usage) = self.servers.usage(server, handle) else { return Downstream::Unknown };
        let Some(session) = usage.session.and_then(|key| self.sessions.get_mut(key.index())) else {
            return Downstream::Unknown;
        };
        if matches!(session.state, State::Leaving { then: Then::Replace { .. }, .. }) {
            // A home that is being given up before the player was told of it.
            return Downstream::Unknown;
        }
        self.counters.frames_down += 1;
        match (usage.role, session.conn) {
            (Role::Home, Some(conn)) if session.greeted && !session.window.has_unsent() => {
                // While a home is being attached anew the player is told of it first.
                if matches!(session.state, State::Attaching { .. }) {
                    session.window.keep(body);
                    return Downstream::Kept;
                }
                session.window.sent(body);
                Downstream::Deliver { conn }
            }
            (Role::Home | Role::Target, _) => {
                session.window.keep(body);
                Downstream::Kept
            }
            (Role::Closing, _) => Downstream::Unknown,
        }
    }

    /// Where a player's datagram goes; `None`: nowhere now, drop it.
    #[must_use]
    pub fn upstream_datagram(&self, session: SessionKey) -> Option<(ServerKey, u32)> {
        let session = self.sessions.get(session.index())?;
        match &session.state {
            State::Playing { seat, .. } if session.greeted => Some((seat.server, seat.handle)),
            State::Playing { .. }
            | State::Waiting { .. }
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => None,
        }
    }

    /// Where a world server's datagram goes; `None`: nowhere now, drop it.
    #[must_use]
    pub fn downstream_datagram(&self, server: ServerKey, handle: u32) -> Option<ConnKey> {
        let usage = self.servers.usage(server, handle)?;
        let session = self.sessions.get(usage.session?.index())?;
        match usage.role {
            Role::Home if session.greeted => session.conn,
            Role::Home | Role::Target | Role::Closing => None,
        }
    }

    /// The player acknowledged: it has received so many `Game` frames since the session began.
    pub fn player_ack(&mut self, session: SessionKey, received: u64) {
        if let Some(session) = self.sessions.get_mut(session.index()) {
            session.window.acknowledged(received);
        }
    }

    /// How many `Game` frames of this session have been received, for an `Ack` to the player.
    #[must_use]
    pub fn received_from_player(&self, session: SessionKey) -> u64 {
        self.sessions.get(session.index()).map_or(0, |s| s.window.received())
    }
}
