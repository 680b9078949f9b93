//! Login tickets: minted by the login service, checked by gateways.
//!
//! PASETO v4.public, registered claims as the standard has them (`jti`, `iat`, `exp` in RFC 3339, `aud` the realm, `sub`
//! the player), ours beside them (`character`, `party`, `client_version`, `cohorts`). Any PASETO library can mint one.

use std::path::Path;
use std::time::Duration;

use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate};
use pasetors::token::{Public, UntrustedToken};
use pasetors::version4::{PublicToken, V4};
use serde::{Deserialize, Serialize};
use tidegate_types::{CharacterId, InvalidId, PartyId, PlayerId, RealmId, Timestamp};
use uuid::Uuid;

use crate::key_file::{self, Secrecy};
use crate::{KeyError, TicketError};

const SECRET_KIND: &str = "tidegate-login-secret-v4";
const PUBLIC_KIND: &str = "tidegate-login-public-v4";

/// Longest ticket that is looked at, in bytes: room for every claim at its longest and 64 cohorts.
pub const MAX_TICKET_BYTES: usize = 8 * 1024;
/// Longest life of a ticket. Gateways remember used tickets until they expire; this bounds how many.
pub const MAX_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How far the login service's clock may be ahead of a gateway's.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);
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

/// The claims as they stand in the token.
#[derive(Serialize, Deserialize)]
struct Payload {
    jti: String,
    aud: String,
    sub: String,
    iat: String,
    exp: String,
    character: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    party: Option<String>,
    #[serde(default)]
    client_version: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cohorts: Vec<String>,
}

/// The login service's secret key: mints tickets.
#[derive(Debug, Clone)]
pub struct LoginKey {
    secret: AsymmetricSecretKey<V4>,
    public: LoginPublicKey,
}

/// The login service's public key: checks tickets.
#[derive(Debug, Clone)]
pub struct LoginPublicKey(AsymmetricPublicKey<V4>);

impl LoginKey {
    /// A new key pair.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| KeyError::Generate)?;
        Ok(Self { secret: pair.secret, public: LoginPublicKey(pair.public) })
    }

    /// Reads a secret key file.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed { path: path.to_owned(), why: "not an Ed25519 key pair" };
        let bytes = key_file::read(path, SECRET_KIND, 64)?;
        let secret = AsymmetricSecretKey::<V4>::from(&bytes).map_err(malformed)?;
        let public = AsymmetricPublicKey::<V4>::try_from(&secret).map_err(malformed)?;
        Ok(Self { secret, public: LoginPublicKey(public) })
    }

    /// Writes the secret key file, readable by its owner alone, in one step.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        key_file::write(path, SECRET_KIND, self.secret.as_bytes(), Secrecy::Secret)
    }

    /// The key that checks what this one mints.
    #[must_use]
    pub fn public(&self) -> &LoginPublicKey {
        &self.public
    }

    /// Signs a ticket. It mints what it is told: whether the claims make sense is for [`LoginPublicKey::check`].
    ///
    /// # Panics
    /// Never: a JSON object of texts always encodes, and a key that was loaded or made always signs.
    #[must_use]
    pub fn mint(&self, claims: &LoginClaims) -> String {
        let payload = Payload {
            jti: claims.id.to_string(),
            aud: claims.realm.to_string(),
            sub: claims.player.to_string(),
            iat: rfc3339(claims.issued),
            exp: rfc3339(claims.expires),
            character: claims.character.to_string(),
            party: claims.party.as_ref().map(ToString::to_string),
            client_version: claims.client_version.clone(),
            cohorts: claims.cohorts.clone(),
        };
        let json = serde_json::to_vec(&payload).expect("an object of texts encodes");
        PublicToken::sign(&self.secret, &json, None, None).expect("a valid key signs a payload that is not empty")
    }
}

