//! Smoke tests: before an environment gets its first player, a probe player of the manager's own goes through it by the
//! environment's own addresses, exactly as a gateway would bring one: log in, change zone by a hand-over, have its state
//! carried to another server and back, leave.
//!
//! The probe (`probe:<environment>:<run>`) owns nothing, so nothing is created or lost by it. Each check is one line; those that
//! could not be tried because an earlier one failed say so.

mod journey;
mod peer;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_link::connect::Dialer;
use tidegate_link::pki::Identity;
use tidegate_proto::CloseCode;
use tidegate_types::{BuildVersion, EnvironmentId, RealmId, ServerId};

use crate::servers::{ServerState, ServerView};
use journey::Journey;
use peer::Peer;

/// What to test.
#[derive(Debug, Clone)]
pub struct Request {
    /// The realm.
    pub realm: RealmId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The build that every server must be.
    pub build: BuildVersion,
    /// Its servers, as the supervisor sees them.
    pub servers: Vec<ServerView>,
    /// How long all checks together may take.
    pub within: Duration,
}

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not tried, and why; no reason to stop.
    Skipped(String),
    /// Not as it should be, and why.
    Failed(String),
}

/// The checks, in their order.
const NAMES: [&str; 6] = ["servers ready", "links", "login", "zone change", "probe state", "leave"];

/// Whether the environment may take players: something was tried, and nothing failed.
#[must_use]
pub fn passed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.outcome == Outcome::Passed)
        && !checks.iter().any(|check| matches!(check.outcome, Outcome::Failed(_)))
}

/// Runs all checks. The answer has one line for each, in order, whatever happens.
pub async fn run(request: Request, identity: &Identity) -> Vec<Check> {
    let mut outcomes = Vec::with_capacity(NAMES.len());
    let within = request.within;
    if tokio::time::timeout(within, checks(request, identity, &mut outcomes)).await.is_err() {
        outcomes.push(Outcome::Failed(format!("not done when all {} ms were over", within.as_millis())));
    }
    let stopped_by = outcomes
        .iter()
        .position(|outcome| matches!(outcome, Outcome::Failed(_)))
        .map_or_else(String::new, |i| format!("not tried: {} failed", NAMES[i.min(NAMES.len() - 1)]));
    let rest = std::iter::repeat(Outcome::Skipped(stopped_by));
    NAMES.into_iter().zip(outcomes.into_iter().chain(rest)).map(|(name, outcome)| Check { name, outcome }).collect()
}

/// Pushes one outcome per check, and stops after the first that failed.
async fn checks(request: Request, identity: &Identity, outcomes: &mut Vec<Outcome>) {
    match ready(&request) {
        Ok(()) => outcomes.push(Outcome::Passed),
        Err(why) => return outcomes.push(Outcome::Failed(why)),
    }
    let peers = match links(&request, identity).await {
        Ok(peers) => peers,
        Err(why) => return outcomes.push(Outcome::Failed(why)),
    };
    outcomes.push(Outcome::Passed);
    let mut journey = Journey::new(&request.environment, peers);
    journey.run(outcomes).await;
    for peer in journey.into_peers() {
        peer.close(CloseCode::Done).await;
    }
}

/// Every server is ready, and is what it should be, by the supervisor's word.
fn ready(request: &Request) -> Result<(), String> {
    if request.servers.is_empty() {
        return Err("the environment has no servers".to_owned());
    }
    for server in &request.servers {
        if server.state != ServerState::Ready {
            let because = if server.reason.is_empty() { String::new() } else { format!(" ({})", server.reason) };
            return Err(format!("{} is {:?}{because}", server.id, server.state).to_lowercase());
        }
        if server.build_reported.as_ref() != Some(&request.build) {
            return Err(format!("{} reports build {:?}, expected {}", server.id, server.build_reported, request.build));
        }
        if server.digest_ok != Some(true) {
            return Err(format!("{} has not loaded the build's assets", server.id));
        }
    }
    Ok(())
}

/// Every server can be reached by its own address, is who it should be, and asks for its lease.
async fn links(request: &Request, identity: &Identity) -> Result<BTreeMap<ServerId, Peer>, String> {
    let dialer = Dialer::new(identity).map_err(|e| format!("cannot open a socket: {e}"))?;
    let mut peers = BTreeMap::new();
    for server in &request.servers {
        let peer = Peer::open(&dialer, server, request).await.map_err(|why| format!("{}: {why}", server.id))?;
        peers.insert(server.id.clone(), peer);
    }
    for (id, peer) in &mut peers {
        peer.wait_until_alive().await.map_err(|why| format!("{id}: {why}"))?;
    }
    Ok(peers)
}

#[cfg(test)]
mod tests;
