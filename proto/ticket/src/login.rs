//! The login service's keys: the secret one mints tickets, the public one is deployed to gateways.

use std::path::Path;

use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate};
use pasetors::version4::{PublicToken, V4};

use crate::claims::Payload;
use crate::key_file::{self, Secrecy};
use crate::public_key::{PUBLIC_KIND, paserk_id};
use crate::{Algorithm, Format, KeyError, LoginClaims, jwt};

const SECRET_KIND: &str = "tidegate-login-secret-v4";

/// The login service's secret key: mints tickets.
#[derive(Debug, Clone)]
pub struct LoginKey {
    secret: AsymmetricSecretKey<V4>,
    public: LoginPublicKey,
    kid: String,
}

/// The login service's public key, on its way to a gateway's ring.
#[derive(Debug, Clone)]
pub struct LoginPublicKey(pub(crate) AsymmetricPublicKey<V4>);

impl LoginKey {
    /// A new key pair.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| KeyError::Generate)?;
        Ok(Self::new(pair.secret, pair.public))
    }

    /// Reads a secret key file.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what is wrong with it; one that others can read is refused.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::malformed(path, "not an Ed25519 key pair");
        let bytes = key_file::read(path, SECRET_KIND, 64, Secrecy::Secret)?;
        let secret = AsymmetricSecretKey::<V4>::from(&bytes).map_err(malformed)?;
        let public = AsymmetricPublicKey::<V4>::try_from(&secret).map_err(malformed)?;
        Ok(Self::new(secret, public))
    }

    fn new(secret: AsymmetricSecretKey<V4>, public: AsymmetricPublicKey<V4>) -> Self {
        Self { secret, kid: paserk_id(&public), public: LoginPublicKey(public) }
    }

    /// Names the key otherwise in the tickets that it mints. Unless this is said they name its PASERK id, by which every
    /// ring knows it.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = kid.into();
        self
    }

    /// What its tickets call it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Writes the secret key file, readable by its owner alone, in one step.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        key_file::write(path, &self.line(), Secrecy::Secret)
    }

    /// As [`Self::save`], but leaves an existing file alone and says false.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save_new(&self, path: &Path) -> Result<bool, KeyError> {
        key_file::write_if_absent(path, &self.line(), Secrecy::Secret)
    }

    fn line(&self) -> String {
        key_file::line(SECRET_KIND, self.secret.as_bytes()) + "\n"
    }

    /// The key that checks what this one mints.
    #[must_use]
    pub fn public(&self) -> &LoginPublicKey {
        &self.public
    }

    /// Mints a ticket in the default format, PASETO v4.public.
    #[must_use]
    pub fn mint(&self, claims: &LoginClaims) -> String {
        self.mint_as(Format::Paseto, claims)
    }

    /// Mints a ticket. It says what it is told: whether the claims make sense is for [`crate::KeyRing::check`].
    ///
    /// # Panics
    /// Never: a JSON object of texts and numbers always encodes, and a key that was loaded or made always signs.
    #[must_use]
    pub fn mint_as(&self, format: Format, claims: &LoginClaims) -> String {
        let payload = Payload::new(claims, format);
        match format {
            Format::Paseto => {
                let json = serde_json::to_vec(&payload).expect("an object of texts encodes");
                // A PASERK id may stand alone in the footer; any other name is claimed in JSON.
                let footer = match self.kid.starts_with("k4.pid.") {
                    true => self.kid.clone(),
                    false => serde_json::json!({ "kid": self.kid }).to_string(),
                };
                PublicToken::sign(&self.secret, &json, Some(footer.as_bytes()), None)
                    .expect("a valid key signs a payload that is not empty")
            }
            Format::Jwt => {
                jwt::install();
                let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
                header.kid = Some(self.kid.clone());
                jsonwebtoken::encode(&header, &payload, &jwt::encoding_key(self.secret.as_bytes()))
                    .expect("a valid key signs")
            }
        }
    }
}

impl LoginPublicKey {
    /// Writes the key alone into a file of Tidegate's own form, in one step. As one of a ring it signs PASETO tickets.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        key_file::write(path, &(self.line() + "\n"), Secrecy::Public)
    }

    /// Writes a key file for a ring's folder, unless there is one of this name already: then it is left alone, and the
    /// answer is false.
    ///
    /// # Errors
    /// [`KeyError::Io`] names the file.
    pub fn save_to_ring(&self, path: &Path, kid: &str, algorithm: Algorithm) -> Result<bool, KeyError> {
        let text = format!(
            "# A login service's public key. `tidegate ticket keys list` shows the ring.\nkey = \"{}\"\n\
             kid = {}\nalgorithm = \"{algorithm}\"\n",
            self.line(),
            toml::Value::from(kid),
        );
        key_file::write_if_absent(path, &text, Secrecy::Public)
    }

    /// Its PASERK id, `k4.pid.…`: by this a ring knows it, whatever else it is called.
    #[must_use]
    pub fn id(&self) -> String {
        paserk_id(&self.0)
    }

    fn line(&self) -> String {
        key_file::line(PUBLIC_KIND, self.0.as_bytes())
    }
}
