//! One task per realm. It owns the core's [`Realm`]: an input goes in, what came of it is written in one transaction,
//! then answered, and only then are the effects performed.
//!
//! The core decides on a copy that takes the place of the original once it is durable, so that a failed write leaves
//! memory and disk agreeing, and readers never see what might be lost.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::{Command, Event, Input, Outcome, Realm, Reply};
use tidegate_types::{Clock, EnvironmentId, RealmId, SystemClock, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::effects::{Executor, Surroundings};
use crate::errors::{Error, Refusal};
use crate::observe;
use crate::requests::Pending;
use crate::store::{AuditRow, Commit, StoreError, rows};

/// Commands and events that wait for the realm. Callers wait for their answers, effects answer once each: a full inbox
/// slows them down.
const INBOX: usize = 256;

/// How often the actor looks whether something that it observes has changed. A tenth of a second is what a person
/// watching a drain can see.
const LOOK: Duration = Duration::from_millis(100);

/// What is observed is told to the core at least this often: rates and timers need it.
const OBSERVE: Duration = Duration::from_secs(1);

/// Sessions change all the time in a busy world; as long as nothing else does, they are counted at most this often.
const COUNT: Duration = Duration::from_millis(250);

/// Servers that have not changed are told again after this, so that nothing depends on a single message.
const REPEAT: Duration = Duration::from_secs(2);

/// Pause before a failed write of an event is tried again. An event has happened: it cannot be refused.
const RETRY: Duration = Duration::from_millis(500);

/// Makes the recorded answer of a command from the realm after it; the flag says that the answer is final.
pub type Render = Box<dyn FnOnce(&Realm, &Reply) -> (Vec<u8>, bool) + Send>;

/// What became of a command.
#[derive(Debug)]
pub struct Answer {
    /// The core's answer.
    pub reply: Reply,
    /// The recorded answer.
    pub body: Vec<u8>,
}

/// What comes into the inbox.
pub(crate) enum Message {
    Command(Box<Ask>),
    Event(Event),
}

pub(crate) struct Ask {
    command: Command,
    request: Pending,
    render: Render,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// Handle of a realm's task; cheap to clone.
#[derive(Debug, Clone)]
pub struct RealmHandle {
    id: RealmId,
    inbox: mpsc::Sender<Message>,
    realm: watch::Receiver<Arc<Realm>>,
}

impl RealmHandle {
    /// The realm's id.
    #[must_use]
    pub const fn id(&self) -> &RealmId {
        &self.id
    }

    /// The realm now. Everything in it is durable or observed.
    #[must_use]
    pub fn realm(&self) -> Arc<Realm> {
        Arc::clone(&self.realm.borrow())
    }

    /// The realm now and at each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Realm>> {
        self.realm.clone()
    }

    /// Gives a command. It is durable when this returns `Ok`.
    ///
    /// # Errors
    /// The core's refusal (recorded), or the store's failure.
    pub async fn command(&self, command: Command, request: Pending, render: Render) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { command, request, render, answer };
        self.inbox.send(Message::Command(Box::new(ask))).await.map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)?
    }
}

/// The task of one realm.
pub struct RealmActor {
    realm: Arc<Realm>,
    published: watch::Sender<Arc<Realm>>,
    inbox: mpsc::Receiver<Message>,
    surroundings: Arc<Surroundings>,
    executor: Executor,
    /// What each environment's servers were when they were last told, and when.
    told: std::collections::BTreeMap<EnvironmentId, (fleet_core::observe::EnvironmentObservation, Instant)>,
}

impl RealmActor {
    /// The task of this realm, and its handle.
    #[must_use]
    pub fn new(realm: Realm, surroundings: Arc<Surroundings>) -> (Self, RealmHandle) {
        let realm = Arc::new(realm);
        let (inbox, messages) = mpsc::channel(INBOX);
        let (published, watched) = watch::channel(Arc::clone(&realm));
        let handle = RealmHandle { id: realm.rows.id.clone(), inbox: inbox.clone(), realm: watched };
        let executor = Executor::new(Arc::clone(&surroundings), realm.rows.id.clone(), inbox);
        let told = std::collections::BTreeMap::new();
        (Self { realm, published, inbox: messages, surroundings, executor, told }, handle)
    }

