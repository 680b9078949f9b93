//! What is said on a link.

use bytes::Bytes;
use gateway_core::{Channel, FromWorld, Identity, Refusal, Resident, StateBlob, ToWorld, Who};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1::{self, gateway_to_world, world_to_gateway};
use tidegate_types::Epoch;

use super::{optional_place, pin, place, session_id, wire_pin, wire_place};

/// Most members of one transfer (the protocol's limit).
const MAX_TRANSFER: usize = 64;
/// Longest frozen state, in bytes (the protocol's limit).
const MAX_STATE: usize = 1024 * 1024;

/// A message of a world server, sorted by who deals with it.
#[derive(Debug)]
pub(crate) enum FromLink {
    /// The link's own affair.
    Heartbeat { sequence: u64 },
    /// For the core, while the roster is told.
    Resident(Resident),
    /// Frames of players that have arrived.
    Received(v1::FramesReceived),
    /// For the core.
    RosterEnd,
    /// For the core.
    World(FromWorld),
}

/// Reads a world server's message.
///
/// # Errors
/// The field that cannot be what it should be; an empty message or a second hello is `message`.
pub(crate) fn from_link(message: v1::WorldToGateway) -> Result<FromLink, BadField> {
    use world_to_gateway::Message;
    let message = message.message.ok_or_else(|| BadField::new("message", "is not set"))?;
    Ok(FromLink::World(match message {
        Message::Hello(_) => return Err(BadField::new("message", "is a hello after the hello")),
        Message::Heartbeat(m) => return Ok(FromLink::Heartbeat { sequence: m.sequence }),
        Message::Resident(m) => return resident(m).map(FromLink::Resident),
        Message::RosterEnd(_) => return Ok(FromLink::RosterEnd),
        Message::Attached(m) => FromWorld::Attached {
            handle: m.handle,
            epoch: Epoch(m.epoch),
            place: required_place(m.place)?,
            channel: channel(m.channel.unwrap_or_default())?,
            pin: m.pin.as_ref().map(pin).transpose()?,
            party: convert::optional_id("party", &m.party)?,
        },
        Message::AttachRefused(m) => FromWorld::AttachRefused {
            handle: m.handle,
            reason: refusal(m.reason),
            message: m.message,
            highest_epoch: Epoch(m.highest_epoch),
            saved_epoch: Epoch(m.saved_epoch),
            place: optional_place("place", m.place)?,
        },
        Message::Left(m) => FromWorld::Left { handle: m.handle },
        Message::Frozen(m) => {
            if m.state.len() > MAX_STATE {
                return Err(BadField::new("state", format!("is longer than {MAX_STATE} bytes")));
            }
            let blob = StateBlob { state: m.state, format: m.format, digest: Bytes::from(m.digest) };
            FromWorld::Frozen { handle: m.handle, epoch: Epoch(m.epoch), blob }
        }
        Message::FreezeRefused(m) => {
            FromWorld::FreezeRefused { handle: m.handle, reason: refusal(m.reason), message: m.message }
        }
        Message::Thawed(m) => FromWorld::Thawed { handle: m.handle },
        Message::Released(m) => FromWorld::Released { handle: m.handle },
        Message::Prepared(m) => FromWorld::Prepared { handle: m.handle },
        Message::PrepareRefused(m) => {
            FromWorld::PrepareRefused { handle: m.handle, reason: refusal(m.reason), message: m.message }
        }
        Message::Activated(m) => {
            FromWorld::Activated { handle: m.handle, epoch: Epoch(m.epoch), place: required_place(m.place)? }
        }
        Message::Aborted(m) => FromWorld::Aborted { handle: m.handle },
        Message::Transfer(m) => {
            if m.handles.len() > MAX_TRANSFER {
                return Err(BadField::new("handles", format!("more than {MAX_TRANSFER}")));
            }
            let to = m.to.ok_or_else(|| BadField::new("to", "is not set"))?;
            FromWorld::Transfer { handles: m.handles, to: place("to", to)?, cause: convert::cause(m.cause)? }
        }
        Message::Status(m) => FromWorld::Status {
            handle: m.handle,
            zone: m.zone,
            zone_kind: m.zone_kind,
            busy: m.busy,
            idle_ms: m.idle_ms,
        },
        Message::WhoOwns(m) => FromWorld::WhoOwns {
            session: session_id("session_id", &m.session_id)?,
            epoch: Epoch(m.epoch),
            handle: m.handle,
        },
        Message::Eject(m) => FromWorld::Eject { handle: m.handle, reason: m.reason },
        Message::TakenOver(m) => FromWorld::TakenOver { handle: m.handle, epoch: Epoch(m.epoch) },
        Message::Found(m) => FromWorld::Found { id: m.id, resident: m.resident.map(resident).transpose()? },
        Message::FramesReceived(m) => return Ok(FromLink::Received(m)),
    }))
}

