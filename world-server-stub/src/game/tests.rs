//! The rules, one by one, with a database that says yes at once (or when told to).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::stub::v1::{
    Action, Answer, Chat, Die, EnterInstance, Entered, Fight, Give, GoTo, JoinParty, LeaveInstance, Ping, Position,
    SpendItem, action, event,
};
use tidegate_types::{Cause, Mono};

use super::{CharacterState, Game, Out, Place, Rules, SaveFor, Who};
use crate::character::Formats;
use crate::db::Failure;
use crate::db::work::{Saved, Traded, Written};

fn rules() -> Rules {
    Rules {
        server_id: "s-1".to_owned(),
        environment_id: "eu-1-a".to_owned(),
        zones: Arc::new(BTreeSet::from(["forest".to_owned(), "harbor".to_owned()])),
        kinds: BTreeSet::from(["dungeon".to_owned()]),
        formats: Formats::of_build(2, None).unwrap(),
        save_every: Duration::from_secs(2),
    }
}

fn state(character: &str) -> CharacterState {
    CharacterState {
        character: character.to_owned(),
        player: format!("p-{character}"),
        zone: "harbor".to_owned(),
        gold: 100,
        ..CharacterState::default()
    }
}

fn who(character: &str) -> Who {
    Who { player: format!("p-{character}"), character: character.to_owned(), party: None }
}

/// A game and what it said. Saves and trades are committed at once while `database` is true, else they wait.
struct Table {
    game: Game,
    now: Mono,
    out: Vec<Out>,
    said: Vec<Out>,
    database: bool,
    waiting: Vec<Out>,
}

impl Table {
    /// Ann, Bob and Cat in the harbor, on the seats 0, 1 and 2.
    fn set() -> Self {
        let mut table = Self {
            game: Game::new(rules()),
            now: Mono(1_000_000),
            out: Vec::new(),
            said: Vec::new(),
            database: true,
            waiting: Vec::new(),
        };
        for (seat, name) in ["ann", "bob", "cat"].into_iter().enumerate() {
            table.arrives(u32::try_from(seat).unwrap(), state(name), Cause::Login);
        }
        table.said.clear();
        table
    }

    fn arrives(&mut self, seat: u32, state: CharacterState, cause: Cause) {
        let life = self.game.next_life();
        let (who, place) = (who(&state.character), Place::shared(&state.zone));
        self.game.arrive(seat, life, who, 1, state, place, cause, self.now, &mut self.out);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let said = std::mem::take(&mut self.out);
            if said.is_empty() {
                return;
            }
            for out in said {
                match &out {
                    Out::Save { .. } | Out::Trade { .. } if self.database => self.commit(&out),
                    Out::Save { .. } | Out::Trade { .. } => self.waiting.push(out.clone()),
                    _ => {}
                }
                self.said.push(out);
            }
        }
    }

    fn commit(&mut self, out: &Out) {
        match out {
            Out::Save { seat, life, why, .. } => {
                self.game.saved(*seat, *life, *why, &Ok(Written::Yes), self.now, &mut self.out);
            }
            Out::Trade { id, .. } => self.game.traded(*id, &Ok(Traded::Yes), self.now, &mut self.out),
            _ => {}
        }
    }

    /// The database answers what waited.
    fn database_answers(&mut self) {
        self.database = true;
        for out in std::mem::take(&mut self.waiting) {
            self.commit(&out);
            self.settle();
        }
    }

    fn does(&mut self, seat: u32, sequence: u64, kind: action::Kind) -> Vec<Answer> {
        self.sends(seat, Action { sequence, again: false, kind: Some(kind) })
    }

    /// The answers that this seat got by this action.
    fn sends(&mut self, seat: u32, action: Action) -> Vec<Answer> {
        let before = self.said.len();
        self.game.action(seat, action, self.now, &mut self.out);
        self.settle();
        answers(&self.said[before..], seat)
    }

    fn tick(&mut self) -> Vec<Out> {
        let before = self.said.len();
        self.now = self.now + Duration::from_millis(50);
        self.game.step(self.now, |_| true, &mut self.out);
        self.settle();
        self.said[before..].to_vec()
    }

    fn call(&mut self, f: impl FnOnce(&mut Game, Mono, &mut Vec<Out>)) -> Vec<Out> {
        let before = self.said.len();
        f(&mut self.game, self.now, &mut self.out);
        self.settle();
        self.said[before..].to_vec()
    }
}

