//! Players of the model: what a game client does, and the ledger it keeps. Every frame it sends is numbered for life; every
//! frame it gets carries a lineage and a number.

use std::collections::BTreeMap;

use tidegate_types::{Cause, CharacterId, EnvironmentId, Epoch, Mono, PartyId, PlayerId, SessionId};
use uuid::Uuid;

use super::wires::{Conn, Said, Say, read_reply};
use super::{ORPHANS, World};
use crate::input::{Input, VerifiedHello};
use crate::key::ConnKey;
use crate::message::{PlayerMessage, Whereabouts, Who};

/// One player.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) who: Who,
    party: Option<PartyId>,
    pub(super) conn: Option<u32>,
    /// The connection it left for `conn`, and returns to if that one is refused.
    old: Option<u32>,
    /// The gateway of its last connection, and when it last was another than before.
    last_gateway: usize,
    roamed_at: Option<Mono>,
    welcomed: bool,
    /// What a resume ticket needs; `None`: not in the world as far as the player knows.
    ticket: Option<(SessionId, Epoch)>,
    /// It wants out, or was put out: no resume.
    leaving: bool,
    refused: bool,
    /// Frames of its life so far; those up to `login_mark` were said before the last login.
    said: u64,
    login_mark: u64,
    /// Frames of this session, in its count.
    sent: u64,
    /// What a frame of this session has as its number in life, minus its number in the session.
    offset: u64,
    received: u64,
    /// Lineage and number of the last frame received.
    last: (u64, u64),
    /// The next frame may leave some out.
    jump: bool,
    environment: Option<EnvironmentId>,
    /// Boundaries it may have crossed, commands it was named in.
    allowed: BTreeMap<Cause, u32>,
}

impl Player {
    pub(super) fn new(n: usize) -> Self {
        let who = Who {
            player: PlayerId::new(&format!("p{n}")).expect("an id"),
            character: CharacterId::new(&format!("c{n}")).expect("an id"),
        };
        let party = (n % 4 < 2).then(|| PartyId::new(&format!("party-{}", n / 4)).expect("an id"));
        Self {
            who,
            party,
            conn: None,
            old: None,
            last_gateway: 0,
            roamed_at: None,
            welcomed: false,
            ticket: None,
            leaving: false,
            refused: false,
            said: 0,
            login_mark: 0,
            sent: 0,
            offset: 0,
            received: 0,
            last: (0, 0),
            jump: true,
            environment: None,
            allowed: BTreeMap::new(),
        }
    }
}

impl World {
    fn player(&mut self, who: &Who) -> Option<&mut Player> {
        self.players.iter_mut().find(|p| p.who == *who)
    }

    pub(super) fn said_before_login(&self, who: &Who) -> u64 {
        self.players.iter().find(|p| p.who == *who).map_or(0, |p| p.login_mark)
    }

    pub(super) fn allow_boundary(&mut self, who: &Who, cause: Cause) {
        if let Some(player) = self.player(who) {
            *player.allowed.entry(cause).or_default() += 1;
        }
    }

    pub(super) fn player_acts(&mut self, n: usize) {
        let index = n % self.players.len();
        let act = n / self.players.len() % 16;
        let Some(gateway) = self.living_gateway(n / self.players.len() / 16) else { return };
        let player = &self.players[index];
        match (player.conn, player.welcomed) {
            (None, _) => {
                if player.ticket.is_some() && act < 12 {
                    self.resume(index, gateway);
                } else {
                    self.login(index, gateway);
                }
            }
            (Some(conn), true) => match act {
                0..10 => self.say(index, 1 + n / 64 % 3),
                10 => self.lose_connection(conn),
                11 => {
                    // The network takes it, and the player is back before the gateway notices.
                    self.forget_conn(index);
                    self.resume(index, gateway);
                }
                12 if n.is_multiple_of(3) => self.login(index, gateway),
                13 if n.is_multiple_of(3) => {
                    self.players[index].leaving = true;
                    self.queue(conn, Say::Logout);
                }
                14 if self.is_shared() => self.relocate(index, gateway),
                _ => {
                    let received = self.players[index].received;
                    self.queue(conn, Say::Ack(received));
                }
            },
            (Some(conn), false) => {
                if act == 15 {
                    self.lose_connection(conn);
                }
            }
        }
    }

