//! What players do: each action is applied once, in order, and answered.

use tidegate_proto::stub::v1::{Action, Answer, ChatLine, Event, Position, action, event};
use tidegate_types::{Cause, Mono, PartyId, ZoneId};

use super::area::{Area, Place};
use super::player::{Asked, Echo, MAX_WAITING, Player};
use super::{Game, Out};
use crate::character::{ITEM_VALUE, remember};

/// Others who hear a line of chat: a crowd of thousands must not turn one line into thousands.
const EARSHOT: usize = 20;
/// Longest line of chat, in bytes.
const MAX_CHAT: usize = 256;
/// Most members of a party that go together (the link's limit for one transfer).
const MAX_PARTY: usize = 64;

/// What an action came to, before it is answered.
pub(super) enum Verdict {
    Done,
    Refused(&'static str),
    /// Something else is in the way: try again later, before any later action of the same player.
    Later,
    /// Answered when the database has it.
    Promised,
}

use Verdict::{Done, Refused};

impl Game {
    /// A reliable frame of a player.
    pub fn action(&mut self, seat: u32, action: Action, now: Mono, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat).filter(|p| !p.lost) else {
            self.counters.ignored += 1;
            return;
        };
        player.acted_at = now;
        if player.waiting.len() >= MAX_WAITING {
            self.counters.ignored += 1;
            out.push(Out::Eject { seat, reason: "too_many_actions" });
            return;
        }
        player.waiting.push_back(action);
        self.advance(seat, now, out);
    }

    /// A frame that is no action.
    pub fn garbage(&mut self, seat: u32, out: &mut Vec<Out>) {
        self.counters.ignored += 1;
        out.push(Out::Eject { seat, reason: "bad_action" });
    }

    /// Where the player's client says that it is.
    pub fn position(&mut self, seat: u32, position: &Position, now: Mono) {
        let Some(player) = self.player_mut(seat).filter(|p| p.is_playing()) else { return };
        player.acted_at = now;
        if (player.state.x, player.state.y) != (position.x, position.y) {
            (player.state.x, player.state.y) = (position.x, position.y);
            player.dirty = true;
            player.active_at = now;
        }
        player.moved = Some(Echo { sent_us: position.sent_us, sequence: position.sequence });
    }

    /// The gateway did not take this player across the boundary.
    pub fn transfer_refused(&mut self, seat: u32, reason: &str, now: Mono, out: &mut Vec<Out>) {
        let Some(asked) = self.player_mut(seat).and_then(|p| p.asked.take()) else { return };
        // "here": the gateway would have it as it is, and the place is this server's own.
        if matches!(reason, "here" | "same_server") && self.serves(&asked.to) {
            self.move_within(seat, &asked.to, now, out);
        } else {
            // Still where they were; saying so ends the player's waiting.
            self.tell_entered(seat, out);
        }
    }

    /// Applies what waits, as far as it can be.
    pub(super) fn advance(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) {
        while !self.standing_still {
            let Some(player) = self.player_mut(seat).filter(|p| p.may_act()) else { return };
            let Some(action) = player.waiting.pop_front() else { break };
            if !self.apply(seat, action, now, out) {
                return;
            }
        }
        if !self.standing_still {
            self.end_if_due(seat, out);
        }
    }

    /// Applies one action. False: nothing later may be applied before it.
    fn apply(&mut self, seat: u32, action: Action, now: Mono, out: &mut Vec<Out>) -> bool {
        let Some(player) = self.player_mut(seat) else { return false };
        let next = player.state.applied + 1;
        if action.sequence != next {
            self.out_of_sequence(seat, &action, out);
            return true;
        }
        if !matches!(action.kind, Some(action::Kind::Ping(_)) | None) {
            player.active_at = now;
        }
        let verdict = match &action.kind {
            None => Refused("unknown_action"),
            Some(action::Kind::Ping(_)) => Done,
            Some(action::Kind::Chat(chat)) => self.chat(seat, &chat.text, out),
            Some(action::Kind::Give(give)) => self.give(seat, give, &action, out),
            Some(action::Kind::GoTo(go)) => self.go_to(seat, &go.zone, now, out),
            Some(action::Kind::Enter(enter)) => self.enter_instance(seat, &enter.kind, now, out),
            Some(action::Kind::Leave(_)) => self.leave_instance(seat, now, out),
            Some(action::Kind::Die(_)) => self.die(seat, now, out),
            Some(action::Kind::Party(join)) => self.join_party(seat, &join.party),
            Some(action::Kind::Fight(fight)) => self.fight(seat, fight.on, now, out),
            Some(action::Kind::Item(item)) => self.spend(seat, item.sell),
        };
        match verdict {
            Done => self.answer(seat, &action, None, out),
            Refused(word) => self.answer(seat, &action, Some(word), out),
            Verdict::Later => {
                if let Some(player) = self.player_mut(seat) {
                    player.waiting.push_front(action);
                }
                return false;
            }
            Verdict::Promised => return false,
        }
        true
    }

