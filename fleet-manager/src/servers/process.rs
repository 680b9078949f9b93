//! Processes: starting one, finding one again, signalling it, and noticing its end at once.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tidegate_types::ServerId;
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::record::ProcessId;

/// The environment variable that names a start.
const SPAWN_VARIABLE: &str = "TIDEGATE_SPAWN_ID";
/// The environment variable that names the server (part of the contract with world servers).
const SERVER_VARIABLE: &str = "TIDEGATE_SERVER_ID";
/// The `TIDEGATE_` variables of ours that children inherit: whose end is to be theirs too, where to write events, and which
/// rules to break for a test.
const INHERITED: [&str; 3] = ["TIDEGATE_GUARD_PID", tidegate_events::VARIABLE, tidegate_types::sabotage::VARIABLE];
/// A log above this is put aside when its server is started: with the one put aside before, at most twice this plus what
/// one run writes.
const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a [String],
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) server: &'a ServerId,
    pub(crate) spawn: Uuid,
    pub(crate) log: &'a Path,
}

/// A process that lives or has just died, held so that a signal cannot reach another one.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    pidfd: Arc<OwnedFd>,
}

/// Starts a process in a group of its own, so that neither the manager's end nor a Ctrl-C in its terminal ends it.
pub(crate) fn start(launch: &Launch<'_>) -> io::Result<(Child, Process)> {
    let (program, arguments) =
        launch.command.split_first().ok_or_else(|| io::Error::other("the build's command is empty"))?;
    put_long_log_aside(launch.log)?;
    let log = fs::OpenOptions::new().create(true).append(true).open(launch.log)?;
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") && !INHERITED.iter().any(|kept| name == *kept) {
            command.env_remove(name);
        }
    }
    command
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .env(SERVER_VARIABLE, launch.server.as_str())
        .env(SPAWN_VARIABLE, launch.spawn.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let mut child = command.spawn()?;
    // The child is not reaped before `wait`, so the pid is its own until then.
    let held =
        child.id().ok_or_else(|| io::Error::other("the process ended before it was seen")).and_then(Process::open);
    match held {
        Ok(process) => Ok((child, process)),
        Err(error) => {
            // One that cannot be watched must not go on: another would be started beside it.
            child.start_kill()?;
            Err(error)
        }
    }
}

fn put_long_log_aside(log: &Path) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(meta) if meta.len() > LOG_LIMIT_BYTES => fs::rename(log, log.with_extension("log.1")),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

