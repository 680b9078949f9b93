//! TLS settings of both ends: version 1.3 only, ring as the only provider, both sides show a certificate of the same
//! authority, and the dialling side's must name a gateway.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tidegate_proto::LINK_ALPN;

use crate::pki::{Identity, PkiError, Role, has_role};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, PkiError> {
    let mut store = RootCertStore::empty();
    for root in &identity.roots {
        store.add(root.clone()).map_err(PkiError::Tls)?;
    }
    Ok(Arc::new(store))
}

/// Settings of the side that dials.
pub(crate) fn client(identity: &Identity) -> Result<quinn::crypto::rustls::QuicClientConfig, PkiError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PkiError::Tls)?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(PkiError::Tls)?;
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    // A resumed handshake would skip the certificate's check; links are few and long, so there is nothing to gain.
    config.resumption = rustls::client::Resumption::disabled();
    config.try_into().map_err(|_| PkiError::Tls(Error::General("no cipher suite for QUIC".to_owned())))
}

/// Settings of the side that listens.
pub(crate) fn server(identity: &Identity) -> Result<quinn::crypto::rustls::QuicServerConfig, PkiError> {
    let inner = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider())
        .build()
        .map_err(|e| PkiError::Tls(Error::General(e.to_string())))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(PkiError::Tls)?
        .with_client_cert_verifier(Arc::new(GatewaysOnly { inner }))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(PkiError::Tls)?;
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.try_into().map_err(|_| PkiError::Tls(Error::General("no cipher suite for QUIC".to_owned())))
}

/// The usual check of a client's certificate, and then that it names a gateway.
#[derive(Debug)]
struct GatewaysOnly {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for GatewaysOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if has_role(end_entity, Role::Gateway) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
