//! Datagrams of a link carry messages of several sessions: `(varint handle, varint length, bytes)*`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::varint;

/// How many bytes one message takes in a packed datagram.
#[must_use]
pub fn len(handle: u32, payload: usize) -> usize {
    varint::len(u64::from(handle)) + varint::len(payload as u64) + payload
}

/// Appends one session's message.
pub fn put(out: &mut BytesMut, handle: u32, payload: &[u8]) {
    varint::put(out, u64::from(handle));
    varint::put(out, payload.len() as u64);
    out.put_slice(payload);
}

/// Takes the next message off a packed datagram; `None` at its end, or where it is malformed (the rest is then dropped, as
/// any datagram may be).
pub fn take(datagram: &mut Bytes) -> Option<(u32, Bytes)> {
    let handle = varint::take(datagram).and_then(|h| u32::try_from(h).ok());
    let length = varint::take(datagram).and_then(|l| usize::try_from(l).ok());
    match (handle, length) {
        (Some(handle), Some(length)) if length <= datagram.len() => Some((handle, datagram.split_to(length))),
        _ => {
            datagram.clear();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(messages in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let mut out = BytesMut::new();
            for (handle, payload) in &messages {
                let before = out.len();
                put(&mut out, *handle, payload);
                prop_assert_eq!(out.len() - before, len(*handle, payload.len()));
            }
            let mut datagram = out.freeze();
            let mut got = Vec::new();
            while let Some((handle, payload)) = take(&mut datagram) {
                got.push((handle, payload.to_vec()));
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut datagram = Bytes::from(bytes);
            while take(&mut datagram).is_some() {}
        }
    }
}
