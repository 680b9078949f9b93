//! A fleet-manager, gateways and, through them, world servers: all real, all in one temporary folder. If asked for, a real
//! Redis, and relays on all lines.

mod gateway;
mod lines;
mod plan;
pub mod world_line;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate_directory::testing::{Options, RedisServer};
use world_server_stub::ledger::{self, HomesAudit};

pub use gateway::Gateway;
pub use lines::Lines;
pub use plan::Plan;

use crate::operator::{Operator, text};
use crate::process::{Process, binary};
use gateway::Setup;

/// The smallest deployment that has everything: two servers for the open world, one for instances.
pub const FLEETS: &str = "--fleet name=open,replicas=2,zones=harbor+meadow+forest,capacity=400 \
                          --fleet name=instances,replicas=1,instances=dungeon+raid,capacity=400";

/// A running deployment. Dropping it ends every process.
pub struct Cluster {
    folder: PathBuf,
    /// The manager's process; `None` while it is down.
    pub manager: Option<Process>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// Their directory, if they share one.
    pub redis: Option<RedisServer>,
    /// The relays, if there are any.
    pub lines: Option<Lines>,
    /// Drives the manager.
    pub operator: Operator,
    plan: Plan,
    manager_address: String,
    /// Goes with the cluster; the last, so that no process writes to it any more.
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts a manager and a gateway, nothing else.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start() -> Self {
        Self::of(Plan::default())
    }

    /// Starts a manager, and gateways as planned.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn of(plan: Plan) -> Self {
        let temporary = plan.folder.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
        let folder = match (&plan.folder, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, temporary) => temporary.as_ref().expect("made above").path().to_owned(),
        };
        let (manager, manager_address) = start_manager(&folder, "127.0.0.1:0", &plan.variables);
        let redis = plan.redis.then(|| RedisServer::start(Options::default()));
        let lines = plan.lines.then(|| {
            let manager = manager_address.parse().expect("an address");
            let redis = redis.as_ref().map(|redis| SocketAddr::from(([127, 0, 0, 1], redis.port())));
            Lines::new(plan.gateways, manager, redis, plan.seed)
        });
        let mut cluster = Self {
            operator: Operator::new(&manager_address),
            folder,
            manager: Some(manager),
            gateways: Vec::new(),
            redis,
            lines,
            plan,
            manager_address,
            _temporary: temporary,
        };
        for _ in 0..cluster.plan.gateways {
            cluster.add_gateway();
        }
        cluster
    }

    /// One gateway more, as the others are.
    fn add_gateway(&mut self) {
        let at = self.gateways.len();
        let lines = self.lines.as_ref();
        let redis = self.redis.as_ref();
        let gateway = Gateway::start(&Setup {
            folder: &self.folder,
            number: at + 1,
            advertise: lines.map(|lines| lines.players[at].address()),
            manager: lines.map_or_else(|| self.manager_address.clone(), |l| l.manager[at].address().to_string()),
            directory: redis.map(|redis| match lines.and_then(|lines| lines.redis.as_ref()) {
                Some(relay) => format!("redis://{}", relay.address()),
                None => redis.url(),
            }),
            more: &self.plan.gateway_config,
            variables: &self.plan.variables,
        });
        if let Some(lines) = lines {
            lines.players[at].retarget(gateway.listens());
        }
        self.gateways.push(gateway);
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
        let blue = cluster.populate(stub);
        (cluster, blue)
    }

    /// As [`Cluster::populated`], of a plan.
    #[must_use]
    pub fn populated_as(plan: Plan) -> (Self, String) {
        let cluster = Self::of(plan);
        let blue = cluster.populate("");
        (cluster, blue)
    }

    /// Puts build 1.9.0 in play in realm `eu-1`, and says in which environment that is.
    fn populate(&self, stub: &str) -> String {
        self.register("1.9.0", "--reads 1 --writes 1", stub);
        self.realm("eu-1");
        let blue = self.environment("eu-1", "1.9.0", "--label blue", FLEETS);
        self.flip("eu-1", &blue);
        blue
    }

    /// Registers a build of the stub with these options and stub arguments, and a small asset bundle.
    ///
    /// # Panics
    /// When its assets cannot be written.
    pub fn register(&self, version: &str, options: &str, stub: &str) {
        let assets = self.folder.join(format!("assets-{version}"));
        std::fs::create_dir_all(&assets).expect("a folder");
        std::fs::write(assets.join("world.txt"), format!("the world of {version}")).expect("a file");
        let line = format!(
            "build register {version} {options} --assets {} -- {} world-server-stub --build {version} {stub}",
            assets.display(),
            self.world_program()
        );
        let _ = self.operator.run(&line);
    }

    /// What starts a world server: the binary, with a relay before it if there are lines and the program can give it one.
    fn world_program(&self) -> String {
        let program = binary().display().to_string();
        match (&self.lines, &self.plan.world_line) {
            (Some(lines), Some(relaying)) => {
                format!("{} {} {} {program}", relaying.display(), world_line::WORD, lines.desk)
            }
            _ => program,
        }
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
        let (manager, _) = start_manager(&self.folder, &self.manager_address, &self.plan.variables);
        self.manager = Some(manager);
    }

    /// kill -9 of the first gateway.
    pub fn kill_gateway(&mut self) {
        self.gateways[0].kill();
    }

    /// Starts the first gateway again, at the same address.
    pub fn restart_gateway(&mut self) {
        self.gateways[0].restart();
    }

    /// Where players connect to the first gateway.
    #[must_use]
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateways[0].address
    }

    /// Where players connect, all gateways.
    #[must_use]
    pub fn gateway_addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(|gateway| gateway.address).collect()
    }

    /// Where the manager listens.
    #[must_use]
    pub fn manager_address(&self) -> &str {
        &self.manager_address
    }

    /// The manager's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("manager")
    }

    /// The deployment's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the world servers' save records say.
    ///
    /// # Panics
    /// When the realm has no database.
    #[must_use]
    pub fn audit(&self, realm: &str) -> HomesAudit {
        ledger::audit(&self.database(realm)).expect("a realm database")
    }

    /// The realm's database.
    #[must_use]
    pub fn database(&self, realm: &str) -> PathBuf {
        text(&self.operator.run(&format!("realm get {realm}")), "database").into()
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

    /// Every log of every process.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        let mut logs = vec![self.folder.join("manager.log")];
        logs.extend(self.gateways.iter().map(Gateway::log));
        if let Ok(entries) = std::fs::read_dir(self.data_dir().join("logs")) {
            logs.extend(entries.filter_map(|e| e.ok().map(|e| e.path())));
        }
        logs
    }

    /// Every line of level ERROR in any log: a broken invariant, which fails a test.
    #[must_use]
    pub fn error_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for log in self.logs() {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            lines
                .extend(text.lines().filter(|l| l.contains(" ERROR ") || l.contains("panicked at")).map(str::to_owned));
        }
        lines
    }
}

fn start_manager(folder: &Path, listen: &str, variables: &[(String, String)]) -> (Process, String) {
    let data = folder.join("manager");
    std::fs::create_dir_all(&data).expect("a folder");
    let file = data.join("manager.addr");
    let _ = std::fs::remove_file(&file);
    let data = data.to_string_lossy().into_owned();
    let arguments = ["fleet-manager", "--data-dir", &data, "--listen", listen, "--metrics-listen", "127.0.0.1:0"];
    let mut process = Process::start(&folder.join("manager.log"), &arguments, variables);
    let address = process.wrote(&file);
    (process, address)
}
