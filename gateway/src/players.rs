//! Players' connections as the shard knows them: which realm and session each belongs to, its ticket, and what it is owed
//! in acknowledgements.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use gateway_core::{SessionKey, VerifiedHello, Whereabouts, Who};
use tidegate_proto::v1;
use tidegate_ticket::{LoginPublicKey, ResumeClaims, ResumeKey};
use tidegate_types::{Epoch, RealmId, SessionId, Timestamp};
use uuid::Uuid;

use crate::used_tickets::{NotTaken, UsedTickets};

/// Frames after which an `Ack` is sent at once. The client keeps what is not acknowledged; 32 frames are a second or so.
const ACK_FRAMES: u32 = 32;
/// The longest that a received frame stays unacknowledged.
const ACK_DELAY: Duration = Duration::from_millis(250);
/// How long a resume ticket is good for: the longest stay without a change of home after which a lost connection can still
/// be resumed. Whether the session is still there is the session's business.
const RESUME_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest client version, in bytes: it is copied into reports.
const MAX_VERSION: usize = 64;
/// When a player who was turned away for a passing reason may try again, in milliseconds.
pub(crate) const RETRY_MS: u32 = 2_000;

/// One connection after its `Hello`.
#[derive(Debug, Default, Clone)]
struct Player {
    /// Index of the realm whose core knows this connection; `None`: no core does.
    realm: Option<u32>,
    session: Option<SessionKey>,
    /// The login ticket, until it has let the player in.
    ticket: Option<Uuid>,
    /// Frames received since the last `Ack`.
    unacknowledged: u32,
}

/// A `Hello` that is not answered by the core.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HelloRefused {
    /// Say this and close.
    Say { reason: &'static str, message: String, retry_after_ms: u32 },
    /// It is not a `Hello` that any client of ours sends.
    Malformed,
}

/// All of them, by connection index, with the keys that check tickets.
pub(crate) struct Players {
    by_conn: Vec<Player>,
    /// Who is owed an `Ack`, by when; some may have got theirs.
    acks: VecDeque<(Instant, u32)>,
    used: UsedTickets,
    login_key: LoginPublicKey,
    resume_key: ResumeKey,
    pub(crate) used_refused: u64,
}

impl Players {
    pub(crate) fn new(login_key: LoginPublicKey, resume_key: ResumeKey, used_limit: usize) -> Self {
        Self {
            by_conn: Vec::new(),
            acks: VecDeque::new(),
            used: UsedTickets::new(used_limit),
            login_key,
            resume_key,
            used_refused: 0,
        }
    }

    fn player(&mut self, conn: u32) -> &mut Player {
        let index = conn as usize;
        if self.by_conn.len() <= index {
            self.by_conn.resize_with(index + 1, Player::default);
        }
        &mut self.by_conn[index]
    }

    /// Checks a `Hello`'s ticket. A login ticket is used up by it, until [`Self::give_ticket_back`].
    pub(crate) fn verify(
        &mut self,
        conn: u32,
        hello: v1::Hello,
        realm: &RealmId,
        now: Timestamp,
    ) -> Result<VerifiedHello, HelloRefused> {
        let refused = |reason, message, retry_after_ms| Err(HelloRefused::Say { reason, message, retry_after_ms });
        if hello.client_version.len() > MAX_VERSION {
            return Err(HelloRefused::Malformed);
        }
        match (hello.login_ticket.as_str(), hello.resume_ticket.as_str()) {
            (ticket, "") if !ticket.is_empty() => {
                let claims = match self.login_key.check(ticket, realm, now) {
                    Ok(claims) => claims,
                    Err(e) => return refused(e.reason(), e.to_string(), 0),
                };
                // The ticket's word counts more than the client's.
                let version =
                    if claims.client_version.is_empty() { hello.client_version } else { claims.client_version };
                if version.len() > MAX_VERSION {
                    return refused("ticket_invalid", "the client version is too long".into(), 0);
                }
                match self.used.take(claims.id, claims.expires, now) {
                    Ok(()) => (),
                    Err(NotTaken::Used) => {
                        self.used_refused += 1;
                        return refused("ticket_used", "a login ticket is good for one login".into(), 0);
                    }
                    Err(NotTaken::Full) => return refused("unavailable", "too many logins".into(), RETRY_MS),
                }
                self.player(conn).ticket = Some(claims.id);
                Ok(VerifiedHello::Login {
                    session: SessionId(Uuid::now_v7()),
                    who: Who { player: claims.player, character: claims.character },
                    party: claims.party,
                    client_version: version,
                })
            }
            ("", ticket) if !ticket.is_empty() => {
                let claims = match self.resume_key.open(ticket, now) {
                    Ok(claims) => claims,
                    // Whatever is wrong with it, a login is what helps.
                    Err(e) => return refused("resume_unknown", e.to_string(), 0),
                };
                if claims.realm != *realm {
                    return refused("wrong_realm", format!("the session is in realm {}", claims.realm), 0);
                }
                Ok(VerifiedHello::Resume {
                    session: claims.session,
                    who: Who { player: claims.player, character: claims.character },
                    epoch: claims.epoch,
                    received_frames: hello.received_frames,
                    sent_frames: hello.sent_frames,
                    client_version: hello.client_version,
                })
            }
            _ => Err(HelloRefused::Malformed),
        }
    }