fn answers(said: &[Out], to: u32) -> Vec<Answer> {
    let answer = |out: &Out| match out {
        Out::Event { seat, event } if *seat == to => match &event.kind {
            Some(event::Kind::Answer(answer)) => Some(answer.clone()),
            _ => None,
        },
        _ => None,
    };
    said.iter().filter_map(answer).collect()
}

fn entereds(said: &[Out], to: u32) -> Vec<Entered> {
    let entered = |out: &Out| match out {
        Out::Event { seat, event } if *seat == to => match &event.kind {
            Some(event::Kind::Entered(entered)) => Some(entered.clone()),
            _ => None,
        },
        _ => None,
    };
    said.iter().filter_map(entered).collect()
}

fn frozen(said: &[Out]) -> Option<Saved> {
    said.iter().find_map(|out| match out {
        Out::Save { why: SaveFor::Freeze, saved, .. } => Some(saved.clone()),
        _ => None,
    })
}

fn ping(text: &str) -> action::Kind {
    action::Kind::Ping(Ping { payload: text.into() })
}

fn give(to: &str, gold: u64) -> action::Kind {
    action::Kind::Give(Give { to: to.to_owned(), gold })
}

fn go_to(zone: &str) -> action::Kind {
    action::Kind::GoTo(GoTo { zone: zone.to_owned() })
}

fn enter(kind: &str) -> action::Kind {
    action::Kind::Enter(EnterInstance { kind: kind.to_owned() })
}

fn only(answers: Vec<Answer>) -> (bool, String) {
    assert_eq!(answers.len(), 1, "{answers:?}");
    (answers[0].ok, answers[0].refused.clone())
}

fn ok() -> (bool, String) {
    (true, String::new())
}

fn refused(word: &str) -> (bool, String) {
    (false, word.to_owned())
}

#[test]
fn a_ping_is_answered_with_the_home_that_did() {
    let mut table = Table::set();
    let answers = table.does(0, 1, ping("hello"));
    let answer = &answers[0];
    assert_eq!((answer.sequence, answer.ok, &*answer.payload), (1, true, &b"hello"[..]));
    assert_eq!((answer.server_id.as_str(), answer.environment_id.as_str(), answer.epoch), ("s-1", "eu-1-a", 1));
    assert_eq!((answer.gold, answer.items), (100, 0));
}

#[test]
fn an_action_sent_again_is_answered_and_not_applied() {
    let mut table = Table::set();
    let buy = || action::Kind::Item(SpendItem { sell: false });
    let first = table.does(0, 1, buy());
    let again = table.sends(0, Action { sequence: 1, again: true, kind: Some(buy()) });
    assert_eq!((again[0].gold, again[0].items, again[0].again), (first[0].gold, first[0].items, true));
    assert_eq!((first[0].gold, first[0].items), (90, 1));
    // One that was not applied yet is applied.
    let next = table.sends(0, Action { sequence: 2, again: true, kind: Some(buy()) });
    assert_eq!((next[0].gold, next[0].items), (80, 2));
    assert_eq!(table.game.counters().repeated, 1);
}

#[test]
fn a_frame_that_went_astray_shows() {
    let mut table = Table::set();
    assert_eq!(only(table.does(0, 1, ping(""))), ok());
    assert_eq!(only(table.does(0, 1, ping(""))), refused("out_of_order"));
    assert_eq!(only(table.does(0, 3, ping(""))), refused("out_of_order"));
    assert_eq!(
        only(table.sends(0, Action { sequence: 9, again: true, kind: Some(ping("")) })),
        refused("out_of_order")
    );
    assert_eq!(only(table.does(0, 2, ping(""))), ok());
    assert_eq!(table.game.counters().out_of_order, 3);
}

#[test]
fn what_a_crash_overtook_is_not_an_error() {
    let mut table = Table::set();
    table.arrives(5, CharacterState { applied: 10, ..state("dan") }, Cause::Crash);
    // Sent before the player knew.
    assert_eq!(table.does(5, 14, ping("")), []);
    // Sent again, in order.
    assert_eq!(only(table.sends(5, Action { sequence: 11, again: true, kind: Some(ping("")) })), ok());
    // From here on the count is strict again.
    assert_eq!(only(table.does(5, 14, ping(""))), refused("out_of_order"));
    assert_eq!(table.game.counters().overtaken_by_crash, 1);
}

