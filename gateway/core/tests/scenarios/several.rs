//! Several gateways: taking over, finding, and a directory that is wrong or gone.

use std::time::Duration;

use gateway_core::directory::{DirectoryAnswer, DirectoryOp, DirectoryOutcome, DirectoryRequest, Home};
use gateway_core::{
    Action, Channel, CoreConfig, FromWorld, HoldReason, Input, Pin, PlayerMessage, Refusal, RefusedReason, Resident,
    SecondLogin, ToWorld, UnknownHome,
};
use tidegate_types::{Cause, EnvironmentId, Epoch, GatewayId, InstanceId, ServerId, Timestamp};
use uuid::Uuid;

use crate::stage::*;

fn shared_config() -> CoreConfig {
    CoreConfig { shared: Some(UnknownHome::Wait), ..CoreConfig::default() }
}

fn stage() -> Stage {
    Stage::with(10, shared_config())
}

/// Another gateway's home of player 1 on `server`, at this epoch.
fn elsewhere(stage: &mut Stage, server: &str, epoch: u64) {
    let home = Home {
        session: session_id(1),
        server: ServerId::new(&format!("{server}-0")).unwrap(),
        instance: InstanceId(Uuid::from_u128(1)),
        environment: EnvironmentId::new(server).unwrap(),
        gateway: GatewayId::new("gw-2").unwrap(),
    };
    let op = DirectoryOp::Raise { epoch: Epoch(epoch), home };
    stage.directory.answer(DirectoryRequest { id: 0, who: who(1), op });
}

fn pin(environment: &str) -> Pin {
    let environment = EnvironmentId::new(environment).unwrap();
    Pin { environment, since: Timestamp(1), cause: Cause::Login, until: None }
}

fn resident(epoch: u64, gateway: Option<&str>) -> Resident {
    Resident {
        session: session_id(1),
        who: who(1),
        party: None,
        epoch: Epoch(epoch),
        zone: Some(zone("entry")),
        frozen: false,
        prepared: false,
        pin: Some(pin("blue")),
        gateway: gateway.map(|id| GatewayId::new(id).unwrap()),
    }
}

fn taken_over(handle: u32, epoch: u64, channel: Channel) -> FromWorld {
    let place = shared("entry");
    FromWorld::Attached { handle, epoch: Epoch(epoch), place, channel, pin: Some(pin("blue")), party: None }
}

/// Expects the attach by which a player is taken over at BLUE; gives its handle, epoch and channel.
fn take_over(stage: &mut Stage) -> (u32, u64, Channel) {
    match stage.told(BLUE) {
        (handle, ToWorld::Attach { epoch, take_over: true, channel, .. }) => (handle, epoch.0, channel),
        other => panic!("{other:?}"),
    }
}

/// Expects both servers to be asked for somebody; gives the question's id.
fn asked_everywhere(stage: &mut Stage) -> u64 {
    let ids = [BLUE, GREEN].map(|server| match stage.told(server) {
        (0, ToWorld::Find { id, .. }) => id,
        other => panic!("{other:?}"),
    });
    assert_eq!(ids[0], ids[1]);
    ids[0]
}

#[test]
fn a_player_whose_gateway_died_is_taken_over_where_they_are_with_all_frames() {
    let mut stage = stage();
    elsewhere(&mut stage, "blue", 4);
    stage.resume(1, 1, 7);
    stage.session();
    let (handle, epoch, channel) = take_over(&mut stage);
    assert_eq!((epoch, channel), (5, Channel { down: 7, ..Channel::default() }));
    stage.world(BLUE, taken_over(handle, epoch, Channel { up: 3, down: 7, ..Channel::default() }));
    let said = stage.said(gateway_core::ConnKey(1));
    let PlayerMessage::Welcome { at, received_frames: 3, gap: false, next_frame: 7, .. } = &said else {
        panic!("{said:?}")
    };
    assert_eq!((at.session, at.epoch, at.cause), (session_id(1), Epoch(5), Cause::Resume));
    // The directory learns of it.
    assert_eq!(stage.directory.get(&who(1)).map(|entry| entry.epoch), Some(Epoch(5)));
    stage.nothing();
}

