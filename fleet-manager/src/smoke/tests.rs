//! The smoke tests against scripted world servers on real links.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use tidegate_link::accept::Listener;
use tidegate_link::{Event, Sender};
use tidegate_proto::v1::{self, GatewayToWorld, WorldToGateway, gateway_to_world as to, world_to_gateway as from};
use tidegate_types::{InstanceId, Timestamp};
use uuid::Uuid;

use super::*;
use crate::pki::Pki;
use crate::servers::plan::Occupancy;
use crate::servers::tls_name;

/// What a scripted server does otherwise than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Has seen the probe before, up to epoch 7.
    SeenBefore,
    /// Takes the probe only in its other zone.
    SavedIn(&'static str),
    RefusesPrepare,
    WrongDigest,
    OtherBuild,
    Hangs,
}

/// A world server of one seat, with just enough memory to object to what a gateway must not do.
async fn serve(listener: Listener, hello: v1::WorldHello, fault: Fault, zone: String) {
    while let Some(incoming) = listener.accept().await {
        let Ok((link, _)) = incoming.accept(hello.clone()).await else { continue };
        let (sender, mut receiver) = (link.sender, link.receiver);
        say(&sender, 0, from::Message::RosterEnd(v1::RosterEnd { highest_epoch: 0 }));
        say(&sender, 0, from::Message::Heartbeat(v1::Heartbeat { sequence: 1, players: 0 }));
        let mut seats: BTreeMap<u32, (&'static str, u64)> = BTreeMap::new();
        let mut batch: Vec<Event<GatewayToWorld>> = Vec::new();
        while receiver.recv(&mut batch).await.is_some() {
            for event in batch.drain(..) {
                let Event::Control { message: GatewayToWorld { message: Some(message) }, .. } = event else { continue };
                if let Some((handle, answer)) = answer(message, &mut seats, fault, &zone) {
                    say(&sender, handle, answer);
                }
            }
        }
        assert!(seats.is_empty(), "the probe was left behind: {seats:?}");
    }
}

fn say(sender: &Sender<WorldToGateway>, key: u32, message: from::Message) {
    sender.control(key, WorldToGateway { message: Some(message) }).unwrap();
}

fn answer(
    message: to::Message,
    seats: &mut BTreeMap<u32, (&'static str, u64)>,
    fault: Fault,
    zone: &str,
) -> Option<(u32, from::Message)> {
    let place = Some(v1::Place { zone: zone.to_owned(), instance: String::new() });
    let state = Bytes::from_static(b"a probe");
    match message {
        to::Message::Attach(attach) => {
            let identity = attach.identity.unwrap();
            assert!(identity.player.starts_with("probe:e2:") && identity.player == identity.character, "{identity:?}");
            let (handle, epoch) = (attach.handle, attach.epoch);
            let refuse = |reason: v1::RefusalReason, highest_epoch, place| {
                let refused =
                    v1::AttachRefused { handle, reason: reason.into(), highest_epoch, place, ..Default::default() };
                Some((handle, from::Message::AttachRefused(refused)))
            };
            match fault {
                Fault::Hangs => return None,
                Fault::SeenBefore if epoch <= 7 => return refuse(v1::RefusalReason::StaleEpoch, 7, None),
                Fault::SavedIn(zone) if attach.place.is_none() => {
                    let saved = v1::Place { zone: zone.to_owned(), instance: String::new() };
                    return refuse(v1::RefusalReason::WrongZone, 0, Some(saved));
                }
                _ => {}
            }
            seats.insert(handle, ("live", epoch));
            Some((handle, from::Message::Attached(v1::Attached { handle, epoch, place, ..v1::Attached::default() })))
        }
        to::Message::Freeze(v1::Freeze { handle, epoch }) => {
            assert_eq!(seats.insert(handle, ("frozen", epoch)), Some(("live", epoch)));
            let mut digest = blake3::hash(&state).as_bytes().to_vec();
            if fault == Fault::WrongDigest {
                digest[0] ^= 1;
            }
            Some((handle, from::Message::Frozen(v1::Frozen { handle, epoch, state, format: 2, digest })))
        }
        to::Message::Thaw(v1::Thaw { handle, epoch }) => {
            assert_eq!(seats.insert(handle, ("live", epoch)), Some(("frozen", epoch)));
            Some((handle, from::Message::Thawed(v1::Thawed { handle })))
        }
        to::Message::Prepare(prepare) => {
            let handle = prepare.handle;
            if fault == Fault::RefusesPrepare {
                let reason = v1::RefusalReason::Format.into();
                let refused = v1::PrepareRefused { handle, reason, message: "unknown item".to_owned() };
                return Some((handle, from::Message::PrepareRefused(refused)));
            }
            assert_eq!((&prepare.state, prepare.place), (&state, place));
            assert_eq!(seats.insert(handle, ("prepared", prepare.epoch)), None);
            Some((handle, from::Message::Prepared(v1::Prepared { handle })))
        }
        to::Message::Activate(v1::Activate { handle, epoch }) => {
            assert_eq!(seats.insert(handle, ("live", epoch)), Some(("prepared", epoch)));
            Some((handle, from::Message::Activated(v1::Activated { handle, epoch, place })))
        }
        to::Message::Abort(v1::Abort { handle }) => {
            assert_eq!(seats.remove(&handle).map(|(phase, _)| phase), Some("prepared"));
            Some((handle, from::Message::Aborted(v1::Aborted { handle })))
        }
        to::Message::Release(v1::Release { handle, epoch }) => {
            assert_eq!(seats.remove(&handle), Some(("frozen", epoch)));
            Some((handle, from::Message::Released(v1::Released { handle })))
        }
        to::Message::Leave(v1::Leave { handle, epoch, .. }) => {
            assert_eq!(seats.remove(&handle), Some(("live", epoch)));
            Some((handle, from::Message::Left(v1::Left { handle })))
        }
        _ => None,
    }
}

/// Runs the smoke tests against servers with these zones and faults. One line a check.
async fn lines(servers: &[(&str, Fault)], within: Duration) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), &[]).unwrap();
    let (mut views, mut tasks) = (Vec::new(), Vec::new());
    for (i, (zone, fault)) in servers.iter().enumerate() {
        let (view, listener) = listening(&pki, &format!("e2-{zone}-{}", i + 1), zone, dir.path());
        let hello = v1::WorldHello {
            server_id: view.id.to_string(),
            server_instance: view.instance.unwrap().to_vec(),
            environment_id: "e2".to_owned(),
            build: if *fault == Fault::OtherBuild { "1.9.0" } else { "2.0.0" }.to_owned(),
        };
        views.push(view);
        tasks.push(tokio::spawn(serve(listener, hello, *fault, (*zone).to_owned())));
    }
    let request = Request {
        realm: "eu-1".parse().unwrap(),
        environment: "e2".parse().unwrap(),
        build: "2.0.0".parse().unwrap(),
        servers: views,
        within,
    };
    let checks = run(request, pki.manager_identity()).await;
    assert_eq!(checks.iter().map(|check| check.name).collect::<Vec<_>>(), NAMES);
    assert_eq!(passed(&checks), !checks.iter().any(|check| matches!(check.outcome, Outcome::Failed(_))));
    for task in tasks {
        task.abort();
        if let Err(error) = task.await {
            assert!(!error.is_panic(), "a server had to object");
        }
    }
    let line = |check: Check| match check.outcome {
        Outcome::Passed => format!("{}: ok", check.name),
        Outcome::Skipped(why) => format!("{}: skipped, {why}", check.name),
        Outcome::Failed(why) => format!("{}: failed, {why}", check.name),
    };
    checks.into_iter().map(line).collect()
}

