//! Resume tickets: sealed by a gateway, opened by any gateway that has the same key file, opaque to the client that
//! carries them.
//!
//! PASETO v4.local. Not single use: a client that loses the answer to a resume must be able to try again; what fences an
//! old connection off is the session itself (a newer connection replaces an older one, and a session that is over is
//! unknown).
//!
//! The key file has one line a key: `tidegate-resume-v4`, 64 hexadecimal digits, and optionally from when on it seals
//! (RFC 3339). Every key opens; the one whose time came last seals. A rotation adds a key whose time comes after every
//! gateway has read it, so that none seals what another cannot open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pasetors::keys::{Generate, SymmetricKey};
use pasetors::token::{Local, UntrustedToken};
use pasetors::version4::{LocalToken, V4};
use serde::{Deserialize, Serialize};
use tidegate_types::{CharacterId, Epoch, PlayerId, RealmId, SessionId, Timestamp};

use crate::key_file::{self, MAX_KEY_FILE, Secrecy};
use crate::{KeyError, MAX_TICKET_BYTES, TicketError};

const KIND: &str = "tidegate-resume-v4";
/// Bound into every seal, so that the same key used for something else could not produce a resume ticket.
const PURPOSE: &[u8] = b"tidegate resume ticket 1";
/// Most keys in a file. Each is tried in turn on what is not genuine.
const MAX_KEYS: usize = 16;

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

/// The gateways' shared secrets. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ResumeKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    keys: ArcSwap<Vec<ResumeKey>>,
    /// What the file said last: the keys, or why it could not be understood.
    seen: Mutex<Result<String, String>>,
}

#[derive(Debug, Clone)]
struct ResumeKey {
    key: SymmetricKey<V4>,
    /// From when on it seals.
    seals: Timestamp,
}

impl ResumeKeys {
    /// Reads the key file, and makes it first if there is none: of several processes that start at once, the first wins.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it; one that others can read is refused.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyError> {
        if !path.exists() {
            key_file::write_if_absent(path, &line(&generate()?, None), Secrecy::Secret)?;
        }
        let text = key_file::read_text(path, MAX_KEY_FILE, Secrecy::Secret)?;
        let keys = parse(&text).map_err(|why| KeyError::malformed(path, why))?;
        let keys = ArcSwap::from_pointee(keys);
        Ok(Self(Arc::new(Inner { path: path.to_owned(), keys, seen: Mutex::new(Ok(text)) })))
    }

    /// Looks at the file and takes what has changed. True: something has. What cannot be understood changes nothing.
    pub fn reload(&self) -> bool {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = key_file::read_text(&self.0.path, MAX_KEY_FILE, Secrecy::Secret);
        let parsed = match read {
            Ok(text) if seen.as_ref() == Ok(&text) => return false,
            Ok(text) => parse(&text).map(|keys| (text, keys)).map_err(|why| KeyError::malformed(&self.0.path, why)),
            Err(error) => Err(error),
        };
        match parsed {
            Ok((text, keys)) => {
                tracing::info!(file = %self.0.path.display(), keys = keys.len(), "resume keys changed");
                self.0.keys.store(Arc::new(keys));
                *seen = Ok(text);
                true
            }
            Err(error) => {
                let problem = error.to_string();
                if seen.as_ref() != Err(&problem) {
                    tracing::warn!(problem, "resume keys: what was known before stays in force");
                    *seen = Err(problem);
                }
                false
            }
        }
    }

    /// Seals a ticket with the key whose time came last.
    ///
    /// # Panics
    /// If the system gives no randomness for the nonce; the same system gave some for the TLS handshake before it.
    #[must_use]
    pub fn seal(&self, claims: &ResumeClaims, now: Timestamp) -> String {
        let json = serde_json::to_vec(claims).expect("claims of texts and numbers encode");
        let keys = self.0.keys.load();
        // Before any time has come (a clock that went back), the first in the file.
        let due = keys.iter().filter(|key| key.seals <= now).max_by_key(|key| key.seals);
        let sealing = due.or(keys.first()).expect("a file without a key is refused");
        LocalToken::encrypt(&sealing.key, &json, None, Some(PURPOSE)).expect("the system gives randomness")
    }

    /// Opens a ticket: genuine and in time.
    ///
    /// # Errors
    /// [`TicketError`] says why not.
    pub fn open(&self, ticket: &str, now: Timestamp) -> Result<ResumeClaims, TicketError> {
        if ticket.len() > MAX_TICKET_BYTES {
            return Err(TicketError::TooLong);
        }
        // We seal without a footer, so that there is one spelling of a ticket.
        if ticket.matches('.').count() != 2 {
            return Err(TicketError::Malformed);
        }
        let token = UntrustedToken::<Local, V4>::try_from(ticket).map_err(|_| TicketError::Malformed)?;
        let keys = self.0.keys.load();
        let opened = keys.iter().find_map(|key| LocalToken::decrypt(&key.key, &token, None, Some(PURPOSE)).ok());
        let trusted = opened.ok_or(TicketError::BadSignature)?;
        let claims: ResumeClaims = serde_json::from_str(trusted.payload())
            .map_err(|e| TicketError::BadClaim { claim: "payload", why: e.to_string() })?;
        if claims.expires <= now {
            return Err(TicketError::Expired { at: claims.expires });
        }
        Ok(claims)
    }

    /// Adds a fresh key to the file at `path`, which seals `after` from `now` on: as long as it takes until every gateway
    /// has the file. Keys that were replaced more than `keep` ago are taken out: no ticket that they sealed lives any
    /// more. Returns from when on the new key seals.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it.
    pub fn rotate(path: &Path, after: Duration, keep: Duration, now: Timestamp) -> Result<Timestamp, KeyError> {
        let text = key_file::read_text(path, MAX_KEY_FILE, Secrecy::Secret)?;
        let mut keys = parse(&text).map_err(|why| KeyError::malformed(path, why))?;
        keys.sort_by_key(|key| key.seals);
        // The last key whose successor took over before that sealed nothing that still lives.
        let over = keys.windows(2).filter(|pair| pair[1].seals + keep <= now).count();
        keys.drain(..over);
        if keys.len() == MAX_KEYS {
            return Err(KeyError::malformed(path, format!("has {MAX_KEYS} keys already that may have sealed tickets")));
        }
        let seals = now + after;
        keys.push(ResumeKey { key: generate()?, seals });
        let text: String = keys.iter().map(|key| line(&key.key, Some(key.seals))).collect();
        key_file::write(path, &text, Secrecy::Secret)?;
        Ok(seals)
    }
}

