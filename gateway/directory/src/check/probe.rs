//! Why does a connection not come about? Told by the first bytes of an answer, without the client library: does the port
//! speak TLS, or Redis in the clear?

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::url::Host;

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Redis,
    Tls,
    /// It took the connection and said nothing that we know.
    Unknown,
    /// Nobody took the connection.
    Nothing,
}

/// First byte of a TLS record that is an alert or a part of a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// First bytes of Redis' answers.
const REDIS_ANSWERS: [u8; 5] = *b"+-:$*";

/// Finds out what the port speaks.
pub(super) async fn speaks(host: &Host, limit: Duration) -> Speaks {
    match first_byte(host, b"PING\r\n", limit).await {
        Err(()) => return Speaks::Nothing,
        Ok(Some(byte)) if REDIS_ANSWERS.contains(&byte) => return Speaks::Redis,
        Ok(Some(byte)) if TLS_RECORDS.contains(&byte) => return Speaks::Tls,
        Ok(_) => {}
    }
    let Some(hello) = client_hello(host) else { return Speaks::Unknown };
    match first_byte(host, &hello, limit).await {
        Ok(Some(byte)) if TLS_RECORDS.contains(&byte) => Speaks::Tls,
        _ => Speaks::Unknown,
    }
}

/// The first byte of the answer to `say`; `None` if the connection is closed, or silent.
async fn first_byte(host: &Host, say: &[u8], limit: Duration) -> Result<Option<u8>, ()> {
    let connected = timeout(limit, TcpStream::connect((host.name.as_str(), host.port))).await;
    let mut stream = connected.map_err(drop)?.map_err(drop)?;
    let talk = async {
        stream.write_all(say).await.ok()?;
        stream.read_u8().await.ok()
    };
    Ok(timeout(limit, talk).await.ok().flatten())
}

fn client_hello(host: &Host) -> Option<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.name.clone()).ok()?;
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut hello).ok()?;
    Some(hello)
}
