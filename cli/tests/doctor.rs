//! `tidegate doctor` on real files, real ports and a real Redis: what is wrong is said, with what to do.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
use serde_json::Value;
use tidegate_directory::testing::{Options, RedisServer};
use tidegate_link::pki::{Authority, Issued};

/// How long a process may take on a busy machine until it says where it listens.
const PATIENCE: Duration = Duration::from_secs(30);

fn tidegate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).args(arguments).env("TIDEGATE_GUARD_PID", std::process::id().to_string());
    // Nobody: a manager that happens to run on this machine is not the one to ask.
    command.env("TIDEGATE_MANAGER", "http://127.0.0.1:1");
    command
}

/// What the doctor says, and its exit code.
fn findings(folder: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = tidegate(folder, &["-o", "json", "doctor"]).args(arguments).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = told["findings"].as_array().unwrap().clone();
    for (count, level) in [("bad", "fail"), ("warnings", "warn")] {
        assert_eq!(told[count], findings.iter().filter(|finding| finding["level"] == level).count(), "{told}");
    }
    for finding in &findings {
        assert_eq!(finding["ok"], finding["level"] != "fail", "{finding}");
        assert_eq!(finding["fix"].is_null(), finding["level"] == "ok", "{finding}");
    }
    (output.status.code(), findings)
}

/// Level and text of what it says of one thing.
fn said(findings: &[Value], name: &str) -> (String, String) {
    let found = findings.iter().find(|finding| finding["name"] == name);
    let found = found.unwrap_or_else(|| panic!("nothing of {name:?} in {findings:#?}"));
    (found["level"].as_str().unwrap().to_owned(), format!("{}: {}", found["what"], found["fix"]))
}

#[track_caller]
fn expect(findings: &[Value], name: &str, level: &str, words: &[&str]) {
    let (found, text) = said(findings, name);
    assert!(found == level && words.iter().all(|word| text.contains(word)), "{name}: {found}, {text}");
}

fn of_redis(url: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    findings(folder.path(), &["--directory", url]).1
}

#[test]
fn a_redis_is_judged_as_a_gateway_would() {
    let redis = RedisServer::start(Options { password: Some("hush".into()), ..Options::default() });
    let open = format!("redis://127.0.0.1:{}", redis.port());
    let fix = format!("redis://:password@127.0.0.1:{}", redis.port());
    expect(&of_redis(&open), "directory password", "fail", &["needs a password", &fix]);
    let found = of_redis(&redis.url());
    expect(&found, "directory version", "ok", &[]);
    expect(&found, "directory role", "ok", &["takes writes"]);
    expect(&found, "directory eviction", "ok", &[]);
    expect(&found, "directory durability", "warn", &["appendonly yes"]);
    assert!(found.iter().all(|finding| !finding.to_string().contains("hush")), "{found:#?}");

    let lines = ["maxmemory 100mb".to_owned(), "maxmemory-policy allkeys-lru".to_owned(), "appendonly yes".to_owned()];
    let evicting = RedisServer::start(Options { config: lines.into(), ..Options::default() });
    let found = of_redis(&evicting.url());
    expect(&found, "directory eviction", "fail", &["allkeys-lru", "noeviction"]);
    expect(&found, "directory durability", "ok", &[]);

    let replica = RedisServer::start(Options { replica_of: Some(evicting.port()), ..Options::default() });
    expect(&of_redis(&replica.url()), "directory role", "fail", &["takes no writes", &evicting.port().to_string()]);
}

#[test]
fn a_redis_that_speaks_tls_needs_its_authority() {
    let redis = RedisServer::start(Options { tls: true, ..Options::default() });
    let plain = format!("redis://127.0.0.1:{}", redis.port());
    expect(&of_redis(&plain), "directory TLS", "fail", &["speaks TLS", "rediss://"]);
    expect(&of_redis(&redis.url()), "directory TLS", "fail", &["not believed"]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let text = format!("directory = \"{}\"\ndirectory_ca = \"{}\"\n", redis.url(), redis.ca_file().display());
    std::fs::write(&config, text).unwrap();
    let found = findings(folder.path(), &["--gateway-config", "gateway.toml"]).1;
    expect(&found, "directory role", "ok", &["takes writes"]);
}

#[test]
fn a_redis_that_is_not_there_is_worth_a_warning() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = of_redis(&format!("redis://{nobody}"));
    expect(&found, "directory connection", "warn", &["cannot be reached", "degraded"]);
}