    /// Runs until `shutdown` is cancelled.
    #[tracing::instrument(name = "realm", skip_all, fields(realm = %self.realm.rows.id))]
    pub async fn run(mut self, shutdown: CancellationToken) {
        let resumed = self.realm.resume();
        self.executor.perform(&self.realm, resumed, &shutdown).await;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = Seen::new(&self.surroundings);
        loop {
            // In this order: a stop must not wait; what was said comes before what is seen, because an operator waits
            // for the answer; timers are looked at with every observation and need no arm of their own.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                message = self.inbox.recv() => match message {
                    Some(message) => {
                        // Decided on what is known now: whoever just saw a server become ready may flip to it.
                        if seen.changed() {
                            self.observe(&mut seen, &shutdown).await;
                        }
                        match message {
                            Message::Command(ask) => self.command(*ask, &shutdown).await,
                            Message::Event(event) => self.events(vec![event], &shutdown).await,
                        }
                    }
                    None => return,
                },
                _ = look.tick() => {
                    self.executor.retry(&self.realm).await;
                    if seen.due() {
                        self.observe(&mut seen, &shutdown).await;
                    }
                    self.time_out(&shutdown).await;
                }
            }
        }
    }

    async fn observe(&mut self, seen: &mut Seen, shutdown: &CancellationToken) {
        seen.mark();
        let events = self.observations();
        self.events(events, shutdown).await;
    }

    async fn command(&mut self, ask: Ask, shutdown: &CancellationToken) {
        let Ask { command, request, render, answer } = ask;
        let now = SystemClock.now().wall;
        let mut next = Realm::clone(&self.realm);
        let outcome = match next.handle(now, Input::Command(command)) {
            Ok(outcome) => outcome,
            Err(refused) => {
                let refusal = Refusal::from(refused);
                let record = Commit { request: Some(request.refused(&refusal, now)), ..Commit::default() };
                let recorded = self.surroundings.store.commit(record).await;
                let refused = recorded.map_or_else(Error::Store, |()| Error::Refused(refusal));
                // The caller may be gone; the record stands.
                drop(answer.send(Err(refused)));
                return;
            }
        };
        let (body, done) = render(&next, &outcome.reply);
        let mut commit = self.commit_of(&next, std::slice::from_ref(&outcome), &request.who, request.id.as_str(), now);
        commit.request = Some(request.answered(body.clone(), done, now));
        if let Err(error) = self.surroundings.store.commit(commit).await {
            drop(answer.send(Err(Error::Store(error))));
            return;
        }
        self.adopt(next);
        tidegate_events::event!(
            "command",
            request_id = %request.id,
            method = request.rpc,
            realm = %self.realm.rows.id,
            generation = self.realm.rows.routing.generation.0,
            actor = request.who,
        );
        log(std::slice::from_ref(&outcome));
        drop(answer.send(Ok(Answer { reply: outcome.reply, body })));
        self.executor.perform(&self.realm, outcome.effects, shutdown).await;
    }

    async fn events(&mut self, events: Vec<Event>, shutdown: &CancellationToken) {
        if events.is_empty() {
            return;
        }
        let now = SystemClock.now().wall;
        let mut next = Realm::clone(&self.realm);
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            match next.handle(now, Input::Event(event)) {
                Ok(outcome) => outcomes.push(outcome),
                Err(refused) => tracing::error!(%refused, "an event was refused"),
            }
        }
        self.settle(next, outcomes, now, shutdown).await;
    }

    async fn time_out(&mut self, shutdown: &CancellationToken) {
        let now = SystemClock.now().wall;
        if self.realm.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        let mut next = Realm::clone(&self.realm);
        let outcome = next.handle_timeout(now);
        self.settle(next, vec![outcome], now, shutdown).await;
    }

    /// Makes what has happened durable, however long it takes, then does what follows from it.
    async fn settle(&mut self, next: Realm, outcomes: Vec<Outcome>, now: Timestamp, shutdown: &CancellationToken) {
        let commit = self.commit_of(&next, &outcomes, "manager", "", now);
        while let Err(error) = self.surroundings.store.commit(commit.clone()).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            if matches!(error, StoreError::Closed) {
                return;
            }
        }
        self.adopt(next);
        log(&outcomes);
        for outcome in outcomes {
            self.executor.perform(&self.realm, outcome.effects, shutdown).await;
        }
    }

    fn adopt(&mut self, next: Realm) {
        self.realm = Arc::new(next);
        self.published.send_replace(Arc::clone(&self.realm));
    }

    fn commit_of(&self, next: &Realm, outcomes: &[Outcome], who: &str, request_id: &str, now: Timestamp) -> Commit {
        let changes: std::collections::BTreeSet<_> = outcomes.iter().flat_map(|o| &o.changes).collect();
        let audit = outcomes.iter().flat_map(|o| &o.audit).map(|entry| AuditRow {
            sequence: 0,
            at_ms: now.0,
            who: entry.who.clone().unwrap_or_else(|| who.to_owned()),
            what: entry.what.to_owned(),
            realm: next.rows.id.to_string(),
            subject: entry.subject.clone(),
            why: entry.why.clone(),
            before: entry.before.clone(),
            after: entry.after.clone(),
            request_id: request_id.to_owned(),
        });
        Commit {
            audit: audit.collect(),
            rows: changes.into_iter().flat_map(|change| rows::writes(next, change)).collect(),
            request: None,
            prune: None,
        }
    }

    fn observations(&mut self) -> Vec<Event> {
        let view = self.surroundings.servers.view();
        let view = Arc::clone(&view.borrow());
        let mut events = Vec::new();
        for (id, environment) in &self.realm.rows.environments {
            let observation = observe::environment(environment, &view);
            let known = self.told.get(id).is_some_and(|(told, at)| *told == observation && at.elapsed() < REPEAT);
            let never = observation.servers.is_empty() && !environment.wants_servers();
            if known || (never && self.told.contains_key(id)) {
                continue;
            }
            self.told.insert(id.clone(), (observation.clone(), Instant::now()));
            events.push(Event::ServersObserved(observation));
        }
        let occupancy = observe::occupancy(&self.realm, &self.surroundings.gateways, &self.surroundings.sessions);
        events.push(Event::Occupancy(occupancy));
        events
    }
}

