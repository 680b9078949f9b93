//! Two operators who act at once, each with a request id for every change, and who remember what was acknowledged.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use prost::Message;
use tidegate_events::event;
use tidegate_judge::schedule::{Word, Words};
use tidegate_proto::v1;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::realm::{REALM, lock};

/// One answer is waited for so long; the manager may be stopped in the middle of it.
const PATIENCE: Duration = Duration::from_secs(8);

/// A request whose answer did not come is repeated so often.
const TRIES: u32 = 12;

/// Environments at once: the machine that runs a campaign is small.
const ENVIRONMENTS: usize = 3;

/// One of the operators. All of them share what was acknowledged.
pub(super) struct Operator<'a> {
    channel: Channel,
    name: String,
    seed: u64,
    said: u32,
    builds: &'a [String],
    acknowledged: &'a Acknowledged,
    /// What happens in the moment of every acknowledgement.
    strikes: Option<Box<dyn Fn() + Send + Sync + 'a>>,
}

/// Everything that was acknowledged, to be asked for again.
#[derive(Default)]
pub(super) struct Acknowledged {
    requests: Mutex<Vec<Request>>,
}

/// A change, by its kind.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// `RoutingService.Flip`
    Flip(v1::FlipRequest),
    /// `RoutingService.Rollback`
    Rollback(v1::RollbackRequest),
    /// `RoutingService.Freeze`
    Freeze(v1::FreezeRequest),
    /// `RolloutService.StartRollout`
    Rollout(v1::StartRolloutRequest),
    /// `RolloutService.AbortRollout`
    Abort(v1::AbortRolloutRequest),
    /// `SessionService.MoveSession`
    Move(v1::MoveSessionRequest),
    /// `SessionService.NotifySessions`
    Notify(v1::NotifySessionsRequest),
    /// `EnvironmentService.RetireEnvironment`
    Retire(v1::RetireEnvironmentRequest),
}

/// What came back: the whole answer as text that can be compared, and what the judge wants of it.
struct Answer {
    print: String,
    environment: String,
    generation: u64,
    confirmed: bool,
}

impl Answer {
    fn of(message: &impl Message) -> Self {
        // FNV-1a: the same bytes have the same print, and no two answers of a campaign are likely to share one.
        let hash = message
            .encode_to_vec()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self { print: format!("{hash:016x}"), environment: String::new(), generation: 0, confirmed: false }
    }

    fn routed(answer: &v1::FlipResponse) -> Self {
        Self {
            environment: answer.to.clone(),
            generation: answer.generation,
            confirmed: answer.confirmed,
            ..Self::of(answer)
        }
    }
}

impl Request {
    /// The operator's word for it, and its request id.
    #[must_use]
    pub(super) fn name(&self) -> (&'static str, &str) {
        match self {
            Self::Flip(request) => ("flip", &request.request_id),
            Self::Rollback(request) => ("rollback", &request.request_id),
            Self::Freeze(request) => (if request.frozen { "freeze" } else { "unfreeze" }, &request.request_id),
            Self::Rollout(request) => ("rollout", &request.request_id),
            Self::Abort(request) => ("abort", &request.request_id),
            Self::Move(request) => ("move", &request.request_id),
            Self::Notify(request) => ("notify", &request.request_id),
            Self::Retire(request) => ("retire", &request.request_id),
        }
    }

    async fn send(&self, channel: &Channel, actor: &str) -> Result<Answer, Status> {
        use v1::environment_service_client::EnvironmentServiceClient as Environments;
        use v1::rollout_service_client::RolloutServiceClient as Rollouts;
        use v1::routing_service_client::RoutingServiceClient as Routes;
        use v1::session_service_client::SessionServiceClient as Sessions;
        fn by<T>(actor: &str, request: &T) -> tonic::Request<T>
        where
            T: Clone,
        {
            let mut request = tonic::Request::new(request.clone());
            let actor = actor.parse().expect("a plain word");
            request.metadata_mut().insert("tidegate-actor", actor);
            request
        }
        let channel = channel.clone();
        let call = async {
            Ok(match self {
                Self::Flip(r) => Answer::routed(Routes::new(channel).flip(by(actor, r)).await?.get_ref()),
                Self::Rollback(r) => Answer::routed(Routes::new(channel).rollback(by(actor, r)).await?.get_ref()),
                Self::Freeze(r) => Answer::routed(Routes::new(channel).freeze(by(actor, r)).await?.get_ref()),
                Self::Rollout(r) => Answer::of(Rollouts::new(channel).start_rollout(by(actor, r)).await?.get_ref()),
                Self::Abort(r) => Answer::of(Rollouts::new(channel).abort_rollout(by(actor, r)).await?.get_ref()),
                Self::Move(r) => Answer::of(Sessions::new(channel).move_session(by(actor, r)).await?.get_ref()),
                Self::Notify(r) => Answer::of(Sessions::new(channel).notify_sessions(by(actor, r)).await?.get_ref()),
                Self::Retire(r) => {
                    Answer::of(Environments::new(channel).retire_environment(by(actor, r)).await?.get_ref())
                }
            })
        };
        tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
    }
}

