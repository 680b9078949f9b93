//! Certificates as the processes of this machine will use them: there, with their keys, signed by the authority, in date,
//! and for the right names.
//!
//! The authority's own end is not looked at: as everywhere with an authority that was given, TLS does not either.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use tidegate_link::pki::{CA_CERT, PkiError, Role, load_certs, load_key};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use super::finding::{Finding, Level};

/// Time enough to plan a new certificate.
const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

/// When no certificate is valid any more (9999-12-31): asked for, the answer names the end.
const NEVER: Duration = Duration::from_secs(253_402_300_799);

/// A certificate and its key in a folder, and what they are for.
struct Pair<'a> {
    /// What it is called in the findings.
    name: &'static str,
    folder: &'a Path,
    /// The files are `<stem>.pem` and `<stem>.key`.
    stem: &'a str,
    role: Role,
    /// Presented by whoever is dialled, by whoever dials, or both.
    usages: &'a [fn() -> KeyUsage],
    fix: &'a str,
}

/// The gateway's certificate in its `pki_dir`. `advertised` is the host that players dial, if it was set.
pub(super) fn gateway(pki_dir: &Path, advertised: Option<&str>, managers: Option<&Path>) -> Vec<Finding> {
    const NAME: &str = "gateway certificate";
    if !pki_dir.exists() && managers.is_some_and(|folder| pki_dir.starts_with(folder)) {
        let what = format!("{} is not there yet", pki_dir.display());
        return vec![Finding::warn(NAME, what, "start the fleet-manager: it makes the authority and certificates")];
    }
    let pair = Pair {
        name: NAME,
        folder: pki_dir,
        stem: "gateway",
        role: Role::Gateway,
        usages: &[KeyUsage::server_auth, KeyUsage::client_auth],
        fix: "make it where the fleet-manager is (tidegate pki issue --gateway ID --name HOST --out FOLDER), and put its \
              three files into pki_dir",
    };
    let mut findings = pair.look(&pki_dir.join(CA_CERT), SystemTime::now());
    findings.extend(advertised.and_then(|host| pair.names(host)));
    findings
}

/// What the manager made for itself and its world servers; nothing before its first start.
pub(super) fn manager(pki_dir: &Path) -> Vec<Finding> {
    let ca = pki_dir.join(CA_CERT);
    if !ca.exists() {
        return Vec::new();
    }
    const FIX: &str = "remove its two files and start the fleet-manager again: it makes new ones";
    let now = SystemTime::now();
    let own = Pair {
        name: "manager certificate",
        folder: pki_dir,
        stem: "manager",
        role: Role::Gateway,
        usages: &[KeyUsage::client_auth],
        fix: FIX,
    };
    let mut findings = own.look(&ca, now);
    let folder = pki_dir.join("servers");
    let stems = stems(&folder);
    let mut fine = 0;
    for stem in &stems {
        let pair = Pair {
            name: "server certificate",
            folder: &folder,
            stem,
            role: Role::World,
            usages: &[KeyUsage::server_auth],
            fix: FIX,
        };
        let seen = pair.look(&ca, now);
        fine += usize::from(seen.iter().all(|finding| finding.level == Level::Ok));
        findings.extend(seen.into_iter().filter(|finding| finding.level != Level::Ok));
    }
    if fine > 0 {
        findings.push(Finding::ok("server certificate", format!("{fine} of {} are good", stems.len())));
    }
    findings
}

/// The names of the certificates in a folder, sorted.
fn stems(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let certificates = entries.filter(|path| path.extension().is_some_and(|end| end == "pem"));
    let mut stems: Vec<String> = certificates.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    stems.sort();
    stems
}

