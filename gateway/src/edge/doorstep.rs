//! A look at a packet before any work is done for it: QUIC's long headers, with which handshakes begin.
//!
//! For the first packet of a handshake an endpoint derives keys before it can even refuse, some ten microseconds; a flood of
//! them would starve everybody's packets. So only so many a second get that far. Whoever has our answer (a connection id of
//! ours, which carries a keyed check) has a budget apart, so that handshakes under way end while strangers wait outside.

use quinn_proto::{ConnectionId, ConnectionIdGenerator};

use super::cid::GatewayCids;
use super::rate::{Bucket, Rate};

/// Version 1 of QUIC: the highest bit of a packet's first byte.
const LONG_HEADER: u8 = 0x80;
/// Where the length of the destination connection id stands, after the first byte and the version.
const CID_LENGTH_AT: usize = 5;
/// How much of a second's budget may come at once, in milliseconds: at 10,000 a second, some 20 ms of work.
const BURST_MS: u32 = 200;
/// Packets that a handshake needs beyond its first: those who have our answer may send so many times more.
const ANSWERED_TIMES: u32 = 4;

/// The budgets.
pub(super) struct Doorstep {
    cids: GatewayCids,
    strangers: (Rate, Bucket),
    answered: (Rate, Bucket),
}

impl Doorstep {
    pub(super) fn new(cids: GatewayCids, initials_per_s: u32) -> Self {
        let budget = |per_s| (Rate::new(per_s, BURST_MS), Bucket::default());
        Self { cids, strangers: budget(initials_per_s), answered: budget(initials_per_s * ANSWERED_TIMES) }
    }

    /// False: drop it. `now` in nanoseconds since the edge began.
    pub(super) fn lets_in(&mut self, packet: &[u8], now: u64) -> bool {
        if packet.first().is_none_or(|first| first & LONG_HEADER == 0) {
            // A short header names a connection, or it is dropped for a table look-up and a hash.
            return true;
        }
        let (rate, bucket) = if self.has_our_answer(packet) { &mut self.answered } else { &mut self.strangers };
        bucket.take(rate, now, 1)
    }

    fn has_our_answer(&self, packet: &[u8]) -> bool {
        let id = packet.get(CID_LENGTH_AT).and_then(|length| packet.get(CID_LENGTH_AT + 1..)?.get(..*length as usize));
        // Only ids of our own length are short enough for the type's constructor.
        id.is_some_and(|id| id.len() == self.cids.cid_len() && self.cids.validate(&ConnectionId::new(id)).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_header(id: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc0, 0, 0, 0, 1, id.len() as u8];
        packet.extend_from_slice(id);
        packet.resize(1_200, 0);
        packet
    }

    #[test]
    fn strangers_use_up_their_own_budget_alone() {
        let mut cids = GatewayCids { generation: 1, instance: 0, key: [3; 32] };
        let ours = long_header(&cids.generate_cid());
        let mut doorstep = Doorstep::new(cids, 1_000);
        let strange = long_header(&[9; 20]);
        let passed = (0..10_000).filter(|_| doorstep.lets_in(&strange, 0)).count();
        assert_eq!(passed, 200);
        assert!(doorstep.lets_in(&ours, 0), "a handshake under way");
        assert!(doorstep.lets_in(&[0x40; 30], 0), "a connection's packet");
        assert!(!doorstep.lets_in(&long_header(&[9; 12]), 0), "an id of our length that is not ours");
        assert!(doorstep.lets_in(&strange, 1_000_000_000));
    }

    #[test]
    fn headers_that_end_early_are_strangers() {
        let mut doorstep = Doorstep::new(GatewayCids { generation: 1, instance: 0, key: [3; 32] }, 1_000);
        for length in 0..40 {
            assert!(doorstep.lets_in(&vec![0xff; length], 0));
        }
    }
}
