//! A planned stop: nobody new comes in, players are sent to the other gateways and leave as they get there, then the gateway
//! ends. World servers take each player over from here, so that nobody is without a gateway for a moment.

use std::time::{Duration, Instant};

use tidegate_proto::frame::{self, player};
use tidegate_proto::v1;

use super::Shard;

/// How often those who have not left are asked again: a client may have missed it among its own reconnecting.
const AGAIN: Duration = Duration::from_secs(2);

/// The gateway is about to stop.
pub(super) struct Stopping {
    deadline: Instant,
    again: Instant,
}

impl Shard {
    /// Begins to stop, if there is another gateway for the players to go to. False: there is none.
    pub(super) fn begin_stopping(&mut self) -> bool {
        let others = self.others();
        if self.shared.is_none() || others.is_empty() || self.edge.count() == 0 {
            return false;
        }
        tracing::info!(players = self.edge.count(), gateways = ?others, within = ?self.stop_within,
            "stopping: players are sent to the other gateways");
        tidegate_events::event!("gateway_stopping", sessions = self.edge.count());
        self.edge.stop_accepting();
        let deadline = self.instant + self.stop_within;
        self.stopping = Some(Stopping { deadline, again: self.instant });
        self.next_figures = self.instant;
        true
    }

    /// Sends players away while there are any. True: it is time to end.
    pub(super) fn stop_further(&mut self) -> bool {
        let others = self.others();
        let Some(stopping) = &mut self.stopping else { return false };
        if self.edge.count() == 0 {
            return true;
        }
        if self.instant >= stopping.deadline {
            tracing::warn!(players = self.edge.count(), "stopping: the deadline is over with players here");
            return true;
        }
        if self.instant >= stopping.again {
            stopping.again = self.instant + AGAIN;
            let within = stopping.deadline.saturating_duration_since(self.instant);
            let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
            let relocate = v1::Relocate { gateways: others, within_ms };
            self.edge.tell_all(|out| frame::put_message(out, player::RELOCATE, &relocate));
        }
        false
    }

    /// When [`Self::stop_further`] is due.
    pub(super) fn next_stopping(&self) -> Option<Instant> {
        self.stopping.as_ref().map(|stopping| stopping.again.min(stopping.deadline))
    }

    fn others(&self) -> Vec<String> {
        self.gateways.iter().filter(|address| **address != self.player_address).cloned().collect()
    }
}
