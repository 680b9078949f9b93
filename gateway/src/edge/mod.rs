//! The edge: one UDP socket, one QUIC endpoint and its connections, owned by one thread without a lock.
//!
//! Each wake-up is one pass: [`Edge::receive`] packets, [`Edge::expire`] timers, [`Edge::next_event`] until there are none,
//! and [`Edge::flush`]. Only connections on the dirty list are touched, and everything said to a connection within a pass
//! leaves in one go. Refuses to know sessions: it hands over frames and datagrams by connection index.

mod admission;
mod cid;
mod connection;
mod doors;
mod doorstep;
mod memory;
mod output;
mod rate;
mod setup;
mod socket;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{DatagramEvent, Dir, EcnCodepoint, Endpoint, Event, ServerConfig, StreamEvent, Transmit};
use tidegate_proto::CloseCode;

pub(crate) use cid::GatewayCids;
pub(crate) use setup::{server as server_config, tls};

use crate::Limits;
use crate::session_stream::ClientFrame;
use admission::Admission;
use connection::{Phase, PlayerConnection, Read};
use doorstep::Doorstep;
use memory::Memory;
use rate::{Packet, Rates};
use socket::Socket;
use timers::Timers;

/// How long a closing connection may take to receive what was said last.
const LINGER: Duration = Duration::from_secs(1);
/// Receive calls in one pass, so that a flood of packets cannot keep the links and the timers waiting.
const RECEIVES_PER_PASS: usize = 16;
/// Packets after which a pass takes no more, for the same reason: one call may bring two thousand.
const PACKETS_PER_PASS: u64 = 1_024;

/// What the edge has for the shard. A connection becomes known with its `Hello` and is known until the shard closes it or
/// hears of its loss.
#[derive(Debug)]
pub(crate) enum EdgeEvent {
    /// A frame of the session stream.
    Frame { conn: u32, frame: ClientFrame },
    /// An unreliable message.
    Datagram { conn: u32, payload: Bytes },
    /// The connection is gone, by the network, by its client's word, or because its client broke a rule.
    Lost { conn: u32 },
}

/// What happened at the edge since its start.
#[derive(Debug, Default, Clone)]
pub(crate) struct EdgeCounters {
    pub(crate) accepted: u64,
    pub(crate) connected: u64,
    pub(crate) turned_away: u64,
    pub(crate) retried: u64,
    pub(crate) packets_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) transmits: u64,
    pub(crate) bytes_out: u64,
    /// Connections that the gateway closed, by close code.
    pub(crate) closed: [u64; 12],
    pub(crate) lost: u64,
    pub(crate) datagrams_dropped: u64,
    /// Attempts of prefixes over their rate.
    pub(crate) prefix_refused: u64,
    /// Long headers dropped at the doorstep.
    pub(crate) initials_over_rate: u64,
    /// Packets of connections over their rate.
    pub(crate) packets_over_rate: u64,
    pub(crate) datagrams_over_rate: u64,
    pub(crate) datagrams_before_welcome: u64,
    /// How often reading stopped because of a client's frames.
    pub(crate) frames_over_rate: u64,
    /// Connections closed at the memory ceiling.
    pub(crate) shed: u64,
    /// Bytes that the connections' buffers hold now.
    pub(crate) buffered: u64,
    /// Prefixes whose logins are counted now.
    pub(crate) tracked_prefixes: u64,
}

pub(crate) struct Edge {
    socket: Socket,
    endpoint: Endpoint,
    limits: Limits,
    /// By quinn-proto's handle, which is a slab index; boxed, because a connection is several kilobytes.
    connections: Vec<Option<Box<PlayerConnection>>>,
    count: u32,
    /// False: nobody new is let in.
    accepting: bool,
    handshaking: u32,
    dirty: Vec<u32>,
    ready: VecDeque<u32>,
    /// Those that used up their turn.
    deferred: Vec<u32>,
    timers: Timers,
    doorstep: Doorstep,
    admission: Admission,
    rates: Rates,
    memory: Memory,
    buffer: Vec<u8>,
    /// A transmit that the system's buffer had no room for.
    blocked: Option<Transmit>,
    /// The moment of this pass.
    now: Instant,
    /// The first moment, from which the rates' nanoseconds count.
    began: Instant,
    counters: EdgeCounters,
}

