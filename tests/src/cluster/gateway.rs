//! One gateway of a cluster: its configuration, and its process while it has one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, signal};
use crate::wait;

/// One gateway.
pub struct Gateway {
    /// Its id.
    pub id: String,
    /// Its process; `None` while it is down.
    pub process: Option<Process>,
    /// Where its process listens.
    listens: SocketAddr,
    /// Where players are told to connect: there, or a relay before it.
    pub address: SocketAddr,
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

/// What a gateway's configuration depends on.
pub(super) struct Setup<'a> {
    pub(super) folder: &'a Path,
    pub(super) number: usize,
    /// `None`: at whatever address it is bound to.
    pub(super) advertise: Option<SocketAddr>,
    pub(super) manager: String,
    pub(super) directory: Option<String>,
    pub(super) more: &'a str,
    pub(super) variables: &'a [(String, String)],
}

impl Gateway {
    /// Starts it at any address.
    pub(super) fn start(setup: &Setup<'_>) -> Self {
        let id = format!("gw-{}", setup.number);
        let folder = setup.folder.join(&id);
        std::fs::create_dir_all(&folder).expect("a folder");
        let manager_data = setup.folder.join("manager");
        let mut config = format!(
            "id = \"{id}\"\nlisten = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\nmanager = \"http://{}\"\n\
             data_dir = {:?}\npki_dir = {:?}\nticket_keys = {:?}\nresume_key = {:?}\nconnection_id_instance = {}\n",
            setup.manager,
            folder.join("data"),
            manager_data.join("pki"),
            manager_data.join("tickets/keys"),
            manager_data.join("tickets/resume.key"),
            setup.number,
        );
        if let Some(advertise) = setup.advertise {
            config += &format!("advertise = \"{advertise}\"\n");
        }
        if let Some(directory) = &setup.directory {
            config += &format!("directory = {directory:?}\n");
        }
        config += setup.more;
        std::fs::write(folder.join("gateway.toml"), config).expect("a file");
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let variables = setup.variables.to_vec();
        let mut gateway = Self { id, process: None, listens: nowhere, address: nowhere, folder, variables };
        gateway.listens = gateway.launch(None);
        gateway.address = setup.advertise.unwrap_or(gateway.listens);
        gateway
    }

    /// Starts it again, at the same address.
    pub fn restart(&mut self) {
        self.launch(Some(self.listens));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM; true if it ended by itself within `patience`, else it is killed.
    pub fn stop(&mut self, patience: Duration) -> bool {
        let Some(mut process) = self.process.take() else { return true };
        signal(process.pid(), Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if process.has_ended() {
                return true;
            }
            std::thread::sleep(wait::LOOK);
        }
        false
    }

    /// Where its process listens: behind the relay, if there is one.
    #[must_use]
    pub const fn listens(&self) -> SocketAddr {
        self.listens
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("gateway.log")
    }

    fn launch(&mut self, listen: Option<SocketAddr>) -> SocketAddr {
        let file = self.folder.join("data/gateway.addr");
        let _ = std::fs::remove_file(&file);
        let config = self.folder.join("gateway.toml").to_string_lossy().into_owned();
        let mut arguments = vec!["gateway".to_owned(), "--config".to_owned(), config];
        if let Some(listen) = listen {
            arguments.extend(["--listen".to_owned(), listen.to_string()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut process = Process::start(&self.log(), &arguments, &self.variables);
        let address = process.wrote(&file).parse().expect("an address");
        self.process = Some(process);
        address
    }
}
