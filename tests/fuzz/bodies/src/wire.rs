//! What crosses the network: frames, packed datagrams, control messages.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tidegate_gateway::session_stream::{ClientFrame, FrameReader};
use tidegate_proto::frame::{self, MAX_GAME_BODY, MAX_LINK_BODY, MAX_PLAYER_BODY};
use tidegate_proto::{CloseCode, packed, v1, varint};

/// What a client sends on its session stream. However the bytes are cut, the same frames come out and the same end; a frame
/// is no longer than allowed; only the first is a `Hello`.
pub fn player_frames(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    for cut in [1, 7, 1200] {
        assert_eq!(read(data, cut), whole, "cut every {cut} bytes");
    }
    for (index, frame) in whole.0.iter().enumerate() {
        match frame {
            ClientFrame::Hello(hello) => assert!(index == 0 && hello.encoded_len() <= MAX_PLAYER_BODY),
            ClientFrame::Game(body) => assert!(index > 0 && body.len() <= MAX_GAME_BODY),
            ClientFrame::Ack(_) | ClientFrame::Goodbye => assert!(index > 0),
        }
    }
}

fn read(data: &[u8], cut: usize) -> (Vec<ClientFrame>, Option<CloseCode>) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for piece in data.chunks(cut) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(code) => return (frames, Some(code)),
            }
        }
    }
    (frames, None)
}

/// An ordered stream of a link. A frame that was taken is written as one that is read the same.
pub fn link_frames(data: &[u8]) {
    let mut input = BytesMut::from(data);
    loop {
        let before = input.len();
        match frame::take(&mut input, MAX_LINK_BODY) {
            Ok(Some(taken)) => {
                assert!(taken.body.len() <= MAX_LINK_BODY && input.len() + taken.body.len() < before);
                let mut again = BytesMut::new();
                frame::put(&mut again, taken.kind, &taken.body);
                assert_eq!(frame::take(&mut again, MAX_LINK_BODY), Ok(Some(taken.clone())));
                if let Some((handle, body)) = frame::split_link_game(taken.body) {
                    let mut game = BytesMut::new();
                    frame::put_link_game(&mut game, handle, &body);
                    let game = frame::take(&mut game, MAX_LINK_BODY + 8).unwrap().unwrap();
                    assert_eq!(frame::split_link_game(game.body), Some((handle, body)));
                }
            }
            Ok(None) => return assert_eq!(input.len(), before, "nothing is consumed of half a frame"),
            Err(too_long) => return assert!(too_long.length > MAX_LINK_BODY as u64),
        }
    }
}

/// A datagram of a link. What was taken off it is written as a datagram that is read the same.
pub fn link_packed(data: &[u8]) {
    if let Some((value, size)) = varint::peek(data) {
        assert!(value <= varint::MAX && varint::len(value) <= size);
    }
    let mut datagram = Bytes::copy_from_slice(data);
    let (mut messages, mut again, mut payloads) = (Vec::new(), BytesMut::new(), 0);
    while let Some((handle, payload)) = packed::take(&mut datagram) {
        let before = again.len();
        packed::put(&mut again, handle, &payload);
        assert_eq!(again.len() - before, packed::len(handle, payload.len()));
        payloads += payload.len();
        messages.push((handle, payload));
    }
    assert!(datagram.is_empty() && payloads <= data.len(), "the rest of a malformed one is dropped");
    let mut again = again.freeze();
    for message in messages {
        assert_eq!(packed::take(&mut again), Some(message));
    }
    assert_eq!(packed::take(&mut again), None);
}

/// The messages that `control_messages` knows, by its first byte.
pub const MESSAGES: &[&str] = &[
    "GatewayToWorld",
    "WorldToGateway",
    "Hello",
    "Welcome",
    "Hold",
    "Refused",
    "Notice",
    "Moved",
    "Goodbye",
    "Ack",
    "Relocate",
];

/// Bodies of control frames: the first byte chooses the message. What is decoded is encoded as what decodes the same, and
/// is not longer than what came; its ids are ids or are refused by the field's name.
pub fn control_messages(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    match usize::from(*which) % MESSAGES.len() {
        0 => round_trip::<v1::GatewayToWorld>(body, |message| {
            if let Some(v1::gateway_to_world::Message::Attach(attach)) = &message.message {
                identity(attach.identity.as_ref());
                cause(attach.cause);
            }
            if let Some(v1::gateway_to_world::Message::Prepare(prepare)) = &message.message {
                identity(prepare.identity.as_ref());
                cause(prepare.cause);
            }
        }),
        1 => round_trip::<v1::WorldToGateway>(body, |message| {
            if let Some(v1::world_to_gateway::Message::Transfer(transfer)) = &message.message {
                cause(transfer.cause);
            }
        }),
        2 => round_trip::<v1::Hello>(body, |_| {}),
        3 => round_trip::<v1::Welcome>(body, |_| {}),
        4 => round_trip::<v1::Hold>(body, |_| {}),
        5 => round_trip::<v1::Refused>(body, |_| {}),
        6 => round_trip::<v1::Notice>(body, |_| {}),
        7 => round_trip::<v1::Moved>(body, |_| {}),
        8 => round_trip::<v1::Goodbye>(body, |_| {}),
        9 => round_trip::<v1::Ack>(body, |_| {}),
        _ => round_trip::<v1::Relocate>(body, |_| {}),
    }
}

fn round_trip<M: Message + Default + PartialEq + Debug>(body: &[u8], look: impl Fn(&M)) {
    let Ok(message) = M::decode(body) else { return };
    look(&message);
    let again = message.encode_to_vec();
    assert_eq!(again.len(), message.encoded_len());
    assert_eq!(M::decode(&again[..]).as_ref(), Ok(&message));
}

fn identity(identity: Option<&v1::SessionIdentity>) {
    use tidegate_types::{CharacterId, PlayerId};
    let Some(identity) = identity else { return };
    if let Err(bad) = tidegate_proto::convert::id::<PlayerId>("player", &identity.player) {
        assert!(bad.to_string().starts_with("field player: "), "{bad}");
    }
    if let Ok(character) = tidegate_proto::convert::id::<CharacterId>("character", &identity.character) {
        assert_eq!(character.to_string(), identity.character);
    }
}

fn cause(value: i32) {
    match tidegate_proto::convert::cause(value) {
        Ok(cause) => assert_eq!(v1::Cause::from(cause) as i32, value),
        Err(bad) => assert!(bad.to_string().starts_with("field cause: "), "{bad}"),
    }
}
