//! A Sentinel that watches one master.

use std::fs;
use std::process::Child;

use redis::Client;
use tempfile::TempDir;

use super::server::{answers, launch, log};
use super::{RedisServer, free_port, wait_until};

/// One Sentinel, which decides alone. The service is called `main`.
#[derive(Debug)]
pub struct RedisSentinel {
    port: u16,
    #[expect(dead_code, reason = "holds the files until the process is gone")]
    directory: TempDir,
    process: Child,
}

impl RedisSentinel {
    /// Starts a Sentinel that makes a replica the master when `master` does not answer for half a second.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(master: &RedisServer) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let config = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            directory.path().display(),
            master.port()
        );
        fs::write(directory.path().join("redis.conf"), config).expect("the configuration is written");
        let mut process = launch(&directory, &["--sentinel"]);
        let up = answers(&mut process, || ask(port, &["PING"]).is_ok());
        assert!(up, "the Sentinel does not start:\n{}", log(&directory));
        Self { port, directory, process }
    }

    /// `redis-sentinel://` with the service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/main", self.port)
    }

    /// Waits until it knows a replica that can take over.
    ///
    /// # Panics
    /// That takes too long.
    pub fn wait_for_replica(&self) {
        wait_until("the Sentinel knows the replica", || {
            ask(self.port, &["SENTINEL", "REPLICAS", "main"]).is_ok_and(|replicas| replicas.contains("ok"))
        });
    }

    /// Makes a replica the master, now.
    ///
    /// # Panics
    /// There is no replica that can take over.
    pub fn fail_over(&self) {
        wait_until("the Sentinel fails over", || ask(self.port, &["SENTINEL", "FAILOVER", "main"]).is_ok());
    }

    /// The port of the master on this machine.
    #[must_use]
    pub fn master(&self) -> Option<u16> {
        let address = ask(self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).ok()?;
        address.lines().nth(1)?.parse().ok()
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The answer in lines; of a list of replicas `ok` for each that could take over.
fn ask(port: u16, words: &[&str]) -> Result<String, redis::RedisError> {
    let mut connection = Client::open(("127.0.0.1", port))?.get_connection()?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    if words.get(1) == Some(&"REPLICAS") {
        let replicas: Vec<std::collections::HashMap<String, String>> = command.query(&mut connection)?;
        let ready = |replica: &&std::collections::HashMap<String, String>| {
            replica.get("flags").is_some_and(|flags| flags == "slave")
                && replica.get("master-link-status").is_some_and(|status| status == "ok")
        };
        return Ok(replicas.iter().filter(ready).map(|_| "ok\n").collect());
    }
    if words == ["PING"] || words.get(1) == Some(&"FAILOVER") {
        return command.query(&mut connection);
    }
    let lines: Vec<String> = command.query(&mut connection)?;
    Ok(lines.join("\n"))
}
