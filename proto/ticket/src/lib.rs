//! Tickets: what a player shows to be let in.
//!
//! ```text
//!   login service --mints--> login ticket --> gateway: KeyRing   folder of public keys, revocations; watched
//!   gateway ------seals----> resume ticket -> gateway: ResumeKeys  one secret file that all gateways share; watched
//! ```
//!
//! A *login ticket* is signed by the game's login service (PASETO v4.public or JWT EdDSA) and checked by gateways with
//! public keys alone. A *resume ticket* is sealed by a gateway for a gateway (PASETO v4.local); to a client it is opaque.
//!
//! Refuses to know whether a ticket was used before, and what a session is: it answers only whether the bytes are genuine,
//! for this realm, in time, and not revoked.

mod claims;
mod error;
mod folder;
mod jwt;
mod key_file;
mod login;
mod public_key;
mod resume;
mod revoked;
mod ring;
mod secret;
mod token;
mod watch;

pub use claims::{LoginClaims, MAX_TICKET_BYTES, Rules};
pub use error::{KeyError, TicketError};
pub use login::{LoginKey, LoginPublicKey};
pub use public_key::{Algorithm, RingKey, Standing};
pub use resume::{ResumeClaims, ResumeKeys};
pub use revoked::{REVOKED_FILE, Revocation, Subject, revoke};
pub use ring::{Inspection, KeyRing};
pub use secret::local_secret;
pub use token::Format;
pub use watch::Watcher;
