//! How long things took: the figures of a run, and the way back after each kind of fault.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Evidence;
use super::control::{Window, windows};
use super::tally::Check;

/// A figure of times, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was timed.
    pub name: &'static str,
    /// How often.
    pub count: u64,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// All but one in a hundred took at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// What the 99th percentile is to stay within, if there is a goal.
    pub goal_p99_ms: Option<f64>,
}

/// The way back after one kind of fault: from its end until no player waits for anything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    /// The kind of fault.
    pub kind: String,
    /// How often it struck.
    pub struck: u64,
    /// How long the way back was.
    pub figure: Figure,
    /// How often it had not been found by the next fault of that kind, or by the end.
    pub never: u64,
}

impl Figure {
    fn new(name: &'static str, mut us: Vec<u64>, goal_p99_ms: Option<f64>) -> Self {
        us.sort_unstable();
        let ms = |us: u64| us as f64 / 1_000.0;
        // Nearest rank: the smallest value that so many do not exceed.
        let at = |share: f64| {
            let rank = (us.len() as f64 * share).ceil() as usize;
            us.get(rank.saturating_sub(1)).copied().map_or(0.0, ms)
        };
        Self { name, count: us.len() as u64, p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0), goal_p99_ms }
    }

    /// True if there is a goal and it was missed.
    #[must_use]
    pub fn misses(&self) -> bool {
        self.count > 0 && self.goal_p99_ms.is_some_and(|goal| self.p99_ms > goal)
    }
}

/// How long after a server's death a player may be told of the new home and it still counts as this death's.
const AFTER_DEATH_US: u64 = 30_000_000;

pub(super) fn figures(evidence: &Evidence) -> Vec<Figure> {
    let took = |name: &str| evidence.of(name).filter_map(|record| record.number("took_us")).collect::<Vec<_>>();
    vec![
        Figure::new("login", took("player_welcome"), None),
        Figure::new("hand-over (pause of the player's frames)", took("player_moved"), None),
        Figure::new("resumed after a gateway's kill -9, from detection", resumes(evidence).1, Some(3_000.0)),
        Figure::new("resumed after any lost connection, from detection", took("player_resumed"), None),
        Figure::new("moved to another gateway by a planned stop", took("player_relocated"), None),
        Figure::new(
            "takeover of a killed world server, from the kill",
            restored(evidence, "world-kill"),
            Some(4_000.0),
        ),
        Figure::new("takeover of a hung world server, from the stop", restored(evidence, "world-hang"), None),
        Figure::new("directory announced again after a loss", took("directory_rebuilt"), Some(2_000.0)),
        Figure::new("revocation of a key to the last login by it", revocations(evidence), Some(1_000.0)),
    ]
}

/// Players of killed gateways: whether they came back to the same home, and the times from detection.
pub(super) fn resumes(evidence: &Evidence) -> (Check, Vec<u64>) {
    let mut check = Check::new(5, "players of a killed gateway not back at their home");
    let mut times = Vec::new();
    let windows = windows(evidence);
    for kill in windows.iter().filter(|window| window.kind == "gateway-kill") {
        // A home that was struck too need not be the same afterwards.
        let world_struck = windows.iter().any(|other| {
            (other.kind.starts_with("world") || other.kind.starts_with("link"))
                && other.from_us < kill.to_us + 10_000_000
                && other.to_us + 10_000_000 > kill.from_us
        });
        for player in players_of(evidence, kill) {
            let after =
                |record: &&tidegate_events::Record| record.at_us >= kill.from_us && record.text("player") == player;
            let names = ["player_resumed", "player_closed", "player_welcome"];
            match evidence.any(&names).find(after) {
                Some(back) if back.event == "player_resumed" => {
                    let same = back.flag("same_home");
                    check.look(
                        (!same && !world_struck)
                            .then(|| format!("{player} came back to {} at {} µs", back.text("server"), back.at_us)),
                    );
                    times.extend(back.number("took_us"));
                }
                Some(closed) if closed.event == "player_closed" && closed.flag("by_own_wish") => {}
                other => check.look(Some(match other {
                    Some(other) => format!("{player}: {} {} at {} µs", other.event, other.text("why"), other.at_us),
                    None => format!("{player} was not heard of again after {} µs", kill.from_us),
                })),
            }
        }
    }
    (check, times)
}

/// Who was connected to a gateway when it was struck, by the last word of each player.
fn players_of<'a>(evidence: &'a Evidence, kill: &Window<'_>) -> Vec<&'a str> {
    let addresses: Vec<&str> = evidence
        .of("gateway")
        .filter(|gateway| gateway.text("id") == kill.target)
        .map(|gateway| gateway.text("address"))
        .collect();
    let mut at: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    const NAMES: &[&str] = &["player_welcome", "player_resumed", "player_relocated", "player_lost", "player_closed"];
    for record in evidence.any(NAMES).take_while(|record| record.at_us < kill.from_us) {
        let gone = matches!(record.event.as_str(), "player_lost" | "player_closed");
        at.insert(record.text("player"), (!gone).then(|| record.text("gateway")));
    }
    at.into_iter()
        .filter(|(_, gateway)| gateway.is_some_and(|g| g == kill.target || addresses.contains(&g)))
        .map(|(player, _)| player)
        .collect()
}