impl Process {
    /// Takes hold of a process.
    fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("not a pid"))?;
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty())?;
        // A child that has ended already is a zombie until it is waited for, and still has its start time.
        let start_time = stat(pid)?.start_time;
        Ok(Self { id: ProcessId { pid, start_time, boot: boot_id()? }, pidfd: Arc::new(pidfd) })
    }

    /// Takes hold of a recorded process; `None` when it is certainly gone.
    pub(crate) fn adopt(id: &ProcessId, server: &ServerId, spawn: Uuid) -> io::Result<Option<Self>> {
        if id.boot != boot_id()? {
            return Ok(None);
        }
        // Opened first, compared after: what is compared is then what is held.
        match Self::open(id.pid) {
            Ok(process) if process.id == *id && lives(id.pid)? => {
                // Number, start time and boot say enough; the variables are a second opinion where they can be read.
                let is_ours = carries(id.pid, server, spawn)?.unwrap_or(true);
                Ok(is_ours.then_some(process))
            }
            Ok(_) => Ok(None),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Finds the process of a start whose pid was never recorded: the manager died between the two.
    pub(crate) fn find(server: &ServerId, spawn: Uuid) -> io::Result<Option<Self>> {
        // A process that is just replacing its program has no variables for a moment.
        const LOOKS: u32 = 3;
        for look in 1..=LOOKS {
            let found = Self::look_for(server, spawn)?;
            if found.is_some() {
                return Ok(found);
            }
            if look < LOOKS {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        Ok(None)
    }

    fn look_for(server: &ServerId, spawn: Uuid) -> io::Result<Option<Self>> {
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // Others' processes cannot be read, and any may vanish while it is looked at. The leader of the group is the
            // process that was started; its children carry the same variables.
            if matches!(carries(pid, server, spawn), Ok(Some(true)))
                && stat(pid).is_ok_and(|stat| stat.group == i64::from(pid) && !stat.ended)
                && let Ok(process) = Self::open(pid)
            {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    /// Sends a signal to the process and its group; one that is gone needs none.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        // The leader was there a moment ago, so the group is still its own: a group's number is not given out again
        // while any member lives.
        let group = i32::try_from(self.id.pid).ok().and_then(Pid::from_raw);
        match group.map(|group| rustix::process::kill_process_group(group, signal)) {
            Some(Err(e)) if e != rustix::io::Errno::SRCH && e != rustix::io::Errno::PERM => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Whether `pid` is this process or one of its group (the command may be a script that starts the server).
    pub(crate) fn includes(&self, pid: u32) -> bool {
        pid == self.id.pid || stat(pid).is_ok_and(|stat| stat.group == i64::from(self.id.pid))
    }
}

/// Kills what a start has left behind when the process that was started has ended: the command may be a script, and the
/// server a child of it that goes on playing. True once nothing of it lives. Blocks for some milliseconds.
pub(crate) fn end_left_behind(server: &ServerId, spawn: Uuid, leader: u32) -> io::Result<bool> {
    // A killed process is gone at once, unless the kernel itself holds it.
    const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
    let mut all_ended = true;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let is_ours = || {
            stat(pid).is_ok_and(|stat| stat.group == i64::from(leader) && !stat.ended)
                && matches!(carries(pid, server, spawn), Ok(Some(true)))
        };
        // Looked at again once it is held: the number may have gone to another meanwhile.
        if is_ours()
            && let Ok(process) = Process::open(pid)
            && is_ours()
        {
            match rustix::process::pidfd_send_signal(&process.pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(e.into()),
            }
            let ended = rustix::event::poll(&mut [PollFd::new(&process.pidfd, PollFlags::IN)], Some(&PATIENCE))?;
            all_ended &= ended == 1;
        }
    }
    Ok(all_ended)
}

/// Waits, on a thread of its own, for the ends of processes that are not our children, and tells of each at once. Goes on
/// until all have ended or `told` says that nobody listens.
pub(crate) fn watch_ends<K>(
    mut watched: Vec<(K, Process)>,
    mut told: impl FnMut(K, Process) -> bool,
    go_on: impl Fn() -> bool,
) {
    // Only to notice that nobody listens any more; an end wakes the thread by itself.
    const LOOK_UP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    while !watched.is_empty() && go_on() {
        // A pidfd becomes readable when its process ends, and stays so.
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, process)| PollFd::new(&process.pidfd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, Some(&LOOK_UP)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "ends of adopted world servers cannot be watched");
                return;
            }
        }
        let ended: Vec<bool> = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
        let mut ended = ended.into_iter();
        let (over, left) = watched.into_iter().partition(|_| ended.next().unwrap_or(false));
        watched = left;
        for (key, process) in over {
            if !told(key, process) {
                return;
            }
        }
    }
}

/// How a process ended, for people.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last line of a log that says anything, at most 300 characters of it.
pub(crate) fn last_line(log: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 4096;
    let mut file = fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(300).collect())
}

/// The log of a server.
pub(crate) fn log_path(logs: &Path, stem: &str) -> PathBuf {
    logs.join(format!("{stem}.log"))
}

struct Stat {
    /// A zombie: it will do nothing any more.
    ended: bool,
    /// Stopped by a signal.
    stopped: bool,
    group: i64,
    start_time: u64,
}

/// True while the process is stopped by a signal, and does nothing.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_ok_and(|stat| stat.stopped)
}

/// How long the threads of a process have been ready to run without being run, of the one that waited longest; `None`
/// where the system does not say.
pub(crate) fn waited_for_cpu(pid: u32) -> Option<std::time::Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let waited = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        // Run, waited (both in nanoseconds), and how often: see the kernel's sched-stats documentation.
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    waited.max().map(std::time::Duration::from_nanos)
}

/// Reads `/proc/<pid>/stat`.
fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other("not the format of proc(5)"))
}

