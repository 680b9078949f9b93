//! What one server says of itself, judged.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value};
use tokio::time::timeout;

use super::probe::{Speaks, speaks};
use super::{Finding, ROLE};
use crate::config::DirectoryConfig;
use crate::link::{client, login, one_line};
use crate::url::{Host, Kind, SharedUrl};

/// The oldest version that the scripts are tested with.
const OLDEST: (u32, u32) = (6, 2);

/// What an ACL must grant.
const PERMISSIONS: &str = "~tidegate:* +@connection +@read +@write +@scripting +info +cluster";

/// A round trip that is worth a look: logins and hand-overs wait for one or two.
const SLOW: Duration = Duration::from_millis(10);

/// Round trips measured; the middle one counts.
const PINGS: usize = 5;

/// What was seen of a server.
pub(super) struct Seen {
    /// It let us in.
    pub(super) answered: bool,
    pub(super) findings: Vec<Finding>,
    /// The masters of the cluster it belongs to.
    pub(super) masters: Vec<Host>,
}

pub(super) async fn inspect(
    url: &SharedUrl,
    host: &Host,
    certificates: Option<TlsCertificates>,
    config: &DirectoryConfig,
) -> Seen {
    let limit = config.request_timeout;
    let refused = |finding| Seen { answered: false, findings: vec![finding], masters: Vec::new() };
    let mut connection = match connect(login(url), host, certificates.clone(), limit).await {
        Ok(connection) => connection,
        Err(e) => return refused(no_connection(url, host, &e, certificates, limit).await),
    };
    let info: String = match ask(&mut connection, &["INFO"], limit).await {
        Ok(info) => info,
        Err(e) => return refused(no_connection(url, host, &e, certificates, limit).await),
    };
    let info = Info(info);
    let saves: Vec<String> = ask(&mut connection, &["CONFIG", "GET", "save"], limit).await.unwrap_or_default();
    let mut findings = vec![version(host, &info)];
    findings.extend(kind(url, host, &info));
    findings.push(role(host, &info));
    findings.push(eviction(host, &info));
    findings.extend(room(host, &info));
    findings.push(durability(host, &info, saves.get(1).map(String::as_str)));
    findings.push(latency(host, &mut connection, limit).await);
    let mut masters = Vec::new();
    if url.kind == Kind::Cluster && info.is("cluster_enabled", "1") {
        findings.push(whole(host, &mut connection, limit).await);
        masters = known_masters(&mut connection, host, limit).await;
    }
    Seen { answered: true, findings, masters }
}

/// RESP2, which the oldest server speaks too, so that it can say how old it is.
async fn connect(
    settings: RedisConnectionInfo,
    host: &Host,
    certificates: Option<TlsCertificates>,
    limit: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit * 2)).set_response_timeout(Some(limit));
    client(host, certificates, settings)?.get_multiplexed_async_connection_with_config(&config).await
}

async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
    limit: Duration,
) -> RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    let late = |_| RedisError::from((ErrorKind::Io, "no answer in time"));
    timeout(limit, command.query_async(connection)).await.map_err(late)?
}

async fn no_connection(
    url: &SharedUrl,
    host: &Host,
    e: &RedisError,
    certificates: Option<TlsCertificates>,
    limit: Duration,
) -> Finding {
    let why = one_line(e);
    if let Some(finding) = password(url, host, &why, e, certificates, limit).await {
        return finding;
    }
    if e.code() == Some("NOPERM") {
        return Finding::fail(
            "permissions",
            format!("{host} does not permit what a directory needs ({why})"),
            format!("allow the user {PERMISSIONS}"),
        );
    }
    match (speaks(host, limit).await, url.tls) {
        (Speaks::Tls, false) => {
            let scheme = url.scheme().replacen("redis", "rediss", 1);
            Finding::fail("TLS", format!("{host} speaks TLS, the URL does not"), format!("write {scheme}://"))
        }
        (Speaks::Redis, true) => {
            let scheme = url.scheme().replacen("rediss", "redis", 1);
            let do_this = format!("write {scheme}://, or give the server a certificate");
            Finding::fail("TLS", format!("{host} does not speak TLS, the URL does"), do_this)
        }
        (Speaks::Tls, true) if why.to_lowercase().contains("certificate") => Finding::fail(
            "TLS",
            format!("the certificate of {host} is not believed ({why})"),
            "set the file of the authority that signed it, or use the name that is in it",
        ),
        (Speaks::Nothing, _) => Finding::warn(
            "connection",
            format!("{host} cannot be reached ({why})"),
            "start it, or correct its address; until then the directory is degraded",
        ),
        (Speaks::Redis | Speaks::Tls | Speaks::Unknown, _) => Finding::warn(
            "connection",
            format!("{host} does not answer ({why})"),
            "see why; until then the directory is degraded",
        ),
    }
}

