//! What the manager asks of a world server: load assets and zones, serve, stand still for a snapshot, stop. Each directive
//! may come again after a broken stream; repeating one changes nothing and is answered again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::v1::{
    AssetsLoaded, BarrierFailed, BarrierReached, LoadAssets, WorldStatus, ZoneBlob, ZonePopulation, ZonesLoaded,
    world_directive, world_report,
};
use tidegate_types::Mono;
use tokio::sync::mpsc;

use super::control::{Control, Standing};
use super::engine::Engine;
use crate::assets::{Bundle, digest_folder};
use crate::config::{Config, Faults};
use crate::convert;
use crate::cx::{Answer, Question, Reply};
use crate::seats::{MAX_STATE, Population};
use crate::world::{World, Zone};

/// Longest barrier that is believed; a world that stands still longer is broken.
const LONGEST_BARRIER: Duration = Duration::from_secs(120);

/// What this server owes its manager.
pub(super) struct Duties {
    pub(super) control: Control,
    faults: Faults,
    standing: Standing,
    /// The digest that was really read and loaded.
    loaded: Option<[u8; 32]>,
    zones_loaded: bool,
    barrier: Option<Barrier>,
    turn: u64,
    stopping: Option<Stopping>,
    /// Longest tick since the last status, in microseconds.
    longest_tick_us: u32,
    read_tx: mpsc::Sender<AssetsRead>,
    /// Folders that were read.
    pub(super) read: mpsc::Receiver<AssetsRead>,
}

/// A folder's digest was computed, beside the loop.
pub(super) struct AssetsRead {
    path: PathBuf,
    wanted: Vec<u8>,
    found: std::io::Result<[u8; 32]>,
}

struct Barrier {
    snapshot: String,
    until: Mono,
    turn: u64,
    reached: Option<Vec<ZoneBlob>>,
}

struct Stopping {
    until: Mono,
    saved: bool,
}

impl Duties {
    pub(super) fn new(config: &Arc<Config>, control: Control) -> Self {
        // Reading is asked for rarely, and only one result is wanted at a time.
        let (read_tx, read) = mpsc::channel(4);
        Self {
            control,
            faults: config.faults.clone(),
            standing: Standing::default(),
            loaded: None,
            zones_loaded: false,
            barrier: None,
            turn: 0,
            stopping: None,
            longest_tick_us: 0,
            read_tx,
            read,
        }
    }

    /// True while players are taken.
    pub(super) fn ready(&self) -> bool {
        self.standing.serving && !self.standing_still()
    }

    /// True while nothing may happen in the world: a snapshot's barrier, or the end.
    pub(super) fn standing_still(&self) -> bool {
        self.barrier.is_some() || self.stopping.is_some()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    pub(super) fn world_is_saved(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.saved = true;
        }
    }

    /// True when there is nothing left to wait for.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.saved || now >= stopping.until)
    }

    /// When the barrier, or the patience with a world that saves, ends.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.barrier.as_ref().map(|b| b.until).into_iter().chain(self.stopping.as_ref().map(|s| s.until)).min()
    }

    pub(super) fn ticked(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.longest_tick_us = self.longest_tick_us.max(took);
    }

    fn assets_loaded(&self, digest: Vec<u8>, error: String) {
        self.control.report(world_report::Message::AssetsLoaded(AssetsLoaded { digest, error }));
    }

    fn barrier_failed(&self, snapshot_id: String, error: &str) {
        tracing::warn!(snapshot = %snapshot_id, error, "snapshot barrier failed");
        let error = error.to_owned();
        self.control.report(world_report::Message::BarrierFailed(BarrierFailed { snapshot_id, error }));
    }

    /// As it is to be told: a faulty server lies here.
    fn told_digest(&self, digest: [u8; 32]) -> Vec<u8> {
        let mut told = digest.to_vec();
        if self.faults.wrong_digest {
            told[0] ^= 0xff;
        }
        told
    }
}

