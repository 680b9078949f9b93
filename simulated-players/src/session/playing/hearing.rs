//! What a player hears, and what it makes of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message as _;
use tidegate_player::{CloseReason, Closed, Event, Welcome};
use tidegate_proto::stub::v1 as game;
use tidegate_types::{Cause, Clock as _, EnvironmentId, SystemClock, Timestamp};

use super::super::witness::{self, Place};
use super::Playing;
use crate::report::{End, Move, record_time};

impl Playing<'_> {
    pub(super) fn happened(&mut self, event: Event) {
        match event {
            Event::Game(body) => self.game(&body),
            Event::Datagram(body) => self.snapshot(&body),
            Event::Moved(moved) => {
                self.hold(false);
                let entries = self.person.party.as_ref().map_or(0, |party| party.entries.load(Ordering::Relaxed));
                let party_moved = entries > self.party_entries;
                // Taken along, not on its own feet: that door is used up.
                if moved.cause == Cause::Instance && !self.ledger.at_boundary() {
                    self.party_entries = entries;
                }
                if !self.ledger.moved(moved.cause, moved.home.epoch, party_moved) {
                    tracing::warn!(player = %self.person.player, cause = %moved.cause, home = ?moved.home, "moved without a cause");
                }
                let mut books = self.world.books.open();
                books.moved(moved.cause);
                record_time(&mut books.latencies.handover, moved.between);
                drop(books);
                witness::moved(self.person, &self.place, &moved);
                self.server = moved.home.server;
                self.went(moved.home.environment, moved.cause);
            }
            Event::Hold(hold) => {
                witness::hold(self.person, &hold.reason, self.place.gateway);
                self.hold(true);
            }
            Event::Notice(_) => self.world.books.open().notices += 1,
            Event::Reconnecting { why } => {
                witness::lost(self.person, &self.place, &why);
                self.reconnect(true);
            }
            Event::Relocating { .. } => witness::relocate(self.person, &self.place),
            Event::Relocated(welcome) => {
                self.hold(false);
                self.place = Place::of(&welcome);
                witness::relocated(self.person, &welcome);
                let mut books = self.world.books.open();
                books.relocated += 1;
                record_time(&mut books.latencies.relocation, welcome.took);
                drop(books);
                self.goes_on(*welcome);
            }
            Event::Resumed(welcome) => {
                self.reconnect(false);
                self.hold(false);
                self.place = Place::of(&welcome);
                let same_home = welcome.home.server == self.server;
                witness::resumed(self.person, &welcome, same_home);
                let mut books = self.world.books.open();
                books.resumed += 1;
                books.resumed_same_home += u64::from(same_home);
                books.moved_while_away += u64::from(!same_home);
                record_time(&mut books.latencies.resume, welcome.took);
                drop(books);
                self.goes_on(*welcome);
            }
            Event::Welcome(_) | Event::Closed(_) => {}
        }
    }

    /// Another connection has the session now, and perhaps another gateway. Without a gap every frame is due, once and in
    /// order.
    fn goes_on(&mut self, welcome: Welcome) {
        let same_server = welcome.home.server == self.server;
        self.ledger.resumed(welcome.home.epoch, same_server);
        if welcome.gap {
            self.world.books.open().gaps += 1;
            witness::gap(self.person, &self.place);
            self.repeat_unanswered();
        }
        self.server = welcome.home.server;
        self.went(welcome.home.environment, Cause::Crash);
    }

    /// Frames may be lost although the home lives on.
    fn repeat_unanswered(&mut self) {
        for frame in self.ledger.repeat_unanswered() {
            self.send(frame);
        }
    }

    /// The live figures show broken promises at once.
    pub(super) fn tell_broken(&mut self) {
        let broken = self.ledger.findings.broken();
        if broken > self.broken {
            self.world.books.open().live.broken_promises += broken - self.broken;
            self.broken = broken;
            witness::broken(self.person, &self.place, &self.ledger.findings);
            tracing::warn!(
                player = %self.person.player, findings = ?self.ledger.findings, open = ?self.ledger.open(),
                "a promise is broken"
            );
        }
    }

    fn hold(&mut self, on: bool) {
        if self.holding != on {
            self.holding = on;
            let mut books = self.world.books.open();
            if on {
                books.holds += 1;
                books.live.holding += 1;
            } else {
                books.live.holding -= 1;
            }
        }
    }

    fn reconnect(&mut self, on: bool) {
        if self.reconnecting != on {
            self.reconnecting = on;
            let mut books = self.world.books.open();
            if on {
                books.live.reconnecting += 1;
            } else {
                books.live.reconnecting -= 1;
            }
        }
    }

    fn went(&mut self, to: EnvironmentId, cause: Cause) {
        if to == self.environment {
            return;
        }
        let from = std::mem::replace(&mut self.environment, to.clone());
        self.leash.set_environment(Some(to.clone()));
        self.world.books.open().went(&from, &to);
        self.record.moves.push(Move { at: SystemClock.now().wall, from, to, cause });
    }

    fn game(&mut self, body: &[u8]) {
        let Ok(game::Event { kind: Some(event) }) = game::Event::decode(body) else {
            tracing::warn!(player = %self.person.player, "the world said what cannot be understood");
            return;
        };
        match event {
            game::event::Kind::Answer(answer) => self.answered(&answer),
            game::event::Kind::Entered(entered) => {
                self.behaviour.entered(&entered.zone, &entered.instance, self.since_began());
                for frame in self.ledger.entered(&entered) {
                    self.send(frame);
                }
            }
            game::event::Kind::Chat(_) => {}
        }
    }

    fn answered(&mut self, answer: &game::Answer) {
        let Some(answered) = self.ledger.answer(answer) else {
            if !answer.refused.is_empty() {
                self.world.books.open().refused(&answer.refused);
            }
            return;
        };
        let now = self.since_began();
        let mut books = self.world.books.open();
        if let Some(intended) = answered.intended {
            books.answered(now.saturating_sub(intended));
        }
        if let Some(give) = answered.gave {
            books.gave(self.person.character.as_str(), &give.to, give.gold);
        }
        if let Some(word) = answered.refused {
            books.refused(&word);
        }
    }

    fn snapshot(&self, body: &[u8]) {
        let Ok(snapshot) = game::Snapshot::decode(body) else { return };
        let now = u64::try_from(self.world.now().as_micros()).unwrap_or(0);
        let mut books = self.world.books.open();
        books.live.datagrams_received += 1;
        if snapshot.echo_sent_us > 0 {
            let took = Duration::from_micros(now.saturating_sub(snapshot.echo_sent_us));
            record_time(&mut books.latencies.datagram, took);
        }
    }

    pub(super) fn end(&mut self, closed: Option<Closed>) {
        self.hold(false);
        self.reconnect(false);
        let end = match closed.as_ref().map(|closed| &closed.reason) {
            Some(CloseReason::LoggedOut) => End::Logout,
            Some(CloseReason::Kicked) => End::Kicked,
            _ if self.logging_out => End::Logout,
            reason => {
                tracing::warn!(player = %self.person.player, ?reason, "session lost");
                End::Lost
            }
        };
        witness::closed(self.person, &self.place, end.as_str(), closed.as_ref());
        let at: Timestamp = SystemClock.now().wall;
        self.record.ended = Some((at, end));
        self.leash.set_environment(None);
        let (findings, memory) = self.ledger.close(end == End::Logout);
        self.ledger.findings = findings;
        self.tell_broken();
        self.person.memory = memory;
        self.world.books.open().ended(self.record.clone(), end, &findings);
    }
}
