//! Between the wire's messages and the core's types. Wrong input dies here, named by field.

mod control;
mod player;
mod table;
mod world;

pub(crate) use control::{command, command_result, report_gone, report_row};
pub(crate) use player::put_player_message;
pub(crate) use table::table;
pub(crate) use world::{FromLink, from_link, to_link};

use gateway_core::{Pin, Place};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{InstanceId, SessionId, Timestamp};

fn session_id(field: &'static str, bytes: &[u8]) -> Result<SessionId, BadField> {
    SessionId::from_slice(bytes).ok_or_else(|| BadField::new(field, format!("is {} bytes long, not 16", bytes.len())))
}

fn instance_id(field: &'static str, bytes: &[u8]) -> Result<InstanceId, BadField> {
    InstanceId::from_slice(bytes).ok_or_else(|| BadField::new(field, format!("is {} bytes long, not 16", bytes.len())))
}

/// An instance's key is a name that players may have chosen part of; longer ones are somebody's mistake.
const MAX_INSTANCE_KEY: usize = 256;

fn place(field: &'static str, place: v1::Place) -> Result<Place, BadField> {
    if place.instance.len() > MAX_INSTANCE_KEY {
        return Err(BadField::new(field, format!("instance is longer than {MAX_INSTANCE_KEY} bytes")));
    }
    let instance = (!place.instance.is_empty()).then_some(place.instance);
    Ok(Place { zone: convert::id(field, &place.zone)?, instance })
}

/// An absent place, or one without a zone, is `None`.
fn optional_place(field: &'static str, wire: Option<v1::Place>) -> Result<Option<Place>, BadField> {
    wire.filter(|p| !p.zone.is_empty()).map(|p| place(field, p)).transpose()
}

fn wire_place(place: &Place) -> v1::Place {
    v1::Place { zone: place.zone.to_string(), instance: place.instance.clone().unwrap_or_default() }
}

fn pin(wire: &v1::Pin) -> Result<Pin, BadField> {
    Ok(Pin {
        environment: convert::id("pin.environment_id", &wire.environment_id)?,
        since: Timestamp(wire.since_ms),
        cause: convert::cause(wire.cause)?,
        until: (wire.until_ms != 0).then_some(Timestamp(wire.until_ms)),
    })
}

fn wire_pin(pin: &Pin) -> v1::Pin {
    v1::Pin {
        environment_id: pin.environment.to_string(),
        since_ms: pin.since.0,
        cause: v1::Cause::from(pin.cause).into(),
        until_ms: pin.until.map_or(0, |t| t.0),
    }
}
