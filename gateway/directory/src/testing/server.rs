//! One `redis-server` process.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::{TlsCertificates, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{free_port, tls, wait_until};
use crate::link::{client, with_login};
use crate::url::Host;

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The password of the default user.
    pub password: Option<String>,
    /// TLS only, with a certificate for 127.0.0.1 of an authority made for this server.
    pub tls: bool,
    /// The port of a server on this machine to be a replica of.
    pub replica_of: Option<u16>,
    /// A node of a cluster; it has no slots yet.
    pub cluster: bool,
    /// More lines of `redis.conf`.
    pub config: Vec<String>,
}

/// A running server with its own directory. It writes no files by itself, unless its options say so.
#[derive(Debug)]
pub struct RedisServer {
    options: Options,
    port: u16,
    bus_port: u16,
    directory: TempDir,
    process: Child,
    paused: bool,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// There is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if options.tls {
            tls::write(directory.path());
        }
        // Between finding a port and listening on it somebody else may take it.
        for _ in 0..5 {
            let (port, bus_port) = (free_port(), free_port());
            write_config(&options, port, bus_port, &directory);
            let mut process = launch(&directory, &[]);
            if answers(&mut process, || ask(&options, port, &directory, &["PING"]).is_ok()) {
                return Self { options, port, bus_port, directory, process, paused: false };
            }
        }
        panic!("redis-server does not start:\n{}", log(&directory));
    }

    /// `redis://` or `rediss://` with the password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        let password = self.options.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("{scheme}://{password}127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The authority that signed the server's certificate (PEM), for a server with TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join(tls::CA)
    }

    pub(super) fn bus_port(&self) -> u16 {
        self.bus_port
    }

    /// Runs a command and gives its answer as text, the parts of a list in lines.
    ///
    /// # Errors
    /// What the server, or the connection to it, says.
    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        ask(&self.options, self.port, &self.directory, words)
    }

    /// Ends it with SIGKILL; what was not saved is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.paused = false;
    }

    /// Starts it again after [`RedisServer::kill`], on the same port, from its files if it has any.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.directory, &[]);
        let (options, port, directory) = (&self.options, self.port, &self.directory);
        let up = answers(&mut self.process, || ask(options, port, directory, &["PING"]).is_ok());
        assert!(up, "redis-server does not start again:\n{}", log(directory));
    }

    /// Stops it with SIGSTOP: connections stay, nothing is answered.
    pub fn pause(&mut self) {
        signal(&self.process, Signal::STOP);
        self.paused = true;
    }

    /// Lets it go on after [`RedisServer::pause`].
    pub fn resume(&mut self) {
        signal(&self.process, Signal::CONT);
        self.paused = false;
    }

    /// Writes its data to the file that [`RedisServer::restart`] starts from.
    ///
    /// # Panics
    /// It does not.
    pub fn save(&self) {
        self.command(&["SAVE"]).expect("SAVE");
    }

    /// Forgets all data.
    ///
    /// # Panics
    /// It does not.
    pub fn wipe(&self) {
        self.command(&["FLUSHALL"]).expect("FLUSHALL");
    }

    /// Waits until it is a replica that has all its master has, as far as it knows.
    ///
    /// # Panics
    /// That takes too long.
    pub fn wait_for_replication(&self) {
        wait_until("a replica in step", || {
            self.command(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write_config(options: &Options, port: u16, bus_port: u16, directory: &TempDir) {
    let path = directory.path().display();
    let mut lines = format!("bind 127.0.0.1\ndir {path}\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n");
    if options.tls {
        let _ = writeln!(lines, "port 0\ntls-port {port}\ntls-auth-clients no\ntls-replication yes");
        let _ = writeln!(lines, "tls-ca-cert-file {path}/{}", tls::CA);
        let _ = writeln!(lines, "tls-cert-file {path}/{}\ntls-key-file {path}/{}", tls::CERTIFICATE, tls::KEY);
    } else {
        let _ = writeln!(lines, "port {port}");
    }
    if let Some(password) = &options.password {
        let _ = writeln!(lines, "requirepass {password}\nmasterauth {password}");
    }
    if let Some(master) = options.replica_of {
        let _ = writeln!(lines, "replicaof 127.0.0.1 {master}");
    }
    if options.cluster {
        let _ = writeln!(lines, "cluster-enabled yes\ncluster-port {bus_port}\ncluster-node-timeout 1000");
    }
    for line in &options.config {
        let _ = writeln!(lines, "{line}");
    }
    fs::write(directory.path().join("redis.conf"), lines).expect("redis.conf is written");
}

/// Starts `redis-server redis.conf` in `directory`.
pub(super) fn launch(directory: &TempDir, arguments: &[&str]) -> Child {
    let file = fs::OpenOptions::new().create(true).append(true).open(directory.path().join("log")).expect("a log file");
    let process = Command::new("redis-server")
        .arg(directory.path().join("redis.conf"))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(file.try_clone().expect("a second handle of the log file"))
        .stdout(file)
        .spawn();
    match process {
        Ok(process) => process,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            panic!("there is no redis-server on PATH: install the package redis-server (Debian, Ubuntu) or redis")
        }
        Err(e) => panic!("redis-server cannot be run: {e}"),
    }
}

/// Waits until the process answers; false if it ended instead.
pub(super) fn answers(process: &mut Child, mut answer: impl FnMut() -> bool) -> bool {
    let mut running = true;
    wait_until("redis-server answers", || {
        running = process.try_wait().is_ok_and(|status| status.is_none());
        !running || answer()
    });
    running
}

pub(super) fn log(directory: &TempDir) -> String {
    fs::read_to_string(directory.path().join("log")).unwrap_or_default()
}

pub(super) fn signal(process: &Child, signal: Signal) {
    let pid = Pid::from_raw(process.id().cast_signed()).expect("a process id is not zero");
    kill_process(pid, signal).expect("a signal to our own process");
}

fn ask(options: &Options, port: u16, directory: &TempDir, words: &[&str]) -> Result<String, String> {
    let host = Host { name: "127.0.0.1".to_owned(), port };
    let certificates = options.tls.then(|| {
        let root_cert = fs::read(directory.path().join(tls::CA)).ok();
        TlsCertificates { client_tls: None, root_cert }
    });
    let settings = with_login(redis::RedisConnectionInfo::default(), None, options.password.as_deref());
    let run = || {
        let mut connection = client(&host, certificates, settings)?.get_connection_with_timeout(super::PATIENCE)?;
        connection.set_read_timeout(Some(super::PATIENCE))?;
        redis::cmd(words[0]).arg(&words[1..]).query::<Value>(&mut connection)
    };
    run().map(text).map_err(|e| e.to_string())
}

fn text(value: Value) -> String {
    match value {
        Value::Nil => String::new(),
        Value::Int(n) => n.to_string(),
        Value::Okay => "OK".to_owned(),
        Value::SimpleString(text) => text,
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::Array(values) => values.into_iter().map(text).collect::<Vec<_>>().join("\n"),
        other => format!("{other:?}"),
    }
}
