//! The task of a session: it owns the connection, keeps the session alive over lost ones, and turns frames into events.
//!
//! ```text
//!                ┌──Relocate, Welcome elsewhere──┐
//!                v                               │
//!   login ──> playing ───────────────────────────┘
//!                ├──connection lost──> resuming ──Welcome──> playing …
//!                │                        └──refused, grace over──> Closed
//!                └──Goodbye, logout──> Closed
//! ```

mod acks;
mod play;
mod relocate;
mod resume;

use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message as _;
use tidegate_proto::frame::{Frame, player};
use tidegate_proto::{CloseCode, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::config::ClientConfig;
use crate::convert;
use crate::endpoint::PlayerEndpoint;
use crate::error::{ConnectError, Refusal};
use crate::event::{CloseReason, Closed};
use crate::gateways::{Gateway, Gateways};
use crate::round::Round;
use crate::session::{EVENTS, Events, Session, Shared, Stage};
use crate::wire::{Fault, Wire};
use play::{Ended, Player};

/// Logs in and starts the session's task.
pub(crate) async fn login(
    endpoint: PlayerEndpoint,
    config: Arc<ClientConfig>,
    login_ticket: String,
) -> Result<(Session, Events), ConnectError> {
    let asked = Instant::now();
    let hello = v1::Hello {
        realm: config.realm.to_string(),
        login_ticket,
        client_version: config.client_version.clone(),
        ..v1::Hello::default()
    };
    let gateways = Gateways::new(&config.gateway);
    let mut round = Round::new(endpoint.clone(), config.clone(), gateways.configured());
    let Some(line) = round.next().await else {
        return Err(match round.failed() {
            Some((Gateway::Address(gateway), fault)) => connect_error(gateway, &fault),
            Some((Gateway::Name(_), _)) | None => ConnectError::NoGateway,
        });
    };
    // From here on the ticket may be spent, so no other gateway is asked.
    let gateway = line.address();
    let answered = async {
        let mut wire = line.hello(&config, &hello).await?;
        let first = first_answer(&mut wire, &endpoint, &config).await?;
        Ok((wire, first))
    };
    let (wire, frame) = match answered.await {
        Ok((wire, First::Go(frame))) => (wire, frame),
        Ok((_, First::Refused(refusal))) => return Err(ConnectError::Refused(refusal)),
        Err(fault) => return Err(connect_error(gateway, &fault)),
    };
    endpoint.heard(Instant::now());
    let (sender, receiver) = mpsc::channel(EVENTS);
    let shared = Shared::new(endpoint);
    let player = Player::new(shared.clone(), config.clone(), gateways, sender, asked);
    tokio::spawn(Driver { config, shared: shared.clone(), player }.run(wire, frame));
    Ok((Session { shared }, Events { receiver }))
}

fn connect_error(gateway: SocketAddr, fault: &Fault) -> ConnectError {
    match fault {
        Fault::Protocol { why, .. } => ConnectError::Protocol(why.clone()),
        Fault::ClosedByGateway { code, .. } if blames_us(*code) => ConnectError::Protocol(fault.describe()),
        Fault::ClosedByGateway { .. } | Fault::Lost(_) | Fault::Silent(_) | Fault::Leaving(_) => {
            ConnectError::Unreachable { gateway, why: fault.describe() }
        }
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
async fn first_answer(wire: &mut Wire, endpoint: &PlayerEndpoint, config: &ClientConfig) -> Result<First, Fault> {
    let answer = match wire.answer(endpoint, config.answer_timeout).await {
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
    config: Arc<ClientConfig>,
    shared: Arc<Shared>,
    player: Player,
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
            let ended = self.player.play(&mut wire, first).await;
            self.shared.outbox().connection = None;
            if self.player.welcomed {
                lost_since = None;
            } else {
                self.player.gave_up_a_hello();
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
                Ended::Relocated(other) => {
                    wire.close(CloseCode::Done, "the client plays elsewhere");
                    debug!(from = %wire.gateway, to = %other.0.gateway, "relocated");
                    (wire, first) = *other;
                    continue;
                }
                Ended::Faulted(fault) => fault,
            };
            if let Some(closed) = self.final_word(&wire, &fault) {
                return Some(closed);
            }
            wire.close(CloseCode::Internal, "the client gave this connection up");
            debug!(gateway = %wire.gateway, why = fault.describe(), "connection lost");
            let since = *lost_since.get_or_insert_with(Instant::now);
            self.player.reconnecting(fault.describe(), since);
            (wire, first) = match self.resume(since, &wire.gateway, matches!(fault, Fault::Leaving(_))).await {
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
            Fault::Lost(_) | Fault::Silent(_) | Fault::Leaving(_) => match self.player.resume_ticket {
                None => closed(None, CloseReason::NotAdmitted),
                Some(_) => None,
            },
        }
    }
}
