//! What is said to a player.

use bytes::BytesMut;
use gateway_core::{PlayerMessage, Whereabouts};
use tidegate_proto::frame::{self, MAX_GAME_BODY, player};
use tidegate_proto::v1;

/// Appends the frame of a message; `gateways` are where players find all of them, `seal` makes the resume ticket for where the player now is.
pub(crate) fn put_player_message(
    out: &mut BytesMut,
    message: PlayerMessage,
    gateways: &[String],
    seal: impl FnOnce(&Whereabouts) -> String,
) {
    match message {
        PlayerMessage::Welcome { at, received_frames, gap, grace_ms, next_frame } => {
            let welcome = v1::Welcome {
                resume_ticket: seal(&at),
                session_id: at.session.to_vec(),
                epoch: at.epoch.0,
                environment_id: at.environment.to_string(),
                build: at.build.to_string(),
                server_id: at.server.to_string(),
                zone: at.zone.to_string(),
                generation: at.generation.0,
                received_frames,
                cause: v1::Cause::from(at.cause).into(),
                gap,
                grace_ms,
                max_frame_bytes: MAX_GAME_BODY as u32,
                gateways: gateways.to_vec(),
                next_frame,
            };
            frame::put_message(out, player::WELCOME, &welcome);
        }
        PlayerMessage::Hold { place, reason } => {
            frame::put_message(out, player::HOLD, &v1::Hold { place, reason: reason.as_str().to_owned() });
        }
        PlayerMessage::Refused { reason, message, retry_after_ms } => {
            let refused = v1::Refused { reason: reason.as_str().to_owned(), message, retry_after_ms };
            frame::put_message(out, player::REFUSED, &refused);
        }
        PlayerMessage::Notice { text, remaining_ms } => {
            frame::put_message(out, player::NOTICE, &v1::Notice { text, remaining_ms });
        }
        PlayerMessage::Moved { at, gap_us } => {
            let moved = v1::Moved {
                resume_ticket: seal(&at),
                epoch: at.epoch.0,
                environment_id: at.environment.to_string(),
                build: at.build.to_string(),
                server_id: at.server.to_string(),
                zone: at.zone.to_string(),
                cause: v1::Cause::from(at.cause).into(),
                generation: at.generation.0,
                gap_us,
            };
            frame::put_message(out, player::MOVED, &moved);
        }
        PlayerMessage::Goodbye { reason, message } => {
            frame::put_message(out, player::GOODBYE, &v1::Goodbye { reason: reason.to_owned(), message });
        }
    }
}
