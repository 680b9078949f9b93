//! A UDP relay: a front socket that many dial, and for each of them a socket of its own towards the target.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::{Direction, Sky, Weather};

/// Most packets that wait in a relay; beyond that they vanish, as in any router.
const MOST_WAITING: usize = 20_000;

/// The largest datagram there is.
const LARGEST: usize = 65_536;

/// A running relay; dropping it closes it.
pub struct UdpRelay {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    front: UdpSocket,
    target: Mutex<SocketAddr>,
    skies: [Mutex<Sky>; 2],
    callers: Mutex<HashMap<SocketAddr, Caller>>,
    begin: Instant,
    waiting: AtomicUsize,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// One of those who dial, and its own way to the target.
#[derive(Clone)]
struct Caller {
    back: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl UdpRelay {
    /// Listens at `listen` (port 0: any) for packets to `target`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, target: SocketAddr, seed: u64) -> io::Result<Self> {
        let front = bind(listen).await?;
        let address = front.local_addr()?;
        let shared = Arc::new(Shared {
            front,
            target: Mutex::new(target),
            skies: [Mutex::new(Sky::new(seed)), Mutex::new(Sky::new(!seed))],
            callers: Mutex::default(),
            begin: Instant::now(),
            waiting: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let task = tokio::spawn(serve(shared.clone()));
        Ok(Self { shared, address, task })
    }

    /// Where to dial it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather of one direction.
    pub fn set(&self, direction: Direction, weather: Weather) {
        lock(&self.shared.skies[direction.index()]).weather = weather;
    }

    /// Changes the weather of both directions.
    pub fn set_both(&self, weather: Weather) {
        Direction::BOTH.into_iter().for_each(|direction| self.set(direction, weather));
    }

    /// Where packets go from now on.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Forgets who is who, as a NAT that was restarted: the target sees everybody come from a new address.
    pub fn rebind(&self) {
        for (_, caller) in lock(&self.shared.callers).drain() {
            caller.reader.abort();
        }
    }

    /// Packets that went through, and packets that did not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.task.abort();
        self.rebind();
    }
}

/// A socket that can be written to without waiting: tokio believes that only after the first look.
async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    socket.writable().await?;
    Ok(socket)
}

async fn serve(shared: Arc<Shared>) {
    let mut packet = vec![0; LARGEST];
    loop {
        // An ICMP error of an earlier packet shows here; it says nothing of the next one.
        let Ok((length, from)) = shared.front.recv_from(&mut packet).await else { continue };
        let known = lock(&shared.callers).get(&from).cloned();
        let caller = match known {
            Some(caller) => caller,
            None => match enter(&shared, from).await {
                Ok(caller) => caller,
                Err(_) => continue,
            },
        };
        let target = *lock(&shared.target);
        pass(&shared, Direction::Out, &packet[..length], Way::Out(caller.back, target));
    }
}

async fn enter(shared: &Arc<Shared>, from: SocketAddr) -> io::Result<Caller> {
    let back = Arc::new(bind((Ipv4Addr::LOCALHOST, 0).into()).await?);
    let reader = tokio::spawn(read_back(shared.clone(), back.clone(), from)).abort_handle();
    let caller = Caller { back, reader };
    lock(&shared.callers).insert(from, caller.clone());
    Ok(caller)
}

async fn read_back(shared: Arc<Shared>, back: Arc<UdpSocket>, to: SocketAddr) {
    let mut packet = vec![0; LARGEST];
    loop {
        match back.recv_from(&mut packet).await {
            Ok((length, _)) => pass(&shared, Direction::Back, &packet[..length], Way::Back(to)),
            // The target is not there just now: its port answers with ICMP. Yield, or this would spin.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

enum Way {
    Out(Arc<UdpSocket>, SocketAddr),
    Back(SocketAddr),
}

impl Way {
    /// A full socket buffer loses packets, as networks do.
    fn send(&self, shared: &Shared, packet: &[u8]) -> bool {
        match self {
            Self::Out(back, target) => back.try_send_to(packet, *target),
            Self::Back(to) => shared.front.try_send_to(packet, *to),
        }
        .is_ok()
    }
}

fn pass(shared: &Arc<Shared>, direction: Direction, packet: &[u8], way: Way) {
    let now = shared.begin.elapsed();
    let fate = lock(&shared.skies[direction.index()]).fate(now, packet.len());
    let count = |passed: bool| {
        if passed { &shared.passed } else { &shared.lost }.fetch_add(1, Ordering::Relaxed);
    };
    let copies: Vec<Duration> = fate.copies.into_iter().flatten().collect();
    if copies.is_empty() {
        count(false);
        return;
    }
    if copies.iter().all(|leaves| *leaves <= now) {
        copies.iter().for_each(|_| count(way.send(shared, packet)));
        return;
    }
    if shared.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        count(false);
        return;
    }
    let (shared, packet) = (shared.clone(), packet.to_vec());
    tokio::spawn(async move {
        for leaves in copies {
            tokio::time::sleep_until(shared.begin + leaves).await;
            let passed = way.send(&shared, &packet);
            if passed { &shared.passed } else { &shared.lost }.fetch_add(1, Ordering::Relaxed);
        }
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one; and half-done work would be some counters.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo, a relay before it, and a caller.
    struct Line {
        relay: UdpRelay,
        caller: UdpSocket,
        echo: JoinHandle<()>,
    }

    impl Line {
        async fn new() -> Self {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = UdpSocket::bind(any).await.unwrap();
            let relay = UdpRelay::start(any, server.local_addr().unwrap(), 1).await.unwrap();
            let echo = tokio::spawn(async move {
                let mut packet = [0; 100];
                while let Ok((length, from)) = server.recv_from(&mut packet).await {
                    // Says what it heard, and from where.
                    let answer = format!("{} {from}", String::from_utf8_lossy(&packet[..length]));
                    let _ = server.send_to(answer.as_bytes(), from).await;
                }
            });
            let caller = UdpSocket::bind(any).await.unwrap();
            caller.connect(relay.address()).await.unwrap();
            Self { relay, caller, echo }
        }

        async fn say(&self, text: &str) {
            self.caller.send(text.as_bytes()).await.unwrap();
        }

        async fn hear(&self) -> String {
            let mut packet = [0; 100];
            let length = self.caller.recv(&mut packet).await.unwrap();
            String::from_utf8_lossy(&packet[..length]).into_owned()
        }

        /// Asks until there is an answer, for lines that lose packets.
        async fn ask(&self, text: &str) -> String {
            loop {
                self.say(text).await;
                if let Ok(answer) = tokio::time::timeout(Duration::from_millis(20), self.hear()).await {
                    return answer;
                }
            }
        }
    }

    impl Drop for Line {
        fn drop(&mut self) {
            self.echo.abort();
        }
    }

    #[tokio::test]
    async fn packets_pass_both_ways() {
        let line = Line::new().await;
        line.say("a").await;
        assert!(line.hear().await.starts_with("a 127.0.0.1:"));
        assert_eq!(line.relay.counts(), (2, 0));
    }

    #[tokio::test]
    async fn a_duplicate_comes_twice_and_a_cut_loses_all() {
        let line = Line::new().await;
        line.relay.set(Direction::Back, Weather { duplicate: 1.0, ..Weather::FAIR });
        line.say("a").await;
        assert_eq!(line.hear().await, line.hear().await);
        line.relay.set_both(Weather::CUT);
        line.say("lost").await;
        while line.relay.counts().1 == 0 {
            tokio::task::yield_now().await;
        }
        line.relay.set_both(Weather::FAIR);
        assert!(line.ask("b").await.starts_with("b "));
    }

    #[tokio::test]
    async fn one_direction_can_be_cut_alone() {
        let line = Line::new().await;
        line.relay.set(Direction::Back, Weather::CUT);
        line.say("heard").await;
        while line.relay.counts() != (1, 1) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_held_back_is_overtaken() {
        let line = Line::new().await;
        line.relay.set(Direction::Out, Weather { reorder: 1.0, ..Weather::FAIR });
        line.say("first").await;
        while line.relay.shared.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        line.relay.set(Direction::Out, Weather::FAIR);
        line.say("second").await;
        assert!(line.hear().await.starts_with("second "));
        assert!(line.hear().await.starts_with("first "));
    }

    #[tokio::test]
    async fn after_a_rebind_the_target_sees_another_address() {
        let line = Line::new().await;
        let before = line.ask("a").await;
        line.relay.rebind();
        assert_ne!(line.ask("a").await, before);
    }

    #[tokio::test]
    async fn a_target_that_comes_back_elsewhere_is_found() {
        let line = Line::new().await;
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let echo = *lock(&line.relay.shared.target);
        line.relay.retarget(nobody.local_addr().unwrap());
        drop(nobody);
        line.say("lost").await;
        while line.relay.counts() == (0, 0) {
            tokio::task::yield_now().await;
        }
        line.relay.retarget(echo);
        assert!(line.ask("b").await.starts_with("b "));
    }
}
