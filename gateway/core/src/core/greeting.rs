//! What a player is told of its home, and what goes on its way then: the welcome, the move, the frames that waited, parking.

use tidegate_types::Cause;

use super::{Core, Cx};
use crate::action::Action;
use crate::handover::Seat;
use crate::key::SessionKey;
use crate::message::{Place, PlayerMessage, ToWorld, Whereabouts};
use crate::session::State;

impl Core {
    /// The session has a home that plays it: the player is told, what waited goes on its way.
    pub(super) fn arrived(&mut self, key: SessionKey, seat: Seat, place: Place, cause: Option<Cause>, cx: &mut Cx<'_>) {
        self.note_place(key, seat, place);
        if self.sessions[key.index()].restart.is_some() {
            self.sessions[key.index()].in_play = true;
            self.begin_restart(key, seat, cx);
            return;
        }
        self.ack_home(key);
        let session = &mut self.sessions[key.index()];
        session.in_play = true;
        let gap = session.homeless.take().map_or(0, |since| micros(cx.now.mono.since(since)));
        if session.greeted
            && let (Some(conn), Some(cause)) = (session.conn, cause)
        {
            // If the home was lost right after it had changed, the player hears of both at once: what counts is why it is
            // in another environment.
            let moved = session.pin.as_ref().filter(|pin| session.told.as_ref() != Some(&pin.environment));
            let cause = moved.map_or(cause, |pin| pin.cause);
            session.told = session.pin.as_ref().map(|pin| pin.environment.clone());
            if let Some(at) = self.whereabouts(key, cause) {
                let message = PlayerMessage::Moved { at, gap_us: gap };
                cx.out.push(Action::ToPlayer { conn, message });
            }
            self.send_unsent(key, cx);
        } else {
            self.welcome(key, cx);
        }
        self.forward_queued(key, seat, cx);
        self.sync_parking(key, cx);
        self.dirty.insert(key);
        if let Some(ending) = self.sessions[key.index()].ending.take() {
            self.end(key, ending, cx);
        }
        self.admit_next(key, cx);
    }

    /// Says `Welcome` to the present connection, if there is one that has not had it, and then what it lacks.
    pub(super) fn welcome(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &self.sessions[key.index()];
        let Some(conn) = session.conn.filter(|_| !session.greeted) else { return };
        let cause = if session.resuming { Cause::Resume } else { Cause::Login };
        let Some(at) = self.whereabouts(key, cause) else { return };
        let grace_ms = self.table.as_ref().map_or(0, |t| millis(t.rules().grace));
        let session = &mut self.sessions[key.index()];
        session.greeted = true;
        // It sends again what is not confirmed, for this gateway might have been another one.
        session.again = session.window.unconfirmed();
        session.told = session.pin.as_ref().map(|pin| pin.environment.clone());
        let (received_frames, gap, next_frame) = (session.window.received(), session.gap, session.window.next_frame());
        let message = PlayerMessage::Welcome { at, received_frames, gap, grace_ms, next_frame };
        cx.out.push(Action::ToPlayer { conn, message });
        self.send_unsent(key, cx);
    }

    fn send_unsent(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        if let Some(conn) = session.conn
            && session.window.has_unsent()
        {
            cx.out.push(Action::ResendToPlayer { conn, frames: session.window.take_unsent() });
        }
    }

    pub(super) fn forward_queued(&mut self, key: SessionKey, seat: Seat, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let frames = session.window.take_queued();
        if !frames.is_empty() {
            cx.out.push(Action::ForwardQueued { server: seat.server, handle: seat.handle, frames });
        }
        if session.paused
            && session.window.has_room()
            && let Some(conn) = session.conn
        {
            session.paused = false;
            cx.out.push(Action::ResumeReading { conn });
        }
    }

    /// Parks or unparks the player at home as the connection is there or not.
    pub(super) fn sync_parking(&mut self, key: SessionKey, cx: &mut Cx<'_>) {
        let session = &mut self.sessions[key.index()];
        let State::Playing { seat, .. } = session.state else { return };
        let park = session.conn.is_none();
        if park != session.parked {
            session.parked = park;
            cx.tell_world(seat, if park { ToWorld::Park } else { ToWorld::Unpark });
        }
    }

    fn whereabouts(&self, key: SessionKey, cause: Cause) -> Option<Whereabouts> {
        let session = &self.sessions[key.index()];
        let pin = session.pin.as_ref()?;
        let server = self.servers.get(session.server()?)?;
        let build = self.table.as_ref().and_then(|t| t.environment(&pin.environment)).map(|e| e.build.clone());
        let place = session.place.as_ref().map(|place| place.zone.clone());
        let zone = place.or_else(|| tidegate_types::ZoneId::new(&session.doing.zone).ok())?;
        let unknown = || tidegate_types::BuildVersion::new("0.0.0").expect("a constant that is an id");
        Some(Whereabouts {
            session: session.id,
            who: session.who.clone(),
            epoch: session.epoch,
            environment: pin.environment.clone(),
            // An environment that left the table while this session is still in it has no build to show.
            build: build.unwrap_or_else(unknown),
            server: server.id.clone(),
            zone,
            generation: session.generation,
            cause,
        })
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