impl Edge {
    /// Takes over a bound socket. Must be called within the runtime that will drive it.
    pub(crate) fn new(
        socket: std::net::UdpSocket,
        cids: GatewayCids,
        server: ServerConfig,
        limits: Limits,
    ) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let endpoint = setup::endpoint(cids.clone());
        let endpoint = Endpoint::new(Arc::new(endpoint), Some(Arc::new(server)), socket.can_find_mtu(), None);
        let now = Instant::now();
        Ok(Self {
            socket,
            endpoint,
            doorstep: Doorstep::new(cids, limits.initials_per_s),
            admission: Admission::new(&limits),
            rates: Rates::new(&limits),
            memory: Memory::new(limits.memory_bytes),
            limits,
            connections: Vec::new(),
            count: 0,
            accepting: true,
            handshaking: 0,
            dirty: Vec::new(),
            ready: VecDeque::new(),
            deferred: Vec::new(),
            timers: Timers::default(),
            buffer: Vec::new(),
            blocked: None,
            now,
            began: now,
            counters: EdgeCounters::default(),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Connections, in any phase.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn counters(&mut self) -> &EdgeCounters {
        let charged = || self.connections.iter().flatten().map(|conn| conn.charged).sum::<u64>();
        debug_assert_eq!(self.memory.buffered(), charged(), "the sum of the connections' buffers");
        self.counters.buffered = self.memory.buffered();
        self.counters.tracked_prefixes = self.admission.tracked() as u64;
        &self.counters
    }

    /// Waits until the socket has something to read, or room for what waits to be written. Cancel-safe.
    pub(crate) async fn io_ready(&self) -> io::Result<()> {
        if self.blocked.is_some() {
            tokio::select! {
                outcome = self.socket.readable() => outcome,
                outcome = self.socket.writable() => outcome,
            }
        } else {
            self.socket.readable().await
        }
    }

    /// When [`Self::expire`] is due; `None`: no timer runs.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// True when connections have something for the shard already: do not sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.deferred.is_empty() || !self.ready.is_empty()
    }

    /// Begins a pass: takes packets off the socket. True when there may be more.
    pub(crate) fn receive(&mut self, now: Instant) -> io::Result<bool> {
        self.now = now;
        self.ready.extend(self.deferred.drain(..));
        for index in &self.ready {
            if let Some(conn) = self.connections[*index as usize].as_deref_mut() {
                conn.turn = self.limits.frames_per_turn;
            }
        }
        let mut incoming = Vec::new();
        let mut response = Vec::new();
        let mut floods = Vec::new();
        let (enough, tick) = (self.counters.packets_in + PACKETS_PER_PASS, self.tick());
        for _ in 0..RECEIVES_PER_PASS {
            let Self { socket, endpoint, connections, dirty, counters, doorstep, rates, .. } = self;
            let mut responses: Vec<(Transmit, Vec<u8>)> = Vec::new();
            let more = socket.receive(|meta, packet| {
                counters.packets_in += 1;
                counters.bytes_in += packet.len() as u64;
                if !doorstep.lets_in(packet, tick) {
                    counters.initials_over_rate += 1;
                    return;
                }
                let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                response.clear();
                match endpoint.handle(now, meta.addr, meta.dst_ip, ecn, BytesMut::from(packet), &mut response) {
                    Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                        let Some(conn) = connections.get_mut(handle.0).and_then(Option::as_deref_mut) else { return };
                        // Before the packet is decrypted, which is what makes it dear.
                        match conn.allowance.packet(rates, tick) {
                            Packet::Taken => {
                                conn.proto.handle_event(event);
                                mark_dirty(conn, dirty);
                            }
                            Packet::Dropped => counters.packets_over_rate += 1,
                            Packet::Flood => {
                                counters.packets_over_rate += 1;
                                if conn.phase != Phase::Closed && floods.last() != Some(&handle) {
                                    floods.push(handle);
                                }
                            }
                        }
                    }
                    Some(DatagramEvent::NewConnection(new)) => incoming.push(new),
                    Some(DatagramEvent::Response(transmit)) => responses.push((transmit, response.clone())),
                    None => {}
                }
            })?;
            for (transmit, contents) in responses {
                self.respond(&transmit, &contents);
            }
            // After each call, so that the rest of a handshake finds its connection.
            for new in incoming.drain(..) {
                self.accept(new);
            }
            for handle in floods.drain(..) {
                self.fail(handle.0 as u32, CloseCode::TooFast);
            }
            if !more {
                return Ok(false);
            }
            if self.counters.packets_in >= enough {
                break;
            }
        }
        Ok(true)
    }

