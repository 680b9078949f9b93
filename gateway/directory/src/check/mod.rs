//! Is this Redis fit to be a directory? Asked when a gateway starts, and by `tidegate doctor`.
//!
//! What can never be right is a [`Level::Fail`]: a gateway refuses to start on it. A Redis that cannot be reached is not
//! one: it may come, and until then the directory is degraded.

mod probe;
mod server;

use std::fmt;

use redis::TlsCertificates;

use crate::config::DirectoryConfig;
use crate::sentinel;
use crate::tls::Tls;
use crate::url::{Host, Kind, SharedUrl};

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and is worth a look.
    Warn,
    /// It can never work like this.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, in a word or two.
    pub what: &'static str,
    /// What was found, in one line.
    pub why: String,
    /// What to do about it; empty if nothing.
    pub what_to_do: String,
}

impl Finding {
    pub(crate) fn ok(what: &'static str, why: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, why: why.into(), what_to_do: String::new() }
    }

    pub(crate) fn warn(what: &'static str, why: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, why: why.into(), what_to_do: what_to_do.into() }
    }

    pub(crate) fn fail(what: &'static str, why: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, why: why.into(), what_to_do: what_to_do.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if self.what_to_do.is_empty() { Ok(()) } else { write!(f, ": {}", self.what_to_do) }
    }
}

/// Looks at the Redis behind `url`: at the server, at the master that Sentinels name, or at every master of a cluster. Takes
/// a few time-outs of `config` at most; changes nothing.
pub async fn inspect(url: &SharedUrl, config: &DirectoryConfig) -> Vec<Finding> {
    let tls = match Tls::new(url, config) {
        Ok(tls) => tls,
        Err(e) => {
            return vec![Finding::fail("certificate authority", e.to_string(), "set the file of the Redis' authority")];
        }
    };
    let certificates = tls.certificates().await;
    match &url.kind {
        Kind::Server => server::inspect(url, &url.hosts[0], certificates, config).await.findings,
        Kind::Sentinel { .. } => behind_sentinels(url, certificates, config).await,
        Kind::Cluster => cluster(url, certificates, config).await,
    }
}

/// What is looked at to tell a master from a replica.
const ROLE: &str = "role";

/// Why a gateway must not start, in one line; `None` if it may. A replica is said and is no reason: it may be the master again in
/// a moment, and until then the directory is out of reach like any other.
#[must_use]
pub fn refusal(url: &SharedUrl, findings: &[Finding]) -> Option<String> {
    let never = findings.iter().find(|finding| finding.level == Level::Fail && finding.what != ROLE);
    never.map(|finding| format!("directory {url}: {finding}"))
}

async fn behind_sentinels(
    url: &SharedUrl,
    certificates: Option<TlsCertificates>,
    config: &DirectoryConfig,
) -> Vec<Finding> {
    match sentinel::master(url, certificates.as_ref(), config.request_timeout).await {
        Ok(master) => {
            let mut findings = vec![Finding::ok("sentinels", format!("the master is {master}"))];
            findings.extend(server::inspect(url, &master, certificates, config).await.findings);
            findings
        }
        Err(why) if why.contains("No such master") => {
            vec![Finding::fail("sentinels", why, "name the service in the URL as in `sentinel monitor`")]
        }
        Err(why) => {
            let what_to_do = "start the Sentinels, or correct their addresses; until then the directory is degraded";
            vec![Finding::warn("sentinels", why, what_to_do)]
        }
    }
}

/// Looks at the URL's nodes until one answers, and then at every master that it knows.
async fn cluster(url: &SharedUrl, certificates: Option<TlsCertificates>, config: &DirectoryConfig) -> Vec<Finding> {
    let mut unreachable = Vec::new();
    for host in &url.hosts {
        let first = server::inspect(url, host, certificates.clone(), config).await;
        if !first.answered {
            unreachable.extend(first.findings);
            continue;
        }
        let mut findings = first.findings;
        let others: Vec<Host> = first.masters.into_iter().filter(|master| master != host).collect();
        for master in &others {
            let seen = server::inspect(url, master, certificates.clone(), config).await;
            findings.extend(seen.findings.into_iter().filter(|finding| finding.level != Level::Ok));
        }
        findings.push(Finding::ok("cluster", format!("{} more masters were looked at", others.len())));
        return findings;
    }
    unreachable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::DirectoryUrl;

    #[test]
    fn only_what_can_never_work_refuses_the_start() {
        let url = DirectoryUrl::parse("redis://me:hush@a").unwrap();
        let url = url.shared().unwrap();
        let warn = Finding::warn("connection", "a:6379 cannot be reached", "start it");
        assert_eq!(refusal(url, std::slice::from_ref(&warn)), None);
        let fail = Finding::fail("version", "a:6379 is Redis 5.0.7", "use 6.2 or newer");
        let line = "directory redis://a:6379: a:6379 is Redis 5.0.7: use 6.2 or newer";
        assert_eq!(refusal(url, &[warn, fail]).as_deref(), Some(line));
    }
}
