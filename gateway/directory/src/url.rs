//! Where the directory is: `embedded`, or a Redis by URL.
//!
//! A URL is read once, at start; what is wrong with it is said in one line without the password. Neither `Display` nor
//! `Debug` ever shows a password.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// What can be written for `directory`.
const FORMS: &str =
    "embedded, redis://host, rediss://host (TLS), redis-sentinel://host,host/service or redis-cluster://host,host";

/// The port of Redis when a URL names none.
const REDIS_PORT: u16 = 6379;

/// The port of Sentinel when a URL names none.
const SENTINEL_PORT: u16 = 26379;

/// A text that is no place for a directory. The message fits in one line, says what to write, and has no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

/// Where the directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryUrl {
    /// In the memory of the one gateway.
    Embedded,
    /// In a Redis that several gateways share.
    Shared(SharedUrl),
}

/// A Redis, a master that Sentinels watch, or a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedUrl {
    pub(crate) kind: Kind,
    pub(crate) tls: bool,
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// The number of the database.
    pub(crate) database: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server.
    Server,
    /// The hosts are Sentinels; they know the master of this service.
    Sentinel { service: String, user: Option<String>, password: Option<String> },
    /// The hosts are some of a cluster's nodes.
    Cluster,
}

/// A host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl DirectoryUrl {
    /// Reads what an operator wrote.
    ///
    /// - `embedded`
    /// - `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS
    /// - `redis-sentinel://[user:password@]host[:port],host[:port]/service[?database=0&sentinel_user=…&sentinel_password=…]`,
    ///   `rediss-sentinel://…` with TLS to Sentinels and servers alike; user and password are the servers'
    /// - `redis-cluster://[user:password@]host[:port],host[:port]`, `rediss-cluster://…` with TLS
    ///
    /// User and password are percent-encoded; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`BadUrl`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        SharedUrl::parse(text).map(Self::Shared)
    }

    /// The Redis, if it is one.
    #[must_use]
    pub fn shared(&self) -> Option<&SharedUrl> {
        match self {
            Self::Embedded => None,
            Self::Shared(url) => Some(url),
        }
    }
}

impl SharedUrl {
    fn parse(text: &str) -> Result<Self, BadUrl> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(BadUrl(format!("a directory is written as one of: {FORMS}")));
        };
        let (tls, kind) = match scheme {
            "redis" => (false, Kind::Server),
            "rediss" => (true, Kind::Server),
            "redis-sentinel" => (false, sentinel()),
            "rediss-sentinel" => (true, sentinel()),
            "redis-cluster" => (false, Kind::Cluster),
            "rediss-cluster" => (true, Kind::Cluster),
            _ => return Err(BadUrl(format!("\"{scheme}://\" is no directory; write one of: {FORMS}"))),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return Err(BadUrl(
                "write ? as %3F and @ as %40 in the users and passwords of the directory's URL".to_owned(),
            ));
        }
        // The password may hold an unescaped `@` or `/`; the last `@` ends it.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = if matches!(kind, Kind::Sentinel { .. }) { SENTINEL_PORT } else { REDIS_PORT };
        let hosts = hosts.split(',').map(|host| Host::parse(host, port)).collect::<Result<Vec<_>, _>>()?;
        let (user, password) = login.map_or(Ok((None, None)), credentials)?;
        let mut url = Self { kind, tls, hosts, user, password, database: 0 };
        url.take_path(path)?;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            url.take_option(option)?;
        }
        Ok(url)
    }

    fn take_path(&mut self, path: &str) -> Result<(), BadUrl> {
        match &mut self.kind {
            Kind::Server => {
                if self.hosts.len() > 1 {
                    return Err(BadUrl(
                        "several hosts are a cluster (redis-cluster://) or Sentinels (redis-sentinel://)".to_owned(),
                    ));
                }
                if !path.is_empty() {
                    self.database = database(path)?;
                }
            }
            Kind::Sentinel { service, .. } => {
                if path.is_empty() || path.contains('/') {
                    return Err(BadUrl(
                        "name the service that the Sentinels watch after the hosts: redis-sentinel://host,host/service"
                            .to_owned(),
                    ));
                }
                path.clone_into(service);
            }
            Kind::Cluster => {
                if !path.is_empty() {
                    return Err(BadUrl(format!("a cluster has no databases; leave \"/{path}\" out")));
                }
            }
        }
        Ok(())
    }

    fn take_option(&mut self, option: &str) -> Result<(), BadUrl> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, &mut self.kind) {
            ("database" | "db", Kind::Sentinel { .. }) => self.database = database(value)?,
            ("sentinel_user", Kind::Sentinel { user, .. }) => *user = Some(decoded(value)?),
            ("sentinel_password", Kind::Sentinel { password, .. }) => *password = Some(decoded(value)?),
            (_, Kind::Sentinel { .. }) => {
                return Err(BadUrl(format!(
                    "\"{name}\" is no option of a Sentinel URL; there are database, sentinel_user and sentinel_password"
                )));
            }
            (_, Kind::Server | Kind::Cluster) => {
                return Err(BadUrl(format!("\"{name}\" is no option of a directory's URL; leave it out")));
            }
        }
        Ok(())
    }

    pub(crate) fn scheme(&self) -> &'static str {
        match (&self.kind, self.tls) {
            (Kind::Server, false) => "redis",
            (Kind::Server, true) => "rediss",
            (Kind::Sentinel { .. }, false) => "redis-sentinel",
            (Kind::Sentinel { .. }, true) => "rediss-sentinel",
            (Kind::Cluster, false) => "redis-cluster",
            (Kind::Cluster, true) => "rediss-cluster",
        }
    }
}