impl<W: World> Engine<W> {
    pub(super) fn directive(&mut self, directive: world_directive::Message) {
        use world_directive::Message;
        match directive {
            Message::Registered(_) => tracing::debug!("the manager has accepted the registration"),
            Message::LoadAssets(load) => self.load_assets(load),
            Message::LoadZones(load) => self.load_zones(load.zones),
            Message::Serve(_) => self.serve(),
            Message::Barrier(barrier) => {
                self.begin_barrier(barrier.snapshot_id, Duration::from_millis(u64::from(barrier.timeout_ms)));
            }
            Message::BarrierRelease(release) => {
                if self.duties.barrier.as_ref().is_some_and(|barrier| barrier.snapshot == release.snapshot_id) {
                    self.end_barrier();
                }
            }
            Message::Stop(stop) => self.stop(Duration::from_millis(u64::from(stop.within_ms))),
        }
    }

    fn load_assets(&mut self, load: LoadAssets) {
        if self.duties.faults.never_ready {
            return tracing::info!("assets are never loaded, as configured");
        }
        if let Some(loaded) = self.duties.loaded.filter(|loaded| loaded[..] == load.digest[..]) {
            return self.duties.assets_loaded(self.duties.told_digest(loaded), String::new());
        }
        let read = self.duties.read_tx.clone();
        let path = PathBuf::from(load.path);
        // Beside the loop: a bundle may be gigabytes.
        tokio::task::spawn_blocking(move || {
            let found = digest_folder(&path);
            // The loop is gone, or asked again and again: then another answer comes.
            drop(read.try_send(AssetsRead { path, wanted: load.digest, found }));
        });
    }

    pub(super) fn assets_read(&mut self, read: AssetsRead) {
        let AssetsRead { path, wanted, found } = read;
        let digest = match found {
            Ok(digest) => digest,
            Err(error) => {
                let error = format!("cannot read {}: {error}", path.display());
                return self.duties.assets_loaded(Vec::new(), error);
            }
        };
        if digest[..] != wanted[..] {
            tracing::warn!(path = %path.display(), "assets have another digest than they should");
            return self.duties.assets_loaded(digest.to_vec(), "the digest is not the expected one".to_owned());
        }
        let error = self.world.load_assets(&Bundle { path, digest }).err().unwrap_or_default();
        let told = self.duties.told_digest(digest);
        if error.is_empty() {
            self.duties.loaded = Some(digest);
            self.duties.standing.assets.clone_from(&told);
            self.duties.control.standing.send_replace(self.duties.standing.clone());
        }
        self.duties.assets_loaded(told, error);
    }

    fn load_zones(&mut self, blobs: Vec<ZoneBlob>) {
        let count = blobs.len() as u32;
        let error = if self.duties.zones_loaded || self.duties.standing.serving {
            String::new()
        } else {
            match convert::zones(blobs) {
                Ok(zones) => self.world.load_zones(zones).err().unwrap_or_default(),
                Err(bad) => bad.to_string(),
            }
        };
        self.duties.zones_loaded |= error.is_empty();
        self.duties.control.report(world_report::Message::ZonesLoaded(ZonesLoaded { count, error }));
    }

    fn serve(&mut self) {
        if !self.duties.standing.serving && !self.duties.is_stopping() && !self.duties.faults.never_ready {
            tracing::info!("serving players");
            self.set_serving(true);
        }
    }

    fn set_serving(&mut self, serving: bool) {
        self.duties.standing.serving = serving;
        self.duties.control.standing.send_replace(self.duties.standing.clone());
        self.report_status();
    }

