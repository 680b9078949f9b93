//! Ties a process to another one's life: with `TIDEGATE_GUARD_PID` set, this process exits when that one is gone.
//!
//! The demo and the tests start processes that must not outlive them, even after a kill -9. A pidfd notices at once and
//! cannot be fooled by a reused number.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::exit::Failure;

/// The variable that names the guard.
pub(crate) const VARIABLE: &str = "TIDEGATE_GUARD_PID";

/// Starts watching, if the variable is set.
pub(crate) fn start() -> Result<(), Failure> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let pid = text
        .to_str()
        .and_then(|t| t.parse().ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| Failure::usage(format!("{VARIABLE} is {text:?}, which is not a process id")))?;
    let Ok(guard) = pidfd_open(pid, PidfdFlags::empty()) else {
        // It is gone already.
        std::process::exit(0);
    };
    std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
        loop {
            match poll(&mut [PollFd::new(&guard, PollFlags::IN)], None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => std::process::exit(0),
            }
        }
    })?;
    Ok(())
}
