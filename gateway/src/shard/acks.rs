//! Acknowledgements between players and world servers: gathered, and passed on now and then in few messages.

use std::time::Duration;

use gateway_core::ServerKey;
use tidegate_link::DEFAULT_STREAMS;
use tidegate_proto::v1::{self, gateway_to_world};

use super::Shard;
use crate::links::LinkId;

/// How late a world server may learn what its players have received: it keeps the frames for so long, some ten of them.
pub(super) const TELL_WORLDS_EVERY: Duration = Duration::from_millis(100);

impl Shard {
    /// Tells world servers how many frames their players have received.
    pub(super) fn tell_worlds(&mut self) {
        if self.instant < self.next_world_acks {
            return;
        }
        self.next_world_acks = self.instant + TELL_WORLDS_EVERY;
        for realm in 0..self.realms.len() as u32 {
            let core = &mut self.realms[realm as usize].core;
            if !core.has_acks() {
                continue;
            }
            let mut acks: Vec<(ServerKey, u32, u32, u64)> = core
                .take_acks()
                .map(|(server, handle, count)| (server, handle % DEFAULT_STREAMS, handle, count))
                .collect();
            acks.sort_unstable();
            // One message for each stream of each link: the order within a stream gives the handles their meaning.
            for group in acks.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                let (server, _, first, _) = group[0];
                let received = v1::FramesReceived {
                    handles: group.iter().map(|(_, _, handle, _)| *handle).collect(),
                    counts: group.iter().map(|(_, _, _, count)| *count).collect(),
                };
                let message = gateway_to_world::Message::FramesReceived(received);
                if let Some(sender) = self.links.sender(realm, server.0) {
                    let sent = sender.control(first, v1::GatewayToWorld { message: Some(message) });
                    self.check_sent(realm, server.0, sent);
                }
            }
        }
    }

    /// A world server has received so many frames of these players.
    pub(super) fn world_received(&mut self, link: LinkId, received: &v1::FramesReceived) {
        for (handle, count) in received.handles.iter().zip(&received.counts) {
            let core = &mut self.realms[link.realm as usize].core;
            let Some(confirmed) = core.world_ack(ServerKey(link.server), *handle, *count) else { continue };
            if confirmed.resume {
                self.edge.resume_reading(confirmed.conn.0);
            }
            if self.players.received(confirmed.conn.0, confirmed.frames, self.instant) {
                self.send_ack(confirmed.conn.0);
            }
        }
    }
}
