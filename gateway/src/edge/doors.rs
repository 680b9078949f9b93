//! Who is let in: new connections, within the limits, and answers outside any connection.

use std::time::Duration;

use quinn_proto::{Incoming, Transmit};

use super::admission::Verdict;
use super::connection::PlayerConnection;
use super::{Edge, mark_dirty};

impl Edge {
    pub(super) fn accept(&mut self, incoming: Incoming) {
        if !self.accepting {
            // Its client goes to another gateway at once.
            self.refuse(incoming);
            return;
        }
        let limits = &self.limits;
        if self.handshaking >= limits.pending_handshakes {
            // Without an answer its client tries again in a moment, when there is room.
            self.counters.turned_away += 1;
            self.endpoint.ignore(incoming);
            return;
        }
        let proven = incoming.remote_address_validated();
        if self.count >= limits.connections || self.memory.is_full() {
            self.counters.turned_away += 1;
            if proven {
                self.refuse(incoming);
            } else {
                // Not worth an answer to an address that may be forged.
                self.endpoint.ignore(incoming);
            }
            return;
        }
        let pressed = self.handshaking >= limits.pending_handshakes / 2;
        let address = incoming.remote_address().ip();
        match self.admission.judge(address, proven, pressed, self.now) {
            Verdict::Admit => self.begin(incoming),
            Verdict::Prove => {
                let mut contents = Vec::new();
                if let Ok(transmit) = self.endpoint.retry(incoming, &mut contents) {
                    self.counters.retried += 1;
                    self.respond(&transmit, &contents);
                }
            }
            Verdict::Refuse => {
                self.counters.prefix_refused += 1;
                self.refuse(incoming);
            }
            Verdict::Ignore => {
                self.counters.turned_away += 1;
                self.endpoint.ignore(incoming);
            }
        }
    }

    fn refuse(&mut self, incoming: Incoming) {
        let mut contents = Vec::new();
        let transmit = self.endpoint.refuse(incoming, &mut contents);
        self.respond(&transmit, &contents);
    }

    fn begin(&mut self, incoming: Incoming) {
        let limits = &self.limits;
        let deadline = self.now + Duration::from_millis(limits.handshake_ms);
        let mut contents = Vec::new();
        match self.endpoint.accept(incoming, self.now, &mut contents, None) {
            Ok((handle, proto)) => {
                let index = handle.0;
                if self.connections.len() <= index {
                    self.connections.resize_with(index + 1, || None);
                }
                let mut conn = Box::new(PlayerConnection::new(proto, handle, deadline));
                mark_dirty(&mut conn, &mut self.dirty);
                self.connections[index] = Some(conn);
                self.count += 1;
                self.handshaking += 1;
                self.counters.accepted += 1;
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(&transmit, &contents);
                }
            }
        }
    }

    /// An answer outside any connection. Dropped when the socket is full: whoever asked asks again.
    pub(super) fn respond(&mut self, transmit: &Transmit, contents: &[u8]) {
        if self.blocked.is_none() {
            self.transmit(transmit, contents);
        }
    }
}