    /// Seals the resume ticket for where a player is.
    pub(crate) fn seal(&self, realm: &RealmId, at: &Whereabouts, now: Timestamp) -> String {
        self.resume_key.seal(&ResumeClaims {
            session: at.session,
            realm: realm.clone(),
            player: at.who.player.clone(),
            character: at.who.character.clone(),
            epoch: Epoch(at.epoch.0),
            expires: now + RESUME_LIFETIME,
        })
    }

    /// The realm's core knows this connection from now on.
    pub(crate) fn enter(&mut self, conn: u32, realm: u32) {
        self.player(conn).realm = Some(realm);
    }

    /// The connection's frames are this session's.
    pub(crate) fn bind(&mut self, conn: u32, session: SessionKey) {
        let player = self.player(conn);
        player.session = Some(session);
    }

    /// The player is in: the ticket has done its work.
    pub(crate) fn welcomed(&mut self, conn: u32) {
        self.player(conn).ticket = None;
    }

    /// The ticket let nobody in: it may be tried again.
    pub(crate) fn give_ticket_back(&mut self, conn: u32) {
        if let Some(ticket) = self.player(conn).ticket.take() {
            self.used.give_back(ticket);
        }
    }

    /// Forgets the connection; the realm whose core knew it.
    pub(crate) fn leave(&mut self, conn: u32) -> Option<u32> {
        std::mem::take(self.player(conn)).realm
    }

    /// The realm whose core knows this connection.
    pub(crate) fn realm(&self, conn: u32) -> Option<u32> {
        self.by_conn.get(conn as usize)?.realm
    }

    /// The realm and session of a connection; `None` before `Bind`.
    pub(crate) fn session(&self, conn: u32) -> Option<(u32, SessionKey)> {
        let player = self.by_conn.get(conn as usize)?;
        Some((player.realm?, player.session?))
    }

    /// Counts a received frame. True: its `Ack` is due now.
    pub(crate) fn received(&mut self, conn: u32, now: Instant) -> bool {
        let player = &mut self.by_conn[conn as usize];
        player.unacknowledged += 1;
        match player.unacknowledged {
            1 => {
                self.acks.push_back((now + ACK_DELAY, conn));
                false
            }
            n => n >= ACK_FRAMES,
        }
    }

    /// An `Ack` was sent.
    pub(crate) fn acknowledged(&mut self, conn: u32) {
        self.by_conn[conn as usize].unacknowledged = 0;
    }

    /// A connection whose `Ack` is due, if any.
    pub(crate) fn ack_due(&mut self, now: Instant) -> Option<u32> {
        while let Some(&(at, conn)) = self.acks.front()
            && at <= now
        {
            self.acks.pop_front();
            if self.by_conn[conn as usize].unacknowledged > 0 {
                return Some(conn);
            }
        }
        None
    }

