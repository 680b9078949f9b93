//! Players who must wait are told why, and are let in when they can be.

use prost::Message;
use tidegate_proto::frame::player as kind;
use tidegate_proto::v1;

use crate::support::Scene;
use crate::support::player::{TestPlayer, login};

async fn hold(player: &mut TestPlayer) -> v1::Hold {
    v1::Hold::decode(player.expect(kind::HOLD).await).unwrap()
}

/// Room for one in the town, and for none in the forest.
fn cramped(mut table: v1::RouteTable) -> v1::RouteTable {
    for server in &mut table.environments[0].servers {
        server.capacity = u32::from(server.server_id == "w1");
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_world_holds_players_with_their_place_in_line() {
    let scene = Scene::start().await;
    scene.manager.publish(cramped(scene.table(2)));
    scene.manager.acked(2).await;
    let (mut anna, _) = TestPlayer::login(&scene.gateway, "anna").await;
    let mut bert = TestPlayer::connect(&scene.gateway).await;
    bert.hello(login(scene.gateway.ticket("bert"))).await;
    let first = hold(&mut bert).await;
    assert_eq!((first.reason.as_str(), first.place), ("full", 1));
    let mut carl = TestPlayer::connect(&scene.gateway).await;
    carl.hello(login(scene.gateway.ticket("carl"))).await;
    assert_eq!(hold(&mut carl).await.place, 2);

    let goodbye = v1::Goodbye { reason: "logout".into(), message: String::new() };
    anna.frame(kind::GOODBYE, &goodbye.encode_to_vec()).await;
    assert_eq!(bert.welcome().await.server_id, "w1");
    assert_eq!(hold(&mut carl).await.place, 1, "the line moved up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_realm_holds_newcomers_and_keeps_its_players() {
    let scene = Scene::start().await;
    let (mut anna, _) = TestPlayer::login(&scene.gateway, "anna").await;
    scene.manager.publish(v1::RouteTable { accepting: String::new(), ..scene.table(2) });
    scene.manager.acked(2).await;
    let mut bert = TestPlayer::connect(&scene.gateway).await;
    bert.hello(login(scene.gateway.ticket("bert"))).await;
    assert_eq!(hold(&mut bert).await.reason, "admission");
    anna.game("still").await;
    assert_eq!(anna.echo().await, "still");
    scene.manager.publish(scene.table(3));
    assert_eq!(bert.welcome().await.generation, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_waiting_may_use_the_ticket_again() {
    let scene = Scene::start().await;
    scene.manager.publish(v1::RouteTable { accepting: String::new(), ..scene.table(2) });
    scene.manager.acked(2).await;
    let ticket = scene.gateway.ticket("anna");
    let mut anna = TestPlayer::connect(&scene.gateway).await;
    anna.hello(login(ticket.clone())).await;
    hold(&mut anna).await;
    anna.connection.close(0u32.into(), b"");
    scene.manager.publish(scene.table(3));
    scene.manager.acked(3).await;
    // The loss is known to the gateway at the latest when another of its packets is handled.
    let mut again = TestPlayer::connect(&scene.gateway).await;
    again.hello(login(ticket)).await;
    assert_eq!(again.welcome().await.server_id, "w1");
}