fn generate() -> Result<SymmetricKey<V4>, KeyError> {
    SymmetricKey::<V4>::generate().map_err(|_| KeyError::Generate)
}

fn line(key: &SymmetricKey<V4>, seals: Option<Timestamp>) -> String {
    let line = key_file::line(KIND, key.as_bytes());
    match seals.filter(|at| at.0 > 0).and_then(|at| jiff::Timestamp::from_millisecond(at.0).ok()) {
        Some(at) => format!("{line} {at}\n"),
        None => line + "\n",
    }
}

fn parse(text: &str) -> Result<Vec<ResumeKey>, String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
    if lines.is_empty() || lines.len() > MAX_KEYS {
        return Err(format!("has {} keys, must have 1 to {MAX_KEYS}", lines.len()));
    }
    let key = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (key, seals) = match words[..] {
            [kind, digits] => (format!("{kind} {digits}"), Timestamp(0)),
            [kind, digits, at] => {
                let at = at.parse::<jiff::Timestamp>().map_err(|_| format!("{at} is not a moment"))?;
                (format!("{kind} {digits}"), Timestamp(at.as_millisecond()))
            }
            _ => return Err("a line is not a key".to_owned()),
        };
        let bytes = key_file::parse_line(&key, KIND, 32)?;
        let key = SymmetricKey::<V4>::from(&bytes).map_err(|_| "not a key of 32 bytes")?;
        Ok(ResumeKey { key, seals })
    };
    lines.iter().map(key).collect()
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

    fn fresh() -> (tempfile::TempDir, PathBuf, ResumeKeys) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resume.key");
        let keys = ResumeKeys::open_or_create(&path).unwrap();
        (dir, path, keys)
    }

    #[test]
    fn what_is_sealed_is_opened_until_it_ends() {
        let (_dir, _, keys) = fresh();
        let ticket = keys.seal(&claims(), Timestamp(0));
        assert_eq!(keys.open(&ticket, Timestamp(999)), Ok(claims()));
        assert_eq!(keys.open(&ticket, Timestamp(1_000)), Err(TicketError::Expired { at: Timestamp(1_000) }));
    }

    #[test]
    fn another_key_another_purpose_and_sealed_nonsense_are_refused() {
        let (_dir, _, keys) = fresh();
        let (_other_dir, _, other) = fresh();
        let sealed = keys.seal(&claims(), Timestamp(0));
        assert_eq!(other.open(&sealed, Timestamp(0)), Err(TicketError::BadSignature));
        let key = keys.0.keys.load()[0].key.clone();
        let json = serde_json::to_vec(&claims()).unwrap();
        let elsewhere = LocalToken::encrypt(&key, &json, None, Some(b"something else")).unwrap();
        assert_eq!(keys.open(&elsewhere, Timestamp(0)), Err(TicketError::BadSignature));
        let nonsense = LocalToken::encrypt(&key, b"{}", None, Some(PURPOSE)).unwrap();
        assert!(matches!(keys.open(&nonsense, Timestamp(0)), Err(TicketError::BadClaim { .. })));
        assert_eq!(keys.open(&"v".repeat(MAX_TICKET_BYTES + 1), Timestamp(0)), Err(TicketError::TooLong));
    }

    #[test]
    fn the_key_is_made_once_shared_and_its_owners_alone() {
        let (dir, path, first) = fresh();
        let second = ResumeKeys::open_or_create(&path).unwrap();
        assert_eq!(second.open(&first.seal(&claims(), Timestamp(0)), Timestamp(0)), Ok(claims()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let permissions = std::fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let refused = ResumeKeys::open_or_create(&path).unwrap_err();
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn what_is_not_a_key_file_is_refused_at_the_start_and_ignored_later() {
        let (_dir, path, keys) = fresh();
        for text in ["", "tidegate-resume-v4 12", "tidegate-resume-v4", "something", "# only a remark"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(ResumeKeys::open_or_create(&path), Err(KeyError::Malformed { .. })), "{text}");
            assert!(!keys.reload());
        }
        assert_eq!(keys.open(&keys.seal(&claims(), Timestamp(0)), Timestamp(0)), Ok(claims()));
    }

    #[test]
    fn a_rotation_never_seals_what_another_gateway_cannot_open() {
        let (_dir, path, early) = fresh();
        let late = ResumeKeys::open_or_create(&path).unwrap();
        let (after, keep) = (Duration::from_secs(10), Duration::from_secs(600));
        let now = Timestamp(1_700_000_000_000);
        let mut claims = claims();
        claims.expires = now + Duration::from_secs(3_600);
        let old = early.seal(&claims, now);

        let seals = ResumeKeys::rotate(&path, after, keep, now).unwrap();
        assert!(early.reload());
        // One has read it, the other has not: both still seal with the old key.
        assert!(late.open(&early.seal(&claims, now), now).is_ok());
        assert!(late.reload() && !late.reload());
        // The time has come: the new key seals, the old one still opens.
        let new = early.seal(&claims, seals);
        assert!(late.open(&new, seals).is_ok() && late.open(&old, seals).is_ok());
        assert_eq!(early.0.keys.load().len(), 2);

        // Long after, the next rotation takes the first key out; its tickets are over.
        let later = seals + keep;
        ResumeKeys::rotate(&path, after, keep, later).unwrap();
        assert!(late.reload());
        assert_eq!(late.0.keys.load().len(), 2);
        assert!(late.open(&new, later).is_ok());
        assert_eq!(late.open(&old, later), Err(TicketError::BadSignature));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_ticket_changed_anywhere_is_refused(position in any::<prop::sample::Index>(), to in "[A-Za-z0-9._-]{0,2}") {
            let (_dir, _, keys) = fresh();
            let ticket = keys.seal(&claims(), Timestamp(0));
            let mut changed = ticket.clone();
            let at = position.index(ticket.len());
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != ticket);
            prop_assert!(keys.open(&changed, Timestamp(0)).is_err());
            prop_assert!(keys.open(&(ticket + &to), Timestamp(0)).is_ok() == to.is_empty());
        }
    }
}
