//! Keeps the directory connected, and passes requests and answers.
//!
//! ```text
//!   Connecting ──connected, mark read──▶ Serving ──closed, silent or refused──▶ Connecting
//!       │ failed: Down, wait, again          │ every second: still the same, still writable?
//! ```
//!
//! Requests that come while the first attempt after a lost connection is under way wait for it, within their time limit;
//! after it failed they are answered `Unavailable` at once.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use gateway_core::directory::DirectoryAnswer;
use redis::{RedisError, RedisResult, TlsCertificates, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

use crate::config::DirectoryConfig;
use crate::figures::{Ledger, State};
use crate::handle::{DirectoryEvent, TicketOutcome, Waiter};
use crate::incarnation::{Change, Incarnation, Mark, look};
use crate::link::{Connected, Link, connect, ends_connection, one_line};
use crate::scripts::{self, Call};
use crate::sentinel;
use crate::tls::Tls;
use crate::url::{Host, Kind, SharedUrl};

/// Requests on the wire at once. More than Redis needs to be busy all the time, few enough that their answers come in time.
const WINDOW: usize = 1_024;

/// The pause after a failed attempt, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Checks between two questions to the Sentinels whether our master is still theirs.
const CHECKS_PER_RESOLVE: u32 = 3;

/// Failed checks in a row after which a cluster is connected anew from the URL's nodes.
const FAILED_CHECKS: u32 = 5;

/// One call, and who waits for its answer.
pub(crate) struct Request {
    pub(crate) waiter: Waiter,
    pub(crate) call: Call,
}

/// The task behind the handles.
pub(crate) struct Driver {
    url: SharedUrl,
    config: DirectoryConfig,
    tls: Tls,
    queue: mpsc::UnboundedReceiver<Request>,
    events: mpsc::UnboundedSender<DirectoryEvent>,
    ledger: Ledger,
    incarnation: Incarnation,
    /// Requests that wait for a connection.
    waiting: Vec<Request>,
    /// The server of the last connection.
    server: Option<Host>,
}

/// The last handle is gone.
struct HandlesGone;

/// Why a connection is given up.
struct Lost(String);

enum Failure {
    TimedOut,
    Redis(RedisError),
}

/// A request that came to its end.
struct Sent {
    number: u64,
    at: Instant,
    answer: Result<Value, Failure>,
}

/// A look at the marks that came to its end.
struct Checked {
    since: Instant,
    marks: Result<Vec<Mark>, Failure>,
}

/// One connection's requests.
struct Serving {
    link: Link,
    in_flight: FuturesUnordered<BoxFuture<'static, Sent>>,
    waiters: HashMap<u64, Waiter>,
    next: u64,
    /// When the last answer came.
    heard: Instant,
    /// A request failed on a cluster: look whether all of it is there.
    suspect: bool,
}

impl Driver {
    pub(crate) fn new(
        url: SharedUrl,
        config: DirectoryConfig,
        tls: Tls,
        queue: mpsc::UnboundedReceiver<Request>,
        events: mpsc::UnboundedSender<DirectoryEvent>,
        ledger: Ledger,
    ) -> Self {
        let incarnation = Incarnation::default();
        Self { url, config, tls, queue, events, ledger, incarnation, waiting: Vec::new(), server: None }
    }

    /// Runs until the last handle is gone.
    pub(crate) async fn run(mut self) {
        while let Ok(connected) = self.connect().await {
            match self.serve(connected).await {
                Ok(HandlesGone) => return,
                Err(Lost(why)) => self.down(why),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connected, HandlesGone> {
        let mut pause = FIRST_PAUSE;
        let mut hold = true;
        loop {
            let attempt = attempt(self.url.clone(), self.tls.clone(), self.config.request_timeout).boxed();
            match self.while_waiting(attempt, hold).await? {
                Ok((connected, marks)) => {
                    let change = self.incarnation.observe(marks);
                    let moved = self.server.is_some() && self.server != connected.server;
                    self.server.clone_from(&connected.server);
                    self.ledger.with(|figures| {
                        figures.connects += 1;
                        figures.failovers += u64::from(moved);
                    });
                    self.up(change);
                    return Ok(connected);
                }
                Err(why) => self.down(why),
            }
            hold = false;
            self.while_waiting(sleep(pause).boxed(), hold).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for `what` and takes requests meanwhile: holds them for as long as they may wait, or refuses them.
    async fn while_waiting<T>(&mut self, mut what: BoxFuture<'_, T>, hold: bool) -> Result<T, HandlesGone> {
        let until = Instant::now() + self.config.request_timeout;
        let mut held = sleep_until(until).boxed();
        let mut hold = hold;
        loop {
            tokio::select! {
                out = &mut what => return Ok(out),
                () = &mut held, if hold => {
                    hold = false;
                    self.refuse_waiting();
                }
                request = self.queue.recv() => match request {
                    None => return Err(HandlesGone),
                    Some(request) if hold => self.waiting.push(request),
                    Some(request) => self.unavailable(request.waiter),
                },
            }
        }
    }

    async fn serve(&mut self, connected: Connected) -> Result<HandlesGone, Lost> {
        let Connected { link, server, mut closed } = connected;
        let mut serving = Serving::new(link);
        for request in self.waiting.drain(..) {
            serving.send(request, self.config.request_timeout);
        }
        let outcome = self.pass(&mut serving, server, &mut closed).await;
        for waiter in serving.waiters.into_values() {
            self.unavailable(waiter);
        }
        outcome
    }

    async fn pass(
        &mut self,
        serving: &mut Serving,
        server: Option<Host>,
        closed: &mut mpsc::UnboundedReceiver<()>,
    ) -> Result<HandlesGone, Lost> {
        let limit = self.config.request_timeout;
        let mut tick = interval_at(Instant::now() + self.config.check_interval, self.config.check_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check: OptionFuture<BoxFuture<'static, Checked>> = None.into();
        let mut checking = false;
        let mut failed = 0;
        let mut resolve: OptionFuture<BoxFuture<'static, Result<Host, String>>> = None.into();
        let mut resolving = false;
        let mut ticks = 0;
        loop {
            // Answers first: they make room, and a connection that brought one is alive whatever the timers say. New
            // requests last: they only make more work.
            tokio::select! {
                biased;
                Some(sent) = serving.in_flight.next() => self.answered(serving, sent)?,
                Some(()) = closed.recv() => return Err(Lost("the connection was closed".to_owned())),
                Some(Checked { since, marks }) = &mut check, if checking => {
                    checking = false;
                    match (marks, serving.link.is_cluster()) {
                        (Ok(marks), _) => {
                            failed = 0;
                            self.checked(marks);
                        }
                        // Answers came meanwhile, so it only waited behind many others.
                        (Err(Failure::TimedOut), false) if serving.heard > since => {}
                        (Err(why), true) => {
                            failed += 1;
                            let why = why.to_string(limit);
                            if failed >= FAILED_CHECKS {
                                return Err(Lost(why));
                            }
                            self.down(why);
                        }
                        (Err(why), false) => return Err(Lost(why.to_string(limit))),
                    }
                }
                Some(master) = &mut resolve, if resolving => {
                    resolving = false;
                    if let (Ok(master), Some(server)) = (master, &server)
                        && master != *server
                    {
                        return Err(Lost(format!("the Sentinels made {master} the master in place of {server}")));
                    }
                }
                _ = tick.tick(), if !checking => {
                    checking = true;
                    check = Some(check_marks(serving.link.clone(), limit).boxed()).into();
                    ticks += 1;
                    if matches!(self.url.kind, Kind::Sentinel { .. }) && ticks % CHECKS_PER_RESOLVE == 0 && !resolving {
                        resolving = true;
                        resolve = Some(ask_sentinels(self.url.clone(), self.tls.clone(), limit).boxed()).into();
                    }
                }
                request = self.queue.recv(), if serving.in_flight.len() < WINDOW => match request {
                    None => return Ok(HandlesGone),
                    Some(request) => serving.send(request, limit),
                },
            }
            if serving.suspect && !checking {
                serving.suspect = false;
                tick.reset_immediately();
            }
        }
    }

    fn answered(&mut self, serving: &mut Serving, sent: Sent) -> Result<(), Lost> {
        let Some(waiter) = serving.waiters.remove(&sent.number) else { return Ok(()) };
        let now = Instant::now();
        match sent.answer {
            Ok(value) => {
                serving.heard = now;
                self.ledger.with(|figures| figures.round_trip(now - sent.at));
                self.pass_on(waiter, value);
                Ok(())
            }
            Err(failure) => {
                let lost = match &failure {
                    Failure::TimedOut => serving.heard <= sent.at,
                    Failure::Redis(e) => ends_connection(e),
                };
                self.ledger.with(|figures| match failure {
                    Failure::TimedOut => figures.timed_out += 1,
                    Failure::Redis(_) => figures.errors += 1,
                });
                self.unavailable(waiter);
                let why = failure.to_string(self.config.request_timeout);
                match (lost, serving.link.is_cluster()) {
                    (true, false) => Err(Lost(why)),
                    (true, true) => {
                        serving.suspect = true;
                        Ok(())
                    }
                    (false, _) => {
                        tracing::warn!(why, "the directory did not do what it was asked");
                        Ok(())
                    }
                }
            }
        }
    }

    fn pass_on(&mut self, waiter: Waiter, value: Value) {
        let event = match &waiter {
            Waiter::Core { tag, id, who, op } => scripts::read_entry(value, op).map(|read| {
                if read.unreadable {
                    self.ledger.with(|figures| figures.corrupt += 1);
                    tracing::warn!(player = %who.player, character = %who.character, "the directory holds an entry that cannot be read; treated as missing");
                }
                let answer = DirectoryAnswer { id: *id, who: who.clone(), outcome: read.outcome };
                Some(DirectoryEvent::Answer { tag: *tag, answer })
            }),
            Waiter::Ticket { token } => scripts::read_ticket(value).map(|fresh| {
                let outcome = if fresh { TicketOutcome::Fresh } else { TicketOutcome::Used };
                Some(DirectoryEvent::Ticket { token: *token, outcome })
            }),
            Waiter::Nobody => Some(None),
        };
        match event {
            Some(event) => {
                self.ledger.with(|figures| {
                    figures.in_flight -= 1;
                    figures.answered += 1;
                });
                event.into_iter().for_each(|event| self.emit(event));
            }
            None => {
                self.ledger.with(|figures| figures.errors += 1);
                tracing::warn!("the directory gave an answer of a shape that is not ours");
                self.unavailable(waiter);
            }
        }
    }

    fn checked(&mut self, marks: Vec<Mark>) {
        let change = self.incarnation.observe(marks);
        if change == Change::Server {
            self.ledger.with(|figures| figures.failovers += 1);
        }
        if change != Change::None || self.ledger.with(|figures| figures.state != State::Up) {
            self.up(change);
        }
    }

    fn up(&mut self, change: Change) {
        let wiped = change == Change::Wiped;
        self.ledger.with(|figures| {
            figures.state = State::Up;
            figures.wipes += u64::from(wiped);
        });
        tracing::info!(directory = %self.url, wiped, "directory reached");
        self.emit(DirectoryEvent::Up { wiped });
    }

    fn down(&mut self, why: String) {
        self.refuse_waiting();
        let state = State::Degraded { why: why.clone() };
        let before = self.ledger.with(|figures| std::mem::replace(&mut figures.state, state));
        if matches!(before, State::Degraded { .. }) {
            tracing::debug!(directory = %self.url, why, "directory still out of reach");
        } else {
            tracing::warn!(directory = %self.url, why, "directory out of reach: degraded");
            self.emit(DirectoryEvent::Down { why });
        }
    }

    fn refuse_waiting(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            self.unavailable(request.waiter);
        }
    }

    fn unavailable(&self, waiter: Waiter) {
        self.ledger.with(|figures| {
            figures.in_flight -= 1;
            figures.unavailable += 1;
        });
        waiter.unavailable().into_iter().for_each(|event| self.emit(event));
    }

    fn emit(&self, event: DirectoryEvent) {
        // A gateway that stops drops the receiver before its last handle.
        let _ = self.events.send(event);
    }
}

impl Serving {
    fn new(link: Link) -> Self {
        let in_flight = FuturesUnordered::new();
        Self { link, in_flight, waiters: HashMap::new(), next: 0, heard: Instant::now(), suspect: false }
    }

    fn send(&mut self, request: Request, limit: Duration) {
        let number = self.next;
        self.next += 1;
        self.waiters.insert(number, request.waiter);
        let mut link = self.link.clone();
        let at = Instant::now();
        self.in_flight.push(
            async move {
                let answer = within(limit, link.call(&request.call)).await;
                Sent { number, at, answer }
            }
            .boxed(),
        );
    }
}

impl Failure {
    fn to_string(&self, limit: Duration) -> String {
        match self {
            Self::TimedOut => format!("no answer within {} ms", limit.as_millis()),
            Self::Redis(e) => one_line(e),
        }
    }
}

async fn within<T>(limit: Duration, what: impl Future<Output = RedisResult<T>>) -> Result<T, Failure> {
    match timeout(limit, what).await {
        Ok(answer) => answer.map_err(Failure::Redis),
        Err(_) => Err(Failure::TimedOut),
    }
}

async fn attempt(url: SharedUrl, tls: Tls, limit: Duration) -> Result<(Connected, Vec<Mark>), String> {
    let certificates: Option<TlsCertificates> = tls.certificates().await;
    let connected = connect(&url, certificates, limit).await?;
    let marks = within(limit, look(&connected.link)).await.map_err(|failure| failure.to_string(limit))?;
    Ok((connected, marks))
}

async fn check_marks(link: Link, limit: Duration) -> Checked {
    let since = Instant::now();
    Checked { since, marks: within(limit, look(&link)).await }
}

async fn ask_sentinels(url: SharedUrl, tls: Tls, limit: Duration) -> Result<Host, String> {
    let certificates = tls.certificates().await;
    sentinel::master(&url, certificates.as_ref(), limit).await
}
