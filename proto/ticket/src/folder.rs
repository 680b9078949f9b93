//! The files of a ring, and what was last known good of each.
//!
//! Files are read whole at each look and compared, which needs no trust in time stamps and costs microseconds for the
//! handful there is. A file that cannot be understood keeps its last good content: a half-written file takes no key out of
//! use and no revocation back. A file counts as removed at the second look without it, because a listing that races with a
//! rename may miss a name once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::key_file::{MAX_KEY_FILE, Secrecy, io, read_text};
use crate::public_key::EXTENSIONS;
use crate::revoked::{MAX_LIST, Revoked, list_of};
use crate::{KeyError, REVOKED_FILE, RingKey};

/// Most key files of a ring: years of rotation.
const MAX_FILES: usize = 256;
/// Looks without a file after which it counts as removed.
const MISSING: u8 = 2;

/// A ring's files.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    keys: BTreeMap<PathBuf, Known<RingKey>>,
    list: Known<Revoked>,
    /// What is wrong with the folder as a whole.
    problem: Option<String>,
}

/// What is known of a file.
#[derive(Debug)]
struct Known<T> {
    /// What it said when it was last looked at.
    text: Option<String>,
    /// The last that could be understood.
    good: Option<T>,
    /// What it says since the last look, if that would take a revocation back.
    looser: Option<String>,
    /// Why the last look brought nothing.
    problem: Option<String>,
    missing: u8,
}

/// What a file may hold.
trait Content: Sized {
    fn parse(path: &Path, text: &str) -> Result<Self, KeyError>;

    /// What is in force until a second look agrees, if `self` in the place of `old` would take a revocation back; `None`:
    /// it would not. A list that is written in place looks shorter for a moment.
    fn meanwhile(&self, old: &Self) -> Option<Self>;
}

impl Content for RingKey {
    fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        Self::parse(path, text)
    }

    fn meanwhile(&self, old: &Self) -> Option<Self> {
        (old.revoked && !self.revoked).then(|| old.clone())
    }
}

impl Content for Revoked {
    fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        Self::parse(path, text)
    }

    fn meanwhile(&self, old: &Self) -> Option<Self> {
        let both = self.with(old);
        (both != *self).then_some(both)
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { text: None, good: None, looser: None, problem: None, missing: 0 }
    }
}

impl<T: Content> Known<T> {
    /// Takes in what a look brought. True: what is known good has changed.
    fn look(&mut self, path: &Path, read: Result<String, KeyError>) -> bool {
        self.missing = 0;
        let parsed = match read {
            Ok(text) if self.text.as_ref() == Some(&text) => return false,
            Ok(text) => {
                let parsed = T::parse(path, &text);
                self.text = Some(text);
                parsed
            }
            Err(error) => {
                self.text = None;
                Err(error)
            }
        };
        let seen_before = self.looser.take();
        match parsed {
            Ok(good) => {
                self.problem = None;
                let meanwhile = self.good.as_ref().and_then(|old| good.meanwhile(old));
                self.good = match meanwhile {
                    Some(meanwhile) if seen_before != self.text => {
                        // The next look reads it as if it were new.
                        self.looser = self.text.take();
                        Some(meanwhile)
                    }
                    _ => Some(good),
                };
                true
            }
            Err(error) => {
                note(&mut self.problem, describe(&error), self.good.is_some());
                false
            }
        }
    }
}

/// Remembers a problem, and logs it if it is another one than before.
fn note(known: &mut Option<String>, problem: String, keeps: bool) {
    if known.as_ref() == Some(&problem) {
        return;
    }
    if keeps {
        tracing::warn!(problem, "ticket keys: what was known before stays in force");
    } else {
        tracing::warn!(problem, "ticket keys: the file is not used");
    }
    *known = Some(problem);
}

fn describe(error: &KeyError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Files {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), keys: BTreeMap::new(), list: Known::default(), problem: None }
    }

    /// Where the ring stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at every file. True: something has changed.
    pub(crate) fn look(&mut self) -> bool {
        let mut changed = self.look_at_list();
        let names = match list(&self.path) {
            Ok(names) => names,
            Err(error) => {
                note(&mut self.problem, describe(&error), true);
                return changed;
            }
        };
        for name in &names {
            let read = read_text(name, MAX_KEY_FILE, Secrecy::Public);
            // It has gone since it was listed.
            if matches!(&read, Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
                && self.keys.contains_key(name)
            {
                continue;
            }
            changed |= self.keys.entry(name.clone()).or_default().look(name, read);
        }
        // A ring that loses its last key lets nobody in: that is a mistake, never a way to revoke.
        let stays = |known: &Known<RingKey>| known.good.is_some();
        if !self.keys.iter().any(|(path, known)| stays(known) && names.contains(path)) && self.keys.values().any(stays)
        {
            note(&mut self.problem, format!("{}: no key is left in it", self.path.display()), true);
            return changed;
        }
        self.problem = None;
        self.keys.retain(|path, known| {
            known.missing = if names.contains(path) { 0 } else { known.missing + 1 };
            changed |= known.missing == MISSING && known.good.is_some();
            known.missing < MISSING
        });
        changed
    }

    fn look_at_list(&mut self) -> bool {
        let path = list_of(&self.path);
        match read_text(&path, MAX_LIST, Secrecy::Public) {
            Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.list.missing = self.list.missing.saturating_add(1);
                if self.list.missing != MISSING {
                    return false;
                }
                let had = self.list.good.take().is_some();
                self.list = Known { missing: MISSING, ..Known::default() };
                had
            }
            read => self.list.look(&path, read),
        }
    }

    /// Everything that is wrong now.
    pub(crate) fn problems(&self) -> Vec<String> {
        let files = self.keys.values().filter_map(|known| known.problem.clone());
        files.chain(self.list.problem.clone()).chain(self.problem.clone()).collect()
    }

    /// The keys, in the order of their files' names.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RingKey> {
        self.keys.values().filter_map(|known| known.good.as_ref())
    }

    pub(crate) fn revoked(&self) -> Revoked {
        self.list.good.clone().unwrap_or_default()
    }
}

/// The key files at `path`: those of a folder, or the one that it is.
fn list(path: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let unreadable = |source| io(path, "read", source);
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known = file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if known && !name.starts_with('.') && name != REVOKED_FILE {
            names.push(file);
        }
    }
    if names.len() > MAX_FILES {
        return Err(KeyError::malformed(path, format!("more than {MAX_FILES} key files")));
    }
    names.sort();
    Ok(names)
}
