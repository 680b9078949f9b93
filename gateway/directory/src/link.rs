//! The connection to Redis: to one server, to the master that Sentinels name, or to a cluster.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::scripts::Call;
use crate::sentinel;
use crate::url::{Host, Kind, SharedUrl};

/// Commands that the client library queues before its writer takes them.
const PIPELINE: usize = 1_024;

/// Words by which Redis says that it cannot do its work now. Asking again on this connection is of no use before something
/// changed. They are looked for in the text, because servers before 7.0 wrap what a script ran into in an `ERR` of its own.
const REFUSALS: [&str; 14] = [
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "OOM ",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "BUSY ",
    "MOVED ",
    "ASK ",
    "TRYAGAIN",
];

/// A connection that many requests share. Clones are the same connection.
#[derive(Clone)]
pub(crate) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A new connection.
pub(crate) struct Connected {
    pub(crate) link: Link,
    /// The server it ended at; `None` for a cluster.
    pub(crate) server: Option<Host>,
    /// Says when a server's connection is closed. Silent for a cluster, which reconnects by itself.
    pub(crate) closed: mpsc::UnboundedReceiver<()>,
}

impl Link {
    /// Runs a script; sends it in full if the server does not know it (any more).
    ///
    /// # Errors
    /// Whatever the connection or the server says. There is no time limit.
    pub(crate) async fn call(&mut self, call: &Call) -> RedisResult<Value> {
        match self.send(&call.by_hash()).await {
            Err(e) if e.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => self.send(&call.in_full()).await,
            answer => answer,
        }
    }

    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// Connects. Each step takes at most `limit`.
///
/// # Errors
/// Why not, in one line.
pub(crate) async fn connect(
    url: &SharedUrl,
    certificates: Option<TlsCertificates>,
    limit: Duration,
) -> Result<Connected, String> {
    let (closed_by, closed) = mpsc::unbounded_channel();
    let (link, server) = match &url.kind {
        Kind::Server => {
            let host = url.hosts[0].clone();
            (one(url, &host, certificates, limit, closed_by).await?, Some(host))
        }
        Kind::Sentinel { .. } => {
            let host = sentinel::master(url, certificates.as_ref(), limit).await?;
            (one(url, &host, certificates, limit, closed_by).await?, Some(host))
        }
        Kind::Cluster => {
            let link = cluster(url, certificates, limit).await.map_err(|e| one_line(&e))?;
            // The sender is kept by nobody: a channel that is closed is not polled.
            (link, None)
        }
    };
    Ok(Connected { link, server, closed })
}

async fn one(
    url: &SharedUrl,
    host: &Host,
    certificates: Option<TlsCertificates>,
    limit: Duration,
    closed: mpsc::UnboundedSender<()>,
) -> Result<Link, String> {
    let settings = login(url).set_protocol(ProtocolVersion::RESP3);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE)
        .set_push_sender(
            move |push: PushInfo| {
                if push.kind == PushKind::Disconnection { closed.send(()) } else { Ok(()) }
            },
        );
    let connection = client(host, certificates, settings)
        .map_err(|e| one_line(&e))?
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|e| format!("{host}: {}", one_line(&e)))?;
    Ok(Link::Server(connection))
}

async fn cluster(url: &SharedUrl, certificates: Option<TlsCertificates>, limit: Duration) -> RedisResult<Link> {
    let nodes =
        url.hosts.iter().map(|host| info(host, url.tls, login(url))).collect::<RedisResult<Vec<ConnectionInfo>>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(limit)
        .response_timeout(limit)
        .overall_response_timeout(Some(limit))
        .retries(3)
        .min_retry_wait(10)
        .max_retry_wait(100);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    let client = builder.build()?;
    let connection = timeout(limit * 2, Box::pin(client.get_async_connection()))
        .await
        .map_err(|_| RedisError::from((ErrorKind::Io, "no node of the cluster answered in time")))??;
    Ok(Link::Cluster(connection))
}

/// A client for one server.
///
/// # Errors
/// The certificates are of no use.
pub(crate) fn client(
    host: &Host,
    certificates: Option<TlsCertificates>,
    settings: RedisConnectionInfo,
) -> RedisResult<Client> {
    let info = info(host, certificates.is_some(), settings)?;
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

/// User, password and database of the servers (not of Sentinels).
pub(crate) fn login(url: &SharedUrl) -> RedisConnectionInfo {
    let settings = RedisConnectionInfo::default()
        .set_db(i64::from(url.database))
        .set_lib_name("tidegate", env!("CARGO_PKG_VERSION"));
    with_login(settings, url.user.as_deref(), url.password.as_deref())
}

pub(crate) fn with_login(
    mut settings: RedisConnectionInfo,
    user: Option<&str>,
    password: Option<&str>,
) -> RedisConnectionInfo {
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    settings
}

fn info(host: &Host, tls: bool, settings: RedisConnectionInfo) -> RedisResult<ConnectionInfo> {
    let (name, port) = (host.name.clone(), host.port);
    let address = if tls {
        ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(name, port)
    };
    Ok(address.into_connection_info()?.set_redis_settings(settings))
}

/// True if nothing can be expected of this connection until it was made anew, or the server has changed.
pub(crate) fn ends_connection(e: &RedisError) -> bool {
    let text = e.to_string();
    e.is_io_error()
        || e.is_unrecoverable_error()
        || e.kind() == ErrorKind::AuthenticationFailed
        || e.code().is_some_and(|code| REFUSALS.iter().any(|word| word.trim_end() == code))
        || REFUSALS.iter().any(|word| text.contains(word))
}

/// An error in one line.
pub(crate) fn one_line(e: &RedisError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
