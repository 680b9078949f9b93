//! The certificates by which a Redis that speaks TLS is believed.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::TlsCertificates;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::DirectoryConfig;
use crate::url::SharedUrl;

/// The certificate authority's file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} as the certificate authority of the directory: {why}")]
pub struct BadCaFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Which authorities to believe; nothing for a URL without TLS.
#[derive(Debug, Clone)]
pub(crate) enum Tls {
    Off,
    /// Only this authority (PEM).
    Given(Vec<u8>),
    System,
}

impl Tls {
    pub(crate) fn new(url: &SharedUrl, config: &DirectoryConfig) -> Result<Self, BadCaFile> {
        match (&config.ca_file, url.tls) {
            (_, false) => Ok(Self::Off),
            (None, true) => Ok(Self::System),
            (Some(path), true) => {
                let bad = |why: String| BadCaFile { path: path.clone(), why };
                let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
                match CertificateDer::pem_slice_iter(&pem).next() {
                    Some(Ok(_)) => Ok(Self::Given(pem)),
                    Some(Err(e)) => Err(bad(format!("{e:?}"))),
                    None => Err(bad("it holds no certificate (PEM)".to_owned())),
                }
            }
        }
    }

    /// The certificates as the client library takes them; `None` without TLS. The system's are read from files, so not on
    /// the thread that serves players. A system without any leaves the library's own (Mozilla's).
    pub(crate) async fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = match self {
            Self::Off => return None,
            Self::Given(pem) => Some(pem.clone()),
            Self::System => tokio::task::spawn_blocking(system).await.ok().flatten(),
        };
        Some(TlsCertificates { client_tls: None, root_cert })
    }
}

fn system() -> Option<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "one of the system's certificate authorities was not read");
    }
    let mut pem = String::new();
    for certificate in &found.certs {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        pem.push_str(&STANDARD.encode(certificate));
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    (!pem.is_empty()).then(|| pem.into_bytes())
}
