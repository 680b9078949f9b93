//! How a simulation is begun, watched and steered from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::SimulationError;
use crate::report::Report;
use crate::run::Prepared;

/// A simulation that is ready to run: files read, keys loaded, endpoints bound.
pub struct Simulation {
    prepared: Prepared,
    control: Control,
}

impl Simulation {
    /// Reads every file and opens every socket that the run needs. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SimulationError`] names the key or file that is wrong.
    pub fn new(config: Config) -> Result<Self, SimulationError> {
        config.check()?;
        // A program that has named itself already keeps its name.
        tidegate_events::start("players");
        let (wish, wishes) = watch::channel(Wish::default());
        let (live, _) = watch::channel(Live::default());
        let control = Control { wish: Arc::new(wish), live: Arc::new(live) };
        Ok(Self { prepared: Prepared::new(config, wishes, control.live.clone())?, control })
    }

    /// The handle that steers this simulation.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs until [`Control::finish`] or `shutdown`; either way all players log out and are waited for (at most
    /// `settle_ms` and some seconds) before the report is made.
    pub async fn run(self, shutdown: CancellationToken) -> Report {
        self.prepared.run(shutdown).await
    }
}

/// Who is to leave, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaving {
    /// Logouts a second, chosen at random among those who may leave.
    pub per_second: f64,
    /// Only players of this environment; `None`: of any.
    pub environment: Option<String>,
}

/// What is asked of the simulation. The latest wish counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    pub(crate) arrivals: bool,
    pub(crate) leaving: Option<Leaving>,
    pub(crate) finish: bool,
    pub(crate) population: Option<u32>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { arrivals: true, leaving: None, finish: false, population: None }
    }
}

/// Steers a running simulation; cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    wish: Arc<watch::Sender<Wish>>,
    live: Arc<watch::Sender<Live>>,
}

impl Control {
    /// The live figures, renewed four times a second.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// How many players are in the world now.
    #[must_use]
    pub fn population(&self) -> u32 {
        self.live.borrow().population
    }

    /// How many players are to be in the world at once from now on, instead of the configuration's `players`.
    pub fn set_population(&self, players: u32) {
        self.wish.send_modify(|wish| wish.population = Some(players));
    }

    /// Nobody new comes; those who leave are not replaced.
    pub fn stop_arrivals(&self) {
        self.wish.send_modify(|wish| wish.arrivals = false);
    }

    /// Players come again.
    pub fn resume_arrivals(&self) {
        self.wish.send_modify(|wish| wish.arrivals = true);
    }

    /// Players log out at a rate, besides those whose stay ends by itself. Stubborn ones (by profile) never do.
    pub fn begin_leaving(&self, leaving: Leaving) {
        self.wish.send_modify(|wish| wish.leaving = Some(leaving));
    }

    /// No more than by their own profiles.
    pub fn stop_leaving(&self) {
        self.wish.send_modify(|wish| wish.leaving = None);
    }

    /// Everybody waits for their last answers and logs out; [`Simulation::run`] then returns the report.
    pub fn finish(&self) {
        self.wish.send_modify(|wish| {
            wish.arrivals = false;
            wish.finish = true;
        });
    }
}

/// What is going on now. Counts are since the start unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Live {
    /// Players in the world (playing or trying to come back).
    pub population: u32,
    /// The same by environment.
    pub playing: BTreeMap<String, u32>,
    /// Logging in and not yet answered.
    pub connecting: u32,
    /// Waiting in line or for a new home.
    pub holding: u32,
    /// Trying to come back after a lost connection.
    pub reconnecting: u32,
    /// Sessions that were welcomed.
    pub sessions_started: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Sessions that ended without the player's or an operator's wish.
    pub lost: u64,
    /// Moves, all causes.
    pub moved: u64,
    /// Reliable actions sent.
    pub actions_sent: u64,
    /// Reliable actions answered.
    pub actions_answered: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Reliable round trip from the intended time, 50th percentile over the last second or so, in microseconds.
    pub action_p50_us: u64,
    /// The same, 99th percentile.
    pub action_p99_us: u64,
    /// Broken promises of every kind seen up to now (see [`Report`]); 0 is well.
    pub broken_promises: u64,
}
