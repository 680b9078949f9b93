//! Tickets: what a player shows to be let in.
//!
//! A *login ticket* is signed by the game's login service (PASETO v4.public) and checked by gateways with its public key
//! alone. A *resume ticket* is sealed by a gateway for a gateway (PASETO v4.local); to a client it is opaque.
//!
//! Refuses to know whether a ticket was used before, and what a session is: it answers only whether the bytes are genuine,
//! for this realm, and in time.

mod error;
mod key_file;
mod login;
mod resume;

pub use error::{KeyError, TicketError};
pub use login::{CLOCK_SKEW, LoginClaims, LoginKey, LoginPublicKey, MAX_LIFETIME, MAX_TICKET_BYTES};
pub use resume::{ResumeClaims, ResumeKey};
