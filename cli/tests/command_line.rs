//! The binary as a shell sees it: exit codes, one-line errors, closed pipes, Ctrl-C.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take on a busy machine until it says where it listens.
const PATIENCE: Duration = Duration::from_secs(30);

fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env("TIDEGATE_GUARD_PID", std::process::id().to_string());
    for name in ["TIDEGATE_MANAGER", "TIDEGATE_LOG", "TIDEGATE_ACTOR"] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    tidegate(arguments).output().unwrap()
}

/// Exit code, and stderr with the folder taken off.
fn refusal(output: &Output, folder: &Path) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", folder.display()), "");
    (output.status.code(), text.trim_end().to_owned())
}

/// A fleet-manager of its own, that ends with the test.
struct Manager {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let anywhere = "127.0.0.1:0";
        let mut command =
            tidegate(&["fleet-manager", "--listen", anywhere, "--metrics-listen", anywhere, "--data-dir"]);
        let child = command.arg(&data).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Owned at once: a start that fails must not leave the process behind.
        let mut manager = Self { child, url: String::new(), _folder: folder };
        let until = Instant::now() + PATIENCE;
        loop {
            let address = std::fs::read_to_string(data.join("manager.addr")).unwrap_or_default();
            if !address.trim().is_empty() {
                manager.url = format!("http://{}", address.trim());
                return manager;
            }
            assert!(Instant::now() < until, "the manager did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, arguments: &[&str]) -> Command {
        let mut command = tidegate(arguments);
        command.env("TIDEGATE_MANAGER", &self.url);
        command
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bad_configuration_is_one_line_with_file_and_key_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (text, expected) in [
        ("lisen = 1".to_owned(), "tidegate: it.toml: line 1: unknown key \"lisen\"; did you mean \"listen\"?"),
        ("listen = 1".to_owned(), "tidegate: it.toml: line 1: listen: "),
        ("data_dir = \"\"".to_owned(), "tidegate: it.toml: line 1: data_dir: is empty"),
        (
            format!("data_dir = \"{}/d\"\nlisten = \"{taken}\"", folder.path().display()),
            "tidegate: it.toml: line 2: listen: cannot listen on ",
        ),
    ] {
        let path = folder.path().join("it.toml");
        std::fs::write(&path, &text).unwrap();
        let output = tidegate(&["fleet-manager", "--config"]).arg(&path).output().unwrap();
        let (code, line) = refusal(&output, folder.path());
        assert_eq!((code, line.starts_with(expected), line.lines().count()), (Some(2), true, 1), "{text:?} -> {line}");
    }
    let output = tidegate(&["gateway"]).env("TIDEGATE_GATEWAY_LEASE_MS", "5").output().unwrap();
    insta::assert_snapshot!(refusal(&output, folder.path()).1, @"tidegate: TIDEGATE_GATEWAY_LEASE_MS: lease_ms: is 5, must be 1500 to 60000");
    let output = tidegate(&["config", "explain", "gateway"]).env("TIDEGATE_GATEWAY_LEESE_MS", "5").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(refusal(&output, folder.path()).1, @r#"tidegate: TIDEGATE_GATEWAY_LEESE_MS: unknown key; did you mean "TIDEGATE_GATEWAY_LEASE_MS"?"#);
}

#[test]
fn what_is_explained_is_a_file_that_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    for process in ["fleet-manager", "gateway", "simulate"] {
        let first = run(&["config", "explain", process]);
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        let path = folder.path().join(process);
        std::fs::write(&path, &first.stdout).unwrap();
        let again = tidegate(&["-o", "json", "config", "explain", process, "--config"]).arg(&path).output().unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        let keys: Vec<serde_json::Value> = serde_json::from_slice(&again.stdout).unwrap();
        for key in keys {
            assert!(key["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{key}");
            assert!(key["value"].is_null() || key["from"].as_str().unwrap().contains(", line "), "{key}");
        }
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("rollout"), "{shell}");
    }
}

#[test]
fn without_a_manager_the_error_says_what_to_do() {
    let output = run(&["--manager", "http://127.0.0.1:1", "env", "list"]);
    insta::assert_snapshot!(refusal(&output, Path::new("/nowhere")).1, @r"
    tidegate: no fleet-manager answers at http://127.0.0.1:1
      start one (`tidegate fleet-manager`), or name another with --manager or TIDEGATE_MANAGER
    ");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(run(&["env", "lst"]).status.code(), Some(2));
}

#[test]
fn a_manager_answers_and_the_exit_code_tells_how_it_ended() {
    let manager = Manager::start();
    assert_eq!(manager.ask(&["realm", "create", "eu-1"]).output().unwrap().status.code(), Some(0));
    assert_eq!(manager.ask(&["realm", "create", "eu-1"]).output().unwrap().status.code(), Some(7));

    let output = manager.ask(&["realm", "get", "eu-2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    insta::assert_snapshot!(refusal(&output, Path::new("/nowhere")).1, @r#"
    tidegate: realm "eu-2" does not exist
      did you mean "eu-1"?
    "#);
    for (arguments, hint) in [
        (["rollout", "get", "ro-1"], "tidegate rollout list"),
        (["drain", "watch", "nope"], "tidegate drain list"),
        (["session", "explain", "player:nobody"], "tidegate session list"),
        (["snapshot", "verify", "snap-1"], "tidegate snapshot list"),
    ] {
        let (code, text) = refusal(&manager.ask(&arguments).output().unwrap(), Path::new("/nowhere"));
        assert_eq!((code, text.contains(hint)), (Some(6), true), "{arguments:?} -> {text}");
    }
    for list in [["realm", "list"], ["build", "list"], ["env", "list"], ["rollout", "list"], ["drain", "list"]] {
        let output = manager.ask(&["-o", "json"]).args(list).output().unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap().is_object(), "{list:?}");
    }
    for watch in [["env", "watch"].as_slice(), &["audit", "watch"], &["session", "watch"], &["route", "watch", "eu-1"]]
    {
        let output = manager.ask(watch).args(["--timeout", "200ms"]).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{watch:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_closed_pipe_ends_a_command_without_a_word() {
    // Longer than a pipe's buffer, so that the writer must notice.
    for arguments in [["completions", "bash"].as_slice(), &["config", "explain", "gateway"], &["-o", "json", "doctor"]]
    {
        let mut child = tidegate(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn ctrl_c_ends_a_watch_and_says_that_the_server_goes_on() {
    let manager = Manager::start();
    assert!(manager.ask(&["realm", "create", "eu-1"]).output().unwrap().status.success());
    let mut watch = manager.ask(&["env", "watch"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first answer has come: it watches.
    let mut first = [0];
    watch.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let pid = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    insta::assert_snapshot!(refusal(&output, Path::new("/nowhere")).1, @"tidegate: stopped by Ctrl-C; what was asked of the fleet-manager goes on");
    assert!(manager.ask(&["realm", "get", "eu-1"]).output().unwrap().status.success());
}

#[test]
fn a_damaged_database_has_an_exit_code_of_its_own_and_says_how_to_restore_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let backups = data.join("backups");
    std::fs::create_dir_all(&backups).unwrap();
    std::fs::write(data.join("manager.db"), "rubbish ".repeat(1000)).unwrap();
    std::fs::write(backups.join("manager-v2-20260101T000000000Z.db"), b"").unwrap();
    let arguments = ["fleet-manager", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"];
    let output = tidegate(&arguments).arg(&data).output().unwrap();
    let (code, text) = refusal(&output, folder.path());
    assert_eq!(code, Some(3), "{text}");
    let line = text.lines().find(|line| line.starts_with("tidegate: ")).unwrap_or_default();
    assert!(line.contains("manager.db") && line.contains("is damaged"), "{text}");
    assert!(line.ends_with("cp data/backups/manager-v2-20260101T000000000Z.db data/manager.db"), "{text}");
}
