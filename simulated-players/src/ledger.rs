//! One session's ledger: what the player sent and asked for, against what it was answered and what was done to it.
//! Pure; one method for each thing that can happen, and [`Findings`] for what was broken.
//!
//! Actions are numbered over the character's whole life, so a lost, repeated or overtaken frame shows as a wrong number.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidegate_proto::stub::v1::action::Kind;
use tidegate_proto::stub::v1::{Action, Answer, Entered, Give};
use tidegate_types::{Cause, Epoch};
use world_server_stub::character::ITEM_VALUE;

/// Sent actions that are kept for sending again after a crash. A home saves every two seconds; this is minutes of play.
const KEPT: usize = 256;

/// What was broken, and what was seen. Sums over sessions are sums of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Findings {
    /// Actions sent, repetitions not counted.
    pub sent: u64,
    /// Actions answered.
    pub answered: u64,
    /// Actions never answered although the session went on or ended well.
    pub lost: u64,
    /// Answers to what had been answered, without a reason to answer again.
    pub duplicated: u64,
    /// Answers that overtook another, or an action that the world found out of order.
    pub reordered: u64,
    /// Actions sent again after a crash.
    pub repeated: u64,
    /// Answers of an older home than one that had answered already.
    pub double_homed: u64,
    /// Answers of a home that was never announced.
    pub unannounced_home: u64,
    /// Moves that nothing the player did explains.
    pub moved_without_cause: u64,
    /// Gold that was gone although the player had not given it away.
    pub gold_vanished: u64,
}

/// What lives longer than a session: the character's own memory.
#[derive(Debug, Clone, Default)]
pub struct Character {
    /// The number of the last action.
    pub sequence: u64,
    /// Gold and items in gold, as the world said last; `None`: it never did.
    pub wealth: Option<u64>,
    /// The same, as the world said when the character first arrived.
    pub began_with: Option<u64>,
    /// `wealth` is the answer to a last question, asked when nobody was trading any more.
    pub settled: bool,
}

#[derive(Debug, Clone)]
struct Sent {
    action: Action,
    /// When it was meant to be sent, since the session began.
    intended: Duration,
    answered: bool,
    /// Gold went to another character by it.
    gave: bool,
    /// It was sent more than once, so it may be answered more than once.
    again: bool,
}

/// A boundary that the player has asked for and not yet seen the end of.
#[derive(Debug, Clone, Copy)]
struct Intent {
    /// Of the action that asked.
    sequence: u64,
    cause: Cause,
    /// The world said that it asked the gateway: the next arrival is the end of it.
    granted: bool,
}

/// An action that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// When it was meant to be sent, since the session began; `None`: it was answered before.
    pub intended: Option<Duration>,
    /// Why the world refused it by the game's rules; `None`: it was done.
    pub refused: Option<String>,
    /// Gold that went to another character by it.
    pub gave: Option<Give>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Ledger {
    /// What was found up to now.
    pub findings: Findings,
    /// The character's memory.
    pub character: Character,
    sent: VecDeque<Sent>,
    unanswered: usize,
    /// One that is granted at most; others were sent before its end was known.
    intents: Vec<Intent>,
    /// The home that was announced last.
    announced: Epoch,
    /// The highest epoch that answered.
    answered_by: Epoch,
    /// Frames may have been lost or doubled by a crash: the world will say where it stands.
    resync: bool,
    /// The epoch of a resume on the same world server: an arrival at it is a restore.
    restored_at: Option<Epoch>,
    /// The world said where the character stands.
    arrived: bool,
}

impl Findings {
    /// Broken promises by the name that the report has for them, zeros included.
    #[must_use]
    pub const fn promises(&self) -> [(&'static str, u64); 7] {
        [
            ("frames_lost", self.lost),
            ("frames_duplicated", self.duplicated),
            ("frames_reordered", self.reordered),
            ("double_homed", self.double_homed),
            ("unannounced_home", self.unannounced_home),
            ("moved_without_cause", self.moved_without_cause),
            ("gold_vanished", self.gold_vanished),
        ]
    }

    /// Broken promises of every kind.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.promises().iter().map(|(_, count)| count).sum()
    }
}