    /// Counts the action as applied, and answers it.
    pub(super) fn answer(&mut self, seat: u32, action: &Action, refused: Option<&'static str>, out: &mut Vec<Out>) {
        self.counters.applied += 1;
        let Some(player) = self.player_mut(seat) else { return };
        player.recovering = false;
        player.dirty = true;
        player.state.applied = action.sequence;
        let bare = bare_answer(player, action.sequence, refused);
        remember(&mut player.state, &bare);
        self.send_answer(seat, bare, action, out);
    }

    /// An action whose number is not the next one: known already (answer again), or proof that a frame went astray.
    fn out_of_sequence(&mut self, seat: u32, action: &Action, out: &mut Vec<Out>) {
        let Some(player) = self.player_mut(seat) else { return };
        if action.again && action.sequence <= player.state.applied {
            let known = player.state.recent.iter().find(|a| a.sequence == action.sequence).cloned();
            // Older than all that is kept: it was applied, but how it came out is not known any more.
            let bare = known.unwrap_or_else(|| bare_answer(player, action.sequence, Some("forgotten")));
            self.counters.repeated += 1;
            self.send_answer(seat, bare, action, out);
        } else if player.recovering && !action.again {
            // Sent before the player knew that the home had crashed: it comes again, in order, and is answered then.
            self.counters.overtaken_by_crash += 1;
        } else {
            let bare = bare_answer(player, action.sequence, Some("out_of_order"));
            self.counters.out_of_order += 1;
            self.send_answer(seat, bare, action, out);
        }
    }

    fn send_answer(&self, seat: u32, bare: Answer, action: &Action, out: &mut Vec<Out>) {
        let Some(player) = self.player(seat) else { return };
        let payload = match &action.kind {
            Some(action::Kind::Ping(ping)) => ping.payload.clone(),
            _ => Vec::new(),
        };
        let answer = Answer {
            server_id: self.rules.server_id.clone(),
            environment_id: self.rules.environment_id.clone(),
            epoch: player.epoch,
            again: action.again,
            payload,
            ..bare
        };
        out.push(Out::Event { seat, event: Event { kind: Some(event::Kind::Answer(answer)) } });
    }

    fn chat(&mut self, seat: u32, text: &str, out: &mut Vec<Out>) -> Verdict {
        if text.len() > MAX_CHAT {
            return Refused("too_long");
        }
        let Some(player) = self.player(seat) else { return Refused("not_here") };
        let (from, place) = (player.who.character.clone(), player.place.clone());
        let Some(area) = self.areas.get_mut(&place) else { return Refused("not_here") };
        area.chatted();
        if let Some(banner) = text.strip_prefix("/banner ") {
            area.hang_banner(banner);
        }
        let Some(members) = self.areas.get(&place).map(Area::members) else { return Refused("not_here") };
        let here = members.iter().position(|member| *member == seat).unwrap_or(0);
        let line = Event { kind: Some(event::Kind::Chat(ChatLine { from, text: text.to_owned() })) };
        // Those who came in next to the speaker, around the ring: everybody is in somebody's earshot.
        for step in 1..members.len().min(EARSHOT + 1) {
            let other = members[(here + step) % members.len()];
            if self.player(other).is_some_and(Player::is_playing) {
                out.push(Out::Event { seat: other, event: line.clone() });
            }
        }
        Done
    }

    fn go_to(&mut self, seat: u32, zone: &str, now: Mono, out: &mut Vec<Out>) -> Verdict {
        if ZoneId::new(zone).is_err() {
            return Refused("unknown_zone");
        }
        let to = Place::shared(zone);
        let Some(player) = self.player(seat) else { return Refused("not_here") };
        if player.place == to {
            return Done;
        }
        let cause = if player.place.instance.is_some() { Cause::Instance } else { Cause::Zone };
        self.cross(seat, &[], to, cause, now, out)
    }

