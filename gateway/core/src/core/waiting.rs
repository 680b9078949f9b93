//! Looking for a home, and waiting in line for one.

use tidegate_types::Mono;

use super::login::MAX_TRIES;
use super::{ConnUse, Core, Cx, Warm};
use crate::action::Action;
use crate::decide::{CrashAsk, Decision, LoginAsk, Refuse, decide_crash, decide_login};
use crate::key::{ServerKey, SessionKey};
use crate::line::Lane;
use crate::message::{HoldReason, PlayerMessage, RefusedReason};
use crate::session::{Search, State};
use tidegate_types::InstanceId;

/// How often those in line are told their place and servers that refused are asked again.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(1);
/// Places told by one sweep, for each lane: the first of the line, to whom it matters.
const TOLD_AT_ONCE: usize = 4_096;
/// Questions to a directory that did not answer a moment ago.
const ASKED_AT_ONCE: usize = 256;

impl Core {
    /// Decides where the session goes, and sets it on its way or in line.
    pub(super) fn seek(
        &mut self,
        key: SessionKey,
        search: Search,
        lost: Option<(ServerKey, InstanceId)>,
        cx: &mut Cx<'_>,
    ) {
        let session = &self.sessions[key.index()];
        if !session.known {
            self.inquire(key, cx);
            return;
        }
        if search.tries >= MAX_TRIES {
            if session.in_play {
                // Nobody is lost by us: the sweep begins a new search.
                self.wait(key, HoldReason::HomeLost, search, lost, cx);
            } else {
                let message = "no world server took the player".to_owned();
                self.turn_away(key, RefusedReason::Unavailable, message, cx);
            }
            return;
        }
        match self.decide(key, &search) {
            Decision::Route(permit) => {
                self.line.leave(key);
                self.claim(key, permit, search, cx);
            }
            Decision::Hold(reason) => self.wait(key, reason, search, lost, cx),
            Decision::Refuse(Refuse::ClientTooOld) => {
                let message = "this client is not admitted; update it".to_owned();
                self.turn_away(key, RefusedReason::ClientTooOld, message, cx);
            }
            Decision::Refuse(Refuse::NoRoom | Refuse::NoServer | Refuse::AlreadyThere | Refuse::Here) => {
                self.wait(key, HoldReason::Full, search, lost, cx);
            }
        }
    }

    fn decide(&self, key: SessionKey, search: &Search) -> Decision {
        let session = &self.sessions[key.index()];
        let Some(table) = &self.table else { return Decision::Hold(HoldReason::Warming) };
        match &session.pin {
            Some(pin) if session.in_play => decide_crash(
                table,
                &self.servers,
                &CrashAsk {
                    environment: &pin.environment,
                    place: session.place.as_ref(),
                    prefer: session.leftover.map(|(server, _)| server),
                    avoid: &search.avoid,
                },
            ),
            Some(_) | None => {
                let party_environment = session.party.as_ref().and_then(|party| {
                    let others = self.parties.get(party)?.iter().filter(|other| **other != key);
                    let mut pins = others.filter_map(|other| self.sessions.get(other.index())?.pin.as_ref());
                    pins.next().map(|pin| &pin.environment)
                });
                decide_login(
                    table,
                    &self.servers,
                    &LoginAsk {
                        place: session.place.as_ref(),
                        client_version: &session.client_version,
                        party_environment,
                        avoid: &search.avoid,
                    },
                )
            }
        }
    }

