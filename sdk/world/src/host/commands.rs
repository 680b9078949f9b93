//! What the world says: frames, transfers, statuses and answers, carried out in the order in which it said them.

use bytes::Bytes;
use tidegate_proto::frame::MAX_GAME_BODY;
use tidegate_proto::v1::{self, world_to_gateway};

use super::engine::Engine;
use super::links::Outgoing;
use crate::convert;
use crate::cx::{Command, Question};
use crate::seats::{LinkKey, Outward};
use crate::world::{Place, Seat, World};

/// Most players of one transfer (the protocol's limit).
const MAX_TRANSFER: usize = 64;
/// Commands of the world carried out before the loop looks at its other sources again.
const COMMANDS: usize = 4096;

impl<W: World> Engine<W> {
    /// Carries out what the world has said; false when more waits.
    pub(super) fn drain(&mut self) -> bool {
        for _ in 0..COMMANDS {
            match self.outbox.queue.pop() {
                Some(command) => self.command(command),
                None => return true,
            }
        }
        false
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(seat, body) => self.send(seat, body),
            Command::Datagram(seat, payload) => {
                if let Outward::Send((link, handle)) = self.seats.outward(seat) {
                    let now = self.now();
                    if let Some(link) = self.links.get_mut(link) {
                        link.datagram(handle, &payload, now);
                    }
                }
            }
            Command::Transfer(seats, to, cause) => self.transfer(&seats, &to, cause),
            Command::Status(seat, status) => {
                if self.seats.link_of(seat).is_some() || self.seats.outward(seat) != Outward::Drop {
                    self.seats.set_zone(seat, status.zone.clone());
                    let now = self.now();
                    let news = self.sessions.get_mut(seat).set_status(status, now);
                    if news {
                        self.tell_status(seat, true);
                    }
                }
            }
            Command::Eject(seat, reason) => self.decide(|seats, steps| seats.eject(seat, reason, steps)),
            Command::Answer(Question::Seat { seat, turn }, answer) => {
                self.decide(|seats, steps| seats.answered(seat, turn, answer, steps));
            }
            Command::Answer(Question::Barrier { turn }, answer) => self.barrier_answered(turn, answer),
            Command::Answer(Question::Stopping, _) => self.duties.world_is_saved(),
        }
    }

    fn send(&mut self, seat: Seat, body: Bytes) {
        if body.len() > MAX_GAME_BODY {
            // A gateway would drop it, and both would count differently from then on.
            return tracing::warn!(seat = seat.0, bytes = body.len(), "a frame too long for the wire is dropped");
        }
        let outward = self.seats.outward(seat);
        if outward == Outward::Drop {
            return tracing::debug!(seat = seat.0, "frame to a player who is not here");
        }
        let is_bound = self.seats.link_of(seat).is_some();
        let channel = &mut self.sessions.get_mut(seat).channel;
        channel.push(&body);
        match outward {
            Outward::Send(at) if channel.send_last() => self.emit(at, Outgoing::Game(body)),
            Outward::Send(_) => self.send_all(seat),
            // While there is no link what falls out is told as a gap when there is one.
            Outward::Hold if is_bound && channel.breaks() => self.decide_eject(seat),
            Outward::Hold | Outward::Drop => {}
        }
    }

    /// Tells gateways how many frames of their players were received.
    pub(super) fn tell_counts(&mut self) {
        let seats = &self.seats;
        let is_later = |seat| seats.is_counted(seat).is_none() && seats.link_of(seat).is_some();
        let mut batches: Vec<(LinkKey, u32, v1::FramesReceived)> = Vec::new();
        for (seat, count) in self.sessions.take_counted(is_later) {
            // On no link: told by the next `Attached`.
            let Some((key, handle)) = self.seats.is_counted(seat) else { continue };
            let Some(stream) = self.links.get_mut(key).map(|link| link.stream_of(handle)) else { continue };
            let at = batches.iter().position(|(of, on, _)| (*of, *on) == (key, stream)).unwrap_or_else(|| {
                batches.push((key, stream, v1::FramesReceived::default()));
                batches.len() - 1
            });
            let (_, _, batch) = &mut batches[at];
            batch.handles.push(handle);
            batch.counts.push(count);
        }
        for (key, stream, batch) in batches {
            self.emit((key, stream), Outgoing::Control(world_to_gateway::Message::FramesReceived(batch)));
        }
    }

    fn transfer(&mut self, seats: &[Seat], to: &Place, cause: tidegate_types::Cause) {
        let mut by_link: Vec<(LinkKey, Vec<u32>)> = Vec::new();
        for seat in seats {
            let at = self.seats.link_of(*seat).filter(|_| self.seats.is_live(*seat));
            match at {
                Some((link, handle)) if seats.len() <= MAX_TRANSFER => {
                    match by_link.iter_mut().find(|(key, _)| *key == link) {
                        Some((_, handles)) => handles.push(handle),
                        None => by_link.push((link, vec![handle])),
                    }
                }
                Some(_) => self.with(|world, cx| world.transfer_refused(cx, *seat, "too_many")),
                None => self.with(|world, cx| world.transfer_refused(cx, *seat, "not_in_play")),
            }
        }
        for (link, handles) in by_link {
            // On the stream of the first; the gateway decides for all when it has read it.
            let first = handles[0];
            let to = Some(convert::place_out(to));
            let message = v1::Transfer { handles, to, cause: v1::Cause::from(cause).into() };
            self.emit((link, first), Outgoing::Control(world_to_gateway::Message::Transfer(message)));
        }
    }

    /// Tells the gateway what a player is doing, if it should hear it now.
    pub(super) fn tell_status(&mut self, seat: Seat, news: bool) {
        let Outward::Send(at) = self.seats.outward(seat) else {
            return self.sessions.get_mut(seat).forget_sent();
        };
        let now = self.now();
        if let Some(status) = self.sessions.get_mut(seat).due_status(now, news) {
            let message = world_to_gateway::Message::Status(convert::status(at.1, &status));
            self.emit(at, Outgoing::Control(message));
        }
    }
}
