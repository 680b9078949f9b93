//! Files that people write or that lie on a disk for long: configuration, keys, manifests.

use fleet_manager::snapshots::Manifest;
use serde::Serialize;
use tidegate_config::{Layers, Settings};
use tidegate_ticket::{KeyRing, ResumeKeys, Rules};

use crate::tickets::{Bench, secret};

/// A gateway's configuration file.
pub fn gateway_config(data: &[u8]) {
    config::<tidegate_gateway::Config>(data);
}

/// A manager's configuration file.
pub fn manager_config(data: &[u8]) {
    config::<fleet_manager::Config>(data);
}

/// What is accepted means the same when it is written out and read again; an error is one line that begins with the file's
/// name.
fn config<C: Settings + Serialize>(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Layers::new().text("the file", text).load::<C>() {
        Ok(loaded) => {
            let written = toml::to_string(&loaded.config).expect("a configuration is TOML");
            let again = Layers::new().text("again", &*written).load::<C>();
            let again = again.unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(toml::to_string(&again.config).expect("a configuration is TOML"), written);
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("the file: ") && !line.contains('\n'), "{line:?}");
        }
    }
}

/// A file of a ring's folder. It is taken, or refused by a line that names it.
pub fn ticket_key_file(data: &[u8]) {
    let folder = Bench::get().folder("ring");
    for name in ["key.toml", "key.pub", "key.pem"] {
        let path = folder.join(name);
        std::fs::write(&path, data).expect("a temporary file");
        match KeyRing::open(&folder, Rules::default()) {
            Ok(ring) => assert_eq!(ring.keys().len(), 1),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
        std::fs::remove_file(&path).expect("our own file");
    }
}

/// The gateways' shared key file. With what is taken a ticket can be sealed and opened.
pub fn resume_key_file(data: &[u8]) {
    let bench = Bench::get();
    let path = secret(&bench.folder("resume"), "resume.key", data);
    match ResumeKeys::open_or_create(&path) {
        Ok(keys) => {
            let claims = bench.resume_claims();
            assert_eq!(keys.open(&keys.seal(&claims, bench.now), bench.now), Ok(claims));
            assert!(!keys.reload(), "nothing has changed");
        }
        Err(error) => assert!(error.to_string().contains("resume.key"), "{error}"),
    }
}

/// A snapshot's manifest. What is accepted is written as bytes that are read the same and written the same.
pub fn snapshot_manifest(data: &[u8]) {
    match Manifest::decode(data) {
        Ok(manifest) => {
            let written = manifest.encode().expect("what was JSON is JSON");
            let again = Manifest::decode(&written).expect("what was written is read");
            assert_eq!(again, manifest);
            assert_eq!(again.encode().expect("what was JSON is JSON"), written);
            let facts = manifest.facts("digest");
            assert!(usize::try_from(facts.blobs).is_ok_and(|blobs| blobs <= manifest.zones.len() + 1));
        }
        Err(why) => assert!(!why.is_empty()),
    }
}
