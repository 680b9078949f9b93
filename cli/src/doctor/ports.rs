//! Ports: free, in use by the Tidegate that is meant to have them, or by somebody else.

use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use tidegate_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;
use crate::operator::{Context, Options};

/// The longest wait for whoever has a port to say who they are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Metrics of one process are a few hundred lines; who it is stands in each.
const PAGE_BYTES: u64 = 256 * 1024;

/// The gateway's ports.
pub(super) async fn gateway(config: &tidegate_gateway::Config) -> Vec<Finding> {
    const WHO: &str = "tidegate_gateway_";
    let mut findings = Vec::new();
    let bound = UdpSocket::bind(config.listen).map(drop);
    let taken = is_taken(&bound);
    let ours = taken && runs(&config.data_dir, config.listen).await;
    findings.push(port("gateway port (UDP)", "listen", config.listen, bound, ours));
    let bound = TcpListener::bind(config.metrics_listen).map(drop);
    let ours = is_taken(&bound) && page_of(config.metrics_listen).await.contains(WHO);
    findings.push(port("gateway metrics port", "metrics_listen", config.metrics_listen, bound, ours));
    findings
}

/// The manager's ports.
pub(super) async fn manager(config: &fleet_manager::Config, options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bound = TcpListener::bind(config.listen).map(drop);
    let ours = is_taken(&bound) && answers(config.listen, options).await;
    findings.push(port("manager port", "listen", config.listen, bound, ours));
    let bound = TcpListener::bind(config.metrics_listen).map(drop);
    let ours = is_taken(&bound) && page_of(config.metrics_listen).await.contains("tidegate_realms");
    findings.push(port("manager metrics port", "metrics_listen", config.metrics_listen, bound, ours));
    findings
}

/// TCP ports that both processes are told to take, if both are to run here.
pub(super) fn twice(gateway: &tidegate_gateway::Config, manager: &fleet_manager::Config) -> Option<Finding> {
    let theirs = [manager.listen, manager.metrics_listen];
    let both = theirs.into_iter().find(|address| clash(*address, gateway.metrics_listen))?;
    let what = format!("{both} is to be the gateway's metrics_listen and the fleet-manager's too");
    Some(Finding::warn("ports", what, "if both run on this machine, change one of them"))
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn is_taken(bound: &Result<()>) -> bool {
    bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn port(name: &str, key: &str, address: SocketAddr, bound: Result<()>, ours: bool) -> Finding {
    let Err(error) = bound else {
        let what = if address.port() == 0 { "a free one is taken".to_owned() } else { format!("{address} is free") };
        return Finding::ok(name, what);
    };
    match error.kind() {
        ErrorKind::AddrInUse if ours => Finding::ok(name, format!("{address} is in use by the one that runs")),
        ErrorKind::AddrInUse => Finding::fail(
            name,
            format!("{address} is in use by something else"),
            format!("see who has it (ss -lntup), or set another {key}"),
        ),
        ErrorKind::AddrNotAvailable => {
            Finding::fail(name, format!("{address} is no address of this machine"), format!("correct {key}"))
        }
        ErrorKind::PermissionDenied => Finding::fail(
            name,
            format!("{address} may not be used by this user"),
            format!("set {key} to a port above 1023, or grant CAP_NET_BIND_SERVICE"),
        ),
        _ => Finding::fail(name, format!("cannot listen on {address}: {error}"), format!("correct {key}")),
    }
}

/// The gateway of this folder says that it has the port, and is there.
async fn runs(data_dir: &Path, listen: SocketAddr) -> bool {
    let said = |file: &str| std::fs::read_to_string(data_dir.join(file)).ok()?.trim().parse::<SocketAddr>().ok();
    match (said("gateway.addr"), said("metrics.addr")) {
        (Some(player), Some(metrics)) => {
            player.port() == listen.port() && page_of(metrics).await.contains("tidegate_gateway_")
        }
        (None, _) | (_, None) => false,
    }
}

/// A fleet-manager answers there.
async fn answers(address: SocketAddr, options: &Options) -> bool {
    let options = Options { manager: format!("http://{}", reachable(address)), ..options.clone() };
    let ask = async {
        let context = Context::connect(&options).await?;
        context.call(context.routes().list_gateways(v1::ListGatewaysRequest {})).await
    };
    timeout(PATIENCE, ask).await.is_ok_and(|answer| answer.is_ok())
}

/// What is served as `/metrics`; empty if nothing.
async fn page_of(address: SocketAddr) -> String {
    let mut page = Vec::new();
    let read = async {
        let mut stream = TcpStream::connect(reachable(address)).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        stream.take(PAGE_BYTES).read_to_end(&mut page).await
    };
    // Whatever came in time is enough to see who it is.
    let _ = timeout(PATIENCE, read).await;
    String::from_utf8_lossy(&page).into_owned()
}

/// An address to ask at: a wildcard becomes loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
        address.set_ip(loopback);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn every_reason_says_what_to_set() {
        let address: SocketAddr = "127.0.0.1:7443".parse().unwrap();
        let taken = || Err(ErrorKind::AddrInUse.into());
        for (bound, ours, level, word) in [
            (Ok(()), false, Level::Ok, "free"),
            (taken(), true, Level::Ok, "in use by the one that runs"),
            (taken(), false, Level::Fail, "something else"),
            (Err(ErrorKind::AddrNotAvailable.into()), false, Level::Fail, "no address of this machine"),
            (Err(ErrorKind::PermissionDenied.into()), false, Level::Fail, "may not be used"),
            (Err(std::io::Error::other("odd")), false, Level::Fail, "odd"),
        ] {
            let found = port("it", "listen", address, bound, ours);
            assert!(found.level == level && found.what.contains(word), "{found:?}");
            assert_eq!(found.fix.contains("listen"), level == Level::Fail, "{found:?}");
        }
    }

    #[test]
    fn a_port_for_both_is_seen() {
        let mut gateway = tidegate_gateway::Config::default();
        let manager = fleet_manager::Config::default();
        assert_eq!(twice(&gateway, &manager), None);
        gateway.metrics_listen = format!("0.0.0.0:{}", manager.listen.port()).parse().unwrap();
        assert_eq!(twice(&gateway, &manager).map(|finding| finding.level), Some(Level::Warn));
    }
}
