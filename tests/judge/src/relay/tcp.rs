//! A TCP relay: connections that stall, crawl, come in crumbs, or break.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Direction;

/// Pieces that wait in one direction of one connection; then the sender feels it, as it would on a real line.
const WAITING: usize = 256;

/// Read at once.
const PIECE: usize = 16 * 1024;

/// What one direction of all connections does to the bytes that pass it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Nothing passes; nothing is lost either: it goes on where it stopped, as after a short outage.
    pub cut: bool,
    /// How long every byte takes.
    pub delay: Duration,
    /// Most bytes written at once: every message arrives in crumbs. `None`: as they come.
    pub crumbs: Option<usize>,
}

impl Stream {
    /// Everything passes at once.
    pub const FAIR: Self = Self { cut: false, delay: Duration::ZERO, crumbs: None };
    /// Nothing passes.
    pub const CUT: Self = Self { cut: true, ..Self::FAIR };
}

/// What is asked of all connections.
#[derive(Debug, Clone, Copy)]
struct Wish {
    streams: [Stream; 2],
    target: SocketAddr,
    /// New connections are reset.
    refuses: bool,
    /// Connections of an earlier era are reset.
    era: u64,
}

/// A running relay; dropping it resets its connections.
pub struct TcpRelay {
    wish: watch::Sender<Wish>,
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl TcpRelay {
    /// Listens at `listen` (port 0: any) for connections to `target`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (wish, wishes) = watch::channel(Wish { streams: [Stream::FAIR; 2], target, refuses: false, era: 0 });
        let connections = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, wishes, connections.clone()));
        Ok(Self { wish, address, connections, task })
    }

    /// Where to dial it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes one direction.
    pub fn set(&self, direction: Direction, stream: Stream) {
        self.wish.send_modify(|wish| wish.streams[direction.index()] = stream);
    }

    /// Changes both directions.
    pub fn set_both(&self, stream: Stream) {
        self.wish.send_modify(|wish| wish.streams = [stream; 2]);
    }

    /// Resets every connection there is.
    pub fn reset(&self) {
        self.wish.send_modify(|wish| wish.era += 1);
    }

    /// True: new connections are reset as soon as they are made.
    pub fn refuse(&self, refuses: bool) {
        self.wish.send_modify(|wish| wish.refuses = refuses);
    }

    /// Where new connections go from now on.
    pub fn retarget(&self, target: SocketAddr) {
        self.wish.send_modify(|wish| wish.target = target);
    }

    /// Connections made since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.task.abort();
        self.reset();
    }
}

async fn serve(listener: TcpListener, mut wishes: watch::Receiver<Wish>, connections: Arc<AtomicU64>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        let wish = *wishes.borrow_and_update();
        if wish.refuses {
            break_off(&near);
            continue;
        }
        tokio::spawn(connection(near, wish, wishes.clone()));
    }
}

/// The next close is a reset.
fn break_off(stream: &TcpStream) {
    // Where it cannot be asked for, the close is an orderly one: also an end.
    let _ = stream.set_zero_linger();
}