#[test]
fn an_answer_too_old_to_be_known_says_so() {
    let mut table = Table::set();
    for sequence in 1..=70 {
        table.does(0, sequence, ping(""));
    }
    let again = |sequence| Action { sequence, again: true, kind: Some(ping("")) };
    assert_eq!(only(table.sends(0, again(1))), refused("forgotten"));
    assert_eq!(only(table.sends(0, again(70))), ok());
}

#[test]
fn gold_changes_hands_after_the_commit_and_others_wait() {
    let mut table = Table::set();
    table.database = false;
    // Neither side does anything until it is committed, and a third cannot trade with them.
    assert_eq!(table.does(0, 1, give("bob", 30)), []);
    assert_eq!(table.does(0, 2, ping("later")), []);
    assert_eq!(table.does(1, 1, ping("later")), []);
    assert_eq!(table.does(2, 1, give("bob", 1)), []);
    let before = table.said.len();
    table.database_answers();
    table.tick();
    let said = table.said[before..].to_vec();
    let of = |seat| answers(&said, seat).iter().map(|a| (a.sequence, a.gold)).collect::<Vec<_>>();
    assert_eq!(of(0), [(1, 70), (2, 70)]);
    assert_eq!(of(1), [(1, 130)]);
    assert_eq!(of(2), [(1, 99)]);
    assert_eq!(table.game.counters().trades, 2);
    assert_eq!(only(table.does(1, 2, ping(""))), ok());
    assert_eq!(answers(&table.said, 1).last().unwrap().gold, 131);
}

#[test]
fn a_trade_that_cannot_be_is_refused() {
    let mut table = Table::set();
    assert_eq!(only(table.does(0, 1, give("bob", 101))), refused("too_poor"));
    assert_eq!(only(table.does(0, 2, give("nobody", 1))), refused("not_here"));
    assert_eq!(only(table.does(0, 3, give("ann", 1))), refused("not_here"));
    table.call(|game, _, out| game.park(1, out));
    assert_eq!(only(table.does(0, 4, give("bob", 1))), refused("not_here"));
    let probe = CharacterState { player: "probe:1".to_owned(), ..state("probe") };
    let life = table.game.next_life();
    let who = Who { player: "probe:1".to_owned(), character: "probe".to_owned(), party: None };
    let harbor = Place::shared("harbor");
    table.call(|game, now, out| game.arrive(6, life, who, 1, probe, harbor, Cause::Login, now, out));
    assert_eq!(only(table.does(0, 5, give("probe", 1))), refused("not_here"));
    table.arrives(7, CharacterState { zone: "forest".to_owned(), ..state("eve") }, Cause::Login);
    assert_eq!(only(table.does(0, 6, give("eve", 1))), refused("not_here"));
}

#[test]
fn a_fenced_off_side_of_a_trade_is_ejected_and_the_other_keeps_its_gold() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    let Some(Out::Trade { id, .. }) = table.waiting.pop() else { panic!("a trade waits") };
    let stale = Ok(Traded::Stale { giver: false, receiver: true });
    let said = table.call(|game, now, out| game.traded(id, &stale, now, out));
    assert_eq!(only(answers(&said, 0)), refused("not_here"));
    assert_eq!(answers(&said, 0)[0].gold, 100);
    assert!(said.contains(&Out::Eject { seat: 1, reason: "stale_epoch" }));
    assert_eq!(table.does(1, 1, ping("")), []);
}

#[test]
fn a_broken_database_refuses_a_trade_and_nothing_changes() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    let Some(Out::Trade { id, .. }) = table.waiting.pop() else { panic!("a trade waits") };
    let said = table.call(|game, now, out| game.traded(id, &Err(Failure::Behind), now, out));
    assert_eq!(only(answers(&said, 0)), refused("unavailable"));
    table.database = true;
    assert_eq!(only(table.does(0, 2, give("bob", 100))), ok());
}

