//! The host: it binds the link's port, keeps the control stream to the manager, and runs the loop that owns the world.

use std::io;
use std::net::SocketAddr;

use tidegate_link::accept::Listener;
use tidegate_link::pki::{Identity, PkiError};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::world::World;

/// Why a host could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A certificate or key file cannot be used.
    #[error("load the link's certificates")]
    Pki(#[from] PkiError),
    /// The link's address cannot be bound.
    #[error("listen for links on {addr}")]
    Listen {
        /// Where (`TIDEGATE_LINK_LISTEN`).
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A world server: a [`World`] and everything around it.
pub struct Host<W> {
    config: Config,
    world: W,
    listener: Listener,
}

impl<W: World> Host<W> {
    /// Loads the certificates and binds the link's port. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`HostError`]; nothing is running then.
    pub fn new(config: Config, world: W) -> Result<Self, HostError> {
        let identity = Identity::load(&config.link_ca, &config.link_cert, &config.link_key)?;
        let listener = Listener::bind(&identity, config.link_listen)
            .map_err(|source| HostError::Listen { addr: config.link_listen, source })?;
        Ok(Self { config, world, listener })
    }

    /// Where the link listens.
    #[must_use]
    pub fn link_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until the manager says `Stop` or `shutdown` is cancelled, then saves and closes.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), HostError> {
        let Self { config, world, listener } = self;
        tracing::info!(server = %config.server, formats = ?world.formats(), "world server started");
        shutdown.cancelled().await;
        drop((world, listener));
        Ok(())
    }
}