async fn connection(near: TcpStream, wish: Wish, mut wishes: watch::Receiver<Wish>) {
    // A target that cannot be dialled (or does not answer because the line is cut) looks like one that hangs up.
    let Ok(far) = TcpStream::connect(wish.target).await else {
        break_off(&near);
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (near, far) = (Arc::new(near), Arc::new(far));
    let out = tokio::spawn(pump(near.clone(), far.clone(), Direction::Out, wishes.clone()));
    let back = tokio::spawn(pump(far.clone(), near.clone(), Direction::Back, wishes.clone()));
    let aborts = [out.abort_handle(), back.abort_handle()];
    tokio::select! {
        // One side hung up: so does the other. Half-closed connections are nothing that gRPC or Redis use.
        _ = out => {}
        _ = back => {}
        _ = wishes.wait_for(|now| now.era != wish.era) => [&near, &far].into_iter().for_each(|s| break_off(s)),
    }
    aborts.iter().for_each(tokio::task::AbortHandle::abort);
}

/// Reads on one side, lets the time pass, and writes on the other.
async fn pump(from: Arc<TcpStream>, to: Arc<TcpStream>, direction: Direction, wishes: watch::Receiver<Wish>) {
    let (give, take) = mpsc::channel(WAITING);
    let reader = read(from, give, direction, wishes.clone());
    let writer = write(to, take, direction, wishes);
    // The reader's end ends the writer when it has written the rest; a writer that cannot go on ends both.
    tokio::pin!(writer);
    tokio::select! {
        () = reader => writer.await,
        () = &mut writer => {}
    }
}

async fn read(
    from: Arc<TcpStream>,
    give: mpsc::Sender<(Instant, Vec<u8>)>,
    direction: Direction,
    wishes: watch::Receiver<Wish>,
) {
    let mut piece = vec![0; PIECE];
    while from.readable().await.is_ok() {
        let length = match from.try_read(&mut piece) {
            Ok(0) => return,
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let due = Instant::now() + wishes.borrow().streams[direction.index()].delay;
        if give.send((due, piece[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn write(
    to: Arc<TcpStream>,
    mut take: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    mut wishes: watch::Receiver<Wish>,
) {
    while let Some((due, piece)) = take.recv().await {
        tokio::time::sleep_until(due).await;
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let Ok(now) = wishes.wait_for(|wish| !wish.streams[direction.index()].cut).await.map(|wish| *wish) else {
                return;
            };
            let crumb = now.streams[direction.index()].crumbs.unwrap_or(rest.len()).clamp(1, rest.len());
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(&rest[..crumb]) {
                Ok(written) => rest = &rest[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            // Lets the other side read it before the next one comes.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn line() -> (TcpRelay, JoinHandle<()>) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = TcpListener::bind(any).await.unwrap();
        let relay = TcpRelay::start(any, server.local_addr().unwrap()).await.unwrap();
        let echo = tokio::spawn(async move {
            while let Ok((stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ends_with_the_connection = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (relay, echo)
    }

    async fn ask(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        assert_eq!(answer, text);
        Ok(())
    }

    #[tokio::test]
    async fn bytes_pass_whole_and_in_crumbs() {
        let (relay, echo) = line().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let text: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        ask(&mut stream, &text[..1_000]).await.unwrap();
        relay.set_both(Stream { crumbs: Some(3), delay: Duration::from_millis(5), ..Stream::FAIR });
        ask(&mut stream, &text[..10_000]).await.unwrap();
        assert_eq!(relay.connections(), 1);
        echo.abort();
    }

    #[tokio::test]
    async fn a_cut_loses_nothing() {
        let (relay, echo) = line().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        ask(&mut stream, b"before").await.unwrap();
        relay.set(Direction::Back, Stream::CUT);
        stream.write_all(b"meanwhile").await.unwrap();
        let mut answer = [0; 9];
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut answer)).await;
        assert!(early.is_err(), "it was cut");
        relay.set(Direction::Back, Stream::FAIR);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"meanwhile");
        echo.abort();
    }

    #[tokio::test]
    async fn a_reset_breaks_connections_and_refusal_the_next() {
        let (relay, echo) = line().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        ask(&mut stream, b"before").await.unwrap();
        relay.reset();
        let broken = stream.read(&mut [0]).await;
        assert!(matches!(&broken, Err(e) if e.kind() == io::ErrorKind::ConnectionReset), "{broken:?}");
        relay.refuse(true);
        let refused = match TcpStream::connect(relay.address()).await {
            Ok(mut stream) => ask(&mut stream, b"nobody").await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
        relay.refuse(false);
        ask(&mut TcpStream::connect(relay.address()).await.unwrap(), b"after").await.unwrap();
        echo.abort();
    }

    #[tokio::test]
    async fn a_target_that_is_not_there_hangs_up() {
        let (relay, echo) = line().await;
        echo.abort();
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        relay.retarget(gone.local_addr().unwrap());
        drop(gone);
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert!(ask(&mut stream, b"nobody").await.is_err());
    }
}
