//! The keys of tickets: the ring that checks logins, and the secret that seals resume tickets.

use std::path::Path;

use tidegate_gateway::Config;
use tidegate_ticket::{KeyRing, ResumeKeys, Rules, Standing};
use tidegate_types::{Clock as _, SystemClock};

use super::finding::Finding;

/// `managers`: the folder in which a fleet-manager of this machine makes keys at its first start.
pub(super) fn look(gateway: &Config, managers: Option<&Path>) -> Vec<Finding> {
    let made = managers.is_some_and(|folder| gateway.ticket_keys.starts_with(folder));
    let mut findings = login_keys(&gateway.ticket_keys, gateway.ticket_rules(), made);
    findings.push(resume_key(&gateway.resume_key_path(), gateway.directory.trim() != "embedded"));
    findings
}

fn login_keys(path: &Path, rules: Rules, made_by_manager: bool) -> Vec<Finding> {
    const NAME: &str = "login keys";
    const MAKE: &str =
        "put the login service's public keys there (tidegate ticket keygen --keys FOLDER), or set ticket_keys";
    let shown = path.display();
    let ring = match KeyRing::open_lenient(path, rules) {
        Ok(ring) => ring,
        Err(_) if made_by_manager && !path.exists() => {
            let what = format!("{shown} is not there yet");
            return vec![Finding::warn(NAME, what, "start the fleet-manager: it makes a key for trying things out")];
        }
        Err(error) => return vec![Finding::fail(NAME, chain(&error), MAKE)],
    };
    let now = SystemClock.now().wall;
    let keys = ring.keys();
    let in_use = keys.iter().filter(|key| ring.standing(key.id(), now) == Some(Standing::InUse)).count();
    let problems = ring.problems();
    let broken = problems.into_iter();
    let mut findings: Vec<Finding> =
        broken.map(|why| Finding::fail(NAME, why, "correct or remove it: a gateway does not start with it")).collect();
    if keys.is_empty() {
        if findings.is_empty() {
            findings.push(Finding::fail(NAME, format!("{shown} holds no key: nobody can log in"), MAKE));
        }
    } else if in_use == 0 {
        let what = format!("none of the {} keys of {shown} is in use now: nobody can log in", keys.len());
        findings.push(Finding::fail(NAME, what, "see tidegate ticket keys list; add a key that is valid now"));
    } else {
        findings.push(Finding::ok(NAME, format!("{in_use} of {} in use ({shown})", keys.len())));
    }
    findings
}

fn resume_key(path: &Path, shared: bool) -> Finding {
    const NAME: &str = "resume key";
    let shown = path.display();
    if !path.exists() {
        // A gateway would make it; looking at things makes nothing.
        let what = format!("{shown} is not there: the gateway makes one");
        return if shared {
            Finding::warn(NAME, what, "give all gateways the same file: they open each other's resume tickets with it")
        } else {
            Finding::ok(NAME, what)
        };
    }
    match ResumeKeys::open_or_create(path) {
        Ok(_) => Finding::ok(NAME, format!("{shown} is for its owner alone")),
        Err(error) => Finding::fail(NAME, chain(&error), "a gateway does not start with it"),
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_resume_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume.key");
        assert_eq!((resume_key(&path, false).level, resume_key(&path, true).level), (Level::Ok, Level::Warn));
        assert!(!path.exists(), "looking makes nothing");
        drop(ResumeKeys::open_or_create(&path).unwrap());
        assert_eq!(resume_key(&path, true).level, Level::Ok);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = resume_key(&path, true);
        assert_eq!(open.level, Level::Fail);
        assert!(open.what.contains("chmod 600"), "{}", open.what);
    }

    #[test]
    fn a_ring_without_a_key_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let level = |made| login_keys(&path, Rules::default(), made)[0].level;
        assert_eq!((level(true), level(false)), (Level::Warn, Level::Fail));
        std::fs::create_dir(&path).unwrap();
        assert_eq!((level(true), level(false)), (Level::Fail, Level::Fail));
        std::fs::write(path.join("a.pub"), "nonsense").unwrap();
        let found = login_keys(&path, Rules::default(), false);
        assert!(found.len() == 1 && found[0].level == Level::Fail && found[0].what.contains("a.pub"), "{found:?}");
    }
}
