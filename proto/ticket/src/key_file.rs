//! Keys in files: one line, a word that names the kind, then hexadecimal digits. The word keeps a secret key from being
//! deployed where the public one belongs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::KeyError;

/// Who may read a key file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    Secret,
}

/// Reads the key of this kind.
pub(crate) fn read(path: &Path, kind: &'static str, length: usize) -> Result<Vec<u8>, KeyError> {
    let text = fs::read_to_string(path).map_err(|source| io(path, "read", source))?;
    let malformed = |why| KeyError::Malformed { path: path.to_owned(), why };
    let mut words = text.split_whitespace();
    if words.next() != Some(kind) {
        return Err(malformed("not a key of the expected kind"));
    }
    let digits = words.next().unwrap_or_default();
    if digits.len() != length * 2 {
        return Err(malformed("the key has the wrong length"));
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| malformed("the key is not hexadecimal"))
}

/// Writes a new file beside `path`, syncs it and moves it into place, so that no reader ever sees half a key.
pub(crate) fn write(path: &Path, kind: &str, key: &[u8], secrecy: Secrecy) -> Result<(), KeyError> {
    let fresh = beside(path);
    write_new(&fresh, kind, key, secrecy)?;
    fs::rename(&fresh, path).map_err(|source| io(path, "write", source))
}

/// As [`write()`], but leaves an existing file alone: of several processes that start at once, the first wins.
pub(crate) fn write_if_absent(path: &Path, kind: &str, key: &[u8]) -> Result<(), KeyError> {
    let fresh = beside(path);
    write_new(&fresh, kind, key, Secrecy::Secret)?;
    let linked = fs::hard_link(&fresh, path);
    let removed = fs::remove_file(&fresh);
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(io(path, "write", e)),
        _ => removed.map_err(|source| io(path, "write", source)),
    }
}

fn write_new(fresh: &Path, kind: &str, key: &[u8], secrecy: Secrecy) -> Result<(), KeyError> {
    let mut line = format!("{kind} ");
    for byte in key {
        line.push_str(&format!("{byte:02x}"));
    }
    line.push('\n');
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secrecy == Secrecy::Secret { 0o600 } else { 0o644 });
    let mut file = options.open(fresh).map_err(|source| io(fresh, "write", source))?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(|source| io(fresh, "write", source))
}

fn beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}

fn io(path: &Path, action: &'static str, source: std::io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), action, source }
}
