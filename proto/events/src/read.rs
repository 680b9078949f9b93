//! Events read back, in the order of time.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One event that some process wrote.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// When, in microseconds of CLOCK_BOOTTIME.
    pub at_us: u64,
    /// Who.
    pub process: String,
    /// What.
    pub event: String,
    /// Everything else that was said.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Record {
    /// A field that is text; empty when it is not there.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that is a whole number; `None` when it is not there.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key).and_then(Value::as_u64)
    }

    /// A field that is true; false when it is not there.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.fields.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// A file of a folder cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub cause: std::io::Error,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "read {}", self.path.display())
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// The events of a text, as they stand in it, and how many lines were torn (a process died while it wrote).
#[must_use]
pub fn read(text: &str) -> (Vec<Record>, usize) {
    let (mut records, mut torn) = (Vec::new(), 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) => torn += 1,
        }
    }
    (records, torn)
}

/// The events of all `*.jsonl` files of a folder in the order of time, and how many lines were torn.
///
/// # Errors
/// [`Unreadable`] names the file.
pub fn read_folder(folder: &Path) -> Result<(Vec<Record>, usize), Unreadable> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |cause| Unreadable { path, cause }
    };
    let (mut records, mut torn) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            // A torn line may end in the middle of a character.
            let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
            let (more, more_torn) = read(&String::from_utf8_lossy(&bytes));
            records.extend(more);
            torn += more_torn;
        }
    }
    records.sort_by_key(|record| record.at_us);
    Ok((records, torn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_kind() {
        let (records, torn) =
            read("{\"at_us\":5,\"process\":\"p\",\"event\":\"e\",\"n\":3,\"s\":\"x\",\"b\":true}\n\n{\"at_us\":");
        assert_eq!((records.len(), torn), (1, 1));
        let record = &records[0];
        assert_eq!((record.number("n"), record.text("s"), record.flag("b")), (Some(3), "x", true));
        assert_eq!((record.number("s"), record.text("n"), record.flag("n")), (None, "", false));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        assert!(read_folder(Path::new("nowhere")).unwrap_err().to_string().contains("nowhere"));
    }
}
