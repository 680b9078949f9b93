//! What can go wrong, and what to do about it.

use std::net::SocketAddr;
use std::time::Duration;

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The file of trusted certificates cannot be used.
    #[error("read certificates from {path}: {why}")]
    Roots {
        /// The file, or "the given certificates".
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library refused the configuration.
    #[error("configure TLS")]
    Tls(#[source] rustls::Error),
    /// No UDP socket could be had.
    #[error("open a UDP socket")]
    Socket(#[source] std::io::Error),
}

/// Why a session could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint could not be made.
    #[error("prepare the endpoint")]
    Endpoint(#[from] EndpointError),
    /// The configuration names no gateway.
    #[error("find a gateway: the configuration names none")]
    NoGateway,
    /// None of the gateways answered. Names the last one tried.
    #[error("reach a gateway: {gateway} {why}")]
    Unreachable {
        /// The gateway tried last.
        gateway: SocketAddr,
        /// What happened there.
        why: String,
    },
    /// A gateway answered that the session cannot be had.
    #[error("log in: the gateway refused ({0})")]
    Refused(Refusal),
    /// The gateway said something that is not the protocol.
    #[error("understand the gateway: {0}")]
    Protocol(String),
}

/// A gateway's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// A stable word: "ticket_invalid", "ticket_expired", "ticket_used", "wrong_realm", "client_too_old", "resume_unknown",
    /// "no_environment", "unavailable", "already_online".
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When trying again may help; `None`: not with this ticket.
    pub retry_after: Option<Duration>,
}

/// What a program should do about a [`ConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again with the same ticket after this time (the ticket lives for about a minute).
    TryAgain(Duration),
    /// Get a new ticket from the login service, then try again.
    NewTicket,
    /// The character is in play through another client: end that session first, then log in with a new ticket.
    EndOther,
    /// Ask the player to update the client.
    Update,
    /// Mend the configuration or the program; trying again does not help.
    Mend,
}

impl ConnectError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Self::Endpoint(_) | Self::NoGateway | Self::Protocol(_) => Advice::Mend,
            Self::Unreachable { .. } => Advice::TryAgain(Duration::from_secs(1)),
            Self::Refused(refusal) => match (refusal.retry_after, refusal.reason.as_str()) {
                (Some(after), _) => Advice::TryAgain(after),
                (None, "client_too_old") => Advice::Update,
                (None, "already_online") => Advice::EndOther,
                (None, "wrong_realm") => Advice::Mend,
                (None, _) => Advice::NewTicket,
            },
        }
    }
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is over (or is logging out); [`crate::Event::Closed`] says why.
    #[error("send: the session is over")]
    Closed,
    /// The frame is longer than the gateway accepts.
    #[error("send: the frame is {length} bytes long; at most {limit} are allowed")]
    TooLong {
        /// The frame's length, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The window of unacknowledged frames is full; only [`crate::Session::try_send`] says so, `send` waits instead.
    #[error("send: 256 frames or 64 KiB are waiting to be acknowledged")]
    Full,
}

/// Why a datagram was not taken. Datagrams may be lost anyway; most programs ignore this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// There is no connection at this moment.
    #[error("send a datagram: not connected")]
    NotConnected,
    /// It does not fit in one packet of this connection.
    #[error("send a datagram: it does not fit in a packet")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str, retry_ms: u64) -> ConnectError {
        let retry_after = (retry_ms > 0).then(|| Duration::from_millis(retry_ms));
        ConnectError::Refused(Refusal { reason: reason.into(), message: String::new(), retry_after })
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        assert_eq!(refused("unavailable", 500).advice(), Advice::TryAgain(Duration::from_millis(500)));
        assert_eq!(refused("ticket_expired", 0).advice(), Advice::NewTicket);
        assert_eq!(refused("ticket_used", 0).advice(), Advice::NewTicket);
        assert_eq!(refused("client_too_old", 0).advice(), Advice::Update);
        assert_eq!(refused("wrong_realm", 0).advice(), Advice::Mend);
        assert_eq!(refused("already_online", 0).advice(), Advice::EndOther);
        assert_eq!(ConnectError::NoGateway.advice(), Advice::Mend);
    }
}
