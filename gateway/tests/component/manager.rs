//! The manager comes and goes; players do not notice, and the manager learns everything again.

use tidegate_proto::v1::{self, gateway_directive, gateway_report};

use crate::support::player::TestPlayer;
use crate::support::{Scene, eventually, manager};

#[tokio::test(flavor = "multi_thread")]
async fn players_are_served_without_the_manager_and_the_manager_learns_all_again() {
    let scene = Scene::start().await;
    let Scene { manager, gateway, town, forest } = scene;
    let (mut anna, _) = TestPlayer::login(&gateway, "anna").await;
    eventually("anna's row", || manager.row("anna")).await;

    manager.kill();
    anna.game("alone").await;
    assert_eq!(anna.echo().await, "alone");
    let (mut bert, _) = TestPlayer::login(&gateway, "bert").await;
    let goodbye = prost::Message::encode_to_vec(&v1::Goodbye { reason: "logout".into(), message: String::new() });
    bert.frame(tidegate_proto::frame::player::GOODBYE, &goodbye).await;
    bert.closed().await;
    let (_carl, _) = TestPlayer::login(&gateway, "carl").await;

    let manager = manager.restart().await;
    let count = manager.report("the full list", |report| match report {
        gateway_report::Message::SessionsEnd(end) => Some(end.count),
        _ => None,
    });
    assert_eq!(count.await, 2);
    let reports = manager.reports();
    assert!(matches!(&reports[0], gateway_report::Message::Hello(hello) if hello.tables.len() == 1));
    // What ended meanwhile is told before the list that does not have it any more.
    let begin = reports.iter().position(|r| matches!(r, gateway_report::Message::SessionsBegin(_))).unwrap();
    let gone = reports.iter().position(|r| matches!(r, gateway_report::Message::SessionGone(_))).unwrap();
    assert!(gone < begin);
    assert!(manager.row("anna").is_some() && manager.row("carl").is_some() && manager.row("bert").is_none());
    manager.acked(1).await;
    drop((town, forest));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_can_ask_for_everything_again() {
    let scene = Scene::start().await;
    let (_anna, _) = TestPlayer::login(&scene.gateway, "anna").await;
    eventually("anna's row", || scene.manager.row("anna")).await;
    let ends =
        || scene.manager.reports().iter().filter(|r| matches!(r, gateway_report::Message::SessionsEnd(_))).count();
    let before = ends();
    scene.manager.direct(gateway_directive::Message::Resend(v1::ResendSessions {}));
    eventually("another full list", || (ends() > before).then_some(())).await;
    assert!(scene.manager.row("anna").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_with_the_last_table_when_the_manager_is_gone() {
    let scene = Scene::start().await;
    let Scene { manager, mut gateway, town, forest } = scene;
    gateway.stop().await;
    manager.kill();
    // A damaged table of another realm is ignored.
    std::fs::write(gateway.data().join("tables/us-1.bin"), b"torn").unwrap();
    gateway.start().await;
    let (mut anna, welcome) = TestPlayer::login(&gateway, "anna").await;
    assert_eq!((welcome.server_id.as_str(), welcome.generation), ("w1", 1));
    anna.game("alone").await;
    assert_eq!(anna.echo().await, "alone");
    drop((town, forest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_the_manager_refuses_leaves_the_worlds_alone() {
    let scene = Scene::start().await;
    let Scene { manager, mut gateway, town, forest } = scene;
    gateway.stop().await;
    eventually("the links' end", || (town.links() == 0 && forest.links() == 0).then_some(())).await;
    manager.refuse(true);
    gateway.start().await;
    eventually("two refusals", || (manager.refusals() >= 2).then_some(())).await;
    assert_eq!((town.links(), forest.links()), (0, 0), "it follows the table on its disk");
    manager.refuse(false);
    eventually("both links", || (town.links() == 1 && forest.links() == 1).then_some(())).await;
    let (_anna, welcome) = TestPlayer::login(&gateway, "anna").await;
    assert_eq!(welcome.server_id, "w1");
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_directives_are_ignored() {
    let scene = Scene::start().await;
    let bad = v1::RouteTable { accepting: "nowhere".into(), ..scene.table(9) };
    scene.manager.direct(gateway_directive::Message::Table(bad));
    scene.manager.direct(gateway_directive::Message::Command(v1::SessionCommand::default()));
    scene.manager.direct(gateway_directive::Message::ServerDead(v1::ServerDead::default()));
    // An older table as well.
    scene.manager.direct(gateway_directive::Message::Table(scene.table(0)));
    scene.manager.publish(scene.table(2));
    scene.manager.acked(2).await;
    let (_anna, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    assert_eq!(welcome.generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_one_realm_never_reach_another() {
    let scene = Scene::start().await;
    let other = crate::support::world::FakeWorld::start_in(&scene.gateway, "azure", "u1", &["town"]).await;
    scene.manager.publish(manager::table("us-1", 1, "azure", &[("azure", &[&other])]));
    eventually("the other realm's link", || (other.links() == 1).then_some(())).await;
    let (_anna, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    assert_eq!(welcome.server_id, "w1");
    // The same name, another realm: another player.
    let ticket = scene.gateway.ticket_with("anna", |claims| claims.realm = "us-1".parse().unwrap());
    let mut abroad = TestPlayer::connect(&scene.gateway).await;
    abroad.hello(v1::Hello { realm: "us-1".into(), ..crate::support::player::login(ticket) }).await;
    assert_eq!(abroad.welcome().await.server_id, "u1");
    abroad.game("abroad").await;
    assert_eq!(abroad.echo().await, "abroad");
    assert!(scene.town.seat("anna").unwrap().1.log.is_empty());
    // A ticket of one realm does not open the other.
    let mut smuggler = TestPlayer::connect(&scene.gateway).await;
    let hello = crate::support::player::login(scene.gateway.ticket("bert"));
    smuggler.hello(v1::Hello { realm: "us-1".into(), ..hello }).await;
    assert_eq!(smuggler.refused().await.reason, "wrong_realm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_world_servers_players_wait_and_go_on_elsewhere() {
    let scene = Scene::start().await;
    let (mut anna, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    anna.game("one").await;
    assert_eq!(anna.echo().await, "one");
    let twin = crate::support::world::FakeWorld::start(&scene.gateway, "w3", &["town"]).await;
    scene.town.kill();
    scene.manager.direct(gateway_directive::Message::ServerDead(v1::ServerDead {
        server_id: "w1".into(),
        instance: scene.town.instance(),
    }));
    scene.manager.publish(manager::table("eu-1", 2, "blue", &[("blue", &[&scene.forest, &twin])]));
    let moved = loop {
        let frame = anna.next().await.unwrap();
        if frame.kind == tidegate_proto::frame::player::MOVED {
            break <v1::Moved as prost::Message>::decode(frame.body).unwrap();
        }
    };
    assert_eq!((moved.server_id.as_str(), moved.cause()), ("w3", v1::Cause::Crash));
    assert!(moved.epoch > welcome.epoch);
    anna.game("two").await;
    assert_eq!(anna.echo().await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_are_notified_and_kicked_on_an_operators_word() {
    use prost::Message;
    use tidegate_proto::v1::session_command::Action;
    let scene = Scene::start().await;
    let (mut anna, welcome) = TestPlayer::login(&scene.gateway, "anna").await;
    let command = |id: &str, action| {
        gateway_directive::Message::Command(v1::SessionCommand {
            command_id: id.into(),
            realm: "eu-1".into(),
            session_ids: vec![welcome.session_id.clone()],
            action: Some(action),
        })
    };
    let notify = v1::NotifySessions { text: "the tide rises".into(), remaining_ms: 5_000 };
    scene.manager.direct(command("c1", Action::Notify(notify)));
    let notice = v1::Notice::decode(anna.expect(tidegate_proto::frame::player::NOTICE).await).unwrap();
    assert_eq!((notice.text.as_str(), notice.remaining_ms), ("the tide rises", 5_000));
    let kick = v1::KickSessions { reason: "kicked".into(), message: "enough".into() };
    scene.manager.direct(command("c2", Action::Kick(kick)));
    let goodbye = v1::Goodbye::decode(anna.expect(tidegate_proto::frame::player::GOODBYE).await).unwrap();
    assert_eq!((goodbye.reason.as_str(), goodbye.message.as_str()), ("kicked", "enough"));
    anna.assert_closed(tidegate_proto::CloseCode::Done).await;
    let gone = scene.manager.report("the end", |r| match r {
        gateway_report::Message::SessionGone(gone) => Some(gone.reason.clone()),
        _ => None,
    });
    assert_eq!(gone.await, "kicked");
}