fn listening(pki: &Pki, id: &str, zone: &str, data_dir: &Path) -> (ServerView, Listener) {
    let id: ServerId = id.parse().unwrap();
    let files = pki.server_files(&id).unwrap();
    let identity = Identity::load(&files.ca, &files.cert, &files.key).unwrap();
    let listener = Listener::bind(&identity, "127.0.0.1:0".parse().unwrap()).unwrap();
    let view = ServerView {
        environment: "e2".parse().unwrap(),
        realm: "eu-1".parse().unwrap(),
        fleet: zone.parse().unwrap(),
        instance: Some(InstanceId(Uuid::new_v4())),
        state: ServerState::Ready,
        pid: Some(1),
        link_address: listener.local_addr().to_string(),
        tls_name: tls_name(&id),
        build_expected: "2.0.0".parse().unwrap(),
        build_reported: Some("2.0.0".parse().unwrap()),
        build_ok: Some(true),
        digest_ok: Some(true),
        zones: vec![zone.parse().unwrap()],
        instance_kinds: Vec::new(),
        capacity: 10,
        state_formats_read: vec![1, 2],
        state_format_write: 2,
        players: 0,
        parked: 0,
        in_handover: 0,
        population: BTreeMap::new(),
        tick_us: 0,
        occupancy: Occupancy::Empty,
        restarts: 0,
        reason: String::new(),
        log_path: data_dir.join("log"),
        since: Timestamp(0),
        last_report: None,
        retiring: false,
        id,
    };
    (view, listener)
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_good_environment_passes_every_check() {
    for servers in [
        [("moor", Fault::None), ("town", Fault::None)],
        [("town", Fault::None), ("town", Fault::None)],
        [("moor", Fault::SeenBefore), ("town", Fault::SeenBefore)],
        [("moor", Fault::SavedIn("town")), ("town", Fault::None)],
        [("moor", Fault::SavedIn("nowhere")), ("town", Fault::None)],
    ] {
        let lines = lines(&servers, LONG).await;
        assert!(lines.iter().all(|line| line.ends_with(": ok")), "{servers:?}: {lines:#?}");
    }
}

#[tokio::test]
async fn with_one_server_what_cannot_be_tried_says_so() {
    let lines = lines(&[("town", Fault::None)], LONG).await;
    assert_eq!(lines[3], "zone change: skipped, the environment has one server: there is nowhere to go");
    assert_eq!(lines[4], "probe state: skipped, the environment has one server: frozen and thawed, not loaded");
    assert_eq!(lines[5], "leave: ok");
}

#[tokio::test]
async fn a_fault_is_named_and_what_follows_is_not_tried() {
    let refuses = lines(&[("moor", Fault::None), ("town", Fault::RefusesPrepare)], LONG).await;
    assert_eq!(refuses[3], "zone change: failed, e2-town-2 refused the probe's state: format: unknown item");
    assert_eq!(refuses[4], "probe state: skipped, not tried: zone change failed");
    let lies = lines(&[("moor", Fault::WrongDigest), ("town", Fault::None)], LONG).await;
    assert_eq!(lies[3], "zone change: failed, e2-moor-1 froze a state that does not match its digest");
    let other = lines(&[("moor", Fault::None), ("town", Fault::OtherBuild)], LONG).await;
    assert!(other[1].starts_with("links: failed, e2-town-2: ") && other[1].contains("build \"1.9.0\""), "{}", other[1]);
    let none = lines(&[], LONG).await;
    assert_eq!(none[0], "servers ready: failed, the environment has no servers");
}

#[tokio::test]
async fn a_server_that_hangs_does_not_hang_the_test() {
    let lines = lines(&[("moor", Fault::Hangs)], Duration::from_millis(700)).await;
    // On a slow machine the time may be over before the login.
    let over = lines.iter().filter(|line| line.ends_with("failed, not done when all 700 ms were over")).count();
    assert_eq!(over, 1, "{lines:#?}");
}
