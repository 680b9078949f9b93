//! Every finding about a Redis that is not fit, or not quite.

use std::time::Duration;

use tidegate_directory::check::{Finding, Level, inspect, refusal};
use tidegate_directory::testing::{Options, RedisCluster, RedisSentinel, RedisServer};
use tidegate_directory::{DirectoryConfig, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Gateway, cas, done, shared};

fn config() -> DirectoryConfig {
    DirectoryConfig { request_timeout: Duration::from_secs(2), ..DirectoryConfig::default() }
}

/// Checks that `url` is refused at start because of `what`, and that the line has all `words`.
#[track_caller]
fn check(findings: &[Finding], url: &str, what: &str, words: &[&str]) {
    let refusal = refusal(&shared(url), findings).unwrap_or_else(|| panic!("{what} is not refused: {findings:?}"));
    let failed = findings.iter().find(|finding| finding.level == Level::Fail).unwrap();
    assert_eq!(failed.what, what, "{refusal}");
    assert!(!failed.what_to_do.is_empty());
    assert!(!refusal.contains('\n') && !refusal.contains("hush"), "{refusal}");
    for word in words {
        assert!(refusal.contains(word), "{refusal}");
    }
}

async fn refused(url: &str, what: &str, words: &[&str]) {
    check(&inspect(&shared(url), &config()).await, url, what, words);
}

fn warning<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.what == what && finding.level == Level::Warn)
        .unwrap_or_else(|| panic!("no warning about {what}: {findings:?}"))
}

