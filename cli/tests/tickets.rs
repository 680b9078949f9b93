//! `tidegate ticket` as a shell sees it: a key ring from its making to its last revocation.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn ticket(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(folder).arg("ticket").args(arguments);
    command.env("TIDEGATE_GUARD_PID", std::process::id().to_string()).env_remove("TIDEGATE_LOG");
    command
}

fn ask(folder: &Path, arguments: &[&str]) -> Output {
    ticket(folder, arguments).output().unwrap()
}

/// Stdout of a command that must succeed.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = ask(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ask(folder, arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

fn keygen(folder: &Path, kid: &str, algorithm: &str) -> String {
    said(folder, &["keygen", "--kid", kid, "--algorithm", algorithm, "--out", "secret", "--keys", "ring"])
}

fn mint<'a>(key: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["mint", "--realm", "eu-1", "--player", "anna", "--key", key], more].concat()
}

fn verdict(folder: &Path, ticket: &str) -> (Option<i32>, Value) {
    let output = ask(folder, &["inspect", ticket, "--keys", "ring", "-o", "json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_key_is_made_used_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let id = keygen(folder, "2026-11", "both");
    assert!(id.starts_with("k4.pid."), "{id}");
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(folder.join("secret/2026-11.key")).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }
    assert_eq!(refused(folder, &["keygen", "--kid", "2026-11", "--out", "secret", "--keys", "ring"]).0, Some(7));
    assert_eq!(refused(folder, &["keygen", "--kid", "../up", "--out", "secret", "--keys", "ring"]).0, Some(2));

    let key = "secret/2026-11.key";
    for more in [&[][..], &["--format", "jwt"], &["--kid", "2026-11"], &["--format", "jwt", "--kid", "2026-11"]] {
        let (code, told) = verdict(folder, &said(folder, &mint(key, more)));
        assert_eq!((code, &told["player"], &told["realm"]), (Some(0), &"anna".into(), &"eu-1".into()), "{told}");
    }
    // From stdin, so that it stands in no shell's history.
    let mut child = ticket(folder, &["inspect", "-", "--keys", "ring"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", said(folder, &mint(key, &[]))).unwrap();
    assert!(child.wait().unwrap().success());

    let (code, told) = verdict(folder, &said(folder, &mint(key, &["--kid", "other"])));
    assert_eq!((code, &told["verdict"]), (Some(4), &"ticket_invalid".into()));
    assert!(told["cause"].as_str().unwrap().contains("not in the ring"), "{told}");
    let (code, told) = verdict(folder, &said(folder, &mint(key, &["--life", "1h"])));
    assert_eq!((code, &told["verdict"]), (Some(4), &"ticket_invalid".into()), "{told}");

    let one = said(folder, &mint(key, &[]));
    let jti = verdict(folder, &one).1["id"].as_str().unwrap().to_owned();
    said(folder, &["revoke", "--ticket", &jti, "--for", "10m", "--keys", "ring"]);
    assert_eq!(verdict(folder, &one).0, Some(4));
    said(folder, &["revoke", "--player", "anna", "--keys", "ring", "--note", "shared their account"]);
    assert_eq!(verdict(folder, &said(folder, &mint(key, &[]))).0, Some(4));

    let standing = || {
        let list = said(folder, &["keys", "list", "--keys", "ring", "-o", "json"]);
        serde_json::from_str::<Value>(&list).unwrap()["keys"][0]["standing"].clone()
    };
    assert_eq!(standing(), "in use");
    let (code, line) = refused(folder, &["revoke", "--key", "2026-12", "--keys", "ring"]);
    assert_eq!((code, line.contains("there is: 2026-11")), (Some(6), true), "{line}");
    let list = said(folder, &["revoke", "--key", "2026-11", "--keys", "ring"]);
    assert_eq!((standing(), list.as_str()), ("revoked".into(), "ring/revoked.toml"));
    said(folder, &["revoke", "--key", "2026-12", "--force", "--keys", "ring"]);
    assert_eq!(refused(folder, &["revoke", "--keys", "ring"]).0, Some(2));
}

#[test]
fn a_key_signs_what_it_is_for_and_a_broken_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    keygen(folder, "p", "paseto-v4");
    keygen(folder, "j", "jwt-eddsa");
    for (key, format, code) in [("p", "paseto", 0), ("p", "jwt", 4), ("j", "jwt", 0), ("j", "paseto", 4)] {
        let key = format!("secret/{key}.key");
        let ticket = said(folder, &mint(&key, &["--format", format]));
        assert_eq!(verdict(folder, &ticket).0, Some(code), "{key} {format}");
    }
    std::fs::write(folder.join("ring/bad.pem"), "-----BEGIN").unwrap();
    let output = ask(folder, &["keys", "list", "--keys", "ring"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ring/bad.pem"));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3, "the others are listed");
    assert_eq!(refused(folder, &["keys", "list", "--keys", "none"]).0, Some(2));
    assert_eq!(refused(folder, &["mint", "--realm", "eu-1", "--player", "a", "--key", "none"]).0, Some(2));
}

#[test]
fn a_resume_key_is_rotated_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resume.key");
    drop(tidegate_ticket::ResumeKeys::open_or_create(&path).unwrap());
    said(folder.path(), &["rotate-resume-key", "--key", "resume.key", "--after", "30s"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    assert_eq!(refused(folder.path(), &["rotate-resume-key", "--key", "none"]).0, Some(2));
}