    pub(super) fn wait(
        &mut self,
        key: SessionKey,
        reason: HoldReason,
        search: Search,
        lost: Option<(ServerKey, InstanceId)>,
        cx: &mut Cx<'_>,
    ) {
        let session = &mut self.sessions[key.index()];
        let lane = if reason == HoldReason::Directory {
            Lane::Directory
        } else if session.in_play {
            Lane::Home(session.pin.as_ref().map(|p| p.environment.clone()), session.place.clone())
        } else {
            Lane::Login(session.place.clone())
        };
        let (was, lost_before) = match &session.state {
            State::Waiting { reason, told, lost, .. } => (Some((*reason, *told)), *lost),
            State::Finding(_)
            | State::Claiming { .. }
            | State::Attaching { .. }
            | State::Playing { .. }
            | State::Moving(_)
            | State::Lost { .. }
            | State::Leaving { .. } => (None, None),
        };
        let place = self.line.join(key, lane);
        let place = if matches!(reason, HoldReason::HomeLost | HoldReason::Directory) { 0 } else { place };
        let session = &mut self.sessions[key.index()];
        session.state = State::Waiting { reason, told: place, search, lost: lost.or(lost_before) };
        if was != Some((reason, place)) {
            if was.is_none_or(|(r, told)| r != reason || told == 0) {
                match reason {
                    HoldReason::Full => self.counters.holds_full += 1,
                    HoldReason::HomeLost => self.counters.holds_home_lost += 1,
                    HoldReason::Warming => self.counters.holds_warming += 1,
                    HoldReason::Admission => self.counters.holds_admission += 1,
                    HoldReason::Directory => self.counters.holds_directory += 1,
                }
            }
            if let Some(conn) = session.conn {
                cx.out.push(Action::ToPlayer { conn, message: PlayerMessage::Hold { place, reason } });
            }
        }
        self.set_step(key, None);
        self.dirty.insert(key);
    }

    /// Gives room to those in line, lane by lane, in order.
    pub(super) fn serve_line(&mut self, cx: &mut Cx<'_>) {
        for lane in self.line.lanes().into_iter().filter(|lane| *lane != Lane::Directory) {
            while let Some(key) = self.line.front(&lane) {
                let State::Waiting { search, .. } = &self.sessions[key.index()].state else {
                    self.line.leave(key);
                    continue;
                };
                let search = search.clone();
                self.seek(key, search, None, cx);
                if self.line.front(&lane) == Some(key) {
                    break;
                }
            }
        }
    }

    /// Asks the directory again for some of those who wait for it.
    pub(super) fn ask_for_those_in_line(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..ASKED_AT_ONCE {
            let Some(key) = self.line.front(&Lane::Directory) else { return };
            self.inquire(key, cx);
        }
    }

    /// Once a second while somebody waits or a server is on its way out.
    pub(super) fn sweep(&mut self, cx: &mut Cx<'_>) {
        self.sweep_at = None;
        for lane in self.line.lanes() {
            if let Some(key) = self.line.front(&lane)
                && let State::Waiting { search, .. } = &mut self.sessions[key.index()].state
            {
                *search = Search::default();
            }
        }
        self.ask_for_those_in_line(cx);
        self.serve_line(cx);
        let places: Vec<_> = self.line.places(TOLD_AT_ONCE).collect();
        for (key, place) in places {
            let session = &mut self.sessions[key.index()];
            if let (State::Waiting { told, reason, .. }, Some(conn)) = (&mut session.state, session.conn)
                && !matches!(reason, HoldReason::HomeLost | HoldReason::Directory)
                && *told != place
            {
                *told = place;
                let message = PlayerMessage::Hold { place, reason: *reason };
                cx.out.push(Action::ToPlayer { conn, message });
            }
        }
        self.retire_servers(cx);
    }

    pub(super) fn arm_sweep(&mut self, cx: &Cx<'_>) {
        if self.sweep_at.is_none() && (!self.line.is_empty() || self.has_unwanted_servers()) {
            let at: Mono = cx.now.mono + SWEEP;
            self.timers.set(super::Timer::Sweep, None, Some(at));
            self.sweep_at = Some(at);
        }
    }

    /// Everyone who waited for the gateway to know who lives where comes in now.
    pub(super) fn become_warm(&mut self, cx: &mut Cx<'_>) {
        if self.table.is_none() {
            return;
        }
        let Warm::Not { until, found, hellos } = std::mem::replace(&mut self.warm, Warm::Done) else { return };
        self.timers.set(super::Timer::Warm, until, None);
        self.adopt_found(found, cx);
        for (conn, hello) in hellos {
            if self.conns.get(conn.index()) == Some(&ConnUse::Warming) {
                self.on_hello(conn, hello, cx);
            }
        }
    }
}