#[tokio::test]
async fn a_fit_server_passes_with_a_word_about_its_files() {
    let redis = RedisServer::start(Options::default());
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert_eq!(refusal(&shared(&redis.url()), &findings), None);
    assert!(warning(&findings, "durability").why.contains("writes no file"));
    redis.command(&["CONFIG", "SET", "save", "3600 1"]).unwrap();
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert!(warning(&findings, "durability").why.contains("old state"));
    redis.command(&["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert!(findings.iter().any(|finding| finding.what == "durability" && finding.level == Level::Ok));
}

#[tokio::test]
async fn passwords_that_are_missing_wrong_or_not_wanted() {
    let redis = RedisServer::start(Options { password: Some("hush".to_owned()), ..Options::default() });
    refused(&format!("redis://127.0.0.1:{}", redis.port()), "password", &["needs a password"]).await;
    refused(&format!("redis://:hush2@127.0.0.1:{}", redis.port()), "password", &["refuses the password"]).await;
    assert_eq!(refusal(&shared(&redis.url()), &inspect(&shared(&redis.url()), &config()).await), None);
    let open = RedisServer::start(Options::default());
    refused(&format!("redis://:hush@127.0.0.1:{}", open.port()), "password", &["has no password"]).await;
}

#[tokio::test]
async fn a_user_who_may_not_do_what_is_needed() {
    let redis = RedisServer::start(Options::default());
    redis.command(&["ACL", "SETUSER", "app", "on", ">hush", "~*", "+ping"]).unwrap();
    let url = format!("redis://app:hush@127.0.0.1:{}", redis.port());
    refused(&url, "permissions", &["does not permit", "+@scripting"]).await;
    // What it is told to be given is enough.
    let granted = "~tidegate:* +@connection +@read +@write +@scripting +info +cluster";
    let words: Vec<&str> = ["ACL", "SETUSER", "app", "resetkeys"].into_iter().chain(granted.split(' ')).collect();
    redis.command(&words).unwrap();
    assert_eq!(refusal(&shared(&url), &inspect(&shared(&url), &config()).await), None);
    let mut gateway = Gateway::join(&url).await;
    assert_eq!(gateway.ask("c", cas(0, 1, 1)).await, done(1));
}

#[tokio::test]
async fn a_url_and_a_server_that_disagree_about_tls() {
    let secret = RedisServer::start(Options { tls: true, ..Options::default() });
    let open = RedisServer::start(Options::default());
    refused(&format!("redis://127.0.0.1:{}", secret.port()), "TLS", &["speaks TLS", "write rediss://"]).await;
    refused(&format!("rediss://127.0.0.1:{}", open.port()), "TLS", &["does not speak TLS", "write redis://"]).await;
    refused(&secret.url(), "TLS", &["is not believed"]).await;
    let believing = DirectoryConfig { ca_file: Some(secret.ca_file()), ..config() };
    let findings = inspect(&shared(&secret.url()), &believing).await;
    assert_eq!(refusal(&shared(&secret.url()), &findings), None);
    let missing = DirectoryConfig { ca_file: Some("/nowhere/ca.pem".into()), ..config() };
    let findings = inspect(&shared(&secret.url()), &missing).await;
    check(&findings, &secret.url(), "certificate authority", &["/nowhere/ca.pem"]);
    assert!(start(&shared(&secret.url()), missing).is_err());
}

#[tokio::test]
async fn a_server_that_evicts() {
    let redis = RedisServer::start(Options::default());
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert!(warning(&findings, "eviction").why.contains("allkeys-lru"));
    redis.command(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    refused(&redis.url(), "eviction", &["allkeys-lru", "set maxmemory-policy noeviction"]).await;
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert!(warning(&findings, "memory").what_to_do.contains("maxmemory"));
}

#[tokio::test]
async fn a_replica() {
    let master = RedisServer::start(Options::default());
    let replica = RedisServer::start(Options { replica_of: Some(master.port()), ..Options::default() });
    replica.wait_for_replication();
    let name = format!("name its master, 127.0.0.1:{}", master.port());
    let findings = inspect(&shared(&replica.url()), &config()).await;
    let role = findings.iter().find(|finding| finding.level == Level::Fail).expect("it is said");
    assert!(role.to_string().contains("is a replica") && role.to_string().contains(&name), "{role}");
    // During a failover it is one for a moment: a gateway that starts then begins without its directory.
    assert_eq!(refusal(&shared(&replica.url()), &findings), None);
}

#[tokio::test]
async fn sentinels_and_their_services() {
    let master = RedisServer::start(Options::default());
    let sentinel = RedisSentinel::start(&master);
    let findings = inspect(&shared(&sentinel.url()), &config()).await;
    assert_eq!(refusal(&shared(&sentinel.url()), &findings), None);
    refused(&sentinel.url().replace("/main", "/other"), "sentinels", &["other"]).await;
    let plain = sentinel.url().replace("redis-sentinel", "redis").replace("/main", "");
    refused(&plain, "kind", &["is a Sentinel", "write redis-sentinel://"]).await;
    let none = inspect(&shared("redis-sentinel://127.0.0.1:1/main"), &config()).await;
    assert!(warning(&none, "sentinels").why.contains("127.0.0.1:1"));
}

#[tokio::test]
async fn a_cluster_and_a_url_that_disagree() {
    let cluster = RedisCluster::start(3);
    let findings = inspect(&shared(&cluster.url()), &config()).await;
    assert_eq!(refusal(&shared(&cluster.url()), &findings), None, "{findings:?}");
    refused(&cluster.nodes[0].url(), "kind", &["node of a cluster", "write redis-cluster://"]).await;
    let alone = RedisServer::start(Options::default());
    refused(&alone.url().replace("redis:", "redis-cluster:"), "kind", &["no node of a cluster"]).await;
    // What is wrong with one master is found whichever node the URL names.
    cluster.nodes[2].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    cluster.nodes[2].command(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    let one = format!("redis-cluster://127.0.0.1:{}", cluster.nodes[0].port());
    refused(&one, "eviction", &[&format!("127.0.0.1:{}", cluster.nodes[2].port())]).await;
}

#[tokio::test]
async fn nobody_there_is_no_reason_not_to_start() {
    let mut redis = RedisServer::start(Options::default());
    redis.kill();
    let findings = inspect(&shared(&redis.url()), &config()).await;
    assert_eq!(refusal(&shared(&redis.url()), &findings), None);
    assert!(warning(&findings, "connection").why.contains("cannot be reached"));
    redis.restart();
    redis.pause();
    let hasty = DirectoryConfig { request_timeout: Duration::from_millis(200), ..config() };
    let findings = inspect(&shared(&redis.url()), &hasty).await;
    assert_eq!(refusal(&shared(&redis.url()), &findings), None);
    assert!(warning(&findings, "connection").why.contains("does not answer"));
}

/// Answers as a Redis of that version would: `INFO` with its version, and errors for what it does not know.
async fn old_redis(version: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    let said = String::from_utf8_lossy(&bytes[..count]).to_uppercase();
                    // One answer for each command that came; they begin with `*`.
                    for command in said.split('*').skip(1) {
                        let answer = if command.contains("\r\nINFO\r\n") {
                            let info = format!("redis_version:{version}\r\nrole:master\r\n");
                            format!("${}\r\n{info}\r\n", info.len())
                        } else if command.contains("PING") {
                            "+PONG\r\n".to_owned()
                        } else {
                            "-ERR unknown command\r\n".to_owned()
                        };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_is_too_old() {
    let port = old_redis("5.0.7").await;
    refused(&format!("redis://127.0.0.1:{port}"), "version", &["5.0.7", "use 6.2 or newer"]).await;
}
