//! One player's connection: quinn-proto's state machine, the session stream's buffers, and where it is in its life.
//!
//! ```text
//!   Handshaking --connected--> AwaitingHello --Hello--> Open --close--> Lingering --flushed--> Closed
//!        \------ deadline, refused, lost -----\-----------\--- lost, broke the rules ----------/
//! ```

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionHandle, EndpointEvent, ReadError, ReadableError, StreamId, VarInt, WriteError,
};
use tidegate_proto::CloseCode;

use super::memory::LEAST_SEND_WINDOW;
use super::rate::Allowance;
use crate::Limits;
use crate::session_stream::{ClientFrame, FrameReader};

/// Largest piece taken off the stream at a time, in bytes: one frame of the longest kind.
const PIECE: usize = 16 * 1024;
/// An output buffer larger than this is given back when it is empty, in bytes: bursts are rare, connections many.
const KEEP_OUTPUT: usize = 4 * 1024;
/// Writes in a row without a wait after which a larger send window is given back.
const EASY_WRITES: u8 = 64;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is not complete.
    Handshaking,
    /// Connected; `Hello` has not come.
    AwaitingHello,
    /// `Hello` was handed to the shard, which knows this connection until it closes it or is told of its loss.
    Open,
    /// The shard is done with it; what was said is being flushed before the close.
    Lingering(CloseCode),
    /// Closed; quinn-proto lets it go after a while.
    Closed,
}

/// What reading gave.
pub(super) enum Read {
    Frame(ClientFrame),
    /// Nothing now.
    Nothing,
    /// The client ended or reset its stream.
    Ended,
    /// The client broke the rules.
    Broke(CloseCode),
}

pub(super) struct PlayerConnection {
    pub(super) proto: Connection,
    pub(super) handle: ConnectionHandle,
    pub(super) phase: Phase,
    /// Our own deadline: for the handshake, for `Hello`, or for lingering.
    pub(super) deadline: Option<Instant>,
    pub(super) stream: Option<StreamId>,
    reader: FrameReader,
    out: BytesMut,
    /// The stream may have bytes that were not read.
    pub(super) readable: bool,
    /// Datagrams may wait.
    pub(super) datagrams: bool,
    /// The shard has nowhere to put frames.
    pub(super) paused: bool,
    /// It sent more frames than it may: they are read again then.
    pub(super) throttled: Option<Instant>,
    /// `Welcome` was said.
    pub(super) admitted: bool,
    pub(super) allowance: Allowance,
    /// What of its buffers stands in the sum of all.
    pub(super) charged: u64,
    /// QUIC's send window, in bytes.
    send_window: u32,
    easy_writes: u8,
    /// The connection is gone and the shard must be told.
    pub(super) lost: bool,
    /// Stands in the dirty list.
    pub(super) dirty: bool,
    /// Stands in a ready list.
    pub(super) ready: bool,
    /// Frames and datagrams it may still hand over in this turn.
    pub(super) turn: u32,
    /// Our side of the stream was finished.
    finished: bool,
    /// Kept back until the shard was told of the loss: it frees the index.
    pub(super) drained: Option<EndpointEvent>,
}

impl PlayerConnection {
    pub(super) fn new(proto: Connection, handle: ConnectionHandle, deadline: Instant) -> Self {
        Self {
            proto,
            handle,
            phase: Phase::Handshaking,
            deadline: Some(deadline),
            stream: None,
            reader: FrameReader::new(),
            out: BytesMut::new(),
            readable: false,
            datagrams: false,
            paused: false,
            throttled: None,
            admitted: false,
            allowance: Allowance::default(),
            charged: 0,
            send_window: LEAST_SEND_WINDOW,
            easy_writes: 0,
            lost: false,
            dirty: false,
            ready: false,
            turn: 0,
            finished: false,
            drained: None,
        }
    }

    /// True if it has something for the shard.
    pub(super) fn has_input(&self) -> bool {
        self.lost || (self.readable && self.may_read()) || self.datagrams
    }

    /// True if the next frame is wanted now.
    pub(super) fn may_read(&self) -> bool {
        !self.paused && self.throttled.is_none()
    }

    /// The session is in play: QUIC may hold as much for it as for any.
    pub(super) fn admit(&mut self, limits: &Limits) {
        self.admitted = true;
        self.proto.set_receive_window(VarInt::from_u32(limits.connection_window_bytes));
    }

