//! A line between a client and a gateway that can break the way lines do: nobody is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// Passes packets on, both ways.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Nothing passes any more.
    cut: AtomicBool,
    /// By the client's address; those that a router forgot lead nowhere.
    ways: Mutex<HashMap<SocketAddr, Option<Arc<UdpSocket>>>>,
}

impl Line {
    pub(crate) async fn to(gateway: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let state = Arc::new(State::default());
        tokio::spawn(forth(front, gateway, state.clone()));
        Self { address, state }
    }

    /// As if the gateway's machine had lost its power.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// As a router that restarts: packets from the addresses that were in use are dropped from now on, others pass.
    pub(crate) fn forget(&self) {
        self.state.ways.lock().unwrap().values_mut().for_each(|way| *way = None);
    }

    /// How many addresses of clients it has seen.
    pub(crate) fn clients(&self) -> usize {
        self.state.ways.lock().unwrap().len()
    }
}

async fn forth(front: Arc<UdpSocket>, gateway: SocketAddr, state: Arc<State>) {
    let mut packet = [0; 2_000];
    while let Ok((length, client)) = front.recv_from(&mut packet).await {
        let known = state.ways.lock().unwrap().get(&client).cloned();
        let way = match known {
            Some(way) => way,
            None => {
                let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                way.connect(gateway).await.unwrap();
                tokio::spawn(back(way.clone(), front.clone(), client, state.clone()));
                state.ways.lock().unwrap().insert(client, Some(way.clone()));
                Some(way)
            }
        };
        if let Some(way) = way.filter(|_| !state.cut.load(Ordering::Relaxed)) {
            let _ = way.send(&packet[..length]).await;
        }
    }
}

async fn back(way: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, state: Arc<State>) {
    let mut packet = [0; 2_000];
    loop {
        // An error tells that a packet before it was not taken; the next one may be.
        let Ok(length) = way.recv(&mut packet).await else { continue };
        let open = state.ways.lock().unwrap().get(&client).is_some_and(Option::is_some);
        if open && !state.cut.load(Ordering::Relaxed) {
            let _ = front.send_to(&packet[..length], client).await;
        }
    }
}
