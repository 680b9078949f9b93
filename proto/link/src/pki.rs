//! The little certificate authority of a Tidegate installation, and the identities it issues: who is a gateway and who is a
//! world server is said by a certificate's DNS name, nothing else.
//!
//! Keys are ECDSA P-256: its handshakes cost less CPU than Ed25519's with ring.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// File name of the authority's certificate, in its folder.
pub const CA_CERT: &str = "ca.pem";
/// File name of the authority's secret key, in its folder.
pub const CA_KEY: &str = "ca.key";

/// What could not be read, written or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("access {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("read {} as PEM: {why}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A key or certificate could not be made.
    #[error("make a certificate for {name:?}")]
    Make {
        /// For whom.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The TLS library refuses the certificate or key.
    #[error("use the certificate")]
    Tls(#[source] rustls::Error),
}

/// What a certificate's holder may be on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// May dial world servers: gateways, and the manager for its smoke tests.
    Gateway,
    /// May be dialled.
    World,
}

impl Role {
    /// What the DNS names of this role end in.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Gateway => ".gateway.tidegate",
            Self::World => ".world.tidegate",
        }
    }

    /// The DNS name of the holder with this id.
    #[must_use]
    pub fn tls_name(self, id: &str) -> String {
        format!("{id}{}", self.suffix())
    }
}

/// The certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
}

/// A certificate and its secret key, as PEM text.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The secret key.
    pub key_pem: String,
}

