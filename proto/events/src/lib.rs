//! What a process saw, one JSON line per event, for whoever judges a run afterwards.
//!
//! Off unless the environment variable `TIDEGATE_EVENTS` names a file, or a folder in which each process makes a file of
//! its own. A line is one `write` to a file opened for appending: what the process has said survives `kill -9`, but for a
//! line that was half written. The writer knows nothing of what the events mean.
//!
//! ```
//! tidegate_events::start("gw-1");
//! tidegate_events::event!("takeover", player = "ann", epoch = 7, server = %"w-3");
//! ```

mod line;
mod log;
mod read;

pub use line::Line;
pub use log::Log;
pub use read::{Record, Unreadable, read, read_folder};

use std::sync::OnceLock;

/// The environment variable: a file that is appended to, or a folder that exists already.
pub const VARIABLE: &str = "TIDEGATE_EVENTS";

static LOG: OnceLock<Option<Log>> = OnceLock::new();

/// Names this process and opens its log, if [`VARIABLE`] asks for one. The first call counts. A log that cannot be opened
/// is said on stderr once and then does not exist: it must not keep a process from its work.
pub fn start(process: &str) {
    LOG.get_or_init(|| {
        let place = std::env::var_os(VARIABLE).filter(|place| !place.is_empty())?;
        match Log::open(place.as_ref(), process) {
            Ok(log) => Some(log),
            Err(error) => {
                eprintln!("events of {process} are not written: {}: {error}", place.display());
                None
            }
        }
    });
}

/// True if events are written: [`event!`] asks before it looks at its fields.
#[must_use]
pub fn on() -> bool {
    log().is_some()
}

/// The log of this process, if it has one.
#[must_use]
pub fn log() -> Option<&'static Log> {
    LOG.get().and_then(Option::as_ref)
}

/// Writes one event: its name, then fields `key = value` (anything that serde can serialise) or `key = %value` (as text,
/// by `Display`). Fields are not evaluated while events are off. The keys `at_us`, `process` and `event` are taken.
#[macro_export]
macro_rules! event {
    ($name:expr $(, $($fields:tt)*)?) => {
        if let Some(log) = $crate::log() {
            let mut line = log.line($name);
            $crate::fields!(line; $($($fields)*)?);
            log.write(line);
        }
    };
}

/// The fields of [`event!`].
#[doc(hidden)]
#[macro_export]
macro_rules! fields {
    ($line:ident; $(,)?) => {};
    ($line:ident; $key:ident = % $value:expr $(, $($rest:tt)*)?) => {
        $line.text(stringify!($key), &$value);
        $crate::fields!($line; $($($rest)*)?);
    };
    ($line:ident; $key:ident = $value:expr $(, $($rest:tt)*)?) => {
        $line.field(stringify!($key), &$value);
        $crate::fields!($line; $($($rest)*)?);
    };
}
