//! The way back after a lost connection: round after round over the known gateways, until the grace time is over.

use std::time::Duration;

use tidegate_proto::frame::Frame;
use tidegate_proto::v1;
use tokio::time::Instant;
use tracing::debug;

use super::play::Player;
use super::{Driver, First, first_answer};
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::endpoint::PlayerEndpoint;
use crate::error::Refusal;
use crate::event::{CloseReason, Closed};
use crate::gateways::Gateway;
use crate::round::Round;
use crate::session::Stage;
use crate::wire::{Fault, Line, Wire};

/// Until a `Welcome` says how long the grace time is.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);

/// The session cannot come back. `None`: nobody listens any more.
type Over = Option<Closed>;

impl Driver {
    /// Tries to come back; `last` served last and may be known to stop. A pause comes before the first round, so that not
    /// all players of a dead gateway come at once, and after each whole round in vain; never between two gateways.
    pub(super) async fn resume(
        &mut self,
        since: Instant,
        last: &Gateway,
        stopping: bool,
    ) -> Result<(Wire, Frame), Over> {
        let mut backoff = Backoff::default();
        let mut wait = backoff.next(rand::random());
        let mut last_word = Closed { code: None, reason: CloseReason::Unreachable, message: String::new() };
        // Who is not to be asked again before then.
        let mut refused: Vec<(Gateway, Instant)> = Vec::new();
        loop {
            if Instant::now() + wait > self.limit(since) {
                return Err(Some(last_word));
            }
            while_away(&mut self.player, tokio::time::sleep(wait)).await?;
            self.shared.endpoint.rebind_if_deaf(self.config.silence);
            refused.retain(|(_, until)| *until > Instant::now());
            let mut order = self.player.gateways.to_come_back(last, stopping, &mut rand::rng());
            order.retain(|gateway| refused.iter().all(|(refusing, _)| refusing != gateway));
            let mut round = Round::new(self.shared.endpoint.clone(), self.config.clone(), order);
            while let Some(line) = while_away(&mut self.player, round.next()).await? {
                if Instant::now() > self.limit(since) {
                    return Err(Some(last_word));
                }
                let gateway = line.gateway().clone();
                let hello = self.player.resume_hello();
                let answer = attempt(line, &self.shared.endpoint, &self.config, &hello);
                match while_away(&mut self.player, answer).await? {
                    Ok(Ok(back)) => return Ok(back),
                    // The goodbye had arrived before the connection was lost.
                    Ok(Err(refusal)) if self.shared.outbox().stage == Stage::LoggingOut => {
                        let reason = CloseReason::LoggedOut;
                        return Err(Some(Closed { code: None, reason, message: refusal.message }));
                    }
                    Ok(Err(refusal)) => {
                        let reason = CloseReason::Refused(refusal.reason);
                        last_word = Closed { code: None, reason, message: refusal.message };
                        match refusal.retry_after {
                            Some(after) => refused.push((gateway, Instant::now() + after)),
                            None => return Err(Some(last_word)),
                        }
                    }
                    Err(fault) => {
                        debug!(%gateway, why = fault.describe(), "attempt to resume failed");
                        self.player.gave_up_a_hello();
                        last_word.message = fault.describe();
                    }
                }
            }
            wait = backoff.next(rand::random());
            match round.failed() {
                Some((gateway, fault)) => {
                    debug!(%gateway, why = fault.describe(), "no gateway has the session back yet");
                    last_word.message = fault.describe();
                }
                // All who answered want to be left alone for a while.
                None => {
                    let earliest = refused.iter().map(|(_, until)| *until).min();
                    wait = wait.max(earliest.map_or(Duration::ZERO, |at| at.duration_since(Instant::now())));
                }
            }
        }
    }

    /// When no further attempt is begun. A player who logs out while away waits no longer than a logout may take.
    fn limit(&self, since: Instant) -> Instant {
        let logging_out = self.shared.outbox().stage == Stage::LoggingOut;
        let patience = self.player.grace.unwrap_or(DEFAULT_GRACE);
        since + if logging_out { patience.min(self.config.logout_timeout) } else { patience }
    }
}

/// Does this while the owner hears of the loss, and of what came before it.
async fn while_away<T>(player: &mut Player, work: impl Future<Output = T>) -> Result<T, Over> {
    tokio::select! {
        done = work => Ok(done),
        () = player.deliver_until_abandoned() => Err(None),
    }
}

/// One attempt to take the session up again.
async fn attempt(
    line: Line,
    endpoint: &PlayerEndpoint,
    config: &ClientConfig,
    hello: &v1::Hello,
) -> Result<Result<(Wire, Frame), Refusal>, Fault> {
    endpoint.heard(Instant::now());
    let mut wire = line.hello(config, hello).await?;
    Ok(match first_answer(&mut wire, endpoint, config).await? {
        First::Go(frame) => Ok((wire, frame)),
        First::Refused(refusal) => Err(refusal),
    })
}
