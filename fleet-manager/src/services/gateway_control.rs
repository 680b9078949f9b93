//! `GatewayControl`: one stream per gateway. Reports go into the registries, directives come out of them.

use std::time::Duration;

use futures::StreamExt;
use tidegate_proto::convert as wire;
use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_proto::v1::gateway_control_server::GatewayControl;
use tidegate_types::{GatewayId, InstanceId, SessionId, Timestamp};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, Watch};
use crate::errors::{Error, Refusal};
use crate::gateways::{Hello, Remembered, shown};
use crate::sessions::{Put, Refused};
use crate::store::{Commit, rows};

/// A stream that does not begin with a hello within this is closed.
const HELLO: Duration = Duration::from_secs(5);

/// A gateway sends its load every second; one that is silent for this long is behind a broken connection.
const SILENCE: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl GatewayControl for Api {
    type ConnectStream = Watch<v1::GatewayDirective>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::GatewayReport>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut reports = request.into_inner();
        let first = tokio::time::timeout(HELLO, reports.message()).await;
        let first = first.map_err(|_| Error::from(BadField::new("hello", "did not come in time")))??;
        let hello = match first.and_then(|report| report.message) {
            Some(v1::gateway_report::Message::Hello(hello)) => read_hello(hello).map_err(Error::from)?,
            Some(_) | None => return Err(Error::from(BadField::new("hello", "must come first")).into()),
        };
        let id = hello.id.clone();
        let surroundings = self.manager.surroundings();
        let known = Remembered { id: id.clone(), directory: shown(&hello.directory) };
        let opened = surroundings.gateways.open(hello).map_err(|refused| {
            let advice = refused.advice();
            Error::from(Refusal::precondition(refused.reason(), refused.to_string(), advice))
        })?;
        // Remembered before it is served: after a crash of the manager this gateway will be waited for.
        let commit = Commit { rows: vec![rows::gateway_row(&id, Some(&known))], ..Commit::default() };
        if let Err(error) = surroundings.store.commit(commit).await {
            surroundings.gateways.close(&id, opened.number);
            return Err(Error::from(error).into());
        }
        tracing::info!(gateway_id = %id, "gateway connected");
        let (api, number) = (self.clone(), opened.number);
        tokio::spawn(async move { api.read_reports(id, number, reports).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(opened.directives))))
    }
}

impl Api {
    async fn read_reports(&self, id: GatewayId, number: u64, mut reports: Streaming<v1::GatewayReport>) {
        let surroundings = self.manager.surroundings();
        loop {
            let next = tokio::select! {
                () = self.manager.shutdown().cancelled() => break,
                next = tokio::time::timeout(SILENCE, reports.next()) => next,
            };
            let report = match next {
                Ok(Some(Ok(report))) => report,
                Ok(Some(Err(status))) => {
                    tracing::debug!(gateway_id = %id, %status, "gateway's stream broke");
                    break;
                }
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(gateway_id = %id, "gateway is silent; closing its stream");
                    break;
                }
            };
            // A newer stream of the same gateway has taken over, or this one was given up.
            if !surroundings.gateways.is_current(&id, number) {
                return;
            }
            if let Err(refused) = self.report(&id, report) {
                tracing::warn!(gateway_id = %id, %refused, "gateway's report cannot be taken; closing its stream");
                break;
            }
        }
        tracing::info!(gateway_id = %id, "gateway disconnected");
        surroundings.gateways.close(&id, number);
    }

    fn report(&self, id: &GatewayId, report: v1::GatewayReport) -> Result<(), Refused> {
        use v1::gateway_report::Message;
        let surroundings = self.manager.surroundings();
        match report.message {
            Some(Message::Hello(_)) => return Err(BadField::new("hello", "came twice").into()),
            Some(Message::TableAck(ack)) => {
                surroundings.gateways.acknowledge(id, wire::id("table_ack.realm", &ack.realm)?, ack.generation);
            }
            Some(Message::SessionsBegin(_)) => surroundings.sessions.begin(id),
            Some(Message::Session(row)) => {
                let session = SessionId::from_slice(&row.session_id);
                match (surroundings.sessions.put(id, row)?, session) {
                    (Put::Taken, Some(session)) => surroundings.gateways.taken(id, session),
                    (Put::Old, Some(session)) => {
                        tracing::debug!(gateway_id = %id, %session, "another gateway has the session at a later epoch");
                    }
                    (Put::Held | Put::Taken | Put::Old, _) => {}
                }
            }
            Some(Message::SessionGone(gone)) => surroundings.sessions.gone(id, &gone)?,
            Some(Message::SessionsEnd(_)) => surroundings.sessions.end(id),
            Some(Message::CommandResult(result)) => surroundings.gateways.result(id, result),
            Some(Message::Load(load)) => surroundings.gateways.load(id, load),
            // A newer gateway may say more than this manager understands.
            None => {}
        }
        Ok(())
    }
}

fn read_hello(hello: v1::GatewayHello) -> Result<Hello, BadField> {
    let instance = InstanceId::from_slice(&hello.instance)
        .ok_or_else(|| BadField::new("hello.instance", format!("has {} bytes, not 16", hello.instance.len())))?;
    if hello.directory.is_empty() {
        return Err(BadField::new("hello.directory", "is empty: \"embedded\" or the shared directory's URL"));
    }
    let tables = hello.tables.iter().map(|t| Ok((wire::id("hello.tables.realm", &t.realm)?, t.generation)));
    Ok(Hello {
        id: wire::id("hello.gateway_id", &hello.gateway_id)?,
        instance,
        version: hello.version.clone(),
        player_address: hello.player_address.clone(),
        tables: tables.collect::<Result<_, BadField>>()?,
        directory: hello.directory,
        started: Timestamp(hello.started_ms),
    })
}
