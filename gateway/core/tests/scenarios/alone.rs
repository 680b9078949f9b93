//! One gateway: what the core wants done, step by step.

use std::time::Duration;

use gateway_core::{
    Action, Channel, CommandAction, CommandOutcome, ConnKey, Downstream, FromWorld, HoldReason, Input, Place,
    PlayerMessage, Refusal, RefusedReason, Resident, SessionCommand, StateBlob, ToWorld, Upstream, VerifiedHello,
};
use tidegate_types::{Cause, EnvironmentId, Epoch, Generation, InstanceId, SessionId};
use uuid::Uuid;

use crate::stage::*;

#[test]
fn a_login_goes_on_above_a_stale_epoch_and_to_the_characters_zone() {
    let mut stage = Stage::new(10);
    let conn = stage.login(1);
    stage.session();
    let (handle, _) = stage.told(BLUE);
    let stale = FromWorld::AttachRefused {
        handle,
        reason: Refusal::StaleEpoch,
        message: String::new(),
        highest_epoch: Epoch(7),
        saved_epoch: Epoch(0),
        place: None,
    };
    stage.world(BLUE, stale);
    let (handle, attach) = stage.told(BLUE);
    assert!(matches!(attach, ToWorld::Attach { epoch: Epoch(8), place: None, .. }), "{attach:?}");
    let wrong = FromWorld::AttachRefused {
        handle,
        reason: Refusal::WrongZone,
        message: String::new(),
        highest_epoch: Epoch(0),
        saved_epoch: Epoch(0),
        place: Some(shared("forest")),
    };
    stage.world(BLUE, wrong);
    let (handle, attach) = stage.told(BLUE);
    let ToWorld::Attach { epoch, place, .. } = attach else { panic!("{attach:?}") };
    assert_eq!((epoch, place), (Epoch(9), Some(shared("forest"))));
    stage.world(BLUE, attached(handle, epoch, "forest"));
    let PlayerMessage::Welcome { at, .. } = stage.said(conn) else { panic!("no welcome") };
    assert_eq!((at.epoch, at.cause, at.zone), (Epoch(9), Cause::Login, zone("forest")));
}

#[test]
fn a_login_that_is_refused_again_and_again_ends() {
    let mut stage = Stage::new(10);
    let conn = stage.login(1);
    stage.session();
    for _ in 0..8 {
        let (handle, _) = stage.told(BLUE);
        stage.world(BLUE, refused(handle, Refusal::StaleEpoch));
    }
    let said = stage.said(conn);
    assert!(matches!(said, PlayerMessage::Refused { reason: RefusedReason::Unavailable, .. }), "{said:?}");
    assert!(matches!(stage.next(), Action::ClosePlayer { .. }));
    stage.nothing();
}

#[test]
fn who_finds_no_room_waits_in_line_and_is_served_in_order() {
    let mut stage = Stage::new(1);
    let (_, handle) = stage.play(1, BLUE);
    for (player, place) in [(2, 1), (3, 2)] {
        let conn = stage.login(player);
        stage.session();
        assert_eq!(stage.said(conn), PlayerMessage::Hold { place, reason: HoldReason::Full });
    }
    stage.tell(Input::Logout { conn: ConnKey(1) });
    stage.told(BLUE);
    stage.world(BLUE, FromWorld::Left { handle });
    assert!(matches!(stage.said(ConnKey(1)), PlayerMessage::Goodbye { reason: "logout", .. }));
    stage.next();
    assert_eq!(stage.said(ConnKey(3)), PlayerMessage::Hold { place: 1, reason: HoldReason::Full });
    let (_, ToWorld::Attach { identity, .. }) = stage.told(BLUE) else { panic!("no attach") };
    assert_eq!(identity.who, who(2));
    stage.nothing();
}

