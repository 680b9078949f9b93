//! What is revoked before its time: keys, single tickets, players. One TOML file beside the keys:
//!
//! ```toml
//! [[revoked]]
//! key = "2026-11"                       # or: ticket = "<jti>", or: player = "<player id>"
//! not_after = "2026-12-01T00:00:00Z"    # unset: for good
//! note = "laptop stolen"                # for people
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::Hash;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_types::{PlayerId, Timestamp};
use uuid::Uuid;

use crate::KeyError;
use crate::key_file::{self, Secrecy, io};
use crate::public_key::moment;

/// The list's name. It stands in the ring's folder; of a ring of one file, in the folder of that file.
pub const REVOKED_FILE: &str = "revoked.toml";
/// Longest list, in bytes: some ten thousand entries.
pub(crate) const MAX_LIST: u64 = 1024 * 1024;

/// What can be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All tickets that a key signed, by kid or PASERK id.
    Key(String),
    /// One ticket, by its `jti`.
    Ticket(Uuid),
    /// All tickets of a player, resume tickets too.
    Player(PlayerId),
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub subject: Subject,
    /// Until when; `None`: for good.
    pub not_after: Option<Timestamp>,
    /// Why, for people; may be empty.
    pub note: String,
}

/// The list, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    keys: HashMap<String, Timestamp>,
    tickets: HashMap<Uuid, Timestamp>,
    players: HashMap<PlayerId, Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    #[serde(default)]
    revoked: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: Option<String>,
    ticket: Option<Uuid>,
    player: Option<PlayerId>,
    not_after: Option<toml::Value>,
    #[expect(dead_code, reason = "for people; listed here so that an unknown key is an error and this one is not")]
    note: Option<String>,
}

impl Revoked {
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        let malformed = |why: String| KeyError::malformed(path, why);
        let file: ListFile =
            toml::from_str(text).map_err(|e| malformed(e.message().lines().next().unwrap_or_default().to_owned()))?;
        let mut revoked = Self::default();
        for (number, entry) in (1..).zip(file.revoked) {
            let until = match &entry.not_after {
                Some(value) => moment(value).map_err(|why| malformed(format!("entry {number}: {why}")))?,
                None => Timestamp(i64::MAX),
            };
            match (entry.key, entry.ticket, entry.player) {
                (Some(key), None, None) => longest(&mut revoked.keys, key, until),
                (None, Some(ticket), None) => longest(&mut revoked.tickets, ticket, until),
                (None, None, Some(player)) => longest(&mut revoked.players, player, until),
                _ => return Err(malformed(format!("entry {number}: not exactly one of key, ticket and player"))),
            }
        }
        Ok(revoked)
    }

    pub(crate) fn key(&self, name: &str, now: Timestamp) -> bool {
        self.keys.get(name).is_some_and(|until| now < *until)
    }

    pub(crate) fn ticket(&self, id: &Uuid, now: Timestamp) -> bool {
        self.tickets.get(id).is_some_and(|until| now < *until)
    }

    pub(crate) fn player(&self, player: &PlayerId, now: Timestamp) -> bool {
        self.players.get(player).is_some_and(|until| now < *until)
    }

    /// What this list or the other one revokes.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        other.keys.iter().for_each(|(key, until)| longest(&mut both.keys, key.clone(), *until));
        other.tickets.iter().for_each(|(id, until)| longest(&mut both.tickets, *id, *until));
        other.players.iter().for_each(|(player, until)| longest(&mut both.players, player.clone(), *until));
        both
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.tickets.len() + self.players.len()
    }
}

/// Of several entries for one subject the longest counts.
fn longest<K: Eq + Hash>(entries: &mut HashMap<K, Timestamp>, key: K, until: Timestamp) {
    let known = entries.entry(key).or_insert(until);
    *known = until.max(*known);
}

/// Where the list of a ring stands.
pub(crate) fn list_of(ring: &Path) -> PathBuf {
    if ring.is_dir() { ring.join(REVOKED_FILE) } else { ring.with_file_name(REVOKED_FILE) }
}

/// Adds an entry to the list of the ring at `ring` (a folder, or a single key file), in one step; what stands there is
/// kept, and two who do this at once wait for each other. Returns the list's path.
///
/// # Errors
/// [`KeyError`] names the file; a list that cannot be understood is not touched.
pub fn revoke(ring: &Path, revocation: &Revocation) -> Result<PathBuf, KeyError> {
    let path = list_of(ring);
    let lock_path = path.with_extension("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(|e| io(&lock_path, "write", e))?;
    lock.lock().map_err(|e| io(&lock_path, "write", e))?;
    let mut text = match fs::exists(&path).map_err(|e| io(&path, "read", e))? {
        true => key_file::read_text(&path, MAX_LIST, Secrecy::Public)?,
        false => "# What is revoked before its time. `tidegate ticket revoke` adds to it.\n".to_owned(),
    };
    Revoked::parse(&path, &text)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let (name, value) = match &revocation.subject {
        Subject::Key(key) => ("key", key.clone()),
        Subject::Ticket(id) => ("ticket", id.to_string()),
        Subject::Player(player) => ("player", player.to_string()),
    };
    text.push_str(&format!("\n[[revoked]]\n{name} = {}\n", toml::Value::from(value)));
    if let Some(until) = revocation.not_after {
        let until = jiff::Timestamp::from_millisecond(until.0).unwrap_or(jiff::Timestamp::MAX);
        text.push_str(&format!("not_after = \"{until}\"\n"));
    }
    if !revocation.note.is_empty() {
        text.push_str(&format!("note = {}\n", toml::Value::from(revocation.note.as_str())));
    }
    // What is written must be what is meant, whatever stood there before.
    Revoked::parse(&path, &text)?;
    if text.len() as u64 > MAX_LIST {
        return Err(KeyError::malformed(&path, format!("would be longer than {MAX_LIST} bytes; take old entries out")));
    }
    key_file::write(&path, &text, Secrecy::Public)?;
    Ok(path)
}