    /// Handles every timer that is due.
    pub(crate) fn expire(&mut self) {
        while let Some(index) = self.timers.pop_due(self.now) {
            let now = self.now;
            let Some(conn) = self.connections[index as usize].as_deref_mut() else { continue };
            mark_dirty(conn, &mut self.dirty);
            if conn.throttled.is_some_and(|until| until <= now) {
                conn.throttled = None;
            }
            if conn.proto.poll_timeout().is_some_and(|at| at <= now) {
                conn.proto.handle_timeout(now);
            }
            if conn.deadline.is_some_and(|at| at <= now) {
                let code = match conn.phase {
                    Phase::Lingering(code) => code,
                    Phase::Handshaking | Phase::AwaitingHello | Phase::Open | Phase::Closed => CloseCode::HelloTimeout,
                };
                self.fail(index, code);
            }
        }
    }

    /// Collects what the dirty connections' state machines have to say. Call after [`Self::receive`] and
    /// [`Self::expire`].
    pub(crate) fn collect(&mut self) {
        for place in 0..self.dirty.len() {
            self.collect_one(self.dirty[place]);
        }
    }

    /// The next thing for the shard; `None` ends the turn.
    pub(crate) fn next_event(&mut self) -> Option<EdgeEvent> {
        while let Some(&index) = self.ready.front() {
            if let Some(event) = self.event_of(index) {
                return Some(event);
            }
            self.ready.pop_front();
            if let Some(conn) = self.connections[index as usize].as_deref_mut() {
                if conn.has_input() {
                    self.deferred.push(index);
                } else {
                    conn.ready = false;
                }
            }
        }
        None
    }

    fn event_of(&mut self, index: u32) -> Option<EdgeEvent> {
        let tick = self.tick();
        let conn = self.connections[index as usize].as_deref_mut()?;
        if !matches!(conn.phase, Phase::AwaitingHello | Phase::Open) {
            conn.readable = false;
        }
        // Of a lost connection everything that arrived is taken, whatever its turn.
        if conn.readable && ((conn.may_read() && conn.turn > 0) || conn.lost) {
            conn.turn = conn.turn.saturating_sub(1);
            mark_dirty(conn, &mut self.dirty);
            match conn.read() {
                Read::Frame(frame) => {
                    if let ClientFrame::Hello(_) = frame {
                        conn.phase = Phase::Open;
                        conn.deadline = None;
                    }
                    if let Some(until) = conn.allowance.frame(&self.rates, tick, frame.weight()) {
                        conn.throttled = Some(self.began + Duration::from_nanos(until));
                        self.counters.frames_over_rate += 1;
                    }
                    return Some(EdgeEvent::Frame { conn: index, frame });
                }
                Read::Nothing => (),
                Read::Ended => self.fail(index, CloseCode::Done),
                Read::Broke(code) => self.fail(index, code),
            }
        }
        let conn = self.connections[index as usize].as_deref_mut()?;
        while conn.datagrams && !conn.lost && conn.turn > 0 {
            conn.turn -= 1;
            let Some(payload) = conn.read_datagram() else { break };
            if !conn.admitted || conn.phase != Phase::Open {
                self.counters.datagrams_before_welcome += 1;
            } else if !conn.allowance.datagram(&self.rates, tick, payload.len()) {
                self.counters.datagrams_over_rate += 1;
            } else {
                return Some(EdgeEvent::Datagram { conn: index, payload });
            }
        }
        if conn.lost {
            let known = conn.phase == Phase::Open;
            conn.lost = false;
            conn.phase = Phase::Closed;
            (conn.readable, conn.datagrams) = (false, false);
            mark_dirty(conn, &mut self.dirty);
            return known.then_some(EdgeEvent::Lost { conn: index });
        }
        None
    }

