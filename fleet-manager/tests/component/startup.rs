//! What keeps a fleet-manager from starting is said in one line that names the key or the file, before anything runs.

use fleet_manager::{Config, Service, ServiceError};

use crate::harness::{Fleet, config};

async fn refusal(config: Config) -> String {
    let line = Service::new(config).await.map(|_| ()).expect_err("is refused").to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let line = refusal(Config { listen: address, ..config(dir.path()) }).await;
    assert!(line.starts_with("listen: ") && line.contains(&address.to_string()), "{line}");
    let line = refusal(Config { metrics_listen: address, ..config(dir.path()) }).await;
    assert!(line.starts_with("metrics_listen: "), "{line}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let line = refusal(config(&file.join("below"))).await;
    assert!(line.starts_with("data_dir: ") && line.contains("file/below"), "{line}");

    let folder = dir.path().join("data");
    let running = Fleet::start(&folder).await;
    let line = refusal(config(&folder)).await;
    assert!(line.contains("another fleet-manager"), "{line}");
    running.stop().await;
    Fleet::start(&folder).await.stop().await;
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("manager.db");
    let rubbish = "rubbish ".repeat(1000);
    std::fs::write(&database, &rubbish).unwrap();
    let line = refusal(config(dir.path())).await;
    assert!(line.contains("manager.db"), "{line}");
    assert_eq!(std::fs::read_to_string(&database).unwrap(), rubbish);

    // With a copy beside it, it was this manager's once.
    let copy = dir.path().join("backups/manager-v2-20260101T000000000Z.db");
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    std::fs::write(&copy, b"").unwrap();
    let damaged = Service::new(config(dir.path())).await.map(|_| ()).expect_err("is refused");
    assert!(matches!(damaged, ServiceError::Damaged { .. }), "{damaged:?}");
    let restore =
        format!("cp {} {}", copy.canonicalize().unwrap().display(), database.canonicalize().unwrap().display());
    assert!(damaged.to_string().ends_with(&restore), "{damaged}");
    assert_eq!(std::fs::read_to_string(&database).unwrap(), rubbish);
}

#[tokio::test]
async fn a_first_start_makes_keys_and_says_where_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Fleet::start(dir.path()).await;
    let tickets =
        ["login.key", "login.pub", "keys/development.toml", "resume.key"].map(|name| format!("tickets/{name}"));
    let others = ["manager.db", "pki/ca.pem", "pki/gateway.pem", "pki/manager.pem"];
    for file in others.into_iter().chain(tickets.iter().map(String::as_str)) {
        assert!(dir.path().join(file).is_file(), "{file}");
    }
    let address = std::fs::read_to_string(dir.path().join("manager.addr")).unwrap();
    assert_eq!(address, manager.address.to_string());
    let key = std::fs::read(dir.path().join("tickets/login.key")).unwrap();
    let resume = std::fs::read(dir.path().join("tickets/resume.key")).unwrap();
    manager.stop().await;
    // An operator has replaced the development key by one of their own.
    std::fs::remove_file(dir.path().join("tickets/keys/development.toml")).unwrap();
    let manager = Fleet::start(dir.path()).await;
    assert_eq!(std::fs::read(dir.path().join("tickets/login.key")).unwrap(), key, "keys are kept");
    assert_eq!(std::fs::read(dir.path().join("tickets/resume.key")).unwrap(), resume, "keys are kept");
    assert!(!dir.path().join("tickets/keys/development.toml").exists(), "what was taken out stays out");
    manager.stop().await;
}
