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
                self.beat_answered(&server, sent);
                self.empty_inboxes(&server);
            }
            Down::Control(handle, message) => self.control(id, &server, handle, *message),
            Down::Game(handle, frame) => self.game(id, &server, handle, frame),
            Down::Acked(handle, count) => {
                let process = self.processes.get_mut(&server);
                if let Some((_, held)) = process.and_then(|process| process.at(handle)) {
                    held.down.acknowledge(count);
                }
            }
        }
    }

    fn game(&mut self, link: u32, server: &ServerId, handle: u32, frame: Bytes) {
        let now = self.now.mono;
        let Some(process) = self.processes.get_mut(server) else { return };
        let may = now < process.lease_until;
        let Some((who, held)) = process.at(handle) else { return };
        let who = who.clone();
        if held.mode != Mode::Live {
            let n = number(&frame);
            self.violation(format!("frame {n} of {} comes to a server that does not play", who.player));
            return;
        }
        held.inbox.push_back(frame);
        if may && !held.parked {
            self.empty_inbox(link, server, &who);
        }
    }

    fn empty_inboxes(&mut self, server: &ServerId) {
        let Some(process) = self.processes.get(server) else { return };
        let Some(link) = process.link else { return };
        let waiting: Vec<Who> =
            process.held.iter().filter(|(_, h)| !h.inbox.is_empty() && !h.parked).map(|(w, _)| w.clone()).collect();
        for who in waiting {
            self.empty_inbox(link, server, &who);
        }
    }

    fn empty_inbox(&mut self, link: u32, server: &ServerId, who: &Who) {
        let (mut replies, mut gaps) = (Vec::new(), Vec::new());
        let mark = self.said_before_login(who);
        let Some(held) = self.processes.get_mut(server).and_then(|p| p.held.get_mut(who)) else { return };
        take_frames(held, mark, &mut replies, &mut gaps);
        let (epoch, handle, character) = (held.epoch, held.handle, held.character.clone());
        if character.up.is_multiple_of(3) {
            self.database.save(who, epoch, &character);
        }
        if let (Some(handle), Some(link)) = (handle, self.links.get_mut(&link)) {
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
        let reply = match message {
            ToWorld::Attach { identity, epoch, place, cause, take_over, channel, from, .. } => {
                let who = identity.who.clone();
                if let Some(held) = process.held.get_mut(&who)
                    && held.session == identity.session
                    && held.epoch == epoch
                {
                    self.take_up(id, server, &who, handle, &channel);
                    None
                } else if take_over {
                    self.take_over(id, server, (&who, identity.session), (handle, epoch), &channel)
                } else {
                    let environment = process.environment.clone();
                    if cause == Cause::Login {
                        self.check_rule_3(&environment, &who);
                    }
                    Some(self.attach(
                        server,
                        handle,
                        (identity.session, identity.party, identity.pin),
                        &who,
                        (epoch, from, place, &channel),
                    ))
                }
            }
            ToWorld::Park => {
                if let Some((_, held)) = process.at(handle) {
                    held.parked = true;
                }
                None
            }
            ToWorld::Unpark => {
                if let Some((who, held)) = process.at(handle) {
                    held.parked = false;
                    let who = who.clone();
                    if self.now.mono < self.processes[server].lease_until {
                        self.empty_inbox(id, server, &who);
                    }
                }
                None
            }
            ToWorld::Leave { epoch, .. } => {
                let who = process.at(handle).filter(|(_, held)| held.epoch <= epoch).map(|(who, _)| who.clone());
                if let Some(held) = who.and_then(|who| Some((process.held.remove(&who)?, who))) {
                    self.database.save(&held.1, held.0.epoch, &held.0.character);
                }
                Some(FromWorld::Left { handle })
            }
            ToWorld::Freeze { epoch } => {
                let refuses = !process.takes(Refuse::Freeze);
                let who = process
                    .at(handle)
                    .filter(|(_, held)| held.epoch == epoch && held.mode == Mode::Live)
                    .map(|(who, _)| who.clone());
                match who {
                    Some(who) if !refuses => {
                        self.empty_inbox(id, server, &who);
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
                if let Some((_, held)) = process.at(handle).filter(|(_, held)| held.mode == Mode::Frozen) {
                    held.mode = Mode::Live;
                }
                Some(FromWorld::Thawed { handle })
            }
            ToWorld::Release { epoch } => {
                let who = process.at(handle).filter(|(_, held)| held.epoch <= epoch).map(|(who, _)| who.clone());
                if let Some(who) = who {
                    process.held.remove(&who);
                }
                Some(FromWorld::Released { handle })
            }
            ToWorld::Prepare { identity, epoch, blob, place, channel, .. } => {
                let character = unblob(&blob, place);
                let known = process.held.get(&identity.who).is_some_and(|held| held.epoch >= epoch);
                let full = process.held.len() >= process.capacity as usize;
                if !process.takes(Refuse::Prepare) || known || full {
                    let message = "no".to_owned();
                    Some(FromWorld::PrepareRefused { handle, reason: Refusal::Game, message })
                } else {
                    let held = Held {
                        session: identity.session,
                        party: identity.party,
                        pin: identity.pin,
                        handle: Some(handle),
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
                match process.at(handle).filter(|(_, held)| held.epoch == epoch) {
                    Some((who, held)) => {
                        let who = who.clone();
                        if held.mode == Mode::Prepared {
                            held.mode = Mode::Live;
                            self.database.claim(&who, epoch, held.character.clone());
                        }
                        let place = held.character.place.clone();
                        Some(FromWorld::Activated { handle, epoch, place })
                    }
                    None => None,
                }
            }
            ToWorld::Abort => {
                let who = process.at(handle).filter(|(_, h)| h.mode == Mode::Prepared).map(|(who, _)| who.clone());
                if let Some(who) = who {
                    process.held.remove(&who);
                }
                Some(FromWorld::Aborted { handle })
            }
            ToWorld::Notice { .. } => None,
            ToWorld::Owner { session, epoch, server: owner } => {
                let is_me = owner.as_ref() == Some(server);
                let found = process.held.iter_mut().find(|(_, held)| held.session == session);
                if let Some((who, held)) = found {
                    if !is_me && epoch.0 > 0 && (held.epoch < epoch || held.mode == Mode::Prepared) {
                        let who = who.clone();
                        process.held.remove(&who);
                    } else if is_me && held.epoch == epoch && held.mode == Mode::Frozen {
                        held.mode = Mode::Live;
                    }
                }
                None
            }
            ToWorld::Find { id: asked, who } => {
                let resident = process.held.get(&who).map(|held| held.resident(&who));
                Some(FromWorld::Found { id: asked, resident })
            }
            ToWorld::TransferRefused { reason } => {
                if let Some((_, held)) = process.at(handle)
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

    /// The session goes on under another handle, with nothing loaded: what the gateway lacks follows the answer.
    fn take_up(&mut self, link: u32, server: &ServerId, who: &Who, handle: u32, channel: &Channel) {
        let Some(held) = self.processes.get_mut(server).and_then(|process| process.held.get_mut(who)) else { return };
        held.handle = Some(handle);
        held.mode = Mode::Live;
        held.parked = false;
        if channel.restart {
            held.up = channel.up;
            held.down.adopt(channel.down, []);
        }
        let down = channel.down.max(held.down.base());
        let stands = Channel { up: held.up, down, gap: channel.down < down, ..Channel::default() };
        let answer = attached(handle, held.epoch, held.character.place.clone(), stands);
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
        (who, session): (&Who, SessionId),
        (handle, epoch): (u32, Epoch),
        channel: &Channel,
    ) -> Option<FromWorld> {
        let refused = |reason, highest_epoch| {
            let message = "no".to_owned();
            let saved_epoch = highest_epoch;
            Some(FromWorld::AttachRefused { handle, reason, message, highest_epoch, saved_epoch, place: None })
        };
        let process = self.processes.get_mut(server)?;
        let Some(held) = process.held.get_mut(who).filter(|h| h.session == session && h.mode != Mode::Prepared) else {
            return refused(Refusal::Unknown, Epoch(0));
        };
        if epoch <= held.epoch {
            return refused(Refusal::StaleEpoch, held.epoch);
        }
        if !self.database.reclaim(who, held.epoch, epoch, held.character.clone()) {
            process.held.remove(who);
            return refused(Refusal::StaleEpoch, self.database.epoch(who));
        }
        held.epoch = epoch;
        self.take_up(link, server, who, handle, channel);
        None
    }

    fn attach(
        &mut self,
        server: &ServerId,
        handle: u32,
        (session, party, pin): (SessionId, Option<PartyId>, Pin),
        who: &Who,
        (epoch, from, place, channel): (Epoch, Option<Epoch>, Option<Place>, &Channel),
    ) -> FromWorld {
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
            handle: Some(handle),
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
            process.held.insert(who.clone(), held);
        }
        attached(handle, epoch, place, channel.clone())
    }
}

fn attached(handle: u32, epoch: Epoch, place: Place, channel: Channel) -> FromWorld {
    FromWorld::Attached { handle, epoch, place, channel, pin: None, party: None }
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
