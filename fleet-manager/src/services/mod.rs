//! The gRPC services. Thin: read the request, name what is wrong with it by field, ask a realm or a registry, answer.

mod audit;
mod builds;
mod drain;
mod environments;
mod fleets;
mod gateway_control;
mod realms;
mod rollouts;
mod routing;
mod sessions;
mod snapshots;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::{Command, Realm, Reply};
use futures::Stream;
use prost::Message;
use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_types::{Clock, SystemClock, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::errors::Error;
use crate::manager::Manager;
use crate::realm_actor::RealmHandle;
use crate::requests::{self, Pending};

/// The metadata that names the caller in audit records.
pub const ACTOR: &str = "tidegate-actor";

/// Longest name of a caller that is recorded.
const LONGEST_ACTOR: usize = 100;

/// Rows of a page when the request does not say, and the most it may ask for.
const PAGE: (usize, usize) = (100, 1000);

/// Messages of a watch that wait for its client: it only ever needs the newest state.
const WATCH: usize = 4;

/// A server stream.
pub(crate) type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// Implements every service over the same manager.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) manager: Manager,
}

impl Api {
    /// The services of this manager.
    #[must_use]
    pub const fn new(manager: Manager) -> Self {
        Self { manager }
    }

    /// Gives a realm a command once, and answers what `render` makes of the realm after it.
    async fn command<Q: Message, A: Message + Default>(
        &self,
        realm: &RealmHandle,
        pending: Pending,
        request: &Q,
        command: Command,
        render: impl FnOnce(&Realm, &Reply) -> A + Send + 'static,
    ) -> Result<A, Error> {
        let first = async |pending| {
            let render = Box::new(move |realm: &Realm, reply: &Reply| (render(realm, reply).encode_to_vec(), true));
            let answer = realm.command(command, pending, render).await?;
            decode(&answer.body)
        };
        requests::once(&self.manager.surroundings().store, pending, request, first, async |answer| Ok(answer)).await
    }
}

fn decode<A: Message + Default>(body: &[u8]) -> Result<A, Error> {
    A::decode(body).map_err(|e| Error::Failed { what: "reading the answer", why: e.to_string() })
}

fn now() -> Timestamp {
    SystemClock.now().wall
}

/// Who calls, for the audit.
fn who<T>(request: &Request<T>) -> String {
    let named = request.metadata().get(ACTOR).and_then(|name| name.to_str().ok()).filter(|name| !name.is_empty());
    named.unwrap_or("unnamed").chars().take(LONGEST_ACTOR).collect()
}

/// The request id and its caller.
fn pending<T>(rpc: &'static str, request: &Request<T>, id: impl FnOnce(&T) -> &str) -> Result<Pending, Error> {
    requests::pending(rpc, id(request.get_ref()), who(request))
}

/// How many rows a page may have.
fn page_size(page: Option<&v1::PageRequest>) -> Result<usize, Error> {
    let (default, most) = PAGE;
    match page.map_or(0, |page| page.page_size as usize) {
        0 => Ok(default),
        size if size <= most => Ok(size),
        size => Err(BadField::new("page.page_size", format!("is {size}, at most {most} are given")).into()),
    }
}

/// One page of `rows` in the order of their keys; the token is the last key of the page before.
fn page<T>(
    page: Option<&v1::PageRequest>,
    mut rows: Vec<T>,
    key: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, String), Error> {
    let size = page_size(page)?;
    rows.sort_by(|a, b| key(a).cmp(key(b)));
    if let Some(page) = page.filter(|page| !page.page_token.is_empty()) {
        rows.retain(|row| key(row) > page.page_token.as_str());
    }
    let more = rows.len() > size;
    rows.truncate(size);
    let token = rows.last().filter(|_| more).map(|row| key(row).to_owned()).unwrap_or_default();
    Ok((rows, token))
}

/// Follows a realm: `view` makes a message of it, and says whether it is the last one; `None` ends the stream. A message
/// is sent when it differs from the one before, and not faster than `pace`.
fn follow<T: PartialEq + Clone + Send + Sync + 'static>(
    manager: &Manager,
    realm: &RealmHandle,
    pace: Duration,
    mut view: impl FnMut(&Realm) -> Option<(T, bool)> + Send + 'static,
) -> Watch<T> {
    let (out, stream) = mpsc::channel(WATCH);
    let mut watched = realm.watch();
    let shutdown = manager.shutdown().clone();
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let realm = Arc::clone(&watched.borrow_and_update());
            let Some((message, end)) = view(&realm) else { return };
            if last.as_ref() != Some(&message) {
                if out.send(Ok(message.clone())).await.is_err() {
                    return;
                }
                last = Some(message);
            }
            if end {
                return;
            }
            let changed = async {
                tokio::time::sleep(pace).await;
                watched.changed().await
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = out.closed() => return,
                changed = changed => if changed.is_err() { return },
            }
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let rows = || ["d", "a", "c", "b"].map(str::to_owned).to_vec();
        let ask = |token: &str| Some(v1::PageRequest { page_size: 2, page_token: token.to_owned() });
        let (first, token) = page(ask("").as_ref(), rows(), |row| row).unwrap();
        assert_eq!((first, token.as_str()), (vec!["a".to_owned(), "b".to_owned()], "b"));
        let (second, token) = page(ask("b").as_ref(), rows(), |row| row).unwrap();
        assert_eq!((second, token.as_str()), (vec!["c".to_owned(), "d".to_owned()], ""));
        let many = v1::PageRequest { page_size: 1001, page_token: String::new() };
        assert!(page(Some(&many), rows(), |row| row).is_err());
    }
}
