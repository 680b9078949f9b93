//! `SessionService`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tidegate_proto::convert::{self as wire, BadField};
use tidegate_proto::v1;
use tidegate_proto::v1::session_service_server::SessionService;
use tidegate_types::{Cause, PlayerId, SessionId};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, Watch, now, page_size, pending};
use crate::errors::{Error, Refusal};
use crate::gateways::UNKNOWN;
use crate::requests::{self, Pending};
use crate::sessions::{Change, matches};
use crate::store::{AuditRow, Commit};

/// Most sessions in one command to the gateways, as the protocol says.
const PER_COMMAND: usize = 1024;

/// How long a gateway may take to answer for one session: three steps of a hand-over at 5 s each, and some.
const ANSWER: Duration = Duration::from_secs(20);

/// How long a session that a gateway does not hold (any more) may take to turn up at another one.
const TAKE_UP: Duration = Duration::from_secs(2);

/// Longest text of a notice, in bytes.
const LONGEST_TEXT: usize = 2_000;

/// Changes that are put into one event of a watch, at most.
const BATCH: usize = 500;

#[tonic::async_trait]
impl SessionService for Api {
    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page.as_ref())?;
        let filter = request.filter.unwrap_or_default();
        let token = request.page.map(|page| page.page_token).filter(|token| !token.is_empty());
        let after = token
            .map(|token| {
                token.parse::<SessionId>().map_err(|_| BadField::new("page.page_token", "is none that was given"))
            })
            .transpose()
            .map_err(Error::from)?;
        let sessions = &self.manager.surroundings().sessions;
        let (mut rows, total) = sessions.list(&filter, after, size + 1);
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_| more).and_then(|row| SessionId::from_slice(&row.session_id));
        Ok(Response::new(v1::ListSessionsResponse {
            sessions: rows.iter().map(|row| v1::SessionRow::clone(row)).collect(),
            next_page_token: last.map(|id| id.to_string()).unwrap_or_default(),
            total,
            unknown_gateways: sessions.unknown().iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_session(&self, request: Request<v1::GetSessionRequest>) -> Result<Response<v1::SessionRow>, Status> {
        Ok(Response::new(v1::SessionRow::clone(&*self.session(&request.get_ref().id)?)))
    }

    async fn explain_session(
        &self,
        request: Request<v1::ExplainSessionRequest>,
    ) -> Result<Response<v1::ExplainSessionResponse>, Status> {
        let row = self.session(&request.get_ref().id)?;
        let lines = self.explain(&row);
        Ok(Response::new(v1::ExplainSessionResponse { session: Some(v1::SessionRow::clone(&row)), lines }))
    }

    async fn move_session(
        &self,
        request: Request<v1::MoveSessionRequest>,
    ) -> Result<Response<v1::SessionCommandResponse>, Status> {
        let pending = pending("MoveSession", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let plan = || {
            let row = self.session(&request.id)?;
            let (realm, target) = self.manager.of_environment(&request.environment_id)?;
            if realm.id().as_str() != row.realm {
                let message =
                    format!("environment {target} belongs to realm {}, the session to {}", realm.id(), row.realm);
                let what_to_do = "choose an environment of the session's realm";
                return Err(Error::from(Refusal::precondition("OTHER_REALM", message, what_to_do)));
            }
            realm.realm().may_move_to(&target).map_err(Error::from)?;
            let action = v1::session_command::Action::Move(v1::MoveSessions {
                environment_id: target.to_string(),
                server_id: request.server_id.clone(),
                cause: v1::Cause::from(Cause::Operator).into(),
            });
            let after = format!("to {target} {}", request.server_id);
            let told = Told { what: "session.move", why: request.reason.clone(), after: after.trim_end().to_owned() };
            Ok((row, action, told))
        };
        Ok(Response::new(self.tell(pending, &request, plan).await?))
    }

    async fn kick_session(
        &self,
        request: Request<v1::KickSessionRequest>,
    ) -> Result<Response<v1::SessionCommandResponse>, Status> {
        let pending = pending("KickSession", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        let plan = || {
            let action = v1::session_command::Action::Kick(v1::KickSessions {
                reason: "kicked".to_owned(),
                message: request.reason.clone(),
            });
            let told = Told { what: "session.kick", why: request.reason.clone(), after: "ended".to_owned() };
            Ok((self.session(&request.id)?, action, told))
        };
        Ok(Response::new(self.tell(pending, &request, plan).await?))
    }

    async fn notify_sessions(
        &self,
        request: Request<v1::NotifySessionsRequest>,
    ) -> Result<Response<v1::NotifySessionsResponse>, Status> {
        let pending = pending("NotifySessions", &request, |r| &r.request_id)?;
        let request = request.into_inner();
        if request.text.is_empty() || request.text.len() > LONGEST_TEXT {
            let why = format!("has {} bytes, must have 1 to {LONGEST_TEXT}", request.text.len());
            return Err(Error::from(BadField::new("text", why)).into());
        }
        let store = &self.manager.surroundings().store;
        let first = async |pending: Pending| {
            let filter = request.filter.clone().unwrap_or_default();
            let (rows, total) = self.manager.surroundings().sessions.list(&filter, None, usize::MAX);
            let answer = v1::NotifySessionsResponse { sessions: total };
            let record = Some(pending.answered(answer.encode_to_vec(), true, now()));
            let audit = heard(&rows, &filter.realm).into_iter().map(|(realm, count)| {
                let told = Told { what: "session.notify", why: String::new(), after: request.text.clone() };
                told.audit(&pending, realm, &format!("{count} sessions"))
            });
            let audit = audit.collect();
            store.commit(Commit { request: record, audit, ..Commit::default() }).await?;
            self.notify(&pending, &rows, &request.text);
            Ok(answer)
        };
        Ok(Response::new(requests::once(store, pending, &request, first, async |answer| Ok(answer)).await?))
    }

    type WatchSessionsStream = Watch<v1::SessionEvent>;

    async fn watch_sessions(
        &self,
        request: Request<v1::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        // One event at a time: what comes meanwhile is collected into the next one.
        let (out, stream) = mpsc::channel(1);
        let api = self.clone();
        tokio::spawn(async move { api.follow_sessions(filter, out).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// How many sessions of each realm a notice reaches: each realm's audit tells its own. One that reaches nobody is of the
/// realm that was asked for.
fn heard<'a>(rows: &'a [Arc<v1::SessionRow>], asked: &'a str) -> BTreeMap<&'a str, u32> {
    let mut realms = BTreeMap::new();
    for row in rows {
        *realms.entry(row.realm.as_str()).or_default() += 1;
    }
    if realms.is_empty() {
        realms.insert(asked, 0);
    }
    realms
}

/// What is written down of a command.
struct Told {
    what: &'static str,
    why: String,
    after: String,
}

impl Told {
    fn audit(self, pending: &Pending, realm: &str, subject: &str) -> AuditRow {
        AuditRow {
            sequence: 0,
            at_ms: now().0,
            who: pending.who.clone(),
            what: self.what.to_owned(),
            realm: realm.to_owned(),
            subject: subject.to_owned(),
            why: self.why,
            before: String::new(),
            after: self.after,
            request_id: pending.id.to_string(),
        }
    }
}

impl Api {
    fn session(&self, id: &str) -> Result<Arc<v1::SessionRow>, Error> {
        let sessions = &self.manager.surroundings().sessions;
        if let Some(player) = id.strip_prefix("player:") {
            let player: PlayerId = wire::id("id", player)?;
            let found = sessions.of_player(&player).into_iter().max_by_key(|row| row.since_ms);
            return found.ok_or_else(|| Error::not_found("session of player", player));
        }
        let uuid: SessionId =
            id.parse().map_err(|_| BadField::new("id", format!("\"{id}\" is neither a UUID nor \"player:<id>\"")))?;
        sessions.get(uuid).ok_or_else(|| Error::not_found("session", id))
    }

    /// Sends a command for one session, once, and waits for the gateway's answer. What is to be done, and whether it can
    /// be, is `plan`'s to say when the request has not been answered before: by then the session may be gone.
    async fn tell<Q: prost::Message>(
        &self,
        pending: Pending,
        request: &Q,
        plan: impl Fn() -> Result<(Arc<v1::SessionRow>, v1::session_command::Action, Told), Error>,
    ) -> Result<v1::SessionCommandResponse, Error> {
        let store = &self.manager.surroundings().store;
        let id = pending.id.clone();
        let command = |row: &v1::SessionRow, action| v1::SessionCommand {
            command_id: id.to_string(),
            realm: row.realm.clone(),
            session_ids: vec![row.session_id.clone()],
            action: Some(action),
        };
        let first = async |pending: Pending| {
            let (row, action, told) = plan()?;
            let begun = Some(pending.answered(Vec::new(), false, now()));
            let subject = SessionId::from_slice(&row.session_id).map(|id| id.to_string()).unwrap_or_default();
            let audit = vec![told.audit(&pending, &row.realm, &subject)];
            store.commit(Commit { request: begun, audit, ..Commit::default() }).await?;
            self.answered(&command(&row, action), &id).await
        };
        // The gateways do a command of the same id once, and answer for it again.
        let again = async |_| match plan() {
            Ok((row, action, _)) => self.answered(&command(&row, action), &id).await,
            Err(Error::NotFound { .. }) => {
                let message = "the session ended before a gateway answered".to_owned();
                let answer = v1::SessionCommandResponse { outcome: UNKNOWN.to_owned(), message };
                requests::finish(store, &id, &answer).await?;
                Ok(answer)
            }
            Err(error) => Err(error),
        };
        requests::once(store, pending, request, first, again).await
    }

    async fn answered(
        &self,
        command: &v1::SessionCommand,
        request: &tidegate_types::RequestId,
    ) -> Result<v1::SessionCommandResponse, Error> {
        let surroundings = self.manager.surroundings();
        let mut results = surroundings.gateways.command(command);
        if results.sent == 0 {
            results.cancel();
            let message = "no connected gateway holds the session".to_owned();
            return Ok(v1::SessionCommandResponse { outcome: "unreachable".to_owned(), message });
        }
        let result = tokio::time::timeout(ANSWER.min(self.manager.limits().call), results.next()).await;
        let timed_out = || Error::TimedOut { what: "session command", id: command.command_id.clone() };
        let mut result = result.map_err(|_| timed_out())?.ok_or(Error::Stopping)?;
        if result.outcome == UNKNOWN {
            // Another gateway may just be taking the session up; it is told the command as soon as it says so.
            if let Ok(Some(later)) = tokio::time::timeout(TAKE_UP, results.next()).await {
                result = later;
            }
            results.cancel();
        }
        let answer = v1::SessionCommandResponse { outcome: result.outcome, message: result.message };
        requests::finish(&surroundings.store, request, &answer).await?;
        Ok(answer)
    }

    fn notify(&self, pending: &Pending, rows: &[Arc<v1::SessionRow>], text: &str) {
        for (number, chunk) in rows.chunks(PER_COMMAND).enumerate() {
            // A command is of one realm; a filter may match several.
            let realms: BTreeSet<&str> = chunk.iter().map(|row| row.realm.as_str()).collect();
            for realm in realms {
                let of_realm = chunk.iter().filter(|row| row.realm == realm);
                let command = v1::SessionCommand {
                    command_id: format!("{}/{realm}/{number}", pending.id),
                    realm: realm.to_owned(),
                    session_ids: of_realm.map(|row| row.session_id.clone()).collect(),
                    action: Some(v1::session_command::Action::Notify(v1::NotifySessions {
                        text: text.to_owned(),
                        remaining_ms: 0,
                    })),
                };
                // A notice has no result that anyone waits for.
                drop(self.manager.surroundings().gateways.command(&command));
            }
        }
    }

    fn explain(&self, row: &v1::SessionRow) -> Vec<String> {
        let mut lines = Vec::new();
        let pin = row.pin.clone().unwrap_or_default();
        let cause = wire::cause(pin.cause).map_or("an unknown cause", Cause::as_str);
        let seconds = |ms: i64| now().0.saturating_sub(ms) / 1000;
        lines.push(format!(
            "in environment {}, server {}, zone {} ({}), at epoch {}",
            row.environment_id, row.server_id, row.zone, row.zone_kind, row.epoch
        ));
        lines.push(format!("there for {} s, by {cause}; on gateway {}", seconds(pin.since_ms), row.gateway_id));
        if row.state() == v1::SessionState::Detached {
            lines.push("its connection is lost; it keeps its place for the grace time".to_owned());
        }
        let Ok((realm, id)) = self.manager.of_environment(&row.environment_id) else { return lines };
        let realm = realm.realm();
        let holder = realm
            .explain_drain(&id, now())
            .and_then(|explained| explained.holders.into_iter().find(|h| h.session.to_vec() == row.session_id));
        match holder {
            Some(holder) => lines.push(format!("its environment drains; it leaves {}", holder.will_leave)),
            None if realm.rows.routing.accepting.as_ref() == Some(&id) => {
                lines.push("its environment is the accepting one; nothing makes it leave".to_owned());
            }
            None => lines.push(
                "its environment takes no new sessions; it leaves at a boundary that the policy allows".to_owned(),
            ),
        }
        if pin.until_ms != 0 {
            lines.push(format!("it leaves within {} s at the latest", (pin.until_ms - now().0).max(0) / 1000));
        }
        lines
    }

    async fn follow_sessions(&self, filter: v1::SessionFilter, out: mpsc::Sender<Result<v1::SessionEvent, Status>>) {
        let sessions = &self.manager.surroundings().sessions;
        loop {
            let mut changes = sessions.watch();
            let (rows, _) = sessions.list(&filter, None, usize::MAX);
            let mut shown: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.session_id.clone()).collect();
            let rows = rows.iter().map(|row| v1::SessionRow::clone(row)).collect();
            let event = v1::SessionEvent { snapshot: true, sessions: rows, gone: Vec::new() };
            if out.send(Ok(event)).await.is_err() {
                return;
            }
            loop {
                let mut event = v1::SessionEvent::default();
                let first = tokio::select! {
                    () = self.manager.shutdown().cancelled() => return,
                    () = out.closed() => return,
                    change = changes.recv() => change,
                };
                match first {
                    Ok(change) => note(&filter, &mut shown, &mut event, &change),
                    // Too far behind: a fresh snapshot instead of a gap.
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return,
                }
                while event.sessions.len() + event.gone.len() < BATCH
                    && let Ok(change) = changes.try_recv()
                {
                    note(&filter, &mut shown, &mut event, &change);
                }
                let empty = event.sessions.is_empty() && event.gone.is_empty();
                if !empty && out.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Adds a change to the event, if this watch can see it. A session that stops matching is gone for this watch.
fn note(filter: &v1::SessionFilter, shown: &mut BTreeSet<Vec<u8>>, event: &mut v1::SessionEvent, change: &Change) {
    let (row, here) = match change {
        Change::Row(row) => (row, matches(filter, row)),
        Change::Gone(row) => (row, false),
    };
    if here {
        shown.insert(row.session_id.clone());
        event.sessions.push(v1::SessionRow::clone(row));
    } else if shown.remove(&row.session_id) {
        event.gone.push(SessionId::from_slice(&row.session_id).map(|id| id.to_string()).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_told_to_each_realm_that_hears_it() {
        let row = |realm: &str| Arc::new(v1::SessionRow { realm: realm.to_owned(), ..Default::default() });
        let rows = [row("eu-1"), row("us-1"), row("eu-1")];
        assert_eq!(heard(&rows, ""), BTreeMap::from([("eu-1", 2), ("us-1", 1)]));
        assert_eq!(heard(&[], "eu-1"), BTreeMap::from([("eu-1", 0)]));
    }
}