fn required_place(wire: Option<v1::Place>) -> Result<gateway_core::Place, BadField> {
    place("place", wire.ok_or_else(|| BadField::new("place", "is not set"))?)
}

fn resident(m: v1::Resident) -> Result<Resident, BadField> {
    Ok(Resident {
        session: session_id("session_id", &m.session_id)?,
        who: Who { player: convert::id("player", &m.player)?, character: convert::id("character", &m.character)? },
        party: convert::optional_id("party", &m.party)?,
        epoch: Epoch(m.epoch),
        zone: convert::optional_id("zone", &m.zone)?,
        frozen: m.frozen,
        prepared: m.prepared,
        pin: m.pin.as_ref().map(pin).transpose()?,
        gateway: convert::optional_id("gateway_id", &m.gateway_id)?,
    })
}

fn channel(m: v1::Channel) -> Result<Channel, BadField> {
    // A world server sends what it keeps as frames, not here.
    if !m.frames.is_empty() {
        return Err(BadField::new("channel.frames", "are not told in an answer"));
    }
    Ok(Channel { up: m.up, down: m.down, frames: Vec::new(), restart: m.restart, gap: m.gap })
}

fn wire_channel(channel: Channel) -> v1::Channel {
    let Channel { up, down, frames, restart, gap } = channel;
    v1::Channel { up, down, frames: frames.into_iter().map(Into::into).collect(), restart, gap }
}

/// A reason that this version does not know is the game's own.
fn refusal(wire: i32) -> Refusal {
    match v1::RefusalReason::try_from(wire).unwrap_or_default() {
        v1::RefusalReason::StaleEpoch => Refusal::StaleEpoch,
        v1::RefusalReason::WrongZone => Refusal::WrongZone,
        v1::RefusalReason::Full => Refusal::Full,
        v1::RefusalReason::Format => Refusal::Format,
        v1::RefusalReason::Digest => Refusal::Digest,
        v1::RefusalReason::NotReady => Refusal::NotReady,
        v1::RefusalReason::Unknown => Refusal::Unknown,
        v1::RefusalReason::PlayerOnline => Refusal::PlayerOnline,
        v1::RefusalReason::Game | v1::RefusalReason::Unspecified => Refusal::Game,
    }
}

