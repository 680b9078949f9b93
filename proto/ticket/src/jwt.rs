//! The JWT library's cryptography: Ed25519 by ring, and nothing else.
//!
//! `jsonwebtoken` takes its algorithms from a provider. Ours knows EdDSA alone, so that no header can name another one:
//! what decides is the key's own type, never what a ticket says of itself.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

static EDDSA_ALONE: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes [`EDDSA_ALONE`] the process's provider. Cheap when it is already.
pub(crate) fn install() {
    // Refused when somebody was first. That can only be ourselves: the library is built without providers of its own.
    let _ = EDDSA_ALONE.install_default();
}

/// The key as the library wants it: a seed and a public key, 64 bytes.
pub(crate) fn encoding_key(seed_and_public: &[u8]) -> EncodingKey {
    EncodingKey::from_ed_der(seed_and_public)
}

/// The key as the library wants it: 32 bytes.
pub(crate) fn decoding_key(public: &[u8]) -> DecodingKey {
    DecodingKey::from_ed_der(public)
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::EdDSA || key.family() != AlgorithmFamily::Ed {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let unusable = || Error::from(ErrorKind::InvalidEddsaKey);
    let (seed, public) = key.as_bytes().split_at_checked(32).ok_or_else(unusable)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| unusable())?;
    Ok(Box::new(Ring(pair)))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::EdDSA || key.family() != AlgorithmFamily::Ed {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ring(UnparsedPublicKey::new(&ED25519, key.try_get_as_bytes()?.to_vec()))))
}

struct Ring<K>(K);

impl Signer<Vec<u8>> for Ring<Ed25519KeyPair> {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ring<Ed25519KeyPair> {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

impl Verifier<Vec<u8>> for Ring<UnparsedPublicKey<Vec<u8>>> {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        self.0.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ring<UnparsedPublicKey<Vec<u8>>> {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