#[test]
fn the_newest_connection_takes_the_session_over() {
    let mut stage = Stage::new(10);
    let (session, handle) = stage.play(1, BLUE);
    // The same character, another client.
    let conn = stage.login(101);
    assert!(matches!(stage.said(ConnKey(1)), PlayerMessage::Goodbye { reason: "replaced", .. }));
    assert!(matches!(stage.next(), Action::ClosePlayer { conn: ConnKey(1), .. }));
    assert_eq!(stage.session(), session);
    // The game hears that it is another client: the channel begins anew, and what comes before that is for nobody.
    let (same, ToWorld::Attach { channel, epoch, .. }) = stage.told(BLUE) else { panic!("no attach") };
    assert_eq!((same, epoch, channel), (handle, Epoch(1), Channel { restart: true, ..Channel::default() }));
    assert_eq!(stage.core.downstream(stage.now, BLUE, handle, &frame(7)), Downstream::Unknown);
    stage.world(BLUE, attached(handle, Epoch(1), "entry"));
    let PlayerMessage::Welcome { at, next_frame, .. } = stage.said(conn) else { panic!("no welcome") };
    assert_eq!((at.session, at.epoch, next_frame), (session_id(1), Epoch(1), 0));
    assert_eq!(stage.core.downstream(stage.now, BLUE, handle, &frame(0)), Downstream::Deliver { conn });
}

#[test]
fn a_resumed_session_gets_what_it_lacks() {
    let mut stage = Stage::new(10);
    let (_, handle) = stage.play(1, BLUE);
    for n in 0..3 {
        let delivered = stage.core.downstream(stage.now, BLUE, handle, &frame(n));
        assert_eq!(delivered, Downstream::Deliver { conn: ConnKey(1) });
    }
    stage.tell(Input::ConnectionLost { conn: ConnKey(1) });
    assert_eq!(stage.told(BLUE), (handle, ToWorld::Park));
    assert_eq!(stage.core.downstream(stage.now, BLUE, handle, &frame(3)), Downstream::Kept);
    stage.resume(2, 1, 2);
    stage.session();
    let said = stage.said(ConnKey(2));
    assert!(matches!(&said, PlayerMessage::Welcome { gap: false, at, .. } if at.cause == Cause::Resume), "{said:?}");
    let frames = vec![frame(2), frame(3)];
    assert_eq!(stage.next(), Action::ResendToPlayer { conn: ConnKey(2), frames });
    assert_eq!(stage.told(BLUE), (handle, ToWorld::Unpark));
}

#[test]
fn a_detached_session_ends_with_its_grace_time() {
    let mut stage = Stage::new(10);
    let (_, handle) = stage.play(1, BLUE);
    stage.tell(Input::ConnectionLost { conn: ConnKey(1) });
    stage.told(BLUE);
    stage.pass(Duration::from_secs(59));
    stage.nothing();
    stage.pass(Duration::from_secs(1));
    assert!(matches!(stage.told(BLUE), (_, ToWorld::Leave { reason: "grace_over", .. })));
    stage.world(BLUE, FromWorld::Left { handle });
    stage.resume(2, 1, 0);
    let said = stage.said(ConnKey(2));
    assert!(matches!(said, PlayerMessage::Refused { reason: RefusedReason::ResumeUnknown, .. }), "{said:?}");
}

#[test]
fn a_boundary_after_the_flip_is_a_hand_over_with_the_frames_in_order() {
    let mut stage = Stage::new(10);
    let (session, source) = stage.play(1, BLUE);
    stage.accept(Some("green"), 10);
    assert_eq!(stage.next(), Action::AckTable { generation: Generation(2) });
    let transfer = FromWorld::Transfer { handles: vec![source], to: shared("forest"), cause: Cause::Zone };
    stage.world(BLUE, transfer);
    assert_eq!(stage.told(BLUE), (source, ToWorld::Freeze { epoch: Epoch(1) }));
    assert_eq!(stage.core.upstream(stage.now, session, &frame(1)), Upstream::Queued);
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: blob() });
    let (target, prepare) = stage.told(GREEN);
    assert!(matches!(prepare, ToWorld::Prepare { epoch: Epoch(2), .. }), "{prepare:?}");
    stage.world(GREEN, FromWorld::Prepared { handle: target });
    assert_eq!(stage.told(GREEN), (target, ToWorld::Activate { epoch: Epoch(2) }));
    assert_eq!(stage.told(BLUE), (source, ToWorld::Release { epoch: Epoch(1) }));
    assert_eq!(stage.core.downstream(stage.now, GREEN, target, &frame(9)), Downstream::Kept);
    stage.now = stage.now + Duration::from_millis(3);
    let activated = FromWorld::Activated { handle: target, epoch: Epoch(2), place: shared("forest") };
    stage.world(GREEN, activated);
    let PlayerMessage::Moved { at, gap_us } = stage.said(ConnKey(1)) else { panic!("no move") };
    assert_eq!((at.epoch, at.cause, at.environment.as_str(), gap_us), (Epoch(2), Cause::Zone, "green", 3_000));
    assert_eq!(stage.next(), Action::ResendToPlayer { conn: ConnKey(1), frames: vec![frame(9)] });
    assert_eq!(stage.next(), Action::ForwardQueued { server: GREEN, handle: target, frames: vec![frame(1)] });
    let forward = Upstream::Forward { server: GREEN, handle: target, pause: false };
    assert_eq!(stage.core.upstream(stage.now, session, &frame(2)), forward);
    assert_eq!(stage.core.counters().handovers_completed, 1);
}

