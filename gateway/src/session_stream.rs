//! What a client may say on its session stream: bytes in, frames out, and the close code for everything else.
//!
//! ```text
//!   Expecting Hello --Hello--> Open --Game | Ack--> Open --Goodbye--> Ended --Ack--> Ended
//! ```
//!
//! Refuses before it waits: an unknown type or a length above the limit closes the connection without its body.

use bytes::{Bytes, BytesMut};
use prost::Message;
use tidegate_proto::frame::{self, MAX_GAME_BODY, MAX_PLAYER_BODY, player};
use tidegate_proto::{CloseCode, v1, varint};

/// One frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// The first frame, and only the first.
    Hello(Box<v1::Hello>),
    /// The game's own bytes.
    Game(Bytes),
    /// How many `Game` frames the client has received, since the session began.
    Ack(u64),
    /// The session ends by the client's word.
    Goodbye,
}

impl ClientFrame {
    /// Bytes that count against the client's rate.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Game(body) => body.len(),
            // Small, or only once.
            Self::Hello(_) | Self::Ack(_) | Self::Goodbye => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ExpectingHello,
    Open,
    Ended,
}

/// Takes frames off a session stream.
#[derive(Debug)]
pub struct FrameReader {
    state: State,
    buffer: BytesMut,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader that expects `Hello`.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::ExpectingHello, buffer: BytesMut::new() }
    }

    /// Bytes as they came from the stream. The caller hands over at most a stream window before it calls [`Self::next`]
    /// until that is empty, which bounds the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of memory that a half-read frame takes.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// True when a frame has begun and not ended.
    pub(crate) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The code to close the connection with. There is nothing more to read then.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends; this one may have more after the next push")]
    pub fn next(&mut self) -> Result<Option<ClientFrame>, CloseCode> {
        let Some((kind, _)) = varint::peek(&self.buffer) else { return Ok(None) };
        let limit = match (kind, self.state) {
            (player::HELLO, State::ExpectingHello) => MAX_PLAYER_BODY,
            (player::GAME, State::Open) => MAX_GAME_BODY,
            (player::GOODBYE, State::Open) | (player::ACK, State::Open | State::Ended) => MAX_PLAYER_BODY,
            // Everything else is unknown, the gateway's own to send, or not now.
            _ => return Err(CloseCode::BadFrame),
        };
        let Some(frame) = frame::take(&mut self.buffer, limit).map_err(|_| CloseCode::FrameTooLong)? else {
            return Ok(None);
        };
        if self.buffer.is_empty() {
            // Most clients are idle most of the time: an empty buffer keeps no memory.
            self.buffer = BytesMut::new();
        }
        let bad = |_| CloseCode::BadMessage;
        Ok(Some(match kind {
            player::HELLO => {
                self.state = State::Open;
                ClientFrame::Hello(Box::new(v1::Hello::decode(frame.body).map_err(bad)?))
            }
            player::GAME => ClientFrame::Game(frame.body),
            player::ACK => ClientFrame::Ack(v1::Ack::decode(frame.body).map_err(bad)?.received_frames),
            _ => {
                v1::Goodbye::decode(frame.body).map_err(bad)?;
                self.state = State::Ended;
                ClientFrame::Goodbye
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(wire: &[u8]) -> (Vec<ClientFrame>, Option<CloseCode>) {
        let mut reader = FrameReader::new();
        reader.push(wire);
        let mut frames = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(code) => return (frames, Some(code)),
            }
        }
    }

    fn wire(frames: &[(u64, &[u8])]) -> BytesMut {
        let mut out = BytesMut::new();
        for (kind, body) in frames {
            frame::put(&mut out, *kind, body);
        }
        out
    }

    fn hello() -> v1::Hello {
        v1::Hello { realm: "eu-1".into(), login_ticket: "t".into(), ..Default::default() }
    }

    #[test]
    fn a_session_as_it_should_be() {
        let ack = v1::Ack { received_frames: 3 }.encode_to_vec();
        let goodbye = v1::Goodbye { reason: "logout".into(), message: String::new() }.encode_to_vec();
        let wire = wire(&[
            (player::HELLO, &hello().encode_to_vec()),
            (player::GAME, b"one"),
            (player::ACK, &ack),
            (player::GAME, b""),
            (player::GOODBYE, &goodbye),
        ]);
        let expected = vec![
            ClientFrame::Hello(Box::new(hello())),
            ClientFrame::Game(Bytes::from_static(b"one")),
            ClientFrame::Ack(3),
            ClientFrame::Game(Bytes::new()),
            ClientFrame::Goodbye,
        ];
        assert_eq!(read(&wire), (expected, None));
    }

    #[test]
    fn acknowledgements_may_follow_the_goodbye_and_nothing_else_may() {
        // The world saves before it lets go; until then its frames still come, and the client's timer acknowledges them.
        let ack = v1::Ack { received_frames: 3 }.encode_to_vec();
        let hello = hello().encode_to_vec();
        let until_goodbye = [(player::HELLO, &hello[..]), (player::GOODBYE, &b""[..])];
        let (frames, code) = read(&wire(&[&until_goodbye[..], &[(player::ACK, &ack), (player::ACK, &ack)]].concat()));
        assert_eq!((frames[2..].to_vec(), code), (vec![ClientFrame::Ack(3); 2], None));
        for kind in [player::GAME, player::GOODBYE, player::HELLO] {
            let after = [&until_goodbye[..], &[(kind, &b""[..])]].concat();
            assert_eq!(read(&wire(&after)).1, Some(CloseCode::BadFrame), "{kind}");
        }
    }

    #[test]
    fn what_does_not_belong_closes_with_its_code() {
        let hello = hello().encode_to_vec();
        let long = vec![0; MAX_GAME_BODY + 1];
        for (frames, code) in [
            (vec![(player::GAME, &b"early"[..])], CloseCode::BadFrame),
            (vec![(player::HELLO, &hello[..]), (player::HELLO, &hello[..])], CloseCode::BadFrame),
            (vec![(player::HELLO, &hello[..]), (player::WELCOME, b"")], CloseCode::BadFrame),
            (vec![(player::HELLO, &hello[..]), (0x3f, b"")], CloseCode::BadFrame),
            (vec![(player::HELLO, &hello[..]), (player::GOODBYE, b""), (player::GAME, b"")], CloseCode::BadFrame),
            (vec![(player::HELLO, &hello[..]), (player::GAME, &long[..])], CloseCode::FrameTooLong),
            (vec![(player::HELLO, &long[..])], CloseCode::FrameTooLong),
            (vec![(player::HELLO, b"\xff\xff")], CloseCode::BadMessage),
            (vec![(player::HELLO, &hello[..]), (player::ACK, b"\xff")], CloseCode::BadMessage),
        ] {
            assert_eq!(read(&wire(&frames)).1, Some(code), "{frames:?}");
        }
    }

    #[test]
    fn an_unknown_type_and_a_long_frame_are_refused_before_their_bodies() {
        assert_eq!(read(&[0x3f]).1, Some(CloseCode::BadFrame));
        let mut head = BytesMut::new();
        varint::put(&mut head, player::HELLO);
        varint::put(&mut head, 1 << 30);
        assert_eq!(read(&head).1, Some(CloseCode::FrameTooLong));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_never_grows_the_buffer(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20)) {
            let mut reader = FrameReader::new();
            for chunk in chunks {
                reader.push(&chunk);
                loop {
                    match reader.next() {
                        Ok(Some(_)) => (),
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(reader.buffer.len() <= MAX_PLAYER_BODY + 16);
            }
        }

        #[test]
        fn frames_survive_any_cutting(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20), cut in 1usize..40) {
            let hello = hello().encode_to_vec();
            let mut frames: Vec<(u64, &[u8])> = vec![(player::HELLO, &hello)];
            frames.extend(bodies.iter().map(|b| (player::GAME, &b[..])));
            let mut reader = FrameReader::new();
            let mut got = Vec::new();
            for piece in wire(&frames).chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next().unwrap() {
                    if let ClientFrame::Game(body) = frame {
                        got.push(body.to_vec());
                    }
                }
            }
            prop_assert_eq!(got, bodies);
            prop_assert!(!reader.is_partial());
        }
    }
}