/// A channel to the manager that connects when it is used, and again when it must.
///
/// # Panics
/// When the address is none.
#[must_use]
pub(super) fn channel(manager: &str) -> Channel {
    Endpoint::from_shared(format!("http://{manager}"))
        .expect("an address")
        .connect_timeout(Duration::from_secs(2))
        .connect_lazy()
}

/// True where nobody knows whether it happened: the same request must be sent again.
fn is_unknown(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

impl<'a> Operator<'a> {
    /// Operator number so many of a campaign.
    #[must_use]
    pub(super) fn new(
        manager: &str,
        number: u32,
        seed: u64,
        builds: &'a [String],
        acknowledged: &'a Acknowledged,
    ) -> Self {
        let name = format!("operator-{}", number + 1);
        Self { channel: channel(manager), name, seed, said: 0, builds, acknowledged, strikes: None }
    }

    /// Does this in the moment of every acknowledgement, before anything else.
    #[must_use]
    pub(super) fn striking(self, strike: impl Fn() + Send + Sync + 'a) -> Self {
        Self { strikes: Some(Box::new(strike)), ..self }
    }

    /// Does what a word of the schedule asks, if there is something that it can be about.
    pub(super) async fn say(&mut self, word: &Word) {
        let about = word.about as usize;
        match word.words {
            Words::Flip => {
                if let Some(to) = pick(&self.ready().await, about) {
                    let request_id = self.next_id();
                    self.ask(Request::Flip(v1::FlipRequest {
                        request_id,
                        realm: REALM.to_owned(),
                        to,
                        confirm_timeout_ms: 5_000,
                        ..v1::FlipRequest::default()
                    }))
                    .await;
                }
            }
            Words::Rollback => {
                let request_id = self.next_id();
                self.ask(Request::Rollback(v1::RollbackRequest {
                    request_id,
                    realm: REALM.to_owned(),
                    choice: v1::RollbackChoice::NextBoundary.into(),
                    ..v1::RollbackRequest::default()
                }))
                .await;
            }
            Words::Rollout => self.roll_out(about).await,
            Words::Move => self.move_one(about).await,
            Words::Freeze => {
                for frozen in [true, false] {
                    let request_id = self.next_id();
                    let (realm, reason) = (REALM.to_owned(), String::new());
                    self.ask(Request::Freeze(v1::FreezeRequest { request_id, realm, frozen, reason })).await;
                    tokio::time::sleep(Duration::from_secs(u64::from(frozen))).await;
                }
            }
            Words::Notify => {
                let request_id = self.next_id();
                let text = format!("{} says {request_id}", self.name);
                self.ask(Request::Notify(v1::NotifySessionsRequest { request_id, filter: None, text })).await;
            }
        }
    }

    async fn roll_out(&mut self, about: usize) {
        let environments = self.environments().await;
        // Room is made first: the oldest that is empty goes.
        let drained = environments.iter().find(|e| e.phase() == v1::Phase::Drained && !e.accepting);
        if let Some(drained) = drained.filter(|_| environments.len() >= ENVIRONMENTS) {
            let request_id = self.next_id();
            let id = drained.id.clone();
            self.ask(Request::Retire(v1::RetireEnvironmentRequest { request_id, id, if_generation: 0 })).await;
            return;
        }
        if environments.len() >= ENVIRONMENTS {
            return;
        }
        let drain = v1::DrainPolicy {
            deadline_ms: Some(10_000),
            at_deadline: v1::AtDeadline::Move.into(),
            ..v1::DrainPolicy::default()
        };
        let request_id = self.next_id();
        let spec = v1::RolloutSpec {
            realm: REALM.to_owned(),
            build: pick(self.builds, about).unwrap_or_default(),
            drain: Some(drain),
            stable_ms: 1_000,
            skip_clone: true,
            ..v1::RolloutSpec::default()
        };
        self.ask(Request::Rollout(v1::StartRolloutRequest { request_id, spec: Some(spec) })).await;
    }

    async fn move_one(&mut self, about: usize) {
        let mut sessions = v1::session_service_client::SessionServiceClient::new(self.channel.clone());
        let list = sessions.list_sessions(v1::ListSessionsRequest::default());
        let Ok(Ok(list)) = tokio::time::timeout(PATIENCE, list).await else { return };
        let list = list.into_inner().sessions;
        let accepting = self.environments().await.into_iter().find(|e| e.accepting);
        let session = list.get(about % list.len().max(1)).and_then(|row| uuid::Uuid::from_slice(&row.session_id).ok());
        let (Some(to), Some(session)) = (accepting, session) else { return };
        let request_id = self.next_id();
        self.ask(Request::Move(v1::MoveSessionRequest {
            request_id,
            id: session.to_string(),
            environment_id: to.id,
            ..v1::MoveSessionRequest::default()
        }))
        .await;
    }

    /// Aborts a rollout.
    pub(super) async fn abort(&mut self, id: &str) {
        let request_id = self.next_id();
        let (id, choice) = (id.to_owned(), "finish".to_owned());
        self.ask(Request::Abort(v1::AbortRolloutRequest { request_id, id, reason: String::new(), choice })).await;
    }

    fn next_id(&mut self) -> String {
        self.said += 1;
        format!("{}-{}-{}", self.name, self.seed, self.said)
    }

    /// Sends it until there is an answer, always by the same id.
    async fn ask(&self, request: Request) {
        let (method, request_id) = request.name();
        event!("asked", request_id = request_id, method = method, operator = self.name);
        for attempt in 1..=TRIES {
            match request.send(&self.channel, &self.name).await {
                Ok(answer) => {
                    if let Some(strike) = &self.strikes {
                        strike();
                    }
                    event!(
                        "answered",
                        request_id = request_id,
                        method = method,
                        ok = true,
                        attempt = attempt,
                        print = answer.print,
                        environment = answer.environment,
                        generation = answer.generation,
                        confirmed = answer.confirmed
                    );
                    lock(&self.acknowledged.requests).push(request.clone());
                    return;
                }
                Err(status) if is_unknown(&status) => tokio::time::sleep(Duration::from_millis(300)).await,
                Err(status) => {
                    let why = status.message();
                    event!("answered", request_id = request_id, method = method, ok = false, code = %status.code(), why = why);
                    return;
                }
            }
        }
        event!("unanswered", request_id = request_id, method = method);
    }

    /// All environments that are not retired; none when the manager does not answer.
    pub(super) async fn environments(&self) -> Vec<v1::Environment> {
        let mut client = v1::environment_service_client::EnvironmentServiceClient::new(self.channel.clone());
        let request = v1::ListEnvironmentsRequest { realm: REALM.to_owned(), ..v1::ListEnvironmentsRequest::default() };
        match tokio::time::timeout(PATIENCE, client.list_environments(request)).await {
            Ok(Ok(list)) => list.into_inner().environments,
            _ => Vec::new(),
        }
    }

    /// Those that may be flipped to.
    async fn ready(&self) -> Vec<String> {
        let environments = self.environments().await.into_iter();
        let fit = |e: &v1::Environment| !e.accepting && matches!(e.phase(), v1::Phase::Ready | v1::Phase::Drained);
        environments.filter(fit).map(|e| e.id).collect()
    }

    /// Asks everything again that was acknowledged, and looks all of it up in the audit.
    pub(super) async fn look_up(&self) {
        let requests = lock(&self.acknowledged.requests).clone();
        let known = self.audited().await;
        for request in requests {
            let (method, request_id) = request.name();
            event!("looked_up", request_id = request_id, method = method, known = known.contains(request_id));
            match request.send(&self.channel, &self.name).await {
                Ok(answer) => event!("repeated", request_id = request_id, ok = true, print = answer.print),
                Err(status) => {
                    event!("repeated", request_id = request_id, ok = false, code = %status.code(), why = status.message());
                }
            }
        }
    }

    /// The request ids of all audit records.
    async fn audited(&self) -> BTreeSet<String> {
        let mut audit = v1::audit_service_client::AuditServiceClient::new(self.channel.clone());
        let (mut known, mut page_token) = (BTreeSet::new(), String::new());
        loop {
            let page = Some(v1::PageRequest { page_size: 1_000, page_token });
            let Ok(answer) = audit.list_audit(v1::ListAuditRequest { page, ..v1::ListAuditRequest::default() }).await
            else {
                return known;
            };
            let answer = answer.into_inner();
            known.extend(answer.records.into_iter().map(|record| record.request_id));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return known;
            }
        }
    }
}

fn pick(list: &[String], about: usize) -> Option<String> {
    (!list.is_empty()).then(|| list[about % list.len()].clone())
}
