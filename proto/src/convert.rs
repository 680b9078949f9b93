//! Between the wire's enums and the types of `tidegate-types`. Wrong input dies here, named by field.

use tidegate_types::{Cause, InvalidId};

use crate::v1;

/// A field of a message that cannot be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {why}")]
pub struct BadField {
    /// The field's name, as in the proto.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl BadField {
    /// A field that is wrong for the given reason.
    pub fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// Reads a text id, naming the field if it is none.
///
/// # Errors
/// [`BadField`] with the reason of [`InvalidId`].
pub fn id<T: std::str::FromStr<Err = InvalidId>>(field: &'static str, text: &str) -> Result<T, BadField> {
    text.parse().map_err(|e: InvalidId| BadField::new(field, e.to_string()))
}

/// Reads an optional text id: empty means `None`.
///
/// # Errors
/// [`BadField`] with the reason of [`InvalidId`].
pub fn optional_id<T: std::str::FromStr<Err = InvalidId>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, BadField> {
    if text.is_empty() { Ok(None) } else { id(field, text).map(Some) }
}

impl From<Cause> for v1::Cause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Login => Self::Login,
            Cause::Zone => Self::Zone,
            Cause::Instance => Self::Instance,
            Cause::Respawn => Self::Respawn,
            Cause::Drain => Self::Drain,
            Cause::Operator => Self::Operator,
            Cause::Crash => Self::Crash,
            Cause::Resume => Self::Resume,
        }
    }
}

/// Reads a cause; unspecified and unknown ones are refused.
///
/// # Errors
/// [`BadField`] naming `cause`.
pub fn cause(value: i32) -> Result<Cause, BadField> {
    match v1::Cause::try_from(value) {
        Ok(v1::Cause::Login) => Ok(Cause::Login),
        Ok(v1::Cause::Zone) => Ok(Cause::Zone),
        Ok(v1::Cause::Instance) => Ok(Cause::Instance),
        Ok(v1::Cause::Respawn) => Ok(Cause::Respawn),
        Ok(v1::Cause::Drain) => Ok(Cause::Drain),
        Ok(v1::Cause::Operator) => Ok(Cause::Operator),
        Ok(v1::Cause::Crash) => Ok(Cause::Crash),
        Ok(v1::Cause::Resume) => Ok(Cause::Resume),
        Ok(v1::Cause::Unspecified) => Err(BadField::new("cause", "is not set")),
        Err(_) => Err(BadField::new("cause", format!("has the unknown value {value}"))),
    }
}
