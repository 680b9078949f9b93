//! The snapshot barrier: all servers of an environment stand still together, or none does.
//!
//! ```text
//!   asked --all reached--> holding --release--> (held? yes)
//!     |  one failed, died, lost its stream, or time is up: everyone is released, the snapshot fails
//!     \---------------------------> holding, but broken --release--> (held? no)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use tidegate_types::{Mono, ServerId, SnapshotId};
use tokio::sync::oneshot;

use super::spec::SavedZone;
use super::{BarrierZones, ServersError};

/// One barrier of one environment.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) snapshot: SnapshotId,
    /// When the servers go on by themselves.
    pub(crate) until: Mono,
    waiting: BTreeSet<ServerId>,
    reached: BTreeMap<ServerId, Vec<SavedZone>>,
    reply: Option<oneshot::Sender<Result<Vec<BarrierZones>, ServersError>>>,
    broken: Option<String>,
}

impl Barrier {
    pub(crate) fn new(
        snapshot: SnapshotId,
        until: Mono,
        servers: BTreeSet<ServerId>,
        reply: oneshot::Sender<Result<Vec<BarrierZones>, ServersError>>,
    ) -> Self {
        Self { snapshot, until, waiting: servers, reached: BTreeMap::new(), reply: Some(reply), broken: None }
    }

    /// Everyone who was told to stand still.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &ServerId> {
        self.waiting.iter().chain(self.reached.keys())
    }

    /// A server stands still.
    pub(crate) fn reached(&mut self, server: &ServerId, zones: Vec<SavedZone>) {
        if !self.waiting.remove(server) {
            return;
        }
        self.reached.insert(server.clone(), zones);
        if self.waiting.is_empty()
            && let Some(reply) = self.reply.take()
        {
            let zones = self
                .reached
                .iter()
                .map(|(server, zones)| BarrierZones { server: server.clone(), zones: zones.clone() });
            // Whoever asked and went away lets the servers go on when time is up.
            let _ = reply.send(Ok(zones.collect()));
        }
    }

    /// A server does not stand still (any more). True: the barrier fails now and everyone is to be released.
    pub(crate) fn broken_by(&mut self, server: &ServerId, why: &str) -> bool {
        if !self.waiting.contains(server) && !self.reached.contains_key(server) {
            return false;
        }
        self.fail(format!("{server} {why}"))
    }

    /// Time is up. True: the barrier fails now and everyone is to be released.
    pub(crate) fn timed_out(&mut self) -> bool {
        let missing: Vec<&str> = self.waiting.iter().map(ServerId::as_str).collect();
        let why = match missing[..] {
            [] => "it was not released in time".to_owned(),
            _ => format!("not reached in time by {}", missing.join(", ")),
        };
        self.fail(why)
    }

    fn fail(&mut self, why: String) -> bool {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(ServersError::Barrier { why }));
            return true;
        }
        self.broken.get_or_insert(why);
        false
    }

    /// Whether it has held until now.
    pub(crate) fn held(&self, now: Mono) -> bool {
        self.broken.is_none() && self.waiting.is_empty() && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier() -> (Barrier, oneshot::Receiver<Result<Vec<BarrierZones>, ServersError>>) {
        let (reply, answer) = oneshot::channel();
        let servers = ["a", "b"].map(|id| id.parse().unwrap()).into();
        (Barrier::new("s1".parse().unwrap(), Mono(100), servers, reply), answer)
    }

    fn id(text: &str) -> ServerId {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_reached_when_everyone_has_and_holds_until_its_time() {
        let (mut barrier, mut answer) = barrier();
        barrier.reached(&id("a"), Vec::new());
        assert!(answer.try_recv().is_err() && !barrier.held(Mono(1)));
        barrier.reached(&id("stranger"), Vec::new());
        barrier.reached(&id("b"), Vec::new());
        assert_eq!(answer.try_recv().unwrap().unwrap().len(), 2);
        assert!(barrier.held(Mono(99)) && !barrier.held(Mono(100)));
    }

    #[test]
    fn one_failure_fails_all_and_names_who() {
        let (mut barrier, mut answer) = barrier();
        barrier.reached(&id("a"), Vec::new());
        assert!(!barrier.broken_by(&id("stranger"), "died"));
        assert!(barrier.broken_by(&id("a"), "died"));
        let error = answer.try_recv().unwrap().unwrap_err().to_string();
        assert!(error.ends_with("a died"), "{error}");
    }

    #[test]
    fn a_death_while_holding_is_remembered_until_the_release() {
        let (mut barrier, _answer) = barrier();
        barrier.reached(&id("a"), Vec::new());
        barrier.reached(&id("b"), Vec::new());
        assert!(!barrier.broken_by(&id("b"), "died"));
        assert!(!barrier.held(Mono(1)));
    }

    #[test]
    fn a_late_one_is_named() {
        let (mut barrier, mut answer) = barrier();
        barrier.reached(&id("a"), Vec::new());
        assert!(barrier.timed_out());
        assert!(answer.try_recv().unwrap().unwrap_err().to_string().ends_with("by b"));
    }
}