/// A loaded certificate with its key and the authority it trusts: who this process is on a link.
#[derive(Debug)]
pub struct Identity {
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority kept in `dir`, or makes one there (`ca.pem`, `ca.key`; the folder is made too).
    ///
    /// # Errors
    /// [`PkiError`] when a file cannot be read, written or understood. A certificate without its key is an error, not a
    /// reason to make a new authority: everything issued before would be refused.
    pub fn open_or_create(dir: &Path) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        fs::create_dir_all(dir).map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        if !cert_path.exists() {
            let made = Self::create()?;
            // The key first: a crash in between leaves no certificate, and the next start begins anew.
            write_private(&key_path, made.issuer.key().serialize_pem().as_bytes())?;
            write_atomically(&cert_path, made.cert_pem.as_bytes())?;
            return Ok(made);
        }
        let cert_pem = read(&cert_path)?;
        let key =
            KeyPair::from_pem(&read(&key_path)?).map_err(|e| PkiError::Pem { path: key_path, why: e.to_string() })?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)
            .map_err(|e| PkiError::Pem { path: cert_path, why: e.to_string() })?;
        Ok(Self { issuer, cert_pem })
    }

    fn create() -> Result<Self, PkiError> {
        let name = "Tidegate authority";
        let failed = |source| PkiError::Make { name: name.to_owned(), source };
        let mut params = CertificateParams::default();
        let year = this_year();
        params.not_before = date_time_ymd(year - 1, 1, 1);
        params.not_after = date_time_ymd(year + 30, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.self_signed(&key).map_err(failed)?;
        Ok(Self { cert_pem: cert.pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate as PEM text.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Issues a certificate for `name` (see [`Role::tls_name`]) that is also valid for `extra_sans` (DNS names or IP
    /// addresses), good for ten years, usable as client and as server.
    ///
    /// # Errors
    /// [`PkiError::Make`] when a name is not a DNS name.
    pub fn issue(&self, name: &str, extra_sans: &[&str]) -> Result<Issued, PkiError> {
        let failed = |source| PkiError::Make { name: name.to_owned(), source };
        let mut sans = vec![name.to_owned()];
        sans.extend(extra_sans.iter().filter(|san| **san != name).map(|san| (*san).to_owned()));
        let mut params = CertificateParams::new(sans).map_err(failed)?;
        let year = this_year();
        params.not_before = date_time_ymd(year - 1, 1, 1);
        params.not_after = date_time_ymd(year + 10, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Issued {
    /// Writes `<stem>.pem` and `<stem>.key` (readable by the owner only) into `dir`, each atomically, and returns their
    /// paths.
    ///
    /// # Errors
    /// [`PkiError::Io`].
    pub fn write(&self, dir: &Path, stem: &str) -> Result<(PathBuf, PathBuf), PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Io { path: dir.to_owned(), source })?;
        let (cert, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        write_private(&key, self.key_pem.as_bytes())?;
        write_atomically(&cert, self.cert_pem.as_bytes())?;
        Ok((cert, key))
    }
}

impl Identity {
    /// Loads the authority to trust, and this process's certificate and key, from PEM files.
    ///
    /// # Errors
    /// [`PkiError`] naming the file that cannot be read or is not PEM.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, PkiError> {
        Ok(Self { roots: load_certs(ca)?, chain: load_certs(cert)?, key: load_key(key)? })
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { roots: self.roots.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Reads all certificates of a PEM file; at least one.
///
/// # Errors
/// [`PkiError`] naming the file.
pub fn load_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bad = |why: String| PkiError::Pem { path: path.to_owned(), why };
    let text = read(path)?;
    let certs: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if certs.is_empty() { Err(bad("holds no certificate".to_owned())) } else { Ok(certs) }
}

/// Reads the first secret key of a PEM file.
///
/// # Errors
/// [`PkiError`] naming the file.
pub fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|e| PkiError::Pem { path: path.to_owned(), why: e.to_string() })
}

/// True when one of the certificate's DNS names gives its holder this role.
pub(crate) fn has_role(cert: &CertificateDer<'_>, role: Role) -> bool {
    let Ok(parsed) = webpki::EndEntityCert::try_from(cert) else { return false };
    parsed.valid_dns_names().any(|name| name.len() > role.suffix().len() && name.ends_with(role.suffix()))
}

/// True when `text` can stand in a certificate as an IP address rather than as a name.
#[must_use]
pub fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write_with(path, bytes, fs::OpenOptions::new().write(true).create(true).truncate(true))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_with(path, bytes, &options)
}

/// Writes beside the target and renames, so that a reader never sees half a file.
fn write_with(path: &Path, bytes: &[u8], options: &fs::OpenOptions) -> Result<(), PkiError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|source| PkiError::Io { path: path.to_owned(), source })
}

/// Near enough to the calendar year for a validity that is counted in years.
fn this_year() -> i32 {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    1970 + i32::try_from(days / 366).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_opening_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open_or_create(dir.path()).unwrap().cert_pem().to_owned();
        let second = Authority::open_or_create(dir.path()).unwrap();
        assert_eq!(first, second.cert_pem());
        let (cert, key) =
            second.issue("a.world.tidegate", &["localhost", "127.0.0.1"]).unwrap().write(dir.path(), "a").unwrap();
        Identity::load(&dir.path().join(CA_CERT), &cert, &key).unwrap();
    }

    #[test]
    fn a_certificate_without_its_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path()).unwrap();
        fs::remove_file(dir.path().join(CA_KEY)).unwrap();
        let error = Authority::open_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }

    #[test]
    fn the_role_stands_in_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let role_of = |name: &str, extra: &[&str]| {
            let issued = authority.issue(name, extra).unwrap();
            let cert = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
            (has_role(&cert, Role::Gateway), has_role(&cert, Role::World))
        };
        assert_eq!(role_of(&Role::Gateway.tls_name("gw-1"), &["127.0.0.1"]), (true, false));
        assert_eq!(role_of(&Role::World.tls_name("s-1"), &[]), (false, true));
        assert_eq!(role_of("gateway.tidegate", &["localhost"]), (false, false));
        assert_eq!(role_of("localhost", &["gw-1.gateway.tidegate"]), (true, false));
    }

    #[cfg(unix)]
    #[test]
    fn secret_keys_are_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(CA_KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
