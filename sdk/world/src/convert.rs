//! Between the wire's messages and this crate's words. Wrong input dies here, named by field.

use bytes::Bytes;
use tidegate_proto::convert::{BadField, cause, id, optional_id};
use tidegate_proto::v1::{self, RefusalReason, world_to_gateway as to_gateway};
use tidegate_types::{CharacterId, Epoch, PlayerId, SessionId, Timestamp};
use tidegate_window::MAX_COUNT;

use crate::seats::{AttachRequest, Channel, Held, PrepareRequest, Said, Taken, Who};
use crate::world::{Frozen, Pin, Place, PlayerStatus, Refusal, Zone};

fn pin(pin: v1::Pin) -> Result<Pin, BadField> {
    Ok(Pin {
        environment: id("pin.environment_id", &pin.environment_id)?,
        since: Timestamp(pin.since_ms),
        cause: cause(pin.cause)?,
        until: (pin.until_ms != 0).then_some(Timestamp(pin.until_ms)),
    })
}

fn pin_out(pin: &Pin) -> v1::Pin {
    v1::Pin {
        environment_id: pin.environment.to_string(),
        since_ms: pin.since.0,
        cause: v1::Cause::from(pin.cause).into(),
        until_ms: pin.until.map_or(0, |until| until.0),
    }
}

fn who(identity: Option<v1::SessionIdentity>) -> Result<Who, BadField> {
    let identity = identity.ok_or_else(|| BadField::new("identity", "is not set"))?;
    Ok(Who {
        session: SessionId::from_slice(&identity.session_id)
            .ok_or_else(|| BadField::new("identity.session_id", "is not 16 bytes long"))?,
        player: id("identity.player", &identity.player)?,
        character: id("identity.character", &identity.character)?,
        party: optional_id("identity.party", &identity.party)?,
        client_version: identity.client_version,
        pin: identity.pin.map(pin).transpose()?,
    })
}

/// An empty zone means "wherever the character was saved".
fn place(place: Option<v1::Place>) -> Result<Option<Place>, BadField> {
    match place {
        Some(place) if !place.zone.is_empty() => Ok(Some(Place {
            zone: id("place.zone", &place.zone)?,
            instance: (!place.instance.is_empty()).then_some(place.instance),
        })),
        _ => Ok(None),
    }
}

pub(crate) fn place_out(place: &Place) -> v1::Place {
    v1::Place { zone: place.zone.to_string(), instance: place.instance.clone().unwrap_or_default() }
}

/// Unset: a session that begins here, or a gateway that counts nothing.
fn channel(channel: Option<v1::Channel>) -> Channel {
    let v1::Channel { up, down, frames, restart, gap: _ } = channel.unwrap_or_default();
    Channel { up: up.min(MAX_COUNT), down: down.min(MAX_COUNT), frames, restart }
}

pub(crate) fn attach(message: v1::Attach) -> Result<AttachRequest, BadField> {
    Ok(AttachRequest {
        who: who(message.identity)?,
        epoch: Epoch(message.epoch),
        place: place(message.place)?,
        cause: cause(message.cause)?,
        channel: channel(message.channel),
        take_over: message.take_over,
        refuse_connected: message.refuse_connected,
        from: message.from_epoch.map(Epoch),
    })
}

pub(crate) fn prepare(message: v1::Prepare) -> Result<PrepareRequest, BadField> {
    Ok(PrepareRequest {
        who: who(message.identity)?,
        epoch: Epoch(message.epoch),
        place: place(message.place)?,
        cause: cause(message.cause)?,
        channel: channel(message.channel),
        from: message.from_epoch.map(Epoch),
        intact: blake3::hash(&message.state).as_bytes()[..] == message.digest[..],
        state: Frozen { state: message.state, format: message.format },
    })
}

/// The reason and its words for a person.
fn refusal(refusal: Refusal) -> (i32, String) {
    let (reason, message) = match refusal {
        Refusal::StaleEpoch { highest, saved: Some(saved) } => {
            (RefusalReason::StaleEpoch, format!("epoch {highest} was seen, {saved} is saved"))
        }
        Refusal::StaleEpoch { highest, saved: None } => {
            (RefusalReason::StaleEpoch, format!("epoch {highest} was seen"))
        }
        Refusal::WrongZone(place) => (RefusalReason::WrongZone, format!("the character is in {}", place.zone)),
        Refusal::Full => (RefusalReason::Full, "no room".to_owned()),
        Refusal::Format => (RefusalReason::Format, "the format cannot be read".to_owned()),
        Refusal::Digest => (RefusalReason::Digest, "the digest does not match".to_owned()),
        Refusal::NotReady => (RefusalReason::NotReady, "not serving players now".to_owned()),
        Refusal::Unknown => (RefusalReason::Unknown, "not known here in that state".to_owned()),
        Refusal::PlayerOnline => (RefusalReason::PlayerOnline, "connected through another gateway".to_owned()),
        Refusal::Game(why) => (RefusalReason::Game, why),
    };
    (reason.into(), message)
}

