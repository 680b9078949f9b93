//! Rules to break on purpose, to see that the tests notice: the words of the environment variable `TIDEGATE_SABOTAGE`,
//! separated by commas. Release builds know none.

use std::sync::OnceLock;

/// The environment variable.
pub const VARIABLE: &str = "TIDEGATE_SABOTAGE";

/// True if this rule is to be broken by this process. Always false in release builds.
#[must_use]
pub fn on(word: &str) -> bool {
    cfg!(debug_assertions) && words().iter().any(|known| known == word)
}

/// The rules that this process breaks, for it to say so when it starts.
#[must_use]
pub fn words() -> &'static [String] {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    WORDS.get_or_init(|| {
        if !cfg!(debug_assertions) {
            return Vec::new();
        }
        let value = std::env::var(VARIABLE).unwrap_or_default();
        value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    })
}