#[test]
fn a_target_that_refuses_after_the_commit_gives_the_player_to_another_home_at_once() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    stage.accept(Some("green"), 10);
    stage.next();
    stage.world(BLUE, FromWorld::Transfer { handles: vec![source], to: shared("forest"), cause: Cause::Zone });
    stage.told(BLUE);
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: blob() });
    let (target, _) = stage.told(GREEN);
    stage.world(GREEN, FromWorld::Prepared { handle: target });
    assert_eq!(stage.told(GREEN), (target, ToWorld::Activate { epoch: Epoch(2) }));
    stage.told(BLUE);
    stage.world(GREEN, refused(target, Refusal::Game));
    let attach = stage.out.iter().find_map(|action| match action {
        Action::ToWorld { message: ToWorld::Attach { epoch, cause, .. }, .. } => Some((*epoch, *cause)),
        _ => None,
    });
    assert_eq!(attach, Some((Epoch(3), Cause::Crash)), "{:?}", stage.out);
    assert_eq!(stage.core.counters().handovers_restored, 1);
}

#[test]
fn one_refusal_keeps_the_whole_group() {
    let mut stage = Stage::new(10);
    let handles = vec![stage.play(1, BLUE).1, stage.play(2, BLUE).1];
    stage.accept(Some("green"), 10);
    stage.next();
    let to = Place { zone: zone("dungeon"), instance: Some("a".to_owned()) };
    stage.world(BLUE, FromWorld::Transfer { handles: handles.clone(), to, cause: Cause::Instance });
    let mut targets = Vec::new();
    for handle in &handles {
        assert_eq!(stage.told(BLUE), (*handle, ToWorld::Freeze { epoch: Epoch(1) }));
    }
    for handle in &handles {
        stage.world(BLUE, FromWorld::Frozen { handle: *handle, epoch: Epoch(1), blob: blob() });
        targets.push(stage.told(GREEN).0);
    }
    stage.world(GREEN, FromWorld::Prepared { handle: targets[0] });
    stage.nothing();
    let refusal = FromWorld::PrepareRefused { handle: targets[1], reason: Refusal::Full, message: String::new() };
    stage.world(GREEN, refusal);
    let told: Vec<Action> = stage.out.drain(..).collect();
    let thaws = told.iter().filter(|a| matches!(a, Action::ToWorld { message: ToWorld::Thaw { .. }, .. })).count();
    let aborts = told.iter().filter(|a| matches!(a, Action::ToWorld { message: ToWorld::Abort, .. })).count();
    assert_eq!((thaws, aborts), (2, 1), "{told:?}");
    assert_eq!(stage.core.counters().handovers_kept_in_place, 2);
}

#[test]
fn an_attach_of_the_old_table_is_taken_back_before_the_new_one_is_acknowledged() {
    let mut stage = Stage::new(10);
    let conn = stage.login(1);
    stage.session();
    let (handle, _) = stage.told(BLUE);
    stage.accept(Some("green"), 10);
    assert!(matches!(stage.told(BLUE), (_, ToWorld::Leave { reason: "rerouted", .. })));
    stage.nothing();
    stage.world(BLUE, attached(handle, Epoch(1), "entry"));
    stage.nothing();
    stage.world(BLUE, FromWorld::Left { handle });
    assert_eq!(stage.next(), Action::AckTable { generation: Generation(2) });
    let (handle, attach) = stage.told(GREEN);
    assert!(matches!(attach, ToWorld::Attach { epoch: Epoch(2), .. }), "{attach:?}");
    stage.world(GREEN, attached(handle, Epoch(2), "entry"));
    assert!(matches!(stage.said(conn), PlayerMessage::Welcome { at, .. } if at.environment.as_str() == "green"));
}