fn attach_refused(handle: u32, why: Refusal) -> v1::AttachRefused {
    let (highest_epoch, saved_epoch) = match &why {
        Refusal::StaleEpoch { highest, saved } => (highest.0, saved.map_or(0, |saved| saved.0)),
        _ => (0, 0),
    };
    let place = if let Refusal::WrongZone(place) = &why { Some(place_out(place)) } else { None };
    let (reason, message) = refusal(why);
    v1::AttachRefused { handle, reason, message, highest_epoch, place, saved_epoch }
}

/// A session's message to its gateway; `channel`: where it stands, for `Attached`.
pub(crate) fn said(handle: u32, said: Said, channel: Option<v1::Channel>) -> to_gateway::Message {
    use to_gateway::Message;
    match said {
        Said::Attached { epoch, place, taken } => {
            let place = place.as_ref().map(place_out);
            let Taken { pin, party } = taken.unwrap_or_default();
            let (pin, party) = (pin.as_ref().map(pin_out), party.map(|party| party.to_string()).unwrap_or_default());
            Message::Attached(v1::Attached { handle, epoch: epoch.0, place, channel, pin, party })
        }
        Said::AttachRefused(why) => Message::AttachRefused(attach_refused(handle, why)),
        Said::Left => Message::Left(v1::Left { handle }),
        Said::Frozen { epoch, frozen } => {
            let digest = blake3::hash(&frozen.state).as_bytes().to_vec();
            let Frozen { state, format } = frozen;
            Message::Frozen(v1::Frozen { handle, epoch: epoch.0, state, format, digest })
        }
        Said::FreezeRefused(why) => {
            let (reason, message) = refusal(why);
            Message::FreezeRefused(v1::FreezeRefused { handle, reason, message })
        }
        Said::Thawed => Message::Thawed(v1::Thawed { handle }),
        Said::Released => Message::Released(v1::Released { handle }),
        Said::Prepared => Message::Prepared(v1::Prepared { handle }),
        Said::PrepareRefused(why) => {
            let (reason, message) = refusal(why);
            Message::PrepareRefused(v1::PrepareRefused { handle, reason, message })
        }
        Said::Activated { epoch, place } => {
            Message::Activated(v1::Activated { handle, epoch: epoch.0, place: Some(place_out(&place)) })
        }
        Said::Aborted => Message::Aborted(v1::Aborted { handle }),
        Said::Eject(reason) => Message::Eject(v1::Eject { handle, reason }),
        Said::TakenOver { epoch } => Message::TakenOver(v1::TakenOver { handle, epoch: epoch.0 }),
    }
}

/// `gateway`: whose living link holds the player; empty: nobody's.
pub(crate) fn resident(held: &Held<'_>, gateway: &str) -> v1::Resident {
    v1::Resident {
        session_id: held.who.session.to_vec(),
        player: held.who.player.to_string(),
        character: held.who.character.to_string(),
        epoch: held.epoch.0,
        zone: held.zone.map(ToString::to_string).unwrap_or_default(),
        frozen: held.frozen,
        prepared: held.prepared,
        party: held.who.party.as_ref().map(ToString::to_string).unwrap_or_default(),
        pin: held.who.pin.as_ref().map(pin_out),
        gateway_id: gateway.to_owned(),
    }
}

/// Whom a gateway looks for.
pub(crate) fn find(message: &v1::Find) -> Result<(PlayerId, CharacterId), BadField> {
    Ok((id("player", &message.player)?, id("character", &message.character)?))
}

pub(crate) fn who_owns(held: &Held<'_>) -> v1::WhoOwns {
    v1::WhoOwns {
        session_id: held.who.session.to_vec(),
        player: held.who.player.to_string(),
        epoch: held.epoch.0,
        handle: 0,
    }
}

pub(crate) fn status(handle: u32, status: &PlayerStatus) -> v1::PlayerStatus {
    v1::PlayerStatus {
        handle,
        zone: status.zone.to_string(),
        zone_kind: status.zone_kind.clone(),
        busy: status.busy,
        idle_ms: u64::try_from(status.idle.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(crate) fn zones(blobs: Vec<v1::ZoneBlob>) -> Result<Vec<Zone>, BadField> {
    blobs
        .into_iter()
        .map(|blob| {
            Ok(Zone { zone: id("zones.zone", &blob.zone)?, state: Bytes::from(blob.state), format: blob.format })
        })
        .collect()
}

pub(crate) fn zone_out(zone: Zone) -> v1::ZoneBlob {
    v1::ZoneBlob { zone: zone.zone.to_string(), state: zone.state.to_vec(), format: zone.format }
}
