//! What a world server of the model answers to what it is told: the world SDK's protocol, in small.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate_types::{Cause, Epoch, PartyId, ServerId, SessionId};

use super::database::Character;
use super::servers::{Held, Mode, Refuse, backlog};
use super::wires::{Down, Up, number, reply};
use super::{World, zone};
use crate::message::{Channel, FromWorld, Pin, Place, Refusal, StateBlob, ToWorld, Who};

/// Frames of a player that take effect here: each must follow the last.
fn take_frames(held: &mut Held, mark: u64, out: &mut Vec<Bytes>, gaps: &mut Vec<String>) {
    let character = &mut held.character;
    for frame in held.inbox.drain(..) {
        let n = number(&frame);
        let forgiven = character.resync || n <= mark + 1;
        if n <= character.up || (n != character.up + 1 && !forgiven) {
            gaps.push(format!("frame {n} comes after {}", character.up));
        }
        character.up = n;
        character.resync = false;
        character.down += 1;
        held.up += 1;
        let reply = reply(character.lineage, character.down);
        held.down.push(&reply);
        out.push(reply);
    }
}

impl World {
    pub(super) fn serve(&mut self, id: u32, stream: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let server = link.server.clone();
        let Some(message) = link.to_world[stream].pop_front() else { return };
        if !link.world {
            return;
        }
        if !matches!(message, Down::Beat(_) | Down::Acked(..)) {
            self.note(|| format!("* {server} gets {message:?}"));
        }
        match message {
            Down::Beat(sent) => {
                self.beat_answered(&server, id, sent);
                self.empty_inboxes(&server, id);
            }
            Down::Control(handle, message) => self.control(id, &server, handle, *message),
            Down::Game(handle, frame) => self.game(id, &server, handle, frame),
            Down::Acked(handle, count) => {
                let process = self.processes.get_mut(&server);
                if let Some((_, held)) = process.and_then(|process| process.at(id, handle)) {
                    held.down.acknowledge(count);
                }
            }
        }
    }

    fn game(&mut self, link: u32, server: &ServerId, handle: u32, frame: Bytes) {
        let now = self.now.mono;
        let Some(process) = self.processes.get_mut(server) else { return };
        let may = process.leases.get(&link).is_some_and(|lease| now < lease.until);
        let Some((who, held)) = process.at(link, handle) else { return };
        let who = who.clone();
        if held.mode != Mode::Live {
            let n = number(&frame);
            self.violation(format!("frame {n} of {} comes to a server that does not play", who.player));
            return;
        }
        held.inbox.push_back(frame);
        if may && !held.parked {
            self.empty_inbox(server, &who);
        }
    }

    fn empty_inboxes(&mut self, server: &ServerId, link: u32) {
        let Some(process) = self.processes.get(server) else { return };
        let now = self.now.mono;
        let may = |held: &Held| {
            held.at.is_some_and(|(of, _)| of == link)
                && !held.inbox.is_empty()
                && !held.parked
                && process.is_reachable(held, now)
        };
        let waiting: Vec<Who> = process.held.iter().filter(|(_, held)| may(held)).map(|(who, _)| who.clone()).collect();
        for who in waiting {
            self.empty_inbox(server, &who);
        }
    }

