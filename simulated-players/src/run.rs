//! The run itself: arrivals, departures, and the end.

use std::sync::Arc;

use tidegate_player::{PlayerEndpoint, Roots};
use tidegate_ticket::LoginKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::{Live, Wish};
use crate::error::SimulationError;
use crate::profile::{self, Profile};
use crate::report::Report;

/// Connections that share a UDP socket: quinn drives one socket by one task, so a few sockets use a few cores.
const SESSIONS_PER_ENDPOINT: u32 = 500;

/// Everything that can fail before the first arrival has been done.
pub(crate) struct Prepared {
    config: Config,
    profiles: Vec<Arc<Profile>>,
    login_key: LoginKey,
    endpoints: Vec<PlayerEndpoint>,
    wishes: watch::Receiver<Wish>,
    live: Arc<watch::Sender<Live>>,
}

impl Prepared {
    pub(crate) fn new(
        config: Config,
        wishes: watch::Receiver<Wish>,
        live: Arc<watch::Sender<Live>>,
    ) -> Result<Self, SimulationError> {
        let profiles = profile::load(config.profiles.as_deref())?;
        let login_key = LoginKey::load(&config.login_key)
            .map_err(|e| SimulationError::LoginKey { path: config.login_key.clone(), why: e.to_string() })?;
        let roots = Roots::PemFile(config.ca.clone());
        let endpoints = (0..config.players.div_ceil(SESSIONS_PER_ENDPOINT))
            .map(|_| PlayerEndpoint::new(&roots))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, profiles, login_key, endpoints, wishes, live })
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Report {
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = self.wishes.wait_for(|wish| wish.finish) => {}
        }
        Report { seed: self.config.seed, players: self.config.players, ..Report::default() }
    }
}
