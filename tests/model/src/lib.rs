//! The protocol between gateways, world servers, directory and realm database as an abstract specification, small enough
//! that every interleaving and every crash of it can be tried: two world servers, two gateways, one character.
//!
//! ```text
//!  player --hello--> gateway 0 ==ordered link==> world server A \
//!        \                    \\==              //               > realm database: claims from exactly one epoch to the next
//!         \--hello-> gateway 1 ================> world server B /
//!                        \------- directory (a hint: may be wiped, go back, not answer)
//! ```
//!
//! What the protocol rests on, and each of it is missed by a check when it is taken away:
//!
//! - Every claim goes out from *exactly* one epoch that the realm database is known to have granted, by a gateway that knows
//!   the holder of it to be gone: released, dead, its own lease there over, or found nowhere by a search begun afterwards. An
//!   epoch only asked for, or only written in the directory, may be another's.
//! - A world server switches a player that it holds from one gateway to another by itself (take-over), with a claim from
//!   exactly the epoch it holds. It drops nobody for a claim that could fail, and it takes a seat up again without a claim
//!   only for the run of the gateway that had it.
//! - A gateway whose player another one has taken does not take them back by itself.
//!
//! What is abstracted: time (a lease that is over is an event, enabled by the protocol's own rule), frames, zones, room. A
//! step is atomic at one party; messages of a link arrive in order or are lost with the link. [`Rules`] switches single
//! rules of the protocol off: each has to be missed by a check, or it would not be a rule.
//!
//! [`Spec`] is the model for the checker; [`dead_ends()`] looks for states out of which no way leads back into play.

mod dead_ends;
mod faults;
mod gateway;
mod handover;
mod search;
mod server;
mod spec;
mod state;

pub use dead_ends::{Survey, dead_ends};
pub use spec::{Case, Rules, Spec, Step};
pub use state::{
    Entry, Fault, Gateway, Held, Home, Link, Phase, Player, Refusal, Seat, Server, Session, Standing, State, ToGateway,
    ToServer,
};
