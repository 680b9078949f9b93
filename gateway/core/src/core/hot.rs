//! The path of every game frame and datagram: array accesses only.

use bytes::Bytes;
use tidegate_types::Now;

use super::Core;
use super::servers::Role;
use crate::key::{ConnKey, ServerKey, SessionKey};
use crate::session::{State, Then};
use crate::window::Taken;

/// What to do with a `Game` frame from a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// Send it on, now, on the stream of `handle`.
    Forward {
        /// To this server.
        server: ServerKey,
        /// Under this handle.
        handle: u32,
        /// The home has not confirmed many before it: stop reading, until it has.
        pause: bool,
    },
    /// The core keeps it.
    Queued,
    /// The core keeps it, and can keep no more: stop reading until `ResumeReading`.
    QueuedPause,
    /// The session is ending, or the frame is here already: drop it.
    Ignore,
    /// The player may not send frames now: close the connection.
    Violation,
}

/// What a world server's confirmation means for a player's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// The connection, which is owed an `Ack`.
    pub conn: ConnKey,
    /// For so many frames more.
    pub frames: u32,
    /// It may be read again.
    pub resume: bool,
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
        if session.again > 0 {
            session.again -= 1;
            return Upstream::Ignore;
        }
        match &session.state {
            State::Playing { seat, .. } => {
                let (server, handle) = (seat.server, seat.handle);
                let pause = match session.window.take(body, true) {
                    Taken::Yes => false,
                    Taken::Full => true,
                    Taken::TooMany => return Upstream::Violation,
                };
                session.paused |= pause;
                self.counters.frames_up += 1;
                Upstream::Forward { server, handle, pause }
            }
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { then: Then::Replace { .. }, .. } => match session.window.take(body, false) {
                Taken::Yes => {
                    self.counters.frames_up += 1;
                    Upstream::Queued
                }
                Taken::Full => {
                    self.counters.frames_up += 1;
                    session.paused = true;
                    Upstream::QueuedPause
                }
                Taken::TooMany => Upstream::Violation,
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
        if session.restarting {
            // Of the channel as it was before another client came.
            return Downstream::Unknown;
        }
        if session.window.pass_over() {
            return Downstream::Kept;
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
            | State::Finding(_)
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
        if let Some(state) = self.sessions.get_mut(session.index()) {
            let before = state.window.delivered();
            state.window.acknowledged(received);
            if state.window.delivered() != before {
                self.ack_home(session);
            }
        }
    }

    /// The home is to be told how many frames the player has.
    pub(super) fn ack_home(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key.index()];
        if !session.ack_due {
            session.ack_due = true;
            self.acks.push(key);
        }
    }

    /// True if a world server is to be told how many frames of its players have arrived: see [`Core::take_acks`].
    #[must_use]
    pub const fn has_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    /// For each session whose player has acknowledged frames since the last time: the home, the handle there, how many
    /// frames since the session began. To be told on the stream of the handle.
    pub fn take_acks(&mut self) -> impl Iterator<Item = (ServerKey, u32, u64)> {
        let sessions = &mut self.sessions;
        self.acks.drain(..).filter_map(|key| {
            let session = sessions.get_mut(key.index())?;
            session.ack_due = false;
            match &session.state {
                State::Playing { seat, .. } => Some((seat.server, seat.handle, session.window.delivered())),
                // Told when it has arrived.
                State::Waiting { .. }
                | State::Finding(_)
                | State::Claiming { .. }
                | State::Attaching { .. }
                | State::Moving(_)
                | State::Lost { .. }
                | State::Leaving { .. } => None,
            }
        })
    }

    /// A world server has received so many frames of the player at that handle, since the session began.
    pub fn world_ack(&mut self, server: ServerKey, handle: u32, received: u64) -> Option<Confirmed> {
        let usage = self.servers.usage(server, handle).filter(|usage| usage.role == Role::Home)?;
        let session = self.sessions.get_mut(usage.session?.index())?;
        let is_home = match &session.state {
            State::Playing { seat, .. } => (seat.server, seat.handle) == (server, handle),
            State::Moving(h) => (h.source.server, h.source.handle) == (server, handle) && !h.is_committed(),
            State::Waiting { .. }
            | State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Lost { .. }
            | State::Leaving { .. } => false,
        };
        if !is_home {
            return None;
        }
        let before = session.window.received();
        let room = session.window.confirmed(received);
        let resume = room && session.paused && matches!(session.state, State::Playing { .. });
        if resume {
            session.paused = false;
        }
        let frames = u32::try_from(session.window.received() - before).unwrap_or(u32::MAX);
        let conn = session.conn.filter(|_| session.greeted)?;
        Some(Confirmed { conn, frames, resume })
    }

    /// How many `Game` frames of this session its homes have received, for an `Ack` to the player.
    #[must_use]
    pub fn received_from_player(&self, session: SessionKey) -> u64 {
        self.sessions.get(session.index()).map_or(0, |s| s.window.received())
    }
}
