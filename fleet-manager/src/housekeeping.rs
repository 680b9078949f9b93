//! What goes on in the background: deaths of world servers are told to the gateways, gateways that stay away are given
//! up, old requests and audit records are forgotten, and the database is copied once a day.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::v1;
use tidegate_types::{Clock, SystemClock};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::effects::{Surroundings, chain};
use crate::servers::ServerDead;
use crate::store::{Commit, Prune, rows};

/// How often it is looked for gateways that stay away.
const LOOK: Duration = Duration::from_secs(1);

/// How often old records are deleted, and it is looked whether a copy of the database is due. What is kept is bounded by the retention, not by this.
const PRUNE: Duration = Duration::from_secs(600);

/// How long records are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    requests: Duration,
    requests_limit: u32,
    audit: Duration,
    copy_every: Duration,
    copies: usize,
}

impl Retention {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            requests: Duration::from_secs(u64::from(config.request_retention_hours) * 3_600),
            requests_limit: config.request_limit,
            audit: Duration::from_secs(u64::from(config.audit_retention_days) * 86_400),
            copy_every: Duration::from_secs(u64::from(config.backup_hours) * 3_600),
            copies: config.backup_keep as usize,
        }
    }

    fn prune(&self) -> Prune {
        let now = SystemClock.now().wall;
        Prune {
            requests_before_ms: (now - self.requests).0,
            requests_limit: self.requests_limit,
            audit_before_ms: (now - self.audit).0,
        }
    }
}

/// Runs until `stop` is cancelled.
pub async fn run(surroundings: Arc<Surroundings>, retention: Retention, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK);
    let mut prune = tokio::time::interval(PRUNE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => give_up(&surroundings).await,
            _ = prune.tick() => {
                let commit = Commit { prune: Some(retention.prune()), ..Commit::default() };
                if let Err(error) = surroundings.store.commit(commit).await {
                    tracing::warn!(error = chain(&error), "cannot delete old records; trying again later");
                }
                match surroundings.store.back_up(retention.copy_every, retention.copies).await {
                    Ok(Some(copy)) => tracing::info!(copy = %copy.display(), "copied the database"),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(error = chain(&error), "cannot copy the database; trying again later"),
                }
            }
        }
    }
}

async fn give_up(surroundings: &Surroundings) {
    let servers = Arc::clone(&surroundings.servers.view().borrow());
    let gone = surroundings.gateways.look(&servers);
    if gone.is_empty() {
        return;
    }
    for id in &gone {
        tracing::warn!(gateway_id = %id, "gateway is gone and is given up; sessions it still had are taken for lost");
    }
    let rows = gone.iter().map(|id| rows::gateway_row(id, None)).collect();
    if let Err(error) = surroundings.store.commit(Commit { rows, ..Commit::default() }).await {
        // The next start waits for it once more, which is safe.
        tracing::warn!(error = chain(&error), "cannot forget a gateway");
    }
}

/// Tells the gateways of every world server that is certainly dead, until `stop` is cancelled.
pub async fn forward_deaths(surroundings: Arc<Surroundings>, stop: CancellationToken) {
    let mut deaths = surroundings.servers.deaths();
    // Before anyone could subscribe: gateways that connect get them in their greeting.
    let known = Arc::clone(&surroundings.servers.view().borrow());
    known.recent_deaths.iter().for_each(|dead| tell(&surroundings, dead));
    loop {
        let death = tokio::select! {
            () = stop.cancelled() => return,
            death = deaths.recv() => death,
        };
        match death {
            Ok(dead) => tell(&surroundings, &dead),
            // The view keeps the last ones; a gateway that misses one waits for the lease instead.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "deaths came faster than they were told");
                let known = Arc::clone(&surroundings.servers.view().borrow());
                known.recent_deaths.iter().for_each(|dead| tell(&surroundings, dead));
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn tell(surroundings: &Surroundings, dead: &ServerDead) {
    tracing::info!(server_id = %dead.server, "world server is dead; telling the gateways");
    let message = v1::ServerDead { server_id: dead.server.to_string(), instance: dead.instance.to_vec() };
    surroundings.gateways.server_dead(message);
}
