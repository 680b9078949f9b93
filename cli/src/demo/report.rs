//! What came of the demo, and which rules it broke. The figures about players are the players' own and the save records'.

use serde_json::{Value, json};
use simulated_players::Report;
use tidegate_proto::v1;
use world_server_stub::ledger::HomesAudit;

use crate::exit::Failure;
use crate::output::{Format, Printer, facts, say};
use crate::words;

/// All that is known at the end.
pub(super) struct Outcome {
    pub(super) players: Report,
    pub(super) homes: HomesAudit,
    pub(super) gold_before: u64,
    pub(super) environments: Vec<v1::Environment>,
    pub(super) snapshot: v1::Snapshot,
    pub(super) rollout: v1::Rollout,
    pub(super) drain: v1::Drain,
    pub(super) gateways: Vec<v1::Gateway>,
}

impl Outcome {
    /// A player who saw an older home answer, or two save records that share a moment, or an epoch used twice.
    fn double_homed(&self) -> u64 {
        self.players.double_homed + self.homes.overlaps + self.homes.duplicate_epochs
    }

    /// The rules that were broken, each with how often.
    pub(super) fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> = self
            .players
            .broken()
            .into_iter()
            .filter(|(name, _)| *name != "double_homed")
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if self.double_homed() > 0 {
            broken.push(format!("double_homed {}", self.double_homed()));
        }
        if self.gold_before != self.homes.gold_total {
            broken.push(format!("gold {} before, {} after", self.gold_before, self.homes.gold_total));
        }
        if let Some(flip) = &self.players.flip
            && flip.still_on_blue > 0
        {
            broken.push(format!("still_on_blue {}", flip.still_on_blue));
        }
        if !self.snapshot.verified {
            broken.push(format!("snapshot not verified: {}", self.snapshot.problem));
        }
        broken
    }

    fn handovers(&self) -> (u64, u64) {
        let completed = self.gateways.iter().map(|g| g.handovers_completed).sum();
        let kept = self.gateways.iter().map(|g| g.handovers_kept_in_place).sum();
        (completed, kept)
    }

    fn drain_s(&self) -> f64 {
        (self.drain.ended_ms - self.drain.started_ms).max(0) as f64 / 1_000.0
    }

    fn json(&self) -> Value {
        let flip = self.players.flip.clone().unwrap_or_default();
        let (completed, kept) = self.handovers();
        let environments: Vec<Value> = self
            .environments
            .iter()
            .map(|e| {
                json!({
                    "id": e.id, "label": words::label(e.label), "build": e.build,
                    "phase": words::phase(e.phase), "sessions": e.sessions,
                })
            })
            .collect();
        let steps: Vec<Value> = self
            .rollout
            .steps
            .iter()
            .map(|s| {
                json!({
                    "name": s.name, "started": s.started_ms, "ended": s.ended_ms,
                    "outcome": words::step_state(s.state), "what": s.outcome,
                })
            })
            .collect();
        let by = &flip.left_blue_by;
        json!({
            "players": self.players.players,
            "seed": self.players.seed,
            "sessions_started": self.players.sessions_started,
            "sessions_at_flip": flip.sessions_at_flip,
            "left_blue_by": {
                "logout": by.logout, "zone": by.zone, "instance": by.instance, "respawn": by.respawn,
                "drain": by.drain, "operator": by.operator,
            },
            "flip_confirm_ms": self.rollout.flip_confirm_us as f64 / 1_000.0,
            "misrouted_after_flip": flip.misrouted_after_flip,
            "moved_without_cause": self.players.moved_without_cause,
            "lost": self.players.lost,
            "double_homed": self.double_homed(),
            "frames_sent": self.players.frames_sent,
            "frames_lost": self.players.frames_lost,
            "frames_duplicated": self.players.frames_duplicated,
            "frames_reordered": self.players.frames_reordered,
            "handovers": { "completed": completed, "kept_in_place": kept },
            "handover_ms": {
                "p50": self.players.handover_ms.p50, "p99": self.players.handover_ms.p99,
                "max": self.players.handover_ms.max,
            },
            "drain_s": self.drain_s(),
            "gold_before": self.gold_before,
            "gold_after": self.homes.gold_total,
            "environments": environments,
            "snapshot": {
                "id": self.snapshot.id, "digest": self.snapshot.digest, "verified": self.snapshot.verified,
                "paused_ms": self.snapshot.paused_ms,
            },
            "rollout": { "id": self.rollout.id, "steps": steps },
            "save_records": {
                "homes": self.homes.intervals, "overlaps": self.homes.overlaps,
                "duplicate_epochs": self.homes.duplicate_epochs,
                "stale_writes_refused": self.homes.stale_writes_refused,
            },
            "broken": self.broken(),
        })
    }

    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        if format == Format::Table { say(&self.text()) } else { Printer::new(format).print_value(&self.json()) }
    }

    fn text(&self) -> String {
        let flip = self.players.flip.clone().unwrap_or_default();
        let by = &flip.left_blue_by;
        let (completed, kept) = self.handovers();
        let took = |s: &v1::RolloutStep| words::span(u64::try_from(s.ended_ms - s.started_ms).unwrap_or(0));
        let steps: Vec<String> = self.rollout.steps.iter().map(|s| format!("{} {}", s.name, took(s))).collect();
        let environments: Vec<String> = self
            .environments
            .iter()
            .map(|e| {
                format!(
                    "{} {} {} {} ({} sessions)",
                    e.id,
                    words::label(e.label),
                    e.build,
                    words::phase(e.phase),
                    e.sessions
                )
            })
            .collect();
        let count = |broken: u64, of: u64| format!("{broken} of {of}");
        facts(&[
            ("players", format!("{} at once, {} sessions", self.players.players, self.players.sessions_started)),
            ("environments", environments.join("\n                      ")),
            ("rollout", steps.join(", ")),
            (
                "flip confirmed in",
                format!(
                    "{:.1} ms, {} sessions in the world",
                    self.rollout.flip_confirm_us as f64 / 1_000.0,
                    flip.sessions_at_flip
                ),
            ),
            (
                "left blue by",
                format!(
                    "logout {}, zone {}, instance {}, respawn {}, drain {}, operator {}",
                    by.logout, by.zone, by.instance, by.respawn, by.drain, by.operator
                ),
            ),
            ("drained in", format!("{:.1} s", self.drain_s())),
            (
                "hand-overs",
                format!(
                    "{completed} completed, {kept} kept in place; p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                    self.players.handover_ms.p50, self.players.handover_ms.p99, self.players.handover_ms.max
                ),
            ),
            (
                "snapshot",
                format!(
                    "{} {} (world paused {} ms)",
                    self.snapshot.id,
                    if self.snapshot.verified { "verified" } else { "NOT VERIFIED" },
                    self.snapshot.paused_ms
                ),
            ),
            ("lost", count(self.players.lost, self.players.sessions_started)),
            ("double homed", count(self.double_homed(), self.homes.intervals)),
            ("moved without cause", count(self.players.moved_without_cause, self.players.moved_by.values().sum())),
            ("misrouted after flip", count(flip.misrouted_after_flip, flip.sessions_after_flip)),
            (
                "frames",
                format!(
                    "{} lost, {} duplicated, {} reordered of {}",
                    self.players.frames_lost,
                    self.players.frames_duplicated,
                    self.players.frames_reordered,
                    self.players.frames_sent
                ),
            ),
            ("gold", format!("{} before, {} after", self.gold_before, self.homes.gold_total)),
        ])
    }
}