#[test]
fn chat_reaches_a_bounded_crowd_in_the_same_place() {
    let mut table = Table::set();
    for seat in 10..60 {
        table.arrives(seat, state(&format!("c{seat}")), Cause::Login);
    }
    table.arrives(60, CharacterState { zone: "forest".to_owned(), ..state("far") }, Cause::Login);
    let chat = action::Kind::Chat(Chat { text: "ahoy".to_owned() });
    let before = table.said.len();
    table.does(0, 1, chat);
    let heard: Vec<u32> = table.said[before..]
        .iter()
        .filter_map(|out| match out {
            Out::Event { seat, event } if matches!(event.kind, Some(event::Kind::Chat(_))) => Some(*seat),
            _ => None,
        })
        .collect();
    assert_eq!(heard.len(), 20);
    assert!(!heard.contains(&0) && !heard.contains(&60));
    let long = action::Kind::Chat(Chat { text: "x".repeat(300) });
    assert_eq!(only(table.does(0, 2, long)), refused("too_long"));
}

#[test]
fn a_boundary_is_asked_of_the_gateway_and_answered_before() {
    let mut table = Table::set();
    let before = table.said.len();
    assert_eq!(only(table.does(0, 1, go_to("forest"))), ok());
    let said = &table.said[before..];
    let transfer = Out::Transfer { seats: vec![0], to: Place::shared("forest"), cause: Cause::Zone };
    let at = said.iter().position(|out| *out == transfer).expect("asked");
    assert!(answers(&said[at..], 0).len() + answers(&said[..at], 0).len() == 1);
    assert_eq!(only(table.does(0, 2, go_to("desert"))), refused("busy"));

    // "here": the world's own affair.
    let said = table.call(|game, now, out| game.transfer_refused(0, "here", now, out));
    assert_eq!(entereds(&said, 0)[0].zone, "forest");
    // Anything else: still there, and told so.
    table.does(0, 3, go_to("desert"));
    let said = table.call(|game, now, out| game.transfer_refused(0, "no_server", now, out));
    assert_eq!(entereds(&said, 0)[0].zone, "forest");
    assert_eq!(only(table.does(0, 4, go_to("no zone"))), refused("unknown_zone"));
    assert_eq!(only(table.does(0, 5, go_to("forest"))), ok());
}

#[test]
fn a_gateway_that_says_nothing_is_not_waited_for_for_ever() {
    let mut table = Table::set();
    table.does(0, 1, go_to("desert"));
    table.now = table.now + Duration::from_secs(15);
    let said = table.tick();
    assert_eq!(entereds(&said, 0).len(), 1);
    assert_eq!(only(table.does(0, 2, go_to("desert"))), ok());
}

#[test]
fn a_party_goes_together() {
    let mut table = Table::set();
    for seat in [0, 2] {
        let join = action::Kind::Party(JoinParty { party: "reds".to_owned() });
        assert_eq!(only(table.does(seat, 1, join)), ok());
    }
    table.does(0, 2, enter("dungeon"));
    let to = Place::instance("dungeon", "party-reds");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0, 2], to: to.clone(), cause: Cause::Instance }));
    for seat in [0, 2] {
        let said = table.call(|game, now, out| game.transfer_refused(seat, "here", now, out));
        assert_eq!((&*entereds(&said, seat)[0].zone, &*entereds(&said, seat)[0].instance), ("dungeon", "party-reds"));
        assert!(said.iter().any(|out| matches!(out, Out::Status { kind, .. } if kind == "dungeon")));
    }
    // A solitary player has an instance of their own.
    table.does(1, 1, enter("dungeon"));
    let solo = Place::instance("dungeon", "solo-bob");
    assert!(table.said.contains(&Out::Transfer { seats: vec![1], to: solo, cause: Cause::Instance }));
    // The way out is where they came in.
    assert_eq!(only(table.does(0, 3, action::Kind::Leave(LeaveInstance {}))), ok());
    let exit = Place::shared("harbor");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0], to: exit, cause: Cause::Instance }));
}

#[test]
fn a_fight_makes_busy_until_it_ends_or_kills() {
    let mut table = Table::set();
    let fight = |on| action::Kind::Fight(Fight { on });
    assert_eq!(only(table.does(0, 1, fight(true))), refused("not_in_instance"));
    table.does(0, 2, enter("dungeon"));
    table.call(|game, now, out| game.transfer_refused(0, "here", now, out));
    assert_eq!(only(table.does(0, 3, fight(true))), ok());
    assert!(matches!(table.said.last(), Some(Out::Event { .. })));
    assert!(table.said.iter().any(|out| matches!(out, Out::Status { seat: 0, busy: true, .. })));
    assert_eq!(only(table.does(0, 4, action::Kind::Leave(LeaveInstance {}))), refused("busy"));
    assert_eq!(only(table.does(0, 5, action::Kind::Die(Die {}))), ok());
    let graveyard = Place::shared("harbor");
    assert!(table.said.contains(&Out::Transfer { seats: vec![0], to: graveyard, cause: Cause::Respawn }));
}

