//! Gold from one character to another. Both rows are written in one transaction; until it is committed neither of the two
//! may change, and nobody is told. So a crash, a fenced-off home or a full disk can neither double the gold nor lose it.

use tidegate_proto::stub::v1::{Action, Give};
use tidegate_types::Mono;

use super::actions::{Verdict, bare_answer};
use super::player::Player;
use super::{Game, Out, Side};
use crate::character::remember;
use crate::db::Failure;
use crate::db::work::{Saved, Traded};

/// A trade on its way to the database.
#[derive(Debug)]
pub(super) struct Pending {
    giver: (u32, u64),
    receiver: (u32, u64),
    gold: u64,
    action: Action,
}

impl Game {
    pub(super) fn give(&mut self, seat: u32, give: &Give, action: &Action, out: &mut Vec<Out>) -> Verdict {
        let Some(giver) = self.player(seat) else { return Verdict::Refused("not_here") };
        let found = self.seat_of(&give.to).filter(|to| *to != seat).and_then(|to| Some((to, self.player(to)?)));
        let Some((to, receiver)) = found.filter(|(_, p)| p.is_playing() && p.place == giver.place) else {
            return Verdict::Refused("not_here");
        };
        // A probe would take the gold with it when it is forgotten.
        if giver.who.is_probe() || receiver.who.is_probe() {
            return Verdict::Refused("not_here");
        }
        if receiver.lock.is_some() {
            return Verdict::Later;
        }
        let Some(left) = giver.state.gold.checked_sub(give.gold) else { return Verdict::Refused("too_poor") };
        let Some(more) = receiver.state.gold.checked_add(give.gold) else { return Verdict::Refused("too_rich") };

        let mut giver_after = giver.state.clone();
        giver_after.gold = left;
        giver_after.applied = action.sequence;
        let mut answer = bare_answer(giver, action.sequence, None);
        answer.gold = left;
        remember(&mut giver_after, &answer);
        let mut receiver_after = receiver.state.clone();
        receiver_after.gold = more;

        let side =
            |seat, player: &Player, after| Side { seat, saved: Saved::new(after, player.epoch, &self.rules.formats) };
        let sides = (side(seat, giver, &giver_after), side(to, receiver, &receiver_after));
        let pending = Pending {
            giver: (seat, giver.life),
            receiver: (to, receiver.life),
            gold: give.gold,
            action: action.clone(),
        };
        let id = self.next_life();
        for seat in [seat, to] {
            if let Some(player) = self.player_mut(seat) {
                player.lock = Some(id);
            }
        }
        self.trades.insert(id, pending);
        out.push(Out::Trade { id, giver: sides.0, receiver: sides.1 });
        Verdict::Promised
    }

    /// What became of an [`Out::Trade`].
    pub fn traded(&mut self, id: u64, outcome: &Result<Traded, Failure>, now: Mono, out: &mut Vec<Out>) {
        let Some(Pending { giver, receiver, gold, action }) = self.trades.remove(&id) else { return };
        match outcome {
            Ok(Traded::Yes) => {
                if let Some(player) = self.unlock(receiver) {
                    player.state.gold += gold;
                }
                let answered = self.unlock(giver).map(|player| player.state.gold -= gold);
                self.counters.trades += 1;
                if answered.is_some() {
                    self.answer(giver.0, &action, None, out);
                }
            }
            Ok(Traded::Stale { giver: giver_stale, receiver: receiver_stale }) => {
                let receiver_here = self.unlock(receiver).is_some();
                let giver_here = self.unlock(giver).is_some();
                if giver_here && *giver_stale {
                    self.lose(giver.0, out);
                } else if giver_here {
                    self.answer(giver.0, &action, Some("not_here"), out);
                }
                if receiver_here && *receiver_stale {
                    self.lose(receiver.0, out);
                }
            }
            Err(_) => {
                let _free = self.unlock(receiver).is_some();
                if self.unlock(giver).is_some() {
                    self.answer(giver.0, &action, Some("unavailable"), out);
                }
            }
        }
        self.advance(giver.0, now, out);
        self.advance(receiver.0, now, out);
    }

    /// Lets a side of a trade act again. `None`: that stay on the seat is over, by an order of the gateway; the rows are
    /// right either way.
    fn unlock(&mut self, (seat, life): (u32, u64)) -> Option<&mut Player> {
        let player = self.player_mut(seat).filter(|p| p.life == life)?;
        player.lock = None;
        Some(player)
    }
}
