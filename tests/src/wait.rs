//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// No condition of a healthy system takes longer, even on a busy machine; only a broken test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is looked at.
pub const LOOK: Duration = Duration::from_millis(50);

/// Asks until the answer is there.
///
/// # Panics
/// When there is none after [`PATIENCE`]; `what` says what was waited for.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(LOOK);
    }
}
