//! Who is live, who has acknowledged, and what reaches whom.

use super::*;

fn realm() -> RealmId {
    "eu-1".parse().unwrap()
}

fn hello(id: &str, directory: &str) -> Hello {
    Hello {
        id: id.parse().unwrap(),
        instance: InstanceId(uuid::Uuid::from_u128(1)),
        version: "0.1.0".into(),
        player_address: "127.0.0.1:7443".into(),
        tables: vec![],
        directory: directory.into(),
    }
}

fn gateways(live_for: Duration) -> Gateways {
    Gateways::new(Sessions::default(), live_for, live_for, vec![])
}

fn table(generation: u64) -> v1::RouteTable {
    v1::RouteTable { realm: "eu-1".into(), generation, ..Default::default() }
}

fn generation(message: Option<Result<v1::GatewayDirective, Status>>) -> Option<u64> {
    match message?.unwrap().message? {
        v1::gateway_directive::Message::Table(table) => Some(table.generation),
        _ => None,
    }
}

#[tokio::test]
async fn tables_are_pushed_and_an_older_one_never_follows_a_newer() {
    let gateways = gateways(Duration::from_secs(60));
    gateways.publish(&realm(), table(1));
    let mut opened = gateways.open(hello("gw-1", "embedded")).unwrap();
    gateways.publish(&realm(), table(3));
    gateways.publish(&realm(), table(2));
    gateways.publish(&realm(), table(4));
    for expected in [1, 3, 4] {
        assert_eq!(generation(opened.directives.recv().await), Some(expected));
    }
    assert_eq!(gateways.missing(&realm(), 4), ["gw-1".parse().unwrap()]);
    gateways.acknowledge(&"gw-1".parse().unwrap(), realm(), 4);
    gateways.acknowledge(&"gw-1".parse().unwrap(), realm(), 3);
    assert!(gateways.missing(&realm(), 4).is_empty());
}

#[test]
fn a_gateway_that_broke_off_is_missed_until_its_time_is_over() {
    let gateways = gateways(Duration::from_secs(60));
    let opened = gateways.open(hello("gw-1", "embedded")).unwrap();
    gateways.close(&"gw-1".parse().unwrap(), opened.number);
    assert_eq!(gateways.missing(&realm(), 1), ["gw-1".parse().unwrap()]);
    assert!(!gateways.observe(&realm())[0].connected);
    assert!(gateways.expire().is_empty());

    let gateways = Gateways::new(Sessions::default(), Duration::ZERO, Duration::ZERO, vec![]);
    let opened = gateways.open(hello("gw-1", "embedded")).unwrap();
    assert_eq!(gateways.missing(&realm(), 1).len(), 1, "connected is live");
    gateways.close(&"gw-1".parse().unwrap(), opened.number);
    assert!(gateways.missing(&realm(), 1).is_empty());
    assert_eq!(gateways.expire().len(), 1);
}

#[test]
fn a_remembered_gateway_is_waited_for() {
    let known = Remembered { id: "gw-1".parse().unwrap(), directory: "embedded".into() };
    let gateways = Gateways::new(Sessions::default(), Duration::from_secs(60), Duration::from_secs(60), vec![known]);
    assert_eq!(gateways.missing(&realm(), 1).len(), 1);
    assert!(!gateways.observe(&realm())[0].complete);
    assert!(matches!(gateways.open(hello("gw-2", "embedded")), Err(Refused::SecondEmbedded { .. })));
    gateways.open(hello("gw-1", "embedded")).unwrap();
}

#[test]
fn two_gateways_need_one_directory() {
    let gateways = gateways(Duration::from_secs(60));
    gateways.open(hello("gw-1", "redis://a")).unwrap();
    gateways.open(hello("gw-2", "redis://a")).unwrap();
    let refused = gateways.open(hello("gw-3", "redis://b")).unwrap_err();
    assert_eq!(refused.reason(), "OTHER_DIRECTORY");
    assert_eq!(gateways.open(hello("gw-3", "embedded")).unwrap_err().reason(), "SECOND_EMBEDDED_GATEWAY");
}

#[test]
fn a_new_stream_of_the_same_gateway_replaces_the_old_one() {
    let gateways = gateways(Duration::from_secs(60));
    let id: GatewayId = "gw-1".parse().unwrap();
    let old = gateways.open(hello("gw-1", "embedded")).unwrap();
    let new = gateways.open(hello("gw-1", "embedded")).unwrap();
    assert!(!gateways.is_current(&id, old.number) && gateways.is_current(&id, new.number));
    gateways.close(&id, old.number);
    assert!(gateways.is_current(&id, new.number));
}

#[test]
fn a_second_process_under_the_same_id_waits_until_the_first_is_gone() {
    let gateways = gateways(Duration::from_secs(60));
    let second = Hello { instance: InstanceId(uuid::Uuid::from_u128(2)), ..hello("gw-1", "embedded") };
    let first = gateways.open(hello("gw-1", "embedded")).unwrap();
    assert_eq!(gateways.open(second.clone()).unwrap_err().reason(), "GATEWAY_ID_TAKEN");
    assert!(gateways.is_current(&"gw-1".parse().unwrap(), first.number), "the first is not disturbed");
    gateways.close(&"gw-1".parse().unwrap(), first.number);
    gateways.open(second).unwrap();
}

#[tokio::test]
async fn a_gateway_that_does_not_read_loses_its_stream() {
    let gateways = gateways(Duration::from_secs(60));
    let mut opened = gateways.open(hello("gw-1", "embedded")).unwrap();
    for n in 0..=OUTBOX as u64 {
        gateways.publish(&realm(), table(n));
    }
    let mut received = 0;
    while opened.directives.recv().await.is_some() {
        received += 1;
    }
    assert_eq!(received, OUTBOX);
}
