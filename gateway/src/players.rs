//! Players' connections as the shard knows them: which realm and session each belongs to, its ticket, and what it is owed
//! in acknowledgements.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use gateway_core::{SessionKey, VerifiedHello, Whereabouts, Who};
use tidegate_proto::v1;
use tidegate_ticket::{KeyRing, LoginClaims, ResumeClaims, ResumeKeys, TicketError};
use tidegate_types::{Epoch, RealmId, SessionId, Timestamp};
use uuid::Uuid;

use crate::used_tickets::{NotTaken, UsedTickets};

/// Frames after which an `Ack` is sent at once. The client keeps what is not acknowledged; 32 frames are a second or so.
const ACK_FRAMES: u32 = 32;
/// The longest that a frame of which the home has told stays unacknowledged.
const ACK_DELAY: Duration = Duration::from_millis(150);
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
    /// The question about the login ticket that the shared directory has not answered.
    asking: Option<u64>,
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

/// A `Hello` whose ticket is genuine, in time and for this realm.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// A login ticket. Whether it was used before is still to be asked.
    Login(CheckedLogin),
    /// A resume ticket.
    Resume(VerifiedHello),
}

/// A login whose ticket was checked, and not yet taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CheckedLogin {
    pub(crate) claims: LoginClaims,
    /// The ticket's, or else the client's.
    client_version: String,
}

/// What was refused, for the metrics.
#[derive(Debug, Default, Clone)]
pub(crate) struct TicketsRefused {
    /// Login tickets that were used before.
    pub(crate) used: u64,
    /// Login tickets by [`TicketError::label`].
    pub(crate) login: BTreeMap<&'static str, u64>,
    /// Resume tickets by the same.
    pub(crate) resume: BTreeMap<&'static str, u64>,
}

/// All of them, by connection index, with the keys that check tickets.
pub(crate) struct Players {
    by_conn: Vec<Player>,
    /// Who is owed an `Ack`, by when; some may have got theirs.
    acks: VecDeque<(Instant, u32)>,
    used: UsedTickets,
    login_keys: KeyRing,
    resume_keys: ResumeKeys,
    pub(crate) refused: TicketsRefused,
}

impl Players {
    pub(crate) fn new(login_keys: KeyRing, resume_keys: ResumeKeys, used_limit: usize) -> Self {
        Self {
            by_conn: Vec::new(),
            acks: VecDeque::new(),
            used: UsedTickets::new(used_limit),
            login_keys,
            resume_keys,
            refused: TicketsRefused::default(),
        }
    }

    fn player(&mut self, conn: u32) -> &mut Player {
        let index = conn as usize;
        if self.by_conn.len() <= index {
            self.by_conn.resize_with(index + 1, Player::default);
        }
        &mut self.by_conn[index]
    }

    /// All that a `Hello` needs where this gateway alone knows which tickets were used.
    #[cfg(test)]
    pub(crate) fn verify(
        &mut self,
        conn: u32,
        hello: v1::Hello,
        realm: &RealmId,
        now: Timestamp,
    ) -> Result<VerifiedHello, HelloRefused> {
        match self.check(hello, realm, now)? {
            Checked::Login(login) => {
                self.take(&login, now)?;
                Ok(self.admit(conn, login))
            }
            Checked::Resume(hello) => Ok(hello),
        }
    }

