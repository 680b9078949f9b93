//! Whether two gateways mean the same shared directory, by the URLs they give.
//!
//! What decides who holds what: the nodes, the database's number, the service's name. What does not: names and passwords,
//! TLS, time limits, the order of nodes. Of a cluster or of Sentinels each gateway may name some nodes only, so one in
//! common is enough; but the lists are of seeds then, and of a single server there is only one.

use std::collections::BTreeSet;

/// A gateway keeps its directory in its own memory.
pub(super) const EMBEDDED: &str = "embedded";

/// Redis' own port, and that of Sentinel.
const PORTS: (u16, u16) = (6379, 26379);

#[derive(Debug, PartialEq, Eq)]
struct Directory {
    /// The scheme without what says TLS: "redis", "redis+sentinel", "redis+cluster".
    kind: String,
    nodes: BTreeSet<(String, u16)>,
    /// The database's number, or the service's name with it; "0" and nothing are the same.
    path: String,
}

/// True if both are the same directory. What cannot be read as a URL is the same only letter by letter.
pub(super) fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (Some(a), Some(b)) = (read(a), read(b)) else { return false };
    a.kind == b.kind && a.path == b.path && a.nodes.intersection(&b.nodes).next().is_some()
}

/// The URL as it may be shown: without a password, should a gateway have sent one.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, nodes)) = authority.rsplit_once('@') else { return url.to_owned() };
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    let at = if user.is_empty() { "" } else { "@" };
    format!("{scheme}://{user}{at}{nodes}{path}")
}

fn read(url: &str) -> Option<Directory> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let kind = scheme.replacen("rediss", "redis", 1);
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let nodes = authority.rsplit_once('@').map_or(authority, |(_, nodes)| nodes);
    let default = if kind.contains("sentinel") { PORTS.1 } else { PORTS.0 };
    let nodes = nodes.split(',').map(|node| read_node(node, default)).collect::<Option<BTreeSet<_>>>()?;
    let mut path = path.trim_matches('/').to_owned();
    // Which service Sentinel is asked for may stand in the query.
    for pair in query.split('&') {
        if let Some((key, value)) = pair.split_once('=')
            && matches!(key, "service" | "service_name" | "master" | "db" | "prefix")
        {
            path = format!("{path}&{key}={value}");
        }
    }
    if path == "0" {
        path.clear();
    }
    Some(Directory { kind, nodes, path })
}

fn read_node(node: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match node.rsplit_once(':') {
        // An IPv6 address in brackets has colons of its own.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (node, default),
    };
    let host = host.to_ascii_lowercase();
    let host = if matches!(host.as_str(), "localhost" | "[::1]") { "127.0.0.1".to_owned() } else { host };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_may_be_written_in_several_ways() {
        for (a, b) in [
            ("redis://cache", "redis://cache:6379/0"),
            ("redis://Cache/", "redis://operator@cache"),
            ("redis://localhost/2", "redis://127.0.0.1:6379/2"),
            ("rediss://cache:6380", "rediss://cache:6380/?timeout=2s"),
            ("redis+cluster://a,b,c", "redis+cluster://c:6379,d"),
            ("redis+sentinel://a,b/main/0", "redis+sentinel://b:26379,c/main/0"),
            ("redis://[fe80::1]:6379", "redis://[fe80::1]"),
            ("embedded", "embedded"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} and {b}");
        }
    }

    #[test]
    fn another_server_database_or_service_is_another_directory() {
        for (a, b) in [
            ("redis://cache", "redis://cash"),
            ("redis://cache", "redis://cache:6380"),
            ("redis://cache/1", "redis://cache/2"),
            ("redis+sentinel://a/main", "redis+sentinel://a/other"),
            ("redis://a?service=x", "redis://a?service=y"),
            ("redis+cluster://a,b", "redis+cluster://c,d"),
            ("redis://a", "redis+cluster://a"),
            ("redis://a:port", "redis://a"),
            ("redis://", "redis:///0"),
            ("embedded", "redis://a"),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} and {b}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(shown("redis://me:secret@cache/1"), "redis://me@cache/1");
        assert_eq!(shown("rediss://:se@cret@cache:1"), "rediss://cache:1");
        assert_eq!(shown("redis://cache/1"), "redis://cache/1");
        assert_eq!(shown("embedded"), "embedded");
    }
}
