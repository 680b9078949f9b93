//! Who is live, who has acknowledged, and what reaches whom.

use tidegate_types::SessionId;

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
        started: Timestamp(1),
    }
}

fn gateways(live_for: Duration) -> Gateways {
    Gateways::new(Sessions::default(), live_for, live_for, vec![])
}

fn table(generation: u64) -> v1::RouteTable {
    v1::RouteTable { realm: "eu-1".into(), generation, ..Default::default() }
}

/// The generation of the next table; what comes between is passed over.
async fn next_table(heard: &mut Opened) -> u64 {
    loop {
        let message = heard.directives.recv().await.expect("the stream is open").unwrap().message;
        if let Some(v1::gateway_directive::Message::Table(table)) = message {
            return table.generation;
        }
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
        assert_eq!(next_table(&mut opened).await, expected);
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
    assert!(gateways.look(&ServersView::default()).is_empty());

    let gateways = Gateways::new(Sessions::default(), Duration::ZERO, Duration::ZERO, vec![]);
    let opened = gateways.open(hello("gw-1", "embedded")).unwrap();
    assert_eq!(gateways.missing(&realm(), 1).len(), 1, "connected is live");
    gateways.close(&"gw-1".parse().unwrap(), opened.number);
    assert!(gateways.missing(&realm(), 1).is_empty());
    assert_eq!(gateways.look(&ServersView::default()).len(), 1);
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
    gateways.open(hello("gw-2", "redis://me:secret@A:6379/0")).unwrap();
    let refused = gateways.open(hello("gw-3", "redis://me:secret@b")).unwrap_err();
    assert_eq!(refused.reason(), "OTHER_DIRECTORY");
    let line = refused.to_string();
    assert!(line.contains("redis://me@b") && line.contains("redis://a") && !line.contains("secret"), "{line}");
    let refused = gateways.open(hello("gw-3", "embedded")).unwrap_err();
    assert_eq!(refused.reason(), "SECOND_EMBEDDED_GATEWAY");
    assert!(refused.to_string().contains("gw-3 keeps its session directory in its own memory"), "{refused}");
    assert!(refused.advice().contains("directory = \"redis://"), "{}", refused.advice());
    assert_eq!(gateways.missing(&realm(), 1).len(), 2, "the refused ones do not count");
}

#[test]
fn a_gateway_that_comes_with_a_shared_directory_waits_for_one_with_its_own_to_go() {
    let gateways = gateways(Duration::from_secs(60));
    let first = gateways.open(hello("gw-1", "embedded")).unwrap();
    let refused = gateways.open(hello("gw-2", "redis://a")).unwrap_err();
    assert!(refused.to_string().contains("gw-1 keeps its session directory in its own memory"), "{refused}");
    gateways.close(&id("gw-1"), first.number);
    assert!(gateways.open(hello("gw-2", "redis://a")).is_err(), "it may be serving players behind a broken stream");
    gateways.open(hello("gw-1", "redis://a")).unwrap();
    gateways.open(hello("gw-2", "redis://a")).unwrap();
}

#[test]
fn a_flip_waits_for_every_gateway_and_not_for_ever_for_one_that_died() {
    let gateways = gateways(Duration::from_millis(20));
    let opened = ["gw-1", "gw-2", "gw-3"].map(|id| gateways.open(hello(id, "redis://a")).unwrap());
    gateways.publish(&realm(), table(7));
    for (acked, left) in [("gw-1", 2), ("gw-3", 1)] {
        gateways.acknowledge(&id(acked), realm(), 7);
        assert_eq!(gateways.missing(&realm(), 7).len(), left);
    }
    gateways.close(&id("gw-2"), opened[1].number);
    assert_eq!(gateways.missing(&realm(), 7), [id("gw-2")], "it may be behind a broken stream");
    while !gateways.missing(&realm(), 7).is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(gateways.given_up_on(&realm(), 7), [id("gw-2")]);
    assert!(!gateways.list()[1].live);
}

fn list(heard: &mut Opened) -> Option<Vec<String>> {
    let mut listed = None;
    while let Ok(message) = heard.directives.try_recv() {
        if let Some(v1::gateway_directive::Message::Gateways(list)) = message.unwrap().message {
            listed = Some(list.player_addresses);
        }
    }
    listed
}

fn at(id: &str, player_address: &str) -> Hello {
    Hello { player_address: player_address.into(), ..hello(id, "redis://a") }
}

fn stopping(sessions: u32) -> v1::GatewayLoad {
    v1::GatewayLoad { stopping: true, sessions, ..v1::GatewayLoad::default() }
}

#[test]
fn every_gateway_hears_where_players_find_them_all() {
    let gateways = gateways(Duration::from_secs(60));
    let mut second = gateways.open(at("gw-2", "b:1")).unwrap();
    assert_eq!(list(&mut second).unwrap(), ["b:1"]);
    let mut first = gateways.open(at("gw-1", "a:1")).unwrap();
    assert_eq!(
        (list(&mut first).unwrap(), list(&mut second).unwrap()),
        (vec!["a:1".into(), "b:1".into()], vec!["a:1".to_owned(), "b:1".into()])
    );
    gateways.load(&id("gw-1"), v1::GatewayLoad::default());
    assert_eq!(list(&mut second), None, "nothing has changed");
    // A new stream is told although nothing has changed for the others.
    let mut again = gateways.open(at("gw-2", "b:1")).unwrap();
    assert_eq!((list(&mut again).unwrap().len(), list(&mut first)), (2, None));
    gateways.load(&id("gw-1"), stopping(1));
    assert_eq!(
        (list(&mut again).unwrap(), list(&mut first).unwrap()),
        (vec!["b:1".to_owned()], vec!["b:1".to_owned()])
    );
    // Gone for a moment: a broken stream is not the end.
    gateways.close(&id("gw-2"), again.number);
    assert_eq!(list(&mut first), None);
}

#[test]
fn after_a_restart_players_are_not_told_of_fewer_gateways_than_there_are() {
    let known = ["gw-1", "gw-2"].map(|id| Remembered { id: id.parse().unwrap(), directory: "redis://a".into() });
    let minute = Duration::from_secs(60);
    let gateways = Gateways::new(Sessions::default(), minute, minute, known.into());
    let mut first = gateways.open(at("gw-1", "a:1")).unwrap();
    assert_eq!(list(&mut first), None);
    let _second = gateways.open(at("gw-2", "b:1")).unwrap();
    assert_eq!(list(&mut first).unwrap(), ["a:1", "b:1"]);
}

#[test]
fn one_that_has_stopped_with_nobody_left_is_not_waited_for() {
    let gateways = gateways(Duration::from_secs(60));
    let opened = gateways.open(hello("gw-1", "redis://a")).unwrap();
    gateways.load(&id("gw-1"), stopping(0));
    assert_eq!(gateways.missing(&realm(), 1), [id("gw-1")], "it counts until it is gone");
    gateways.sessions.begin(&id("gw-1"));
    gateways.sessions.end(&id("gw-1"));
    gateways.close(&id("gw-1"), opened.number);
    assert!(gateways.missing(&realm(), 1).is_empty());
    assert_eq!(gateways.look(&ServersView::default()), [id("gw-1")]);

    let opened = gateways.open(hello("gw-2", "redis://a")).unwrap();
    gateways.load(&id("gw-2"), stopping(1));
    gateways.sessions.begin(&id("gw-2"));
    gateways.sessions.put(&id("gw-2"), row(1, 1)).unwrap();
    gateways.sessions.end(&id("gw-2"));
    gateways.close(&id("gw-2"), opened.number);
    assert_eq!(gateways.missing(&realm(), 1), [id("gw-2")], "somebody is left");
    assert!(gateways.look(&ServersView::default()).is_empty());
}

#[test]
fn a_gateway_that_is_gone_is_given_up_once_its_sessions_are_and_not_before_it_knew_of_the_flip() {
    let minute = Duration::from_secs(60);
    // No realm has a grace time here, so patience is the lease's alone; nothing is live longer than that.
    let gateways = Gateways::new(Sessions::default(), Duration::ZERO, minute, vec![]);
    gateways.publish(&realm(), table(3));
    let mut behind = gateways.open(hello("gw-1", "redis://a")).unwrap();
    let done = gateways.open(hello("gw-2", "redis://a")).unwrap();
    gateways.acknowledge(&id("gw-2"), realm(), 3);
    gateways.close(&id("gw-1"), behind.number);
    gateways.close(&id("gw-2"), done.number);
    let long_ago = Instant::now().checked_sub(LEASE * 2).expect("the machine runs for longer");
    gateways.lock().gateways.values_mut().for_each(|gateway| gateway.last_seen = long_ago);
    assert_eq!(gateways.look(&ServersView::default()), [id("gw-2")]);
    behind = gateways.open(hello("gw-1", "redis://a")).unwrap();
    gateways.acknowledge(&id("gw-1"), realm(), 3);
    gateways.sessions.put(&id("gw-1"), row(1, 1)).unwrap();
    gateways.close(&id("gw-1"), behind.number);
    gateways.lock().gateways.values_mut().for_each(|gateway| gateway.last_seen = long_ago);
    assert!(gateways.look(&ServersView::default()).is_empty(), "its session may be anywhere");
    gateways.open(hello("gw-3", "redis://a")).unwrap();
    gateways.sessions.put(&id("gw-3"), row(1, 2)).unwrap();
    assert_eq!(gateways.look(&ServersView::default()), [id("gw-1")]);
    assert!(gateways.sessions.get(session(1)).is_some());
}

fn id(id: &str) -> GatewayId {
    id.parse().unwrap()
}

fn session(n: u128) -> SessionId {
    SessionId(uuid::Uuid::from_u128(n))
}

fn row(n: u128, epoch: u64) -> v1::SessionRow {
    let session_id = session(n).to_vec();
    v1::SessionRow { session_id, realm: "eu-1".into(), player: format!("p{n}"), epoch, ..v1::SessionRow::default() }
}

fn kick(sessions: &[u128]) -> v1::SessionCommand {
    v1::SessionCommand {
        command_id: "c".into(),
        realm: "eu-1".into(),
        session_ids: sessions.iter().map(|n| session(*n).to_vec()).collect(),
        action: Some(v1::session_command::Action::Kick(v1::KickSessions::default())),
    }
}

/// The sessions of every command that a gateway was told since it was last asked.
fn told(heard: &mut Opened) -> Vec<Vec<u8>> {
    let mut sessions = Vec::new();
    while let Ok(message) = heard.directives.try_recv() {
        if let Some(v1::gateway_directive::Message::Command(command)) = message.unwrap().message {
            sessions.extend(command.session_ids);
        }
    }
    sessions
}

fn answer(n: u128, outcome: &str) -> v1::CommandResult {
    let (command_id, session_id) = ("c".to_owned(), session(n).to_vec());
    v1::CommandResult { command_id, session_id, outcome: outcome.to_owned(), message: String::new() }
}

impl Gateways {
    /// A gateway reports a row, as its stream does.
    fn report(&self, from: &str, n: u128, epoch: u64) {
        if self.sessions.put(&id(from), row(n, epoch)).unwrap() == crate::sessions::Put::Taken {
            self.taken(&id(from), session(n));
        }
    }
}

#[tokio::test]
async fn a_command_follows_its_session_to_another_gateway() {
    let gateways = gateways(Duration::from_secs(60));
    let [mut old, mut new] = ["gw-1", "gw-2"].map(|id| gateways.open(hello(id, "redis://a")).unwrap());
    for n in 1..=3 {
        gateways.report("gw-1", n, 1);
    }
    let mut results = gateways.command(&kick(&[1, 2, 3]));
    assert_eq!((results.sent, told(&mut old).len(), told(&mut new).len()), (3, 3, 0));
    gateways.result(&id("gw-1"), answer(1, "done"));
    assert_eq!(results.next().await.unwrap().outcome, "done");
    // One is answered for, one is taken over before its answer, one after the old holder's word that it has it no more.
    gateways.report("gw-2", 1, 2);
    gateways.report("gw-2", 2, 2);
    assert_eq!(told(&mut new), [session(2).to_vec()]);
    gateways.result(&id("gw-1"), answer(2, UNKNOWN));
    gateways.result(&id("gw-1"), answer(3, UNKNOWN));
    assert_eq!(results.next().await.unwrap(), answer(3, UNKNOWN), "the one of the session that moved is old news");
    gateways.report("gw-2", 3, 2);
    gateways.report("gw-2", 3, 3);
    assert_eq!(told(&mut new), [session(3).to_vec()], "once");
    for n in [2, 3] {
        gateways.result(&id("gw-2"), answer(n, "done"));
        assert_eq!(results.next().await.unwrap(), answer(n, "done"));
    }
    gateways.report("gw-1", 3, 4);
    assert!(told(&mut old).is_empty(), "it is done");
}

#[test]
fn a_command_waits_for_sessions_that_nobody_holds_unless_it_is_taken_back() {
    let gateways = gateways(Duration::from_secs(60));
    let [dead, mut new] = ["gw-1", "gw-2"].map(|id| gateways.open(hello(id, "redis://a")).unwrap());
    gateways.report("gw-1", 1, 1);
    gateways.close(&id("gw-1"), dead.number);
    let results = gateways.command(&kick(&[1]));
    assert_eq!(results.sent, 0);
    // Nobody waits for the results of a drain's commands.
    drop(results);
    gateways.report("gw-2", 1, 2);
    assert_eq!(told(&mut new), [session(1).to_vec()]);

    gateways.report("gw-2", 2, 1);
    gateways.close(&id("gw-2"), new.number);
    gateways.command(&kick(&[2])).cancel();
    let mut third = gateways.open(hello("gw-3", "redis://a")).unwrap();
    gateways.report("gw-3", 2, 2);
    assert!(told(&mut third).is_empty());
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