    /// When [`Self::ack_due`] wants to be asked next.
    pub(crate) fn next_ack(&self) -> Option<Instant> {
        self.acks.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ticket::{LoginClaims, LoginKey};
    use tidegate_types::{CharacterId, PlayerId};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn realm() -> RealmId {
        RealmId::new("eu-1").unwrap()
    }

    fn setup() -> (LoginKey, ResumeKey, Players) {
        let (login, resume) = (LoginKey::generate().unwrap(), ResumeKey::generate().unwrap());
        let players = Players::new(login.public().clone(), resume.clone(), 1_000);
        (login, resume, players)
    }

    fn ticket(key: &LoginKey) -> String {
        key.mint(&LoginClaims {
            id: Uuid::new_v4(),
            realm: realm(),
            player: PlayerId::new("p1").unwrap(),
            character: CharacterId::new("c1").unwrap(),
            party: None,
            client_version: "1.0.0".into(),
            issued: NOW,
            expires: NOW + Duration::from_secs(60),
            cohorts: vec![],
        })
    }

    fn login(ticket: &str) -> v1::Hello {
        v1::Hello { login_ticket: ticket.into(), ..Default::default() }
    }

    fn reason(outcome: Result<VerifiedHello, HelloRefused>) -> &'static str {
        match outcome {
            Err(HelloRefused::Say { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_ticket_is_good_once_unless_it_let_nobody_in() {
        let (key, _, mut players) = setup();
        let ticket = ticket(&key);
        assert!(matches!(players.verify(0, login(&ticket), &realm(), NOW), Ok(VerifiedHello::Login { .. })));
        assert_eq!(reason(players.verify(1, login(&ticket), &realm(), NOW)), "ticket_used");
        players.give_ticket_back(0);
        assert!(players.verify(1, login(&ticket), &realm(), NOW).is_ok());
        players.welcomed(1);
        players.give_ticket_back(1);
        assert_eq!(reason(players.verify(2, login(&ticket), &realm(), NOW)), "ticket_used");
    }

    #[test]
    fn every_refusal_has_its_word() {
        let (key, resume, mut players) = setup();
        let us = RealmId::new("us-1").unwrap();
        assert_eq!(reason(players.verify(0, login(&ticket(&key)), &us, NOW)), "wrong_realm");
        assert_eq!(reason(players.verify(0, login("garbage"), &realm(), NOW)), "ticket_invalid");
        let late = NOW + Duration::from_secs(61);
        assert_eq!(reason(players.verify(0, login(&ticket(&key)), &realm(), late)), "ticket_expired");
        let resume_with = |ticket: String| v1::Hello { resume_ticket: ticket, ..Default::default() };
        assert_eq!(reason(players.verify(0, resume_with("garbage".into()), &realm(), NOW)), "resume_unknown");
        let claims = ResumeClaims {
            session: SessionId(Uuid::from_u128(1)),
            realm: us,
            player: PlayerId::new("p1").unwrap(),
            character: CharacterId::new("c1").unwrap(),
            epoch: Epoch(1),
            expires: NOW + Duration::from_secs(1),
        };
        assert_eq!(reason(players.verify(0, resume_with(resume.seal(&claims)), &realm(), NOW)), "wrong_realm");
        assert_eq!(players.verify(0, v1::Hello::default(), &realm(), NOW), Err(HelloRefused::Malformed));
        let both = v1::Hello { resume_ticket: "x".into(), ..login("x") };
        assert_eq!(players.verify(0, both, &realm(), NOW), Err(HelloRefused::Malformed));
        let long = v1::Hello { client_version: "9".repeat(MAX_VERSION + 1), ..login(&ticket(&key)) };
        assert_eq!(players.verify(0, long, &realm(), NOW), Err(HelloRefused::Malformed));
    }

    #[test]
    fn acknowledgements_come_after_32_frames_or_250_ms() {
        let (_, _, mut players) = setup();
        players.enter(3, 0);
        let start = Instant::now();
        for _ in 1..ACK_FRAMES {
            assert!(!players.received(3, start));
        }
        assert!(players.received(3, start));
        players.acknowledged(3);
        assert_eq!(players.ack_due(start + ACK_DELAY), None, "it has got its Ack");
        assert!(!players.received(3, start));
        assert_eq!(players.ack_due(start), None);
        assert_eq!(players.ack_due(start + ACK_DELAY), Some(3));
        assert_eq!(players.next_ack(), None);
    }
}