async fn password(
    url: &SharedUrl,
    host: &Host,
    why: &str,
    e: &RedisError,
    certificates: Option<TlsCertificates>,
    limit: Duration,
) -> Option<Finding> {
    let fail = |found: String, what_to_do: &str| Some(Finding::fail("password", found, what_to_do));
    if url.password.is_none() && why.contains("NOAUTH") {
        let what_to_do = format!("write {}://:password@{host}", url.scheme());
        return fail(format!("{host} needs a password, the URL has none"), &what_to_do);
    }
    if e.kind() != ErrorKind::AuthenticationFailed && !why.contains("WRONGPASS") {
        return None;
    }
    // A server without a password refuses any; it lets us in without.
    if let Ok(mut open) = connect(RedisConnectionInfo::default(), host, certificates, limit).await
        && ask::<Value>(&mut open, &["PING"], limit).await.is_ok()
    {
        return fail(format!("{host} has no password, the URL has one"), "leave it out, or set requirepass");
    }
    fail(format!("{host} refuses the password of the URL"), "correct the user and password")
}

fn version(host: &Host, info: &Info) -> Finding {
    let number = info.get("redis_version").unwrap_or("unknown");
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST {
        return Finding::fail(
            "version",
            format!("{host} is Redis {number}, which is too old"),
            format!("use {}.{} or newer", OLDEST.0, OLDEST.1),
        );
    }
    Finding::ok("version", format!("{host} is Redis {number}"))
}

/// Is it what the URL says it is?
fn kind(url: &SharedUrl, host: &Host, info: &Info) -> Option<Finding> {
    let in_cluster = info.is("cluster_enabled", "1");
    let tls = if url.tls { "s" } else { "" };
    if info.is("redis_mode", "sentinel") {
        let write = format!("write redis{tls}-sentinel://{host}/service");
        return Some(Finding::fail("kind", format!("{host} is a Sentinel"), write));
    }
    match (&url.kind, in_cluster) {
        (Kind::Server | Kind::Sentinel { .. }, true) => {
            let write = format!("write redis{tls}-cluster://{host}");
            Some(Finding::fail("kind", format!("{host} is a node of a cluster, the URL is of one server"), write))
        }
        (Kind::Cluster, false) => {
            let write = format!("write redis{tls}://{host}");
            Some(Finding::fail("kind", format!("{host} is no node of a cluster, the URL is of one"), write))
        }
        (Kind::Server | Kind::Sentinel { .. }, false) | (Kind::Cluster, true) => None,
    }
}

fn role(host: &Host, info: &Info) -> Finding {
    if info.is("role", "master") {
        return Finding::ok(ROLE, format!("{host} takes writes"));
    }
    let master = info.get("master_host").zip(info.get("master_port")).map(|(name, port)| format!("{name}:{port}"));
    let master = master.unwrap_or_else(|| "the master".to_owned());
    Finding::fail(ROLE, format!("{host} is a replica and takes no writes"), format!("name its master, {master}"))
}

fn eviction(host: &Host, info: &Info) -> Finding {
    const DO: &str = "set maxmemory-policy noeviction";
    let policy = info.get("maxmemory_policy").unwrap_or("noeviction");
    if policy == "noeviction" {
        return Finding::ok("eviction", format!("{host} keeps what it is given"));
    }
    if info.is("maxmemory", "0") {
        let why = format!("{host} would evict keys ({policy}) if its memory had a limit");
        return Finding::warn("eviction", why, DO);
    }
    Finding::fail("eviction", format!("{host} evicts keys when its memory is full ({policy})"), DO)
}

fn room(host: &Host, info: &Info) -> Option<Finding> {
    let number = |name| info.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    (most > 0 && used / 9 >= most / 10).then(|| {
        let why = format!("{host} uses {used} of {most} bytes and refuses writes once they are full");
        Finding::warn("memory", why, "raise maxmemory")
    })
}

