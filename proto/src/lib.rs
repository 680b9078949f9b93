//! The wire: generated protobuf types and gRPC services, the framing of QUIC streams and datagrams, and the constants that
//! both ends of a connection must agree on. `WIRE.md` describes the same for people.
//!
//! Refuses to know any socket: everything here works on byte buffers.

pub mod convert;
pub mod frame;
pub mod packed;
pub mod varint;

/// The API of Tidegate, version 1 (generated from `tidegate/v1/*.proto`).
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the comments stand in the protos"
)]
pub mod v1 {
    tonic::include_proto!("tidegate.v1");
}

/// The stub's own game (generated from `tidegate/stub/v1/game.proto`).
pub mod stub {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated; the comments stand in the protos"
    )]
    pub mod v1 {
        tonic::include_proto!("tidegate.stub.v1");
    }
}

/// Descriptors of every message and service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tidegate.bin"));

/// ALPN of the connection between players and gateways.
pub const PLAYER_ALPN: &[u8] = b"tidegate/1";
/// ALPN of the link between gateways and world servers.
pub const LINK_ALPN: &[u8] = b"tidegate-link/1";

/// Application error codes with which a QUIC connection is closed. Stable; clients may act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All is well: the session ended as agreed.
    Done = 0,
    /// A frame that is not a frame: bad varint, truncated, unknown type, or one that does not belong here.
    BadFrame = 1,
    /// A frame longer than allowed.
    FrameTooLong = 2,
    /// A control body that does not parse.
    BadMessage = 3,
    /// No `Hello` within its deadline.
    HelloTimeout = 4,
    /// `Refused` was sent; it says why.
    Refused = 5,
    /// The client reads so slowly that its backlog passed the limit.
    TooSlow = 6,
    /// The session was taken over by another connection.
    Replaced = 7,
    /// The gateway stops.
    Shutdown = 8,
    /// More than the one session stream.
    TooManyStreams = 9,
    /// A fault of the server's own.
    Internal = 10,
    /// The client sends so much more than it may, for so long, that its packets are not worth reading.
    TooFast = 11,
}
