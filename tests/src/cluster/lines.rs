//! The relays of a cluster, on a runtime of their own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_judge::relay::{TcpRelay, UdpRelay};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Where relays listen.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The relays of a cluster.
pub struct Lines {
    /// Players to each gateway.
    pub players: Vec<UdpRelay>,
    /// Each gateway to the manager.
    pub manager: Vec<TcpRelay>,
    /// All gateways to Redis: they must name the same directory, so they share its relay.
    pub redis: Option<TcpRelay>,
    /// All gateways to each world server, by its id.
    pub worlds: Arc<Mutex<BTreeMap<String, Arc<UdpRelay>>>>,
    /// Where a world server asks for its relay.
    pub desk: SocketAddr,
    // The last: relays must not be dropped outside of a runtime's time.
    runtime: Runtime,
}

impl Lines {
    /// Relays for so many gateways; those of the players lead nowhere yet.
    ///
    /// # Panics
    /// When loopback cannot be used.
    #[must_use]
    pub fn new(gateways: usize, manager: SocketAddr, redis: Option<SocketAddr>, seed: u64) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let worlds: Arc<Mutex<BTreeMap<String, Arc<UdpRelay>>>> = Arc::default();
        let (mut players, mut to_manager, mut to_redis) = (Vec::new(), Vec::new(), None);
        let desk = runtime.block_on(async {
            for number in 0..gateways as u64 {
                players.push(UdpRelay::start(ANY, ANY, seed.wrapping_add(number)).await.expect("a relay"));
                to_manager.push(TcpRelay::start(ANY, manager).await.expect("a relay"));
            }
            if let Some(redis) = redis {
                to_redis = Some(TcpRelay::start(ANY, redis).await.expect("a relay"));
            }
            let listener = TcpListener::bind(ANY).await.expect("loopback");
            let desk = listener.local_addr().expect("an address");
            tokio::spawn(serve_desk(listener, worlds.clone(), seed));
            desk
        });
        Self { players, manager: to_manager, redis: to_redis, worlds, desk, runtime }
    }

    /// All world servers' relays.
    #[must_use]
    pub fn world_relays(&self) -> Vec<(String, Arc<UdpRelay>)> {
        lock(&self.worlds).iter().map(|(id, relay)| (id.clone(), relay.clone())).collect()
    }

    /// One more relay over TCP, to this address.
    ///
    /// # Panics
    /// When loopback cannot be used.
    #[must_use]
    pub fn relay_to(&self, target: SocketAddr) -> TcpRelay {
        self.runtime.block_on(TcpRelay::start(ANY, target)).expect("a relay")
    }

    /// Runs something among the relays.
    pub fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        run()
    }
}

/// A world server says `<id> <address>` and is answered with the address of its relay.
async fn serve_desk(listener: TcpListener, worlds: Arc<Mutex<BTreeMap<String, Arc<UdpRelay>>>>, seed: u64) {
    let mut served: u64 = 0;
    while let Ok((stream, _)) = listener.accept().await {
        served += 1;
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        if BufReader::new(read).read_line(&mut line).await.is_err() {
            continue;
        }
        let Some((id, address)) = line.trim().split_once(' ') else { continue };
        let Ok(target) = address.parse() else { continue };
        // A new process has a relay of its own: what still goes to the old one goes on.
        let relay = match UdpRelay::start(ANY, target, seed ^ served.rotate_left(32)).await {
            Ok(relay) => Arc::new(relay),
            Err(_) => continue,
        };
        let answer = format!("{}\n", relay.address());
        lock(&worlds).insert(format!("{id}#{served}"), relay);
        let _ = write.write_all(answer.as_bytes()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
