//! The last routing table of each realm, on disk, so that a gateway that starts without its manager serves players.
//!
//! A file is a magic line, the BLAKE3 of the rest, and the protobuf table. It is written beside, synced and renamed; a file
//! that does not check is said and ignored. A table is on disk *before* it is acknowledged: after a crash the gateway must
//! not fall back to a generation that sends new sessions where they no longer belong.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use tidegate_proto::v1::RouteTable;

const MAGIC: &[u8] = b"tidegate route table 1\n";

/// The folder of tables.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    dir: PathBuf,
}

impl Tables {
    /// Opens the folder, making it first if need be.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// Every table that is whole.
    pub(crate) fn load(&self) -> io::Result<Vec<RouteTable>> {
        let mut tables = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "bin") {
                match read(&path) {
                    Ok(table) => tables.push(table),
                    Err(why) => {
                        tracing::warn!(path = %path.display(), %why, "a routing table on disk is damaged; ignored")
                    }
                }
            }
        }
        Ok(tables)
    }

    /// As [`Self::save`], unless what is on disk is as new already.
    pub(crate) fn save_newer(&self, table: &RouteTable) -> io::Result<()> {
        match read(&self.path(&table.realm)) {
            Ok(old) if old.generation >= table.generation => Ok(()),
            _ => self.save(table),
        }
    }

    fn path(&self, realm: &str) -> PathBuf {
        self.dir.join(format!("{}.bin", file_name(realm)))
    }

    /// Writes a table in one step. Returns when it is durable. Blocks for the disk: not for the serving thread.
    pub(crate) fn save(&self, table: &RouteTable) -> io::Result<()> {
        let body = table.encode_to_vec();
        let path = self.path(&table.realm);
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(MAGIC)?;
        file.write_all(blake3::hash(&body).as_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        // The rename is durable only once the folder is.
        File::open(&self.dir)?.sync_all()
    }
}

fn read(path: &Path) -> Result<RouteTable, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a table does")?;
    let (digest, body) = rest.split_at_checked(blake3::OUT_LEN).ok_or("it is too short")?;
    if blake3::hash(body).as_bytes() != digest {
        return Err("its checksum does not match".into());
    }
    RouteTable::decode(body).map_err(|e| e.to_string())
}

/// Realm ids may hold characters that file names may not.
fn file_name(realm: &str) -> String {
    let mut name = String::new();
    for byte in realm.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(realm: &str, generation: u64) -> RouteTable {
        RouteTable { realm: realm.into(), generation, ..Default::default() }
    }

    #[test]
    fn the_last_table_of_each_realm_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path().join("tables")).unwrap();
        for table in [table("eu-1", 1), table("eu-1", 2), table("../us 1".trim(), 7)] {
            tables.save(&table).unwrap();
        }
        tables.save_newer(&table("eu-1", 1)).unwrap();
        let mut loaded = tables.load().unwrap();
        loaded.sort_by_key(|t| t.generation);
        assert_eq!(loaded, [table("eu-1", 2), table("../us 1", 7)]);
    }

    #[test]
    fn damaged_tables_are_ignored_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path().to_owned()).unwrap();
        tables.save(&table("good", 1)).unwrap();
        tables.save(&table("torn", 1)).unwrap();
        let torn = dir.path().join("torn.bin");
        let whole = fs::read(&torn).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..10], b"", b"something else"] {
            fs::write(&torn, damaged).unwrap();
            assert_eq!(tables.load().unwrap(), [table("good", 1)]);
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&torn, flipped).unwrap();
        assert_eq!(tables.load().unwrap(), [table("good", 1)]);
    }
}
