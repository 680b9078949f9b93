//! Keeps rings up to date: a thread that looks at their files.
//!
//! A thread of its own, because a file system may take its time and the serving thread may not; and looking instead of
//! being told, because notifications miss network file systems and the symbolic links that orchestrators swap.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::{KeyRing, ResumeKeys};

/// How often files are looked at. A change counts at the next look, a removal at the second: both well within a second.
const EVERY: Duration = Duration::from_millis(250);

/// Keeps rings up to date until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    _until_dropped: Sender<()>,
}

impl Watcher {
    /// Starts watching.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(ring: KeyRing, resume: ResumeKeys) -> std::io::Result<Self> {
        let (until_dropped, dropped) = channel();
        std::thread::Builder::new().name("ticket-keys".into()).spawn(move || {
            while dropped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                ring.reload();
                resume.reload();
            }
        })?;
        Ok(Self { _until_dropped: until_dropped })
    }
}
