//! Connection ids that say which gateway they belong to.
//!
//! ```text
//!   byte  0          1 .. 2           3 .. 7    8 .. 11
//!         generation instance number  random    keyed check over bytes 0 to 7
//! ```
//!
//! The *instance* is the gateway's number (configuration), the *generation* counts its starts, so that a router in front,
//! or a successor that takes the socket over, can tell whose connection a packet belongs to. Both are the same for every
//! connection of a gateway and link nothing about a player. The check keeps packets that were never ours from costing more
//! than a hash; the key outlives the process, so that a restarted gateway recognises its predecessor's connections and
//! answers them with a stateless reset at once (their clients then resume) instead of letting them time out.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand::Rng;

const CHECKED: usize = 8;
const LENGTH: usize = 12;

/// Makes and recognises this gateway's connection ids.
#[derive(Clone)]
pub(crate) struct GatewayCids {
    pub(crate) generation: u8,
    pub(crate) instance: u16,
    /// Secret of this gateway, kept across restarts.
    pub(crate) key: [u8; 32],
}

impl GatewayCids {
    fn check(&self, bytes: &[u8]) -> [u8; LENGTH - CHECKED] {
        let hash = blake3::keyed_hash(&self.key, bytes);
        std::array::from_fn(|i| hash.as_bytes()[i])
    }
}

impl ConnectionIdGenerator for GatewayCids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        id[0] = self.generation;
        id[1..3].copy_from_slice(&self.instance.to_be_bytes());
        rand::rng().fill_bytes(&mut id[3..CHECKED]);
        let check = self.check(&id[..CHECKED]);
        id[CHECKED..].copy_from_slice(&check);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        // The instance is not compared: a router's mistake should be answered with a reset, not with silence.
        match cid.split_at_checked(CHECKED) {
            Some((checked, check)) if self.check(checked)[..] == *check => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_generation_and_instance_and_is_recognised_by_its_key_alone() {
        let mut ours = GatewayCids { generation: 7, instance: 0x0102, key: [1; 32] };
        let id = ours.generate_cid();
        assert_eq!(&id[..3], &[7, 1, 2]);
        assert_ne!(ours.generate_cid()[3..], id[3..], "ids do not repeat");
        assert!(ours.validate(&id).is_ok());
        let successor = GatewayCids { generation: 8, ..ours.clone() };
        assert!(successor.validate(&id).is_ok());
        let stranger = GatewayCids { key: [2; 32], ..ours };
        assert!(stranger.validate(&id).is_err());
        assert!(stranger.validate(&ConnectionId::new(&[1, 2])).is_err());
    }
}