impl Host {
    fn parse(text: &str, default_port: u16) -> Result<Self, BadUrl> {
        let bad = |why: &str| Err(BadUrl(format!("\"{text}\" in the directory's URL {why}; write host:port")));
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, port)) => (name, port.strip_prefix(':').or(port.is_empty().then_some(""))),
                None => return bad("has no closing bracket"),
            },
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return bad("is an IPv6 address without brackets"),
                Some((name, port)) => (name, Some(port)),
                None => (text, Some("")),
            },
        };
        if name.is_empty() {
            return bad("names no host");
        }
        let port = match port {
            Some("") => default_port,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return bad("has no port between 1 and 65535"),
            },
            None => return bad("has something after the bracket"),
        };
        Ok(Self { name: name.to_owned(), port })
    }
}

fn sentinel() -> Kind {
    Kind::Sentinel { service: String::new(), user: None, password: None }
}

fn database(text: &str) -> Result<u16, BadUrl> {
    text.parse().map_err(|_| BadUrl(format!("\"{text}\" is no database; databases are numbers, 0 is usual")))
}

fn credentials(login: &str) -> Result<(Option<String>, Option<String>), BadUrl> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let some = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
    Ok((some(user)?, some(password)?))
}

fn decoded(text: &str) -> Result<String, BadUrl> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned()).map_err(|_| {
        BadUrl("the user or password in the directory's URL is not UTF-8 once its %-escapes are read".to_owned())
    })
}

impl FromStr for DirectoryUrl {
    type Err = BadUrl;
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for DirectoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Shared(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (i, host) in self.hosts.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        match &self.kind {
            Kind::Server if self.database > 0 => write!(f, "/{}", self.database),
            Kind::Sentinel { service, .. } if self.database > 0 => write!(f, "/{service}?database={}", self.database),
            Kind::Sentinel { service, .. } => write!(f, "/{service}"),
            Kind::Server | Kind::Cluster => Ok(()),
        }
    }
}

impl fmt::Debug for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, expect: &str) {
        match DirectoryUrl::parse(given) {
            Ok(url) => assert_eq!(url.to_string(), expect),
            Err(e) => assert_eq!(e.to_string(), expect),
        }
    }

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        check("embedded", "embedded");
        check("redis://redis.internal", "redis://redis.internal:6379");
        check("rediss://app:s%40cret@redis.internal:6380/3", "rediss://redis.internal:6380/3");
        check("redis://:p@ss/word@h", "redis://h:6379");
        check("redis://[::1]:7000", "redis://[::1]:7000");
        check("redis://[::1]", "redis://[::1]:6379");
        check(
            "redis-sentinel://:pw@a,b:2/main?sentinel_password=x&db=2",
            "redis-sentinel://a:26379,b:2/main?database=2",
        );
        check("rediss-cluster://u:pw@a:1,b", "rediss-cluster://a:1,b:6379");
    }

    #[test]
    fn a_password_is_in_neither_display_nor_debug() {
        let url = DirectoryUrl::parse("redis-sentinel://me:hush1@a/main?sentinel_password=hush2").unwrap();
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(url.shared().unwrap().password.as_deref(), Some("hush1"));
        let error = DirectoryUrl::parse("redis://me:hush@a:port").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }

    #[test]
    fn a_bad_url_says_what_to_write() {
        check("localhost:6379", &format!("a directory is written as one of: {FORMS}"));
        check("http://a", &format!("\"http://\" is no directory; write one of: {FORMS}"));
        check("redis://a,b", "several hosts are a cluster (redis-cluster://) or Sentinels (redis-sentinel://)");
        check("redis://", "\"\" in the directory's URL names no host; write host:port");
        check("redis://a:0", "\"a:0\" in the directory's URL has no port between 1 and 65535; write host:port");
        check("redis://::1", "\"::1\" in the directory's URL is an IPv6 address without brackets; write host:port");
        check("redis://me:wh?t@a", "write ? as %3F and @ as %40 in the users and passwords of the directory's URL");
        check("redis://a/x", "\"x\" is no database; databases are numbers, 0 is usual");
        check("redis-cluster://a/1", "a cluster has no databases; leave \"/1\" out");
        check("redis://a?ssl=1", "\"ssl\" is no option of a directory's URL; leave it out");
        check(
            "redis-sentinel://a",
            "name the service that the Sentinels watch after the hosts: redis-sentinel://host,host/service",
        );
    }
}