fn durability(host: &Host, info: &Info, save: Option<&str>) -> Finding {
    const COST: &str = "gateways announce their sessions again after a loss";
    if info.is("rdb_last_bgsave_status", "err") || info.is("aof_last_write_status", "err") {
        let why = format!("{host} could not write its files and may refuse writes");
        return Finding::warn("durability", why, "make room on its disk and see its log");
    }
    if info.is("aof_enabled", "1") {
        return Finding::ok("durability", format!("{host} writes an append-only file"));
    }
    match save {
        Some("") => Finding::warn(
            "durability",
            format!("{host} writes no file: what it knows is lost with the process ({COST})"),
            "set appendonly yes to spare logins the search for their homes after a crash",
        ),
        Some(_) | None => Finding::warn(
            "durability",
            format!("{host} has no append-only file: after a crash it comes back with an old state ({COST})"),
            "set appendonly yes",
        ),
    }
}

async fn latency(host: &Host, connection: &mut MultiplexedConnection, limit: Duration) -> Finding {
    let mut took = Vec::new();
    for _ in 0..PINGS {
        let start = Instant::now();
        if let Err(e) = ask::<Value>(connection, &["PING"], limit).await {
            return Finding::warn("latency", format!("{host} stopped answering ({})", one_line(&e)), "see why");
        }
        took.push(start.elapsed());
    }
    took.sort();
    let middle = took[PINGS / 2];
    let said = format!("{host} answers in {:.1} ms", middle.as_secs_f64() * 1_000.0);
    if middle < SLOW {
        Finding::ok("latency", said)
    } else {
        Finding::warn("latency", said, "run Redis next to the gateways: logins wait for it")
    }
}

async fn whole(host: &Host, connection: &mut MultiplexedConnection, limit: Duration) -> Finding {
    match ask::<String>(connection, &["CLUSTER", "INFO"], limit).await.map(Info) {
        Ok(info) if info.is("cluster_state", "ok") => Finding::ok("cluster", "all slots are served"),
        Ok(_) => {
            Finding::warn("cluster", format!("{host} says that the cluster is down"), "see `redis-cli --cluster check`")
        }
        Err(e) => {
            Finding::warn("cluster", format!("{host} does not tell about its cluster ({})", one_line(&e)), "see why")
        }
    }
}

/// The masters by the lines of `CLUSTER NODES`: id, address, flags, …
async fn known_masters(connection: &mut MultiplexedConnection, asked: &Host, limit: Duration) -> Vec<Host> {
    let nodes: String = ask(connection, &["CLUSTER", "NODES"], limit).await.unwrap_or_default();
    nodes.lines().filter_map(|line| master(line, asked)).collect()
}

fn master(line: &str, asked: &Host) -> Option<Host> {
    let mut words = line.split(' ').skip(1);
    let (address, flags) = (words.next()?, words.next()?);
    if flags.split(',').any(|flag| flag == "myself") {
        return flags.contains("master").then(|| asked.clone());
    }
    let alive = flags.split(',').any(|flag| flag == "master") && !flags.contains("noaddr");
    let (name, port) = address.split('@').next()?.rsplit_once(':')?;
    Some(Host { name: name.to_owned(), port: port.parse().ok()? }).filter(|_| alive)
}

/// An answer to `INFO`: lines of `name:value`.
struct Info(String);

impl Info {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    fn host() -> Host {
        Host { name: "a".to_owned(), port: 1 }
    }

    #[test]
    fn the_version_is_compared_by_numbers() {
        let level = |version: &str| version_of(version).level;
        assert_eq!(level("6.0.16"), Level::Fail);
        assert_eq!(level("6.2.0"), Level::Ok);
        assert_eq!(level("10.0.1"), Level::Ok);
        assert!(version_of("5.0.7").why.contains("5.0.7"));
    }

    fn version_of(version: &str) -> Finding {
        super::version(&host(), &Info(format!("# Server\r\nredis_version:{version}\r\n")))
    }

    #[test]
    fn a_policy_that_evicts_is_bad_only_with_a_limit() {
        let level = |policy: &str, most: &str| {
            eviction(&host(), &Info(format!("maxmemory:{most}\r\nmaxmemory_policy:{policy}\r\n"))).level
        };
        assert_eq!(level("noeviction", "100"), Level::Ok);
        assert_eq!(level("allkeys-lru", "0"), Level::Warn);
        assert_eq!(level("volatile-ttl", "100"), Level::Fail);
    }

    #[test]
    fn masters_are_read_out_of_the_nodes() {
        let asked = host();
        assert_eq!(
            master("id 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460", &asked),
            Some(asked.clone())
        );
        let other = Host { name: "10.0.0.2".to_owned(), port: 7000 };
        assert_eq!(master("id 10.0.0.2:7000@17000,name master - 0 0 2 connected", &asked), Some(other));
        assert_eq!(master("id 10.0.0.3:7000@17000 slave id 0 0 2 connected", &asked), None);
        assert_eq!(master("", &asked), None);
    }
}
