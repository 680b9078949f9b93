//! The first message of every stream. Reading it must not lose what follows it on the same stream.

use bytes::BytesMut;
use prost::Message;
use quinn::{Connection, ReadError, RecvStream, SendStream};
use tidegate_proto::{CloseCode, frame};

use crate::error::LinkError;

/// A hello is ids and numbers; 4 KiB is ample.
const LIMIT: usize = 4 * 1024;

/// Reads one control frame and leaves the rest of what arrived in `buffer`.
pub(crate) async fn read<M: Message + Default>(stream: &mut RecvStream, buffer: &mut BytesMut) -> Result<M, LinkError> {
    loop {
        match frame::take(buffer, LIMIT) {
            Ok(Some(frame)) if frame.kind == frame::link::CONTROL => {
                return M::decode(frame.body).map_err(|_| LinkError::BadHello("it does not parse"));
            }
            Ok(Some(_)) => return Err(LinkError::BadHello("it is not a control frame")),
            Ok(None) => {}
            Err(_) => return Err(LinkError::BadHello("it is too long")),
        }
        match stream.read_chunk(LIMIT, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(LinkError::BadHello("the stream ended before it")),
            Err(ReadError::ConnectionLost(error)) => return Err(error.into()),
            Err(_) => return Err(LinkError::BadHello("the stream was reset before it")),
        }
    }
}

/// Writes one control frame.
pub(crate) async fn write(
    connection: &Connection,
    stream: &mut SendStream,
    message: &impl Message,
) -> Result<(), LinkError> {
    let mut out = BytesMut::new();
    frame::put_message(&mut out, frame::link::CONTROL, message);
    match stream.write_all(&out).await {
        Ok(()) => Ok(()),
        Err(quinn::WriteError::ConnectionLost(error)) => Err(error.into()),
        Err(_) => {
            close(connection, CloseCode::BadFrame, "stream was stopped");
            Err(LinkError::BadHello("the stream was stopped"))
        }
    }
}

pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    // A second close would hide why it was closed first.
    if connection.close_reason().is_none() {
        connection.close((code as u32).into(), reason.as_bytes());
    }
}
