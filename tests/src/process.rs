//! One real process of the binary under test, killed when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// The binary under test, beside the test's own in the target folder.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // A test is target/<profile>/deps/<test>, a program target/<profile>/<program>.
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join("tidegate")).find(|binary| binary.exists());
    beside.unwrap_or_else(|| panic!("tidegate is not beside {}: cargo build --workspace", test.display()))
}

/// A command of the binary that ends with this test's process, whatever happens to it.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(binary());
    command.env("TIDEGATE_GUARD_PID", std::process::id().to_string()).env_remove("TIDEGATE_MANAGER");
    command
}

/// A running process.
pub struct Process {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Process {
    /// Starts it, its output appended to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(log: &Path, arguments: &[&str], variables: &[(String, String)]) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let child = command()
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("the binary starts");
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and wait until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True if it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// SIGTERM, and wait for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        self.child.wait().expect("it can be waited for")
    }

    /// Waits until it has written `file`, and reads it.
    ///
    /// # Panics
    /// When it ends before.
    pub fn wrote(&mut self, file: &Path) -> String {
        let log = self.log.clone();
        wait::until(&format!("{}", file.display()), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("ended with {status}:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            std::fs::read_to_string(file).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that may have ended by now.
pub fn signal_if_there(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process that a test started (or that its manager did).
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}