    /// What its buffers hold beyond its fixed part, in bytes, or more.
    pub(super) fn holds(&mut self, limits: &Limits) -> u64 {
        if self.phase == Phase::Closed {
            return 0;
        }
        let unread = if self.readable && !self.may_read() { limits.connection_window_bytes as usize } else { 0 };
        let window = (self.send_window - LEAST_SEND_WINDOW) as usize;
        (self.out.capacity() + self.reader.capacity() + unread + window) as u64 + self.unsent_datagrams(limits)
    }

    fn unsent_datagrams(&mut self, limits: &Limits) -> u64 {
        u64::from(limits.datagram_buffer_bytes).saturating_sub(self.proto.datagrams().send_buffer_space() as u64)
    }

    /// The next frame of the session stream.
    pub(super) fn read(&mut self) -> Read {
        loop {
            match self.reader.next() {
                Ok(Some(frame)) => return Read::Frame(frame),
                Ok(None) => (),
                Err(code) => return Read::Broke(code),
            }
            let Some(stream) = self.stream else {
                self.readable = false;
                return Read::Nothing;
            };
            let mut receiving = self.proto.recv_stream(stream);
            let mut chunks = match receiving.read(true) {
                Ok(chunks) => chunks,
                Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                    self.readable = false;
                    return Read::Nothing;
                }
            };
            let piece = chunks.next(PIECE);
            // Flow control's answer goes out with this turn's flush in any case.
            let _ = chunks.finalize();
            match piece {
                Ok(Some(piece)) => self.reader.push(&piece.bytes),
                Ok(None) => {
                    self.readable = false;
                    return if self.reader.is_partial() { Read::Broke(CloseCode::BadFrame) } else { Read::Ended };
                }
                Err(ReadError::Blocked) => {
                    self.readable = false;
                    return Read::Nothing;
                }
                Err(ReadError::Reset(_)) => {
                    self.readable = false;
                    return Read::Ended;
                }
            }
        }
    }

    /// The next datagram.
    pub(super) fn read_datagram(&mut self) -> Option<Bytes> {
        let payload = self.proto.datagrams().recv();
        if payload.is_none() {
            self.datagrams = false;
        }
        payload
    }

    /// Where frames for the client are appended.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Bytes that QUIC has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Hands as much of the output to QUIC as it takes. Whoever needs a larger send window gets it, up to `most` bytes,
    /// until it needs it no more. An error means that the client refuses to read.
    pub(super) fn write(&mut self, most: u32) -> Result<(), ()> {
        let Some(stream) = self.stream else { return Ok(()) };
        while !self.out.is_empty() {
            match self.proto.send_stream(stream).write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(WriteError::Blocked) => {
                    self.easy_writes = 0;
                    if self.send_window >= most {
                        return Ok(());
                    }
                    self.set_send_window((2 * self.send_window).min(most));
                }
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Err(()),
            }
        }
        if self.send_window > LEAST_SEND_WINDOW {
            self.easy_writes += 1;
            if self.easy_writes >= EASY_WRITES {
                self.easy_writes = 0;
                self.set_send_window(LEAST_SEND_WINDOW);
            }
        }
        if self.out.capacity() > KEEP_OUTPUT {
            self.out = BytesMut::new();
        }
        if let Phase::Lingering(_) = self.phase
            && !self.finished
        {
            self.finished = true;
            // Fails only if the client stopped the stream; then there is nothing to wait for and the deadline closes.
            let _ = self.proto.send_stream(stream).finish();
        }
        Ok(())
    }

    fn set_send_window(&mut self, bytes: u32) {
        self.send_window = bytes;
        self.proto.set_send_window(bytes.into());
    }

    /// Closes now. What was not flushed is lost.
    pub(super) fn close(&mut self, now: Instant, code: CloseCode) {
        self.proto.close(now, VarInt::from_u32(code as u32), Bytes::from_static(reason(code).as_bytes()));
        self.out = BytesMut::new();
        self.deadline = None;
    }

    /// When it next wants [`super::Edge`]'s attention.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        [self.proto.poll_timeout(), self.deadline, self.throttled].into_iter().flatten().min()
    }
}

/// What the close frame says, for a person who reads a trace.
pub(crate) const fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Done => "done",
        CloseCode::BadFrame => "bad frame",
        CloseCode::FrameTooLong => "frame too long",
        CloseCode::BadMessage => "bad message",
        CloseCode::HelloTimeout => "no hello in time",
        CloseCode::Refused => "refused",
        CloseCode::TooSlow => "reads too slowly",
        CloseCode::Replaced => "replaced by another connection",
        CloseCode::Shutdown => "gateway stops",
        CloseCode::TooManyStreams => "only one stream is allowed",
        CloseCode::Internal => "internal fault",
        CloseCode::TooFast => "sends too much",
    }
}
