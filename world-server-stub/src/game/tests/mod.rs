//! The rules, one by one, with a database that says yes at once (or when told to).

mod actions;
mod boundaries;
mod lifecycle;
mod trades;

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

pub(super) fn rules() -> Rules {
    Rules {
        server_id: "s-1".to_owned(),
        environment_id: "eu-1-a".to_owned(),
        zones: Arc::new(BTreeSet::from(["forest".to_owned(), "harbor".to_owned()])),
        kinds: BTreeSet::from(["dungeon".to_owned()]),
        formats: Formats::of_build(2, None).unwrap(),
        save_every: Duration::from_secs(2),
    }
}

pub(super) fn state(character: &str) -> CharacterState {
    CharacterState {
        character: character.to_owned(),
        player: format!("p-{character}"),
        zone: "harbor".to_owned(),
        gold: 100,
        ..CharacterState::default()
    }
}

pub(super) fn who(character: &str) -> Who {
    Who { player: format!("p-{character}"), character: character.to_owned(), party: None }
}

/// A game and what it said. Saves and trades are committed at once while `database` is true, else they wait.
pub(super) struct Table {
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

pub(super) fn answers(said: &[Out], to: u32) -> Vec<Answer> {
    let answer = |out: &Out| match out {
        Out::Event { seat, event } if *seat == to => match &event.kind {
            Some(event::Kind::Answer(answer)) => Some(answer.clone()),
            _ => None,
        },
        _ => None,
    };
    said.iter().filter_map(answer).collect()
}

pub(super) fn entereds(said: &[Out], to: u32) -> Vec<Entered> {
    let entered = |out: &Out| match out {
        Out::Event { seat, event } if *seat == to => match &event.kind {
            Some(event::Kind::Entered(entered)) => Some(entered.clone()),
            _ => None,
        },
        _ => None,
    };
    said.iter().filter_map(entered).collect()
}

pub(super) fn frozen(said: &[Out]) -> Option<Saved> {
    said.iter().find_map(|out| match out {
        Out::Save { why: SaveFor::Freeze, saved, .. } => Some(saved.clone()),
        _ => None,
    })
}

pub(super) fn ping(text: &str) -> action::Kind {
    action::Kind::Ping(Ping { payload: text.into() })
}

pub(super) fn give(to: &str, gold: u64) -> action::Kind {
    action::Kind::Give(Give { to: to.to_owned(), gold })
}

pub(super) fn go_to(zone: &str) -> action::Kind {
    action::Kind::GoTo(GoTo { zone: zone.to_owned() })
}

pub(super) fn enter(kind: &str) -> action::Kind {
    action::Kind::Enter(EnterInstance { kind: kind.to_owned() })
}

pub(super) fn only(answers: Vec<Answer>) -> (bool, String) {
    assert_eq!(answers.len(), 1, "{answers:?}");
    (answers[0].ok, answers[0].refused.clone())
}

pub(super) fn ok() -> (bool, String) {
    (true, String::new())
}

pub(super) fn refused(word: &str) -> (bool, String) {
    (false, word.to_owned())
}