impl Pair<'_> {
    fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.stem))
    }

    fn key(&self) -> PathBuf {
        self.folder.join(format!("{}.key", self.stem))
    }

    /// The first thing that is wrong with it or ok, and whether its key is secret.
    fn look(&self, ca: &Path, now: SystemTime) -> Vec<Finding> {
        let mut findings = vec![self.judge(ca, now).unwrap_or_else(|bad| bad)];
        findings.extend(self.open_key());
        findings
    }

    fn judge(&self, ca: &Path, now: SystemTime) -> Result<Finding, Finding> {
        let path = self.certificate();
        let shown = path.display();
        let fail = |what: String| Finding::fail(self.name, what, self.fix);
        let roots = load_certs(ca).map_err(|error| fail(line(&error)))?;
        let chain = load_certs(&path).map_err(|error| fail(line(&error)))?;
        let key = load_key(&self.key()).map_err(|error| fail(line(&error)))?;
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider)
            .map_err(|error| fail(format!("{shown} and its key cannot be used together ({error})")))?;

        let anchors: Result<Vec<TrustAnchor<'_>>, _> = roots.iter().map(webpki::anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(|error| fail(format!("{} holds no authority ({error})", ca.display())))?;
        let leaf = EndEntityCert::try_from(&chain[0]).map_err(|e| fail(format!("{shown} cannot be read ({e})")))?;
        for usage in self.usages {
            verify(&leaf, &anchors, &chain[1..], unix(now), usage()).map_err(|error| self.refused(&error, ca))?;
        }
        if !leaf.valid_dns_names().any(|name| name.ends_with(self.role.suffix())) {
            return Err(fail(format!("{shown} has no name that ends in {}", self.role.suffix())));
        }

        let names: Vec<&str> = leaf.valid_dns_names().collect();
        let end = end(&leaf, &anchors, &chain[1..], self.usages[0]());
        let what = format!("{shown} for {}, until {}", names.join(", "), end.map_or_else(|| "ever".to_owned(), day));
        if end.is_some_and(|end| end < unix(now + SOON)) {
            return Err(Finding::warn(self.name, format!("{what}: that is less than 30 days"), self.fix));
        }
        Ok(Finding::ok(self.name, what))
    }

    fn refused(&self, error: &webpki::Error, ca: &Path) -> Finding {
        let path = self.certificate();
        let shown = path.display();
        let (what, fix) = match error {
            webpki::Error::CertExpired { not_after, .. } => {
                (format!("{shown} expired on {}", day(*not_after)), self.fix)
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                (format!("{shown} is valid from {} on only", day(*not_before)), "set this machine's clock")
            }
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                (format!("{shown} was not signed by the authority in {}", ca.display()), self.fix)
            }
            other => (format!("{shown} is refused by TLS ({other})"), self.fix),
        };
        Finding::fail(self.name, what, fix)
    }

    /// A key that others can read is a certificate that others have.
    fn open_key(&self) -> Option<Finding> {
        let path = self.key();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).ok()?.permissions());
        let (shown, name) = (path.display(), self.name);
        (mode & 0o077 != 0).then(|| {
            let what = format!("others can read {shown} (mode {:o})", mode & 0o777);
            Finding::warn(name, what, format!("chmod 600 {shown}"))
        })
    }

    /// A client believes a certificate for the `server_name` it was built with, which usually is the name that it dials. An
    /// address says nothing about that.
    fn names(&self, host: &str) -> Option<Finding> {
        let name = ServerName::try_from(host).ok().filter(|name| matches!(name, ServerName::DnsName(_)))?;
        let chain = load_certs(&self.certificate()).ok()?;
        let leaf = EndEntityCert::try_from(&chain[0]).ok()?;
        leaf.verify_is_valid_for_subject_name(&name).is_err().then(|| {
            let what = format!("is not for {host} (advertise): clients refuse it unless their server_name is in it");
            let fix = format!("make one that is: tidegate pki issue --gateway ID --name {host} --out FOLDER");
            Finding::warn(self.name, what, fix)
        })
    }
}

fn verify(
    leaf: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    between: &[CertificateDer<'_>],
    at: UnixTime,
    usage: KeyUsage,
) -> Result<(), webpki::Error> {
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, anchors, between, at, usage, None, None).map(drop)
}

/// When the first certificate of the chain ends.
fn end(
    leaf: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    between: &[CertificateDer<'_>],
    usage: KeyUsage,
) -> Option<UnixTime> {
    match verify(leaf, anchors, between, UnixTime::since_unix_epoch(NEVER), usage) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after),
        Ok(()) | Err(_) => None,
    }
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn day(time: UnixTime) -> String {
    let second = i64::try_from(time.as_secs()).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    second.map_or_else(|| "an unknown day".to_owned(), |second| second.strftime("%Y-%m-%d").to_string())
}