fn lives(pid: u32) -> io::Result<bool> {
    match stat(pid) {
        Ok(stat) => Ok(!stat.ended),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The name in parentheses may hold anything, spaces and parentheses too; the fields start after the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // Counted from the state, which is field 3 of proc(5): group is field 5, start time field 22.
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        stopped: matches!(*fields.first()?, "T"),
        group: fields.get(2)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

/// Whether the process carries the names of this server and spawn in its environment; `None` while it has none, which is
/// so for a moment when it replaces its program, and when it ends.
fn carries(pid: u32, server: &ServerId, spawn: Uuid) -> io::Result<Option<bool>> {
    let environment = match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) => environment,
        Err(e) if is_gone(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    if environment.is_empty() {
        return Ok(None);
    }
    let has = |name: &str, value: &str| {
        environment.split(|byte| *byte == 0).any(|entry| entry == format!("{name}={value}").as_bytes())
    };
    Ok(Some(has(SERVER_VARIABLE, server.as_str()) && has(SPAWN_VARIABLE, &spawn.to_string())))
}

fn is_gone(e: &io::Error) -> bool {
    // Reading /proc of a process that has just ended says "no such process".
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat("42 (a) b (c)) S 1 42 42 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0").unwrap();
        assert_eq!((stat.group, stat.start_time), (42, 777));
        assert!(parse_stat("42 (x) Z 1 42 42 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0").unwrap().ended && !stat.ended);
        assert!(parse_stat("garbage").is_none());
    }

    #[tokio::test]
    async fn a_server_that_outlives_the_script_that_started_it_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (server, spawn): (ServerId, _) = ("e1-town-1".parse().unwrap(), Uuid::new_v4());
        let command = ["sh".to_owned(), "-c".to_owned(), "sleep 1000 & echo started; wait".to_owned()];
        let log = dir.path().join("x.log");
        let launch = Launch { command: &command, environment: Vec::new(), server: &server, spawn, log: &log };
        let (mut child, process) = start(&launch).unwrap();
        while last_line(&log).is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        rustix::process::pidfd_send_signal(&process.pidfd, Signal::KILL).unwrap();
        child.wait().await.unwrap();
        let group = Pid::from_raw(i32::try_from(process.id.pid).unwrap()).unwrap();
        assert_eq!(rustix::process::test_kill_process_group(group), Ok(()), "its child goes on");
        assert!(end_left_behind(&server, Uuid::new_v4(), process.id.pid).unwrap());
        assert_eq!(rustix::process::test_kill_process_group(group), Ok(()), "another start's is left alone");
        assert!(end_left_behind(&server, spawn, process.id.pid).unwrap());
        let left = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
        let lives = |pid: u32| stat(pid).is_ok_and(|s| s.group == i64::from(process.id.pid) && !s.ended);
        assert_eq!(left.filter(|pid| lives(*pid)).count(), 0);
    }

    #[tokio::test]
    async fn a_process_is_found_again_by_its_start_alone_and_its_end_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (server, spawn): (ServerId, _) = ("e1-town-1".parse().unwrap(), Uuid::new_v4());
        let command = ["sh".to_owned(), "-c".to_owned(), "echo hello; exec sleep 1000".to_owned()];
        let log = dir.path().join("x.log");
        let launch = Launch { command: &command, environment: Vec::new(), server: &server, spawn, log: &log };
        let (mut child, process) = start(&launch).unwrap();

        let found = Process::find(&server, spawn).unwrap().expect("found by its environment");
        assert_eq!(found.id, process.id);
        assert!(Process::find(&server, Uuid::new_v4()).unwrap().is_none());
        assert!(Process::adopt(&process.id, &server, spawn).unwrap().is_some());
        let other_start = ProcessId { start_time: process.id.start_time + 1, ..process.id.clone() };
        assert!(Process::adopt(&other_start, &server, spawn).unwrap().is_none(), "a reused pid is not ours");
        assert!(Process::adopt(&process.id, &server, Uuid::new_v4()).unwrap().is_none());

        found.signal(Signal::KILL).unwrap();
        let mut ends = Vec::new();
        watch_ends(
            vec![((), found.clone())],
            |(), ended| {
                ends.push(ended.id.pid);
                true
            },
            || true,
        );
        assert_eq!(ends, [process.id.pid]);
        assert_eq!(describe(child.wait().await.unwrap()), "was killed by signal 9");
        assert!(Process::adopt(&process.id, &server, spawn).unwrap().is_none());
        found.signal(Signal::KILL).unwrap();
        assert_eq!(last_line(&log).as_deref(), Some("hello"));
    }
}
