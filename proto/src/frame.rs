//! Frames on an ordered stream: `varint type, varint length, body`. The same codec serves players' session streams and the
//! links' shared streams; what the types mean differs.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::varint;

/// Frame types on a player's session stream.
pub mod player {
    /// `tidegate.v1.Hello`, client to gateway.
    pub const HELLO: u64 = 0x01;
    /// `tidegate.v1.Welcome`, gateway to client.
    pub const WELCOME: u64 = 0x02;
    /// `tidegate.v1.Hold`, gateway to client.
    pub const HOLD: u64 = 0x03;
    /// `tidegate.v1.Refused`, gateway to client.
    pub const REFUSED: u64 = 0x04;
    /// Opaque bytes of the game, both ways: reliable, in order.
    pub const GAME: u64 = 0x05;
    /// `tidegate.v1.Notice`, gateway to client.
    pub const NOTICE: u64 = 0x06;
    /// `tidegate.v1.Moved`, gateway to client.
    pub const MOVED: u64 = 0x07;
    /// `tidegate.v1.Goodbye`, both ways.
    pub const GOODBYE: u64 = 0x08;
    /// `tidegate.v1.Ack`, both ways.
    pub const ACK: u64 = 0x09;
    /// `Relocate`, gateway to client.
    pub const RELOCATE: u64 = 0x0a;
}

/// Frame types on a link's stream.
pub mod link {
    /// `tidegate.v1.GatewayToWorld` or `WorldToGateway`.
    pub const CONTROL: u64 = 0x01;
    /// `varint handle`, then the bytes of one session's `Game` frame.
    pub const GAME: u64 = 0x02;
}

/// Longest body of a player's `Game` frame, in bytes. A game message, not a file; bounds what one frame may hold up.
pub const MAX_GAME_BODY: usize = 16 * 1024;
/// Longest body of a player's control frame, in bytes: a login ticket with room to spare.
pub const MAX_PLAYER_BODY: usize = 16 * 1024;
/// Longest body of a link's frame, in bytes: a player's frozen state (1 MiB) with its envelope.
pub const MAX_LINK_BODY: usize = 1024 * 1024 + 64 * 1024;

/// One frame, its body sharing the buffer it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of the constants of [`player`] or [`link`].
    pub kind: u64,
    /// The body.
    pub body: Bytes,
}

/// A frame that its receiver cannot accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of type {kind:#x} is {length} bytes long; at most {limit} are allowed")]
pub struct TooLong {
    /// The type.
    pub kind: u64,
    /// The announced length of its body, in bytes.
    pub length: u64,
    /// The limit, in bytes.
    pub limit: usize,
}

/// Takes the next whole frame off the front of `input`; `None` when more bytes are needed.
///
/// # Errors
/// [`TooLong`] as soon as the announced length passes `limit`, without waiting for the body.
pub fn take(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, TooLong> {
    let Some((kind, kind_size)) = varint::peek(input) else { return Ok(None) };
    let Some((length, length_size)) = varint::peek(&input[kind_size..]) else { return Ok(None) };
    if length > limit as u64 {
        return Err(TooLong { kind, length, limit });
    }
    let head = kind_size + length_size;
    let length = length as usize;
    if input.len() < head + length {
        return Ok(None);
    }
    input.advance(head);
    Ok(Some(Frame { kind, body: input.split_to(length).freeze() }))
}

/// Appends a frame with the given body.
pub fn put(out: &mut BytesMut, kind: u64, body: &[u8]) {
    out.reserve(16 + body.len());
    varint::put(out, kind);
    varint::put(out, body.len() as u64);
    out.put_slice(body);
}

/// Appends a frame whose body is a protobuf message.
pub fn put_message(out: &mut BytesMut, kind: u64, message: &impl Message) {
    let length = message.encoded_len();
    out.reserve(16 + length);
    varint::put(out, kind);
    varint::put(out, length as u64);
    message.encode(out).expect("a BytesMut grows as needed");
}

/// Appends a link's `Game` frame: `varint handle` and the body of one session's frame.
pub fn put_link_game(out: &mut BytesMut, handle: u32, body: &[u8]) {
    let handle = u64::from(handle);
    out.reserve(24 + body.len());
    varint::put(out, link::GAME);
    varint::put(out, (varint::len(handle) + body.len()) as u64);
    varint::put(out, handle);
    out.put_slice(body);
}

/// Splits a link's `Game` frame body into handle and the session's bytes; `None` if it is not one.
#[must_use]
pub fn split_link_game(mut body: Bytes) -> Option<(u32, Bytes)> {
    let handle = u32::try_from(varint::take(&mut body)?).ok()?;
    Some((handle, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in prop::collection::vec((0u64..300, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            cuts in prop::collection::vec(1usize..50, 1..200),
        ) {
            let mut wire = BytesMut::new();
            for (kind, body) in &frames {
                put(&mut wire, *kind, body);
            }
            let (mut input, mut got, mut cuts) = (BytesMut::new(), Vec::new(), cuts.into_iter().cycle());
            while !wire.is_empty() {
                let n = cuts.next().unwrap().min(wire.len());
                input.extend_from_slice(&wire.split_to(n));
                while let Some(frame) = take(&mut input, 1000).unwrap() {
                    got.push((frame.kind, frame.body.to_vec()));
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut input, 64) {}
        }

        #[test]
        fn a_link_game_frame_keeps_handle_and_body(handle: u32, body in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut wire = BytesMut::new();
            put_link_game(&mut wire, handle, &body);
            let frame = take(&mut wire, MAX_LINK_BODY).unwrap().unwrap();
            prop_assert_eq!(frame.kind, link::GAME);
            let (h, b) = split_link_game(frame.body).unwrap();
            prop_assert_eq!((h, &b[..]), (handle, &body[..]));
        }
    }

    #[test]
    fn a_long_frame_is_refused_before_its_body_arrives() {
        let mut wire = BytesMut::new();
        varint::put(&mut wire, player::GAME);
        varint::put(&mut wire, 1 << 40);
        assert_eq!(take(&mut wire, 100).unwrap_err().length, 1 << 40);
    }
}
