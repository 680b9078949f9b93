//! One step of the world: positions out, saves that are due, players that waited for others.

use std::time::Duration;

use tidegate_proto::stub::v1::Snapshot;
use tidegate_types::Mono;

use super::player::Phase;
use super::{Game, Out, SaveFor};

/// Neighbours in a position snapshot.
const NEIGHBOURS: usize = 8;

/// A boundary that the gateway neither crossed nor refused in this time is forgotten, so that the player can ask again:
/// three times the longest hand-over.
const ASKED_FOR: Duration = Duration::from_secs(15);

impl Game {
    /// One step. `is_live` says whether a seat's player may be simulated now (lease good, connection there).
    pub fn step(&mut self, now: Mono, is_live: impl Fn(u32) -> bool, out: &mut Vec<Out>) {
        self.tick += 1;
        for seat in self.all_seats() {
            let Some(player) = self.player_mut(seat).filter(|p| p.phase == Phase::Seated && !p.lost) else { continue };
            if player.parked {
                // Nothing to simulate, but what a trade or a fence left to do is done.
            } else if is_live(seat) {
                player.acted_at = now;
                out.extend(self.home_begins(seat).map(Out::HomeBegins));
            } else {
                out.extend(self.home_ends(seat).map(Out::HomeEnds));
                continue;
            }
            self.look_after(seat, now, out);
        }
        self.snapshots(out);
    }

    fn look_after(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let every = self.rules.save_every;
        let Some(player) = self.player_mut(seat) else { return };
        let overdue = player.asked.as_ref().is_some_and(|asked| now.since(asked.at) >= ASKED_FOR);
        let save = player.may_save() && now >= player.save_at;
        if now >= player.save_at {
            player.save_at = now + every;
        }
        let status = !player.parked && now >= player.status_at;
        let waiting = !player.waiting.is_empty() || player.ending.is_some();
        if save {
            self.save(seat, SaveFor::Upkeep, out);
        }
        if overdue {
            self.transfer_refused(seat, "timed_out", now, out);
        }
        if status {
            self.tell_status(seat, now, out);
        }
        if waiting {
            self.advance(seat, now, out);
        }
    }

    /// Tells those who moved where they are, and where some of those around them are.
    fn snapshots(&mut self, out: &mut Vec<Out>) {
        let mut told = Vec::new();
        for area in self.areas.iter() {
            let members = area.members();
            for (at, seat) in members.iter().enumerate() {
                let Some(player) = self.player(*seat).filter(|p| p.is_playing()) else { continue };
                let Some(echo) = player.moved else { continue };
                let mut neighbours = Vec::with_capacity(2 * NEIGHBOURS);
                // The next ones around the ring: who is near matters to a game, not to a fleet.
                for step in 1..members.len().min(NEIGHBOURS + 1) {
                    if let Some(other) = self.player(members[(at + step) % members.len()]) {
                        neighbours.extend([other.state.x, other.state.y]);
                    }
                }
                told.push(*seat);
                let snapshot = Snapshot {
                    tick: self.tick,
                    echo_sent_us: echo.sent_us,
                    echo_sequence: echo.sequence,
                    x: player.state.x,
                    y: player.state.y,
                    neighbours,
                    server_id: self.rules.server_id.clone(),
                    epoch: player.epoch,
                };
                out.push(Out::Snapshot { seat: *seat, snapshot });
            }
        }
        for seat in told {
            if let Some(player) = self.player_mut(seat) {
                player.moved = None;
            }
        }
    }
}
