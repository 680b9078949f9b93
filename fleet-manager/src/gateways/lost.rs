//! Sessions whose gateway is gone, and which nobody else has taken up: when are they over?
//!
//! Until then they count as players of their environment (unknown means occupied). They are over when their world server
//! says so: it holds nobody at all, or, once a detached player's place would be given up anyway (grace time and lease),
//! no more players than the living gateways know of. Both must hold for a while: a report may be a second old.
//!
//! Pure: what is known comes in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tidegate_types::{SessionId, Timestamp};

use crate::servers::plan::Occupancy;
use crate::servers::{ServerState, ServersView};
use crate::sessions::Orphan;

/// How long the world servers' word must hold: longer than a lease, and than a report takes.
const STEADY: Duration = Duration::from_secs(4);

/// Three times the lease that gateways give by default. A longer one only means that the servers' word is asked earlier.
pub(super) const LEASE: Duration = Duration::from_secs(9);

/// What the world servers' word was until now.
#[derive(Debug, Default)]
pub(super) struct Lost {
    agreed_since: HashMap<SessionId, Instant>,
}

/// What is known when it is looked.
pub(super) struct Known<'a> {
    /// The sessions that nobody holds.
    pub(super) orphans: &'a [Orphan],
    /// Sessions that living gateways hold, by server.
    pub(super) held: &'a BTreeMap<String, u32>,
    /// The servers' own word.
    pub(super) servers: &'a ServersView,
    /// How long a detached session keeps its place, with the lease.
    pub(super) patience: Duration,
    /// When it is looked.
    pub(super) now: Instant,
    /// The same, as the servers' states are dated.
    pub(super) wall: Timestamp,
}

impl Lost {
    /// The sessions that are over.
    pub(super) fn look(&mut self, known: &Known<'_>) -> Vec<SessionId> {
        let ids: BTreeSet<SessionId> = known.orphans.iter().map(|orphan| orphan.id).collect();
        self.agreed_since.retain(|id, _| ids.contains(id));
        let mut over = Vec::new();
        for orphan in known.orphans {
            if !is_over(orphan, known) {
                self.agreed_since.remove(&orphan.id);
                continue;
            }
            let since = *self.agreed_since.entry(orphan.id).or_insert(known.now);
            if known.now.duration_since(since) >= STEADY {
                over.push(orphan.id);
            }
        }
        over
    }
}

fn is_over(orphan: &Orphan, known: &Known<'_>) -> bool {
    let alone = known.now.duration_since(orphan.since);
    let waited = alone >= known.patience;
    let server = known.servers.servers.values().find(|server| server.id.as_str() == orphan.server);
    match server.map(|server| (server, server.occupancy)) {
        // Not placed yet, or its server is gone for good.
        None => waited,
        Some((_, Occupancy::Unknown)) => false,
        Some((_, Occupancy::Occupied(players))) => {
            waited && players <= known.held.get(&orphan.server).copied().unwrap_or(0)
        }
        // Empty, as it has been all the while: this very run of it has nobody. One that died had players, whose gateway
        // would have restored them; and who waited for a server was on none.
        Some((server, Occupancy::Empty)) => {
            let served_on = server.state == ServerState::Ready && known.wall.since(server.since) >= alone;
            waited || (served_on && !orphan.waits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::ServerView;

    /// A world server, with the given word.
    fn servers(state: ServerState, occupancy: Occupancy, since_ms: i64) -> ServersView {
        let id: tidegate_types::ServerId = "s-1".parse().unwrap();
        let view = ServerView {
            state,
            occupancy,
            since: Timestamp(since_ms),
            ..ServerView::nobody(id.clone(), "blue".parse().unwrap(), "eu-1".parse().unwrap())
        };
        ServersView { servers: BTreeMap::from([(id, view)]), ..ServersView::default() }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    /// When an orphan is over, in seconds after its gateway was gone, if the servers say the same all the time.
    fn over_after(orphan: &Orphan, held: u32, servers: &ServersView) -> Option<u64> {
        let held = BTreeMap::from([("s-1".to_owned(), held)]);
        let mut lost = Lost::default();
        (0..200).find(|s| {
            let passed = Duration::from_secs(*s);
            let known = Known {
                orphans: std::slice::from_ref(orphan),
                held: &held,
                servers,
                patience: PATIENCE,
                now: orphan.since + passed,
                wall: Timestamp(100_000) + passed,
            };
            !lost.look(&known).is_empty()
        })
    }

    fn orphan() -> Orphan {
        let id = SessionId(uuid::Uuid::from_u128(1));
        Orphan { id, server: "s-1".to_owned(), waits: false, since: Instant::now() }
    }

    #[test]
    fn a_server_that_serves_on_and_has_nobody_is_believed_at_once() {
        let empty = servers(ServerState::Ready, Occupancy::Empty, 1);
        assert_eq!(over_after(&orphan(), 0, &empty), Some(STEADY.as_secs()));
        assert_eq!(over_after(&Orphan { waits: true, ..orphan() }, 0, &empty), Some(64), "it was on no server");
    }

    #[test]
    fn a_server_that_died_had_players_who_are_restored() {
        let again = servers(ServerState::Ready, Occupancy::Empty, 101_000);
        assert_eq!(over_after(&orphan(), 0, &again), Some(64));
        let dead = servers(ServerState::Exited, Occupancy::Empty, 100_000);
        assert_eq!(over_after(&orphan(), 0, &dead), Some(64));
        assert_eq!(over_after(&Orphan { server: "s-9".to_owned(), ..orphan() }, 0, &again), Some(64));
    }

    #[test]
    fn a_server_with_more_players_than_are_known_of_has_this_one_too() {
        let three = servers(ServerState::Ready, Occupancy::Occupied(3), 1);
        assert_eq!(over_after(&orphan(), 2, &three), None);
        assert_eq!(over_after(&orphan(), 3, &three), Some(64));
        assert_eq!(over_after(&orphan(), 9, &servers(ServerState::Unreachable, Occupancy::Unknown, 1)), None);
    }

    #[test]
    fn a_word_that_changes_is_waited_for_anew() {
        let orphan = orphan();
        let empty = servers(ServerState::Ready, Occupancy::Empty, 1);
        let one = servers(ServerState::Ready, Occupancy::Occupied(1), 1);
        let held = BTreeMap::new();
        let mut lost = Lost::default();
        let mut look = |s: u64, servers: &ServersView| {
            let (orphans, passed) = (std::slice::from_ref(&orphan), Duration::from_secs(s));
            let (now, wall) = (orphan.since + passed, Timestamp(100_000) + passed);
            lost.look(&Known { orphans, held: &held, servers, patience: PATIENCE, now, wall }).len()
        };
        assert_eq!([look(0, &empty), look(3, &empty), look(4, &one), look(5, &empty), look(8, &empty)], [0; 5]);
        assert_eq!(look(9, &empty), 1);
    }
}