#[test]
fn an_older_table_is_refused_and_the_same_one_acknowledged_again() {
    let mut stage = Stage::new(10);
    stage.accept(Some("green"), 10);
    stage.next();
    stage.generation = 1;
    stage.accept(Some("blue"), 10);
    assert_eq!(stage.next(), Action::AckTable { generation: Generation(2) });
    stage.generation = 0;
    stage.accept(Some("blue"), 10);
    stage.nothing();
    assert_eq!(stage.core.counters().tables_refused, 1);
}

fn move_to(environment: &str, id: &str, players: &[u32]) -> Input {
    let sessions = players.iter().map(|p| session_id(*p)).collect();
    let environment = EnvironmentId::new(environment).unwrap();
    let action = CommandAction::Move { environment, server: None, cause: Cause::Drain };
    Input::Command(SessionCommand { id: id.to_owned(), sessions, action })
}

fn result(action: Action) -> (SessionId, CommandOutcome) {
    match action {
        Action::CommandResult { session, outcome, .. } => (session, outcome),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_comes_again_has_one_effect_and_the_same_answers() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    stage.tell(move_to("green", "m1", &[1, 9]));
    assert_eq!(stage.told(BLUE), (source, ToWorld::Freeze { epoch: Epoch(1) }));
    assert_eq!(result(stage.next()), (session_id(9), CommandOutcome::UnknownSession));
    stage.tell(move_to("green", "m1", &[1, 9]));
    assert_eq!(result(stage.next()), (session_id(9), CommandOutcome::UnknownSession));
    stage.nothing();
    stage.tell(move_to("green", "m2", &[1]));
    assert_eq!(result(stage.next()), (session_id(1), CommandOutcome::Busy));
    let refused = FromWorld::FreezeRefused { handle: source, reason: Refusal::Game, message: String::new() };
    stage.world(BLUE, refused);
    assert_eq!(result(stage.next()), (session_id(1), CommandOutcome::KeptInPlace));
    stage.tell(move_to("green", "m1", &[1, 9]));
    assert_eq!(result(stage.next()), (session_id(1), CommandOutcome::KeptInPlace));
    assert_eq!(result(stage.next()), (session_id(9), CommandOutcome::UnknownSession));
    stage.nothing();
}

#[test]
fn a_logout_in_the_middle_of_a_move_undoes_the_move_first() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    stage.tell(move_to("green", "m1", &[1]));
    stage.told(BLUE);
    stage.tell(Input::Logout { conn: ConnKey(1) });
    assert_eq!(stage.told(BLUE), (source, ToWorld::Thaw { epoch: Epoch(1) }));
    assert_eq!(result(stage.next()), (session_id(1), CommandOutcome::KeptInPlace));
    assert_eq!(stage.told(BLUE), (source, ToWorld::Leave { epoch: Epoch(1), reason: "logout" }));
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: blob() });
    stage.world(BLUE, FromWorld::Thawed { handle: source });
    stage.nothing();
    stage.world(BLUE, FromWorld::Left { handle: source });
    assert!(matches!(stage.said(ConnKey(1)), PlayerMessage::Goodbye { reason: "logout", .. }));
}

#[test]
fn a_boundary_that_the_own_server_serves_is_left_to_it_and_remembered() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    let transfer = FromWorld::Transfer { handles: vec![source], to: shared("forest"), cause: Cause::Zone };
    stage.world(BLUE, transfer);
    assert_eq!(stage.told(BLUE), (source, ToWorld::TransferRefused { reason: "here" }));
    assert_eq!(prepared_place(&mut stage, source), Some(shared("forest")));
}

#[test]
fn a_move_takes_the_player_to_where_its_status_says() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    let status = FromWorld::Status {
        handle: source,
        zone: "forest".to_owned(),
        zone_kind: "shared".to_owned(),
        busy: false,
        idle_ms: 0,
    };
    stage.world(BLUE, status);
    assert_eq!(prepared_place(&mut stage, source), Some(shared("forest")));
}

