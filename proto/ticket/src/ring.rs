//! The key ring: every key that may sign login tickets, by name, and what is revoked.
//!
//! ```text
//!   folder --look every 250 ms--> Keys (immutable) --swap--> check(): no lock, no file, no waiting
//! ```
//!
//! A ticket names its key (`kid`): a PASETO in its footer, as PASERK id or `{"kid": …}`, a JWT in its header. A ticket that
//! names none is accepted only while exactly one key in use signs tickets of its format, which is the case of somebody who
//! tries things out with one key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tidegate_types::{PlayerId, RealmId, Timestamp};

use crate::folder::Files;
use crate::revoked::Revoked;
use crate::token::Unverified;
use crate::{Algorithm, Format, KeyError, LoginClaims, LoginPublicKey, RingKey, Rules, Standing, TicketError};

/// Checks login tickets. Cheap to clone; all clones are one ring.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    keys: ArcSwap<Keys>,
    /// `None`: the keys were given and stand in no file.
    files: Option<Mutex<Files>>,
}

/// The ring at one moment.
#[derive(Debug, Default)]
struct Keys {
    keys: Vec<RingKey>,
    /// By kid and by PASERK id.
    by_name: HashMap<String, usize>,
    revoked: Revoked,
    problems: Vec<String>,
}

/// What a ticket says, and what a ring says to it.
#[derive(Debug)]
pub struct Inspection {
    /// Its format, if it has one.
    pub format: Option<Format>,
    /// The key that it names.
    pub kid: Option<String>,
    /// What it claims; only what a key of the ring has signed.
    pub claims: Option<LoginClaims>,
    /// Whether it lets its bearer in.
    pub verdict: Result<(), TicketError>,
}

impl KeyRing {
    /// Opens the ring at `path`: a folder of key files, or one key file. [`crate::Watcher`] keeps it up to date.
    ///
    /// # Errors
    /// [`KeyError`]: at the start every file must be right, and there must be a key.
    pub fn open(path: &Path, rules: Rules) -> Result<Self, KeyError> {
        let ring = Self::open_lenient(path, rules)?;
        match ring.problems().into_iter().next() {
            // It names its file itself.
            Some(problem) => Err(KeyError::Malformed { path: path.to_owned(), why: problem }),
            None if ring.keys().is_empty() => Err(KeyError::malformed(path, "there is no key file in it")),
            None => Ok(ring),
        }
    }

    /// As [`Self::open`], but with what is right, also if that is nothing; [`Self::problems`] tells the rest.
    ///
    /// # Errors
    /// [`KeyError::Io`]: there is nothing at `path`.
    pub fn open_lenient(path: &Path, rules: Rules) -> Result<Self, KeyError> {
        std::fs::metadata(path).map_err(|e| crate::key_file::io(path, "read", e))?;
        let mut files = Files::new(path);
        files.look();
        let keys = ArcSwap::from_pointee(Keys::of(&files));
        Ok(Self(Arc::new(Inner { rules, keys, files: Some(Mutex::new(files)) })))
    }

