//! What can be set about a shared directory.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a shared directory. [`Default`] is what a deployment should start with.
#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    /// The longest wait for an answer (and for a connection). Default 500 ms: a login waits for it, and a Redis in the same
    /// data centre answers within 1 ms.
    pub request_timeout: Duration,
    /// How long an entry with a home stays without being announced again. Default 1 h: much longer than the pause between two
    /// announcements, short enough that a deployment that ended leaves nothing behind.
    pub live_ttl: Duration,
    /// How long the epoch of a session that ended stays. Default 7 days: forgetting it costs a returning player one more round
    /// trip and nothing else.
    pub rested_ttl: Duration,
    /// How often the directory is asked whether it is still the same and takes writes. Default 1 s.
    pub check_interval: Duration,
    /// How many requests may wait for their answers; one more is answered `Unavailable`. Default 16,384, some 10 MB.
    pub max_requests: usize,
    /// The certificate authority (PEM) of a Redis that speaks TLS. `None` (default) is the system's authorities.
    pub ca_file: Option<PathBuf>,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_millis(500),
            live_ttl: Duration::from_secs(3_600),
            rested_ttl: Duration::from_secs(7 * 24 * 3_600),
            check_interval: Duration::from_secs(1),
            max_requests: 16_384,
            ca_file: None,
        }
    }
}
