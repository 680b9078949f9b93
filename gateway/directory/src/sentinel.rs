//! Who is the master? All Sentinels are asked at once, so that one that hangs costs nothing; the answer of the newest
//! configuration wins, so that one that was cut off and does not know of a failover does not mislead.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, TlsCertificates};
use tokio::time::timeout;

use crate::link::{client, one_line, with_login};
use crate::url::{Host, Kind, SharedUrl};

/// The master of the URL's service, as the Sentinels have it.
///
/// # Errors
/// Why nobody knows, in one line.
pub(crate) async fn master(
    url: &SharedUrl,
    certificates: Option<&TlsCertificates>,
    limit: Duration,
) -> Result<Host, String> {
    let Kind::Sentinel { service, user, password } = &url.kind else {
        return Err("the directory's URL names no Sentinels".to_owned());
    };
    let settings = with_login(RedisConnectionInfo::default(), user.as_deref(), password.as_deref());
    let asked = url.hosts.iter().map(|host| {
        let settings = settings.clone();
        async move {
            match timeout(limit, Box::pin(ask(host, service, certificates.cloned(), settings, limit))).await {
                Ok(Ok(found)) => found.ok_or_else(|| format!("{host} does not know where \"{service}\" is")),
                Ok(Err(e)) => Err(format!("{host}: {}", one_line(&e))),
                Err(_) => Err(format!("{host}: no answer within {} ms", limit.as_millis())),
            }
        }
    });
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(answer) => found.push(answer),
            Err(why) => failed.push(why),
        }
    }
    let newest = found.into_iter().max_by_key(|(configuration, _)| *configuration);
    newest
        .map(|(_, host)| host)
        .ok_or_else(|| format!("no Sentinel names the master of \"{service}\": {}", failed.join("; ")))
}

/// The number of the configuration, and the master.
async fn ask(
    host: &Host,
    service: &str,
    certificates: Option<TlsCertificates>,
    settings: RedisConnectionInfo,
    limit: Duration,
) -> Result<Option<(u64, Host)>, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
    let mut sentinel =
        client(host, certificates, settings)?.get_multiplexed_async_connection_with_config(&config).await?;
    let answer: HashMap<String, String> =
        redis::cmd("SENTINEL").arg("MASTER").arg(service).query_async(&mut sentinel).await?;
    let number = |name: &str| answer.get(name).and_then(|text| text.parse().ok());
    let port = answer.get("port").and_then(|text| text.parse().ok());
    Ok(answer
        .get("ip")
        .zip(port)
        .map(|(ip, port)| (number("config-epoch").unwrap_or(0), Host { name: ip.clone(), port })))
}