#[test]
fn a_login_takes_over_from_another_gateway_and_the_channel_begins_anew() {
    let mut stage = stage();
    elsewhere(&mut stage, "blue", 4);
    let conn = stage.login(1);
    stage.session();
    let (handle, epoch, channel) = take_over(&mut stage);
    assert!(channel.restart);
    stage.world(BLUE, taken_over(handle, epoch, Channel::default()));
    let said = stage.said(conn);
    assert!(matches!(&said, PlayerMessage::Welcome { at, .. } if at.session == session_id(1)), "{said:?}");
}

#[test]
fn a_second_login_may_be_refused_by_the_server_that_holds_the_player() {
    let config = CoreConfig { second_login: SecondLogin::Refuse, ..shared_config() };
    let mut stage = Stage::with(10, config);
    elsewhere(&mut stage, "blue", 4);
    let conn = stage.login(1);
    stage.session();
    let (handle, ToWorld::Attach { refuse_connected: true, .. }) = stage.told(BLUE) else { panic!("no attach") };
    stage.world(BLUE, refused(handle, Refusal::PlayerOnline));
    let said = stage.said(conn);
    assert!(matches!(said, PlayerMessage::Refused { reason: RefusedReason::AlreadyOnline, .. }), "{said:?}");
    // The other gateway's entry is untouched.
    assert_eq!(stage.directory.get(&who(1)).map(|e| (e.epoch, e.home.is_some())), Some((Epoch(4), true)));
}

#[test]
fn a_player_whom_another_gateway_takes_is_let_go_of_without_a_word_to_anybody_else() {
    let mut stage = stage();
    let (_, handle) = stage.play(1, BLUE);
    stage.world(BLUE, FromWorld::TakenOver { handle, epoch: Epoch(2) });
    let said = stage.said(gateway_core::ConnKey(1));
    assert!(matches!(said, PlayerMessage::Goodbye { reason: "moved", .. }), "{said:?}");
    assert!(matches!(stage.next(), Action::ClosePlayer { .. }));
    stage.nothing();
    assert!(stage.directory.get(&who(1)).is_some_and(|entry| entry.home.is_some()), "the entry is the other one's now");
}

#[test]
fn a_character_of_whom_the_directory_forgot_is_found_on_its_server() {
    let mut stage = stage();
    let conn = stage.login(1);
    stage.session();
    let (handle, ToWorld::Attach { from: Some(Epoch(0)), epoch: Epoch(1), .. }) = stage.told(BLUE) else {
        panic!("no exact claim")
    };
    let stale = FromWorld::AttachRefused {
        handle,
        reason: Refusal::StaleEpoch,
        message: String::new(),
        highest_epoch: Epoch(6),
        saved_epoch: Epoch(6),
        place: None,
    };
    stage.world(BLUE, stale);
    let id = asked_everywhere(&mut stage);
    stage.world(GREEN, FromWorld::Found { id, resident: None });
    stage.nothing();
    stage.world(BLUE, FromWorld::Found { id, resident: Some(resident(6, Some("gw-2"))) });
    let (handle, epoch, _) = take_over(&mut stage);
    assert_eq!(epoch, 7);
    stage.world(BLUE, taken_over(handle, epoch, Channel::default()));
    assert!(matches!(stage.said(conn), PlayerMessage::Welcome { .. }));
}

#[test]
fn whom_nobody_holds_is_claimed_from_exactly_the_saved_epoch() {
    let mut stage = stage();
    stage.login(1);
    stage.session();
    let (handle, _) = stage.told(BLUE);
    let stale = |handle, saved| FromWorld::AttachRefused {
        handle,
        reason: Refusal::StaleEpoch,
        message: String::new(),
        highest_epoch: Epoch(saved),
        saved_epoch: Epoch(saved),
        place: None,
    };
    stage.world(BLUE, stale(handle, 6));
    let id = asked_everywhere(&mut stage);
    for server in [BLUE, GREEN] {
        stage.world(server, FromWorld::Found { id, resident: None });
    }
    let (handle, ToWorld::Attach { from, epoch, .. }) = stage.told(BLUE) else { panic!("no attach") };
    assert_eq!((from, epoch), (Some(Epoch(6)), Epoch(7)));
    // Somebody was quicker: what was found out before says nothing about them.
    stage.world(BLUE, stale(handle, 8));
    asked_everywhere(&mut stage);
}