impl Ledger {
    /// The ledger of a session that was welcomed at this epoch.
    #[must_use]
    pub fn new(character: Character, home: Epoch) -> Self {
        Self {
            findings: Findings::default(),
            character,
            sent: VecDeque::new(),
            unanswered: 0,
            intents: Vec::new(),
            announced: home,
            answered_by: Epoch(0),
            resync: false,
            restored_at: None,
            arrived: false,
        }
    }

    /// Actions that wait for their answers.
    #[must_use]
    pub const fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// The world has said where the character stands; before that nothing can be numbered.
    #[must_use]
    pub const fn has_arrived(&self) -> bool {
        self.arrived
    }

    /// The numbers and kinds of the actions that wait for their answers, for logs.
    #[must_use]
    pub fn open(&self) -> Vec<(u64, Option<&Kind>)> {
        self.sent.iter().filter(|s| !s.answered).map(|s| (s.action.sequence, s.action.kind.as_ref())).collect()
    }

    /// A boundary was asked for and has not ended.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.intents.is_empty()
    }

    /// Numbers an action and gives its frame.
    pub fn send(&mut self, kind: Kind, intended: Duration) -> Bytes {
        self.character.sequence += 1;
        self.intend(self.character.sequence, &kind);
        let action = Action { sequence: self.character.sequence, again: false, kind: Some(kind) };
        let frame = Bytes::from(action.encode_to_vec());
        self.sent.push_back(Sent { action, intended, answered: false, gave: false, again: false });
        self.unanswered += 1;
        self.findings.sent += 1;
        while self.sent.len() > KEPT && self.sent.front().is_some_and(|s| s.answered) {
            self.sent.pop_front();
        }
        frame
    }

    fn intend(&mut self, sequence: u64, kind: &Kind) {
        let cause = match kind {
            Kind::GoTo(_) => Cause::Zone,
            Kind::Enter(_) | Kind::Leave(_) => Cause::Instance,
            Kind::Die(_) => Cause::Respawn,
            Kind::Ping(_) | Kind::Chat(_) | Kind::Give(_) | Kind::Party(_) | Kind::Fight(_) | Kind::Item(_) => return,
        };
        self.intents.retain(|intent| intent.sequence != sequence);
        self.intents.push(Intent { sequence, cause, granted: false });
    }

    /// The world answered. `None` if that changes nothing, or breaks a promise.
    pub fn answer(&mut self, answer: &Answer) -> Option<Answered> {
        self.home_answered(Epoch(answer.epoch));
        let Some(at) = self.sent.iter().position(|s| s.action.sequence == answer.sequence) else {
            self.findings.duplicated += u64::from(!answer.again);
            return None;
        };
        if answer.refused == "out_of_order" {
            // Not consumed by the world: it is still unanswered, and will be found lost unless it is sent again.
            self.findings.reordered += u64::from(!self.sent[at].again && !self.resync);
            return None;
        }
        // What a crash undid is done anew, perhaps with another outcome: a refusal need not survive, a gift does.
        let gave = match &self.sent[at].action.kind {
            Some(Kind::Give(give)) if answer.ok && !self.sent[at].gave => Some(give.clone()),
            _ => None,
        };
        self.sent[at].gave |= gave.is_some();
        if self.sent[at].answered {
            self.findings.duplicated += u64::from(!self.sent[at].again);
            return gave.map(|gave| Answered { intended: None, refused: None, gave: Some(gave) });
        }
        let overtook = self.sent.iter().take(at).any(|s| !s.answered && !s.again);
        self.findings.reordered += u64::from(overtook);
        self.sent[at].answered = true;
        self.unanswered -= 1;
        self.findings.answered += 1;
        self.count_wealth(at, answer);
        let refused = (!answer.ok).then(|| answer.refused.clone());
        self.intents.retain_mut(|intent| {
            intent.granted |= intent.sequence == answer.sequence;
            refused.is_none() || intent.sequence != answer.sequence
        });
        Some(Answered { intended: Some(self.sent[at].intended), refused, gave })
    }

    fn home_answered(&mut self, epoch: Epoch) {
        if epoch < self.answered_by {
            self.findings.double_homed += 1;
        } else if epoch > self.announced {
            self.findings.unannounced_home += 1;
        }
        self.answered_by = self.answered_by.max(epoch);
    }

    /// Wealth only falls by what the player gave away itself; it may rise by gifts at any time.
    fn count_wealth(&mut self, at: usize, answer: &Answer) {
        let now = answer.gold + answer.items * ITEM_VALUE;
        let given = match &self.sent[at].action.kind {
            Some(Kind::Give(give)) if answer.ok => give.gold,
            _ => 0,
        };
        // Answers that were repeated show the wealth of then.
        if let Some(before) = self.character.wealth
            && !self.sent[at].again
            && now + given < before
        {
            self.findings.gold_vanished += before - given - now;
        }
        self.character.wealth = Some(now);
    }

    /// The gateway announced a new home. `party_moved`: the player's party was taken through an instance's door.
    ///
    /// True if that is explained.
    pub fn moved(&mut self, cause: Cause, home: Epoch, party_moved: bool) -> bool {
        let intended = self.intents.iter().any(|intent| intent.cause == cause);
        let explained = match cause {
            Cause::Zone | Cause::Respawn => intended,
            Cause::Instance => intended || party_moved,
            // The report compares these with the drain's deadline and the operator's deeds.
            Cause::Drain | Cause::Operator => true,
            Cause::Crash => {
                self.resync = true;
                true
            }
            // The link to the home broke and was mended: the home is the same.
            Cause::Resume => home == self.announced,
            Cause::Login => false,
        };
        self.findings.moved_without_cause += u64::from(!explained);
        self.announced = self.announced.max(home);
        explained
    }

    /// The session goes on over another connection. A higher epoch on another world server is another home, which says where
    /// it stands unless its word fell into a gap. A higher epoch on the same one is mostly another gateway's take-over, which
    /// changes nothing for the player; but if the server says that the player arrives, it died meanwhile and restored them.
    pub fn resumed(&mut self, home: Epoch, same_server: bool) {
        if home > self.announced {
            self.announced = home;
            self.resync |= !same_server;
            self.restored_at = same_server.then_some(home);
        }
    }

    /// The player arrived somewhere. Gives the frames to send again, if a crash made that necessary.
    pub fn entered(&mut self, entered: &Entered) -> Vec<Bytes> {
        self.home_answered(Epoch(entered.epoch));
        self.character.began_with.get_or_insert(entered.gold + entered.items * ITEM_VALUE);
        self.intents.retain(|intent| !intent.granted);
        self.resync |= self.restored_at.take_if(|epoch| epoch.0 == entered.epoch).is_some();
        if !std::mem::replace(&mut self.arrived, true) && self.sent.is_empty() {
            // The character may have played before this simulation began.
            self.character.sequence = entered.applied;
        }
        if !std::mem::take(&mut self.resync) {
            return Vec::new();
        }
        self.character.wealth = None;
        self.repeat(entered.applied)
    }

    /// Frames to send again after a gap that the world does not know of, because it never stopped.
    pub fn repeat_unanswered(&mut self) -> Vec<Bytes> {
        self.character.wealth = None;
        self.repeat(u64::MAX)
    }

    /// Everything above `applied`, and what was not answered.
    fn repeat(&mut self, applied: u64) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let mut intents = Vec::new();
        for sent in self.sent.iter_mut().filter(|s| !s.answered || s.action.sequence > applied) {
            sent.again = true;
            let again = Action { again: true, ..sent.action.clone() };
            frames.push(Bytes::from(again.encode_to_vec()));
            intents.extend(again.kind.map(|kind| (again.sequence, kind)));
            self.findings.repeated += 1;
        }
        for (sequence, kind) in intents {
            self.intend(sequence, &kind);
        }
        frames
    }

    /// The session is over. What was not answered is lost, unless somebody ended the session over the player's head.
    pub fn close(&mut self, by_own_wish: bool) -> (Findings, Character) {
        if by_own_wish {
            self.findings.lost += self.unanswered as u64;
        }
        (self.findings, self.character.clone())
    }
}

#[cfg(test)]
mod tests;
