//! The operator's commands: each is one call (or one watch) of the manager's API, shown for people or for scripts.

pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod drain;
pub(crate) mod env;
pub(crate) mod fleet;
pub(crate) mod gateway;
mod known;
mod pages;
pub(crate) mod realm;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod session;
pub(crate) mod snapshot;

use std::time::Duration;

use tidegate_proto::v1;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::exit::{Code, Failure};
use crate::output::{Format, Printer};

use self::known::Kind;

/// Options that every operator's command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The fleet-manager's gRPC address.
    #[arg(long, global = true, env = "TIDEGATE_MANAGER", default_value = "http://127.0.0.1:7400", value_name = "URL")]
    pub(crate) manager: String,
    /// How to print what was answered.
    #[arg(short = 'o', long = "output", global = true, default_value = "table", value_name = "FORM")]
    pub(crate) output: Format,
    /// Your name in the audit records.
    #[arg(long, global = true, env = "TIDEGATE_ACTOR", value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Names this change; repeating a command with the same id has one effect and the same answer. Made anew when unset.
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Give up after this long. What runs on the server goes on.
    #[arg(long, global = true, value_parser = crate::words::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
}

/// Adds the caller's name to every call.
#[derive(Clone)]
pub(crate) struct Actor(MetadataValue<Ascii>);

impl Interceptor for Actor {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        request.metadata_mut().insert("tidegate-actor", self.0.clone());
        Ok(request)
    }
}

/// A connection to the manager.
pub(crate) type Wire = InterceptedService<Channel, Actor>;

/// What a command needs to do its work.
pub(crate) struct Context {
    wire: Wire,
    pub(crate) printer: Printer,
    request_id: Option<String>,
    pub(crate) timeout: Option<Duration>,
}

/// Calls that take longer than this are watches or waits, and say so by `--timeout`.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

impl Context {
    /// Connects to the manager.
    pub(crate) async fn connect(options: &Options) -> Result<Self, Failure> {
        let address = &options.manager;
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(|_| Failure::usage(format!("--manager \"{address}\" is not a URL such as http://127.0.0.1:7400")))?
            .connect_timeout(Duration::from_secs(3));
        let channel = endpoint.connect().await.map_err(|_| {
            Failure::new(Code::Failure, format!("no fleet-manager answers at {address}"))
                .hint("start one (`tidegate fleet-manager`), or name another with --manager or TIDEGATE_MANAGER")
        })?;
        let name =
            options.actor.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "operator".to_owned());
        let actor = MetadataValue::try_from(&name)
            .map_err(|_| Failure::usage(format!("--actor \"{name}\" has characters that cannot be sent")))?;
        Ok(Self {
            wire: InterceptedService::new(channel, Actor(actor)),
            printer: Printer::new(options.output),
            request_id: options.request_id.clone(),
            timeout: options.timeout,
        })
    }

    /// The id for a change: the operator's, or a new one.
    pub(crate) fn request_id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }

    /// Waits for a call, at most `--timeout` or a minute.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failure> {
        let limit = self.timeout.unwrap_or(CALL_DEADLINE);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::new(Code::TimedOut, "no answer in time; what was asked may still be running")),
        }
    }

    /// As [`Context::call`]; an id that does not exist is answered with the closest one that does.
    pub(crate) async fn find<T>(
        &self,
        ids: &[(Kind, &str)],
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failure> {
        known::call(self, ids, call).await
    }

    /// Gives up waiting after `--timeout`, if there is one. What is waited for goes on, and is named.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        wait: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.timeout {
            None => wait.await,
            Some(limit) => tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
                let limit = crate::words::span(crate::words::ms(limit));
                Err(Failure::new(Code::TimedOut, format!("stopped waiting after {limit}; {what} goes on")))
            }),
        }
    }

    /// Shows what a watch sends, until `--timeout` or for ever.
    pub(crate) async fn follow<T>(
        &self,
        mut stream: tonic::Streaming<T>,
        mut show: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let wait = async {
            while let Some(message) = next(&mut stream).await? {
                show(message)?;
            }
            Err(ended("what was watched"))
        };
        self.within("what was watched", wait).await
    }
}

/// The next message of a watch.
pub(crate) async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<Option<T>, Failure> {
    stream.message().await.map_err(|status| match status.code() {
        // A broken connection shows as one of these, with words of the transport that help nobody.
        tonic::Code::Unknown | tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Internal => {
            tracing::debug!(%status, "watch broken");
            Failure::new(Code::Failure, "the connection to the fleet-manager is lost; what was watched goes on")
                .hint("watch again when it is back")
        }
        _ => status.into(),
    })
}

/// A watch that ended before what it watched.
pub(crate) fn ended(what: &str) -> Failure {
    Failure::new(Code::Failure, format!("the fleet-manager ended the watch; {what} goes on"))
        .hint("it is probably stopping; watch again when it is back")
}

macro_rules! clients {
    ($($name:ident: $module:ident :: $client:ident),* $(,)?) => {
        impl Context {
            $(
                pub(crate) fn $name(&self) -> v1::$module::$client<Wire> {
                    v1::$module::$client::new(self.wire.clone())
                }
            )*
        }
    };
}

clients! {
    realms: realm_service_client::RealmServiceClient,
    builds: build_service_client::BuildServiceClient,
    environments: environment_service_client::EnvironmentServiceClient,
    fleets: fleet_service_client::FleetServiceClient,
    routes: routing_service_client::RoutingServiceClient,
    drains: drain_service_client::DrainServiceClient,
    rollouts: rollout_service_client::RolloutServiceClient,
    sessions: session_service_client::SessionServiceClient,
    snapshots: snapshot_service_client::SnapshotServiceClient,
    audit: audit_service_client::AuditServiceClient,
}
