//! What a run left behind.

use std::path::{Path, PathBuf};

use tidegate_events::{Record, Unreadable, read_folder};

use super::homes::Homes;

/// What a run left behind: everybody's events in the order of time, and the realm database's books.
#[derive(Debug, Default)]
pub struct Evidence {
    /// In the order of time.
    pub events: Vec<Record>,
    /// Lines that a killed process did not finish.
    pub torn_lines: u64,
    /// Who was live where, and what was written.
    pub homes: Homes,
}

/// What a run left behind cannot be read.
#[derive(Debug)]
pub enum EvidenceError {
    /// A file of events.
    Events(Unreadable),
    /// A realm database.
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: rusqlite::Error,
    },
}

impl std::fmt::Display for EvidenceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Events(unreadable) => unreadable.fmt(f),
            Self::Database { path, .. } => write!(f, "read the realm database {}", path.display()),
        }
    }
}

impl std::error::Error for EvidenceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Events(unreadable) => unreadable.source(),
            Self::Database { cause, .. } => Some(cause),
        }
    }
}

impl Evidence {
    /// Reads a folder of events and the realm's database.
    ///
    /// # Errors
    /// [`EvidenceError`] names the file.
    pub fn read(events: &Path, database: &Path) -> Result<Self, EvidenceError> {
        let (events, torn) = read_folder(events).map_err(EvidenceError::Events)?;
        let homes =
            Homes::read(database).map_err(|cause| EvidenceError::Database { path: database.to_owned(), cause })?;
        Ok(Self { events, torn_lines: torn as u64, homes })
    }

    /// The events of one name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Record> + Clone {
        self.events.iter().filter(move |record| record.event == name)
    }

    /// The events of some names.
    pub fn any<'a>(&'a self, names: &'a [&'a str]) -> impl DoubleEndedIterator<Item = &'a Record> {
        self.events.iter().filter(move |record| names.contains(&record.event.as_str()))
    }

    /// When the schedule began to be taken back for good: what comes later is the quiet end.
    #[must_use]
    pub fn healed_at(&self) -> u64 {
        self.of("healed").next_back().map_or(u64::MAX, |healed| healed.at_us)
    }
}

/// For tests: evidence told line by line.
#[cfg(test)]
pub(super) mod told {
    use super::*;

    /// Evidence from events written as `at_us process event key=value …`; values are JSON, or words.
    pub(crate) fn evidence(lines: &[&str]) -> Evidence {
        let mut events: Vec<Record> = lines.iter().map(|line| record(line)).collect();
        events.sort_by_key(|record| record.at_us);
        Evidence { events, ..Evidence::default() }
    }

    fn record(line: &str) -> Record {
        let mut words = line.split_whitespace();
        let at_us = words.next().unwrap().parse().unwrap();
        let (process, event) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let fields = words
            .map(|word| {
                let (key, value) = word.split_once('=').unwrap();
                (key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()))
            })
            .collect();
        Record { at_us, process, event, fields }
    }
}
