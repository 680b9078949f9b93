//! One public key of a ring, and the files that hold one.
//!
//! | file | holds |
//! |---|---|
//! | `NAME.toml` | `key` in any of the forms below, and optionally `kid`, `algorithm`, `not_before`, `not_after`, `revoked` |
//! | `NAME.pub`, `NAME.paserk`, `NAME.pem` | the key alone; its kid is `NAME` |
//!
//! Forms of a key: PASERK (`k4.public.…`) and Tidegate's own line, both of which sign PASETO v4.public unless `algorithm`
//! says otherwise; and PEM (`BEGIN PUBLIC KEY`, Ed25519), which signs JWT EdDSA unless it says otherwise.

use std::fmt;
use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;
use pasetors::keys::AsymmetricPublicKey;
use pasetors::paserk::{FormatAsPaserk as _, Id};
use pasetors::version4::V4;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tidegate_types::Timestamp;

use crate::key_file::parse_line;
use crate::{Format, KeyError, LoginPublicKey, jwt};

pub(crate) const PUBLIC_KIND: &str = "tidegate-login-public-v4";
/// What a key file's name ends with.
pub(crate) const EXTENSIONS: [&str; 4] = ["toml", "pub", "paserk", "pem"];
/// Longest kid, in bytes: a PASERK id has 51.
pub(crate) const MAX_KID: usize = 128;
/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Which tickets a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// PASETO v4.public alone.
    PasetoV4,
    /// JWT with EdDSA alone.
    JwtEddsa,
    /// Either. The two sign different bytes, so that no signature of one is good for the other.
    Both,
}

/// How a key of a ring stands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It signs tickets.
    InUse,
    /// Its `not_before` has not come.
    NotYet,
    /// Its `not_after` has passed.
    Over,
    /// It is revoked, by its file or by the list.
    Revoked,
}

/// A public key of a ring.
#[derive(Debug, Clone)]
pub struct RingKey {
    pub(crate) kid: String,
    pub(crate) id: String,
    pub(crate) file: PathBuf,
    pub(crate) algorithm: Algorithm,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) revoked: bool,
    pub(crate) paseto: AsymmetricPublicKey<V4>,
    pub(crate) jwt: DecodingKey,
}

/// A key file with something beside the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key: String,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    not_before: Option<toml::Value>,
    not_after: Option<toml::Value>,
    #[serde(default)]
    revoked: bool,
}

impl RingKey {
    /// What tickets may call it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its PASERK id, which tickets may call it as well.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Which tickets it may sign.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// From when to when it may sign.
    #[must_use]
    pub const fn period(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.not_before, self.not_after)
    }

    /// How it stands by its own file; the ring knows of the list as well.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked {
            Standing::Revoked
        } else if self.not_before.is_some_and(|at| now < at) {
            Standing::NotYet
        } else if self.not_after.is_some_and(|at| at <= now) {
            Standing::Over
        } else {
            Standing::InUse
        }
    }

    /// The key in the file `path`, whose content is `text`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KeyError> {
        let malformed = |why: String| KeyError::malformed(path, why);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let file = match path.extension().is_some_and(|extension| extension == "toml") {
            // Its message shows the line; the first line of it is enough here.
            true => toml::from_str(text)
                .map_err(|e| malformed(e.message().lines().next().unwrap_or_default().to_owned()))?,
            false => KeyFile {
                key: text.to_owned(),
                kid: None,
                algorithm: None,
                not_before: None,
                not_after: None,
                revoked: false,
            },
        };
        let (bytes, usual) = public_bytes(&file.key).map_err(|why| malformed(why.to_owned()))?;
        let paseto = AsymmetricPublicKey::<V4>::from(&bytes).map_err(|_| malformed("not an Ed25519 key".into()))?;
        let kid = file.kid.unwrap_or_else(|| stem.to_owned());
        if kid.is_empty() || kid.len() > MAX_KID || !kid.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed(format!("kid is not 1 to {MAX_KID} printable characters without blanks")));
        }
        let not_before = file.not_before.map(|v| moment(&v)).transpose().map_err(malformed)?;
        let not_after = file.not_after.map(|v| moment(&v)).transpose().map_err(malformed)?;
        let algorithm = file.algorithm.unwrap_or(usual);
        let key = Self::new(&LoginPublicKey(paseto), kid, path, algorithm);
        Ok(Self { not_before, not_after, revoked: file.revoked, ..key })
    }

    pub(crate) fn new(key: &LoginPublicKey, kid: String, file: &Path, algorithm: Algorithm) -> Self {
        Self {
            id: key.id(),
            kid,
            file: file.to_owned(),
            algorithm,
            not_before: None,
            not_after: None,
            revoked: false,
            jwt: jwt::decoding_key(key.0.as_bytes()),
            paseto: key.0.clone(),
        }
    }
}

/// The key in any of the forms, and what it signs unless its file says otherwise.
fn public_bytes(text: &str) -> Result<(Vec<u8>, Algorithm), &'static str> {
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| "no public key in the PEM")?;
        let key = spki.strip_prefix(&SPKI_ED25519).ok_or("the PEM is not of an Ed25519 key")?;
        return Ok((key.to_vec(), Algorithm::JwtEddsa));
    }
    if text.starts_with("k4.") {
        let key = AsymmetricPublicKey::<V4>::try_from(text).map_err(|_| "not a PASERK k4.public key")?;
        return Ok((key.as_bytes().to_vec(), Algorithm::PasetoV4));
    }
    Ok((parse_line(text, PUBLIC_KIND, 32)?, Algorithm::PasetoV4))
}

/// A moment in a TOML file: RFC 3339, as TOML's own date and time with an offset or as a text.
pub(crate) fn moment(value: &toml::Value) -> Result<Timestamp, String> {
    let text = match value {
        toml::Value::Datetime(at) => at.to_string(),
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => value.to_string(),
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Timestamp(at.as_millisecond())),
        Err(_) => Err(format!("{text} is not a moment as in 2026-01-31T12:00:00Z")),
    }
}

pub(crate) fn paserk_id(key: &AsymmetricPublicKey<V4>) -> String {
    let mut text = String::new();
    Id::from(key).fmt(&mut text).expect("a text takes what is written");
    text
}

impl Algorithm {
    /// Whether a key of this kind may sign tickets of this format.
    #[must_use]
    pub const fn allows(self, format: Format) -> bool {
        matches!((self, format), (Self::Both, _) | (Self::PasetoV4, Format::Paseto) | (Self::JwtEddsa, Format::Jwt))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PasetoV4 => "paseto-v4",
            Self::JwtEddsa => "jwt-eddsa",
            Self::Both => "both",
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use",
            Self::NotYet => "not yet",
            Self::Over => "over",
            Self::Revoked => "revoked",
        })
    }
}
