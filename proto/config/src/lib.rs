//! How a process is told what to do: defaults < TOML file < environment variables < flags.
//!
//! A configuration is declared once with [`settings!`]: every key with its type, its default and the reason for it. From
//! that come the struct, its `Default`, and what [`Loaded::explain`] tells an operator. [`Layers`] reads the sources. An
//! unknown key is an error, and every error is one line that names the source and the key.
//!
//! Refuses to know what the keys mean: a process checks its own values in [`Settings::check`].

mod declare;
mod error;
mod explain;
mod file;
mod layers;
mod origin;
mod text;

pub use declare::{Described, Key};
pub use error::{ConfigError, Problem};
pub use explain::Explained;
pub use layers::{Layers, Loaded};
pub use origin::Origin;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A process's whole configuration.
pub trait Settings: Described + Default + Serialize + DeserializeOwned {
    /// What its environment variables begin with, for example `TIDEGATE_GATEWAY_`. A nested key has two underscores:
    /// `TIDEGATE_GATEWAY_LIMITS__CONNECTIONS`. Every variable with this beginning must be a key.
    const PREFIX: &'static str;

    /// Checks what a type cannot say.
    ///
    /// # Errors
    /// The first key with a value that cannot be used, and why.
    fn check(&self) -> Result<(), Problem>;
}

/// The environment variable of a key.
#[must_use]
pub fn variable<C: Settings>(key: &str) -> String {
    format!("{}{}", C::PREFIX, key.replace('.', "__").to_ascii_uppercase())
}

/// The closest of `known` to what was typed, if it is close.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// `; did you mean "…"?`, or nothing.
fn hint<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(typed, known).map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_named() {
        assert_eq!(did_you_mean("env-blu", ["env-blue", "env-green"]), Some("env-blue"));
        assert_eq!(did_you_mean("xyz", ["env-blue"]), None);
    }
}
