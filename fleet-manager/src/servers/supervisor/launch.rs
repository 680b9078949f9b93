//! Starting one world server's process and noticing its end: the record, the certificate, the variables, the watchers.

use std::ffi::OsString;

use rustix::process::Signal;
use tidegate_types::ServerId;
use tokio::sync::mpsc;

use super::Exit;
use crate::pki::Pki;
use crate::servers::Options;
use crate::servers::process::{self, Launch};
use crate::servers::record::{Record, Records};
use crate::servers::server::Live;
use crate::servers::server::Server;
use crate::servers::spec::EnvironmentServers;

/// Records the intent, makes what the process needs, and starts it. The error is one line for people.
pub(super) fn launch(
    options: &Options,
    pki: &Pki,
    records: &Records,
    wanted: &EnvironmentServers,
    server: &Server,
) -> Result<(tokio::process::Child, process::Process), String> {
    let record = &server.record;
    let files = pki.server_files(&record.server).map_err(|e| describe_chain("make its certificate", &e))?;
    if let Some(parent) = wanted.database.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("cannot make {}: {e}", parent.display()))?;
    }
    records.save(record).map_err(|e| format!("cannot write its record: {e}"))?;
    let command = Launch {
        command: &wanted.command,
        environment: variables(options, wanted, record, &files),
        server: &record.server,
        spawn: record.spawn,
        log: &server.log,
    };
    process::start(&command).map_err(|e| format!("cannot start {}: {e}", wanted.command[0]))
}

/// The environment variables of a world server; later ones win.
fn variables(
    options: &Options,
    wanted: &EnvironmentServers,
    record: &Record,
    files: &crate::pki::ServerFiles,
) -> Vec<(OsString, OsString)> {
    let list = |ids: &[tidegate_types::ZoneId]| {
        OsString::from(ids.iter().map(tidegate_types::ZoneId::as_str).collect::<Vec<_>>().join(","))
    };
    let fleet = wanted.fleet(&record.fleet).map(|fleet| &fleet.environment);
    let given = wanted.command_environment.iter().chain(fleet.into_iter().flatten());
    let ours: [(&str, OsString); 13] = [
        ("TIDEGATE_MANAGER", options.manager_url.clone().into()),
        ("TIDEGATE_REALM", record.realm.as_str().into()),
        ("TIDEGATE_ENVIRONMENT", record.environment.as_str().into()),
        ("TIDEGATE_FLEET", record.fleet.as_str().into()),
        ("TIDEGATE_BUILD", record.build.as_str().into()),
        ("TIDEGATE_LINK_LISTEN", "127.0.0.1:0".into()),
        ("TIDEGATE_LINK_CA", files.ca.clone().into()),
        ("TIDEGATE_LINK_CERT", files.cert.clone().into()),
        ("TIDEGATE_LINK_KEY", files.key.clone().into()),
        ("TIDEGATE_ZONES", list(&record.zones)),
        ("TIDEGATE_INSTANCE_KINDS", list(&record.instance_kinds)),
        ("TIDEGATE_CAPACITY", record.capacity.to_string().into()),
        ("TIDEGATE_DATABASE", wanted.database.clone().into()),
    ];
    given
        .map(|(name, value)| (name.into(), value.into()))
        .chain(ours.map(|(name, value)| (name.into(), value)))
        .collect()
}

fn describe_chain(doing: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("cannot {doing}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Writes a record whose process lives already.
pub(super) fn save(records: &Records, record: &Record) {
    if let Err(error) = records.save(record) {
        // The process is found again by its spawn id even so.
        tracing::warn!(server_id = %record.server, %error, "record could not be written");
    }
}

/// Sends a signal; one that cannot be sent is reported, and the plan looks again.
pub(super) fn signal(live: &Live, signal: Signal) {
    if let Err(error) = live.process.signal(signal) {
        tracing::warn!(pid = live.process.id.pid, %error, "world server could not be signalled");
    }
}

/// Waits for the end of our own child.
pub(super) fn watch_child(server: ServerId, pid: u32, mut child: tokio::process::Child, exits: mpsc::Sender<Exit>) {
    tokio::spawn(async move {
        let how = match child.wait().await {
            Ok(status) => process::describe(status),
            Err(error) => format!("ended ({error})"),
        };
        let _ = exits.send(Exit { server, pid, how }).await;
    });
}

/// Waits for the ends of the processes that an earlier manager started.
pub(super) fn watch_adopted(adopted: Vec<(ServerId, process::Process)>, exits: mpsc::Sender<Exit>) {
    let listens = exits.clone();
    let tell = move |server: ServerId, process: process::Process| {
        let how = "ended (its exit code went to an earlier manager)".to_owned();
        exits.blocking_send(Exit { server, pid: process.id.pid, how }).is_ok()
    };
    tokio::task::spawn_blocking(move || process::watch_ends(adopted, tell, || !listens.is_closed()));
}