impl LoginPublicKey {
    /// Reads a public key file.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bytes = key_file::read(path, PUBLIC_KIND, 32)?;
        AsymmetricPublicKey::<V4>::from(&bytes)
            .map(Self)
            .map_err(|_| KeyError::Malformed { path: path.to_owned(), why: "not an Ed25519 public key" })
    }

    /// Writes the public key file in one step.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        key_file::write(path, PUBLIC_KIND, self.0.as_bytes(), Secrecy::Public)
    }

    /// Checks a ticket: genuine, complete, for this realm, in time. Whether it was used before is the caller's to know
    /// (by [`LoginClaims::id`], until [`LoginClaims::expires`]).
    ///
    /// # Errors
    /// [`TicketError`] says why not.
    pub fn check(&self, ticket: &str, realm: &RealmId, now: Timestamp) -> Result<LoginClaims, TicketError> {
        if ticket.len() > MAX_TICKET_BYTES {
            return Err(TicketError::Malformed);
        }
        let token = UntrustedToken::<Public, V4>::try_from(ticket).map_err(|_| TicketError::Malformed)?;
        let trusted = PublicToken::verify(&self.0, &token, None, None).map_err(|_| TicketError::BadSignature)?;
        let payload: Payload = serde_json::from_str(trusted.payload())
            .map_err(|e| TicketError::BadClaim { claim: "payload", why: e.to_string() })?;
        let claims = payload.into_claims()?;
        if claims.expires <= now {
            return Err(TicketError::Expired { at: claims.expires });
        }
        if claims.issued > now + CLOCK_SKEW {
            return Err(TicketError::NotYet { at: claims.issued });
        }
        if claims.expires > claims.issued + MAX_LIFETIME {
            return Err(TicketError::TooLongLived);
        }
        if claims.realm != *realm {
            return Err(TicketError::WrongRealm { ticket: claims.realm, asked: realm.clone() });
        }
        Ok(claims)
    }
}

impl Payload {
    fn into_claims(self) -> Result<LoginClaims, TicketError> {
        if self.cohorts.len() > MAX_COHORTS {
            return Err(TicketError::BadClaim { claim: "cohorts", why: format!("more than {MAX_COHORTS}") });
        }
        Ok(LoginClaims {
            id: self.jti.parse().map_err(|e| bad("jti", &e))?,
            realm: id("aud", &self.aud)?,
            player: id("sub", &self.sub)?,
            character: id("character", &self.character)?,
            party: self.party.as_deref().filter(|p| !p.is_empty()).map(|p| id("party", p)).transpose()?,
            client_version: self.client_version,
            issued: timestamp("iat", &self.iat)?,
            expires: timestamp("exp", &self.exp)?,
            cohorts: self.cohorts,
        })
    }
}

fn id<T: std::str::FromStr<Err = InvalidId>>(claim: &'static str, text: &str) -> Result<T, TicketError> {
    text.parse().map_err(|e: InvalidId| bad(claim, &e))
}