/// Writes a message for a world server about `handle`.
pub(crate) fn to_link(handle: u32, message: ToWorld) -> v1::GatewayToWorld {
    use gateway_to_world::Message;
    let message = match message {
        ToWorld::Attach { identity: who, epoch, from, place, cause, take_over, refuse_connected, channel } => {
            Message::Attach(v1::Attach {
                handle,
                identity: Some(identity(&who)),
                epoch: epoch.0,
                place: place.as_ref().map(wire_place),
                cause: v1::Cause::from(cause).into(),
                take_over,
                channel: Some(wire_channel(channel)),
                refuse_connected,
                from_epoch: from.map(|epoch| epoch.0),
            })
        }
        ToWorld::Park => Message::Park(v1::Park { handle }),
        ToWorld::Unpark => Message::Unpark(v1::Unpark { handle }),
        ToWorld::Leave { epoch, reason } => {
            Message::Leave(v1::Leave { handle, epoch: epoch.0, reason: reason.to_owned() })
        }
        ToWorld::Freeze { epoch } => Message::Freeze(v1::Freeze { handle, epoch: epoch.0 }),
        ToWorld::Thaw { epoch } => Message::Thaw(v1::Thaw { handle, epoch: epoch.0 }),
        ToWorld::Release { epoch } => Message::Release(v1::Release { handle, epoch: epoch.0 }),
        ToWorld::Prepare { identity: who, epoch, from, blob, place, cause, channel } => Message::Prepare(v1::Prepare {
            handle,
            identity: Some(identity(&who)),
            epoch: epoch.0,
            state: blob.state,
            format: blob.format,
            digest: blob.digest.into(),
            place: place.as_ref().map(wire_place),
            cause: v1::Cause::from(cause).into(),
            channel: Some(wire_channel(channel)),
            from_epoch: from.map(|epoch| epoch.0),
        }),
        ToWorld::Activate { epoch } => Message::Activate(v1::Activate { handle, epoch: epoch.0 }),
        ToWorld::Abort => Message::Abort(v1::Abort { handle }),
        ToWorld::Notice { text, remaining_ms } => Message::Notice(v1::PlayerNotice { handle, text, remaining_ms }),
        ToWorld::Owner { session, epoch, server } => Message::Owner(v1::Owner {
            session_id: session.to_vec(),
            epoch: epoch.0,
            server_id: server.map(|s| s.to_string()).unwrap_or_default(),
            handle,
        }),
        ToWorld::Find { id, who } => {
            Message::Find(v1::Find { id, player: who.player.to_string(), character: who.character.to_string() })
        }
        ToWorld::TransferRefused { reason } => {
            Message::TransferRefused(v1::TransferRefused { handle, reason: reason.to_owned() })
        }
    };
    v1::GatewayToWorld { message: Some(message) }
}

fn identity(identity: &Identity) -> v1::SessionIdentity {
    v1::SessionIdentity {
        session_id: identity.session.to_vec(),
        player: identity.who.player.to_string(),
        character: identity.who.character.to_string(),
        party: identity.party.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_version: identity.client_version.clone(),
        pin: Some(wire_pin(&identity.pin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use world_to_gateway::Message;

    fn field(message: Message) -> &'static str {
        from_link(v1::WorldToGateway { message: Some(message) }).expect_err("refused").field
    }

    #[test]
    fn wrong_fields_are_named() {
        assert_eq!(from_link(v1::WorldToGateway { message: None }).unwrap_err().field, "message");
        assert_eq!(field(Message::Hello(v1::WorldHello::default())), "message");
        assert_eq!(field(Message::Attached(v1::Attached::default())), "place");
        assert_eq!(field(Message::WhoOwns(v1::WhoOwns { session_id: vec![1], ..Default::default() })), "session_id");
        let state = Bytes::from(vec![0; MAX_STATE + 1]);
        assert_eq!(field(Message::Frozen(v1::Frozen { state, ..Default::default() })), "state");
        let to = Some(v1::Place { zone: "town".into(), instance: String::new() });
        let handles = vec![0; MAX_TRANSFER + 1];
        assert_eq!(field(Message::Transfer(v1::Transfer { handles, to: to.clone(), cause: 2 })), "handles");
        assert_eq!(field(Message::Transfer(v1::Transfer { handles: vec![], to: None, cause: 2 })), "to");
        assert_eq!(field(Message::Transfer(v1::Transfer { handles: vec![], to, cause: 0 })), "cause");
    }

    #[test]
    fn a_refusal_of_a_later_version_is_the_games() {
        assert_eq!(refusal(99), Refusal::Game);
        assert_eq!(refusal(1), Refusal::StaleEpoch);
    }
}
