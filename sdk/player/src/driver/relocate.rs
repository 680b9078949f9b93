//! Moving to another gateway while this one still serves: make before break.
//!
//! ```text
//!   Relocate ──> seeking ──a handshake elsewhere is done──> crossing ──Welcome──> plays there, the old connection is closed
//!                   ^  │                                       │
//!                   │  └─the time is over──> a lost connection │
//!                   └──refused, no Welcome in time─────────────┘   plays on here
//! ```
//!
//! While seeking, the session plays on. While crossing, which takes a round trip and a take-over, it neither takes nor sends
//! anything on the old connection: the `Hello` has told the new gateway the counts, and they must stay true.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::frame::{Frame, player};
use tidegate_proto::v1;
use tokio::time::Instant;
use tracing::debug;

use super::play::{Arrival, Ended, Player};
use super::{First, first_answer};
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::endpoint::PlayerEndpoint;
use crate::event::Event;
use crate::gateways::Gateway;
use crate::round::Round;
use crate::session::Stage;
use crate::wire::{Fault, Line, Wire};

/// The longest standstill that a player is asked to bear for a relocation that is of no use to it. A gateway that needs
/// longer for its `Welcome` is left again.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(2);
/// The players of one gateway are all told at once, and spread over this time (or a quarter of what there is, if that is
/// less): for nobody is it urgent, and handshakes are dear.
const SPREAD: Duration = Duration::from_secs(1);

/// A search for another gateway, beside the game.
pub(super) struct Relocation {
    endpoint: PlayerEndpoint,
    config: Arc<ClientConfig>,
    /// Who to ask, best first.
    gateways: Vec<Gateway>,
    /// When the old gateway stops.
    until: Instant,
    step: Step,
    backoff: Backoff,
}

enum Step {
    /// Nobody is asked before then.
    Pause(Instant),
    Round(Box<Round>),
}

/// What the new gateway made of the `Hello`.
enum Declined {
    /// It said no: it has not taken the session.
    Refused(String),
    /// It may have.
    Unclear(Fault),
}

impl Relocation {
    /// The next gateway with which a handshake is done; `None` when the time is over. May be cancelled without loss.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            let (pause, round) = match &mut self.step {
                Step::Pause(at) => (Some(*at), None),
                Step::Round(round) => (None, Some(round)),
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.until) => return None,
                () = tokio::time::sleep_until(pause.unwrap_or(self.until)), if pause.is_some() => {
                    let round = Round::new(self.endpoint.clone(), self.config.clone(), self.gateways.clone());
                    self.step = Step::Round(Box::new(round));
                }
                line = async { round?.next().await }, if pause.is_none() => match line {
                    Some(line) => return Some(line),
                    None => self.step = Step::Pause(Instant::now() + self.backoff.next(rand::random())),
                },
            }
        }
    }
}

impl Player {
    /// The gateway asked the session to move. Ignored by one that is not in play yet, or that is just ending.
    pub(super) fn told_to_relocate(&mut self, here: &Gateway, message: &v1::Relocate) {
        if self.resume_ticket.is_none() || self.shared.outbox().stage != Stage::Open {
            return;
        }
        let within = Duration::from_millis(u64::from(message.within_ms));
        let named = if self.config.learn_gateways { &message.gateways[..] } else { &[] };
        self.gateways.learn(named);
        let gateways = self.gateways.elsewhere(named, here, &mut rand::rng());
        let now = Instant::now();
        let spread = SPREAD.min(within / 4).mul_f64(rand::random());
        self.relocation = Some(Relocation {
            endpoint: self.shared.endpoint.clone(),
            config: self.config.clone(),
            gateways,
            until: now + within,
            step: Step::Pause(now + spread),
            backoff: Backoff::default(),
        });
        self.inbox.push_back(Event::Relocating { within });
    }

    /// Says `Hello` through `line`. From here on until the answer, nothing is taken from `old` and nothing sent on it. `None`:
    /// the session stays with `old`.
    pub(super) async fn cross(&mut self, old: &Wire, line: Line) -> Option<Ended> {
        let since = Instant::now();
        let gateway = line.gateway().clone();
        // Nothing was understood of what came after these counts.
        let hello = self.resume_hello();
        self.shared.outbox().connection = None;
        let (shared, config) = (self.shared.clone(), self.config.clone());
        let declined = tokio::select! {
            welcomed = welcomed(line, &shared.endpoint, &config, &hello) => match welcomed {
                Ok(other) => {
                    // A session that was on its way back anyway is still on it.
                    if self.welcomed {
                        (self.arrival, self.since) = (Arrival::Relocated, since);
                    }
                    return Some(Ended::Relocated(Box::new(other)));
                }
                Err(declined) => declined,
            },
            () = self.deliver_until_abandoned() => return Some(Ended::Abandoned),
        };
        match declined {
            Declined::Refused(why) => debug!(%gateway, why, "refused to have the session"),
            Declined::Unclear(fault) => {
                debug!(%gateway, why = fault.describe(), "did not take the session in time");
                self.gave_up_a_hello();
            }
        }
        self.shared.outbox().connection = self.welcomed.then(|| old.connection.clone());
        None
    }
}

/// Waits for the `Welcome` behind a `Hello`. A `Hold` before it says that it may take long.
async fn welcomed(
    line: Line,
    endpoint: &PlayerEndpoint,
    config: &ClientConfig,
    hello: &v1::Hello,
) -> Result<(Wire, Frame), Declined> {
    let asked = async {
        let mut wire = line.hello(config, hello).await.map_err(Declined::Unclear)?;
        loop {
            match first_answer(&mut wire, endpoint, config).await.map_err(Declined::Unclear)? {
                First::Go(frame) if frame.kind == player::WELCOME => return Ok((wire, frame)),
                First::Go(_) => {}
                First::Refused(refusal) => return Err(Declined::Refused(refusal.to_string())),
            }
        }
    };
    match tokio::time::timeout(LONGEST_STANDSTILL, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Declined::Unclear(Fault::Lost("no welcome in time".into()))),
    }
}
