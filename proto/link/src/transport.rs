//! QUIC settings that both ends share, each set by hand because the defaults are for the open internet.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::MAX_STREAMS;

/// A silent peer is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// A link without a sign of life is down. Longer than the default lease, so that the lease decides first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How much of a stream, and of a connection, may be on its way: eight of the largest player states.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Datagrams that wait, each way: 1 MiB is some 50 ms of a busy link; older ones are not worth keeping.
const DATAGRAM_BYTES: usize = 1024 * 1024;
/// What we ask the system for: its default loses packets at 130,000 a second. It may grant less.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

pub(crate) fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIMEOUT).expect("4 s is a legal idle timeout")))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    Arc::new(config)
}

pub(crate) fn endpoint_config() -> EndpointConfig {
    EndpointConfig::default()
}

/// A bound UDP socket with large buffers (as large as the system grants).
pub(crate) fn socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    for outcome in [socket.set_recv_buffer_size(SOCKET_BYTES), socket.set_send_buffer_size(SOCKET_BYTES)] {
        if let Err(error) = outcome {
            tracing::debug!(%error, "socket buffer stays at the system's default");
        }
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