    fn queue(&mut self, conn: u32, message: Say) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.to_gateway.push_back(message);
        }
    }

    fn say(&mut self, index: usize, frames: usize) {
        let player = &mut self.players[index];
        let Some(conn) = player.conn.filter(|_| !player.leaving) else { return };
        for _ in 0..frames {
            player.said += 1;
            player.sent += 1;
            let n = player.said;
            if let Some(conn) = self.conns.get_mut(&conn) {
                conn.to_gateway.push_back(Say::Game(n));
            }
        }
    }

    /// The player's end of the connection is gone; the gateway may or may not know.
    fn forget_conn(&mut self, index: usize) {
        let player = &mut self.players[index];
        player.welcomed = false;
        for conn in player.conn.take().into_iter().chain(player.old.take()) {
            self.turn_from(conn);
        }
    }

    fn turn_from(&mut self, conn: u32) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.to_gateway.clear();
            // That it was closed is still learnt.
            conn.to_player.retain(|said| matches!(said, Said::Close));
            conn.held = false;
            conn.player = usize::MAX;
        }
    }

    /// Goes to another gateway, and lets go of the one it has when it is welcome there.
    pub(super) fn relocate(&mut self, index: usize, gateway: usize) {
        let player = &mut self.players[index];
        let Some(old) = player.conn.filter(|_| player.welcomed && player.old.is_none() && !player.leaving) else {
            return;
        };
        let Some(conn) = self.conns.get_mut(&old).filter(|conn| conn.gateway != gateway) else { return };
        if self.players[index].ticket.is_none() {
            return;
        }
        conn.held = true;
        self.players[index].conn = None;
        self.resume(index, gateway);
        self.players[index].old = Some(old);
    }

    /// The connection that it had is the one that it has again.
    fn turn_back(&mut self, index: usize) {
        let player = &mut self.players[index];
        player.conn = player.old.take();
        player.welcomed = player.conn.is_some();
        if let Some(conn) = player.conn.and_then(|conn| self.conns.get_mut(&conn)) {
            conn.held = false;
        }
    }

    fn lose_connection(&mut self, id: u32) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if conn.player != usize::MAX {
            self.without(conn.player, id);
        }
        if !conn.closed {
            self.input_to(conn.gateway, Input::ConnectionLost { conn: ConnKey(id) });
        }
    }

    /// That connection of the player's is gone.
    fn without(&mut self, index: usize, conn: u32) {
        let player = &mut self.players[index];
        if player.old == Some(conn) {
            player.old = None;
        } else {
            self.turn_back(index);
        }
    }

    fn open(&mut self, index: usize, gateway: usize) -> ConnKey {
        let id = self.next_conn;
        self.next_conn += 1;
        let now = self.now.mono;
        let player = &mut self.players[index];
        player.conn = Some(id);
        player.welcomed = false;
        player.refused = false;
        if std::mem::replace(&mut player.last_gateway, gateway) != gateway {
            player.roamed_at = Some(now);
        }
        let conn = Conn {
            player: index,
            gateway,
            held: false,
            session: None,
            closed: false,
            paused: false,
            to_player: std::collections::VecDeque::new(),
            to_gateway: std::collections::VecDeque::new(),
        };
        self.conns.insert(id, conn);
        ConnKey(id)
    }

    pub(super) fn login(&mut self, index: usize, gateway: usize) {
        self.forget_conn(index);
        let session = SessionId(Uuid::from_u128(self.next_id));
        self.next_id += 1;
        let player = &mut self.players[index];
        player.login_mark = player.said;
        player.offset = player.said;
        player.sent = 0;
        player.received = 0;
        player.jump = true;
        player.leaving = false;
        player.ticket = None;
        let hello = VerifiedHello::Login {
            session,
            who: player.who.clone(),
            party: player.party.clone(),
            client_version: "1.0.0".to_owned(),
        };
        let conn = self.open(index, gateway);
        self.input_to(gateway, Input::Hello { conn, hello });
    }

    fn resume(&mut self, index: usize, gateway: usize) {
        self.forget_conn(index);
        let player = &self.players[index];
        let Some((session, epoch)) = player.ticket else { return };
        let hello = VerifiedHello::Resume {
            session,
            who: player.who.clone(),
            epoch,
            received_frames: player.received,
            sent_frames: player.sent,
            client_version: "1.0.0".to_owned(),
        };
        let conn = self.open(index, gateway);
        self.input_to(gateway, Input::Hello { conn, hello });
    }

    pub(super) fn hear(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (index, Some(said)) = (conn.player, conn.to_player.pop_front()) else { return };
        if index == usize::MAX {
            if matches!(said, Said::Close) {
                self.conns.remove(&id);
            }
            return;
        }
        match said {
            Said::Close => {
                self.conns.remove(&id);
                self.without(index, id);
            }
            Said::Game(body) => self.received(index, read_reply(&body)),
            Said::Message(message) => self.heard(index, id, message),
        }
    }

    fn received(&mut self, index: usize, (lineage, number): (u64, u64)) {
        let player = &mut self.players[index];
        player.received += 1;
        let (last_lineage, last) = player.last;
        let follows = match lineage.cmp(&last_lineage) {
            std::cmp::Ordering::Equal => number == last + 1 || (player.jump && number > last),
            std::cmp::Ordering::Greater => number == 1 || player.jump,
            std::cmp::Ordering::Less => false,
        };
        player.jump = false;
        player.last = (lineage, number);
        let (who, welcomed) = (player.who.player.clone(), player.welcomed);
        if !follows {
            self.violation(format!("{who} gets frame {lineage}/{number} after {last_lineage}/{last}"));
        }
        if !welcomed {
            self.violation(format!("{who} gets a frame before the welcome"));
        }
    }

    fn heard(&mut self, index: usize, conn: u32, message: PlayerMessage) {
        match message {
            PlayerMessage::Welcome { at, received_frames, gap, next_frame, .. } => {
                if let Some(old) = self.players[index].old.take() {
                    self.turn_from(old);
                }
                let player = &mut self.players[index];
                player.welcomed = true;
                player.received = next_frame;
                if gap {
                    player.jump = true;
                    player.login_mark = player.said;
                }
                // What the gateway lacks is sent again.
                let (from, to, offset) = (received_frames, player.sent, player.offset);
                self.lands(index, &at, false);
                for n in from..to {
                    self.queue(conn, Say::Game(offset + n + 1));
                }
            }
            PlayerMessage::Moved { at, .. } => self.lands(index, &at, true),
            PlayerMessage::Goodbye { reason, .. } => {
                let wanted = match reason {
                    "logout" => self.players[index].leaving,
                    "kicked" => true,
                    // What it began elsewhere has come true.
                    "replaced" | "moved" => {
                        let now = self.now.mono;
                        self.players[index].roamed_at.is_some_and(|at| now < at + 3 * ORPHANS)
                    }
                    _ => false,
                };
                if !wanted {
                    let who = self.players[index].who.player.clone();
                    self.violation(format!("{who} is sent away: {reason}"));
                }
                self.players[index].ticket = None;
                self.players[index].environment = None;
            }
            // It goes on with the connection that it has.
            PlayerMessage::Refused { .. } if self.players[index].old.is_some() => {}
            PlayerMessage::Refused { .. } => {
                let session = self.players[index].ticket.map(|(session, _)| session);
                self.is_refused(session);
                self.players[index].ticket = None;
                self.players[index].environment = None;
                self.players[index].refused = true;
            }
            PlayerMessage::Hold { .. } | PlayerMessage::Notice { .. } => {}
        }
    }

    /// The player learns where it is: rule 2.
    fn lands(&mut self, index: usize, at: &Whereabouts, moved: bool) {
        let player = &mut self.players[index];
        let same_session = player.ticket.is_some_and(|(session, _)| session == at.session);
        let older = player.ticket.is_some_and(|(_, epoch)| same_session && epoch > at.epoch);
        player.ticket = Some((at.session, at.epoch));
        let before = player.environment.replace(at.environment.clone());
        let crossed = same_session && before.is_some_and(|before| before != at.environment);
        let who = player.who.player.clone();
        if older {
            self.violation(format!("{who} goes back to epoch {}", at.epoch));
        }
        if crossed {
            let cause = at.cause;
            let left = self.players[index].allowed.values().sum::<u32>();
            let allowed = match cause {
                Cause::Zone | Cause::Instance | Cause::Respawn | Cause::Drain | Cause::Operator => {
                    self.players[index].allowed.get(&cause).is_some_and(|n| *n > 0)
                }
                // A welcome tells of a move that was made while the player was away.
                Cause::Resume => !moved && left > 0,
                Cause::Login | Cause::Crash => false,
            };
            if !allowed {
                self.violation(format!("{who} is moved to {} by {cause} without that having happened", at.environment));
            }
        }
    }

    /// A new run of a gateway: all its connections are gone.
    pub(super) fn drop_connections(&mut self, gateway: usize) {
        let ids: Vec<u32> = self.conns.iter().filter(|(_, conn)| conn.gateway == gateway).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(conn) = self.conns.remove(&id).filter(|conn| conn.player != usize::MAX) {
                self.without(conn.player, id);
            }
        }
    }

    /// Those whose connection hangs at the gateway only: it notices.
    pub(super) fn notice_lost_connections(&mut self) {
        let hanging: Vec<u32> = self.conns.iter().filter(|(_, c)| c.player == usize::MAX).map(|(id, _)| *id).collect();
        for id in hanging {
            self.lose_connection(id);
        }
    }

    /// One whose connection hangs at the gateway only: it notices.
    pub(super) fn notice_one(&mut self, n: usize) {
        let hanging: Vec<u32> = self.conns.iter().filter(|(_, c)| c.player == usize::MAX).map(|(id, _)| *id).collect();
        if !hanging.is_empty() {
            self.lose_connection(hanging[n % hanging.len()]);
        }
    }

    /// Everybody who is out logs in, and is given the time to arrive.
    pub(super) fn let_everybody_in(&mut self) {
        for index in 0..self.players.len() {
            self.players[index].leaving = false;
            if self.players[index].conn.is_none() {
                self.login(index, index % self.gateways.len());
            }
        }
        for _ in 0..40 {
            self.mend_links();
            self.drain_wires();
            self.pass(std::time::Duration::from_millis(500));
            self.check_one_home();
        }
        self.drain_wires();
        let room = self.processes.values().map(|p| p.capacity as usize).min().unwrap_or(0);
        let out: Vec<String> =
            self.players.iter().filter(|p| !p.welcomed).map(|p| format!("{} cannot get in", p.who.player)).collect();
        if room >= self.players.len() {
            for what in out {
                self.violation(what);
            }
        }
    }

    /// Players in play whose frames since their last login have not all taken effect: none, at rest and without faults.
    #[must_use]
    pub fn unheard(&self) -> Vec<String> {
        let mut unheard = Vec::new();
        for player in self.players.iter().filter(|p| p.welcomed && p.said > p.login_mark) {
            let ups = self.processes.values().filter_map(|p| p.held.get(&player.who)).map(|held| held.character.up);
            let heard = ups.max().unwrap_or(0);
            if heard != player.said {
                unheard.push(format!("{} said {}, heard {heard}", player.who.player, player.said));
            }
        }
        unheard
    }

    pub(super) fn check_players_at_rest(&mut self) {
        let waiting: Vec<String> = self
            .players
            .iter()
            .filter(|p| p.conn.is_some() && !p.welcomed)
            .map(|p| format!("{} waits for ever", p.who.player))
            .collect();
        let room = self.processes.values().map(|p| p.capacity as usize).min().unwrap_or(0);
        // Some zones are served by one server only: with fewer places there than players somebody may have to wait.
        if room >= self.players.len() {
            for what in waiting {
                self.violation(what);
            }
        }
        for index in 0..self.players.len() {
            let player = &self.players[index];
            if !player.welcomed || player.leaving {
                continue;
            }
            let (who, said) = (player.who.clone(), player.said);
            let live: Vec<u64> = self
                .processes
                .values()
                .filter(|p| p.simulated(self.now.mono).any(|w| *w == who))
                .filter_map(|p| p.held.get(&who).map(|held| held.character.up))
                .collect();
            match live.as_slice() {
                [up] if *up <= said => {}
                [] if room < self.players.len() => {}
                [up] => self.violation(format!("{} said {said} frames, {up} took effect", who.player)),
                _ => self.violation(format!("{} is welcomed and live on {} servers", who.player, live.len())),
            }
        }
    }
}