fn line(error: &PkiError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("cannot {error}: {cause}"),
        None => format!("cannot {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_link::pki::Authority;

    use super::*;

    /// A folder with an authority and what it issued to `gateway`.
    fn issued(name: &str, more: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(folder.path()).unwrap();
        authority.issue(name, more).unwrap().write(folder.path(), "gateway").unwrap();
        folder
    }

    fn worst(folder: &Path, advertised: Option<&str>) -> Finding {
        gateway(folder, advertised, None).into_iter().max_by_key(|finding| finding.level).unwrap()
    }

    #[test]
    fn what_the_authority_issued_is_good() {
        let folder = issued("gw-1.gateway.tidegate", &["play.example", "127.0.0.1"]);
        for host in [None, Some("play.example"), Some("127.0.0.1"), Some("192.0.2.1")] {
            let found = worst(folder.path(), host);
            assert_eq!(found.level, Level::Ok, "{found:?}");
            assert!(found.what.contains("gw-1.gateway.tidegate"), "{}", found.what);
        }
        let found = worst(folder.path(), Some("other.example"));
        assert!(found.level == Level::Warn && found.what.contains("other.example"), "{found:?}");
    }

    #[test]
    fn its_end_is_seen_coming() {
        let folder = issued("gw-1.gateway.tidegate", &[]);
        let pair = Pair {
            name: "it",
            folder: folder.path(),
            stem: "gateway",
            role: Role::Gateway,
            usages: &[KeyUsage::server_auth],
            fix: "fix",
        };
        let ca = folder.path().join(CA_CERT);
        let years = |n: u64| SystemTime::now() + Duration::from_secs(n * 365 * 24 * 3_600);
        assert_eq!(pair.look(&ca, years(1))[0].level, Level::Ok);
        let past = pair.look(&ca, years(20)).remove(0);
        assert!(past.level == Level::Fail && past.what.contains("expired on"), "{past:?}");
        let early = pair.look(&ca, SystemTime::UNIX_EPOCH + SOON).remove(0);
        assert!(early.level == Level::Fail && early.fix.contains("clock"), "{early:?}");

        let chain = load_certs(&folder.path().join("gateway.pem")).unwrap();
        let roots = load_certs(&ca).unwrap();
        let anchors = [webpki::anchor_from_trusted_cert(&roots[0]).unwrap()];
        let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
        let end = end(&leaf, &anchors, &[], KeyUsage::server_auth()).unwrap();
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(end.as_secs()) - SOON;
        assert_eq!(pair.look(&ca, before - Duration::from_secs(1))[0].level, Level::Ok);
        assert_eq!(pair.look(&ca, before + Duration::from_secs(1))[0].level, Level::Warn);
    }

    #[test]
    fn what_does_not_belong_together_is_named() {
        let (here, there) = (issued("gw-1.gateway.tidegate", &[]), issued("gw-2.gateway.tidegate", &[]));
        let copy = |file: &str| std::fs::copy(there.path().join(file), here.path().join(file)).unwrap();
        copy("gateway.key");
        let found = worst(here.path(), None);
        assert!(found.level == Level::Fail && found.what.contains("its key"), "{found:?}");
        copy("gateway.pem");
        let found = worst(here.path(), None);
        assert!(found.level == Level::Fail && found.what.contains("not signed by"), "{found:?}");
        copy("ca.pem");
        assert_eq!(worst(here.path(), None).level, Level::Ok);
        let world = issued("s-1.world.tidegate", &[]);
        let found = worst(world.path(), None);
        assert!(found.level == Level::Fail && found.what.contains(".gateway.tidegate"), "{found:?}");
    }

    #[test]
    fn a_key_that_others_can_read_is_worth_a_warning() {
        let folder = issued("gw-1.gateway.tidegate", &[]);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(folder.path().join("gateway.key"), open).unwrap();
        let found = worst(folder.path(), None);
        assert!(found.level == Level::Warn && found.fix.starts_with("chmod 600"), "{found:?}");
    }

    #[test]
    fn a_manager_that_has_not_run_yet_will_make_them() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        assert_eq!(gateway(&pki, None, Some(folder.path()))[0].level, Level::Warn);
        assert_eq!(gateway(&pki, None, None)[0].level, Level::Fail);
        assert!(manager(&pki).is_empty());
        let authority = Authority::open_or_create(&pki).unwrap();
        authority.issue("manager.gateway.tidegate", &[]).unwrap().write(&pki, "manager").unwrap();
        authority.issue("s-1.world.tidegate", &[]).unwrap().write(&pki.join("servers"), "s-1").unwrap();
        let found = manager(&pki);
        assert!(found.len() == 2 && found.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
        std::fs::remove_file(pki.join("servers/s-1.key")).unwrap();
        let found = manager(&pki);
        assert!(found.iter().any(|finding| finding.level == Level::Fail && finding.what.contains("s-1.key")));
    }
}