#[test]
fn a_freeze_answers_what_was_asked_and_a_thaw_plays_on() {
    let mut table = Table::set();
    table.database = false;
    table.does(0, 1, give("bob", 30));
    table.does(0, 2, ping("before the freeze"));
    let said = table.call(|game, now, out| {
        assert!(game.freeze(0, now, out));
    });
    assert_eq!(frozen(&said), None, "the trade is not committed");
    let before = table.said.len();
    table.database_answers();
    let said = table.said[before..].to_vec();
    assert_eq!(answers(&said, 0).len(), 2);
    let saved = frozen(&said).expect("frozen after the last answer");
    assert_eq!((saved.gold, saved.applied), (70, 2));

    // Nothing changes while frozen.
    assert_eq!(table.does(0, 3, ping("too early")), []);
    assert_eq!(only(table.does(1, 1, give("ann", 1))), refused("not_here"));
    let said = table.call(|game, now, out| game.thaw(0, now, out));
    assert_eq!(only(answers(&said, 0)), ok());
    assert!(said.iter().any(|out| matches!(out, Out::HomeBegins(_))));
}

#[test]
fn a_hand_over_carries_the_whole_state() {
    let mut table = Table::set();
    table.does(0, 1, ping("one"));
    let said = table.call(|game, now, out| assert!(game.freeze(0, now, out)));
    let saved = frozen(&said).unwrap();
    let mut there = Table::set();
    let state = rules().formats.decode(saved.format, &saved.state).unwrap();
    let forest = Place::shared("forest");
    there.game.prepare(9, who("ann"), 2, state, forest.clone(), there.now);
    // Inert until the commit.
    assert_eq!(there.does(9, 2, ping("early")), []);
    assert_eq!(there.game.activating(9, 3), None, "another epoch than it was prepared for");
    let (life, _, place, carried) = there.game.activating(9, 2).unwrap();
    assert_eq!((place, carried.zone.as_str(), carried.applied), (forest, "forest", 1));
    assert_eq!(there.game.activating(9, 2), None, "only once");
    let state = rules().formats.decode(carried.format, &carried.state).unwrap();
    let said = there.call(|game, now, out| game.activated(9, life, state, now, out));
    // What came early waited; an action that the source applied is answered again.
    assert_eq!(only(answers(&said, 9)), ok());
    assert_eq!(only(there.sends(9, Action { sequence: 1, again: true, kind: Some(ping("one")) })), ok());
}

#[test]
fn a_home_that_lost_its_player_says_nothing_more() {
    let mut table = Table::set();
    let now = table.now;
    let life = 1;
    table.game.saved(0, life, SaveFor::Upkeep, &Ok(Written::Stale), now, &mut table.out);
    table.settle();
    assert!(table.said.contains(&Out::Eject { seat: 0, reason: "stale_epoch" }));
    assert_eq!(table.does(0, 1, ping("")), []);
    let said = table.call(|game, now, out| game.leave(0, now, out));
    assert_eq!(said, [Out::Left { seat: 0 }], "without a save");
    assert_eq!(table.game.counters().stale, 1);
}

#[test]
fn a_save_that_failed_is_tried_again() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    table.database = false;
    let saves = |said: &[Out]| said.iter().filter(|out| matches!(out, Out::Save { seat: 0, .. })).count();
    let mut seen = 0;
    for _ in 0..50 {
        let said = table.tick();
        seen += saves(&said);
    }
    assert_eq!(seen, 1, "one change, one save");
    let Some(Out::Save { seat, life, why, .. }) = table.waiting.pop() else { panic!("a save waits") };
    let failed = Err(Failure::Sql("disk full".to_owned()));
    table.call(|game, now, out| game.saved(seat, life, why, &failed, now, out));
    let again: usize = (0..50).map(|_| saves(&table.tick())).sum();
    assert_eq!(again, 1);
}