#[test]
fn a_server_that_cannot_be_asked_holds_the_login_up_until_it_answers_or_is_dead() {
    for dead in [false, true] {
        let mut stage = stage();
        stage.tell(Input::LinkDown { server: GREEN });
        assert!(matches!(stage.next(), Action::Dial { .. }));
        let conn = stage.login(1);
        stage.session();
        let (handle, _) = stage.told(BLUE);
        let stale = FromWorld::AttachRefused {
            handle,
            reason: Refusal::StaleEpoch,
            message: String::new(),
            highest_epoch: Epoch(6),
            saved_epoch: Epoch(6),
            place: None,
        };
        stage.world(BLUE, stale);
        let (0, ToWorld::Find { id, .. }) = stage.told(BLUE) else { panic!("not asked") };
        stage.world(BLUE, FromWorld::Found { id, resident: None });
        stage.nothing();
        stage.pass(Duration::from_secs(6));
        let said = stage.said(conn);
        assert!(matches!(said, PlayerMessage::Hold { reason: HoldReason::HomeLost, .. }), "{said:?}");
        if dead {
            let server = ServerId::new("green-0").unwrap();
            stage.tell(Input::ServerDead { server, instance: InstanceId(Uuid::from_u128(1)) });
        } else {
            stage.link(GREEN);
            let (0, ToWorld::Find { id, .. }) = stage.told(GREEN) else { panic!("not asked") };
            stage.world(GREEN, FromWorld::Found { id, resident: None });
        }
        let (_, ToWorld::Attach { from: Some(Epoch(6)), .. }) = stage.told(BLUE) else { panic!("no attach") };
    }
}

#[test]
fn another_gateways_home_that_is_out_of_reach_is_not_replaced_before_it_is_dead() {
    let mut stage = stage();
    elsewhere(&mut stage, "green", 4);
    stage.tell(Input::LinkDown { server: GREEN });
    assert!(matches!(stage.next(), Action::Dial { .. }));
    stage.resume(1, 1, 0);
    stage.session();
    assert!(matches!(stage.said(gateway_core::ConnKey(1)), PlayerMessage::Hold { reason: HoldReason::HomeLost, .. }));
    // No lease of this gateway's says anything about it.
    stage.pass(Duration::from_secs(600));
    stage.nothing();
    let server = ServerId::new("green-0").unwrap();
    stage.tell(Input::ServerDead { server, instance: InstanceId(Uuid::from_u128(1)) });
    // Somebody else may have been quicker.
    let (0, ToWorld::Find { id, .. }) = stage.told(BLUE) else { panic!("not asked") };
    stage.world(BLUE, FromWorld::Found { id, resident: None });
    assert!(matches!(stage.said(gateway_core::ConnKey(1)), PlayerMessage::Hold { reason: HoldReason::HomeLost, .. }));
    // It was in green: that is where it is restored once green has a server again; nobody moves it.
    stage.link(GREEN);
    let (_, ToWorld::Attach { from, epoch, take_over: false, cause: Cause::Crash, .. }) = stage.told(GREEN) else {
        panic!("no attach")
    };
    // What the realm database has nobody has said yet: its answer to this will.
    assert_eq!((from, epoch), (Some(Epoch(0)), Epoch(5)));
}

#[test]
fn a_hand_over_that_somebody_else_tried_to_cross_leaves_the_player_where_they_are() {
    let mut stage = stage();
    let (_, handle) = stage.play(1, BLUE);
    // A gateway that died before it came to the player.
    elsewhere(&mut stage, "green", 9);
    stage.accept(Some("green"), 10);
    assert!(matches!(stage.next(), Action::AckTable { .. }));
    stage.world(BLUE, FromWorld::Transfer { handles: vec![handle], to: shared("forest"), cause: Cause::Zone });
    assert_eq!(stage.told(BLUE), (handle, ToWorld::Freeze { epoch: Epoch(1) }));
    stage.world(BLUE, FromWorld::Frozen { handle, epoch: Epoch(1), blob: blob() });
    let (target, ToWorld::Prepare { from: Some(Epoch(1)), .. }) = stage.told(GREEN) else { panic!("no prepare") };
    stage.world(GREEN, FromWorld::Prepared { handle: target });
    assert_eq!(stage.told(GREEN), (target, ToWorld::Abort));
    assert_eq!(stage.told(BLUE), (handle, ToWorld::Thaw { epoch: Epoch(1) }));
}

