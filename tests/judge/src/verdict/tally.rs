//! Counting: so many were looked at, so many broke the rule.

use serde::Serialize;

/// Examples kept of each check: enough to begin looking.
const EXAMPLES: usize = 5;

/// One check of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The number of the rule; 0: none of them, but no run may have it either.
    pub rule: u8,
    /// What must not be, in a few words.
    pub name: &'static str,
    /// How often it was.
    pub violations: u64,
    /// Of how many.
    pub of: u64,
    /// The first few, for a person.
    pub examples: Vec<String>,
}

impl Check {
    /// Nothing looked at yet.
    #[must_use]
    pub const fn new(rule: u8, name: &'static str) -> Self {
        Self { rule, name, violations: 0, of: 0, examples: Vec::new() }
    }

    /// One more was looked at; `broken` is why it breaks the rule, if it does.
    pub fn look(&mut self, broken: Option<String>) {
        self.of += 1;
        if let Some(why) = broken {
            self.add(1, || why);
        }
    }

    /// So many break it at once.
    pub fn add(&mut self, violations: u64, why: impl FnOnce() -> String) {
        self.violations += violations;
        if violations > 0 && self.examples.len() < EXAMPLES {
            self.examples.push(why());
        }
    }
}