/// Says what has changed, once it is durable.
fn log(outcomes: &[Outcome]) {
    for entry in outcomes.iter().flat_map(|outcome| &outcome.audit) {
        let (what, subject) = (entry.what, entry.subject.as_str());
        tracing::info!(what, subject, before = entry.before, after = entry.after, why = entry.why, "changed");
    }
}

/// Whether something that is observed has changed.
struct Seen {
    servers: watch::Receiver<Arc<crate::servers::ServersView>>,
    sessions: watch::Receiver<u64>,
    gateways: watch::Receiver<u64>,
    last: Option<Instant>,
}

impl Seen {
    fn new(surroundings: &Surroundings) -> Self {
        Self {
            servers: surroundings.servers.view(),
            sessions: surroundings.sessions.version(),
            gateways: surroundings.gateways.changed(),
            last: None,
        }
    }

    /// A sender that is gone means that the manager stops: nothing has changed any more.
    fn changed(&self) -> bool {
        self.servers.has_changed().unwrap_or(false)
            || self.sessions.has_changed().unwrap_or(false)
            || self.gateways.has_changed().unwrap_or(false)
    }

    fn due(&self) -> bool {
        let Some(age) = self.last.map(|last| last.elapsed()) else { return true };
        let sessions = age >= COUNT && self.sessions.has_changed().unwrap_or(false);
        let others = self.servers.has_changed().unwrap_or(false) || self.gateways.has_changed().unwrap_or(false);
        sessions || others || age >= OBSERVE
    }

    fn mark(&mut self) {
        self.servers.mark_unchanged();
        self.sessions.mark_unchanged();
        self.gateways.mark_unchanged();
        self.last = Some(Instant::now());
    }
}
