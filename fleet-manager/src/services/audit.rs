//! `AuditService`.

use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_proto::v1::audit_service_server::AuditService;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, Watch, page_size};
use crate::errors::Error;
use crate::store::{AuditQuery, AuditRow};

/// Records read from the database at once for a watch.
const BATCH: u32 = 500;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page.as_ref())?;
        let token = request.page.map(|page| page.page_token).filter(|token| !token.is_empty());
        let before = token
            .map(|token| token.parse().map_err(|_| BadField::new("page.page_token", "is none that was given")))
            .transpose()
            .map_err(Error::from)?;
        let limit = u32::try_from(size + 1).unwrap_or(u32::MAX);
        let query = AuditQuery { realm: request.realm, subject: request.subject, before, after: None, limit };
        let mut records = self.manager.surroundings().store.audit(query).await.map_err(Error::from)?;
        let more = records.len() > size;
        records.truncate(size);
        let next_page_token = records.last().filter(|_| more).map(|r| r.sequence.to_string()).unwrap_or_default();
        let records = records.into_iter().map(message).collect();
        Ok(Response::new(v1::ListAuditResponse { records, next_page_token }))
    }

    type WatchAuditStream = Watch<v1::AuditRecord>;

    async fn watch_audit(
        &self,
        request: Request<v1::WatchAuditRequest>,
    ) -> Result<Response<Self::WatchAuditStream>, Status> {
        let request = request.into_inner();
        let (out, stream) = mpsc::channel(64);
        let api = self.clone();
        tokio::spawn(async move {
            // The end of the stream is all that a client learns of a failed read; it asks again from where it was.
            if let Err(error) = api.follow_audit(request, &out).await {
                drop(out.send(Err(error.into())).await);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Api {
    /// Reads what is there, then what is announced; an announcement only makes it read again, so none can be missed.
    async fn follow_audit(
        &self,
        request: v1::WatchAuditRequest,
        out: &mpsc::Sender<Result<v1::AuditRecord, Status>>,
    ) -> Result<(), Error> {
        let store = &self.manager.surroundings().store;
        let mut announced = store.watch_audit();
        let mut after = request.after_sequence;
        loop {
            let query =
                AuditQuery { realm: request.realm.clone(), after: Some(after), limit: BATCH, ..AuditQuery::default() };
            let records = store.audit(query).await?;
            let full = records.len() >= BATCH as usize;
            for record in records {
                after = record.sequence;
                if out.send(Ok(message(record))).await.is_err() {
                    return Ok(());
                }
            }
            if full {
                continue;
            }
            tokio::select! {
                () = self.manager.shutdown().cancelled() => return Ok(()),
                () = out.closed() => return Ok(()),
                announced = announced.recv() => match announced {
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
            }
        }
    }
}

fn message(row: AuditRow) -> v1::AuditRecord {
    v1::AuditRecord {
        sequence: row.sequence,
        at_ms: row.at_ms,
        who: row.who,
        what: row.what,
        realm: row.realm,
        subject: row.subject,
        why: row.why,
        before: row.before,
        after: row.after,
        request_id: row.request_id,
    }
}
