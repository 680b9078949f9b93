//! What is wrong is said before anything runs: one line that begins with the configuration's key.

use tidegate_gateway::{Config, Service};

use crate::support::gateway::TestGateway;

fn problem(change: impl FnOnce(&mut Config)) -> String {
    let gateway = TestGateway::prepare();
    let mut config = gateway.config.clone();
    change(&mut config);
    match Service::new(config) {
        Ok(_) => panic!("it started"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn every_start_up_error_is_one_line_with_its_key() {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let lines = [
        ("listen", problem(|c| c.listen = udp.local_addr().unwrap())),
        ("metrics_listen", problem(|c| c.metrics_listen = tcp.local_addr().unwrap())),
        ("data_dir", problem(|c| c.data_dir = file.path().to_owned())),
        ("pki_dir", problem(|c| c.pki_dir = empty.path().to_owned())),
        ("ticket_keys", problem(|c| c.ticket_keys = empty.path().join("none"))),
        ("ticket_keys", problem(|c| c.ticket_keys = file.path().to_owned())),
        ("ticket_keys", problem(|c| c.ticket_keys = empty.path().to_owned())),
        ("resume_key", problem(|c| c.resume_key = Some(file.path().to_owned()))),
        ("manager", problem(|c| c.manager = "not a url".into())),
    ];
    for (key, line) in lines {
        assert!(line.starts_with(&format!("{key}: ")), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn one_folder_is_one_gateways() {
    let gateway = TestGateway::prepare();
    let first = Service::new(gateway.config.clone()).unwrap();
    let Err(second) = Service::new(gateway.config.clone()) else { panic!("it started") };
    let line = second.to_string();
    assert!(line.starts_with("data_dir: ") && line.ends_with("another gateway uses this folder"), "{line}");
    drop(first);
    Service::new(gateway.config.clone()).unwrap();
}

#[tokio::test]
async fn a_gateway_that_does_not_run_can_be_dropped_on_a_runtime() {
    let gateway = TestGateway::prepare();
    let service = Service::new(gateway.config.clone()).unwrap();
    let address = service.player_addr();
    let written = std::fs::read_to_string(gateway.data().join("gateway.addr")).unwrap();
    assert_eq!(written, address.to_string());
    drop(service);
    // The port is free again.
    std::net::UdpSocket::bind(address).unwrap();
}
