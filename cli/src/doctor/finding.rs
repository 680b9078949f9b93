//! What a check says: how bad, what was looked at, what was found, and what to do.

use serde_json::{Value, json};
use tidegate_directory::check;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and is worth a look.
    Warn,
    /// It is in the way.
    Fail,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) name: String,
    pub(super) what: String,
    /// What to do; empty if nothing.
    pub(super) fix: String,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    pub(super) fn ok(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, name: name.into(), what: what.into(), fix: String::new() }
    }

    pub(super) fn warn(name: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, name: name.into(), what: what.into(), fix: fix.into() }
    }

    pub(super) fn fail(name: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, name: name.into(), what: what.into(), fix: fix.into() }
    }

    /// Ok, or a failure with this to do.
    pub(super) fn ok_if(fine: bool, name: &str, what: String, fix: &str) -> Self {
        if fine { Self::ok(name, what) } else { Self::fail(name, what, fix) }
    }

    pub(super) fn text(&self) -> String {
        let mark = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        let fix = if self.fix.is_empty() { String::new() } else { format!("\n     {}", self.fix) };
        format!("{mark} {:22} {}{fix}", self.name, self.what)
    }

    /// `ok` is false for what counts as bad, as the exit code does: a warning is no failure.
    pub(super) fn value(&self) -> Value {
        let fix = (!self.fix.is_empty()).then_some(&self.fix);
        let ok = self.level != Level::Fail;
        json!({ "ok": ok, "level": self.level.word(), "name": self.name, "what": self.what, "fix": fix })
    }
}

impl From<check::Finding> for Finding {
    fn from(seen: check::Finding) -> Self {
        let level = match seen.level {
            check::Level::Ok => Level::Ok,
            check::Level::Warn => Level::Warn,
            check::Level::Fail => Level::Fail,
        };
        Self { level, name: format!("directory {}", seen.what), what: seen.why, fix: seen.what_to_do }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_with_what_to_do_and_is_not_bad() {
        let finding = Finding::warn("open files", "few", "raise it");
        insta::assert_snapshot!(finding.text(), @r"
        WARN open files             few
             raise it
        ");
        assert_eq!(finding.value()["ok"], true);
        assert_eq!(finding.value()["level"], "warn");
        let fine = Finding::ok("open files", "many");
        assert_eq!((fine.text().lines().count(), fine.value()["fix"].is_null()), (1, true));
        assert_eq!(Finding::fail("a", "b", "c").value()["ok"], false);
    }
}