/// Moves player 1 to green, and gives the place that green is told to prepare.
fn prepared_place(stage: &mut Stage, source: u32) -> Option<Place> {
    stage.tell(move_to("green", "m", &[1]));
    assert_eq!(stage.told(BLUE), (source, ToWorld::Freeze { epoch: Epoch(1) }));
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: blob() });
    match stage.told(GREEN) {
        (_, ToWorld::Prepare { place, .. }) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_state_that_the_target_cannot_read_stays() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    stage.tell(move_to("green", "m1", &[1]));
    stage.told(BLUE);
    let newer = StateBlob { format: 2, ..blob() };
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: newer });
    assert_eq!(stage.told(BLUE), (source, ToWorld::Thaw { epoch: Epoch(1) }));
    assert_eq!(result(stage.next()), (session_id(1), CommandOutcome::KeptInPlace));
    assert_eq!(stage.core.counters().kept_format, 1);
}

#[test]
fn a_lost_home_is_waited_for_until_its_lease_is_over() {
    let mut stage = Stage::new(10);
    let (session, _) = stage.play(1, BLUE);
    stage.pass(Duration::from_secs(10));
    stage.tell(Input::HeartbeatAnswered { server: BLUE });
    stage.pass(Duration::from_secs(2));
    stage.tell(Input::LinkDown { server: BLUE });
    assert_eq!(stage.said(ConnKey(1)), PlayerMessage::Hold { place: 0, reason: HoldReason::HomeLost });
    assert!(matches!(stage.next(), Action::Dial { server: BLUE, .. }));
    assert_eq!(stage.core.upstream(stage.now, session, &frame(1)), Upstream::Queued);
    stage.pass(Duration::from_millis(1_299));
    stage.nothing();
    // The lease is over; the only other server of its environment is not there, so it waits for one.
    stage.pass(Duration::from_millis(1));
    assert!(matches!(stage.said(ConnKey(1)), PlayerMessage::Hold { reason: HoldReason::HomeLost, .. }));
    stage.link(BLUE);
    let (handle, attach) = stage.told(BLUE);
    assert!(matches!(attach, ToWorld::Attach { epoch: Epoch(2), cause: Cause::Crash, .. }), "{attach:?}");
    stage.world(BLUE, attached(handle, Epoch(2), "entry"));
    assert!(matches!(stage.said(ConnKey(1)), PlayerMessage::Moved { at, .. } if at.cause == Cause::Crash));
    assert_eq!(stage.next(), Action::ForwardQueued { server: BLUE, handle, frames: vec![frame(1)] });
}

#[test]
fn a_client_that_is_too_old_is_told_so() {
    let mut stage = Stage::new(10);
    let hello =
        VerifiedHello::Login { session: session_id(1), who: who(1), party: None, client_version: "0.9.0".to_owned() };
    stage.tell(Input::Hello { conn: ConnKey(1), hello });
    stage.session();
    let said = stage.said(ConnKey(1));
    assert!(matches!(said, PlayerMessage::Refused { reason: RefusedReason::ClientTooOld, .. }), "{said:?}");
}

#[test]
fn a_table_waits_for_a_hand_over_to_where_it_accepts_no_more() {
    let mut stage = Stage::new(10);
    let (_, source) = stage.play(1, BLUE);
    stage.accept(Some("green"), 10);
    stage.out.clear();
    stage.tell(move_to("green", "m1", &[1]));
    stage.out.clear();
    stage.accept(Some("blue"), 10);
    stage.nothing();
    stage.world(BLUE, FromWorld::Frozen { handle: source, epoch: Epoch(1), blob: blob() });
    let (target, _) = stage.told(GREEN);
    stage.world(GREEN, FromWorld::Prepared { handle: target });
    assert!(!stage.out.iter().any(|action| matches!(action, Action::AckTable { .. })), "{:?}", stage.out);
    stage.world(GREEN, FromWorld::Activated { handle: target, epoch: Epoch(2), place: shared("entry") });
    let moved = |action: &Action| matches!(action, Action::ToPlayer { message: PlayerMessage::Moved { at, .. }, .. } if at.environment.as_str() == "green");
    assert!(stage.out.iter().any(moved), "{:?}", stage.out);
    assert_eq!(stage.out.pop_back(), Some(Action::AckTable { generation: Generation(3) }));
}

