//! What gateways ask for, and the frames of their players.

use bytes::Bytes;
use tidegate_link::Event;
use tidegate_proto::CloseCode;
use tidegate_proto::convert::BadField;
use tidegate_proto::v1::{GatewayToWorld, gateway_to_world};
use tidegate_types::{Epoch, SessionId};

use super::engine::Engine;
use crate::convert;
use crate::seats::{At, Inward, LinkKey, MAX_HANDLE, Said};
use crate::world::{LeaveReason, Refusal, World};

impl<W: World> Engine<W> {
    pub(super) fn handle(&mut self, key: LinkKey, event: Event<GatewayToWorld>) {
        match event {
            Event::Game { handle, body } => self.game((key, handle), body),
            Event::Datagram { handle, payload } => {
                if let Inward::Deliver(seat) = self.seats.inward((key, handle))
                    && self.may_act(seat)
                {
                    self.with(|world, cx| world.datagram(cx, seat, payload));
                }
            }
            Event::Control { message: GatewayToWorld { message: Some(message) }, .. } => self.request(key, message),
            Event::Control { message: GatewayToWorld { message: None }, .. } => {
                self.close(key, CloseCode::BadMessage, "empty message");
            }
        }
        self.drain();
    }

    fn game(&mut self, at: At, body: Bytes) {
        match self.seats.inward(at) {
            Inward::Deliver(seat) if self.may_act(seat) && self.sessions.get_mut(seat).to_world.is_empty() => {
                self.sessions.received(seat);
                self.with(|world, cx| world.message(cx, seat, body));
            }
            Inward::Deliver(seat) | Inward::Hold(seat) => self.hold_inward(seat, body),
            Inward::Drop => tracing::debug!(handle = at.1, "frame for nobody in play here"),
        }
    }

    fn request(&mut self, key: LinkKey, message: gateway_to_world::Message) {
        use gateway_to_world::Message;
        let ready = self.duties.ready();
        match message {
            Message::Attach(attach) => {
                let at = (key, attach.handle);
                if attach.handle > MAX_HANDLE {
                    return self.close(key, CloseCode::BadMessage, "handle too large");
                }
                self.seats.begins_anew(at);
                match convert::attach(attach) {
                    Ok(request) => self.decide(|seats, steps| seats.attach(at, request, ready, steps)),
                    Err(bad) => self.bad_request(at, &bad, Said::AttachRefused),
                }
            }
            Message::Prepare(prepare) => {
                let at = (key, prepare.handle);
                if prepare.handle > MAX_HANDLE {
                    return self.close(key, CloseCode::BadMessage, "handle too large");
                }
                self.seats.begins_anew(at);
                match convert::prepare(prepare) {
                    Ok(request) => self.decide(|seats, steps| seats.prepare(at, request, ready, steps)),
                    Err(bad) => self.bad_request(at, &bad, Said::PrepareRefused),
                }
            }
            Message::Park(m) => self.decide(|seats, steps| seats.park((key, m.handle), true, steps)),
            Message::Unpark(m) => self.decide(|seats, steps| seats.park((key, m.handle), false, steps)),
            Message::Leave(m) => {
                let reason = LeaveReason::from_word(&m.reason);
                self.decide(|seats, steps| seats.leave((key, m.handle), reason, steps));
            }
            Message::Freeze(m) => {
                // Frames that wait for the world were received; their effect must be in the state that is handed over.
                let ready = ready && !self.has_waiting((key, m.handle));
                self.decide(|seats, steps| seats.freeze((key, m.handle), Epoch(m.epoch), ready, steps));
            }
            Message::Thaw(m) => self.decide(|seats, steps| seats.thaw((key, m.handle), steps)),
            Message::Release(m) => self.decide(|seats, steps| seats.release((key, m.handle), steps)),
            Message::Activate(m) => {
                self.decide(|seats, steps| seats.activate((key, m.handle), Epoch(m.epoch), steps));
            }
            Message::Abort(m) => self.decide(|seats, steps| seats.abort((key, m.handle), steps)),
            Message::Notice(m) => {
                if let Some(seat) = self.seats.seat_at((key, m.handle)) {
                    let remaining = std::time::Duration::from_millis(m.remaining_ms);
                    self.with(|world, cx| world.notice(cx, seat, &m.text, remaining));
                }
            }
            Message::TransferRefused(m) => {
                if let Some(seat) = self.seats.seat_at((key, m.handle)) {
                    self.with(|world, cx| world.transfer_refused(cx, seat, &m.reason));
                }
            }
            Message::Owner(m) => {
                let mine = m.server_id == self.config.server.as_str();
                if let Some(session) = SessionId::from_slice(&m.session_id) {
                    let at = (key, m.handle);
                    self.decide(|seats, steps| seats.owner(at, session, Epoch(m.epoch), mine, steps));
                }
            }
            Message::Find(find) => self.find(key, &find),
            Message::FramesReceived(received) => {
                for (handle, count) in received.handles.into_iter().zip(received.counts) {
                    let session = self.seats.seat_at((key, handle)).and_then(|seat| self.sessions.find_mut(seat));
                    if let Some(session) = session {
                        session.channel.acknowledged(count);
                    }
                }
            }
            // Answered where events come in; a second hello has no meaning.
            Message::HeartbeatAck(_) | Message::Hello(_) => {}
        }
    }

    fn has_waiting(&mut self, at: At) -> bool {
        let session = self.seats.seat_at(at).and_then(|seat| self.sessions.find_mut(seat));
        session.is_some_and(|session| !session.to_world.is_empty())
    }

    fn bad_request(&mut self, at: At, bad: &BadField, said: fn(Refusal) -> Said) {
        tracing::warn!(handle = at.1, field = bad.field, why = %bad.why, "gateway sent a bad request");
        self.say(at, said(Refusal::Game(bad.to_string())));
    }
}