    fn begin_barrier(&mut self, snapshot: String, timeout: Duration) {
        if let Some(barrier) = &self.duties.barrier {
            if barrier.snapshot != snapshot {
                return self.duties.barrier_failed(snapshot, "another barrier stands");
            }
            if let Some(zones) = barrier.reached.clone() {
                self.report_reached(snapshot, zones);
            }
            return;
        }
        if self.duties.is_stopping() {
            return self.duties.barrier_failed(snapshot, "the server stops");
        }
        self.duties.turn += 1;
        let turn = self.duties.turn;
        let until = self.now() + timeout.min(LONGEST_BARRIER);
        self.duties.barrier = Some(Barrier { snapshot, until, turn, reached: None });
        let reply = Reply::new(&self.outbox.queue, Question::Barrier { turn });
        self.with(|world, cx| world.barrier(cx, reply));
    }

    pub(super) fn barrier_answered(&mut self, turn: u64, answer: Answer) {
        let Some(barrier) = self.duties.barrier.as_mut().filter(|barrier| barrier.turn == turn) else { return };
        let Answer::Zones(zones) = answer else { return };
        let snapshot = barrier.snapshot.clone();
        match zones.and_then(checked) {
            Ok(zones) => {
                barrier.reached = Some(zones.clone());
                self.report_reached(snapshot, zones);
            }
            Err(error) => {
                self.duties.barrier_failed(snapshot, &error);
                self.end_barrier();
            }
        }
    }

    fn report_reached(&self, snapshot_id: String, zones: Vec<ZoneBlob>) {
        self.duties.control.report(world_report::Message::BarrierReached(BarrierReached { snapshot_id, zones }));
    }

    fn end_barrier(&mut self) {
        self.duties.barrier = None;
        self.with(|world, cx| world.barrier_release(cx));
        for key in self.links.keys() {
            self.catch_up(key);
        }
    }

    /// Ends a barrier whose time is over.
    pub(super) fn check_barrier(&mut self, now: Mono) {
        if let Some(barrier) = self.duties.barrier.as_ref().filter(|barrier| now >= barrier.until) {
            let snapshot = barrier.snapshot.clone();
            self.duties.barrier_failed(snapshot, "timed out");
            self.end_barrier();
        }
    }

    /// Begins the end: the world saves, players are taken no more.
    pub(super) fn stop(&mut self, within: Duration) {
        if self.duties.is_stopping() {
            return;
        }
        tracing::info!(within_ms = within.as_millis() as u64, "stopping");
        if self.duties.barrier.is_some() {
            self.end_barrier();
        }
        self.duties.stopping = Some(Stopping { until: self.now() + within, saved: false });
        self.set_serving(false);
        let reply = Reply::new(&self.outbox.queue, Question::Stopping);
        self.with(|world, cx| world.stopping(cx, reply));
    }

    /// Tells the manager how things are.
    pub(super) fn report_status(&mut self) {
        let Population { players, parked, in_handover } = self.seats.population();
        let players = match self.duties.faults.population_lie {
            Some(lie) => u32::try_from((i64::from(players) + lie).max(0)).unwrap_or(u32::MAX),
            None => players,
        };
        let mut zones: Vec<ZonePopulation> = Vec::new();
        for zone in self.seats.zones() {
            match zones.iter_mut().find(|line| line.zone == zone.as_str()) {
                Some(line) => line.players += 1,
                None => zones.push(ZonePopulation { zone: zone.to_string(), players: 1 }),
            }
        }
        zones.sort_by(|a, b| a.zone.cmp(&b.zone));
        let tick_us = std::mem::take(&mut self.duties.longest_tick_us);
        let serving = self.duties.standing.serving;
        self.duties.control.status.send_replace(Some(WorldStatus {
            serving,
            players,
            parked,
            in_handover,
            tick_us,
            zones,
        }));
    }
}

/// Zones that a snapshot can carry.
fn checked(zones: Vec<Zone>) -> Result<Vec<ZoneBlob>, String> {
    zones
        .into_iter()
        .map(|zone| {
            if zone.state.len() > MAX_STATE {
                return Err(format!("the state of zone {} is {} bytes long", zone.zone, zone.state.len()));
            }
            Ok(convert::zone_out(zone))
        })
        .collect()
}
