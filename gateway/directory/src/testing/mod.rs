//! Redis servers for tests: started on loopback, hurt in every way, and ended at drop by their process id.
//!
//! Everything here panics when it does not work: it is for tests, and a test that has no Redis must fail and say so.

mod cluster;
mod sentinel;
mod server;
mod tls;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;
pub use server::{Options, RedisServer};

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port of 127.0.0.1 that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until `done` says so.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}
