//! One round of attempts: who of these gateways answers first?
//!
//! The gateways are asked one after another; the next one as soon as an attempt fails or has gone on for a moment, and the
//! first handshake that is done wins (as RFC 8305 does it with a host's addresses). Nothing but handshakes happens here: a
//! ticket is only ever shown to the one gateway that won.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::endpoint::PlayerEndpoint;
use crate::gateways::Gateway;
use crate::wire::{Fault, Line};

/// See the module's text. Dropping it ends all attempts.
pub(crate) struct Round {
    endpoint: PlayerEndpoint,
    config: Arc<ClientConfig>,
    waiting: VecDeque<Gateway>,
    dials: JoinSet<(Gateway, Result<Line, Fault>)>,
    /// Who is being asked, in the order of asking.
    asked: Vec<Gateway>,
    /// When the next one is asked although nobody has failed.
    next_at: Instant,
    failed: Option<(Gateway, Fault)>,
}

impl Round {
    pub(crate) fn new(endpoint: PlayerEndpoint, config: Arc<ClientConfig>, gateways: Vec<Gateway>) -> Self {
        Self {
            endpoint,
            config,
            waiting: gateways.into(),
            dials: JoinSet::new(),
            asked: Vec::new(),
            next_at: Instant::now(),
            failed: None,
        }
    }

    /// The next connection; `None` when every gateway has been tried. Those that were being asked when another one won are
    /// tried again by the next call. May be cancelled without loss.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        loop {
            if self.dials.is_empty() || Instant::now() >= self.next_at {
                self.ask_one();
            }
            tokio::select! {
                done = self.dials.join_next() => match done? {
                    Ok((gateway, Ok(line))) => {
                        self.asked.retain(|asked| *asked != gateway);
                        // An idle connection would only wait for its gateway's patience to end.
                        self.dials = JoinSet::new();
                        for asked in self.asked.drain(..).rev() {
                            self.waiting.push_front(asked);
                        }
                        self.next_at = Instant::now();
                        return Some(line);
                    }
                    Ok((gateway, Err(fault))) => {
                        self.asked.retain(|asked| *asked != gateway);
                        self.failed = Some((gateway, fault));
                        self.next_at = Instant::now();
                    }
                    Err(broken) => self.next_at = self.survive(broken),
                },
                () = tokio::time::sleep_until(self.next_at), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// The attempt that failed last, and why.
    pub(crate) fn failed(&mut self) -> Option<(Gateway, Fault)> {
        self.failed.take()
    }

    fn ask_one(&mut self) {
        let Some(gateway) = self.waiting.pop_front() else { return };
        self.asked.push(gateway.clone());
        self.next_at = Instant::now() + self.config.next_gateway_after;
        let (endpoint, config) = (self.endpoint.clone(), self.config.clone());
        self.dials.spawn(async move {
            let line = Line::dial(&endpoint, gateway.clone(), &config).await;
            (gateway, line)
        });
    }

    /// A task that panicked panics here, too; one that was cancelled belongs to a runtime that is ending.
    fn survive(&mut self, broken: tokio::task::JoinError) -> Instant {
        if broken.is_panic() {
            std::panic::resume_unwind(broken.into_panic());
        }
        Instant::now()
    }
}