    /// A ring of given keys that never changes, for tickets of both formats.
    #[must_use]
    pub fn fixed<'a>(keys: impl IntoIterator<Item = &'a LoginPublicKey>, rules: Rules) -> Self {
        let keys = keys.into_iter().map(|key| RingKey::new(key, key.id(), Path::new(""), Algorithm::Both));
        let mut fixed = Keys::default();
        keys.for_each(|key| fixed.add(key));
        Self(Arc::new(Inner { rules, keys: ArcSwap::from_pointee(fixed), files: None }))
    }

    /// Looks at the files and takes what has changed. True: something has. Reads files; not for the serving thread.
    pub fn reload(&self) -> bool {
        let Some(files) = &self.0.files else { return false };
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.look() {
            return false;
        }
        let keys = Keys::of(&files);
        tracing::info!(ring = %files.path().display(), keys = keys.keys.len(), revoked = keys.revoked.len(),
            "ticket keys changed");
        self.0.keys.store(Arc::new(keys));
        true
    }

    /// Checks a ticket: genuine, complete, for this realm, in time, not revoked. Whether it was used before is the
    /// caller's to know (by [`LoginClaims::id`], until [`LoginClaims::expires`]). Takes no lock and reads no file.
    ///
    /// # Errors
    /// [`TicketError`] says why not.
    pub fn check(&self, ticket: &str, realm: &RealmId, now: Timestamp) -> Result<LoginClaims, TicketError> {
        let keys = self.0.keys.load();
        let ticket = Unverified::parse(ticket)?;
        let read = ticket.verify(keys.select(&ticket, now)?)?;
        read.check(&self.0.rules, realm, now)?;
        keys.check_revoked(&read.claims, now)?;
        Ok(read.claims)
    }

    /// As [`Self::check`], but tells all that can be told. `realm` unset: the ticket's own.
    #[must_use]
    pub fn inspect(&self, ticket: &str, realm: Option<&RealmId>, now: Timestamp) -> Inspection {
        let keys = self.0.keys.load();
        let mut told = Inspection { format: None, kid: None, claims: None, verdict: Ok(()) };
        told.verdict = (|| {
            let ticket = Unverified::parse(ticket)?;
            (told.format, told.kid) = (Some(ticket.format), ticket.kid.clone());
            let read = match keys.select(&ticket, now) {
                Ok(key) => ticket.verify(key)?,
                Err(why) => {
                    // Revoked or not in use: it can still be said what the key has signed.
                    let named = ticket.kid.as_ref().and_then(|kid| keys.named(kid));
                    told.claims = named.and_then(|key| ticket.verify(key).ok()).map(|read| read.claims);
                    return Err(why);
                }
            };
            told.claims = Some(read.claims.clone());
            read.check(&self.0.rules, realm.unwrap_or(&read.claims.realm), now)?;
            keys.check_revoked(&read.claims, now)
        })();
        told
    }

    /// Whether all tickets of this player are revoked now.
    #[must_use]
    pub fn is_player_revoked(&self, player: &PlayerId, now: Timestamp) -> bool {
        self.0.keys.load().revoked.player(player, now)
    }

    /// Every key, in the order of the files' names.
    #[must_use]
    pub fn keys(&self) -> Vec<RingKey> {
        self.0.keys.load().keys.clone()
    }

    /// How the key with this kid or PASERK id stands; `None`: it is not in the ring.
    #[must_use]
    pub fn standing(&self, name: &str, now: Timestamp) -> Option<Standing> {
        let keys = self.0.keys.load();
        keys.named(name).map(|key| keys.standing(key, now))
    }

    /// What is wrong with the files now, one line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.0.keys.load().problems.clone()
    }

    /// Where the ring stands, if it stands in files.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let files = self.0.files.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(files.path().to_owned())
    }
}

impl Keys {
    fn of(files: &Files) -> Self {
        let mut keys = Self { revoked: files.revoked(), problems: files.problems(), ..Self::default() };
        for key in files.keys() {
            keys.add(key.clone());
        }
        keys
    }

    /// Adds a key, unless its name or the key itself is there already: under a second name it would outlive its
    /// revocation.
    fn add(&mut self, key: RingKey) {
        let taken = self.by_name.get(&key.id).or_else(|| self.by_name.get(&key.kid));
        if let Some(&taken) = taken {
            let (file, other) = (key.file.display(), self.keys[taken].file.display());
            let problem = format!("{file}: this key, or its kid \"{}\", is in {other} already", key.kid);
            tracing::warn!(problem, "ticket keys: the file is not used");
            self.problems.push(problem);
            return;
        }
        for name in [&key.kid, &key.id] {
            self.by_name.insert(name.clone(), self.keys.len());
        }
        self.keys.push(key);
    }

    fn named(&self, name: &str) -> Option<&RingKey> {
        self.by_name.get(name).map(|&index| &self.keys[index])
    }

    fn standing(&self, key: &RingKey, now: Timestamp) -> Standing {
        if self.revoked.key(&key.kid, now) || self.revoked.key(&key.id, now) {
            return Standing::Revoked;
        }
        key.standing(now)
    }

    /// The key that may have signed the ticket.
    fn select(&self, ticket: &Unverified<'_>, now: Timestamp) -> Result<&RingKey, TicketError> {
        let Some(kid) = &ticket.kid else {
            let could =
                |key: &&RingKey| key.algorithm.allows(ticket.format) && self.standing(key, now) == Standing::InUse;
            let candidates: Vec<&RingKey> = self.keys.iter().filter(could).collect();
            return match candidates[..] {
                [key] => Ok(key),
                _ => Err(TicketError::NoKeyNamed { candidates: candidates.len() }),
            };
        };
        let kid = kid.clone();
        let Some(key) = self.named(&kid) else { return Err(TicketError::UnknownKey { kid }) };
        match self.standing(key, now) {
            Standing::InUse => Ok(key),
            Standing::Revoked => Err(TicketError::KeyRevoked { kid }),
            Standing::NotYet | Standing::Over => Err(TicketError::KeyNotInUse { kid }),
        }
    }

    fn check_revoked(&self, claims: &LoginClaims, now: Timestamp) -> Result<(), TicketError> {
        match self.revoked.ticket(&claims.id, now) || self.revoked.player(&claims.player, now) {
            true => Err(TicketError::Revoked),
            false => Ok(()),
        }
    }
}