    /// True if there may be more to transmit now.
    fn collect_one(&mut self, index: u32) -> bool {
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return false };
        let mut answered = false;
        while let Some(event) = conn.proto.poll_endpoint_events() {
            if event.is_drained() {
                conn.drained = Some(event);
            } else if let Some(event) = self.endpoint.handle_event(conn.handle, event) {
                conn.proto.handle_event(event);
                answered = true;
            }
        }
        let (mut broke, mut gone) = (None, false);
        while let Some(event) = conn.proto.poll() {
            match event {
                Event::Connected => {
                    if conn.phase == Phase::Handshaking {
                        conn.phase = Phase::AwaitingHello;
                        conn.deadline = Some(self.now + Duration::from_millis(self.limits.hello_ms));
                        self.handshaking -= 1;
                        self.counters.connected += 1;
                    }
                }
                Event::ConnectionLost { .. } => gone = true,
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => {
                    while let Some(stream) = conn.proto.streams().accept(Dir::Bi) {
                        if conn.stream.is_none() {
                            conn.stream = Some(stream);
                            conn.readable = true;
                        } else {
                            broke = Some(CloseCode::TooManyStreams);
                        }
                    }
                }
                Event::Stream(StreamEvent::Readable { .. }) => conn.readable = true,
                Event::DatagramReceived => conn.datagrams = true,
                Event::Stream(StreamEvent::Finished { .. }) => {
                    if let Phase::Lingering(code) = conn.phase {
                        conn.close(self.now, code);
                        conn.phase = Phase::Closed;
                        answered = true;
                    }
                }
                // Writing is tried again with every flush, and a stopped stream shows there.
                Event::Stream(
                    StreamEvent::Writable { .. }
                    | StreamEvent::Stopped { .. }
                    | StreamEvent::Available { .. }
                    | StreamEvent::Opened { dir: Dir::Uni },
                )
                | Event::DatagramsUnblocked
                | Event::HandshakeDataReady => (),
            }
        }
        let input = conn.has_input();
        if gone {
            self.gone(index);
        } else if let Some(code) = broke {
            self.fail(index, code);
        } else if input {
            self.mark_ready(index);
        }
        answered || broke.is_some()
    }

    /// Closes a connection at once, for a reason of ours. The shard is told if it knows it.
    fn fail(&mut self, index: u32, code: CloseCode) {
        let now = self.now;
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return };
        if conn.phase == Phase::Closed || conn.lost {
            return;
        }
        tracing::debug!(conn = index, remote = %conn.proto.remote_address(), code = connection::reason(code), "closed");
        conn.close(now, code);
        mark_dirty(conn, &mut self.dirty);
        if !matches!(conn.phase, Phase::Lingering(_)) {
            self.counters.closed[code as usize] += 1;
        }
        // What it sent before it broke a rule is not wanted any more.
        conn.readable = false;
        self.leave(index);
    }

    /// The network or the client ended it.
    fn gone(&mut self, index: u32) {
        self.counters.lost += 1;
        if let Some(conn) = self.connections[index as usize].as_deref_mut() {
            conn.deadline = None;
        }
        self.leave(index);
    }

    fn leave(&mut self, index: u32) {
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return };
        match conn.phase {
            Phase::Handshaking => {
                self.handshaking -= 1;
                conn.phase = Phase::Closed;
            }
            Phase::AwaitingHello | Phase::Lingering(_) => conn.phase = Phase::Closed,
            Phase::Open => {
                conn.lost = true;
                self.mark_ready(index);
            }
            Phase::Closed => (),
        }
    }

    /// This pass's moment for the rates.
    fn tick(&self) -> u64 {
        (self.now - self.began).as_nanos() as u64
    }

    fn mark_ready(&mut self, index: u32) {
        let Some(conn) = self.connections[index as usize].as_deref_mut() else { return };
        if !conn.ready {
            conn.ready = true;
            conn.turn = self.limits.frames_per_turn;
            self.ready.push_back(index);
        }
    }
}

/// The connection, if the shard knows it.
fn known(connections: &mut [Option<Box<PlayerConnection>>], index: u32) -> Option<&mut PlayerConnection> {
    connections.get_mut(index as usize)?.as_deref_mut().filter(|conn| conn.phase == Phase::Open)
}

fn mark_dirty(conn: &mut PlayerConnection, dirty: &mut Vec<u32>) {
    if !conn.dirty {
        conn.dirty = true;
        dirty.push(conn.handle.0 as u32);
    }
}