    fn enter_instance(&mut self, seat: u32, kind: &str, now: Mono, out: &mut Vec<Out>) -> Verdict {
        let Some(player) = self.player(seat) else { return Refused("not_here") };
        if ZoneId::new(kind).is_err() {
            return Refused("unknown_zone");
        }
        if player.place.instance.is_some() {
            return Refused("busy");
        }
        let party = player.state.party.clone();
        // The key is the party's name, so that a member who comes later finds the others.
        let (key, others) = if party.is_empty() {
            (format!("solo-{}", player.who.character), Vec::new())
        } else {
            let members = self.all_seats().filter(|other| {
                *other != seat
                    && self.player(*other).is_some_and(|p| {
                        p.state.party == party && p.is_playing() && p.place.instance.is_none() && p.asked.is_none()
                    })
            });
            (format!("party-{party}"), members.take(MAX_PARTY - 1).collect())
        };
        self.cross(seat, &others, Place::instance(kind, &key), Cause::Instance, now, out)
    }

    fn leave_instance(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) -> Verdict {
        let Some(player) = self.player(seat) else { return Refused("not_here") };
        if player.place.instance.is_none() {
            return Refused("not_in_instance");
        }
        let exit = Place::shared(&player.state.zone);
        self.cross(seat, &[], exit, Cause::Instance, now, out)
    }

    fn die(&mut self, seat: u32, now: Mono, out: &mut Vec<Out>) -> Verdict {
        let Some(player) = self.player_mut(seat) else { return Refused("not_here") };
        if player.asked.is_some() {
            return Refused("busy");
        }
        // The graveyard; death ends the fight.
        (player.state.x, player.state.y) = (0, 0);
        let fought = std::mem::take(&mut player.busy);
        let graveyard = Place::shared(&player.state.zone);
        if fought {
            self.tell_status(seat, now, out);
        }
        self.cross(seat, &[], graveyard, Cause::Respawn, now, out)
    }

    /// Asks the gateway to take a player, and others with them, across a boundary. It is asked even when the place is on
    /// this very server, because its answer may be another environment.
    fn cross(&mut self, seat: u32, others: &[u32], to: Place, cause: Cause, now: Mono, out: &mut Vec<Out>) -> Verdict {
        let Some(player) = self.player(seat) else { return Refused("not_here") };
        if player.busy || player.asked.is_some() {
            return Refused("busy");
        }
        let mut seats = vec![seat];
        seats.extend_from_slice(others);
        for seat in &seats {
            if let Some(player) = self.player_mut(*seat) {
                player.asked = Some(Asked { to: to.clone(), cause, at: now });
            }
        }
        // The answer goes out before this, so it comes before `Moved`.
        out.push(Out::Transfer { seats, to, cause });
        Done
    }

    fn join_party(&mut self, seat: u32, party: &str) -> Verdict {
        if !party.is_empty() && PartyId::new(party).is_err() {
            return Refused("unknown_party");
        }
        if let Some(player) = self.player_mut(seat) {
            party.clone_into(&mut player.state.party);
        }
        Done
    }

    fn fight(&mut self, seat: u32, on: bool, now: Mono, out: &mut Vec<Out>) -> Verdict {
        let Some(player) = self.player_mut(seat) else { return Refused("not_here") };
        if player.place.instance.is_none() {
            return Refused("not_in_instance");
        }
        if std::mem::replace(&mut player.busy, on) != on {
            self.tell_status(seat, now, out);
        }
        Done
    }

    fn spend(&mut self, seat: u32, sell: bool) -> Verdict {
        let Some(player) = self.player_mut(seat) else { return Refused("not_here") };
        let state = &mut player.state;
        let changed = if sell {
            state.items.checked_sub(1).zip(state.gold.checked_add(ITEM_VALUE))
        } else {
            state.items.checked_add(1).zip(state.gold.checked_sub(ITEM_VALUE))
        };
        match changed {
            Some((items, gold)) => {
                (state.items, state.gold) = (items, gold);
                Done
            }
            None => Refused("too_poor"),
        }
    }
}

/// What is remembered of an answer: how it came out, and what the character owned then.
pub(super) fn bare_answer(player: &Player, sequence: u64, refused: Option<&'static str>) -> Answer {
    Answer {
        sequence,
        ok: refused.is_none(),
        refused: refused.unwrap_or_default().to_owned(),
        gold: player.state.gold,
        items: player.state.items,
        ..Answer::default()
    }
}
