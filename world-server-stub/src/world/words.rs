//! Between the SDK's words and the game's: places, refusals, frames.

use bytes::Bytes;
use prost::Message;
use tidegate_proto::stub::v1::{CharacterState, Event};
use tidegate_types::{Epoch, ZoneId};
use tidegate_world::{Arrival, Outbox, Place as WorldPlace, Refusal, Reply, Seat};
use tracing::{debug, warn};

use crate::db::Failure;
use crate::db::work::{ClaimRefused, Saved};
use crate::game::{Place, Rules, Who};

/// Answers the gateway, then greets the player: in this order, on the same queue, so the greeting is the first frame.
pub(super) fn greet(
    answer: Result<WorldPlace, Refusal>,
    reply: Reply<Result<WorldPlace, Refusal>>,
    outbox: &Outbox,
    seat: u32,
    hello: &Event,
) {
    let welcome = answer.is_ok();
    reply.send(answer);
    if welcome {
        outbox.send(Seat(seat), &bytes_of(hello));
    }
}

/// The state that a claim came by, or the word for the gateway.
pub(super) fn claimed(
    outcome: Result<Result<Saved, ClaimRefused>, Failure>,
    rules: &Rules,
) -> Result<CharacterState, Refusal> {
    match outcome {
        Ok(Ok(saved)) => rules.formats.decode(saved.format, &saved.state).map_err(|e| {
            warn!(character = saved.character, error = %e, "a saved character cannot be read");
            Refusal::Game(e.to_string())
        }),
        Ok(Err(ClaimRefused::Stale { saved })) => Err(stale(saved)),
        Ok(Err(ClaimRefused::WrongZone { zone })) => {
            Err(world_place(&Place::shared(&zone)).map_or(Refusal::Unknown, Refusal::WrongZone))
        }
        Ok(Err(ClaimRefused::Format { found })) => {
            debug!(found, "a character's format is not ours");
            Err(Refusal::Format)
        }
        Ok(Err(ClaimRefused::Unknown)) => Err(Refusal::Game("no such character, and none is made here".to_owned())),
        Err(Failure::Behind | Failure::Closed) => Err(Refusal::NotReady),
        Err(e @ Failure::Sql(_)) => Err(Refusal::Game(e.to_string())),
    }
}

/// The word for a claim that came too late, or from another epoch than the database has.
pub(super) fn stale(saved: u64) -> Refusal {
    Refusal::StaleEpoch { highest: Epoch(saved), saved: Some(Epoch(saved)) }
}

pub(super) fn bytes_of(event: &Event) -> Bytes {
    Bytes::from(event.encode_to_vec())
}

pub(super) fn who(arrival: &Arrival) -> Who {
    Who {
        player: arrival.player.to_string(),
        character: arrival.character.to_string(),
        party: arrival.party.as_ref().map(ToString::to_string),
    }
}

pub(super) fn our_place(place: &WorldPlace) -> Place {
    Place { zone: place.zone.to_string(), instance: place.instance.clone() }
}

/// `None` where a saved zone is no zone id, which only a database written by something else can bring about.
pub(super) fn world_place(place: &Place) -> Option<WorldPlace> {
    Some(WorldPlace { zone: ZoneId::new(&place.zone).ok()?, instance: place.instance.clone() })
}
