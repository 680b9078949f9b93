//! Players come, are held still, and go: everything of a session's life except what the player does in it.

use std::time::Duration;

use tidegate_proto::stub::v1::CharacterState;
use tidegate_types::{Cause, Mono};

use super::area::Place;
use super::player::{Ending, Phase, Player, Who};
use super::{Game, Out, SaveFor, entered};
use crate::db::Failure;
use crate::db::work::{HomeMark, Saved, Written};

/// Saves are spread over this many slots of the save period, so that a login storm does not become a save storm.
const SAVE_SLOTS: u32 = 40;

/// A claim for a player who is here already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaiming {
    /// Which stay on that seat; answer [`Game::reclaimed`] with it.
    pub life: u64,
    /// Whose.
    pub who: Who,
    /// Where they are.
    pub place: Place,
    /// The epoch that is held.
    pub held: u64,
}

impl Game {
    /// A number for a stay that begins; see [`Game::arrive`].
    pub fn next_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    /// A player whose claim is committed comes into play. The caller sends `Entered` (with the answer to the gateway,
    /// before this server's task knows of it).
    #[expect(clippy::too_many_arguments, reason = "an arrival is all of these, and a struct would be made only here")]
    pub fn arrive(
        &mut self,
        seat: u32,
        life: u64,
        who: Who,
        epoch: u64,
        mut state: CharacterState,
        place: Place,
        cause: Cause,
        now: Mono,
        out: &mut Vec<Out>,
    ) {
        settle(&mut state, &place);
        if let (Cause::Login, Some(party)) = (cause, &who.party) {
            // The login service knows best whom the player came with; later the player's own `JoinParty` counts.
            state.party.clone_from(party);
        }
        self.stand_up(seat);
        let mut player = Player::new(life, who, epoch, state, place, now);
        player.recovering = cause == Cause::Crash;
        self.sit(seat, player);
        self.take_seat(seat, now, out);
    }

    /// Holds a player inert, for a hand-over that is not committed yet. `from`: the epoch that its claim must be from.
    #[expect(clippy::too_many_arguments, reason = "an arrival is all of these, and a struct would be made only here")]
    pub fn prepare(
        &mut self,
        seat: u32,
        who: Who,
        from: Option<u64>,
        epoch: u64,
        mut state: CharacterState,
        place: Place,
        now: Mono,
    ) {
        settle(&mut state, &place);
        let life = self.next_life();
        self.stand_up(seat);
        let mut player = Player::new(life, who, epoch, state, place, now);
        player.from = from;
        self.sit(seat, player);
    }

    /// The hand-over is committed: what to claim for the player held inert. `None`: nobody is.
    pub fn activating(&mut self, seat: u32, epoch: u64) -> Option<(u64, Who, Option<u64>, Place, Saved)> {
        let formats = self.rules.formats.clone();
        let player = self.player_mut(seat)?;
        if player.phase != Phase::Prepared || player.epoch != epoch {
            return None;
        }
        player.phase = Phase::Activating;
        let saved = Saved::new(&player.state, epoch, &formats);
        Some((player.life, player.who.clone(), player.from, player.place.clone(), saved))
    }