fn bad(claim: &'static str, why: &dyn std::fmt::Display) -> TicketError {
    TicketError::BadClaim { claim, why: why.to_string() }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn timestamp(claim: &'static str, text: &str) -> Result<Timestamp, TicketError> {
    text.parse::<jiff::Timestamp>().map(|t| Timestamp(t.as_millisecond())).map_err(|e| bad(claim, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_123);

    fn claims() -> LoginClaims {
        LoginClaims {
            id: Uuid::from_u128(7),
            realm: RealmId::new("eu-1").unwrap(),
            player: PlayerId::new("p1").unwrap(),
            character: CharacterId::new("c1").unwrap(),
            party: Some(PartyId::new("them").unwrap()),
            client_version: "2.0.0".into(),
            issued: NOW,
            expires: NOW + Duration::from_secs(60),
            cohorts: vec!["early".into()],
        }
    }

    fn check(change: impl FnOnce(&mut LoginClaims), at: Timestamp) -> Result<LoginClaims, TicketError> {
        let key = LoginKey::generate().unwrap();
        let mut claims = claims();
        change(&mut claims);
        key.public().check(&key.mint(&claims), &RealmId::new("eu-1").unwrap(), at)
    }

    #[test]
    fn a_ticket_says_what_was_minted() {
        assert_eq!(check(|_| (), NOW), Ok(claims()));
        let mut alone = claims();
        (alone.party, alone.cohorts) = (None, vec![]);
        assert_eq!(check(|c| (c.party, c.cohorts) = (None, vec![]), NOW), Ok(alone));
    }

    #[test]
    fn a_ticket_ends() {
        let end = claims().expires;
        assert!(check(|_| (), end - Duration::from_millis(1)).is_ok());
        assert_eq!(check(|_| (), end), Err(TicketError::Expired { at: end }));
        assert_eq!(TicketError::Expired { at: end }.reason(), "ticket_expired");
    }

    #[test]
    fn a_ticket_from_the_future_is_refused_beyond_clock_skew() {
        assert!(check(|_| (), NOW - CLOCK_SKEW).is_ok());
        let early = NOW - CLOCK_SKEW - Duration::from_millis(1);
        assert_eq!(check(|_| (), early), Err(TicketError::NotYet { at: NOW }));
    }

    #[test]
    fn a_ticket_may_not_live_long() {
        let longer = |c: &mut LoginClaims| c.expires = NOW + MAX_LIFETIME + Duration::from_millis(1);
        assert_eq!(check(longer, NOW), Err(TicketError::TooLongLived));
        assert!(check(|c| c.expires = NOW + MAX_LIFETIME, NOW).is_ok());
    }

    #[test]
    fn another_realm_is_refused() {
        let us = RealmId::new("us-1").unwrap();
        let refused = check(|c| c.realm = us.clone(), NOW).unwrap_err();
        assert_eq!(refused, TicketError::WrongRealm { ticket: us, asked: RealmId::new("eu-1").unwrap() });
        assert_eq!(refused.reason(), "wrong_realm");
    }

    #[test]
    fn another_key_is_refused() {
        let ticket = LoginKey::generate().unwrap().mint(&claims());
        let other = LoginKey::generate().unwrap();
        let refused = other.public().check(&ticket, &claims().realm, NOW).unwrap_err();
        assert_eq!((refused.reason(), refused), ("ticket_invalid", TicketError::BadSignature));
    }

    #[test]
    fn what_is_signed_but_senseless_is_refused_by_claim() {
        let key = LoginKey::generate().unwrap();
        for (json, claim) in [
            (r#"{"jti":"x"}"#, "payload"),
            (r#"{"jti":"x","aud":"eu-1","sub":"p","iat":"now","exp":"now","character":"c"}"#, "jti"),
            (
                r#"{"jti":"00000000-0000-0000-0000-000000000007","aud":"eu-1","sub":"a b","iat":"now","exp":"now","character":"c"}"#,
                "sub",
            ),
            (
                r#"{"jti":"00000000-0000-0000-0000-000000000007","aud":"eu-1","sub":"p","iat":"now","exp":"now","character":"c"}"#,
                "iat",
            ),
        ] {
            let ticket = PublicToken::sign(&key.secret, json.as_bytes(), None, None).unwrap();
            match key.public().check(&ticket, &claims().realm, NOW) {
                Err(TicketError::BadClaim { claim: named, .. }) => assert_eq!(named, claim),
                other => panic!("{json}: {other:?}"),
            }
        }
    }

    #[test]
    fn too_many_cohorts_are_refused() {
        let refused = check(|c| c.cohorts = vec!["x".into(); MAX_COHORTS + 1], NOW);
        assert!(matches!(refused, Err(TicketError::BadClaim { claim: "cohorts", .. })), "{refused:?}");
    }

    #[test]
    fn keys_survive_their_files_and_are_not_mixed_up() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = (dir.path().join("login.key"), dir.path().join("login.pub"));
        let key = LoginKey::generate().unwrap();
        key.save(&secret).unwrap();
        key.public().save(&public).unwrap();
        let ticket = LoginKey::load(&secret).unwrap().mint(&claims());
        assert!(LoginPublicKey::load(&public).unwrap().check(&ticket, &claims().realm, NOW).is_ok());
        assert!(matches!(LoginPublicKey::load(&secret), Err(KeyError::Malformed { .. })));
        assert!(matches!(LoginKey::load(&public), Err(KeyError::Malformed { .. })));
        assert!(matches!(LoginKey::load(&dir.path().join("none")), Err(KeyError::Io { .. })));
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&secret).unwrap().permissions());
            assert_eq!(mode & 0o077, 0, "others can read the secret key");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_ticket_changed_anywhere_is_refused(position in any::<prop::sample::Index>(), to in "[A-Za-z0-9._-]") {
            let key = LoginKey::generate().unwrap();
            let ticket = key.mint(&claims());
            let mut changed = ticket.clone();
            let at = position.index(ticket.len());
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != ticket);
            prop_assert!(key.public().check(&changed, &claims().realm, NOW).is_err());
        }

        #[test]
        fn garbage_is_refused(text in ".{0,200}") {
            let key = LoginKey::generate().unwrap();
            prop_assert!(key.public().check(&text, &claims().realm, NOW).is_err());
        }
    }
}
