//! Files of keys: written in one step, so that no reader ever sees half of one, and read with limits.
//!
//! Tidegate's own form of a key is one line, a word that names the kind and then hexadecimal digits. The word keeps a
//! secret key from being deployed where the public one belongs.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::KeyError;

/// Longest key file that is read, in bytes: every form of a key fits with its comments.
pub(crate) const MAX_KEY_FILE: u64 = 64 * 1024;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    Secret,
}

/// Reads a whole file of at most `limit` bytes. A secret one must be readable by its owner alone.
pub(crate) fn read_text(path: &Path, limit: u64, secrecy: Secrecy) -> Result<String, KeyError> {
    let unreadable = |source| io(path, "read", source);
    let file = File::open(path).map_err(unreadable)?;
    #[cfg(unix)]
    if secrecy == Secrecy::Secret {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().map_err(unreadable)?.permissions());
        if mode & 0o077 != 0 {
            let why = format!("others can read this secret key (mode {:o}); `chmod 600` it", mode & 0o777);
            return Err(KeyError::malformed(path, why));
        }
    }
    let mut text = String::new();
    // One byte more than allowed shows that there is too much.
    file.take(limit + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(KeyError::malformed(path, format!("longer than {limit} bytes")));
    }
    Ok(text)
}

/// Reads the one key of this kind.
pub(crate) fn read(path: &Path, kind: &str, length: usize, secrecy: Secrecy) -> Result<Vec<u8>, KeyError> {
    let text = read_text(path, MAX_KEY_FILE, secrecy)?;
    parse_line(&text, kind, length).map_err(|why| KeyError::malformed(path, why))
}

/// The key in a line `kind hexadecimal`.
pub(crate) fn parse_line(line: &str, kind: &str, length: usize) -> Result<Vec<u8>, &'static str> {
    let mut words = line.split_whitespace();
    if words.next() != Some(kind) {
        return Err("not a key of the expected kind");
    }
    let digits = words.next().unwrap_or_default();
    if digits.len() != length * 2 {
        return Err("the key has the wrong length");
    }
    if words.next().is_some() {
        return Err("more than a key");
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or("the key is not hexadecimal")
}

/// The line `kind hexadecimal`, without its end.
pub(crate) fn line(kind: &str, key: &[u8]) -> String {
    key.iter().fold(format!("{kind} "), |line, byte| line + &format!("{byte:02x}"))
}

/// Writes a new file beside `path`, syncs it and moves it into place. The folder is made if it is not there.
pub(crate) fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<(), KeyError> {
    let fresh = write_beside(path, text, secrecy)?;
    fs::rename(&fresh, path).map_err(|source| io(path, "write", source))?;
    sync_folder(path)
}

/// As [`write()`], but leaves an existing file alone and says false: of several processes that start at once, the first
/// wins.
pub(crate) fn write_if_absent(path: &Path, text: &str, secrecy: Secrecy) -> Result<bool, KeyError> {
    let fresh = write_beside(path, text, secrecy)?;
    let linked = fs::hard_link(&fresh, path);
    fs::remove_file(&fresh).map_err(|source| io(&fresh, "write", source))?;
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(io(path, "write", e)),
    }
}

fn write_beside(path: &Path, text: &str, secrecy: Secrecy) -> Result<PathBuf, KeyError> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // A name of our own: two writers of one file must not write into each other's.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{count}.new", std::process::id()));
    let fresh = PathBuf::from(name);
    let failed = |source| io(&fresh, "write", source);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secrecy == Secrecy::Secret { 0o600 } else { 0o644 });
    let mut file = options.open(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(fresh)
}

/// Makes a rename last through a loss of power.
fn sync_folder(path: &Path) -> Result<(), KeyError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io(folder, "write", source))
}

pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), action, source }
}
