//! What is said between the gateway and the manager.

use gateway_core::{CommandAction, CommandOutcome, RowState, SessionCommand, SessionRow};
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1::{self, session_command::Action as Wire};
use tidegate_types::{Cause, EnvironmentId, RealmId, SessionId};

use super::{session_id, wire_pin};

/// Most sessions of one command (the protocol's limit).
const MAX_SESSIONS: usize = 1024;

/// Reads a command.
///
/// # Errors
/// The field that cannot be what it should be.
pub(crate) fn command(wire: v1::SessionCommand) -> Result<(RealmId, SessionCommand), BadField> {
    if wire.session_ids.len() > MAX_SESSIONS {
        return Err(BadField::new("session_ids", format!("more than {MAX_SESSIONS}")));
    }
    if wire.command_id.is_empty() {
        return Err(BadField::new("command_id", "is empty"));
    }
    let action = match wire.action.ok_or_else(|| BadField::new("action", "is not set"))? {
        Wire::Move(m) => CommandAction::Move {
            environment: convert::id("environment_id", &m.environment_id)?,
            server: convert::optional_id("server_id", &m.server_id)?,
            cause: match convert::cause(m.cause)? {
                cause @ (Cause::Drain | Cause::Operator) => cause,
                other => return Err(BadField::new("cause", format!("{other} is not a reason to move a session"))),
            },
        },
        Wire::Kick(m) => CommandAction::Kick { reason: m.reason, message: m.message },
        Wire::Notify(m) => CommandAction::Notify { text: m.text, remaining_ms: m.remaining_ms },
    };
    let sessions = wire.session_ids.iter().map(|id| session_id("session_ids", id)).collect::<Result<_, _>>()?;
    let realm = convert::id("realm", &wire.realm)?;
    Ok((realm, SessionCommand { id: wire.command_id, sessions, action }))
}

/// Writes a command's outcome for one session.
pub(crate) fn command_result(
    command_id: String,
    session: SessionId,
    outcome: CommandOutcome,
    message: String,
) -> v1::CommandResult {
    v1::CommandResult { command_id, session_id: session.to_vec(), outcome: outcome.as_str().to_owned(), message }
}

/// Writes a row.
pub(crate) fn report_row(realm: &RealmId, row: &SessionRow) -> v1::SessionRow {
    v1::SessionRow {
        session_id: row.session.to_vec(),
        realm: realm.to_string(),
        player: row.who.player.to_string(),
        character: row.who.character.to_string(),
        party: row.party.as_ref().map(ToString::to_string).unwrap_or_default(),
        environment_id: row.pin.as_ref().map(|p| p.environment.to_string()).unwrap_or_default(),
        server_id: row.server.as_ref().map(ToString::to_string).unwrap_or_default(),
        zone: row.zone.clone(),
        zone_kind: row.zone_kind.clone(),
        busy: row.busy,
        active_ms: row.active.0,
        epoch: row.epoch.0,
        pin: row.pin.as_ref().map(wire_pin),
        state: match row.state {
            RowState::Holding => v1::SessionState::Holding,
            RowState::Attaching => v1::SessionState::Attaching,
            RowState::Playing => v1::SessionState::Playing,
            RowState::Moving => v1::SessionState::Moving,
            RowState::Detached => v1::SessionState::Detached,
        }
        .into(),
        since_ms: row.since.0,
        client_version: row.client_version.clone(),
        gateway_id: String::new(),
    }
}

/// Writes the end of a session.
pub(crate) fn report_gone(
    session: SessionId,
    reason: &str,
    environment: Option<&EnvironmentId>,
    cause: Option<Cause>,
) -> v1::SessionGone {
    v1::SessionGone {
        session_id: session.to_vec(),
        reason: reason.to_owned(),
        environment_id: environment.map(ToString::to_string).unwrap_or_default(),
        cause: cause.map_or(v1::Cause::Unspecified, v1::Cause::from).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::SessionCommand {
        v1::SessionCommand {
            command_id: "c1".into(),
            realm: "eu-1".into(),
            session_ids: vec![vec![1; 16]],
            action: Some(Wire::Move(v1::MoveSessions {
                environment_id: "green".into(),
                server_id: String::new(),
                cause: v1::Cause::Drain.into(),
            })),
        }
    }

    #[test]
    fn a_command_is_read_whole() {
        let (realm, command) = command(wire()).unwrap();
        assert_eq!((realm.as_str(), command.id.as_str(), command.sessions.len()), ("eu-1", "c1", 1));
        assert!(matches!(command.action, CommandAction::Move { server: None, cause: Cause::Drain, .. }));
    }

    #[test]
    fn wrong_fields_are_named() {
        type Change = fn(&mut v1::SessionCommand);
        let cases: [(Change, &str); 6] = [
            (|c| c.command_id.clear(), "command_id"),
            (|c| c.realm.clear(), "realm"),
            (|c| c.session_ids = vec![vec![1; 16]; MAX_SESSIONS + 1], "session_ids"),
            (|c| c.session_ids = vec![vec![1]], "session_ids"),
            (|c| c.action = None, "action"),
            (
                |c| {
                    let cause = v1::Cause::Login.into();
                    c.action = Some(Wire::Move(v1::MoveSessions {
                        environment_id: "green".into(),
                        cause,
                        ..Default::default()
                    }));
                },
                "cause",
            ),
        ];
        for (change, field) in cases {
            let mut wire = wire();
            change(&mut wire);
            assert_eq!(command(wire).unwrap_err().field, field);
        }
    }
}
