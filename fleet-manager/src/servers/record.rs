//! What the supervisor must remember over its own death: one small file per server, `servers/<id>.json`, replaced
//! atomically and fsynced before a process is started (the intent) and after (its pid).
//!
//! A process is only ever taken for ours when pid, start time and boot agree and its own environment names the server and
//! the spawn; a pid alone may long belong to somebody else.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_types::{BuildVersion, EnvironmentId, FleetName, InstanceId, RealmId, ServerId, ZoneId};
use uuid::Uuid;

use super::spec::{Slot, tls_name};

/// What is known of the process in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The format of this file.
    pub(crate) version: u32,
    pub(crate) server: ServerId,
    pub(crate) realm: RealmId,
    pub(crate) environment: EnvironmentId,
    pub(crate) fleet: FleetName,
    pub(crate) ordinal: u32,
    pub(crate) build: BuildVersion,
    /// Names this start; the process carries it in its environment.
    pub(crate) spawn: Uuid,
    /// The process, once it is started.
    pub(crate) process: Option<ProcessId>,
    /// Shared zones it was started for.
    pub(crate) zones: Vec<ZoneId>,
    /// Kinds of private instance it was started for.
    pub(crate) instance_kinds: Vec<ZoneId>,
    /// Most players it was started for.
    pub(crate) capacity: u32,
    /// What it registered as; kept so that a new manager can go on telling gateways where it is.
    pub(crate) registered: Option<Registered>,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

/// What a world server said of itself when it registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registered {
    pub(crate) instance: InstanceId,
    pub(crate) build: BuildVersion,
    pub(crate) link_address: String,
    pub(crate) state_formats_read: Vec<u32>,
    pub(crate) state_format_write: u32,
}

/// A process, so that it cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// In clock ticks since boot, from `/proc/<pid>/stat`.
    pub(crate) start_time: u64,
    /// The system's boot id.
    pub(crate) boot: String,
}

/// The version of [`Record`] that this code writes and reads.
pub(crate) const VERSION: u32 = 1;

impl Record {
    pub(crate) fn slot(&self) -> Slot {
        Slot { environment: self.environment.clone(), fleet: self.fleet.clone(), ordinal: self.ordinal }
    }
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

/// The part of a file name that stands for the server: its id, or a digest where the id could not be a file name.
pub(crate) fn file_stem(server: &ServerId) -> String {
    let name = tls_name(server);
    name.split('.').next().unwrap_or(&name).to_owned()
}

impl Records {
    /// Opens the folder, making it if need be.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Every record. A file that cannot be read as one is reported with its path: it may name a process that lives, and
    /// starting another one in its place could put a player in two.
    pub(crate) fn load(&self) -> Result<Vec<Record>, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |e| (path, e)
        };
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(at(&path))?;
            let record: Record = serde_json::from_slice(&bytes).map_err(io::Error::other).map_err(at(&path))?;
            if record.version != VERSION {
                let why = format!("record of version {}, this manager knows {VERSION}", record.version);
                return Err((path, io::Error::other(why)));
            }
            records.push(record);
        }
        records.sort_by(|a, b| a.server.cmp(&b.server));
        Ok(records)
    }

    /// Writes a record so that after a crash either the old or the new one is there, whole.
    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.server);
        let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
        write_atomically(&path, &bytes)
    }

    /// Removes a record; one that is not there is removed already.
    pub(crate) fn remove(&self, server: &ServerId) -> io::Result<()> {
        match fs::remove_file(self.path(server)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => sync_dir(&self.dir),
        }
    }

    fn path(&self, server: &ServerId) -> PathBuf {
        self.dir.join(format!("{}.json", file_stem(server)))
    }
}

/// Replaces a file in one step, durably: after a crash either the old or the new content is there.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            version: VERSION,
            server: "e1-town-1".parse().unwrap(),
            realm: "eu-1".parse().unwrap(),
            environment: "e1".parse().unwrap(),
            fleet: "town".parse().unwrap(),
            ordinal: 1,
            build: "1.9.0".parse().unwrap(),
            spawn: Uuid::from_u128(7),
            process: Some(ProcessId { pid: 12, start_time: 99, boot: "b".into() }),
            zones: vec!["market".parse().unwrap()],
            instance_kinds: Vec::new(),
            capacity: 100,
            registered: Some(Registered {
                instance: InstanceId(Uuid::from_u128(8)),
                build: "1.9.0".parse().unwrap(),
                link_address: "127.0.0.1:7".into(),
                state_formats_read: vec![1],
                state_format_write: 1,
            }),
            restarts: 2,
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().join("servers")).unwrap();
        records.save(&record()).unwrap();
        let newer = Record { process: None, ..record() };
        records.save(&newer).unwrap();
        assert_eq!(records.load().unwrap(), [newer]);
        records.remove(&record().server).unwrap();
        records.remove(&record().server).unwrap();
        assert_eq!(records.load().unwrap(), []);
    }

    #[test]
    fn a_damaged_record_is_named_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().to_owned()).unwrap();
        fs::write(dir.path().join("e1-town-1.json"), b"{\"version\":").unwrap();
        let (path, _) = records.load().unwrap_err();
        assert!(path.ends_with("e1-town-1.json"));
    }

    #[test]
    fn an_id_cannot_leave_the_folder() {
        let stem = file_stem(&"../../etc/passwd".parse().unwrap());
        assert!(!stem.contains('/') && !stem.contains('.'), "{stem}");
    }
}
