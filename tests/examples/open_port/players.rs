//! Honest players: each asks its world for an answer ten times a second, and says where it is as often.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use prost::Message;
use tidegate_player::{ClientConfig, Event, PlayerEndpoint, Roots, Session};
use tidegate_proto::stub::v1 as game;
use tidegate_ticket::{LoginClaims, LoginKey};
use tidegate_types::{CharacterId, Clock, PlayerId, RealmId, SystemClock};

const EVERY: Duration = Duration::from_millis(100);

/// Players in play, until the process ends.
pub(crate) struct Players {
    heard: Arc<Heard>,
}

struct Heard {
    latency: Mutex<Histogram<u64>>,
    lost: AtomicU64,
}

/// Microseconds, up to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("sensible bounds")
}

impl Players {
    pub(crate) fn enter(gateway: SocketAddr, ca: &Path, key: &Path, count: u32) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let heard = Arc::new(Heard { latency: Mutex::new(histogram()), lost: AtomicU64::new(0) });
        let key = LoginKey::load(key)?;
        let config = ClientConfig::new(vec![gateway], "localhost", RealmId::new("eu-1")?, "2.0.0");
        let config = Arc::new(config);
        let endpoint = {
            let _inside = runtime.enter();
            PlayerEndpoint::new(&Roots::PemFile(ca.to_owned()))?
        };
        let mut tasks = Vec::new();
        for n in 0..count {
            let (session, mut events) =
                runtime.block_on(endpoint.connect(config.clone(), ticket(&key, &format!("honest-{n}"))?))?;
            runtime.block_on(async { while !matches!(events.next().await, Some(Event::Welcome(_)) | None) {} });
            tasks.push((session, events, heard.clone()));
        }
        for (n, (session, mut events, heard)) in tasks.into_iter().enumerate() {
            let began = Instant::now();
            runtime.spawn(async move {
                // Not all at once.
                tokio::time::sleep(EVERY * n as u32 / count).await;
                let mut tick = tokio::time::interval(EVERY);
                let mut sequence = 0;
                loop {
                    tokio::select! {
                        _ = tick.tick() => {
                            sequence += 1;
                            speak(&session, sequence, began);
                        }
                        event = events.next() => match event {
                            Some(Event::Game(body)) => heard.answer(&body, began),
                            Some(Event::Reconnecting { .. } | Event::Closed(_)) => {
                                heard.lost.fetch_add(1, Ordering::Relaxed);
                            }
                            Some(_) => {}
                            None => return,
                        },
                    }
                }
            });
        }
        // They play on a thread of their own while this one measures.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Ok(Self { heard })
    }

    /// The round trips since the last time, in microseconds.
    pub(crate) fn take(&self) -> Histogram<u64> {
        let mut latency = self.heard.latency.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut latency, histogram())
    }

    /// Connections that honest players have lost.
    pub(crate) fn lost(&self) -> u64 {
        self.heard.lost.load(Ordering::Relaxed)
    }
}

impl Heard {
    fn answer(&self, body: &[u8], began: Instant) {
        let Ok(game::Event { kind: Some(game::event::Kind::Answer(answer)) }) = game::Event::decode(body) else {
            return;
        };
        let Ok(sent) = <[u8; 8]>::try_from(&answer.payload[..]) else { return };
        let took = (began.elapsed().as_micros() as u64).saturating_sub(u64::from_le_bytes(sent));
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
    }
}

fn speak(session: &Session, sequence: u64, began: Instant) {
    let now = began.elapsed().as_micros() as u64;
    let ping = game::Ping { payload: now.to_le_bytes().to_vec() };
    let action = game::Action { sequence, again: false, kind: Some(game::action::Kind::Ping(ping)) };
    // A full window or a lost connection shows in the figures.
    let _ = session.try_send(Bytes::from(action.encode_to_vec()));
    let position = game::Position { x: 1, y: 2, sequence, sent_us: now };
    let _ = session.datagram(Bytes::from(position.encode_to_vec()));
}

/// A login ticket.
pub(crate) fn ticket(key: &LoginKey, name: &str) -> anyhow::Result<String> {
    let now = SystemClock.now().wall;
    Ok(key.mint(&LoginClaims {
        id: uuid::Uuid::new_v4(),
        realm: RealmId::new("eu-1")?,
        player: PlayerId::new(name)?,
        character: CharacterId::new(name)?,
        party: None,
        client_version: "2.0.0".to_owned(),
        issued: now,
        expires: now + Duration::from_secs(60),
        cohorts: Vec::new(),
    }))
}
