//! The UDP socket: many packets a system call, in and out (GRO, GSO, recvmmsg where the system has them).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Asked of the system for each direction, in bytes; the default 208 KiB lose packets at 130,000 a second. The system may
/// give less (`net.core.rmem_max`), which costs retransmissions under load and nothing else.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A UDP packet's longest payload that a path may carry to us, in bytes.
const MAX_PACKET_BYTES: usize = 1500;

/// A UDP socket that a shard owns alone.
pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    receive: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Socket {
    /// Takes over a bound socket. Must be called within the runtime that will drive it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        for outcome in [
            state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES),
            state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES),
        ] {
            if let Err(error) = outcome {
                tracing::debug!(%error, "the system keeps its own socket buffer size");
            }
        }
        // Whole GRO batches of the longest packet, for each slot of a receive call.
        let receive = vec![0; MAX_PACKET_BYTES * state.gro_segments() * BATCH_SIZE];
        Ok(Self { io: UdpSocket::from_std(socket)?, state, receive, metas: [RecvMeta::default(); BATCH_SIZE] })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// How many datagrams one send may carry.
    pub(crate) fn max_segments(&self) -> usize {
        // More than ten only makes the buffer larger.
        self.state.max_gso_segments().min(10)
    }

    /// True when the system does not fragment packets, so that the path's MTU can be searched.
    pub(crate) fn can_find_mtu(&self) -> bool {
        !self.state.may_fragment()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// One receive call: `deliver` sees each packet with its metadata. False when there was nothing.
    pub(crate) fn receive(&mut self, mut deliver: impl FnMut(&RecvMeta, &[u8])) -> io::Result<bool> {
        let slot = self.receive.len() / BATCH_SIZE;
        let mut slots = self.receive.chunks_exact_mut(slot).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slots.next().expect("the buffer has BATCH_SIZE slots"));
        let (io, state, metas) = (&self.io, &self.state, &mut self.metas);
        let received = match io.try_io(Interest::READABLE, || state.recv(io.into(), &mut slices, metas)) {
            Ok(received) => received,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP message, which anyone can forge; it means nothing to QUIC.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
            Err(e) => return Err(e),
        };
        for (meta, slice) in metas.iter().zip(&slices).take(received) {
            for packet in slice[..meta.len].chunks(meta.stride.max(1)) {
                deliver(meta, packet);
            }
        }
        Ok(true)
    }

    /// Hands a transmit to the system. False when its buffer is full: wait for [`Self::writable`] and try again.
    pub(crate) fn send(&self, transmit: &quinn_proto::Transmit, contents: &[u8]) -> io::Result<bool> {
        let transmit = Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &contents[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), &transmit)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }
}
