//! A fleet-manager, a gateway and, through them, world servers: all real, all in one temporary folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use world_server_stub::ledger::{self, HomesAudit};

use crate::operator::{Operator, text};
use crate::process::{Process, binary};

/// The smallest deployment that has everything: two servers for the open world, one for instances.
pub const FLEETS: &str = "--fleet name=open,replicas=2,zones=harbor+meadow+forest,capacity=400 \
                          --fleet name=instances,replicas=1,instances=dungeon+raid,capacity=400";

/// A running deployment. Dropping it ends every process.
pub struct Cluster {
    folder: TempDir,
    /// The manager's process; `None` while it is down.
    pub manager: Option<Process>,
    /// The gateway's process; `None` while it is down.
    pub gateway: Option<Process>,
    /// Drives the manager.
    pub operator: Operator,
    manager_address: String,
    gateway_address: SocketAddr,
}

impl Cluster {
    /// Starts a manager and a gateway, nothing else.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (manager, manager_address) = start_manager(folder.path(), "127.0.0.1:0");
        let config = format!(
            "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\nmanager = \"http://{manager_address}\"\n\
             data_dir = {:?}\npki_dir = {:?}\nticket_keys = {:?}\n",
            folder.path().join("gateway"),
            folder.path().join("manager/pki"),
            folder.path().join("manager/tickets/keys"),
        );
        std::fs::write(folder.path().join("gateway.toml"), config).expect("a file");
        let (gateway, gateway_address) = start_gateway(folder.path(), None);
        Self {
            operator: Operator::new(&manager_address),
            folder,
            manager: Some(manager),
            gateway: Some(gateway),
            manager_address,
            gateway_address,
        }
    }

    /// Starts everything, with build 1.9.0 in play in realm `eu-1`; also says which environment that is.
    #[must_use]
    pub fn populated() -> (Self, String) {
        Self::populated_by("")
    }

    /// As [`Cluster::populated`], with these arguments of the stub.
    #[must_use]
    pub fn populated_by(stub: &str) -> (Self, String) {
        let cluster = Self::start();
        cluster.register("1.9.0", "--reads 1 --writes 1", stub);
        cluster.realm("eu-1");
        let blue = cluster.environment("eu-1", "1.9.0", "--label blue", FLEETS);
        cluster.flip("eu-1", &blue);
        (cluster, blue)
    }

    /// Registers a build of the stub with these options and stub arguments, and a small asset bundle.
    ///
    /// # Panics
    /// When its assets cannot be written.
    pub fn register(&self, version: &str, options: &str, stub: &str) {
        let assets = self.folder.path().join(format!("assets-{version}"));
        std::fs::create_dir_all(&assets).expect("a folder");
        std::fs::write(assets.join("world.txt"), format!("the world of {version}")).expect("a file");
        let line = format!(
            "build register {version} {options} --assets {} -- {} world-server-stub --build {version} {stub}",
            assets.display(),
            binary().display()
        );
        let _ = self.operator.run(&line);
    }

    /// Registers build 2.0.0, which reads what 1.9.0 wrote and writes what 1.9.0 can read, so that a rollback is possible.
    pub fn register_reversible(&self, version: &str, stub: &str) {
        self.register(version, "--reads 1,2 --writes 1", &format!("--write-format 1 {stub}"));
    }

    /// Creates a realm with short grace, so that tests need not wait.
    pub fn realm(&self, id: &str) {
        let _ = self.operator.run(&format!("realm create {id} --grace 10s"));
    }

    /// Creates, stages and verifies an environment; it is then ready.
    #[must_use]
    pub fn environment(&self, realm: &str, build: &str, options: &str, fleets: &str) -> String {
        let created = self.operator.run(&format!("env create --realm {realm} --build {build} {options} {fleets}"));
        let id = text(&created, "id");
        let _ = self.operator.run(&format!("env stage {id} --timeout 60s"));
        let _ = self.operator.run(&format!("env verify {id} --timeout 60s"));
        id
    }

    /// Sends new players to an environment; every gateway must confirm.
    pub fn flip(&self, realm: &str, to: &str) {
        let flip = self.operator.run(&format!("route flip {realm} --to {to}"));
        assert_eq!(flip["confirmed"], true, "{flip}");
    }

    /// kill -9 of the manager.
    pub fn kill_manager(&mut self) {
        self.manager = None;
    }

    /// Starts the manager again, at the same address.
    pub fn restart_manager(&mut self) {
        let (manager, _) = start_manager(self.folder.path(), &self.manager_address);
        self.manager = Some(manager);
    }

    /// kill -9 of the gateway.
    pub fn kill_gateway(&mut self) {
        self.gateway = None;
    }

    /// Starts the gateway again, at the same address.
    pub fn restart_gateway(&mut self) {
        let (gateway, _) = start_gateway(self.folder.path(), Some(self.gateway_address));
        self.gateway = Some(gateway);
    }

    /// Where players connect.
    #[must_use]
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateway_address
    }

    /// The manager's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("manager")
    }

    /// The deployment's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the world servers' save records say.
    ///
    /// # Panics
    /// When the realm has no database.
    #[must_use]
    pub fn audit(&self, realm: &str) -> HomesAudit {
        let realm = self.operator.run(&format!("realm get {realm}"));
        ledger::audit(Path::new(&text(&realm, "database"))).expect("a realm database")
    }

    /// Nobody ever had two homes, no epoch was used twice, and the world holds what it held.
    ///
    /// # Panics
    /// When the save records say otherwise.
    pub fn assert_sound(&self, realm: &str, gold: u64) {
        let audit = self.audit(realm);
        assert!(audit.intervals > 0, "nobody had a home: {audit:?}");
        assert_eq!((audit.overlaps, audit.duplicate_epochs, audit.gold_total), (0, 0, gold), "{audit:?}");
        assert_eq!(self.error_lines(), Vec::<String>::new());
    }

    /// Every line of level ERROR in any log: a broken invariant, which fails a test.
    #[must_use]
    pub fn error_lines(&self) -> Vec<String> {
        let mut logs = vec![self.folder.path().join("manager.log"), self.folder.path().join("gateway.log")];
        if let Ok(entries) = std::fs::read_dir(self.data_dir().join("logs")) {
            logs.extend(entries.filter_map(|e| e.ok().map(|e| e.path())));
        }
        let mut lines = Vec::new();
        for log in logs {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            lines
                .extend(text.lines().filter(|l| l.contains(" ERROR ") || l.contains("panicked at")).map(str::to_owned));
        }
        lines
    }
}

fn start_manager(folder: &Path, listen: &str) -> (Process, String) {
    let data = folder.join("manager");
    std::fs::create_dir_all(&data).expect("a folder");
    let file = data.join("manager.addr");
    let _ = std::fs::remove_file(&file);
    let data = data.to_string_lossy().into_owned();
    let arguments = ["fleet-manager", "--data-dir", &data, "--listen", listen, "--metrics-listen", "127.0.0.1:0"];
    let mut process = Process::start(&folder.join("manager.log"), &arguments, &[]);
    let address = process.wrote(&file);
    (process, address)
}

fn start_gateway(folder: &Path, listen: Option<SocketAddr>) -> (Process, SocketAddr) {
    let file = folder.join("gateway/gateway.addr");
    let _ = std::fs::remove_file(&file);
    let config = folder.join("gateway.toml").to_string_lossy().into_owned();
    let mut arguments = vec!["gateway".to_owned(), "--config".to_owned(), config];
    if let Some(listen) = listen {
        arguments.extend(["--listen".to_owned(), listen.to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut process = Process::start(&folder.join("gateway.log"), &arguments, &[]);
    let address = process.wrote(&file).parse().expect("an address");
    (process, address)
}
