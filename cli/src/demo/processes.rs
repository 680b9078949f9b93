//! The demo's processes: a fleet-manager and a gateway of their own, in a folder of their own, that end with the demo.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::{Code, Failure};
use crate::guard;

/// How long a process may take until it says where it listens. It opens a database and makes keys; a busy machine is slow.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long a process has to stop by itself.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// One process, stopped when dropped.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `tidegate <arguments>`, its output going to `<folder>/<name>.log`.
    pub(super) fn start(name: &'static str, folder: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(program);
        // What the shell says about other processes is not meant for the demo's.
        for (variable, _) in std::env::vars_os() {
            let variable = variable.to_string_lossy();
            if variable.starts_with("TIDEGATE_") && variable != "TIDEGATE_LOG" {
                command.env_remove(variable.as_ref());
            }
        }
        let child = command
            .arg(name)
            .args(arguments)
            .env(guard::VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| Failure::new(Code::Failure, format!("cannot start {name}: {error}")))?;
        Ok(Self { name, child, log })
    }

    /// Waits until the process has written where it listens.
    pub(super) async fn address(&mut self, file: &Path) -> Result<String, Failure> {
        let until = Instant::now() + START_DEADLINE;
        loop {
            if let Ok(text) = std::fs::read_to_string(file)
                && !text.trim().is_empty()
            {
                return Ok(text.trim().to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failed(&format!("ended with {status}")));
            }
            if Instant::now() > until {
                return Err(self.failed("did not say where it listens"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("(it said nothing)").to_owned();
        Failure::new(Code::Failure, format!("{} {what}: {last}", self.name))
            .hint(format!("its log: {}", self.log.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + STOP_DEADLINE;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