/// Blue says that it holds player 1 by the session of number 1, at epoch 1.
fn blue_comes_back(stage: &mut Stage) {
    stage.out.clear();
    let resident = Resident {
        session: session_id(1),
        who: who(1),
        party: None,
        epoch: Epoch(1),
        zone: Some(zone("entry")),
        frozen: false,
        prepared: false,
        pin: None,
        gateway: None,
    };
    stage.tell(Input::LinkUp { server: BLUE, instance: InstanceId(Uuid::from_u128(1)) });
    stage.tell(Input::Resident { server: BLUE, resident });
    stage.tell(Input::RosterEnd { server: BLUE });
}

/// Player 1 was on blue by session 1, whose link broke; it logged out, its lease is over, and green takes the new ones.
fn logged_out_behind_a_broken_link() -> Stage {
    let mut stage = Stage::new(10);
    stage.play(1, BLUE);
    stage.tell(Input::LinkDown { server: BLUE });
    stage.accept(Some("green"), 10);
    stage.tell(Input::Logout { conn: ConnKey(1) });
    stage.pass(Duration::from_secs(4));
    stage.out.clear();
    stage
}

#[test]
fn a_server_forgets_what_is_left_of_an_earlier_session() {
    let mut stage = logged_out_behind_a_broken_link();
    stage.login(101);
    stage.session();
    let (handle, attach) = stage.told(GREEN);
    let ToWorld::Attach { epoch, .. } = attach else { panic!("{attach:?}") };
    assert!(epoch > Epoch(1), "{epoch}");
    stage.world(GREEN, attached(handle, epoch, "entry"));
    blue_comes_back(&mut stage);
    assert_eq!(stage.told(BLUE), (0, ToWorld::Owner { session: session_id(1), epoch, server: None }));
}

#[test]
fn a_leftover_that_is_found_while_a_home_is_sought_is_forgotten_once_there_is_one() {
    let mut stage = logged_out_behind_a_broken_link();
    stage.accept(None, 10);
    // It waits in line, without a home.
    stage.login(101);
    blue_comes_back(&mut stage);
    stage.nothing();
    stage.accept(Some("green"), 10);
    let attach = stage.out.iter().find_map(|action| match action {
        Action::ToWorld { server: GREEN, handle, message: ToWorld::Attach { epoch, .. } } => Some((*handle, *epoch)),
        _ => None,
    });
    let (handle, epoch) = attach.expect("green is to take it");
    stage.out.clear();
    stage.world(GREEN, attached(handle, epoch, "entry"));
    assert_eq!(stage.told(BLUE), (0, ToWorld::Owner { session: session_id(1), epoch, server: None }));
}

#[test]
fn a_login_that_is_taken_up_again_is_rerouted_by_a_flip() {
    let mut stage = Stage::new(10);
    let conn = stage.login(1);
    stage.session();
    stage.told(BLUE);
    // The attach arrived, its answer did not.
    stage.tell(Input::LinkDown { server: BLUE });
    blue_comes_back(&mut stage);
    let is_resume = |action: &Action| {
        matches!(action, Action::ToWorld { message: ToWorld::Attach { cause: Cause::Resume, .. }, .. })
    };
    assert!(stage.out.iter().any(is_resume), "{:?}", stage.out);
    stage.out.clear();
    stage.accept(Some("green"), 10);
    let (handle, leave) = stage.told(BLUE);
    assert!(matches!(leave, ToWorld::Leave { reason: "rerouted", .. }), "{leave:?}");
    stage.nothing();
    stage.world(BLUE, attached(handle, Epoch(1), "entry"));
    stage.world(BLUE, FromWorld::Left { handle });
    assert_eq!(stage.next(), Action::AckTable { generation: Generation(2) });
    let (handle, attach) = stage.told(GREEN);
    let ToWorld::Attach { epoch, .. } = attach else { panic!("{attach:?}") };
    stage.world(GREEN, attached(handle, epoch, "entry"));
    let PlayerMessage::Welcome { at, .. } = stage.said(conn) else { panic!("no welcome") };
    assert_eq!(at.environment.as_str(), "green");
    assert_eq!(stage.core.counters().misroutes, 0);
}
