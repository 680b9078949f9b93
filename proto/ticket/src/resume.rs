//! Resume tickets: sealed by a gateway, opened by a gateway, opaque to the client that carries them.
//!
//! PASETO v4.local. Not single use: a client that loses the answer to a resume must be able to try again; what fences an
//! old connection off is the session itself (a newer connection replaces an older one).

use std::path::Path;

use pasetors::keys::{Generate, SymmetricKey};
use pasetors::token::{Local, UntrustedToken};
use pasetors::version4::{LocalToken, V4};
use serde::{Deserialize, Serialize};
use tidegate_types::{CharacterId, Epoch, PlayerId, RealmId, SessionId, Timestamp};

use crate::{KeyError, MAX_TICKET_BYTES, TicketError, key_file};

const KIND: &str = "tidegate-resume-v4";
/// Bound into every seal, so that the same key used for something else could not produce a resume ticket.
const PURPOSE: &[u8] = b"tidegate resume ticket 1";

/// What a resume ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeClaims {
    /// The session to come back to.
    pub session: SessionId,
    /// Its realm.
    pub realm: RealmId,
    /// Its player.
    pub player: PlayerId,
    /// Its character.
    pub character: CharacterId,
    /// The home's epoch when it was sealed. For records; the directory knows the current one.
    pub epoch: Epoch,
    /// When the ticket ends.
    pub expires: Timestamp,
}

/// The gateways' shared secret.
#[derive(Debug, Clone)]
pub struct ResumeKey(SymmetricKey<V4>);

impl ResumeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        SymmetricKey::<V4>::generate().map(Self).map_err(|_| KeyError::Generate)
    }

    /// Reads the key file, and makes it first if there is none.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        if !path.exists() {
            key_file::write_if_absent(path, KIND, Self::generate()?.0.as_bytes())?;
        }
        let bytes = key_file::read(path, KIND, 32)?;
        SymmetricKey::<V4>::from(&bytes)
            .map(Self)
            .map_err(|_| KeyError::Malformed { path: path.to_owned(), why: "not a key of 32 bytes" })
    }

    /// Seals a ticket.
    ///
    /// # Panics
    /// If the system gives no randomness for the nonce; the same system gave some for the TLS handshake before it.
    #[must_use]
    pub fn seal(&self, claims: &ResumeClaims) -> String {
        let json = serde_json::to_vec(claims).expect("claims of texts and numbers encode");
        LocalToken::encrypt(&self.0, &json, None, Some(PURPOSE)).expect("the system gives randomness")
    }

    /// Opens a ticket: genuine and in time.
    ///
    /// # Errors
    /// [`TicketError`] says why not.
    pub fn open(&self, ticket: &str, now: Timestamp) -> Result<ResumeClaims, TicketError> {
        if ticket.len() > MAX_TICKET_BYTES {
            return Err(TicketError::Malformed);
        }
        let token = UntrustedToken::<Local, V4>::try_from(ticket).map_err(|_| TicketError::Malformed)?;
        let trusted =
            LocalToken::decrypt(&self.0, &token, None, Some(PURPOSE)).map_err(|_| TicketError::BadSignature)?;
        let claims: ResumeClaims = serde_json::from_str(trusted.payload())
            .map_err(|e| TicketError::BadClaim { claim: "payload", why: e.to_string() })?;
        if claims.expires <= now {
            return Err(TicketError::Expired { at: claims.expires });
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn claims() -> ResumeClaims {
        ResumeClaims {
            session: SessionId(Uuid::from_u128(9)),
            realm: RealmId::new("eu-1").unwrap(),
            player: PlayerId::new("p1").unwrap(),
            character: CharacterId::new("c1").unwrap(),
            epoch: Epoch(4),
            expires: Timestamp(1_000),
        }
    }

    #[test]
    fn what_is_sealed_is_opened_until_it_ends() {
        let key = ResumeKey::generate().unwrap();
        let ticket = key.seal(&claims());
        assert_eq!(key.open(&ticket, Timestamp(999)), Ok(claims()));
        assert_eq!(key.open(&ticket, Timestamp(1_000)), Err(TicketError::Expired { at: Timestamp(1_000) }));
    }

    #[test]
    fn another_key_and_another_purpose_are_refused() {
        let key = ResumeKey::generate().unwrap();
        let other = ResumeKey::generate().unwrap();
        assert_eq!(other.open(&key.seal(&claims()), Timestamp(0)), Err(TicketError::BadSignature));
        let json = serde_json::to_vec(&claims()).unwrap();
        let elsewhere = LocalToken::encrypt(&key.0, &json, None, Some(b"something else")).unwrap();
        assert_eq!(key.open(&elsewhere, Timestamp(0)), Err(TicketError::BadSignature));
    }

    #[test]
    fn sealed_nonsense_is_refused() {
        let key = ResumeKey::generate().unwrap();
        let ticket = LocalToken::encrypt(&key.0, b"{}", None, Some(PURPOSE)).unwrap();
        assert!(matches!(key.open(&ticket, Timestamp(0)), Err(TicketError::BadClaim { .. })));
    }

    #[test]
    fn the_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resume.key");
        let first = ResumeKey::load_or_create(&path).unwrap();
        let second = ResumeKey::load_or_create(&path).unwrap();
        assert_eq!(second.open(&first.seal(&claims()), Timestamp(0)), Ok(claims()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        std::fs::write(&path, "tidegate-resume-v4 12").unwrap();
        assert!(matches!(ResumeKey::load_or_create(&path), Err(KeyError::Malformed { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_ticket_changed_anywhere_is_refused(position in any::<prop::sample::Index>(), to in "[A-Za-z0-9._-]") {
            let key = ResumeKey::generate().unwrap();
            let ticket = key.seal(&claims());
            let mut changed = ticket.clone();
            let at = position.index(ticket.len());
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != ticket);
            prop_assert!(key.open(&changed, Timestamp(0)).is_err());
        }
    }
}