/// From a server's death to the player's new home, for each player who was told of one.
fn restored(evidence: &Evidence, kind: &str) -> Vec<u64> {
    let windows = windows(evidence);
    let deaths: Vec<u64> = windows.iter().filter(|window| window.kind == kind).map(|window| window.from_us).collect();
    evidence
        .of("player_moved")
        .filter(|moved| moved.text("cause") == "crash")
        .filter_map(|moved| {
            let death = deaths.iter().rev().find(|death| **death <= moved.at_us)?;
            // Another fault nearer by explains it better.
            let nearer = windows.iter().any(|w| w.kind != kind && w.from_us > *death && w.from_us <= moved.at_us);
            (!nearer && moved.at_us - death <= AFTER_DEATH_US).then_some(moved.at_us - death)
        })
        .collect()
}

/// From each revocation of a key to the last login that was let in by it; 0 if none was.
fn revocations(evidence: &Evidence) -> Vec<u64> {
    evidence
        .of("revoked")
        .map(|revoked| {
            let mut by_it = evidence.of("probe").filter(|probe| probe.text("key") == revoked.text("key"));
            let last = by_it.rfind(|probe| probe.flag("accepted") && probe.at_us > revoked.at_us);
            last.map_or(0, |probe| probe.at_us - revoked.at_us)
        })
        .collect()
}

pub(super) fn recoveries(evidence: &Evidence) -> Vec<Recovery> {
    let calm: Vec<u64> = evidence
        .of("live")
        .filter(|live| live.number("holding") == Some(0) && live.number("reconnecting") == Some(0))
        .map(|live| live.at_us)
        .collect();
    let windows = windows(evidence);
    let mut by_kind: BTreeMap<&str, (u64, Vec<u64>, u64)> = BTreeMap::new();
    for (n, window) in windows.iter().enumerate() {
        let (struck, times, never) = by_kind.entry(window.kind).or_default();
        *struck += 1;
        let next = windows[n + 1..].iter().find(|other| other.kind == window.kind).map_or(u64::MAX, |w| w.from_us);
        let back = calm.get(calm.partition_point(|at| *at < window.to_us)).filter(|at| **at < next);
        match back {
            Some(at) => times.push(at - window.to_us),
            None => *never += 1,
        }
    }
    by_kind
        .into_iter()
        .map(|(kind, (struck, times, never))| Recovery {
            kind: kind.to_owned(),
            struck,
            figure: Figure::new("back in play", times, None),
            never,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let figure = Figure::new("x", (1..=200).map(|n| n * 1_000).collect(), Some(100.0));
        assert_eq!((figure.count, figure.p50_ms, figure.p99_ms, figure.max_ms), (200, 100.0, 198.0, 200.0));
        assert!(figure.misses() && !Figure::new("x", Vec::new(), Some(0.0)).misses());
    }

    const KILL: [&str; 5] = [
        "1 c gateway id=gw-1 address=127.0.0.1:7001",
        "2 p player_welcome player=ann session=s1 gateway=127.0.0.1:7001",
        "3 p player_welcome player=bob session=s2 gateway=gw-2",
        "1000 c fault_begin n=1 kind=gateway-kill target=gw-1",
        "9000 c fault_end n=1",
    ];

    fn resumed(more: &[&str]) -> (u64, u64, Vec<u64>) {
        let (check, times) = resumes(&evidence(&[&KILL[..], more].concat()));
        (check.violations, check.of, times)
    }

    #[test]
    fn the_players_of_a_killed_gateway_are_followed_home() {
        let home = "5000 p player_resumed player=ann same_home=true took_us=700";
        assert_eq!(resumed(&[home]), (0, 1, vec![700]));
        assert_eq!(resumed(&["5000 p player_resumed player=ann same_home=false took_us=700"]), (1, 1, vec![700]));
        assert_eq!(resumed(&["5000 p player_closed player=ann why=lost"]), (1, 1, vec![]));
        assert_eq!(resumed(&["5000 p player_closed player=ann by_own_wish=true"]), (0, 0, vec![]));
        assert_eq!(resumed(&[]), (1, 1, vec![]));
        let struck = ["1000 c fault_begin n=2 kind=world-kill target=w", "2000 c fault_end n=2"];
        let elsewhere = ["5000 p player_resumed player=ann same_home=false took_us=700"];
        assert_eq!(resumed(&[&struck[..], &elsewhere[..]].concat()), (0, 1, vec![700]));
    }

    #[test]
    fn a_takeover_is_timed_from_the_kill() {
        let told = evidence(&[
            "1000 c fault_begin n=1 kind=world-kill target=w",
            "2000 c fault_end n=1",
            "4000 p player_moved player=ann cause=crash",
            "4500 p player_moved player=bob cause=zone",
        ]);
        assert_eq!(restored(&told, "world-kill"), [3_000]);
    }

    #[test]
    fn a_revocation_is_timed_to_the_last_login() {
        let told =
            evidence(&["10 c revoked key=k", "15 c probe key=k accepted=true", "30 c probe key=k accepted=false"]);
        assert_eq!(revocations(&told), [5]);
    }

    #[test]
    fn recovery_is_from_the_end_of_the_fault_to_calm() {
        let told = evidence(&[
            "1000 c fault_begin n=1 kind=world-kill target=w",
            "2000 c fault_end n=1",
            "2500 c live holding=3 reconnecting=0",
            "3500 c live holding=0 reconnecting=0",
            "8000 c fault_begin n=2 kind=world-kill target=w",
            "9000 c fault_end n=2",
        ]);
        let [recovery] = &recoveries(&told)[..] else { panic!("one kind") };
        assert_eq!((recovery.struck, recovery.never, recovery.figure.max_ms), (2, 1, 1.5));
    }
}