#[test]
fn certificates_are_read_as_they_will_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    std::fs::write(folder.path().join("gateway.toml"), "pki_dir = \"pki\"\nadvertise = \"play.example:7443\"\n")
        .unwrap();
    let look = || findings(folder.path(), &["--gateway-config", "gateway.toml"]).1;
    expect(&look(), "gateway certificate", "fail", &["pki/ca.pem", "tidegate pki issue"]);

    let authority = Authority::open_or_create(&pki).unwrap();
    authority.issue("gw-1.gateway.tidegate", &["play.example"]).unwrap().write(&pki, "gateway").unwrap();
    expect(&look(), "gateway certificate", "ok", &["gw-1.gateway.tidegate", "play.example", "until "]);

    expired(&pki).write(&pki, "gateway").unwrap();
    expect(&look(), "gateway certificate", "fail", &["expired on 2020-05-17", "tidegate pki issue"]);

    std::fs::remove_file(pki.join("gateway.key")).unwrap();
    expect(&look(), "gateway certificate", "fail", &["pki/gateway.key"]);
}

/// A certificate of the folder's authority whose time is over.
fn expired(pki: &Path) -> Issued {
    let read = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let mut params = CertificateParams::new(["gw-1.gateway.tidegate".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 5, 17));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem() }
}

#[test]
fn a_port_that_somebody_else_has_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let [metrics, grpc] = [&tcp[0], &tcp[1]].map(|listener| listener.local_addr().unwrap());
    let gateway = format!("listen = \"{}\"\nmetrics_listen = \"{metrics}\"\n", udp.local_addr().unwrap());
    std::fs::write(folder.path().join("gateway.toml"), gateway).unwrap();
    let manager = format!("listen = \"{grpc}\"\nmetrics_listen = \"127.0.0.1:0\"\n");
    std::fs::write(folder.path().join("manager.toml"), manager).unwrap();
    let (code, found) =
        findings(folder.path(), &["--gateway-config", "gateway.toml", "--manager-config", "manager.toml"]);
    assert_eq!(code, Some(1));
    for (name, key) in [
        ("gateway port (UDP)", "another listen"),
        ("gateway metrics port", "metrics_listen"),
        ("manager port", "listen"),
    ] {
        expect(&found, name, "fail", &["in use by something else", key]);
    }
    expect(&found, "manager metrics port", "ok", &[]);
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process and waits for the file in which it says where it listens.
fn start(folder: &Path, process: &str, config: &str, address: &str) -> (Running, String) {
    let mut command = tidegate(folder, &[process, "--config", config]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    let until = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(folder.join(address)).unwrap_or_default();
        if !text.trim().is_empty() {
            return (running, text.trim().to_owned());
        }
        assert!(Instant::now() < until, "{process} did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ports_of_our_own_processes_and_what_they_made_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    let anywhere = "metrics_listen = \"127.0.0.1:0\"\n";
    write("manager.toml", format!("listen = \"127.0.0.1:0\"\n{anywhere}"));
    let (_manager, manager) = start(folder, "fleet-manager", "manager.toml", "tidegate-data/manager.addr");
    write("manager.toml", format!("listen = \"{manager}\"\n{anywhere}"));

    let config = format!("listen = \"127.0.0.1:0\"\nmanager = \"http://{manager}\"\n{anywhere}");
    write("gateway.toml", config);
    let (_gateway, gateway) = start(folder, "gateway", "gateway.toml", "tidegate-gateway/gateway.addr");
    write("gateway.toml", format!("listen = \"{gateway}\"\n{anywhere}"));

    // It is known to the manager a moment after it listens.
    let url = format!("http://{manager}");
    let arguments = ["--manager", &url, "--gateway-config", "gateway.toml", "--manager-config", "manager.toml"];
    let until = Instant::now() + PATIENCE;
    let found = loop {
        let found = findings(folder, &arguments).1;
        if said(&found, "gateways").0 == "ok" {
            break found;
        }
        assert!(Instant::now() < until, "{found:#?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for name in ["gateway port (UDP)", "manager port"] {
        expect(&found, name, "ok", &["the one that runs"]);
    }
    for name in [
        "fleet-manager",
        "manager's clock",
        "lease clock",
        "gateway certificate",
        "manager certificate",
        "login keys",
        "resume key",
        "directory",
    ] {
        expect(&found, name, "ok", &[]);
    }
}

#[test]
fn what_cannot_be_read_is_a_finding_and_what_was_typed_wrong_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), "lisen = 1\n").unwrap();
    let (code, found) = findings(folder.path(), &["--gateway-config", "gateway.toml", "--manager-config", "none.toml"]);
    assert_eq!(code, Some(1));
    expect(&found, "gateway configuration", "fail", &["gateway.toml: line 1", "lisen"]);
    expect(&found, "manager configuration", "fail", &["none.toml"]);

    let output = tidegate(folder.path(), &["doctor", "--directory", "http://me:hush@x"]).output().unwrap();
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.starts_with("tidegate: --directory: ") && !line.contains("hush"), "{line}");
    assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1, "looking makes nothing");
}
