//! The core of one realm: inputs in, actions out. Wiring only; each family of inputs has its own file beside this one.

use std::time::Duration;

use bytes::Bytes;
use tidegate_types::{Generation, Mono, Now, RealmId};

use crate::action::{Action, SessionRow};
use crate::counters::Counters;
use crate::input::Input;
use crate::key::{ConnKey, ServerKey, SessionKey};

/// Limits and times.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// How long an answered heartbeat lets a world server simulate.
    pub lease: Duration,
    /// How long a step of a hand-over, an attach or a leave may take.
    pub step_timeout: Duration,
    /// Most sessions and hellos that wait in line; more are refused.
    pub max_line: usize,
    /// Upstream frames kept for one session while its home changes: count.
    pub max_queued_frames: usize,
    /// Upstream frames kept for one session while its home changes: bytes.
    pub max_queued_bytes: usize,
    /// Unacknowledged downstream frames kept for one session: count.
    pub max_window_frames: usize,
    /// Unacknowledged downstream frames kept for one session: bytes.
    pub max_window_bytes: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            step_timeout: Duration::from_secs(5),
            max_line: 100_000,
            max_queued_frames: 256,
            max_queued_bytes: 64 * 1024,
            max_window_frames: 256,
            max_window_bytes: 64 * 1024,
        }
    }
}

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

/// One realm's sessions on one gateway.
#[derive(Debug)]
pub struct Core {
    realm: RealmId,
    config: CoreConfig,
    counters: Counters,
}

impl Core {
    /// A core that knows nothing yet.
    #[must_use]
    pub fn new(realm: RealmId, config: CoreConfig) -> Self {
        Self { realm, config, counters: Counters::default() }
    }

    /// Takes one input; what is to be done for it is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Action>) {
        let _ = (now, input, out, &self.config);
    }

    /// When [`Core::handle_timeout`] wants to be called next; `None`: not before another input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Action>) {
        let _ = (now, out);
    }

    /// A `Game` frame from a player.
    pub fn upstream(&mut self, now: Now, session: SessionKey, body: &Bytes) -> Upstream {
        let _ = (now, session, body);
        Upstream::Violation
    }

    /// A `Game` frame from a world server.
    pub fn downstream(&mut self, now: Now, server: ServerKey, handle: u32, body: &Bytes) -> Downstream {
        let _ = (now, server, handle, body);
        Downstream::Unknown
    }

    /// Where a player's datagram goes; `None`: nowhere now, drop it.
    #[must_use]
    pub fn upstream_datagram(&self, session: SessionKey) -> Option<(ServerKey, u32)> {
        let _ = session;
        None
    }

    /// Where a world server's datagram goes; `None`: nowhere now, drop it.
    #[must_use]
    pub fn downstream_datagram(&self, server: ServerKey, handle: u32) -> Option<ConnKey> {
        let _ = (server, handle);
        None
    }

    /// The player acknowledged: it has received so many `Game` frames since the session began.
    pub fn player_ack(&mut self, session: SessionKey, received: u64) {
        let _ = (session, received);
    }

    /// How many `Game` frames of this session have been received, for an `Ack` to the player.
    #[must_use]
    pub fn received_from_player(&self, session: SessionKey) -> u64 {
        let _ = session;
        0
    }

    /// All rows, for a full report.
    pub fn rows(&self) -> Vec<SessionRow> {
        Vec::new()
    }

    /// The table in force; `None` before the first.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        None
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The realm.
    #[must_use]
    pub const fn realm(&self) -> &RealmId {
        &self.realm
    }
}
