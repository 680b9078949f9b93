//! Where a value came from.

use std::fmt;

use serde::{Serialize, Serializer};

/// The source of a key's value; later ones win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A line of the file.
    File {
        /// The file, as it was named.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    /// Puts the source before a text that begins with the key.
    pub(crate) fn parts(&self, text: &str) -> (String, String) {
        match self {
            Self::Default => ("defaults".to_owned(), text.to_owned()),
            Self::File { path, line } => (path.clone(), format!("line {line}: {text}")),
            Self::Variable(name) | Self::Flag(name) => (name.clone(), text.to_owned()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}, line {line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
