//! The keys and certificates of one installation, in `<data_dir>/pki`: the authority, the gateway's, the manager's own (it
//! is a client of world servers in smoke tests), and one per world server. What is there and whole is kept; what is
//! missing is made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_link::pki::{Authority, CA_CERT, Identity, PkiError, Role};
use tidegate_types::ServerId;

use crate::servers::tls_name;

/// The manager's id as a client of world servers.
pub const MANAGER_ID: &str = "manager";
/// The id in the certificate that development gateways share.
const GATEWAY_ID: &str = "gateway";

/// The installation's keys and certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    authority: Arc<Authority>,
    dir: PathBuf,
    manager: Arc<Identity>,
}

/// Where a world server finds who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The authority to trust.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its secret key.
    pub key: PathBuf,
}

impl Pki {
    /// Opens `<data_dir>/pki`, making what is missing. `gateway_names` are further names (host names or IP addresses) that
    /// players dial, for the gateway's certificate; `localhost`, `127.0.0.1` and `::1` always are. Blocks for some
    /// milliseconds.
    ///
    /// # Errors
    /// [`PkiError`]: a file cannot be read, written or understood.
    pub fn open(data_dir: &Path, gateway_names: &[String]) -> Result<Self, PkiError> {
        let dir = data_dir.join("pki");
        let authority = Authority::open_or_create(&dir)?;
        let ca = dir.join(CA_CERT);
        let mut names = vec!["localhost", "127.0.0.1", "::1"];
        names.extend(gateway_names.iter().map(String::as_str));
        keep_or_issue(&authority, &ca, &dir, "gateway", &Role::Gateway.tls_name(GATEWAY_ID), &names)?;
        let (cert, key) = keep_or_issue(&authority, &ca, &dir, "manager", &Role::Gateway.tls_name(MANAGER_ID), &[])?;
        let manager = Identity::load(&ca, &cert, &key)?;
        Ok(Self { authority: Arc::new(authority), dir, manager: Arc::new(manager) })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Who the manager is on a link.
    #[must_use]
    pub fn manager_identity(&self) -> &Identity {
        &self.manager
    }

    /// The certificate and key of a world server, made if they are not there. Blocks for some milliseconds.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn server_files(&self, server: &ServerId) -> Result<ServerFiles, PkiError> {
        let name = tls_name(server);
        let stem = name.split('.').next().unwrap_or(&name);
        let ca = self.dir.join(CA_CERT);
        let (cert, key) = keep_or_issue(&self.authority, &ca, &self.dir.join("servers"), stem, &name, &[])?;
        Ok(ServerFiles { ca, cert, key })
    }
}

/// Keeps a pair of files that can be loaded. A certificate whose key is missing or damaged (a crash between the two, a
/// bad restore) is replaced: the authority is what others trust, not this pair.
fn keep_or_issue(
    authority: &Authority,
    ca: &Path,
    dir: &Path,
    stem: &str,
    name: &str,
    more_names: &[&str],
) -> Result<(PathBuf, PathBuf), PkiError> {
    let (cert, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
    if cert.exists() {
        match Identity::load(ca, &cert, &key) {
            Ok(_) => return Ok((cert, key)),
            Err(error) => tracing::warn!(%error, name, "certificate cannot be used, making another"),
        }
    }
    authority.issue(name, more_names)?.write(dir, stem)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn opening_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let server: ServerId = "e1-town-1".parse().unwrap();
        let read = || -> Vec<Vec<u8>> {
            let pki = Pki::open(dir.path(), &["play.example".into()]).unwrap();
            let files = pki.server_files(&server).unwrap();
            let own = ["ca.pem", "ca.key", "gateway.pem", "gateway.key", "manager.pem", "manager.key"]
                .map(|name| dir.path().join("pki").join(name));
            own.iter().chain([&files.ca, &files.cert, &files.key]).map(|path| fs::read(path).unwrap()).collect()
        };
        assert_eq!(read(), read());
    }

    #[test]
    fn a_pair_without_its_key_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &[]).unwrap();
        let server: ServerId = "e1-town-1".parse().unwrap();
        let files = pki.server_files(&server).unwrap();
        fs::remove_file(&files.key).unwrap();
        let again = pki.server_files(&server).unwrap();
        assert_eq!(files, again);
        Identity::load(&again.ca, &again.cert, &again.key).unwrap();
    }

    #[test]
    fn an_odd_server_id_stays_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), &[]).unwrap();
        let files = pki.server_files(&"../evil".parse().unwrap()).unwrap();
        assert_eq!(files.cert.parent().unwrap(), dir.path().join("pki/servers"));
    }
}