#[test]
fn while_the_directory_is_out_of_reach_logins_wait_and_hand_overs_go_on() {
    let mut stage = stage();
    let (_, handle) = stage.play(1, BLUE);
    stage.directory_down = true;
    let conn = stage.login(2);
    stage.session();
    assert!(matches!(stage.said(conn), PlayerMessage::Hold { reason: HoldReason::Directory, .. }));
    stage.accept(Some("green"), 10);
    assert!(matches!(stage.next(), Action::AckTable { .. }));
    stage.world(BLUE, FromWorld::Transfer { handles: vec![handle], to: shared("forest"), cause: Cause::Zone });
    stage.told(BLUE);
    stage.world(BLUE, FromWorld::Frozen { handle, epoch: Epoch(1), blob: blob() });
    let (target, _) = stage.told(GREEN);
    stage.world(GREEN, FromWorld::Prepared { handle: target });
    assert_eq!(stage.told(GREEN), (target, ToWorld::Activate { epoch: Epoch(2) }));
    assert_eq!(stage.told(BLUE), (handle, ToWorld::Release { epoch: Epoch(1) }));
    stage.world(GREEN, FromWorld::Activated { handle: target, epoch: Epoch(2), place: shared("forest") });
    assert!(matches!(stage.said(gateway_core::ConnKey(1)), PlayerMessage::Moved { .. }));
    // It is back, and knows nothing: it is told, and whoever waited goes on.
    stage.directory_down = false;
    stage.directory = gateway_core::EmbeddedDirectory::default();
    stage.tell(Input::DirectoryUp);
    assert!(matches!(stage.told(GREEN), (_, ToWorld::Attach { .. })));
    stage.pass(Duration::from_millis(1));
    assert_eq!(stage.directory.get(&who(1)).map(|entry| entry.epoch), Some(Epoch(2)));
}

#[test]
fn by_configuration_a_login_goes_on_without_the_directory() {
    let config = CoreConfig { shared: Some(UnknownHome::Claim), ..CoreConfig::default() };
    let mut stage = Stage::with(10, config);
    stage.directory_down = true;
    stage.login(1);
    stage.session();
    let id = asked_everywhere(&mut stage);
    for server in [BLUE, GREEN] {
        stage.world(server, FromWorld::Found { id, resident: None });
    }
    let (_, ToWorld::Attach { from: Some(Epoch(0)), .. }) = stage.told(BLUE) else { panic!("no attach") };
}

#[test]
fn a_ticket_knows_better_than_a_directory_that_went_back() {
    let mut stage = stage();
    // Another session of the character's, from before.
    elsewhere(&mut stage, "green", 4);
    stage.resume_at(1, 2, 7, 0);
    stage.session();
    let id = asked_everywhere(&mut stage);
    stage.world(GREEN, FromWorld::Found { id, resident: None });
    let here = Resident { session: session_id(2), ..resident(7, None) };
    stage.world(BLUE, FromWorld::Found { id, resident: Some(here) });
    assert_eq!(take_over(&mut stage).1, 8);
}

#[test]
fn a_resume_of_a_session_that_ended_is_refused() {
    let mut stage = stage();
    elsewhere(&mut stage, "blue", 4);
    let op = DirectoryOp::Clear { epoch: Epoch(4), session: session_id(1) };
    let answer = stage.directory.answer(DirectoryRequest { id: 0, who: who(1), op });
    assert!(matches!(answer, DirectoryAnswer { outcome: DirectoryOutcome::Done(Epoch(4)), .. }));
    stage.resume(1, 1, 0);
    stage.session();
    let said = stage.said(gateway_core::ConnKey(1));
    assert!(matches!(said, PlayerMessage::Refused { reason: RefusedReason::ResumeUnknown, .. }), "{said:?}");
}