    fn empty_inbox(&mut self, server: &ServerId, who: &Who) {
        let (mut replies, mut gaps) = (Vec::new(), Vec::new());
        let mark = self.said_before_login(who);
        let Some(held) = self.processes.get_mut(server).and_then(|p| p.held.get_mut(who)) else { return };
        take_frames(held, mark, &mut replies, &mut gaps);
        let (epoch, at, character) = (held.epoch, held.at, held.character.clone());
        if character.up.is_multiple_of(3) {
            self.database.save(who, epoch, &character);
        }
        if let Some((link, handle)) = at
            && let Some(link) = self.links.get_mut(&link)
        {
            for reply in replies {
                link.send_up(handle, Up::Game(handle, reply));
            }
        }
        for gap in gaps {
            self.violation(format!("{} at {server}: {gap}", who.player));
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm a message; splitting them would hide the protocol")]
    fn control(&mut self, id: u32, server: &ServerId, handle: u32, message: ToWorld) {
        let Some(process) = self.processes.get_mut(server) else { return };
        if process.refuse == Some(Refuse::Silence)
            && matches!(
                message,
                ToWorld::Attach { .. } | ToWorld::Freeze { .. } | ToWorld::Prepare { .. } | ToWorld::Leave { .. }
            )
        {
            process.refuse = None;
            return;
        }
        match message {
            ToWorld::Attach { .. } | ToWorld::Prepare { .. } => {
                process.taken.remove(&(id, handle));
            }
            ToWorld::Leave { .. }
            | ToWorld::Freeze { .. }
            | ToWorld::Thaw { .. }
            | ToWorld::Release { .. }
            | ToWorld::Activate { .. }
            | ToWorld::Abort
                if process.taken.contains(&(id, handle)) =>
            {
                return;
            }
            _ => {}
        }
        let run = process.run_of(id);
        let reply = match message {
            ToWorld::Attach { identity, epoch, place, cause, take_over, channel, from, refuse_connected } => {
                let who = identity.who.clone();
                let same = process.held.get(&who).filter(|h| h.session == identity.session && h.epoch == epoch);
                if let Some(held) = same {
                    if held.run != run {
                        Some(of_another(held, handle))
                    } else if let Some(refused) = self.commit(server, &who, handle) {
                        Some(refused)
                    } else {
                        self.take_up(id, server, &who, handle, &channel);
                        None
                    }
                } else if take_over {
                    let session = identity.session;
                    self.take_over(id, server, (&who, session, refuse_connected), (handle, epoch), &channel)
                } else {
                    let environment = process.environment.clone();
                    if cause == Cause::Login {
                        self.check_rule_3(&environment, &who);
                    }
                    Some(self.attach(
                        server,
                        (id, handle),
                        (identity.session, identity.party, identity.pin),
                        &who,
                        (epoch, from, place, &channel),
                    ))
                }
            }
            ToWorld::Park => {
                if let Some((_, held)) = process.at(id, handle) {
                    held.parked = true;
                }
                None
            }
            ToWorld::Unpark => {
                if let Some((who, held)) = process.at(id, handle) {
                    held.parked = false;
                    let who = who.clone();
                    if self.processes[server].leases.get(&id).is_some_and(|lease| self.now.mono < lease.until) {
                        self.empty_inbox(server, &who);
                    }
                }
                None
            }
            ToWorld::Leave { epoch, .. } => {
                let who = process.at(id, handle).filter(|(_, held)| held.epoch <= epoch).map(|(who, _)| who.clone());
                if let Some(held) = who.and_then(|who| Some((process.held.remove(&who)?, who))) {
                    self.database.save(&held.1, held.0.epoch, &held.0.character);
                }
                Some(FromWorld::Left { handle })
            }
            ToWorld::Freeze { epoch } => {
                let refuses = !process.takes(Refuse::Freeze);
                let who = process
                    .at(id, handle)
                    .filter(|(_, held)| held.epoch == epoch && held.mode == Mode::Live)
                    .map(|(who, _)| who.clone());
                match who {
                    Some(who) if !refuses => {
                        self.empty_inbox(server, &who);
                        let held = self.processes.get_mut(server).and_then(|p| p.held.get_mut(&who));
                        held.map(|held| {
                            held.mode = Mode::Frozen;
                            self.database.save(&who, epoch, &held.character);
                            FromWorld::Frozen { handle, epoch, blob: blob(&held.character) }
                        })
                    }
                    Some(_) | None => {
                        Some(FromWorld::FreezeRefused { handle, reason: Refusal::Game, message: "not now".to_owned() })
                    }
                }
            }
            ToWorld::Thaw { .. } => {
                if let Some((_, held)) = process.at(id, handle).filter(|(_, held)| held.mode == Mode::Frozen) {
                    held.mode = Mode::Live;
                }
                Some(FromWorld::Thawed { handle })
            }
            ToWorld::Release { epoch } => {
                let who = process.at(id, handle).filter(|(_, held)| held.epoch <= epoch).map(|(who, _)| who.clone());
                if let Some(who) = who {
                    process.held.remove(&who);
                }
                Some(FromWorld::Released { handle })
            }
            ToWorld::Prepare { identity, epoch, blob, place, channel, from, .. } => {
                let character = unblob(&blob, place);
                let known = process.highest(&identity.who) >= epoch
                    || process.held.get(&identity.who).is_some_and(|held| {
                        let inert = held.mode == Mode::Prepared;
                        held.epoch >= epoch
                            || (!inert && (held.at.is_some() || from.is_some_and(|from| from < held.epoch)))
                    });
                let full = process.held.len() >= process.capacity as usize;
                if !process.takes(Refuse::Prepare) || known || full {
                    let message = "no".to_owned();
                    Some(FromWorld::PrepareRefused { handle, reason: Refusal::Game, message })
                } else {
                    let held = Held {
                        session: identity.session,
                        party: identity.party,
                        pin: identity.pin,
                        at: Some((id, handle)),
                        run,
                        from,
                        kept_until: None,
                        epoch,
                        mode: Mode::Prepared,
                        parked: false,
                        character,
                        inbox: VecDeque::new(),
                        asked: None,
                        up: channel.up,
                        down: backlog(&channel),
                    };
                    process.held.insert(identity.who, held);
                    Some(FromWorld::Prepared { handle })
                }
            }
            ToWorld::Activate { epoch } => {
                if process.refuse == Some(Refuse::DieOnActivate) {
                    let server = server.clone();
                    self.kill(&server);
                    return;
                }
                let who = process.at(id, handle).filter(|(_, held)| held.epoch == epoch).map(|(who, _)| who.clone());
                match who {
                    Some(who) => {
                        let refused = self.commit(server, &who, handle);
                        let place = self.processes[server].held.get(&who).map(|held| held.character.place.clone());
                        refused.or_else(|| Some(FromWorld::Activated { handle, epoch, place: place? }))
                    }
                    None => self.is_shared().then(|| refusal(handle, Refusal::Unknown, (Epoch(0), Epoch(0)))),
                }
            }
            ToWorld::Abort => {
                let who = process.at(id, handle).filter(|(_, h)| h.mode == Mode::Prepared).map(|(who, _)| who.clone());
                if let Some(who) = who {
                    process.held.remove(&who);
                }
                Some(FromWorld::Aborted { handle })
            }
            ToWorld::Notice { .. } => None,
            ToWorld::Owner { session, epoch, server: owner } => {
                // With several gateways a thaw is the word of the one that has the player, under a handle.
                let shared = self.gateways.len() > 1;
                let is_me = owner.as_ref() == Some(server);
                let found = process.held.iter_mut().find(|(_, held)| held.session == session);
                if let Some((who, held)) = found {
                    if !is_me && epoch.0 > 0 && (held.epoch < epoch || held.mode == Mode::Prepared) {
                        let who = who.clone();
                        process.held.remove(&who);
                    } else if is_me && held.epoch == epoch && held.mode == Mode::Frozen && !shared {
                        held.mode = Mode::Live;
                    }
                }
                None
            }
            ToWorld::Find { id: asked, who } => {
                let resident = process.find(&who, self.now.mono);
                Some(FromWorld::Found { id: asked, resident })
            }
            ToWorld::TransferRefused { reason } => {
                if let Some((_, held)) = process.at(id, handle)
                    && let Some(place) = held.asked.take()
                    && reason == "here"
                {
                    held.character.place = place;
                }
                None
            }
        };
        if let (Some(reply), Some(link)) = (reply, self.links.get_mut(&id)) {
            link.send_up(handle, Up::Control(Box::new(reply)));
        }
    }

    /// A prepared player is in play from now on, if the database lets the claim through. What is refused, otherwise.
    fn commit(&mut self, server: &ServerId, who: &Who, handle: u32) -> Option<FromWorld> {
        let process = self.processes.get_mut(server)?;
        let held = process.held.get_mut(who).filter(|held| held.mode == Mode::Prepared)?;
        held.mode = Mode::Live;
        let (epoch, from, character) = (held.epoch, held.from, held.character.clone());
        process.saw(who, epoch);
        let granted = match from {
            Some(from) => self.database.reclaim(who, from, epoch, character),
            None => {
                self.database.claim(who, epoch, character);
                true
            }
        };
        if granted {
            return None;
        }
        process.held.remove(who);
        let saved = self.database.epoch(who);
        process.saw(who, saved);
        Some(refusal(handle, Refusal::StaleEpoch, (saved, saved)))
    }

    /// The session goes on under another handle, with nothing loaded: what the gateway lacks follows the answer.
    fn take_up(&mut self, link: u32, server: &ServerId, who: &Who, handle: u32, channel: &Channel) {
        let Some(process) = self.processes.get_mut(server) else { return };
        let run = process.run_of(link);
        let Some(held) = process.held.get_mut(who) else { return };
        if held.at != Some((link, handle)) {
            held.inbox.clear();
        }
        held.at = Some((link, handle));
        held.run = run;
        held.kept_until = None;
        held.mode = Mode::Live;
        held.parked = false;
        if channel.restart {
            held.inbox.clear();
            held.up = channel.up;
            held.down.adopt(channel.down, []);
        }
        let down = channel.down.max(held.down.base());
        let stands = Channel { up: held.up, down, gap: channel.down < down, ..Channel::default() };
        let (pin, party) = (Some(held.pin.clone()), held.party.clone());
        let place = held.character.place.clone();
        let answer = FromWorld::Attached { handle, epoch: held.epoch, place, channel: stands, pin, party };
        let frames = held.down.from(down);
        if let Some(link) = self.links.get_mut(&link) {
            link.send_up(handle, Up::Control(Box::new(answer)));
            for frame in frames {
                link.send_up(handle, Up::Game(handle, frame));
            }
        }
    }

    /// The session goes on here under a higher epoch, for a gateway that did not have it.
    fn take_over(
        &mut self,
        link: u32,
        server: &ServerId,
        (who, session, refuse_connected): (&Who, SessionId, bool),
        (handle, epoch): (u32, Epoch),
        channel: &Channel,
    ) -> Option<FromWorld> {
        let now = self.now.mono;
        let refused = |reason, highest| Some(refusal(handle, reason, (highest, Epoch(0))));
        let process = self.processes.get_mut(server)?;
        let Some(held) = process.held.get(who).filter(|held| held.session == session) else {
            return refused(Refusal::Unknown, Epoch(0));
        };
        let highest = held.epoch.max(process.highest(who));
        if process.held.values().any(|other| other.at == Some((link, handle))) {
            return refused(Refusal::Unknown, Epoch(0));
        }
        let reachable = process.is_reachable(held, now);
        let elsewhere = held.at.is_some_and(|(of, _)| of != link);
        if held.mode == Mode::Prepared && !reachable {
            return refused(Refusal::Unknown, Epoch(0));
        }
        if epoch <= highest {
            return refused(Refusal::StaleEpoch, highest);
        }
        if refuse_connected && elsewhere && reachable && !held.parked && held.mode != Mode::Prepared {
            return refused(Refusal::PlayerOnline, Epoch(0));
        }
        if held.mode != Mode::Live && reachable {
            return refused(Refusal::NotReady, Epoch(0));
        }
        let (from, old, character) = (held.epoch, held.at, held.character.clone());
        process.saw(who, epoch);
        if let Some(old) = old {
            process.taken.insert(old);
            let told = FromWorld::TakenOver { handle: old.1, epoch };
            if let Some(link) = self.links.get_mut(&old.0) {
                link.send_up(old.1, Up::Control(Box::new(told)));
            }
        }
        let granted = self.database.reclaim(who, from, epoch, character);
        let saved = self.database.epoch(who);
        let process = self.processes.get_mut(server)?;
        if !granted {
            process.held.remove(who);
            process.saw(who, saved);
            return Some(refusal(handle, Refusal::StaleEpoch, (saved, saved)));
        }
        process.held.get_mut(who)?.epoch = epoch;
        self.take_up(link, server, who, handle, channel);
        None
    }

    /// What is held here and what was seen forbid this attach, whatever the database says.
    fn may_attach(
        &self,
        server: &ServerId,
        who: &Who,
        handle: u32,
        (epoch, from): (Epoch, Epoch),
    ) -> Option<FromWorld> {
        let process = self.processes.get(server)?;
        let highest = process.highest(who).max(process.held.get(who).map_or(Epoch(0), |held| held.epoch));
        let another = process.held.get(who).is_some_and(|held| held.mode != Mode::Prepared && held.epoch != from);
        (epoch <= highest || another).then(|| refusal(handle, Refusal::StaleEpoch, (highest, Epoch(0))))
    }

    /// A newer epoch takes the player: what is here is dropped unsaved.
    fn fence(&mut self, server: &ServerId, who: &Who) {
        let fenced = self.processes.get_mut(server).and_then(|process| process.held.remove(who));
        if let Some((link, handle)) = fenced.and_then(|held| held.at)
            && let Some(link) = self.links.get_mut(&link)
        {
            link.send_up(handle, Up::Control(Box::new(FromWorld::Eject { handle, reason: "fenced".to_owned() })));
        }
    }

    fn attach(
        &mut self,
        server: &ServerId,
        (link, handle): (u32, u32),
        (session, party, pin): (SessionId, Option<PartyId>, Pin),
        who: &Who,
        (epoch, from, place, channel): (Epoch, Option<Epoch>, Option<Place>, &Channel),
    ) -> FromWorld {
        if let Some(from) = from {
            if let Some(refused) = self.may_attach(server, who, handle, (epoch, from)) {
                return refused;
            }
            self.fence(server, who);
        }
        let known = self.database.epoch(who);
        let refused = |reason, highest_epoch, place| FromWorld::AttachRefused {
            handle,
            reason,
            message: "no".to_owned(),
            highest_epoch,
            saved_epoch: known,
            place,
        };
        let Some(process) = self.processes.get_mut(server) else {
            return refused(Refusal::Unknown, Epoch(0), None);
        };
        if known >= epoch || from.is_some_and(|from| from != known) {
            process.saw(who, known);
            return refused(Refusal::StaleEpoch, known, None);
        }
        let entry = || Place { zone: zone("entry"), instance: None };
        let saved = self.database.character(who).cloned();
        let mut character = saved.unwrap_or_else(|| Character {
            place: place.unwrap_or_else(entry),
            up: 0,
            down: 0,
            lineage: 0,
            resync: true,
        });
        if !process.serves(&character.place) {
            return refused(Refusal::WrongZone, Epoch(0), Some(character.place));
        }
        if !process.takes(Refuse::Attach) {
            return refused(Refusal::NotReady, Epoch(0), None);
        }
        if process.held.len() >= process.capacity as usize && !process.held.contains_key(who) {
            return refused(Refusal::Full, Epoch(0), None);
        }
        if !self.database.claim(who, epoch, character.clone()) {
            return refused(Refusal::StaleEpoch, known, None);
        }
        // What was said since the save is lost: a new lineage.
        character.lineage = epoch.0 << 16;
        character.down = 0;
        character.resync = true;
        let place = character.place.clone();
        let held = Held {
            session,
            party,
            pin,
            at: Some((link, handle)),
            run: self.processes.get(server).map_or(0, |process| process.run_of(link)),
            from: None,
            kept_until: None,
            epoch,
            mode: Mode::Live,
            parked: false,
            character,
            inbox: VecDeque::new(),
            asked: None,
            up: channel.up,
            down: backlog(channel),
        };
        if let Some(process) = self.processes.get_mut(server) {
            process.saw(who, epoch);
            process.held.insert(who.clone(), held);
        }
        attached(handle, epoch, place, channel.clone())
    }
}

fn attached(handle: u32, epoch: Epoch, place: Place, channel: Channel) -> FromWorld {
    FromWorld::Attached { handle, epoch, place, channel, pin: None, party: None }
}

fn refusal(handle: u32, reason: Refusal, (highest_epoch, saved_epoch): (Epoch, Epoch)) -> FromWorld {
    let message = "no".to_owned();
    FromWorld::AttachRefused { handle, reason, message, highest_epoch, saved_epoch, place: None }
}

/// What a gateway is told that knows the epoch, and is not the one that has it.
fn of_another(held: &Held, handle: u32) -> FromWorld {
    match held.mode {
        Mode::Live | Mode::Frozen => refusal(handle, Refusal::StaleEpoch, (held.epoch, held.epoch)),
        Mode::Prepared => refusal(handle, Refusal::Unknown, (Epoch(0), Epoch(0))),
    }
}

fn blob(character: &Character) -> StateBlob {
    let place = &character.place;
    let instance = place.instance.as_deref().unwrap_or("");
    let (up, down, lineage) = (character.up, character.down, character.lineage);
    let resync = u64::from(character.resync);
    let text = format!("{up}|{down}|{lineage}|{resync}|{}|{instance}", place.zone);
    StateBlob { state: Bytes::from(text), format: 1, digest: Bytes::new() }
}

fn unblob(blob: &StateBlob, place: Option<Place>) -> Character {
    let text = String::from_utf8_lossy(&blob.state).into_owned();
    let mut parts = text.split('|');
    let mut count = || parts.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
    let (up, down, lineage, resync) = (count(), count(), count(), count() == 1);
    let saved_zone = parts.next().unwrap_or("entry").to_owned();
    let instance = parts.next().filter(|i| !i.is_empty()).map(str::to_owned);
    let place = place.unwrap_or_else(|| Place { zone: zone(&saved_zone), instance });
    Character { place, up, down, lineage, resync }
}
