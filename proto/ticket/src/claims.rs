//! What a login ticket says, and what makes sense.
//!
//! The names are those of the standards (`jti`, `iat`, `nbf`, `exp`, `aud` the realm, `sub` the player), ours stand beside
//! them (`character`, `party`, `client_version`, `cohorts`). PASETO writes times as RFC 3339 text, JWT as seconds since
//! 1970; a ticket of one kind with the times of the other is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_types::{CharacterId, InvalidId, PartyId, PlayerId, RealmId, Timestamp};
use uuid::Uuid;

use crate::{Format, TicketError};

/// Longest ticket that is looked at, in bytes: every claim at its longest and 64 cohorts fit, and a client cannot make a
/// gateway decode and verify more than that.
pub const MAX_TICKET_BYTES: usize = 4 * 1024;
/// Most cohorts a ticket may name.
const MAX_COHORTS: usize = 64;

/// What a login ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginClaims {
    /// Names this ticket (`jti`); it is good for one login.
    pub id: Uuid,
    /// The realm it is for.
    pub realm: RealmId,
    /// The account.
    pub player: PlayerId,
    /// The character that enters the world.
    pub character: CharacterId,
    /// The party they are in, if any.
    pub party: Option<PartyId>,
    /// The client's version (semver).
    pub client_version: String,
    /// When it was minted.
    pub issued: Timestamp,
    /// When it ends; about a minute later.
    pub expires: Timestamp,
    /// Canary cohorts the player may be put in.
    pub cohorts: Vec<String>,
}

/// How long tickets may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Longest life of a ticket, `exp` minus `iat`. Used tickets are remembered until they expire; this bounds how many,
    /// and how long a stolen one is worth anything.
    pub max_lifetime: Duration,
    /// How far the login service's clock may be ahead of a gateway's, for `iat` and `nbf`. `exp` needs none: a login
    /// service whose clock is behind only mints tickets that live that much shorter.
    pub clock_skew: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_lifetime: Duration::from_secs(120), clock_skew: Duration::from_secs(2) }
    }
}

/// The claims as they stand in the token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payload {
    jti: String,
    aud: Audience,
    sub: String,
    iat: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Value>,
    exp: Value,
    character: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    party: Option<String>,
    #[serde(default)]
    client_version: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cohorts: Vec<String>,
}

/// JWT libraries write one audience as a text or as a list of one. A ticket for several realms could be used once in each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    Text(String),
    List([String; 1]),
}

/// Claims that were read, and from when they are good.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) claims: LoginClaims,
    starts: Timestamp,
}

impl Payload {
    pub(crate) fn new(claims: &LoginClaims, format: Format) -> Self {
        Self {
            jti: claims.id.to_string(),
            aud: Audience::Text(claims.realm.to_string()),
            sub: claims.player.to_string(),
            iat: format.write_time(claims.issued),
            nbf: None,
            exp: format.write_time(claims.expires),
            character: claims.character.to_string(),
            party: claims.party.as_ref().map(ToString::to_string),
            client_version: claims.client_version.clone(),
            cohorts: claims.cohorts.clone(),
        }
    }

    pub(crate) fn read(self, format: Format) -> Result<Read, TicketError> {
        if self.cohorts.len() > MAX_COHORTS {
            return Err(TicketError::BadClaim { claim: "cohorts", why: format!("more than {MAX_COHORTS}") });
        }
        let (Audience::Text(realm) | Audience::List([realm])) = &self.aud;
        let issued = format.read_time("iat", &self.iat)?;
        let not_before = self.nbf.map(|nbf| format.read_time("nbf", &nbf)).transpose()?;
        let claims = LoginClaims {
            id: self.jti.parse().map_err(|e| bad("jti", &e))?,
            realm: id("aud", realm)?,
            player: id("sub", &self.sub)?,
            character: id("character", &self.character)?,
            party: self.party.as_deref().filter(|p| !p.is_empty()).map(|p| id("party", p)).transpose()?,
            client_version: self.client_version,
            issued,
            expires: format.read_time("exp", &self.exp)?,
            cohorts: self.cohorts,
        };
        Ok(Read { claims, starts: not_before.map_or(issued, |at| at.max(issued)) })
    }
}

impl Read {
    /// Whether they let their bearer into the realm now.
    pub(crate) fn check(&self, rules: &Rules, realm: &RealmId, now: Timestamp) -> Result<(), TicketError> {
        let LoginClaims { issued, expires, realm: ticket, .. } = &self.claims;
        if *expires <= now {
            return Err(TicketError::Expired { at: *expires });
        }
        if *expires > *issued + rules.max_lifetime {
            return Err(TicketError::TooLongLived);
        }
        if ticket != realm {
            return Err(TicketError::WrongRealm { ticket: ticket.clone(), asked: realm.clone() });
        }
        // Last: whoever is told to wait is let in afterwards.
        if self.starts > now + rules.clock_skew {
            return Err(TicketError::NotYet { at: self.starts });
        }
        Ok(())
    }
}

impl Format {
    fn write_time(self, at: Timestamp) -> Value {
        match self {
            Self::Paseto => jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX).to_string().into(),
            Self::Jwt if at.0 % 1_000 == 0 => (at.0 / 1_000).into(),
            Self::Jwt => (at.0 as f64 / 1_000.0).into(),
        }
    }

    fn read_time(self, claim: &'static str, value: &Value) -> Result<Timestamp, TicketError> {
        match (self, value) {
            (Self::Paseto, Value::String(text)) => text
                .parse::<jiff::Timestamp>()
                .map(|t| Timestamp(t.as_millisecond()))
                .map_err(|e| TicketError::BadClaim { claim, why: e.to_string() }),
            (Self::Jwt, Value::Number(seconds)) => {
                let seconds = seconds.as_f64().filter(|s| (0.0..=253_402_300_799.0).contains(s));
                let why = || "not a number of seconds between 1970 and 9999".to_owned();
                let seconds = seconds.ok_or_else(|| TicketError::BadClaim { claim, why: why() })?;
                // To the nearest millisecond, so that what was written as a fraction is read as it was.
                Ok(Timestamp((seconds * 1_000.0).round() as i64))
            }
            (Self::Paseto, _) => Err(TicketError::BadClaim { claim, why: "not a text in RFC 3339".into() }),
            (Self::Jwt, _) => Err(TicketError::BadClaim { claim, why: "not a number".into() }),
        }
    }
}

fn id<T: std::str::FromStr<Err = InvalidId>>(claim: &'static str, text: &str) -> Result<T, TicketError> {
    text.parse().map_err(|e: InvalidId| bad(claim, &e))
}

fn bad(claim: &'static str, why: &dyn std::fmt::Display) -> TicketError {
    TicketError::BadClaim { claim, why: why.to_string() }
}
