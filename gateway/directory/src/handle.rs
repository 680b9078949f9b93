//! The side of the shared directory that a gateway's serving loop holds: it asks without waiting, and answers come as events.

use std::time::Duration;

use gateway_core::Who;
use gateway_core::directory::{DirectoryAnswer, DirectoryOp, DirectoryOutcome, DirectoryRequest};
use tidegate_types::{RealmId, Timestamp};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::DirectoryConfig;
use crate::driver::{Driver, Request};
use crate::figures::{Figures, Ledger, State};
use crate::scripts;
use crate::tls::{BadCaFile, Tls};
use crate::url::SharedUrl;

/// What the directory has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryEvent {
    /// The answer to [`DirectoryHandle::ask`]; every request gets exactly one.
    Answer {
        /// As it was asked with.
        tag: u64,
        /// The answer; `Unavailable` after the time-out, an error, or while the directory is out of reach.
        answer: DirectoryAnswer,
    },
    /// The answer to [`DirectoryHandle::take_ticket`]; every one gets exactly one.
    Ticket {
        /// As it was asked with.
        token: u64,
        /// How it went.
        outcome: TicketOutcome,
    },
    /// The directory can be asked: after every (re)connection, and whenever it turns out to be another one than before.
    /// Live sessions should be announced (`Raise`), for what Redis knew may be lost or old.
    Up {
        /// It was found empty, or replaced by another one, since it was last seen (or before it was first seen).
        wiped: bool,
    },
    /// The directory is out of reach or refuses. Said once; requests are answered `Unavailable` until [`DirectoryEvent::Up`].
    /// Of a cluster a part may go on.
    Down {
        /// Why, in one line.
        why: String,
    },
}

/// How taking a ticket went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketOutcome {
    /// Nobody had used it; it is used now.
    Fresh,
    /// It was used before.
    Used,
    /// The directory is out of reach. Whether the ticket counts as used there is not known.
    Unavailable,
}

/// Asks the shared directory. Cheap to clone, usable from any thread; when the last one is gone the connection ends.
///
/// No call waits. At most [`DirectoryConfig::max_requests`] requests are on their way; one more is answered `Unavailable`.
/// Requests reach Redis in the order in which they were asked, except that one which has to send its script again (after
/// Redis forgot it) may come later.
#[derive(Debug, Clone)]
pub struct DirectoryHandle {
    requests: mpsc::UnboundedSender<Request>,
    events: mpsc::UnboundedSender<DirectoryEvent>,
    ledger: Ledger,
    config: DirectoryConfig,
    /// Tells this gateway's tickets from those of others.
    run: Uuid,
}

/// Who waits for a request.
#[derive(Debug)]
pub(crate) enum Waiter {
    Core { tag: u64, id: u64, who: Who, op: DirectoryOp },
    Ticket { token: u64 },
    Nobody,
}

impl Waiter {
    /// What the waiter hears when there is no answer.
    pub(crate) fn unavailable(self) -> Option<DirectoryEvent> {
        match self {
            Self::Core { tag, id, who, .. } => Some(DirectoryEvent::Answer {
                tag,
                answer: DirectoryAnswer { id, who, outcome: DirectoryOutcome::Unavailable },
            }),
            Self::Ticket { token } => Some(DirectoryEvent::Ticket { token, outcome: TicketOutcome::Unavailable }),
            Self::Nobody => None,
        }
    }
}

/// Connects to the directory at `url`, on the current tokio runtime, and keeps it connected until the last handle is gone.
/// The receiver has at most one event for each request on its way, besides `Up` and `Down`.
///
/// An unreachable directory is no error here: it is `Down` until it is reached.
///
/// # Errors
/// The certificate authority's file cannot be read, or holds no certificate.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(
    url: &SharedUrl,
    config: DirectoryConfig,
) -> Result<(DirectoryHandle, mpsc::UnboundedReceiver<DirectoryEvent>), BadCaFile> {
    let tls = Tls::new(url, &config)?;
    let (requests, queue) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::unbounded_channel();
    let ledger = Ledger::default();
    let driver = Driver::new(url.clone(), config.clone(), tls, queue, events.clone(), ledger.clone());
    tokio::spawn(driver.run());
    Ok((DirectoryHandle { requests, events, ledger, config, run: Uuid::new_v4() }, receiver))
}

impl DirectoryHandle {
    /// Asks for a character's entry, or to change it. Answered by [`DirectoryEvent::Answer`] with the same `tag`.
    pub fn ask(&self, realm: &RealmId, tag: u64, request: DirectoryRequest) {
        let DirectoryRequest { id, who, op } = request;
        let call = scripts::entry(realm, &who, &op, &self.config);
        self.send(Request { waiter: Waiter::Core { tag, id, who, op }, call });
    }

    /// Marks a ticket as used until `expires`, unless it is used. Answered by [`DirectoryEvent::Ticket`] with the same
    /// `token`; tokens of one handle's calls must differ.
    pub fn take_ticket(&self, token: u64, realm: &RealmId, id: Uuid, expires: Timestamp, now: Timestamp) {
        let left = expires.since(now).max(Duration::from_millis(1));
        let ttl_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64 / 4);
        let call = scripts::take_ticket(realm, id, self.run, token, ttl_ms);
        self.send(Request { waiter: Waiter::Ticket { token }, call });
    }

    /// Gives a ticket back that this gateway took and that let nobody in, so that the player may try again with it. If the
    /// directory is out of reach the ticket stays used.
    pub fn give_ticket_back(&self, realm: &RealmId, id: Uuid) {
        self.send(Request { waiter: Waiter::Nobody, call: scripts::give_ticket_back(realm, id, self.run) });
    }

    /// How many more requests can be on their way. Who announces many sessions does so in portions, to leave room for logins.
    #[must_use]
    pub fn room(&self) -> usize {
        self.config.max_requests.saturating_sub(self.ledger.with(|figures| figures.in_flight))
    }

    /// How the directory is.
    #[must_use]
    pub fn state(&self) -> State {
        self.ledger.with(|figures| figures.state.clone())
    }

    /// What the connection did so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.ledger.with(|figures| figures.clone())
    }

    fn send(&self, request: Request) {
        let limit = self.config.max_requests;
        let taken = self.ledger.with(|figures| {
            let taken = figures.in_flight < limit;
            if taken {
                figures.in_flight += 1;
            } else {
                figures.overflowed += 1;
                figures.unavailable += 1;
            }
            taken
        });
        let refused = if taken { self.requests.send(request).err().map(|unsent| unsent.0) } else { Some(request) };
        if let Some(event) = refused.and_then(|request| request.waiter.unavailable()) {
            // Nobody listens any more once the receiver is gone.
            let _ = self.events.send(event);
        }
    }
}
