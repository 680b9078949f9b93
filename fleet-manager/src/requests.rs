//! Requests that are retried: the same request id has one effect and the same answer.
//!
//! The record of a request is written in the transaction of its effect. Where the full answer is only known later (a flip
//! waits for the gateways), the record first holds what is known, and a retry waits for the rest as the first call did.

use prost::Message;
use tidegate_proto::convert::{self, BadField};
use tidegate_types::{RequestId, Timestamp};

use crate::errors::{Error, Refusal};
use crate::store::{Commit, RequestRow, RequestWrite, Store, StoreError};

/// A request that has not been recorded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Chosen by the caller.
    pub id: RequestId,
    /// The method.
    pub rpc: &'static str,
    /// Who calls.
    pub who: String,
    digest: Vec<u8>,
}

impl Pending {
    /// The record of an answer; `done` says that it is final.
    #[must_use]
    pub fn answered(&self, answer: Vec<u8>, done: bool, now: Timestamp) -> RequestWrite {
        RequestWrite::New(self.row(answer, None, done, now))
    }

    /// The record of a refusal.
    #[must_use]
    pub fn refused(&self, refusal: &Refusal, now: Timestamp) -> RequestWrite {
        // Strings and a word: it always has a JSON form.
        let refusal = serde_json::to_string(refusal).unwrap_or_default();
        RequestWrite::New(self.row(Vec::new(), Some(refusal), true, now))
    }

    fn row(&self, answer: Vec<u8>, refusal: Option<String>, done: bool, now: Timestamp) -> RequestRow {
        RequestRow {
            id: self.id.to_string(),
            rpc: self.rpc.to_owned(),
            digest: self.digest.clone(),
            answer,
            refusal,
            done,
            at_ms: now.0,
        }
    }
}

/// What is known of a request when it comes in.
enum Known<T> {
    Nothing,
    Begun(T),
    Answered(T),
}

/// Runs a request once. `first` has its effect and records it; `finish` takes the recorded answer of an earlier call
/// whose answer was not final, and completes it.
///
/// # Errors
/// A bad or reused request id, the recorded refusal, or what `first` and `finish` say.
pub async fn once<Q, A, F, G>(
    store: &Store,
    pending: Pending,
    request: &Q,
    first: impl FnOnce(Pending) -> F,
    finish: impl FnOnce(A) -> G,
) -> Result<A, Error>
where
    Q: Message,
    A: Message + Default,
    F: Future<Output = Result<A, Error>>,
    G: Future<Output = Result<A, Error>>,
{
    let pending = Pending { digest: digest(pending.rpc, request), ..pending };
    match known(store, &pending).await? {
        Known::Answered(answer) => return Ok(answer),
        Known::Begun(answer) => return finish(answer).await,
        Known::Nothing => {}
    }
    match first(pending.clone()).await {
        // The same request came in twice at the same time, and the other one was first.
        Err(Error::Store(StoreError::RequestTaken)) => match known(store, &pending).await? {
            Known::Answered(answer) => Ok(answer),
            Known::Begun(answer) => finish(answer).await,
            Known::Nothing => Err(Error::Store(StoreError::RequestTaken)),
        },
        outcome => outcome,
    }
}

/// A request of this id, method and caller.
///
/// # Errors
/// The id is missing or cannot be one.
pub fn pending(rpc: &'static str, id: &str, who: String) -> Result<Pending, Error> {
    if id.is_empty() {
        let why = "is required: choose a new one for each request, and the same again for a retry";
        return Err(BadField::new("request_id", why).into());
    }
    Ok(Pending { id: convert::id("request_id", id)?, rpc, who, digest: Vec::new() })
}

/// Records the final answer of a request that was begun.
///
/// # Errors
/// The store failed.
pub async fn finish<A: Message>(store: &Store, id: &RequestId, answer: &A) -> Result<(), Error> {
    let request = RequestWrite::Finish { id: id.to_string(), answer: answer.encode_to_vec(), refusal: None };
    Ok(store.commit(Commit { request: Some(request), ..Commit::default() }).await?)
}

fn digest<Q: Message>(rpc: &str, request: &Q) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(rpc.as_bytes());
    hasher.update(&[0]);
    hasher.update(&request.encode_to_vec());
    hasher.finalize().as_bytes().to_vec()
}

async fn known<A: Message + Default>(store: &Store, pending: &Pending) -> Result<Known<A>, Error> {
    let Some(row) = store.request(pending.id.as_str()).await? else { return Ok(Known::Nothing) };
    if row.rpc != pending.rpc || row.digest != pending.digest {
        return Err(Error::RequestReused { id: row.id, rpc: row.rpc });
    }
    if let Some(refusal) = row.refusal {
        let refusal: Refusal = serde_json::from_str(&refusal)
            .map_err(|e| Error::Failed { what: "reading the recorded refusal", why: e.to_string() })?;
        return Err(refusal.into());
    }
    let answer = A::decode(row.answer.as_slice())
        .map_err(|e| Error::Failed { what: "reading the recorded answer", why: e.to_string() })?;
    Ok(if row.done { Known::Answered(answer) } else { Known::Begun(answer) })
}