    /// The claim of a hand-over is committed, with this state.
    pub fn activated(&mut self, seat: u32, life: u64, mut state: CharacterState, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat).filter(|p| p.life == life && p.phase == Phase::Activating) else {
            return;
        };
        settle(&mut state, &player.place);
        player.state = state;
        self.take_seat(seat, now, out);
    }

    /// The seat's player is this server's from now.
    fn take_seat(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let every = self.rules.save_every;
        let Some(player) = self.player_mut(seat) else { return };
        player.phase = Phase::Seated;
        // The claim itself began the interval.
        player.home_open = true;
        player.acted_at = now;
        player.active_at = now;
        // Between half a period and a whole one.
        player.save_at = now + every / 2 + every / 2 * (seat % SAVE_SLOTS) / SAVE_SLOTS;
        let (name, place) = (player.who.character.clone(), player.place.clone());
        self.by_name.insert(name, seat);
        self.areas.enter(&place, seat);
        self.tell_status(seat, now, out);
        self.advance(seat, now, out);
    }

    /// The connection is lost: the player stays, nothing changes, all is saved.
    pub fn park(&mut self, seat: u32, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        player.parked = true;
        player.moved = None;
        if player.may_save() {
            self.save(seat, SaveFor::Upkeep, out);
        }
        out.extend(self.home_ends(seat).map(Out::HomeEnds));
    }

    /// Another gateway takes the player over, who is parked or frozen: what to claim `epoch` with. Nothing of them is written
    /// until [`Game::reclaimed`]. `None`: nobody is held there.
    pub fn reclaiming(&mut self, seat: u32, epoch: u64, out: &mut Vec<Out>) -> Option<Reclaiming> {
        let player = self.player_mut(seat).filter(|p| matches!(p.phase, Phase::Seated | Phase::Frozen) && !p.lost)?;
        let held = player.epoch;
        player.claims = Some(epoch);
        let reclaiming = Reclaiming { life: player.life, who: player.who.clone(), place: player.place.clone(), held };
        // It has ended already, unless the host forgot to park them.
        out.extend(self.home_ends(seat).map(Out::HomeEnds));
        Some(reclaiming)
    }

    /// The claim is answered: `Ok` and everything is written under the new epoch; `Err(true)`: another home has the player;
    /// `Err(false)`: it failed, and the old epoch is still theirs.
    pub fn reclaimed(&mut self, seat: u32, life: u64, outcome: Result<(), bool>) {
        let Some(player) = self.player_mut(seat).filter(|p| p.life == life) else { return };
        let Some(epoch) = player.claims.take() else { return };
        match outcome {
            Ok(()) => player.epoch = epoch,
            Err(elsewhere) => player.lost |= elsewhere,
        }
    }

    /// The player is back.
    pub fn unpark(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        player.parked = false;
        if player.phase == Phase::Seated {
            self.resume(seat, now, out);
        }
    }

    /// Hand-over: answer what was asked, stop, save. Ends in a [`SaveFor::Freeze`]. False: not in play here.
    pub fn freeze(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) -> bool {
        let Some(player) = self.player_mut(seat).filter(|p| p.phase == Phase::Seated && !p.lost) else { return false };
        player.ending = Some(Ending::Freeze);
        self.advance(seat, now, out);
        true
    }

    /// The hand-over failed: play on.
    pub fn thaw(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        if player.ending == Some(Ending::Freeze) {
            player.ending = None;
        }
        if player.phase == Phase::Frozen {
            player.phase = Phase::Seated;
            self.resume(seat, now, out);
        }
    }

    fn resume(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        if !player.parked {
            player.acted_at = now;
            out.extend(self.home_begins(seat).map(Out::HomeBegins));
            self.tell_status(seat, now, out);
        }
        self.advance(seat, now, out);
    }

    /// The hand-over is done, or was never to be, or a newer epoch takes the player: forget them. One who was still in play
    /// is saved first: if the new home is this very process, its claim comes behind the save and reads it; if it is another,
    /// the guard refuses the write.
    pub fn release(&mut self, seat: u32, out: &mut Vec<Out>) {
        if self.player(seat).is_some_and(Player::may_save) {
            self.save(seat, SaveFor::Upkeep, out);
        }
        out.extend(self.home_ends(seat).map(Out::HomeEnds));
        self.stand_up(seat);
    }

    /// The session ends: answer what was asked, save, forget. Ends in a [`SaveFor::Leave`] or [`Out::Left`].
    pub fn leave(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        match self.player_mut(seat) {
            Some(player) if player.phase == Phase::Seated && !player.lost => {
                player.ending = Some(Ending::Leave);
                self.advance(seat, now, out);
            }
            // Frozen is saved already; prepared has nothing; lost must not write.
            _ => {
                self.release(seat, out);
                out.push(Out::Left { seat });
            }
        }
    }

    /// What became of an [`Out::Save`].
    pub fn saved(
        &mut self,
        seat: u32,
        life: u64,
        why: SaveFor,
        outcome: &Result<Written, Failure>,
        now: Mono,
        out: &mut Vec<Out>,
    ) {
        let Some(player) = self.player_mut(seat).filter(|p| p.life == life) else { return };
        match outcome {
            Ok(Written::Yes) => {}
            Ok(Written::Stale) => self.lose(seat, out),
            Err(_) => {
                player.dirty = true;
                if why == SaveFor::Freeze {
                    self.thaw(seat, now, out);
                }
            }
        }
    }

    /// Another home has this player.
    pub(super) fn lose(&mut self, seat: u32, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat).filter(|p| !p.lost) else { return };
        player.lost = true;
        player.waiting.clear();
        self.counters.stale += 1;
        out.extend(self.home_ends(seat).map(Out::HomeEnds));
        out.push(Out::Eject { seat, reason: "stale_epoch" });
    }

    /// Saves all that changed: before a snapshot, and before the process ends (then the intervals of life end, too).
    pub fn save_all(&mut self, stopping: bool, out: &mut Vec<Out>) {
        for seat in self.all_seats() {
            let Some(player) = self.player(seat) else { continue };
            if player.may_save() {
                self.save(seat, SaveFor::Upkeep, out);
            }
            if stopping {
                out.extend(self.home_ends(seat).map(Out::HomeEnds));
            }
        }
    }

    /// Carries out what was waiting for the last action, if it is answered.
    pub(super) fn end_if_due(&mut self, seat: u32, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        if !player.may_act() || !player.waiting.is_empty() {
            return;
        }
        match player.ending.take() {
            None => {}
            Some(Ending::Freeze) => {
                player.moved = None;
                self.save(seat, SaveFor::Freeze, out);
                if let Some(player) = self.player_mut(seat) {
                    player.phase = Phase::Frozen;
                }
            }
            Some(Ending::Leave) => {
                self.save(seat, SaveFor::Leave, out);
                self.stand_up(seat);
            }
        }
    }

    /// Writes the player's row. What is not mere upkeep ends an interval of life with it, and so does upkeep of a player
    /// who is parked.
    pub(super) fn save(&mut self, seat: u32, why: SaveFor, out: &mut Vec<Out>) {
        let formats = self.rules.formats.clone();
        let Some(player) = self.player_mut(seat) else { return };
        player.dirty = false;
        let saved = Saved::new(&player.state, player.epoch, &formats);
        let life = player.life;
        let forget = why == SaveFor::Leave && player.who.is_probe();
        let ends = if why != SaveFor::Upkeep || player.parked { self.home_ends(seat) } else { None };
        out.push(Out::Save { seat, life, saved, ends, why, forget });
    }

    pub(super) fn home_begins(&mut self, seat: u32) -> Option<HomeMark> {
        let player = self.player_mut(seat).filter(|p| !p.home_open && !p.lost)?;
        player.home_open = true;
        Some(mark(player))
    }

    /// The end of the open interval: the last moment this server acted for the player, which may be long ago when the
    /// process was paused.
    pub(super) fn home_ends(&mut self, seat: u32) -> Option<HomeMark> {
        let player = self.player_mut(seat).filter(|p| p.home_open)?;
        player.home_open = false;
        Some(mark(player))
    }

    /// Tells the gateway what the player is doing.
    pub(super) fn tell_status(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        player.status_at = now + Duration::from_secs(10);
        out.push(Out::Status {
            seat,
            zone: player.place.zone.clone(),
            kind: player.place.kind().to_owned(),
            busy: player.busy,
            idle: now.since(player.active_at),
        });
    }

    /// Moves a player to another place of this same server.
    pub(super) fn move_within(&mut self, seat: u32, to: &Place, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        let from = std::mem::replace(&mut player.place, to.clone());
        if to.instance.is_none() {
            player.state.zone.clone_from(&to.zone);
        }
        player.busy = false;
        player.dirty = true;
        self.areas.leave(&from, seat);
        self.areas.enter(to, seat);
        self.tell_entered(seat, out);
        self.tell_status(seat, now, out);
    }

    pub(super) fn tell_entered(&self, seat: u32, out: &mut Vec<Out>) {
        let Some(player) = self.player(seat) else { return };
        out.push(Out::Event { seat, event: entered(&self.rules, &player.place, player.epoch, &player.state) });
    }
}

/// Makes the state's zone, which is where a login comes in, agree with where the player is now.
fn settle(state: &mut CharacterState, place: &Place) {
    if place.instance.is_none() {
        state.zone.clone_from(&place.zone);
    }
}

fn mark(player: &Player) -> HomeMark {
    HomeMark {
        player: player.who.player.clone(),
        character: player.who.character.clone(),
        epoch: player.epoch,
        at: player.acted_at,
    }
}
