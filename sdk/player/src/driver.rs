//! The task of a session: it owns the connection, keeps the session alive over lost ones, and turns frames into events.
//!
//! ```text
//!   login ──> playing ──connection lost──> resuming ──Welcome──> playing … ──> Closed
//!                │                            │
//!                └──Goodbye, logout──> Closed └──refused, grace over──> Closed
//! ```

mod acks;
mod play;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tidegate_proto::frame::{Frame, player};
use tidegate_proto::{CloseCode, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::convert;
use crate::endpoint::PlayerEndpoint;
use crate::error::{ConnectError, Refusal};
use crate::event::{CloseReason, Closed};
use crate::session::{EVENTS, Events, Session, Shared, Stage};
use crate::wire::{Fault, Wire};
use play::{Ended, Player};

/// Until a `Welcome` says how long the grace time is.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

/// Logs in and starts the session's task.
pub(crate) async fn login(
    endpoint: PlayerEndpoint,
    config: Arc<ClientConfig>,
    login_ticket: String,
) -> Result<(Session, Events), ConnectError> {
    let hello = v1::Hello {
        realm: config.realm.to_string(),
        login_ticket,
        client_version: config.client_version.clone(),
        ..v1::Hello::default()
    };
    let mut failed = ConnectError::NoGateway;
    for (index, &gateway) in config.gateway.iter().enumerate() {
        let mut wire = match Wire::open(&endpoint, gateway, &config, &hello).await {
            Ok(wire) => wire,
            Err(fault) => {
                failed = connect_error(gateway, &fault);
                continue;
            }
        };
        // From here on the ticket may be spent, so no other gateway is asked.
        let frame = match first_answer(&mut wire, &config).await {
            Ok(First::Go(frame)) => frame,
            Ok(First::Refused(refusal)) => return Err(ConnectError::Refused(refusal)),
            Err(fault) => return Err(connect_error(gateway, &fault)),
        };
        let (sender, receiver) = mpsc::channel(EVENTS);
        let shared = Shared::new();
        let driver = Driver {
            endpoint,
            config,
            shared: shared.clone(),
            player: Player::new(shared.clone(), sender),
            next_gateway: index,
        };
        tokio::spawn(driver.run(wire, frame));
        return Ok((Session { shared }, Events { receiver }));
    }
    Err(failed)
}

fn connect_error(gateway: SocketAddr, fault: &Fault) -> ConnectError {
    match fault {
        Fault::Protocol { why, .. } => ConnectError::Protocol(why.clone()),
        Fault::ClosedByGateway { code, .. } if blames_us(*code) => ConnectError::Protocol(fault.describe()),
        Fault::ClosedByGateway { .. } | Fault::Lost(_) => ConnectError::Unreachable { gateway, why: fault.describe() },
    }
}

/// True for the close codes by which a gateway says that the client broke the protocol.
fn blames_us(code: u64) -> bool {
    [CloseCode::BadFrame, CloseCode::FrameTooLong, CloseCode::BadMessage, CloseCode::TooManyStreams]
        .into_iter()
        .any(|known| code == known as u64)
}

/// What the first frame of a connection can be.
enum First {
    /// `Welcome` or `Hold`: go on.
    Go(Frame),
    Refused(Refusal),
}

/// Waits for the gateway's first answer; closes the connection if what comes is none.
async fn first_answer(wire: &mut Wire, config: &ClientConfig) -> Result<First, Fault> {
    let answer = match wire.first_frame(config.answer_timeout).await {
        Ok(frame) => match frame.kind {
            player::WELCOME | player::HOLD => Ok(First::Go(frame)),
            player::REFUSED => match v1::Refused::decode(&frame.body[..]) {
                Ok(message) => Ok(First::Refused(convert::refusal(message))),
                Err(error) => Err(Fault::bad_message(error)),
            },
            other => Err(Fault::bad_frame(format!("frame type {other:#x} cannot be the first answer"))),
        },
        Err(fault) => Err(fault),
    };
    if let Err(Fault::Protocol { code, why }) = &answer {
        wire.close(*code, why);
    }
    answer
}

struct Driver {
    endpoint: PlayerEndpoint,
    config: Arc<ClientConfig>,
    shared: Arc<Shared>,
    player: Player,
    /// Where the next attempt goes: the gateway that served last is asked first.
    next_gateway: usize,
}

impl Driver {
    async fn run(mut self, wire: Wire, first: Frame) {
        let closed = self.live(wire, first).await;
        {
            let mut outbox = self.shared.outbox();
            outbox.stage = Stage::Over;
            outbox.connection = None;
        }
        self.shared.progress.notify_waiters();
        if let Some(closed) = closed {
            self.player.finish(closed).await;
        }
    }

    /// Lives from connection to connection. `None`: nobody listens any more.
    async fn live(&mut self, mut wire: Wire, mut first: Frame) -> Option<Closed> {
        // When the connection was lost, until the session is back in play.
        let mut lost_since: Option<Instant> = None;
        loop {
            let ended = self.player.play(&mut wire, first, self.config.logout_timeout).await;
            self.shared.outbox().connection = None;
            if self.player.welcomed {
                lost_since = None;
            }
            let fault = match ended {
                Ended::Abandoned => {
                    wire.close(CloseCode::Done, "the client went away");
                    return None;
                }
                Ended::Closed(closed) => {
                    wire.close(CloseCode::Done, "");
                    return Some(closed);
                }
                Ended::Faulted(fault) => fault,
            };
            if let Some(closed) = self.final_word(&wire, &fault) {
                return Some(closed);
            }
            wire.close(CloseCode::Internal, "the client gave this connection up");
            debug!(why = fault.describe(), "connection lost");
            self.player.reconnecting(fault.describe());
            let since = *lost_since.get_or_insert_with(Instant::now);
            (wire, first) = match self.resume(since).await {
                Ok(back) => back,
                Err(over) => return over,
            };
        }
    }

    /// The end of the session, if the connection's end is one; `None` if the session can come back.
    fn final_word(&self, wire: &Wire, fault: &Fault) -> Option<Closed> {
        let closed = |code: Option<u64>, reason| Some(Closed { code, reason, message: fault.describe() });
        let logging_out = self.shared.outbox().stage == Stage::LoggingOut;
        match fault {
            Fault::Protocol { code, why } => {
                wire.close(*code, why);
                closed(None, CloseReason::Protocol)
            }
            Fault::ClosedByGateway { code, message } => {
                let is = |known: CloseCode| *code == known as u64;
                // Without a goodbye before it, "done" is the session's end only if that was asked for.
                if is(CloseCode::Done) && logging_out {
                    closed(Some(*code), CloseReason::LoggedOut)
                } else if is(CloseCode::Replaced) {
                    closed(Some(*code), CloseReason::Replaced)
                } else if is(CloseCode::Refused) {
                    closed(Some(*code), CloseReason::Refused(message.clone()))
                } else if blames_us(*code) {
                    closed(Some(*code), CloseReason::Protocol)
                } else if self.player.resume_ticket.is_none() {
                    closed(Some(*code), CloseReason::NotAdmitted)
                } else {
                    None
                }
            }
            Fault::Lost(_) if self.player.resume_ticket.is_none() => closed(None, CloseReason::NotAdmitted),
            Fault::Lost(_) => None,
        }
    }

    /// Tries to come back until the grace time is over. `Err(None)`: nobody listens any more.
    async fn resume(&mut self, since: Instant) -> Result<(Wire, Frame), Option<Closed>> {
        let mut backoff = Backoff::default();
        let mut wait = backoff.next(rand::random());
        let mut last_word = Closed { code: None, reason: CloseReason::Unreachable, message: String::new() };
        loop {
            // A player who logs out while away waits no longer than a logout may take.
            let logging_out = self.shared.outbox().stage == Stage::LoggingOut;
            let patience = self.player.grace.unwrap_or(DEFAULT_GRACE);
            let patience = if logging_out { patience.min(self.config.logout_timeout) } else { patience };
            if since.elapsed() + wait > patience {
                return Err(Some(last_word));
            }
            let gateway = self.config.gateway[self.next_gateway % self.config.gateway.len()];
            let hello = self.player.resume_hello(&self.config);
            let tried = async {
                tokio::time::sleep(wait).await;
                attempt(&self.endpoint, gateway, &self.config, &hello).await
            };
            // The owner hears of the loss, and of what came before it, while the way back is sought.
            let tried = tokio::select! {
                tried = tried => tried,
                () = self.player.deliver_until_abandoned() => return Err(None),
            };
            if !matches!(tried, Ok(Ok(_))) {
                self.next_gateway = (self.next_gateway + 1) % self.config.gateway.len();
            }
            wait = backoff.next(rand::random());
            match tried {
                Ok(Ok(back)) => return Ok(back),
                // The goodbye had arrived before the connection was lost.
                Ok(Err(refusal)) if logging_out => {
                    let reason = CloseReason::LoggedOut;
                    return Err(Some(Closed { code: None, reason, message: refusal.message }));
                }
                Ok(Err(refusal)) => {
                    let reason = CloseReason::Refused(refusal.reason);
                    last_word = Closed { code: None, reason, message: refusal.message };
                    match refusal.retry_after {
                        Some(after) => wait = wait.max(after),
                        None => return Err(Some(last_word)),
                    }
                }
                Err(fault) => {
                    debug!(why = fault.describe(), "attempt to resume failed");
                    last_word.message = fault.describe();
                }
            }
        }
    }
}

/// One attempt to take the session up again.
async fn attempt(
    endpoint: &PlayerEndpoint,
    gateway: SocketAddr,
    config: &ClientConfig,
    hello: &v1::Hello,
) -> Result<Result<(Wire, Frame), Refusal>, Fault> {
    let mut wire = Wire::open(endpoint, gateway, config, hello).await?;
    Ok(match first_answer(&mut wire, config).await? {
        First::Go(frame) => Ok((wire, frame)),
        First::Refused(refusal) => Err(refusal),
    })
}
