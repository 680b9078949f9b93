//! A login ticket as it comes: of which format, by which key it says it is signed, and whether it is.
//!
//! Nothing in a ticket chooses how it is checked. Its beginning and header only select a key; the key says which format it
//! signs, and each format has one algorithm.

use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use pasetors::token::{Public, UntrustedToken};
use pasetors::version4::{PublicToken, V4};
use serde::Deserialize;

use crate::claims::{Payload, Read};
use crate::public_key::MAX_KID;
use crate::{MAX_TICKET_BYTES, RingKey, TicketError, jwt};

/// Longest PASETO footer that is parsed, in bytes: a kid in JSON.
const MAX_FOOTER: usize = 2 * MAX_KID + 16;

/// The formats of login tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PASETO v4.public.
    Paseto,
    /// JWT (JWS compact) with EdDSA over Ed25519.
    Jwt,
}

/// A ticket whose signature has not been looked at.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    token: &'a str,
    pub(crate) format: Format,
    /// The key that it names.
    pub(crate) kid: Option<String>,
}

#[derive(Deserialize)]
struct Footer {
    kid: String,
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TicketError> {
        if token.len() > MAX_TICKET_BYTES {
            return Err(TicketError::TooLong);
        }
        let (format, kid) = match token.starts_with(PublicToken::HEADER) {
            true => (Format::Paseto, paseto_kid(token)?),
            // A token of another kind or version has no header that a JWT could have.
            false => (Format::Jwt, jwt_kid(token)?),
        };
        if kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
            return Err(TicketError::Malformed);
        }
        Ok(Self { token, format, kid })
    }

    /// What it says, if `key` signed it.
    pub(crate) fn verify(&self, key: &RingKey) -> Result<Read, TicketError> {
        if !key.algorithm.allows(self.format) {
            return Err(TicketError::WrongAlgorithm { kid: key.kid.clone() });
        }
        self.payload(key)?.read(self.format)
    }

    fn payload(&self, key: &RingKey) -> Result<Payload, TicketError> {
        match self.format {
            Format::Paseto => {
                let token = UntrustedToken::<Public, V4>::try_from(self.token).map_err(|_| TicketError::Malformed)?;
                let trusted =
                    PublicToken::verify(&key.paseto, &token, None, None).map_err(|_| TicketError::BadSignature)?;
                serde_json::from_str(trusted.payload()).map_err(|e| bad_payload(&e))
            }
            Format::Jwt => {
                jwt::install();
                let mut rules = Validation::new(jsonwebtoken::Algorithm::EdDSA);
                // The claims are checked by the same rules as PASETO's, in milliseconds and by the caller's clock.
                rules.required_spec_claims.clear();
                (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
                match jsonwebtoken::decode::<Payload>(self.token, &key.jwt, &rules) {
                    Ok(data) => Ok(data.claims),
                    Err(error) => Err(match error.kind() {
                        ErrorKind::InvalidSignature => TicketError::BadSignature,
                        ErrorKind::InvalidAlgorithm => TicketError::WrongAlgorithm { kid: key.kid.clone() },
                        // The header has been read before, so this is the payload of a genuine ticket.
                        ErrorKind::Json(e) => bad_payload(e),
                        _ => TicketError::Malformed,
                    }),
                }
            }
        }
    }
}

fn bad_payload(error: &dyn std::fmt::Display) -> TicketError {
    TicketError::BadClaim { claim: "payload", why: error.to_string() }
}

/// The kid of a PASETO's footer: a PASERK id that stands alone, or JSON. No footer: no kid.
fn paseto_kid(token: &str) -> Result<Option<String>, TicketError> {
    // An empty footer is written as none; a full stop alone at the end would be a second spelling of the same ticket.
    if token.ends_with('.') {
        return Err(TicketError::Malformed);
    }
    let token = UntrustedToken::<Public, V4>::try_from(token).map_err(|_| TicketError::Malformed)?;
    let footer = match token.untrusted_footer() {
        [] => return Ok(None),
        footer if footer.len() > MAX_FOOTER => return Err(TicketError::Malformed),
        footer => std::str::from_utf8(footer).map_err(|_| TicketError::Malformed)?,
    };
    if footer.starts_with("k4.pid.") {
        return Ok(Some(footer.to_owned()));
    }
    match serde_json::from_str::<Footer>(footer) {
        Ok(footer) => Ok(Some(footer.kid)),
        Err(_) => Err(TicketError::Malformed),
    }
}

/// The kid of a JWT's header. `typ` and everything that offers a key is ignored.
fn jwt_kid(token: &str) -> Result<Option<String>, TicketError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TicketError::Malformed)?;
    if header.alg != jsonwebtoken::Algorithm::EdDSA {
        return Err(TicketError::WrongAlgorithm { kid: header.kid.unwrap_or_default() });
    }
    // RFC 7515: whoever does not understand a critical extension refuses; we know none.
    if header.crit.is_some() {
        return Err(TicketError::Malformed);
    }
    Ok(header.kid)
}