    /// Checks a `Hello`'s ticket, and nothing that changes by it.
    pub(crate) fn check(&mut self, hello: v1::Hello, realm: &RealmId, now: Timestamp) -> Result<Checked, HelloRefused> {
        if hello.client_version.len() > MAX_VERSION {
            return Err(HelloRefused::Malformed);
        }
        match (hello.login_ticket.as_str(), hello.resume_ticket.as_str()) {
            (ticket, "") if !ticket.is_empty() => {
                let claims =
                    self.login_keys.check(ticket, realm, now).map_err(|error| self.refuse_login(&error, now))?;
                // The ticket's word counts more than the client's.
                let client_version = match claims.client_version.is_empty() {
                    true => hello.client_version,
                    false => claims.client_version.clone(),
                };
                if client_version.len() > MAX_VERSION {
                    let why = format!("more than {MAX_VERSION} bytes");
                    return Err(self.refuse_login(&TicketError::BadClaim { claim: "client_version", why }, now));
                }
                Ok(Checked::Login(CheckedLogin { claims, client_version }))
            }
            ("", ticket) if !ticket.is_empty() => {
                let claims = self.resume_keys.open(ticket, now).and_then(|claims| {
                    match self.login_keys.is_player_revoked(&claims.player, now) {
                        true => Err(TicketError::Revoked),
                        false => Ok(claims),
                    }
                });
                let claims = claims.map_err(|error| self.refuse_resume(&error))?;
                if claims.realm != *realm {
                    let error = TicketError::WrongRealm { ticket: claims.realm, asked: realm.clone() };
                    return Err(self.refuse_resume(&error));
                }
                Ok(Checked::Resume(VerifiedHello::Resume {
                    session: claims.session,
                    who: Who { player: claims.player, character: claims.character },
                    epoch: claims.epoch,
                    received_frames: hello.received_frames,
                    sent_frames: hello.sent_frames,
                    client_version: hello.client_version,
                }))
            }
            _ => Err(HelloRefused::Malformed),
        }
    }

    /// Takes the login's ticket in this gateway's memory: no other login here gets it, until
    /// [`Self::give_ticket_back`] of the connection that was admitted with it.
    pub(crate) fn take(&mut self, login: &CheckedLogin, now: Timestamp) -> Result<(), HelloRefused> {
        match self.used.take(login.claims.id, login.claims.expires, now) {
            Ok(()) => Ok(()),
            Err(NotTaken::Used) => Err(self.refuse_used()),
            Err(NotTaken::Full) => {
                let message = "too many logins".to_owned();
                Err(HelloRefused::Say { reason: "unavailable", message, retry_after_ms: RETRY_MS })
            }
        }
    }

    /// The connection brought this login's ticket, which is taken.
    pub(crate) fn admit(&mut self, conn: u32, login: CheckedLogin) -> VerifiedHello {
        let CheckedLogin { claims, client_version } = login;
        self.player(conn).ticket = Some(claims.id);
        VerifiedHello::Login {
            session: SessionId(Uuid::now_v7()),
            who: Who { player: claims.player, character: claims.character },
            party: claims.party,
            client_version,
        }
    }

    /// The shared directory is asked about this connection's ticket.
    pub(crate) fn ask_for(&mut self, conn: u32, token: u64, ticket: Uuid) {
        let player = self.player(conn);
        player.asking = Some(token);
        player.ticket = Some(ticket);
    }

    /// The shared directory has answered: true if the connection that asked is still there.
    pub(crate) fn asked(&mut self, conn: u32, token: u64) -> bool {
        let player = self.player(conn);
        let current = player.asking == Some(token);
        if current {
            player.asking = None;
        }
        current
    }

    /// What a player is told whose ticket was used before, here or elsewhere.
    pub(crate) fn refuse_used(&mut self) -> HelloRefused {
        self.refused.used += 1;
        let message = "a login ticket is good for one login; get a new one".to_owned();
        HelloRefused::Say { reason: "ticket_used", message, retry_after_ms: 0 }
    }

    /// The player learns what helps; the log and the counters learn why.
    fn refuse_login(&mut self, error: &TicketError, now: Timestamp) -> HelloRefused {
        *self.refused.login.entry(error.label()).or_default() += 1;
        tracing::debug!(%error, "login ticket refused");
        let retry_after_ms = match error {
            TicketError::NotYet { at } => u32::try_from(at.since(now).as_millis()).unwrap_or(u32::MAX),
            _ => 0,
        };
        HelloRefused::Say { reason: error.reason(), message: error.message().to_owned(), retry_after_ms }
    }

    /// Whatever is wrong with a resume ticket, a login is what helps.
    fn refuse_resume(&mut self, error: &TicketError) -> HelloRefused {
        *self.refused.resume.entry(error.label()).or_default() += 1;
        tracing::debug!(%error, "resume ticket refused");
        let (reason, message) = match error {
            TicketError::WrongRealm { .. } => (error.reason(), "the session is in another realm"),
            _ => ("resume_unknown", "the session is not known here; log in"),
        };
        HelloRefused::Say { reason, message: message.to_owned(), retry_after_ms: 0 }
    }

