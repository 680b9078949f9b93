//! What is wrong with a configuration.

/// One line that says which source and which key cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {problem}")]
pub struct ConfigError {
    /// The file, the variable, the flag, or "defaults".
    pub source_name: String,
    /// What is wrong, beginning with the line and the key where there are such.
    pub problem: String,
}

impl ConfigError {
    /// Keeps the promise of one line.
    pub(crate) fn new(source_name: impl Into<String>, problem: impl AsRef<str>) -> Self {
        Self { source_name: source_name.into(), problem: one_line(problem.as_ref()) }
    }
}

/// A value that a process cannot use, before it is known where the value came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// What is wrong with its value.
    pub why: String,
}

impl Problem {
    /// Names the key and what is wrong with it.
    #[must_use]
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
