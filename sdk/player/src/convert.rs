//! From the wire's messages to events. Wrong input dies here, named by field.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_proto::convert::{BadField, cause, id, optional_id};
use tidegate_proto::v1;
use tidegate_types::{Epoch, Generation, SessionId, Timestamp};

use crate::error::Refusal;
use crate::event::{CloseReason, Hold, Home, Moved, Notice, Welcome};

fn milliseconds(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

pub(crate) fn welcome(
    message: &v1::Welcome,
    hello_sent: Timestamp,
    gateway: SocketAddr,
    took: Duration,
) -> Result<Welcome, BadField> {
    Ok(Welcome {
        session: SessionId::from_slice(&message.session_id)
            .ok_or_else(|| BadField::new("session_id", "is not 16 bytes long"))?,
        home: Home {
            epoch: Epoch(message.epoch),
            environment: id("environment_id", &message.environment_id)?,
            build: id("build", &message.build)?,
            server: id("server_id", &message.server_id)?,
            zone: optional_id("zone", &message.zone)?,
            generation: Generation(message.generation),
        },
        cause: cause(message.cause)?,
        gap: message.gap,
        grace: Duration::from_millis(u64::from(message.grace_ms)),
        hello_sent,
        gateway,
        gateways: message.gateways.clone(),
        took,
    })
}

pub(crate) fn moved(message: &v1::Moved) -> Result<Moved, BadField> {
    Ok(Moved {
        home: Home {
            epoch: Epoch(message.epoch),
            environment: id("environment_id", &message.environment_id)?,
            build: id("build", &message.build)?,
            server: id("server_id", &message.server_id)?,
            zone: optional_id("zone", &message.zone)?,
            generation: Generation(message.generation),
        },
        cause: cause(message.cause)?,
        between: Duration::from_micros(message.gap_us),
    })
}

pub(crate) fn hold(message: v1::Hold) -> Hold {
    Hold { place: (message.place > 0).then_some(message.place), reason: message.reason }
}

pub(crate) fn notice(message: v1::Notice) -> Notice {
    Notice { text: message.text, remaining: milliseconds(message.remaining_ms) }
}

pub(crate) fn refusal(message: v1::Refused) -> Refusal {
    Refusal {
        reason: message.reason,
        message: message.message,
        retry_after: milliseconds(u64::from(message.retry_after_ms)),
    }
}

/// The reason of a gateway's `Goodbye`.
pub(crate) fn goodbye(word: &str) -> CloseReason {
    match word {
        "logout" => CloseReason::LoggedOut,
        "kicked" | "ejected" => CloseReason::Kicked,
        // Another gateway has it, and not by this client's wish.
        "replaced" | "moved" => CloseReason::Replaced,
        "grace_over" => CloseReason::GraceOver,
        other => CloseReason::Other(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_without_a_server_is_refused_by_the_fields_name() {
        let message = v1::Welcome {
            session_id: vec![7; 16],
            environment_id: "eu-1-a".into(),
            build: "1.9.0".into(),
            cause: v1::Cause::Login.into(),
            ..v1::Welcome::default()
        };
        let read = |message: &v1::Welcome| {
            welcome(message, Timestamp(5), SocketAddr::from(([127, 0, 0, 1], 1)), Duration::ZERO)
        };
        assert_eq!(read(&message).unwrap_err().field, "server_id");
        let message = v1::Welcome { server_id: "s1".into(), ..message };
        let welcome = read(&message).unwrap();
        assert_eq!((welcome.home.zone, welcome.hello_sent), (None, Timestamp(5)));
    }
}