    /// Seals the resume ticket for where a player is.
    pub(crate) fn seal(&self, realm: &RealmId, at: &Whereabouts, now: Timestamp) -> String {
        let claims = ResumeClaims {
            session: at.session,
            realm: realm.clone(),
            player: at.who.player.clone(),
            character: at.who.character.clone(),
            epoch: Epoch(at.epoch.0),
            expires: now + RESUME_LIFETIME,
        };
        self.resume_keys.seal(&claims, now)
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
    pub(crate) fn give_ticket_back(&mut self, conn: u32) -> Option<Uuid> {
        let ticket = self.player(conn).ticket.take()?;
        self.used.give_back(ticket);
        Some(ticket)
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

    /// Counts frames that have arrived at the player's home. True: their `Ack` is due now.
    pub(crate) fn received(&mut self, conn: u32, frames: u32, now: Instant) -> bool {
        let player = &mut self.by_conn[conn as usize];
        if player.unacknowledged == 0 && frames > 0 {
            self.acks.push_back((now + ACK_DELAY, conn));
        }
        player.unacknowledged += frames;
        player.unacknowledged >= ACK_FRAMES
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
    use tidegate_ticket::{LoginKey, Revocation, Rules, Subject};
    use tidegate_types::{CharacterId, PlayerId};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn realm() -> RealmId {
        RealmId::new("eu-1").unwrap()
    }

    struct Setup {
        folder: tempfile::TempDir,
        login: LoginKey,
        ring: KeyRing,
        resume: ResumeKeys,
        players: Players,
    }

    fn setup() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let login = LoginKey::generate().unwrap();
        login.public().save(&folder.path().join("login.pub")).unwrap();
        let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
        let resume = ResumeKeys::open_or_create(&folder.path().join("resume.key")).unwrap();
        let players = Players::new(ring.clone(), resume.clone(), 1_000);
        Setup { folder, login, ring, resume, players }
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

    fn resuming(resume: &ResumeKeys, realm: RealmId) -> v1::Hello {
        let claims = ResumeClaims {
            session: SessionId(Uuid::from_u128(1)),
            realm,
            player: PlayerId::new("p1").unwrap(),
            character: CharacterId::new("c1").unwrap(),
            epoch: Epoch(1),
            expires: NOW + Duration::from_secs(1),
        };
        v1::Hello { resume_ticket: resume.seal(&claims, NOW), ..Default::default() }
    }

    #[test]
    fn a_login_ticket_is_good_once_unless_it_let_nobody_in() {
        let Setup { login: key, mut players, .. } = setup();
        let ticket = ticket(&key);
        assert!(matches!(players.verify(0, login(&ticket), &realm(), NOW), Ok(VerifiedHello::Login { .. })));
        assert_eq!(reason(players.verify(1, login(&ticket), &realm(), NOW)), "ticket_used");
        players.give_ticket_back(0);
        assert!(players.verify(1, login(&ticket), &realm(), NOW).is_ok());
        players.welcomed(1);
        players.give_ticket_back(1);
        assert_eq!(reason(players.verify(2, login(&ticket), &realm(), NOW)), "ticket_used");
        assert_eq!(players.refused.used, 2);
    }

    #[test]
    fn a_ticket_is_checked_without_being_taken() {
        let Setup { login: key, mut players, .. } = setup();
        let hello = login(&ticket(&key));
        for _ in 0..2 {
            assert!(matches!(players.check(hello.clone(), &realm(), NOW), Ok(Checked::Login(_))));
        }
        let Ok(Checked::Login(login)) = players.check(hello.clone(), &realm(), NOW) else { panic!("refused") };
        assert_eq!(players.take(&login, NOW), Ok(()));
        assert!(matches!(players.check(hello.clone(), &realm(), NOW), Ok(Checked::Login(_))));
        assert!(matches!(players.take(&login, NOW), Err(HelloRefused::Say { reason: "ticket_used", .. })));
        players.admit(7, login);
        players.give_ticket_back(7);
        assert!(players.verify(8, hello, &realm(), NOW).is_ok());
    }

    #[test]
    fn every_refusal_has_its_word_and_is_counted_by_its_cause() {
        let Setup { login: key, resume, mut players, .. } = setup();
        let us = RealmId::new("us-1").unwrap();
        assert_eq!(reason(players.verify(0, login(&ticket(&key)), &us, NOW)), "wrong_realm");
        assert_eq!(reason(players.verify(0, login("garbage"), &realm(), NOW)), "ticket_invalid");
        let stranger = LoginKey::generate().unwrap();
        assert_eq!(reason(players.verify(0, login(&ticket(&stranger)), &realm(), NOW)), "ticket_invalid");
        let late = NOW + Duration::from_secs(61);
        assert_eq!(reason(players.verify(0, login(&ticket(&key)), &realm(), late)), "ticket_expired");
        let garbage = v1::Hello { resume_ticket: "garbage".into(), ..Default::default() };
        assert_eq!(reason(players.verify(0, garbage, &realm(), NOW)), "resume_unknown");
        assert_eq!(reason(players.verify(0, resuming(&resume, us), &realm(), NOW)), "wrong_realm");
        assert_eq!(players.verify(0, v1::Hello::default(), &realm(), NOW), Err(HelloRefused::Malformed));
        let both = v1::Hello { resume_ticket: "x".into(), ..login("x") };
        assert_eq!(players.verify(0, both, &realm(), NOW), Err(HelloRefused::Malformed));
        let long = v1::Hello { client_version: "9".repeat(MAX_VERSION + 1), ..login(&ticket(&key)) };
        assert_eq!(players.verify(0, long, &realm(), NOW), Err(HelloRefused::Malformed));
        let counted = [("expired", 1), ("malformed", 1), ("unknown_key", 1), ("wrong_realm", 1)];
        assert_eq!(players.refused.login, BTreeMap::from(counted));
        assert_eq!(players.refused.resume, BTreeMap::from([("malformed", 1), ("wrong_realm", 1)]));
    }

    #[test]
    fn whoever_is_early_is_told_when_to_come_again_and_is_let_in_then() {
        let Setup { login: key, mut players, .. } = setup();
        let hello = login(&ticket(&key));
        let early = NOW - Duration::from_secs(10);
        let expected = HelloRefused::Say {
            reason: "ticket_not_yet",
            message: "the ticket is not valid yet; try again in a moment".into(),
            retry_after_ms: 10_000,
        };
        assert_eq!(players.verify(0, hello.clone(), &realm(), early), Err(expected));
        assert!(players.verify(0, hello, &realm(), NOW).is_ok());
    }

    #[test]
    fn a_revoked_player_neither_logs_in_nor_comes_back() {
        let Setup { folder, login: key, ring, resume, mut players } = setup();
        assert!(players.verify(0, resuming(&resume, realm()), &realm(), NOW).is_ok());
        let subject = Subject::Player(PlayerId::new("p1").unwrap());
        tidegate_ticket::revoke(folder.path(), &Revocation { subject, not_after: None, note: String::new() }).unwrap();
        assert!(ring.reload());
        assert_eq!(reason(players.verify(0, login(&ticket(&key)), &realm(), NOW)), "ticket_invalid");
        assert_eq!(reason(players.verify(0, resuming(&resume, realm()), &realm(), NOW)), "resume_unknown");
    }

    #[test]
    fn acknowledgements_come_after_32_frames_or_a_while() {
        let Setup { mut players, .. } = setup();
        players.enter(3, 0);
        let start = Instant::now();
        for _ in 1..ACK_FRAMES {
            assert!(!players.received(3, 1, start));
        }
        assert!(players.received(3, 1, start));
        players.acknowledged(3);
        assert_eq!(players.ack_due(start + ACK_DELAY), None, "it has got its Ack");
        assert!(!players.received(3, 1, start));
        assert_eq!(players.ack_due(start), None);
        assert_eq!(players.ack_due(start + ACK_DELAY), Some(3));
        assert_eq!(players.next_ack(), None);
    }
}
