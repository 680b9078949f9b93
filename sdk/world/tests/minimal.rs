//! The example of the README, as a process of its own: it registers, serves, echoes, and hands its player over.

mod common;

use std::path::PathBuf;
use std::process::{Child, Command};

use common::{Bench, Running, Told, player};
use tidegate_proto::v1::{self, gateway_to_world as to_world, world_to_gateway as to_gateway};
use tidegate_world::Config;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `cargo test` builds the examples beside the tests; `cargo test --test minimal` alone does not.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join("minimal");
    if !path.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "-p", "tidegate-world", "--example", "minimal"]).status();
        assert!(built.unwrap().success());
    }
    path
}

fn spawn(config: &Config) -> Killed {
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let child = Command::new(program())
        .arg("1.2.3")
        .envs([
            ("TIDEGATE_MANAGER", config.manager.clone()),
            ("TIDEGATE_REALM", config.realm.to_string()),
            ("TIDEGATE_ENVIRONMENT", config.environment.to_string()),
            ("TIDEGATE_FLEET", config.fleet.to_string()),
            ("TIDEGATE_SERVER_ID", config.server.to_string()),
            ("TIDEGATE_BUILD", "1.2.3".to_owned()),
            ("TIDEGATE_LINK_LISTEN", "127.0.0.1:0".to_owned()),
            ("TIDEGATE_LINK_CA", text(&config.link_ca)),
            ("TIDEGATE_LINK_CERT", text(&config.link_cert)),
            ("TIDEGATE_LINK_KEY", text(&config.link_key)),
            ("TIDEGATE_ZONES", "town".to_owned()),
            ("TIDEGATE_INSTANCE_KINDS", String::new()),
            ("TIDEGATE_CAPACITY", "10".to_owned()),
            ("TIDEGATE_DATABASE", text(&config.database)),
        ])
        .spawn()
        .unwrap();
    Killed(child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minimal_world_works() {
    let mut bench = Bench::new().await;
    let mut links = Vec::new();
    let mut processes = Vec::new();
    for server in ["s-1", "s-2"] {
        processes.push(spawn(&bench.config(server)));
        let mut manager = bench.manager.registration().await;
        assert_eq!((manager.register.server_id.as_str(), manager.register.build.as_str()), (server, "1.2.3"));
        manager.serve().await;
        // What is known of a process: its address.
        let running = Running {
            server: server.to_owned(),
            link: manager.register.link_address.parse().unwrap(),
            told: std::sync::Arc::new(std::sync::Mutex::new(Told::default())),
            shutdown: tokio_util::sync::CancellationToken::new(),
            ended: tokio::spawn(async {}),
        };
        let mut gateway = bench.gateway(&running, 3000).await;
        gateway.roster().await;
        links.push((gateway, manager));
    }
    let (mut b, keep_b) = links.pop().unwrap();
    let (mut a, keep_a) = links.pop().unwrap();
    a.attached(1, &player(1), 1).await;
    a.game(1, "hello");
    a.hears("hello").await;
    let frozen = a.frozen(1, 1).await;
    assert_eq!(frozen.state, "hello");
    b.prepare(1, &player(1), 2, &frozen);
    assert!(matches!(b.control().await, to_gateway::Message::Prepared(_)));
    b.say(1, to_world::Message::Activate(v1::Activate { handle: 1, epoch: 2 }));
    assert!(matches!(b.control().await, to_gateway::Message::Activated(_)));
    a.say(1, to_world::Message::Release(v1::Release { handle: 1, epoch: 1 }));
    assert!(matches!(a.control().await, to_gateway::Message::Released(_)));
    b.game(1, "again");
    b.hears("again").await;
    b.say(1, to_world::Message::Leave(v1::Leave { handle: 1, epoch: 2, reason: "logout".into() }));
    assert!(matches!(b.control().await, to_gateway::Message::Left(_)));
    drop((keep_a, keep_b));
}