#[test]
fn a_failed_freeze_plays_on() {
    let mut table = Table::set();
    table.database = false;
    let said = table.call(|game, now, out| assert!(game.freeze(0, now, out)));
    assert!(frozen(&said).is_some());
    let Some(Out::Save { seat, life, why, .. }) = table.waiting.pop() else { panic!("a save waits") };
    table.call(|game, now, out| game.saved(seat, life, why, &Err(Failure::Behind), now, out));
    assert_eq!(only(table.does(0, 1, ping(""))), ok());
}

#[test]
fn a_parked_player_does_not_change_and_a_leaving_one_is_answered_first() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    let said = table.call(|game, _, out| game.park(0, out));
    assert!(matches!(&said[..], [Out::Save { why: SaveFor::Upkeep, ends: Some(_), .. }]), "{said:?}");
    assert_eq!(table.does(0, 2, ping("parked")), []);
    let said = table.call(|game, now, out| game.leave(0, now, out));
    assert_eq!(answers(&said, 0).len(), 1);
    assert!(matches!(said.last(), Some(Out::Save { why: SaveFor::Leave, forget: false, .. })), "{said:?}");
    assert_eq!(table.game.seat_of("ann"), None);
}

#[test]
fn a_lease_that_is_over_ends_the_interval_where_it_was_last_good() {
    let mut table = Table::set();
    table.tick();
    let good = table.now;
    table.now = table.now + Duration::from_secs(9);
    let said = table.call(|game, now, out| game.step(now, |_| false, out));
    let ends: Vec<Mono> =
        said.iter().filter_map(|out| if let Out::HomeEnds(mark) = out { Some(mark.at) } else { None }).collect();
    assert_eq!(ends, [good; 3]);
    let said = table.tick();
    assert_eq!(said.iter().filter(|out| matches!(out, Out::HomeBegins(_))).count(), 3);
}

#[test]
fn positions_are_echoed_once_a_tick_with_neighbours() {
    let mut table = Table::set();
    for sequence in 1..=3 {
        let position = Position { x: 5, y: 6, sequence, sent_us: 70 + sequence };
        table.game.position(0, &position, table.now);
    }
    let said = table.tick();
    let snapshots: Vec<_> = said
        .iter()
        .filter_map(|o| if let Out::Snapshot { seat, snapshot } = o { Some((seat, snapshot)) } else { None })
        .collect();
    assert_eq!(snapshots.len(), 1);
    let (seat, snapshot) = snapshots[0];
    assert_eq!((*seat, snapshot.x, snapshot.y, snapshot.echo_sequence, snapshot.echo_sent_us), (0, 5, 6, 3, 73));
    assert_eq!(snapshot.neighbours.len(), 4, "two neighbours");
    assert!(!table.tick().iter().any(|out| matches!(out, Out::Snapshot { .. })));
}

#[test]
fn the_world_stands_still_for_a_snapshot() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    table.game.stand_still();
    let said = table.call(|game, _, out| game.save_all(false, out));
    assert!(matches!(&said[..], [Out::Save { seat: 0, .. }]));
    assert_eq!(table.does(0, 2, ping("waits")), []);
    let said = table.call(|game, now, out| assert!(game.freeze(1, now, out)));
    assert_eq!(said, []);
    let said = table.call(|game, now, out| game.go_on(now, out));
    assert_eq!(only(answers(&said, 0)), ok());
    assert!(frozen(&said).is_some(), "the hand-over that waited goes on");
}

#[test]
fn more_actions_than_anyone_should_send_end_the_session() {
    let mut table = Table::set();
    table.game.stand_still();
    for sequence in 1..=513 {
        table.does(0, sequence, ping(""));
    }
    assert!(table.said.contains(&Out::Eject { seat: 0, reason: "too_many_actions" }));
}

#[test]
fn a_player_released_in_play_is_saved_and_may_come_back_on_another_seat() {
    let mut table = Table::set();
    table.does(0, 1, ping(""));
    let said = table.call(|game, _, out| game.release(0, out));
    assert!(matches!(&said[..], [Out::Save { .. }, Out::HomeEnds(_)]), "{said:?}");
    assert_eq!(table.does(0, 2, ping("too late")), []);
    table.arrives(8, CharacterState { applied: 1, ..state("ann") }, Cause::Login);
    assert_eq!(only(table.does(8, 2, ping(""))), ok());
    assert_eq!(table.game.seat_of("ann"), Some(8));
}
