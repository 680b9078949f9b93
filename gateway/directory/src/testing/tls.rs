//! An authority and a certificate for one test server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// File of the authority's certificate.
pub(super) const CA: &str = "ca.pem";
/// File of the server's certificate.
pub(super) const CERTIFICATE: &str = "server.pem";
/// File of the server's key.
pub(super) const KEY: &str = "server.key";

/// Writes the three files.
pub(super) fn write(directory: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority_certificate = authority.self_signed(&authority_key).expect("an authority");
    let issuer = Issuer::new(authority, authority_key);
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    server.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let key = KeyPair::generate().expect("a key");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    for (name, pem) in [(CA, authority_certificate.pem()), (CERTIFICATE, certificate.pem()), (KEY, key.serialize_pem())]
    {
        fs::write(directory.join(name), pem).expect("a certificate is written");
    }
}
